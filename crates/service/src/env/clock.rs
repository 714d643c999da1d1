//! Time: monotonic for every decision, wall time for people.
//!
//! What always holds: [`Clock::now`] never goes back and is read from tokio's clock, so it agrees with every
//! `tokio::time` sleep and stands still on a paused runtime until the test or the runtime moves it.
//!
//! Stalls. On Linux the monotonic clock runs on while the process is stopped (SIGSTOP, a starved cgroup) and stands
//! still while the machine is suspended; the clock called boottime counts both. [`Clock::suspended`] is the
//! difference. Code that must notice that this process did not run watches late ticks *and* that
//! number. `StallMonitor` does so. A hypervisor that pauses a guest shows up as one or the other,
//! depending on its clock source.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Where a simulation's wall clock starts: 2030-01-01T00:00:00Z, visibly not today.
const SIMULATED_EPOCH: Duration = Duration::from_secs(1_893_456_000);

/// Monotonic and wall time. Cheap to clone; clones agree.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System {
        /// Boottime minus monotonic time when this clock was made.
        suspended_before: Duration,
    },
    Simulated {
        suspended: Arc<Mutex<Duration>>,
    },
}

impl Clock {
    pub(super) fn system() -> Clock {
        Clock { origin: Instant::now(), source: Source::System { suspended_before: suspended_since_boot() } }
    }

    pub(super) fn simulated() -> Clock {
        Clock { origin: Instant::now(), source: Source::Simulated { suspended: Arc::default() } }
    }

    /// Monotonic time since this `Env` was created. It does not include time in suspend; see [`Clock::suspended`].
    pub fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }

    /// How long the machine has been suspended since this `Env` was created.
    pub fn suspended(&self) -> Duration {
        match &self.source {
            Source::System { suspended_before } => suspended_since_boot().saturating_sub(*suspended_before),
            Source::Simulated { suspended } => *suspended.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Wall time, for showing and sending. Nothing must be decided by it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's wall clock")]
    pub fn wall(&self) -> SystemTime {
        match &self.source {
            Source::System { .. } => SystemTime::now(),
            Source::Simulated { .. } => UNIX_EPOCH + SIMULATED_EPOCH + self.now() + self.suspended(),
        }
    }

    /// Wall time in UTC as RFC 3339 with milliseconds, such as `2030-01-01T00:00:00.000Z`.
    pub fn rfc3339(&self) -> String {
        humantime::format_rfc3339_millis(self.wall()).to_string()
    }

    /// Wall time as milliseconds since 1970; 0 on a machine whose clock is set before that.
    pub fn unix_ms(&self) -> u64 {
        let since = self.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Suspends the simulated machine for `time`, which only the wall clock and boottime see. A system clock ignores this.
    #[cfg(test)]
    pub(crate) fn simulate_suspend(&self, time: Duration) {
        if let Source::Simulated { suspended } = &self.source {
            *suspended.lock().unwrap_or_else(PoisonError::into_inner) += time;
        }
    }
}

/// Boottime minus monotonic: all the time that this machine has spent in suspend.
fn suspended_since_boot() -> Duration {
    let read = |id| {
        let time = clock_gettime(id);
        // The kernel never reports a negative time for these two clocks.
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    // Monotonic first: the moment between the two calls can only add to the difference, by microseconds.
    let monotonic = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(monotonic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_moves_only_with_the_runtime() {
        let clock = Clock::simulated();
        assert_eq!((clock.now(), clock.rfc3339()), (Duration::ZERO, "2030-01-01T00:00:00.000Z".into()));
        tokio::time::sleep(Duration::from_millis(90_500)).await;
        assert_eq!(clock.now(), Duration::from_millis(90_500));
        assert_eq!(clock.rfc3339(), "2030-01-01T00:01:30.500Z");
        clock.simulate_suspend(Duration::from_secs(60));
        assert_eq!(clock.now(), Duration::from_millis(90_500));
        assert_eq!(clock.clone().suspended(), Duration::from_secs(60));
        assert_eq!(clock.unix_ms(), 1_893_456_000_000 + 150_500);
    }

    #[tokio::test]
    async fn system_time_goes_on_and_saw_no_suspend() {
        let clock = Clock::system();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(clock.now() >= Duration::from_millis(5));
        assert!(clock.suspended() < Duration::from_secs(1));
        assert!(clock.unix_ms() > 1_700_000_000_000);
    }
}
