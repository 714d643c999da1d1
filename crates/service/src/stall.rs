//! Notices that this process did not run for a while: it was stopped (SIGSTOP), starved, or its machine suspended.
//!
//! What always holds: each stall is found once, as the period of [`Clock::now`] in which this process did nothing. Code
//! that judges by elapsed time calls [`StallMonitor::observe`] first. It must also be called once in every [`TICK`],
//! because otherwise a quiet period would look like a stall.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::env::Clock;

/// How often [`StallMonitor::observe`] must be called.
pub const TICK: Duration = Duration::from_millis(250);
/// How late a call may be before that counts as a stall: well above a busy machine's hiccups, well below any report
/// interval.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A period in which this process did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The last moment at which it was known to run, by [`Clock::now`].
    pub from: Duration,
    /// The moment at which it was running again.
    pub to: Duration,
    /// How long the machine was suspended meanwhile, which that clock does not count.
    pub suspended: Duration,
}

impl Stall {
    /// How long this process did not run.
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from) + self.suspended
    }
}

/// Watches for stalls.
pub struct StallMonitor {
    clock: Clock,
    last: Mutex<Observed>,
}

/// The clocks at one observation.
struct Observed {
    now: Duration,
    suspended: Duration,
}

impl StallMonitor {
    /// A monitor that counts this as its first observation.
    pub fn new(clock: Clock) -> StallMonitor {
        let last = Mutex::new(Observed { now: clock.now(), suspended: clock.suspended() });
        StallMonitor { clock, last }
    }

    /// Reads the clocks. If the last reading is too long ago, that was a stall, which is logged and returned.
    pub fn observe(&self) -> Option<Stall> {
        let stall = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let (now, suspended) = (self.clock.now(), self.clock.suspended());
            let stall = Stall {
                from: last.now,
                to: now.max(last.now),
                suspended: suspended.saturating_sub(last.suspended),
            };
            *last = Observed { now: stall.to, suspended };
            stall
        };
        if stall.length() <= TICK + TOLERANCE {
            return None;
        }
        tracing::warn!(
            length = ?stall.length(),
            suspended = ?stall.suspended,
            "this process did not run for a while (stopped, starved or suspended)"
        );
        Some(stall)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;
    use crate::env::Env;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_time_is_a_stall_and_a_running_process_is_not() {
        let clock = Env::simulated(1).clock;
        let monitor = StallMonitor::new(clock.clone());
        for _ in 0..240 {
            time::sleep(TICK).await;
            assert_eq!(monitor.observe(), None);
        }
        let stopped = clock.now();
        time::advance(20 * SECOND).await;
        let stall = monitor.observe().unwrap();
        assert_eq!((stall.from, stall.to), (stopped, stopped + 20 * SECOND));
        assert_eq!((stall.suspended, stall.length()), (Duration::ZERO, 20 * SECOND));
        assert_eq!(monitor.observe(), None, "it is found once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_is_noticed_although_the_clock_stood_still() {
        let clock = Env::simulated(1).clock;
        let monitor = StallMonitor::new(clock.clone());
        clock.simulate_suspend(90 * SECOND);
        let stall = monitor.observe().unwrap();
        assert_eq!((stall.from, stall.to, stall.length()), (clock.now(), clock.now(), 90 * SECOND));
        assert_eq!(monitor.observe(), None);
    }
}
