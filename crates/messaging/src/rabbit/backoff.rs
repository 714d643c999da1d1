//! Waits between attempts: exponential with full jitter, so that the services of a fleet do not come back in step.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Each wait is random between zero and a bound, which doubles with each failure up to a cap.
pub(super) struct Backoff {
    /// The bound after the first failure.
    base: Duration,
    cap: Duration,
    failures: u32,
    rng: ChaCha8Rng,
}

impl Backoff {
    pub(super) fn new(base: Duration, cap: Duration, seed: [u8; 32]) -> Self {
        Self { base, cap, failures: 0, rng: ChaCha8Rng::from_seed(seed) }
    }

    /// How long to wait after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        // 2^16 times any base used here is beyond any cap.
        let bound = self.base.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(self.rng.random::<f64>())
    }

    /// Makes the next failure count as the first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_under_a_bound_that_doubles_to_the_cap() {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(10));
        let mut all = Vec::new();
        for seed in 0..200 {
            let mut backoff = Backoff::new(base, cap, [seed; 32]);
            all.push((0..12).map(|_| backoff.next()).collect::<Vec<_>>());
            backoff.reset();
            assert!(backoff.next() <= base);
        }
        for step in 0..12 {
            let bound = (base * (1 << step)).min(cap);
            let waits = || all.iter().map(|waits| waits[step as usize]);
            assert!(waits().all(|wait| wait <= bound), "step {step}");
            assert!(
                waits().any(|wait| wait < bound / 4) && waits().any(|wait| wait > bound * 3 / 4),
                "step {step}"
            );
        }
    }
}
