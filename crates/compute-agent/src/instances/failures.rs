//! The builds that failed lately, and how many failed in a row.
//!
//! What always holds: the list is bounded. The number of failures is halved with time, so that a host which is healthy again gets
//! instances again even if nobody tries it.
//!
//! Left out: the disk. A new process starts without failures.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use crate::claims::record::InstanceRecord;

/// How many failed instances are remembered, for questions about their events.
const REMEMBERED: usize = 64;
/// How many of them a report lists: the newest.
const LISTED: usize = 16;
/// The number of failures in a row is halved each time this has passed.
const HALVED_AFTER: Duration = Duration::from_secs(600);

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// Newest first.
    instances: VecDeque<(Uuid, InstanceRecord)>,
    in_a_row: u32,
    /// When `in_a_row` was last raised or halved.
    since: Duration,
}

impl Failures {
    /// Remembers an instance whose build has failed and whose guest is gone.
    pub fn remember(&mut self, uuid: Uuid, record: InstanceRecord) {
        self.forget(&uuid);
        self.instances.push_front((uuid, record));
        self.instances.truncate(REMEMBERED);
    }

    /// Forgets an instance, because it is built again or was deleted.
    pub fn forget(&mut self, uuid: &Uuid) {
        self.instances.retain(|(known, _)| known != uuid);
    }

    /// What is known of a failed instance.
    pub fn get(&self, uuid: &Uuid) -> Option<&InstanceRecord> {
        self.instances.iter().find(|(known, _)| known == uuid).map(|(_, record)| record)
    }

    /// Those that a report lists, newest first.
    pub fn listed(&self) -> impl Iterator<Item = &(Uuid, InstanceRecord)> {
        self.instances.iter().take(LISTED)
    }

    /// Counts a build that failed by this host's fault.
    pub fn count(&mut self, now: Duration) {
        (self.in_a_row, self.since) = (self.in_a_row(now).saturating_add(1), now);
    }

    /// Notes that a build has succeeded.
    pub fn reset(&mut self) {
        self.in_a_row = 0;
    }

    /// How many builds failed in a row.
    pub fn in_a_row(&self, now: Duration) -> u32 {
        let halvings = now.saturating_sub(self.since).as_secs() / HALVED_AFTER.as_secs();
        u32::try_from(halvings).ok().and_then(|by| self.in_a_row.checked_shr(by)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_halved_with_time_and_end_with_a_success() {
        let s = Duration::from_secs;
        let mut failures = Failures::default();
        (0..5).for_each(|_| failures.count(s(100)));
        let after = [100, 699, 700, 1300, 1900, 1_000_000].map(|at| failures.in_a_row(s(at)));
        assert_eq!(after, [5, 5, 2, 1, 0, 0]);
        failures.count(s(700));
        assert_eq!(failures.in_a_row(s(700)), 3);
        failures.reset();
        assert_eq!(failures.in_a_row(s(700)), 0);
    }

    #[test]
    fn the_newest_failures_are_kept_and_listed() {
        let mut failures = Failures::default();
        (0..100).for_each(|n| failures.remember(Uuid::from_u128(n), InstanceRecord::default()));
        let listed: Vec<u128> = failures.listed().map(|(uuid, _)| uuid.as_u128()).collect();
        assert_eq!(listed, (84..100).rev().collect::<Vec<_>>());
        assert!(failures.get(&Uuid::from_u128(36)).is_some() && failures.get(&Uuid::from_u128(35)).is_none());
        failures.forget(&Uuid::from_u128(99));
        assert_eq!(failures.listed().next().unwrap().0, Uuid::from_u128(98));
    }
}
