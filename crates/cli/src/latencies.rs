//! Measured times, kept as counts, so that an endless run needs no more memory than a short one.
//!
//! What always holds: a quantile is right to three significant digits and never too small.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time that is counted, in microseconds: one hour. Anything longer counts as one hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Counts of measured times, shared by reference.
pub struct Latencies(Mutex<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3);
        Self(Mutex::new(histogram.expect("the bounds are in order, and three digits are allowed")))
    }
}

impl Latencies {
    /// Counts one time.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.histogram().saturating_record(micros);
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.histogram().len()
    }

    /// The longest time; zero if none was counted.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.histogram().max())
    }

    /// The longest time in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max().as_secs_f64() * 1e3
    }

    /// The time that this share (0 to 1) of all times did not exceed. Returns `None` if none was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let histogram = self.histogram();
        (!histogram.is_empty()).then(|| Duration::from_micros(histogram.value_at_quantile(share)))
    }

    /// The quantile in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        self.quantile(share).map(|time| time.as_secs_f64() * 1e3)
    }

    fn histogram(&self) -> MutexGuard<'_, Histogram<u64>> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_known_series() {
        let times = Latencies::default();
        assert_eq!((times.quantile(0.5), times.count(), times.max()), (None, 0, Duration::ZERO));
        (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
        for (share, exact) in [(0.001, 0.001), (0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = times.quantile(share).unwrap().as_secs_f64();
            assert!((exact..=exact * 1.001).contains(&found), "{share}: {found}");
        }
        assert_eq!((times.count(), times.quantile(1.0)), (1000, Some(times.max())));
    }

    #[test]
    fn no_time_is_too_short_or_too_long() {
        let times = Latencies::default();
        times.record(Duration::ZERO);
        times.record(Duration::MAX);
        assert_eq!((times.count(), times.quantile(0.5)), (2, Some(Duration::ZERO)));
        assert!(times.max() >= Duration::from_micros(LONGEST_US));
    }
}
