//! Identifiers of messages, calls and queues. They come from a seed, so that a simulated run repeats itself.

use std::sync::{Mutex, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// A source of version-4 UUIDs.
pub(crate) struct Ids(Mutex<ChaCha8Rng>);

impl Ids {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(Mutex::new(ChaCha8Rng::from_seed(seed)))
    }

    pub(crate) fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// 32 hexadecimal digits: the form of `_msg_id`, `_unique_id` and the names of reply queues.
    pub(crate) fn hex(&self) -> String {
        self.uuid().simple().to_string()
    }
}
