//! The outcome of a report, events in the map, and counters of both.
//!
//! A refused report is an answer like any other: data with a reason, counted by kind. Nothing here is an error of the
//! scheduler.
//!
//! Left out: logging, and how it is shown.

use std::fmt;

use novella_objects::{HostStatus, HostWarning};
use novella_resources::BadDevices;
use uuid::Uuid;

/// The outcome of one report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Accepted: the host or service was not known before.
    New,
    /// Accepted: the host or service was known.
    Updated {
        /// How many reports before this one did not arrive.
        gap: u64,
        /// How many reservations this report settled, because it lists their claims or their end.
        settled: u32,
    },
    /// Accepted: a known identity has a new host name.
    Renamed {
        /// The previous name.
        from: String,
        /// The identity that had the new name and had been silent.
        previous: Option<Uuid>,
    },
    /// Accepted: a new identity took over the name of one that had been silent.
    TakenOver {
        /// The previous identity; `None` for a reporter that had none.
        previous: Option<Uuid>,
    },
    /// Accepted: the process stops in order, and the host is down at once.
    Goodbye,
    /// Refused: the report is from a replaced process, or not newer than what is known.
    Stale,
    /// Refused: another process reports with a copy of this identity.
    Cloned {
        /// The host name of the first process.
        host: String,
    },
    /// Refused: another identity reports under this name.
    DuplicateName {
        /// The identity that has the name.
        holder: Uuid,
    },
    /// Refused: the host or service belongs to another broker user.
    OtherUser {
        /// The user to whom it belongs.
        owner: String,
    },
    /// Refused: the incarnation or the number of the report exceeds the last one by more than restarts can explain.
    TooFar,
    /// Refused: the report has no identity, and the host has one.
    NoIdentityIgnored,
    /// Refused: the map is full.
    TooMany,
    /// Refused: the broker user has reported too many new hosts within a minute.
    TooManyNew,
    /// Refused: a value is not possible on any host.
    Bad(BadReport),
}

impl Applied {
    /// Whether the map accepted the report.
    pub fn is_accepted(&self) -> bool {
        matches!(
            self,
            Self::New | Self::Updated { .. } | Self::Renamed { .. } | Self::TakenOver { .. } | Self::Goodbye
        )
    }
}

/// Why a report was refused: the value, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReport {
    /// The key of the value, such as `vcpus` or `novella.claims`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub fault: Fault,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is empty, but must not be.
    Empty,
    /// It has more bytes or entries than this limit.
    TooLong(usize),
    /// It cannot be the name of a host or of a service.
    HostName,
    /// A name has a control character.
    ControlCharacter,
    /// The scheduler would keep too much of one host.
    TooMuch {
        /// How many bytes it would keep.
        bytes: usize,
        /// How many it keeps of one host at most.
        limit: usize,
    },
    /// The map has no room for what the host adds.
    MapFull {
        /// How many bytes the map would keep.
        bytes: usize,
        /// How many it keeps at most.
        limit: usize,
    },
    /// Too many hosts have this name in other letter case.
    SameButCase,
    /// It is negative.
    Negative,
    /// It is above this limit, which no machine reaches.
    Absurd(u64),
    /// It is an overcommit ratio, and not above 0 or too large.
    Ratio,
    /// The NUMA cells or PCI devices cannot be counted with.
    Devices(BadDevices),
}

impl fmt::Display for BadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key;
        match &self.fault {
            Fault::Empty => write!(f, "{key} is empty"),
            Fault::TooLong(limit) => write!(f, "{key} is longer than {limit}"),
            Fault::HostName => write!(
                f,
                "{key} is not 1 to {} letters A to Z, digits, and any of . _ - (and @ inside)",
                novella_objects::MAX_HOST_NAME
            ),
            Fault::ControlCharacter => write!(f, "{key} has a control character"),
            Fault::TooMuch { bytes, limit } => {
                write!(
                    f,
                    "{key} would take {bytes} bytes of memory, more than the {limit} that one host may take"
                )
            }
            Fault::MapFull { bytes, limit } => write!(
                f,
                "with {key} all hosts would take {bytes} bytes of memory, more than the {limit} that reports.max_hosts allows"
            ),
            Fault::SameButCase => {
                write!(f, "{key} differs only in letter case from the names of too many other hosts")
            }
            Fault::Negative => write!(f, "{key} is negative"),
            Fault::Absurd(limit) => write!(f, "{key} is larger than {limit}"),
            Fault::Devices(reason) => write!(f, "{key}: {reason}"),
            Fault::Ratio => {
                write!(f, "{key} must be above 0 and at most {}", novella_filter_scheduler::MAX_RATIO)
            }
        }
    }
}

/// A change of the map that a caller may want to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The host has been silent for too long.
    Down {
        /// The name of the host.
        host: String,
    },
    /// The host is silent, but the cause may be elsewhere.
    Suspect {
        /// The name of the host.
        host: String,
    },
    /// The host reports, but does not answer under its own queue.
    Unanswered {
        /// The name of the host.
        host: String,
    },
    /// The host's agent said goodbye.
    Left {
        /// The name of the host.
        host: String,
    },
    /// The host was heard again.
    Back {
        /// The name of the host.
        host: String,
        /// What the host was until now: suspect or down.
        before: HostStatus,
    },
    /// The host has a new name.
    Renamed {
        /// The new name.
        host: String,
        /// The previous name.
        from: String,
    },
    /// Another process uses the name or the identity of the host, as the warning says. It is refused.
    Conflict {
        /// The name of the host.
        host: String,
        /// The warning that is shown from now on.
        warning: HostWarning,
    },
    /// The other process of a conflict is gone.
    ConflictOver {
        /// The name of the host.
        host: String,
        /// The warning that is no longer shown.
        warning: HostWarning,
    },
    /// The host was silent for so long that it was removed from the map.
    Forgotten {
        /// The name of the host.
        host: String,
    },
    /// More than the allowed fraction of live hosts fell silent together.
    LostTogether {
        /// How many hosts fell silent.
        hosts: usize,
        /// How many hosts were live.
        live: usize,
    },
    /// A host name has a new owner.
    TakenOver {
        /// The host name.
        host: String,
        /// The previous identity.
        previous: Uuid,
        /// The new identity.
        uuid: Uuid,
    },
    /// Instances are claimed by this host and by as many others as the map lists of one instance. It is noted when the first
    /// such claim appears. The claims count as used, but filters that ask where these instances are do not see them.
    ClaimedTooOften {
        /// The name of the host.
        host: String,
        /// One of the instances.
        instance: Uuid,
        /// How many of the host's claims are not listed.
        claims: u32,
    },
    /// The host claims instances that are reserved elsewhere, or with more than it claims. The reservations stay.
    ClaimDoesNotSettle {
        /// The name of the host that claims them.
        host: String,
        /// One of the instances.
        instance: Uuid,
        /// The host on which it is reserved.
        held_on: String,
        /// How many such claims the report brought.
        claims: u32,
    },
    /// The map lists all claims of the host again.
    ClaimsListed {
        /// The name of the host.
        host: String,
    },
    /// The time of reservations ran out before a report confirmed them.
    ReservationsExpired {
        /// How many reservations.
        count: usize,
    },
}

/// How often each event happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reports that were accepted.
    pub accepted: u64,
    /// Accepted reports of hosts or services that were not known before.
    pub new: u64,
    /// Accepted reports with a goodbye.
    pub goodbye: u64,
    /// Accepted reports of an identity with a new name.
    pub renamed: u64,
    /// Accepted reports of a new identity with the name of a silent one.
    pub taken_over: u64,
    /// Reports that are known to be missed, from their sequence numbers.
    pub missed: u64,
    /// Reports refused as old.
    pub stale: u64,
    /// Reports refused because they come from a clone.
    pub cloned: u64,
    /// Reports refused because the name belongs to another identity.
    pub duplicate_name: u64,
    /// Reports refused because the host belongs to another broker user.
    pub other_user: u64,
    /// Reports refused because a number in them exceeds the last one too far.
    pub too_far: u64,
    /// Reports without identity refused because the host has one.
    pub no_identity_ignored: u64,
    /// Reports refused because the map is full.
    pub too_many: u64,
    /// Reports refused because their user has reported too many new hosts.
    pub too_many_new: u64,
    /// Reports refused because of a value.
    pub bad: u64,
    /// Hosts that went down by silence.
    pub down: u64,
    /// Hosts that became suspect.
    pub suspect: u64,
    /// Hosts that left the map.
    pub forgotten: u64,
    /// Reservations made by this scheduler's decisions.
    pub reserved: u64,
    /// Reservations received from peers.
    pub peer_reserved: u64,
    /// Reservations settled by a report.
    pub settled: u64,
    /// Claims of instances that are reserved on another host, or with more than is claimed.
    pub unsettled: u64,
    /// Reservations released before their time was up.
    pub released: u64,
    /// Reservations whose time ran out.
    pub expired: u64,
    /// Reservations of peers that were refused, because there are too many, the values are impossible, or another
    /// decision reserved the instance.
    pub peer_refused: u64,
    /// Requests answered from an earlier decision or from reports.
    pub repeated: u64,
    /// Requests refused because an instance is already placed with another specification.
    pub conflict: u64,
    /// Hosts that a filter could not decide about.
    pub filter_errors: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, applied: &Applied) {
        self.accepted += u64::from(applied.is_accepted());
        let counter = match applied {
            Applied::Updated { .. } => return,
            Applied::New => &mut self.new,
            Applied::Renamed { .. } => &mut self.renamed,
            Applied::TakenOver { .. } => &mut self.taken_over,
            Applied::Goodbye => &mut self.goodbye,
            Applied::Stale => &mut self.stale,
            Applied::Cloned { .. } => &mut self.cloned,
            Applied::DuplicateName { .. } => &mut self.duplicate_name,
            Applied::OtherUser { .. } => &mut self.other_user,
            Applied::TooFar => &mut self.too_far,
            Applied::NoIdentityIgnored => &mut self.no_identity_ignored,
            Applied::TooMany => &mut self.too_many,
            Applied::TooManyNew => &mut self.too_many_new,
            Applied::Bad(_) => &mut self.bad,
        };
        *counter += 1;
    }
}
