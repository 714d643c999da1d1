//! How many questions wait, and how many long ones are answered at a time.
//!
//! What always holds: a question takes nothing that another request needs. It has a place from its arrival until its answer
//! is sent, and no question waits without a place. A long one also waits for a lane, in order of arrival.
//!
//! Left out: which methods are questions, and which of them are long. Their endpoints say that.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many questions may wait or be in progress. A long one is answered in tens of milliseconds, so the last in line waits
/// about a second, which is less than any caller's timeout. Their answers are bounded too, so this bounds the memory.
pub(super) const PLACES: usize = 64;

/// How many long questions are answered at a time. Each keeps a core busy. With two, one large answer does not delay all
/// others, and a machine of few cores still places.
const LANES: usize = 2;

/// See the module documentation.
pub(super) struct Lanes {
    places: Arc<Semaphore>,
    lanes: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), lanes: Arc::new(Semaphore::new(LANES)) }
    }
}

impl Lanes {
    /// A place for a question that has arrived, if there is one.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Waits until a long question may be answered.
    pub(super) async fn lane(&self) -> OwnedSemaphorePermit {
        self.lanes.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}
