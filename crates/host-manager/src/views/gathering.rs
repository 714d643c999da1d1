//! Reads something of every host, a few hosts at a time, so that a question about the fleet never locks the map for long.
//!
//! Hosts change between two steps. What was read of them before is read again: in further steps while many have changed, and
//! in the last one for the few that are left.
//!
//! What always holds: after [`Gathering::finish`], everything is what the map says at that one instant.
//!
//! Left out: what is read of a host, which each view decides, and how long the lock is held, which the caller decides.

use std::sync::Arc;

use novella_filter_scheduler::Row;

use crate::map::host_map::{HostMap, Revision};
use crate::policy::file::PolicyFile;

/// How much is read in one step. A host counts one, and another one for each [`CLAIMS`] claims. It takes tens of
/// microseconds.
const STEP: usize = 64;
/// See [`STEP`].
const CLAIMS: usize = 16;
/// How many changed hosts are left for the last step.
const FEW: usize = 256;
/// How often the fleet is walked at most before the last step, however many hosts change meanwhile.
const MAX_WALKS: u32 = 4;

/// What was read of the hosts so far.
#[derive(Debug, Clone)]
pub struct Gathering<T> {
    /// For each row, when it was read and what was read of the host. `None` where no host was.
    read: Vec<(Revision, Option<T>)>,
    /// The policy by which the hosts were read. Another one may concern all of them.
    policy: Option<Arc<PolicyFile>>,
    /// The row at which the current walk goes on.
    next: usize,
    /// How many walks are done, and how many hosts the current one has read.
    walks: u32,
    found: usize,
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self { read: Vec::new(), policy: None, next: 0, walks: 0, found: 0 }
    }
}

impl<T> Gathering<T> {
    /// Reads some more hosts. Returns true when it is time to finish.
    pub(crate) fn step(&mut self, map: &HostMap, read: impl Fn(&HostMap, Row) -> T) -> bool {
        self.follow_policy(map);
        let mut work = 0;
        while work < STEP {
            let Some(row) = self.next_changed(map) else {
                self.walks += 1;
                self.next = 0;
                return std::mem::take(&mut self.found) <= FEW || self.walks >= MAX_WALKS;
            };
            work += self.read(map, row, &read);
            self.found += 1;
        }
        false
    }

    /// Reads what has changed since it was read.
    pub(crate) fn finish(&mut self, map: &HostMap, read: impl Fn(&HostMap, Row) -> T) {
        self.follow_policy(map);
        self.next = 0;
        while let Some(row) = self.next_changed(map) {
            self.read(map, row, &read);
        }
    }

    /// What was read, in the order of the rows.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.read.into_iter().filter_map(|(_, value)| value)
    }

    fn follow_policy(&mut self, map: &HostMap) {
        if !self.policy.as_ref().is_some_and(|policy| Arc::ptr_eq(policy, &map.policy)) {
            self.policy = Some(Arc::clone(&map.policy));
            self.read.clear();
            self.next = 0;
        }
    }

    /// The next row that has changed since it was read.
    fn next_changed(&mut self, map: &HostMap) -> Option<Row> {
        for at in self.next..map.records.len() {
            if self.read.get(at).is_none_or(|(revision, _)| *revision != map.revision(Row::at(at))) {
                self.next = at + 1;
                return Some(Row::at(at));
            }
        }
        None
    }

    /// Reads a row. Returns how much work that was.
    fn read(&mut self, map: &HostMap, row: Row, read: impl Fn(&HostMap, Row) -> T) -> usize {
        let record = map.records[row.index()].as_deref();
        let new = (map.revision(row), record.map(|_| read(map, row)));
        match self.read.get_mut(row.index()) {
            Some(known) => *known = new,
            None => self.read.push(new),
        }
        1 + record.map_or(0, |record| record.claims.rows().len() / CLAIMS)
    }
}
