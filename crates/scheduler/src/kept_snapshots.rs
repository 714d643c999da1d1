//! Copies of the map that clients read page by page.
//!
//! A copy is kept until its last page was sent, or nobody has asked for a page for [`KEPT_FOR`]. At most [`MAX_KEPT`] are
//! kept; a new one replaces the oldest.
//!
//! Left out: taking the copy and writing its pages (`calls/snapshot.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novella_fleet_documents::MapSnapshot;

/// Maximum number of copies kept at a time. Each is as large as the map.
const MAX_KEPT: usize = 2;
/// How long a copy is kept after a page was asked for. A client that takes longer is assumed to be gone.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct KeptSnapshots(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// Oldest first.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    /// When a page was last asked for, by the monotonic clock.
    asked: Duration,
    snapshot: Arc<MapSnapshot>,
}

impl KeptSnapshots {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a new copy. Returns it with the id by which it is found.
    pub(crate) fn keep(&self, snapshot: MapSnapshot, now: Duration) -> (u64, Arc<MapSnapshot>) {
        let mut state = self.state();
        state.last_id += 1;
        let (id, snapshot) = (state.last_id, Arc::new(snapshot));
        if state.kept.len() == MAX_KEPT {
            state.kept.remove(0);
        }
        state.kept.push(Kept { id, asked: now, snapshot: snapshot.clone() });
        (id, snapshot)
    }

    /// The copy with this id. It is kept for another [`KEPT_FOR`].
    pub(crate) fn ask(&self, id: u64, now: Duration) -> Option<Arc<MapSnapshot>> {
        let mut state = self.state();
        let kept = state.kept.iter_mut().find(|kept| kept.id == id)?;
        kept.asked = now;
        Some(kept.snapshot.clone())
    }

    /// Forgets the copy of this id.
    pub(crate) fn forget(&self, id: u64) {
        self.state().kept.retain(|kept| kept.id != id);
    }

    /// Drops the copies that nobody asks for any more.
    pub(crate) fn forget_old(&self, now: Duration) {
        self.state().kept.retain(|kept| now.saturating_sub(kept.asked) < KEPT_FOR);
    }
}
