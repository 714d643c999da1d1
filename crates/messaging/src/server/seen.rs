//! The last messages taken, so that a copy is not executed again.
//!
//! Copies are real: a sender whose confirm did not come sends once more, under the same `_unique_id`.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;

/// Longer ids are not remembered: a peer's are 32 characters.
const MAX_ID: usize = 64;

/// A first-in-first-out set of bounded size.
pub(super) struct Seen {
    order: VecDeque<Box<str>>,
    ids: HashSet<Box<str>>,
    limit: NonZeroUsize,
}

impl Seen {
    pub(super) fn new(limit: NonZeroUsize) -> Self {
        Self { order: VecDeque::new(), ids: HashSet::new(), limit }
    }

    /// Whether `id` was not here before; it is from now on.
    pub(super) fn first_time(&mut self, id: &str) -> bool {
        if id.is_empty() || id.len() > MAX_ID {
            return true;
        }
        if self.ids.contains(id) {
            return false;
        }
        if self.order.len() >= self.limit.get()
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.ids.insert(id.into());
        self.order.push_back(id.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut seen = Seen::new(NonZeroUsize::new(2).unwrap());
        assert!(seen.first_time("a") && seen.first_time("b"));
        assert!(!seen.first_time("a"), "a repeat does not renew its place");
        assert!(seen.first_time("c"));
        assert!(seen.first_time("a"), "forgotten");
        assert!(!seen.first_time("c"));
        assert!(seen.first_time("") && seen.first_time(""), "no id, no check");
        assert_eq!((seen.order.len(), seen.ids.len()), (2, 2));
    }
}
