//! Remembers the last messages taken, so that a copy is not executed again.
//!
//! Copies do happen: a sender that got no confirm sends its message again, under the same `_unique_id`.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;

/// Longest id that is remembered, in bytes. Honest peers send 32.
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

    /// Remembers `id`. True if it was not remembered before.
    pub(super) fn remember(&mut self, id: &str) -> bool {
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
        assert!(seen.remember("a") && seen.remember("b"));
        assert!(!seen.remember("a"), "a repeat does not renew its place");
        assert!(seen.remember("c"));
        assert!(seen.remember("a"), "forgotten");
        assert!(!seen.remember("c"));
        assert!(seen.remember("") && seen.remember(""), "no id, no check");
        assert_eq!((seen.order.len(), seen.ids.len()), (2, 2));
    }
}
