//! `snapshot`: the map as a document, page by page, so that a fleet of any size can be read as it was at one instant.
//!
//! The first page takes a copy of the map, which is kept for the further pages (`kept_snapshots.rs`). If the copy is gone,
//! the client must start again. While several snapshots are being read, a new reader may get a copy that is a second old.

use novella_fleet_documents::MapSnapshot;
use novella_host_manager::{CopyInProgress, HostManager};
use novella_messaging::{CallError, answer};
use novella_rpcapi::{SnapshotCursor, SnapshotPage};

use crate::call_errors::bad_arguments;
use crate::manager::SchedulerManager;

/// A page ends with the host that brings it to this many bytes. Brokers take messages of 16 MiB, and the text of a single
/// host is bounded too.
const PAGE_BYTES: usize = 4 << 20;

/// Answers the call: the first page of a new snapshot, or the page at the cursor.
pub(crate) fn snapshot(
    manager: &SchedulerManager,
    cursor: Option<SnapshotCursor>,
) -> Result<SnapshotPage, CallError> {
    let name = &manager.options.name;
    let (id, from, snapshot) = match cursor {
        None => match manager.snapshots.share(manager.env.clock.now()) {
            Some((id, snapshot)) => (id, 0, snapshot),
            None => {
                let copying = CopyInProgress::default();
                let copy = |hosts: &HostManager, copying: &mut CopyInProgress, _| hosts.copy_some(copying);
                let (copy, options, now) = manager.ask_in_steps(copying, copy, |core, copying, now| {
                    (core.hosts.finish_copy(copying, now), core.engine.options().clone(), now)
                });
                let (id, snapshot) = manager.snapshots.keep(MapSnapshot::new(copy, &options), now);
                (id, 0, snapshot)
            }
        },
        Some(SnapshotCursor { scheduler, id, from }) => {
            let kept =
                if scheduler == *name { manager.snapshots.ask(id, manager.env.clock.now()) } else { None };
            let snapshot = kept.ok_or_else(|| {
                bad_arguments(format!("scheduler {name} no longer has snapshot {id}; start a new one"))
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
    let end = from.saturating_add(hosts.len());
    let next = (end < snapshot.len()).then(|| SnapshotCursor { scheduler: name.clone(), id, from: end });
    if next.is_none() {
        manager.snapshots.end(id);
    }
    Ok(SnapshotPage { head, hosts, next })
}
