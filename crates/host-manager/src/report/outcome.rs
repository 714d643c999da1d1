//! What became of a report, what changed by itself, and how often.
//!
//! A refused report is an answer like any other: data with a reason, counted by kind. Nothing here is an error of the
//! scheduler.

use std::fmt;

use novella_filter_scheduler::BadDevices;
use uuid::Uuid;

/// What became of one report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// A host or service that was not known.
    New,
    /// A known one said something.
    Updated {
        /// Reports before this one that never came.
        gap: u64,
        /// Reservations that this report settled: it lists their claims, or their end.
        settled: u32,
    },
    /// A known identity under a new host name.
    Renamed {
        /// The name before.
        from: String,
        /// The identity that held the new name and had been silent.
        previous: Option<Uuid>,
    },
    /// A new identity under the name of one that had been silent.
    TakenOver {
        /// The identity before; `None` for a reporter that had none.
        previous: Option<Uuid>,
    },
    /// The last report of a process that stops in order: the host is down at once.
    Goodbye,
    /// Refused: from a replaced process, or not newer than what is known.
    Stale,
    /// Refused: another process reports with this identity and incarnation.
    Cloned {
        /// The host name of the first one.
        host: String,
    },
    /// Refused: another identity reports under this name.
    DuplicateName {
        /// That identity.
        holder: Uuid,
    },
    /// Refused: without identity, for a host that has one.
    NoIdentityIgnored,
    /// Refused: the map is full.
    TooMany,
    /// Refused: a value that no host can mean.
    Bad(BadReport),
}

impl Applied {
    /// True when the map took the report.
    pub fn is_accepted(&self) -> bool {
        matches!(
            self,
            Self::New | Self::Updated { .. } | Self::Renamed { .. } | Self::TakenOver { .. } | Self::Goodbye
        )
    }
}

/// Why a report was refused: which value, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReport {
    /// The key, such as `vcpus` or `novella.claims`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub fault: Fault,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing where something must be.
    Empty,
    /// Longer, or more of them, than the limit.
    TooLong(usize),
    /// A control character in a name.
    ControlCharacter,
    /// Below zero.
    Negative,
    /// No machine is that large.
    Absurd(u64),
    /// An overcommit ratio that is not a positive number of sensible size.
    Ratio,
    /// NUMA cells or PCI devices that cannot be counted with.
    Devices(BadDevices),
}

impl fmt::Display for BadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key;
        match &self.fault {
            Fault::Empty => write!(f, "{key} is empty"),
            Fault::TooLong(limit) => write!(f, "{key} is longer than {limit}"),
            Fault::ControlCharacter => write!(f, "{key} has a control character"),
            Fault::Negative => write!(f, "{key} is negative"),
            Fault::Absurd(limit) => write!(f, "{key} is larger than {limit}"),
            Fault::Devices(reason) => write!(f, "{key}: {reason}"),
            Fault::Ratio => {
                write!(f, "{key} is not above 0 and at most {}", novella_filter_scheduler::MAX_RATIO)
            }
        }
    }
}

/// What changed by itself, or because of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Silent for too long.
    Down {
        /// Which host.
        host: String,
    },
    /// Silent, but for reasons that need not be its own.
    Suspect {
        /// Which host.
        host: String,
    },
    /// Heard again.
    Back {
        /// Which host.
        host: String,
    },
    /// Silent for so long that it left the map.
    Forgotten {
        /// Which host.
        host: String,
    },
    /// More than the allowed share of live hosts fell silent together.
    LostTogether {
        /// How many.
        hosts: usize,
        /// Of how many live ones.
        live: usize,
    },
    /// A name has a new owner.
    TakenOver {
        /// The name.
        host: String,
        /// The identity before.
        previous: Uuid,
        /// The identity now.
        uuid: Uuid,
    },
    /// Reservations that no report confirmed in time.
    ReservationsExpired {
        /// How many.
        count: usize,
    },
}

/// How often each thing happened since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reports taken.
    pub accepted: u64,
    /// Of these, for hosts or services not known before.
    pub new: u64,
    /// Of these, last words.
    pub goodbye: u64,
    /// Of these, under another name than before.
    pub renamed: u64,
    /// Of these, of a new identity under a silent one's name.
    pub taken_over: u64,
    /// Reports known to be missed, by their sequence numbers.
    pub missed: u64,
    /// Reports refused as old.
    pub stale: u64,
    /// Reports refused as a clone's.
    pub cloned: u64,
    /// Reports refused because the name is another's.
    pub duplicate_name: u64,
    /// Reports without identity refused because the host has one.
    pub no_identity_ignored: u64,
    /// Reports refused because the map is full.
    pub too_many: u64,
    /// Reports refused for a value.
    pub bad: u64,
    /// Hosts that went down by silence.
    pub down: u64,
    /// Hosts that became suspect.
    pub suspect: u64,
    /// Hosts that left the map.
    pub forgotten: u64,
    /// Reservations made by this scheduler's decisions.
    pub reserved: u64,
    /// Reservations told by peers.
    pub peer_reserved: u64,
    /// Reservations settled by a report.
    pub settled: u64,
    /// Reservations let go before their time.
    pub released: u64,
    /// Reservations that ran out.
    pub expired: u64,
    /// A peer's reservations refused: full, absurd, or the instance is reserved by another decision.
    pub peer_refused: u64,
    /// Requests answered from an earlier decision or from reports.
    pub repeated: u64,
    /// Requests refused because an instance stands for something else.
    pub conflict: u64,
    /// Hosts that a filter could not decide about.
    pub filter_errors: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, applied: &Applied) {
        let counter = match applied {
            Applied::New => &mut self.new,
            Applied::Updated { .. } => &mut self.accepted,
            Applied::Renamed { .. } => &mut self.renamed,
            Applied::TakenOver { .. } => &mut self.taken_over,
            Applied::Goodbye => &mut self.goodbye,
            Applied::Stale => &mut self.stale,
            Applied::Cloned { .. } => &mut self.cloned,
            Applied::DuplicateName { .. } => &mut self.duplicate_name,
            Applied::NoIdentityIgnored => &mut self.no_identity_ignored,
            Applied::TooMany => &mut self.too_many,
            Applied::Bad(_) => &mut self.bad,
        };
        *counter += 1;
        if applied.is_accepted() && !matches!(applied, Applied::Updated { .. }) {
            self.accepted += 1;
        }
    }
}
