//! Notices that the world went on without this process: it was stopped (SIGSTOP), starved, or its machine suspended.
//!
//! What always holds: each stall is reported once, as the stretch of [`Clock::now`] in which nothing was done. Whoever
//! judges by elapsed time calls [`StallMonitor::observe`] first: after a stop, the judge may well be woken before the
//! monitor's own tick.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};

use crate::env::Clock;

/// How often [`StallMonitor::run`] looks, unless told otherwise.
pub const TICK: Duration = Duration::from_millis(250);
/// How late a tick may be before it counts as a stall, unless told otherwise: well above a busy machine's hiccups,
/// well below any report interval.
pub const TOLERANCE: Duration = Duration::from_secs(1);

/// A stretch of time in which this process did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The last moment at which it was known to run, by [`Clock::now`].
    pub from: Duration,
    /// The moment at which it was running again.
    pub to: Duration,
    /// Time that the machine was suspended meanwhile, which that clock does not count.
    pub suspended: Duration,
}

impl Stall {
    /// How long the world went on alone.
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from) + self.suspended
    }
}

/// Watches for stalls. Clones share what was seen.
#[derive(Clone)]
pub struct StallMonitor {
    clock: Clock,
    tick: Duration,
    tolerance: Duration,
    seen: Arc<Mutex<Seen>>,
    on_stall: Arc<dyn Fn(Stall) + Send + Sync>,
}

struct Seen {
    now: Duration,
    suspended: Duration,
    total: Duration,
}

impl StallMonitor {
    /// Calls `on_stall` for each stall, from whichever task observed it.
    pub fn new(clock: Clock, on_stall: impl Fn(Stall) + Send + Sync + 'static) -> StallMonitor {
        StallMonitor::with(clock, TICK, TOLERANCE, on_stall)
    }

    /// The same with another tick and tolerance.
    pub fn with(
        clock: Clock,
        tick: Duration,
        tolerance: Duration,
        on_stall: impl Fn(Stall) + Send + Sync + 'static,
    ) -> StallMonitor {
        let seen = Seen { now: clock.now(), suspended: clock.suspended(), total: Duration::ZERO };
        StallMonitor {
            clock,
            tick,
            tolerance,
            seen: Arc::new(Mutex::new(seen)),
            on_stall: Arc::new(on_stall),
        }
    }

    /// Looks once: if the last look was too long ago, that is a stall, reported and returned. It can only know while
    /// [`StallMonitor::run`] is running, which looks regularly.
    pub fn observe(&self) -> Option<Stall> {
        let stall = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let (now, suspended) = (self.clock.now(), self.clock.suspended());
            let stall = Stall {
                from: seen.now,
                to: now.max(seen.now),
                suspended: suspended.saturating_sub(seen.suspended),
            };
            let stalled = stall.length() > self.tick + self.tolerance;
            (seen.now, seen.suspended) = (stall.to, suspended);
            if stalled {
                seen.total += stall.length();
            }
            stalled.then_some(stall)
        };
        if let Some(stall) = stall {
            tracing::warn!(
                length = ?stall.length(),
                suspended = ?stall.suspended,
                "this process did not run for a while (stopped, starved or suspended)"
            );
            (self.on_stall)(stall);
        }
        stall
    }

    /// The length of all stalls so far.
    pub fn total(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Looks regularly, for ever; spawn it and drop it with the daemon.
    pub async fn run(self) {
        let mut ticks = time::interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.observe();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::env::Env;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_time_is_a_stall_and_a_running_process_is_not() {
        let clock = Env::simulated(1).clock;
        let (sender, stalls) = mpsc::channel();
        let monitor = StallMonitor::new(clock.clone(), move |stall| sender.send(stall).unwrap());
        let task = tokio::spawn(monitor.clone().run());
        time::sleep(60 * SECOND).await;
        assert_eq!(stalls.try_recv(), Err(mpsc::TryRecvError::Empty));

        let stopped = clock.now();
        time::advance(20 * SECOND).await;
        // Whether the judge or the monitor's own tick finds it first, it is reported once.
        monitor.observe();
        time::sleep(10 * SECOND).await;
        let found: Vec<Stall> = stalls.try_iter().collect();
        let [stall] = found[..] else { panic!("not one stall: {found:?}") };
        assert!(stall.from <= stopped && stopped - stall.from <= TICK, "{stall:?}");
        assert_eq!((stall.to, stall.suspended), (stopped + 20 * SECOND, Duration::ZERO));
        assert_eq!(monitor.total(), stall.length());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_is_noticed_although_the_clock_stood_still() {
        let clock = Env::simulated(1).clock;
        let monitor = StallMonitor::new(clock.clone(), |_| {});
        clock.simulate_suspend(90 * SECOND);
        let stall = monitor.observe().unwrap();
        assert_eq!((stall.from, stall.to, stall.length()), (clock.now(), clock.now(), 90 * SECOND));
        assert_eq!(monitor.observe(), None);
    }
}
