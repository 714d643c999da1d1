//! How many hosts share their name or their identity with another process at the moment.
//!
//! What always holds: only hosts that show such a warning are looked at, so a fleet without conflicts costs nothing.

use novella_objects::HostWarning;

use crate::map::host_map::HostMap;

/// How many hosts are in conflict with another process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// Hosts whose identity another process has a copy of.
    pub cloned_identity: usize,
    /// Hosts under whose name another identity reports.
    pub duplicate_name: usize,
    /// Hosts as which another broker user reports than the one to whom they belong.
    pub other_user: usize,
}

/// Counts the hosts in conflict.
pub(crate) fn conflicts(map: &HostMap) -> Conflicts {
    let showing = |is: fn(&HostWarning) -> bool| {
        let shows = |row: &&_| map.record(**row).warnings.iter().any(|(warning, _)| is(warning));
        map.conflicts.iter().filter(shows).count()
    };
    Conflicts {
        cloned_identity: showing(|warning| matches!(warning, HostWarning::ClonedIdentity { .. })),
        duplicate_name: showing(|warning| matches!(warning, HostWarning::DuplicateName { .. })),
        other_user: showing(|warning| matches!(warning, HostWarning::OtherUser { .. })),
    }
}
