//! Two processes that report as one host with one identity: which of them keeps it.
//!
//! A restarted agent has a higher incarnation, so its first report is accepted at once. Whoever knows the identity of a host
//! can send such a report too. A process that was really replaced is silent from then on. If it still reports, it was not
//! replaced, and it gets its host back. Until one of the two has stopped, no further process gets the host.
//!
//! What always holds: one late report of a replaced process decides nothing. Only [`SIGNS_OF_LIFE`] of them in order do. The
//! process that had the host first is remembered for `service_down_time`, however many others come meanwhile.
//!
//! Left out: processes that report under another name, which are clones (`report/identity.rs`).

use std::time::Duration;

use crate::report::identity::Identity;

/// How many reports of a process show that it still runs. One may have been under way when the process ended.
const SIGNS_OF_LIFE: u8 = 2;

/// What is known of a process beside the one that has the host.
#[derive(Debug, Clone, Copy)]
struct Other {
    identity: Identity,
    /// Whether it had the host before.
    replaced: bool,
    /// How many reports of it came in order since.
    heard: u8,
}

/// What an older process's report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It may have been under way for long.
    Late,
    /// The process still runs, and never had the host.
    Alive,
    /// The process still runs, and had the host before.
    NotReplaced,
}

/// The other process of a host, if there may be one.
#[derive(Debug, Default)]
pub(crate) struct Quarrel {
    other: Option<Other>,
    /// Until when the other process is remembered.
    remembered_until: Duration,
    /// Until when no further process gets the host.
    open_until: Duration,
}

impl Quarrel {
    /// Notes that a process with a higher incarnation has the host now, which `before` had.
    pub fn replaced(&mut self, before: Identity, now: Duration, until: Duration) {
        if !self.may_return(now) {
            self.other = Some(Other { identity: before, replaced: true, heard: 0 });
            self.remembered_until = until;
        }
    }

    /// Notes a report of a process that is older than the one that has the host.
    pub fn hear(&mut self, presented: Identity, now: Duration, until: Duration) -> Sign {
        if self.remembered_until <= now {
            self.other = None;
        }
        let is_known = |other: &&mut Other| other.identity.is_process(&presented);
        match self.other.as_mut().filter(is_known) {
            Some(other) if presented.seq > other.identity.seq => {
                other.identity.seq = presented.seq;
                other.heard = other.heard.saturating_add(1);
                match other.replaced {
                    _ if other.heard < SIGNS_OF_LIFE => Sign::Late,
                    true => Sign::NotReplaced,
                    false => Sign::Alive,
                }
            }
            Some(_) => Sign::Late,
            None => {
                if !self.may_return(now) {
                    self.other = Some(Other { identity: presented, replaced: false, heard: 1 });
                    self.remembered_until = until;
                }
                Sign::Late
            }
        }
    }

    /// From now until then, no further process gets the host.
    pub fn open(&mut self, until: Duration) {
        *self = Self { open_until: until, ..Self::default() };
    }

    /// Whether no further process gets the host.
    pub fn is_open(&self, now: Duration) -> bool {
        self.open_until > now
    }

    /// Whether a process that had the host before may turn out to still run.
    pub fn may_return(&self, now: Duration) -> bool {
        self.remembered_until > now && self.other.is_some_and(|other| other.replaced)
    }
}
