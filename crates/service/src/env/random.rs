//! Randomness: seeds for components, and identifiers.
//!
//! What always holds: everything follows from one 32-byte seed. The same seed and the same order of calls give the
//! same values; a system `Env` takes its seed from the operating system, so nobody can guess the identifiers.
//!
//! What it leaves out: distributions. A component takes a seed from [`Random::fork`] and keeps its own generator.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, TryRng};
use rand_chacha::ChaCha12Rng;
use uuid::Uuid;

/// The operating system gave no entropy. A program whose identifiers must not be guessed cannot start without it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the operating system's entropy source")]
pub struct EntropyError(#[source] rand::rngs::SysError);

/// A source of seeds and identifiers. Clones draw from the same source.
#[derive(Clone, Debug)]
pub struct Random {
    seed: [u8; 32],
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    generator: ChaCha12Rng,
    /// How many seeds were given out, so that two forks under one label differ.
    forks: u64,
}

impl Random {
    /// A source in which everything follows from this seed.
    pub fn from_seed(seed: [u8; 32]) -> Random {
        Random {
            seed,
            state: Arc::new(Mutex::new(State { generator: ChaCha12Rng::from_seed(seed), forks: 0 })),
        }
    }

    /// A source in which everything follows from a number, as a test or `--seed` gives it.
    pub fn from_number(seed: u64) -> Random {
        Random::from_seed(mix([0; 32], "seed", seed))
    }

    pub(super) fn from_system() -> Result<Random, EntropyError> {
        let mut seed = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(EntropyError)?;
        Ok(Random::from_seed(seed))
    }

    /// A seed for the component `label`: a function of this source's seed, the label, and how many were forked before.
    pub fn fork(&self, label: &str) -> [u8; 32] {
        let forks = self.with(|state| {
            state.forks += 1;
            state.forks
        });
        mix(self.seed, label, forks)
    }

    /// A random (version 4) UUID.
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.with(|state| state.generator.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Any 64-bit number.
    pub fn u64(&self) -> u64 {
        self.with(|state| state.generator.next_u64())
    }

    /// A number from 0 to 1, without 1.
    pub fn unit(&self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Derives a seed: absorbs label and number in blocks of 32 bytes, with ChaCha as the mixing step.
fn mix(seed: [u8; 32], label: &str, number: u64) -> [u8; 32] {
    let mut input = number.to_le_bytes().to_vec();
    input.extend_from_slice(label.as_bytes());
    input.push(0x80); // ends the label, so that a label and its zero-padded self differ
    input.chunks(32).fold(seed, |mut state, block| {
        state.iter_mut().zip(block).for_each(|(s, b)| *s ^= b);
        let mut mixed = [0; 32];
        ChaCha12Rng::from_seed(state).fill_bytes(&mut mixed);
        mixed
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_fork_differs_by_seed_label_and_count() {
        let mut seen = HashSet::new();
        for seed in 0..3 {
            let random = Random::from_number(seed);
            for label in ["", "a", "b", "a\0", "a label that is longer than one block of thirty-two bytes"] {
                for _ in 0..2 {
                    assert!(seen.insert(random.fork(label)), "{seed} {label:?}");
                }
            }
        }
    }

    #[test]
    fn drawing_identifiers_does_not_change_the_forks() {
        let (a, b) = (Random::from_number(5), Random::from_number(5));
        a.u64();
        assert_eq!(a.fork("x"), b.fork("x"));
    }

    #[test]
    fn identifiers_are_version_4_and_differ() {
        let random = Random::from_number(1);
        let uuid = random.uuid();
        assert_eq!(uuid.get_version_num(), 4);
        assert_ne!(random.uuid(), uuid);
    }
}
