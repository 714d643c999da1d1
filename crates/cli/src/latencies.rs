//! Latencies counted in buckets, so that a run without end needs no more memory than a short one.
//!
//! Eight buckets for each power of two of microseconds: a quantile is right to within 13 %, and is never understated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per power of two, as a power of two.
const FINE: u32 = 3;
/// Enough for 2^36 µs, which is nineteen hours; anything longer counts as that.
const BUCKETS: usize = (36 - FINE as usize + 1) << FINE;

/// Counts of latencies. Shared by reference: counting takes no lock.
pub struct Latencies {
    buckets: Box<[AtomicU64]>,
    largest: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), largest: AtomicU64::new(0) }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.largest.fetch_max(micros, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.largest.load(Ordering::Relaxed))
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max().as_secs_f64() * 1e3
    }

    /// The quantile in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        self.quantile(share).map(|time| time.as_secs_f64() * 1e3)
    }

    /// The time within which this share (0 to 1) of all ended; nothing if nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|bucket| {
            seen += bucket.load(Ordering::Relaxed);
            seen >= rank
        })?;
        Some(Duration::from_micros(upper_bound(at)).min(self.max()))
    }
}

fn bucket(micros: u64) -> usize {
    let below = 1 << FINE;
    if micros < below {
        return micros as usize;
    }
    let power = micros.ilog2();
    let within = (micros >> (power - FINE)) - below;
    ((((power - FINE + 1) as usize) << FINE) + within as usize).min(BUCKETS - 1)
}

/// The largest number of microseconds that falls into the bucket.
fn upper_bound(bucket: usize) -> u64 {
    let below = 1 << FINE;
    if bucket < below {
        return bucket as u64;
    }
    let power = (bucket >> FINE) as u32 - 1;
    (((below + bucket % below) as u64 + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_a_bucket_that_bounds_it() {
        for micros in (0..5_000).chain([1 << 20, (1 << 20) + 12_345, 1 << 35]) {
            let at = bucket(micros);
            assert!(upper_bound(at) >= micros, "{micros}");
            assert!(at == 0 || upper_bound(at - 1) < micros, "{micros}");
            assert!(upper_bound(at) as f64 <= micros as f64 * 1.13 + 1.0, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_series() {
        let times = Latencies::default();
        assert_eq!((times.quantile(0.5), times.count()), (None, 0));
        (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
        let p50 = times.quantile(0.5).unwrap().as_secs_f64();
        assert!((0.5..0.5 * 1.13).contains(&p50), "{p50}");
        assert_eq!(times.quantile(1.0), Some(Duration::from_secs(1)));
        assert_eq!((times.count(), times.max()), (1000, Duration::from_secs(1)));
    }
}
