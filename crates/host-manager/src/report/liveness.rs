//! Decides whether a host is up, suspect or down: whether the silence is the host's own or this scheduler's.
//!
//! A host is judged by the receiver's monotonic clock alone. Its *own* silence is the time since its last report,
//! without the time in which this scheduler could not hear anybody: stalls of the process, and time without a broker. A
//! host whose own silence exceeds `service_down_time` is down, with one exception: a *grace*, which it gets at most
//! once between two reports.
//!
//! Every host gets a grace of `service_down_time` when a stall or an outage ends, because agents need time to come back
//! to the broker. If more than `suspect_fraction` of at least [`MIN_FLEET`] live hosts are lost together, each of them
//! gets a grace until [`LOST_TOGETHER_TIMES`] `service_down_time` after its last report. A host that would be down
//! without excused time or grace is suspect: it is still a candidate, and it is counted.
//!
//! What always holds: without an outage, a host is a candidate for at most `service_down_time` after its last report,
//! or [`LOST_TOGETHER_TIMES`] as long if it was lost together with many others. After an outage, a dead host is down at the
//! latest when its grace is over and its own silence exceeds `service_down_time`; further outages only add their own
//! length. While an outage lasts, suspect hosts stay suspect, because without a broker nobody asks for a placement.

use std::collections::VecDeque;
use std::time::Duration;

use novella_objects::HostStatus;

/// How many outages are remembered. If there are more, the oldest is dropped and no longer excuses anybody.
const MAX_OUTAGES: usize = 64;

/// How many live hosts a fleet must have before hosts that are lost together are excused. In a smaller fleet a third of
/// the hosts is one rack or one power strip, and their silence says little about the receiver.
pub(crate) const MIN_FLEET: usize = 10;

/// For how many times `service_down_time` after its last report a host is excused that was lost together with others.
pub(crate) const LOST_TOGETHER_TIMES: u32 = 3;

/// The intervals in which this scheduler could not hear anybody.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    /// The outages that are over, in order and without overlap.
    closed: VecDeque<(Duration, Duration)>,
    /// When the present outage began, if there is one.
    open: Option<Duration>,
}

impl Outages {
    /// Notes that an outage begins. Returns false if one is already under way.
    pub fn begin(&mut self, now: Duration) -> bool {
        let begins = self.open.is_none();
        self.open.get_or_insert(now);
        begins
    }

    /// Notes that the outage ends. Returns false if there was none.
    pub fn end(&mut self, now: Duration) -> bool {
        let Some(from) = self.open.take() else { return false };
        self.add(from, now);
        true
    }

    /// Records an outage that is over. It may overlap others, and it may be recorded late.
    pub fn add(&mut self, from: Duration, to: Duration) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.closed.retain(|&(f, t)| {
            let apart = t < from || f > to;
            if !apart {
                from = from.min(f);
                to = to.max(t);
            }
            apart
        });
        let at = self.closed.partition_point(|&(f, _)| f < from);
        self.closed.insert(at, (from, to));
        if self.closed.len() > MAX_OUTAGES {
            self.closed.pop_front();
        }
    }

    /// How much of the time from `from` to `to` was an outage.
    pub fn within(&self, from: Duration, to: Duration) -> Duration {
        let open = self.open.unwrap_or(Duration::MAX);
        let end = to.min(open);
        let closed: Duration = self
            .closed
            .iter()
            .rev()
            .take_while(|(_, t)| *t > from)
            .map(|&(f, t)| t.min(end).saturating_sub(f.max(from)))
            .sum();
        closed + to.saturating_sub(open.max(from))
    }
}

/// When a host was last heard, and whether its silence is excused.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hearing {
    /// When the last report came.
    pub heard: Duration,
    /// Until when the host is excused, if it got a grace since its last report.
    pub grace_until: Option<Duration>,
    /// Whether the last report was a goodbye.
    pub goodbye: bool,
}

/// Whether a host is alive. Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Liveness {
    Up,
    Suspect,
    Down,
}

impl Liveness {
    /// The status of a host or service with this liveness. One that is down is not shown as disabled.
    pub fn status(self, disabled: bool) -> HostStatus {
        match self {
            Self::Down => HostStatus::Down,
            _ if disabled => HostStatus::Disabled,
            Self::Suspect => HostStatus::Suspect,
            Self::Up => HostStatus::Up,
        }
    }
}

impl Hearing {
    pub fn new(now: Duration, goodbye: bool) -> Self {
        Self { heard: now, grace_until: None, goodbye }
    }

    /// How long the host has been silent, without the time of outages.
    pub fn own_silence(&self, outages: &Outages, now: Duration) -> Duration {
        now.saturating_sub(self.heard).saturating_sub(outages.within(self.heard, now))
    }

    /// Whether the host's own silence exceeds `limit`. After a goodbye it is silent at once.
    pub fn is_silent(&self, outages: &Outages, limit: Duration, now: Duration) -> bool {
        self.goodbye || self.own_silence(outages, now) > limit
    }

    /// The liveness of the host at `now`.
    pub fn judge(&self, outages: &Outages, service_down_time: Duration, now: Duration) -> Liveness {
        if self.goodbye {
            return Liveness::Down;
        }
        if now.saturating_sub(self.heard) <= service_down_time {
            return Liveness::Up;
        }
        let graced = self.grace_until.is_some_and(|until| now <= until);
        if graced || self.own_silence(outages, now) <= service_down_time {
            Liveness::Suspect
        } else {
            Liveness::Down
        }
    }

    /// Excuses the host until `until`, unless it already got a grace since its last report.
    pub fn give_grace(&mut self, until: Duration) {
        self.grace_until.get_or_insert(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Duration = Duration::from_secs(60);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_counts_only_when_it_could_have_been_broken() {
        let mut outages = Outages::default();
        let hearing = Hearing::new(s(100), false);
        assert_eq!(
            hearing.judge(&outages, DOWN, s(160)),
            Liveness::Up,
            "exactly service_down_time is not over it"
        );
        assert_eq!(hearing.judge(&outages, DOWN, s(161)), Liveness::Down);
        outages.add(s(110), s(150));
        assert_eq!(hearing.judge(&outages, DOWN, s(161)), Liveness::Suspect, "40 s of it were ours");
        assert_eq!(hearing.judge(&outages, DOWN, s(200)), Liveness::Suspect);
        assert_eq!(hearing.judge(&outages, DOWN, s(201)), Liveness::Down);
    }

    #[test]
    fn an_open_outage_excuses_as_long_as_it_lasts_and_not_after() {
        let mut outages = Outages::default();
        assert!(outages.begin(s(10)));
        assert!(!outages.begin(s(20)), "already under way");
        let hearing = Hearing::new(s(0), false);
        assert_eq!(hearing.judge(&outages, DOWN, s(100_000)), Liveness::Suspect);
        assert!(outages.end(s(100_000)));
        assert!(!outages.end(s(100_001)));
        assert_eq!(hearing.judge(&outages, DOWN, s(100_050)), Liveness::Suspect, "10 s before, 50 s after");
        assert_eq!(hearing.judge(&outages, DOWN, s(100_051)), Liveness::Down);
    }

    #[test]
    fn overlapping_outages_count_once_and_old_ones_are_dropped() {
        let mut outages = Outages::default();
        outages.add(s(10), s(20));
        outages.add(s(15), s(30));
        outages.add(s(40), s(50));
        outages.add(s(29), s(41));
        assert_eq!(outages.within(s(0), s(100)), s(40));
        assert_eq!(outages.within(s(12), s(45)), s(33));
        outages.begin(s(45));
        assert_eq!(outages.within(s(0), s(60)), s(50), "a closed one inside an open one counts once");
        outages.end(s(60));
        for i in 0..2 * MAX_OUTAGES as u64 {
            outages.add(s(1000 + 10 * i), s(1001 + 10 * i));
        }
        assert_eq!(outages.within(s(0), s(100_000)), s(MAX_OUTAGES as u64));
        outages.add(s(5), s(5));
        outages.add(s(9), s(3));
        assert_eq!(outages.within(s(0), s(20)), s(0), "empty and reversed intervals are none");
    }

    #[test]
    fn a_grace_is_given_once_and_a_goodbye_is_final() {
        let outages = Outages::default();
        let mut hearing = Hearing::new(s(0), false);
        hearing.give_grace(s(100));
        hearing.give_grace(s(500));
        assert_eq!(hearing.judge(&outages, DOWN, s(100)), Liveness::Suspect);
        assert_eq!(hearing.judge(&outages, DOWN, s(101)), Liveness::Down);
        let gone = Hearing::new(s(0), true);
        assert_eq!(gone.judge(&outages, DOWN, s(0)), Liveness::Down);
    }
}
