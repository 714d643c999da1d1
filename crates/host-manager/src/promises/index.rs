//! Finds promises by what ends them: their decision, or their time.
//!
//! A message of a few bytes may release a decision, and every placement ends the promises whose time is up. Neither may
//! cost a walk over all promises.
//!
//! What always holds: the index lists exactly the promises that were added and not removed since.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use uuid::Uuid;

/// The instances of all promises, by decision and by time.
#[derive(Debug, Default)]
pub(crate) struct PromiseIndex {
    by_decision: HashMap<Arc<str>, HashSet<Uuid>>,
    by_expiry: BTreeSet<(Duration, Uuid)>,
}

impl PromiseIndex {
    pub fn add(&mut self, uuid: Uuid, decision_id: &Arc<str>, expires: Duration) {
        self.by_decision.entry_ref(decision_id).or_default().insert(uuid);
        self.by_expiry.insert((expires, uuid));
    }

    pub fn remove(&mut self, uuid: Uuid, decision_id: &str, expires: Duration) {
        self.by_expiry.remove(&(expires, uuid));
        remove_from(&mut self.by_decision, decision_id, uuid);
    }

    /// The instances of one decision, in order.
    pub fn of_decision(&self, decision_id: &str) -> Vec<Uuid> {
        let mut uuids: Vec<_> = self.by_decision.get(decision_id).into_iter().flatten().copied().collect();
        uuids.sort_unstable();
        uuids
    }

    /// The promise that ends first, if its time is up.
    pub fn next_expired(&self, now: Duration) -> Option<Uuid> {
        self.by_expiry.first().filter(|(expires, _)| *expires <= now).map(|(_, uuid)| *uuid)
    }
}

/// Removes an instance from the set under a key. An empty set is removed with its key.
pub(crate) fn remove_from<K, Q>(sets: &mut HashMap<K, HashSet<Uuid>>, key: &Q, uuid: Uuid)
where
    K: Eq + std::hash::Hash,
    Q: std::hash::Hash + hashbrown::Equivalent<K> + ?Sized,
{
    if let Some(set) = sets.get_mut(key) {
        set.remove(&uuid);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
