//! The points in time at which one task is due: `first`, `first + period`, `first + 2 * period` and so on.
//!
//! What always holds:
//! - a point is computed from the grid, and never from when a run started or ended, so that no error accumulates;
//! - two runs that the grid causes start at least half a period apart, so that runs do not bunch after a stall.
//!
//! All of it is arithmetic: the time now is an argument. `None` is a point out of the clock's range, which never comes.

use std::time::Duration;

use tokio::time::Instant;

use crate::task::Schedule;

/// The timer's resolution. A shorter period could not be kept, and a period of zero would keep its thread busy.
const MIN_PERIOD: Duration = Duration::from_millis(1);

/// The points in time at which one task is due.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    pub first: Option<Instant>,
    period: Duration,
}

impl Grid {
    /// The grid of one task. `delay` is the runner's random delay. A task that runs immediately has its first run at
    /// `start`, so the delay only shifts its later points: the first of them comes within one period.
    pub fn new(
        schedule: Schedule,
        interval: Duration,
        start: Instant,
        delay: Duration,
        run_immediately: bool,
    ) -> Self {
        let interval = interval.max(MIN_PERIOD);
        let (skipped, period) = match schedule {
            Schedule::EveryTick | Schedule::Spacing(Duration::ZERO) => (Duration::ZERO, interval),
            Schedule::Spacing(spacing) => (Duration::ZERO, spacing.max(MIN_PERIOD)),
            Schedule::TicksBetweenRuns(ticks) => {
                let skipped = interval.saturating_mul(ticks);
                (skipped, skipped.saturating_add(interval))
            }
        };
        let mut offset = delay.saturating_add(skipped);
        if run_immediately {
            let remainder = offset.as_nanos() % period.as_nanos();
            offset =
                if remainder == 0 { Some(period) } else { from_nanos(remainder) }.unwrap_or(Duration::MAX);
        }
        Self { first: start.checked_add(offset), period }
    }

    /// The point after `due` for a run that started at `now`, and how many points are left out before it. It is the point
    /// nearest to one period from `now`, and the earlier one of two equally near.
    pub fn after(&self, due: Instant, now: Instant) -> (Option<Instant>, u64) {
        let period = self.period.as_nanos();
        let late = now.saturating_duration_since(due).as_nanos();
        let left_out = (late + (period - 1) / 2) / period;
        let next =
            from_nanos((left_out + 1).saturating_mul(period)).and_then(|distance| due.checked_add(distance));
        (next, u64::try_from(left_out).unwrap_or(u64::MAX))
    }
}

/// `None` past 584 years.
fn from_nanos(nanos: u128) -> Option<Duration> {
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn first(schedule: Schedule, delay_s: u64, run_immediately: bool) -> Option<u64> {
        let start = Instant::now();
        let grid = Grid::new(schedule, INTERVAL, start, Duration::from_secs(delay_s), run_immediately);
        grid.first.map(|first| (first - start).as_secs())
    }

    fn after_ms(period_ms: u64, due_ms: u64, now_ms: u64) -> (u64, u64) {
        let start = Instant::now();
        let spacing = Schedule::Spacing(Duration::from_millis(period_ms));
        let grid = Grid::new(spacing, INTERVAL, start, Duration::ZERO, false);
        let at = |ms| start + Duration::from_millis(ms);
        let (next, left_out) = grid.after(at(due_ms), at(now_ms));
        let next = next.expect("a near point is in the clock's range");
        (u64::try_from((next - start).as_millis()).expect("a small number"), left_out)
    }

    #[test]
    fn the_first_point_is_the_delay_and_the_ticks_left_out() {
        assert_eq!(first(Schedule::EveryTick, 3, false), Some(3));
        assert_eq!(first(Schedule::Spacing(Duration::from_secs(120)), 3, false), Some(3));
        assert_eq!(first(Schedule::TicksBetweenRuns(2), 3, false), Some(23));
        assert_eq!(first(Schedule::TicksBetweenRuns(0), 3, false), Some(3));
    }

    #[test]
    fn after_an_immediate_run_the_first_point_is_within_one_period() {
        assert_eq!(first(Schedule::EveryTick, 0, true), Some(10));
        assert_eq!(first(Schedule::EveryTick, 3, true), Some(3));
        assert_eq!(first(Schedule::EveryTick, 10, true), Some(10));
        assert_eq!(first(Schedule::EveryTick, 47, true), Some(7));
        assert_eq!(first(Schedule::TicksBetweenRuns(2), 3, true), Some(23));
        assert_eq!(first(Schedule::TicksBetweenRuns(2), 13, true), Some(3));
    }

    #[test]
    fn a_late_run_goes_on_to_the_nearest_point_one_period_on() {
        for (now, next, left_out) in [
            (0, 10_000, 0),
            (1, 10_000, 0),
            (5_000, 10_000, 0),
            (5_001, 20_000, 1),
            (10_000, 20_000, 1),
            (25_000, 30_000, 2),
            (29_900, 40_000, 3),
        ] {
            assert_eq!(after_ms(10_000, 0, now), (next, left_out), "started at {now} ms");
        }
    }

    #[test]
    fn the_gap_stays_between_half_and_one_and_a_half_periods_and_on_the_grid() {
        for period in [1, 2, 3, 7, 1_000] {
            for now in 0..5_000 {
                let (next, _) = after_ms(period, 0, now);
                assert_eq!(next % period, 0);
                assert!(
                    2 * (next - now) >= period && 2 * (next - now) <= 3 * period,
                    "{period} {now} {next}"
                );
            }
        }
    }

    #[test]
    fn a_point_beyond_the_clock_is_never() {
        let start = Instant::now();
        let grid = Grid::new(Schedule::Spacing(Duration::MAX), INTERVAL, start, Duration::ZERO, false);
        assert_eq!(grid.first, Some(start));
        assert_eq!(grid.after(start, start).0, None);
        let most = Schedule::TicksBetweenRuns(u32::MAX);
        let grid = Grid::new(most, Duration::MAX, start, Duration::from_secs(1), true);
        assert_eq!(grid.first, None);
    }

    #[test]
    fn a_period_is_never_below_the_timers_resolution() {
        for schedule in
            [Schedule::EveryTick, Schedule::Spacing(Duration::from_nanos(1)), Schedule::TicksBetweenRuns(0)]
        {
            let grid = Grid::new(schedule, Duration::ZERO, Instant::now(), Duration::ZERO, false);
            assert_eq!(grid.period, MIN_PERIOD);
        }
    }
}
