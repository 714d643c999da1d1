//! Copies of the map that clients read page by page.
//!
//! A copy is kept until its last page was sent to all who read it, or nobody has asked for a page for [`KEPT_FOR`]. At most
//! [`MAX_KEPT`] are kept; a new one replaces the oldest. While that many are being read, who starts to read shares the newest
//! one if it is not older than [`SHARED_FOR`], so that many readers do not take each other's copies away.
//!
//! Left out: taking the copy and writing its pages (`calls/snapshot.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novella_fleet_documents::MapSnapshot;

/// Maximum number of copies kept at a time. Each is as large as the map.
const MAX_KEPT: usize = 2;
/// How old a copy may be that another reader gets instead of a new one, while as many as possible are being read.
const SHARED_FOR: Duration = Duration::from_secs(1);
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
    /// When the copy was taken, by the monotonic clock.
    taken: Duration,
    /// How many clients read it.
    readers: u32,
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
        state.kept.push(Kept { id, taken: now, readers: 1, asked: now, snapshot: snapshot.clone() });
        (id, snapshot)
    }

    /// The newest copy with its id, for one more reader, if it may be shared now.
    pub(crate) fn share(&self, now: Duration) -> Option<(u64, Arc<MapSnapshot>)> {
        let mut state = self.state();
        if state.kept.len() < MAX_KEPT {
            return None;
        }
        let newest = state.kept.last_mut().filter(|kept| now.saturating_sub(kept.taken) <= SHARED_FOR)?;
        newest.readers += 1;
        newest.asked = now;
        Some((newest.id, newest.snapshot.clone()))
    }

    /// The copy with this id. It is kept for another [`KEPT_FOR`].
    pub(crate) fn ask(&self, id: u64, now: Duration) -> Option<Arc<MapSnapshot>> {
        let mut state = self.state();
        let kept = state.kept.iter_mut().find(|kept| kept.id == id)?;
        kept.asked = now;
        Some(kept.snapshot.clone())
    }

    /// Notes that a client has read the copy of this id to its end. After the last reader it is forgotten.
    pub(crate) fn end(&self, id: u64) {
        self.state().kept.retain_mut(|kept| {
            kept.readers -= u32::from(kept.id == id);
            kept.readers > 0
        });
    }

    /// Drops the copies that nobody asks for any more.
    pub(crate) fn forget_old(&self, now: Duration) {
        self.state().kept.retain(|kept| now.saturating_sub(kept.asked) < KEPT_FOR);
    }
}

#[cfg(test)]
mod tests {
    use novella_filter_scheduler::SchedulerOptions;
    use novella_host_manager::{HostManager, HostManagerOptions};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn copy() -> MapSnapshot {
        let copy = HostManager::new(HostManagerOptions::default(), "s1").copy(S);
        MapSnapshot::new(copy, &SchedulerOptions::default())
    }

    #[test]
    fn readers_share_a_copy_when_there_is_no_room_for_another_and_each_reads_it_to_its_end() {
        let kept = KeptSnapshots::default();
        let (first, _) = kept.keep(copy(), S);
        assert!(kept.share(S).is_none(), "there is room for a new one");
        let (second, _) = kept.keep(copy(), S);
        assert_eq!(kept.share(2 * S).map(|(id, _)| id), Some(second));
        assert!(kept.share(3 * S).is_none(), "it is too old");
        kept.end(second);
        assert!(kept.ask(second, 3 * S).is_some(), "one reader is left");
        kept.end(second);
        assert!(kept.ask(second, 3 * S).is_none());
        assert!(kept.ask(first, 3 * S).is_some());
        kept.forget_old(3 * S + KEPT_FOR);
        assert!(kept.ask(first, 3 * S).is_none());
    }
}
