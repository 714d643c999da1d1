//! The lock of the map: who waits for it, and how questions share it with everybody else.
//!
//! The system's lock is not fair: whoever gives it back and takes it again at once nearly always gets it. So those who take it
//! often, such as a batch of reports, let others in. And questions take it by [`CoreLock::ask`], which has a budget: the time
//! for which they made somebody wait may be a twentieth of all time. A question on an idle scheduler never has to rest.
//!
//! What always holds: of those who ask, one at a time holds the lock or waits for it. So nobody else waits longer than for
//! what one question does in one go, and nineteen of twenty do not wait for a question at all, however many are asked.
//!
//! Left out: what a question does in one go. `manager.rs` cuts it into steps where that is possible.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novella_service::Clock;

/// How often the CPU is yielded to those who wait for the lock before the wait is given up.
const MAX_YIELDS: u32 = 1000;

/// Questions that made somebody wait rest so many times as long as they held the lock.
const REST: u32 = 20;
/// Time without waiting counts for later at most as this much lock time of questions.
const MAX_CREDIT: Duration = Duration::from_millis(10);
/// How long a question sleeps before it looks again whether nobody waits. It is about as long as a placement.
const GIVE_WAY: Duration = Duration::from_micros(100);
/// How often a question gives way before it takes its turn like everybody else, so that it is answered in the end.
const MAX_GIVEN_WAY: u32 = 100;

/// Why the lock cannot be poisoned.
const POISONED: &str = "no panic while the map is held";

/// See the module documentation. `T` is what the lock guards.
pub(crate) struct CoreLock<T> {
    core: Mutex<T>,
    /// How many wait for the lock.
    waiting: AtomicUsize,
    budget: Mutex<Budget>,
    clock: Clock,
}

/// How much questions may still make others wait.
struct Budget {
    /// What is left, as of `at`. Questions rest until something is left.
    left: Duration,
    /// What was taken beyond that.
    owed: Duration,
    at: Duration,
}

impl Budget {
    /// Adds what time has brought. Returns for how long a question must rest.
    fn rest(&mut self, now: Duration) -> Duration {
        let earned = now.saturating_sub(self.at) / REST;
        self.at = now;
        let more = earned.saturating_sub(self.owed);
        self.owed = self.owed.saturating_sub(earned);
        self.left = (self.left + more).min(MAX_CREDIT);
        self.owed * REST
    }

    /// Takes the time for which a question made somebody wait.
    fn charge(&mut self, held: Duration) {
        let from_credit = held.min(self.left);
        self.left -= from_credit;
        self.owed += held - from_credit;
    }
}

/// The lock, as a question holds it.
pub(crate) struct Asking<'l, T> {
    core: MutexGuard<'l, T>,
    budget: MutexGuard<'l, Budget>,
    lock: &'l CoreLock<T>,
    since: Duration,
}

impl<T> CoreLock<T> {
    pub(crate) fn new(core: T, clock: Clock) -> Self {
        let budget = Budget { left: MAX_CREDIT, owed: Duration::ZERO, at: clock.now() };
        Self { core: Mutex::new(core), waiting: AtomicUsize::new(0), budget: Mutex::new(budget), clock }
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let core = self.core.lock().expect(POISONED);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        core
    }

    /// Takes the lock for a question, which may have to rest before. It blocks the thread meanwhile.
    pub(crate) fn ask(&self) -> Asking<'_, T> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = budget.rest(self.clock.now());
        if !rest.is_zero() {
            std::thread::sleep(rest);
            budget.rest(self.clock.now());
        }
        for _ in 0..MAX_GIVEN_WAY {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::thread::sleep(GIVE_WAY);
        }
        let core = self.lock();
        Asking { core, budget, lock: self, since: self.clock.now() }
    }

    /// Waits until somebody who waited for the lock has it, or nobody waits.
    pub(crate) fn let_others_in(&self) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        for _ in 0..MAX_YIELDS {
            if waiting == 0 || self.waiting.load(Ordering::Relaxed) < waiting {
                return;
            }
            std::thread::yield_now();
        }
    }
}

impl<T> Deref for Asking<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.core
    }
}

impl<T> DerefMut for Asking<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.core
    }
}

impl<T> Drop for Asking<'_, T> {
    fn drop(&mut self) {
        if self.lock.waiting.load(Ordering::Relaxed) > 0 {
            self.budget.charge(self.lock.clock.now().saturating_sub(self.since));
        }
    }
}

#[cfg(test)]
mod tests {
    use novella_service::Env;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_twentieth_of_the_time_may_be_taken_from_others() {
        let mut budget = Budget { left: MAX_CREDIT, owed: Duration::ZERO, at: Duration::ZERO };
        assert_eq!(budget.rest(Duration::ZERO), Duration::ZERO);
        budget.charge(MAX_CREDIT);
        assert_eq!(budget.rest(Duration::ZERO), Duration::ZERO, "the credit was enough");
        budget.charge(5 * MS);
        assert_eq!(budget.rest(Duration::ZERO), 100 * MS);
        assert_eq!(budget.rest(40 * MS), 60 * MS);
        assert_eq!(budget.rest(100 * MS), Duration::ZERO);
        budget.rest(Duration::from_secs(3600));
        assert_eq!(budget.left, MAX_CREDIT, "an hour of silence does not buy more");
    }

    #[tokio::test]
    async fn only_a_question_that_makes_somebody_wait_is_charged() {
        let env = Env::system(None).expect("randomness");
        let lock = CoreLock::new(0, env.clock.clone());
        for _ in 0..100 {
            *lock.ask() += 1;
        }
        let left = |lock: &CoreLock<u32>| lock.budget.lock().expect("no panic").left;
        assert_eq!(left(&lock), MAX_CREDIT);
        std::thread::scope(|scope| {
            let asking = lock.ask();
            let waiter = scope.spawn(|| *lock.lock());
            while lock.waiting.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            drop(asking);
            assert_eq!(waiter.join().expect("no panic"), 100);
        });
        assert!(left(&lock) < MAX_CREDIT);
    }
}
