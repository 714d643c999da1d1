//! Moves the instances of lost hosts to other hosts, for the question of what fits after a loss.
//!
//! The largest instance moves first, each to the host with the most free memory that takes it, as schedulers that spread
//! would place them.
//!
//! What always holds: the table is not touched. What the instances take is noted on copies of the hosts' amounts.
//!
//! Left out: which hosts are lost, which the caller knows, and what an instance asks for besides amounts, which nobody
//! knows.

use std::collections::BinaryHeap;

use hashbrown::HashMap;
use novella_resources::Amounts;

use crate::table::amounts::Exact;

/// What runs on each host, by row. Rows beyond the end of a list have nothing.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// What the host holds back for itself. It does not move.
    pub held_back: Vec<Amounts>,
    /// The instances whose sizes are known.
    pub instances: Vec<Vec<Amounts>>,
}

/// The result of the moves.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// The hosts that took some, by index, each with its amounts after that.
    pub(crate) after: HashMap<usize, Exact>,
    /// How many instances could not be placed.
    pub(crate) left: u64,
}

/// Moves instances to the hosts that `order` lists by index, the one with the most free memory first. Hosts for which
/// `lost` is set are left out. `exact` gives the amounts of a host, and `fits` says whether an instance fits on a host
/// with these amounts.
pub(crate) fn move_to_others(
    mut instances: Vec<Amounts>,
    order: &[usize],
    lost: &[bool],
    exact: impl Fn(usize) -> Exact,
    fits: impl Fn(usize, &Exact, &Amounts) -> bool,
) -> Moved {
    instances.sort_unstable_by_key(|size| std::cmp::Reverse((size.memory_mb, size.vcpus, size.disk_gb)));
    let mut moved = Moved::default();
    let mut untouched = order.iter().copied().filter(|at| !lost[*at]).peekable();
    // The hosts that were looked at, by their free memory. Of equal ones the first in `order` comes first.
    let mut seen: BinaryHeap<(i64, std::cmp::Reverse<usize>)> = BinaryHeap::new();
    let mut refused: Option<Amounts> = None;
    for size in instances {
        // An instance of the same size was refused everywhere, and since then no host has got more room.
        if refused == Some(size) {
            moved.left += 1;
            continue;
        }
        let mut passed_over = Vec::new();
        let host = loop {
            let next_free = untouched.peek().map(|at| free_memory(&exact(*at)));
            let at = match (seen.peek(), next_free) {
                (Some((free, _)), next) if next.is_none_or(|next| *free >= next) => {
                    seen.pop().map(|(_, std::cmp::Reverse(at))| at)
                }
                _ => untouched.next(),
            };
            let Some(at) = at else { break None };
            let now = moved.after.get(&at).copied().unwrap_or_else(|| exact(at));
            if fits(at, &now, &size) {
                break Some((at, now));
            }
            passed_over.push((free_memory(&now), std::cmp::Reverse(at)));
        };
        seen.extend(passed_over);
        match host {
            None => (moved.left, refused) = (moved.left + 1, Some(size)),
            Some((at, mut now)) => {
                now.consumed = now.consumed.plus(size);
                seen.push((free_memory(&now), std::cmp::Reverse(at)));
                moved.after.insert(at, now);
            }
        }
    }
    moved
}

/// The memory in MiB that is free on a host by its ratio.
pub(crate) fn free_memory(exact: &Exact) -> i64 {
    (exact.capacity().limits().memory_mb - exact.used().memory_mb as f64).floor() as i64 // `as` saturates
}
