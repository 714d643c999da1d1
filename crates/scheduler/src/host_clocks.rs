//! Hosts whose clock differs from this machine's, as their reports show.
//!
//! Nothing is decided by the clock of a host, but its log and the times that it reports are wrong. A report carries the
//! time at which it was made. If that lies in the future, the clock is ahead. If it lies in the past, the report may only
//! have been late, so the clock counts as behind only if several reports in a row are.
//!
//! What always holds: only hosts whose last report was off take memory, and their number is bounded.
//!
//! Left out: which clock is right. If all hosts are off by the same amount, this machine's clock is wrong.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{info, warn};

/// The largest difference that is not reported, in seconds. Machines that use NTP differ by far less.
pub(crate) const MAX_OFFSET_S: f64 = 5.0;
/// How many reports in a row must be late before the clock counts as behind.
const LATE_IN_A_ROW: u32 = 3;
/// How long the clock of a silent host is remembered.
const KEPT: Duration = Duration::from_secs(300);
/// Maximum number of hosts that are remembered. Further ones are not reported.
const MAX_HOSTS: usize = 20_000;
/// Why the lock cannot be poisoned.
const POISONED: &str = "no panic while the clocks are held";

/// The hosts whose clock differs from this machine's.
#[derive(Debug, Default)]
pub(crate) struct HostClocks {
    off: Mutex<HashMap<String, OffClock>>,
    /// How many hosts were found to be off since the start.
    told: AtomicU64,
}

/// What the last reports of a host say about its clock.
#[derive(Debug, Clone, Copy)]
struct OffClock {
    /// How many reports in a row were late. 0 if the last one came from the future.
    late: u32,
    /// By how much the clock is ahead, in seconds; negative if it is behind. Of consecutive late reports the smallest
    /// difference counts, because the larger ones include a longer way.
    offset_s: f64,
    /// When the host last reported.
    heard: Duration,
}

impl OffClock {
    fn is_told(self) -> bool {
        self.late == 0 || self.late >= LATE_IN_A_ROW
    }
}

impl HostClocks {
    /// Notes reports that arrived at `now`, each with the seconds since it was made.
    pub(crate) fn record<'r>(&self, lags: impl Iterator<Item = (&'r str, f64)>, now: Duration) {
        let mut off = self.off.lock().expect(POISONED);
        for (host, lag_s) in lags {
            if lag_s.abs() > MAX_OFFSET_S {
                self.note(&mut off, host, -lag_s, now);
            } else if !off.is_empty() && off.remove(host).is_some_and(OffClock::is_told) {
                info!(host, "the clock of this host agrees with this machine's again");
            }
        }
    }

    fn note(&self, off: &mut HashMap<String, OffClock>, host: &str, offset_s: f64, now: Duration) {
        let before = off.get(host).copied();
        if before.is_none() && off.len() >= MAX_HOSTS {
            return;
        }
        let behind = offset_s < 0.0;
        let row = before.filter(|before| behind && before.late > 0);
        let clock = OffClock {
            late: u32::from(behind) + row.map_or(0, |row| row.late),
            offset_s: row.map_or(offset_s, |row| row.offset_s.max(offset_s)),
            heard: now,
        };
        if clock.is_told() && !before.is_some_and(OffClock::is_told) {
            let told = self.told.fetch_add(1, Ordering::Relaxed) + 1;
            // Only some are logged, because every host is off if this machine's own clock is.
            if told.is_power_of_two() {
                let offset = format!("{:+.1} s", clock.offset_s);
                warn!(
                    host,
                    offset, "the clock of this host differs from this machine's; synchronize both with NTP"
                );
            }
        }
        off.insert(host.to_owned(), clock);
    }

    /// Forgets hosts that have been silent for a long time.
    pub(crate) fn forget_silent(&self, now: Duration) {
        self.off.lock().expect(POISONED).retain(|_, clock| now.saturating_sub(clock.heard) < KEPT);
    }

    /// By how many seconds the clock of each host is ahead, if it is off; negative if it is behind.
    pub(crate) fn offsets(&self) -> HashMap<String, f64> {
        let off = self.off.lock().expect(POISONED);
        let told = off.iter().filter(|(_, clock)| clock.is_told());
        told.map(|(host, clock)| (host.clone(), clock.offset_s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_clock_ahead_is_told_at_once_and_one_behind_after_several_reports() {
        let clocks = HostClocks::default();
        let told = || {
            let mut told: Vec<_> = clocks.offsets().into_iter().collect();
            told.sort_by(|a, b| a.0.cmp(&b.0));
            told
        };
        let ahead = || ("ahead".to_owned(), 60.0);
        clocks.record([("good", 0.02), ("ahead", -60.0), ("behind", 31.0)].into_iter(), seconds(0));
        assert_eq!(told(), [ahead()]);
        clocks.record([("good", 5.0), ("late", 9.0), ("behind", 30.1)].into_iter(), seconds(10));
        clocks.record([("good", -5.0), ("late", 0.1), ("behind", 30.4)].into_iter(), seconds(20));
        assert_eq!(told(), [ahead(), ("behind".to_owned(), -30.1)], "the way is not the clock's");
        clocks.record([("ahead", 0.1), ("behind", 30.2)].into_iter(), seconds(30));
        assert_eq!(told(), [("behind".to_owned(), -30.1)]);
        clocks.forget_silent(seconds(329));
        assert_eq!(told().len(), 1);
        clocks.forget_silent(seconds(330));
        assert_eq!(told(), []);
    }

    #[test]
    fn a_host_takes_no_memory_unless_it_is_off_and_there_is_a_limit() {
        let clocks = HostClocks::default();
        let names: Vec<_> = (0..MAX_HOSTS + 10).map(|n| n.to_string()).collect();
        clocks.record(names.iter().map(|name| (&**name, 1.0)), seconds(0));
        assert_eq!(clocks.off.lock().unwrap().len(), 0);
        clocks.record(names.iter().map(|name| (&**name, -99.0)), seconds(0));
        assert_eq!(clocks.offsets().len(), MAX_HOSTS);
    }
}
