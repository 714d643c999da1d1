//! The instances whose reservations were released a moment ago.
//!
//! A host lists its holds. A report that it made just before it heard of a release lists what was released, and must not bring it
//! back.
//!
//! What always holds: no more than [`MOST`] are remembered, and none for longer than [`REMEMBERED`] after the next look at the
//! clock.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use uuid::Uuid;

/// How long a release is remembered. Hosts hear of it within moments, and report soon after.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How many releases are remembered. With more, the oldest are forgotten.
const MOST: usize = 65_536;

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// In the order of their release. Those that were released since the last look at the clock have no end yet.
    order: VecDeque<(Uuid, Option<Duration>)>,
    /// How often each instance is in the list.
    count: HashMap<Uuid, u32>,
    /// How many at the end of the list have no end yet.
    new: usize,
}

impl Released {
    /// Notes that an instance was released.
    pub fn note(&mut self, uuid: Uuid) {
        if self.order.len() == MOST {
            self.forget_oldest();
        }
        self.order.push_back((uuid, None));
        *self.count.entry(uuid).or_default() += 1;
        self.new += 1;
    }

    /// Whether an instance was released a moment ago.
    pub fn contains(&self, uuid: &Uuid) -> bool {
        self.count.contains_key(uuid)
    }

    /// Takes note of the time.
    pub fn advance(&mut self, now: Duration) {
        for (_, end) in self.order.iter_mut().rev().take(self.new) {
            *end = Some(now.saturating_add(REMEMBERED));
        }
        self.new = 0;
        while let Some((_, Some(end))) = self.order.front()
            && *end <= now
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((uuid, _)) = self.order.pop_front() else { return };
        self.new = self.new.min(self.order.len());
        if let Some(count) = self.count.get_mut(&uuid) {
            *count -= 1;
            if *count == 0 {
                self.count.remove(&uuid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_remembered_for_a_while_and_not_too_many_are() {
        let s = Duration::from_secs;
        let mut released = Released::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        released.note(a);
        released.advance(s(5));
        released.note(a);
        released.note(b);
        released.advance(s(14));
        assert!(released.contains(&a) && released.contains(&b));
        released.advance(s(15));
        assert!(released.contains(&a), "it was released again");
        released.advance(s(24));
        assert!(!released.contains(&a) && !released.contains(&b) && released.count.is_empty());
        (0..2 * MOST as u128).for_each(|n| released.note(Uuid::from_u128(n)));
        assert_eq!((released.order.len(), released.count.len(), released.new), (MOST, MOST, MOST));
        released.advance(s(100));
        released.advance(s(110));
        assert!(released.order.is_empty());
    }
}
