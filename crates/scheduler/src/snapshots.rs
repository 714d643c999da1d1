//! Snapshots of the map, told page by page: a fleet of any size, and all of it of one instant.
//!
//! The first page takes the copy; it is kept until its last page is told, or nobody asked for [`KEPT_FOR`]. No more than
//! [`KEPT`] are, the oldest gives way: whoever asks for a page of one that is gone is told to begin anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novella_fleet_documents::MapSnapshot;
use novella_messaging::{CallError, answer};
use novella_rpcapi::{SnapshotCursor, SnapshotPage};

use crate::call_errors::bad_arguments;
use crate::manager::SchedulerManager;

/// Copies kept at a time; each is as large as the map.
const KEPT: usize = 2;
/// A client that takes longer between two pages is gone.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// A page ends with the host that reaches this. A broker takes messages of 16 MiB; a host's own text has a bound too.
const PAGE_BYTES: usize = 4 << 20;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// Oldest first.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    asked: Duration,
    snapshot: Arc<MapSnapshot>,
}

impl Snapshots {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, snapshot: MapSnapshot, now: Duration) -> (u64, Arc<MapSnapshot>) {
        let mut state = self.state();
        state.last_id += 1;
        let (id, snapshot) = (state.last_id, Arc::new(snapshot));
        if state.kept.len() == KEPT {
            state.kept.remove(0);
        }
        state.kept.push(Kept { id, asked: now, snapshot: snapshot.clone() });
        (id, snapshot)
    }

    fn find(&self, id: u64, now: Duration) -> Option<Arc<MapSnapshot>> {
        let mut state = self.state();
        let kept = state.kept.iter_mut().find(|kept| kept.id == id)?;
        kept.asked = now;
        Some(kept.snapshot.clone())
    }

    fn forget(&self, id: u64) {
        self.state().kept.retain(|kept| kept.id != id);
    }

    /// Forgets those that nobody asks for any more.
    pub(crate) fn forget_old(&self, now: Duration) {
        self.state().kept.retain(|kept| now.saturating_sub(kept.asked) < KEPT_FOR);
    }
}

impl SchedulerManager {
    /// The first page of a new snapshot, or a further one.
    pub(crate) fn snapshot_page(&self, cursor: Option<SnapshotCursor>) -> Result<SnapshotPage, CallError> {
        let (id, from, snapshot) = match cursor {
            None => {
                let (copy, options, now) = {
                    let (mut core, now) = self.core();
                    (core.hosts.copy(now), core.engine.options().clone(), now)
                };
                let (id, snapshot) = self.snapshots.keep(MapSnapshot::new(copy, &options), now);
                (id, 0, snapshot)
            }
            Some(SnapshotCursor { scheduler, id, from }) => {
                let found = self.snapshots.find(id, self.env.clock.now());
                let found = found.filter(|_| scheduler == self.options.name);
                let snapshot = found.ok_or_else(|| {
                    let scheduler = &self.options.name;
                    bad_arguments(format!("{scheduler} no longer has snapshot {id}; ask for a new one"))
                })?;
                (id, from, snapshot)
            }
        };
        let head = (from == 0).then(|| answer(&snapshot.head())).transpose()?;
        let (mut hosts, mut bytes) = (Vec::new(), 0);
        for host in snapshot.hosts(from) {
            let host = answer(&host)?;
            bytes += host.get().len();
            hosts.push(host);
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        let told = from.saturating_add(hosts.len());
        let next = (told < snapshot.len()).then(|| SnapshotCursor {
            scheduler: self.options.name.clone(),
            id,
            from: told,
        });
        if next.is_none() {
            self.snapshots.forget(id);
        }
        Ok(SnapshotPage { head, hosts, next })
    }
}
