//! Hosts and services that nobody knew before: how many of them a broker user may report, and which still must show that
//! they exist.
//!
//! After a start all hosts are new, so nothing is limited in the answer window. From then on, each user may report a number
//! of new names a minute, and a burst of as many. Such a host counts as suspect until it has answered under its own queue,
//! because anybody who may report can invent names, but only a host has its queue. Hosts of the answer window are asked
//! too, and are suspect if they do not answer.
//!
//! What always holds: the memory for users is bounded. A host is in one of the two queues at most, apart from rows that were
//! freed meanwhile.
//!
//! Left out: the question itself. The scheduler asks it.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use novella_filter_scheduler::Row;

use crate::token_bucket::{TokenBucket, TokenRate};

/// How many users are remembered. More have no allowance until others have all of theirs again.
const MAX_USERS: usize = 4096;
/// When a host that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const MINUTE: f64 = 60.0;

/// Whether a host has answered under its own queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Answers {
    /// It was there at the start and was not asked yet.
    #[default]
    NotAsked,
    /// It came later and was not asked yet.
    Expected,
    /// It did not answer.
    No,
    /// It answered.
    Yes,
}

impl Answers {
    /// Whether the host is placed on after all others.
    pub fn is_suspect(self) -> bool {
        matches!(self, Self::Expected | Self::No)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Newcomers {
    /// From when on names are limited.
    limited_from: Duration,
    /// How many new names each user may still report.
    users: HashMap<Option<Box<str>>, TokenBucket>,
    /// Hosts to ask now.
    to_ask: VecDeque<Row>,
    /// Hosts to ask later, each with the time from which on, in order.
    to_ask_again: VecDeque<(Duration, Row)>,
}

impl Default for Newcomers {
    fn default() -> Self {
        let (users, to_ask, to_ask_again) = Default::default();
        Self { limited_from: Duration::MAX, users, to_ask, to_ask_again }
    }
}

impl Newcomers {
    /// Ends the answer window at this time.
    pub fn limit_from(&mut self, from: Duration) {
        self.limited_from = from;
    }

    /// Whether the answer window is over.
    pub fn are_limited(&self, now: Duration) -> bool {
        now >= self.limited_from
    }

    /// Whether a user may report one more new name. If so, it is counted.
    pub fn admit(&mut self, user: Option<&str>, per_minute: u32, now: Duration) -> bool {
        if !self.are_limited(now) {
            return true;
        }
        let most = f64::from(per_minute);
        let rate = TokenRate { per_second: most / MINUTE, most };
        let user = user.map(Box::<str>::from);
        if self.users.len() >= MAX_USERS && !self.users.contains_key(&user) {
            self.users.retain(|_, bucket| !bucket.is_full(rate, now));
            if self.users.len() >= MAX_USERS {
                return false;
            }
        }
        self.users.entry(user).or_insert_with(|| TokenBucket::full(rate, now)).take(rate, now)
    }

    /// Has a new host asked. Returns what is known of it until then.
    pub fn expect(&mut self, row: Row, now: Duration) -> Answers {
        self.expect_now(row);
        if self.are_limited(now) { Answers::Expected } else { Answers::NotAsked }
    }

    /// Has a host asked now.
    pub fn expect_now(&mut self, row: Row) {
        self.to_ask.push_back(row);
    }

    /// Has a host that did not answer asked again later.
    pub fn expect_later(&mut self, row: Row, now: Duration) {
        self.to_ask_again.push_back((now.saturating_add(ASK_AGAIN), row));
    }

    /// The next host to ask. There is none in the answer window, because the start is load enough.
    pub fn next(&mut self, now: Duration) -> Option<Row> {
        if !self.are_limited(now) {
            return None;
        }
        if let Some(row) = self.to_ask.pop_front() {
            return Some(row);
        }
        let (_, row) = *self.to_ask_again.front().filter(|(from, _)| *from <= now)?;
        self.to_ask_again.pop_front();
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_user_may_report_so_many_new_names_a_minute() {
        let mut newcomers = Newcomers::default();
        assert!((0..1000).all(|_| newcomers.admit(Some("a"), 60, s(0))), "nothing is limited at the start");
        newcomers.limit_from(s(10));
        let mut admitted = |user, now| (0..1000).filter(|_| newcomers.admit(user, 60, s(now))).count();
        assert_eq!((admitted(Some("a"), 10), admitted(Some("b"), 10), admitted(None, 10)), (60, 60, 60));
        assert_eq!((admitted(Some("a"), 11), admitted(Some("a"), 15), admitted(Some("a"), 500)), (1, 4, 60));
    }

    #[test]
    fn very_many_users_take_little_memory() {
        let mut newcomers = Newcomers::default();
        newcomers.limit_from(s(0));
        let admitted = (0..10_000).filter(|n| newcomers.admit(Some(&format!("u{n}")), 60, s(0))).count();
        assert_eq!((admitted, newcomers.users.len()), (MAX_USERS, MAX_USERS));
        assert!(newcomers.admit(Some("late"), 60, s(1)), "the others have all of theirs again");
        assert_eq!(newcomers.users.len(), 1);
    }

    #[test]
    fn who_did_not_answer_is_asked_again_after_the_new_ones() {
        let mut newcomers = Newcomers::default();
        assert_eq!(newcomers.expect(Row::at(1), s(0)), Answers::NotAsked);
        assert_eq!(newcomers.next(s(5)), None);
        newcomers.limit_from(s(6));
        assert_eq!(newcomers.expect(Row::at(2), s(6)), Answers::Expected);
        newcomers.expect_later(Row::at(3), s(6));
        let next: Vec<_> = std::iter::from_fn(|| newcomers.next(s(65))).collect();
        assert_eq!(next, [Row::at(1), Row::at(2)]);
        assert_eq!((newcomers.next(s(66)), newcomers.next(s(66))), (Some(Row::at(3)), None));
    }
}
