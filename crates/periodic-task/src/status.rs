//! The books of each task: what it did last and how often, readable at any time.
//!
//! What always holds: a run is entered when it starts and closed when it ends, also when it is cut off by dropping the
//! runner. The lock is held for a few assignments and never across an await or a call into a task.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// One task's state at the moment it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// The method's name.
    pub name: &'static str,
    /// False for a task that was switched off when the runner started.
    pub enabled: bool,
    /// Whether a run is in progress.
    pub running: bool,
    /// When the newest run started, the one in progress included.
    pub last_run_started: Option<Instant>,
    /// How long the newest finished run took.
    pub last_duration: Option<Duration>,
    /// How the newest finished run ended.
    pub last_outcome: Option<Outcome>,
    /// Runs started, the one in progress included.
    pub runs: u64,
    /// Runs that returned an error.
    pub failures: u64,
    /// Runs that panicked; not counted as failures.
    pub panics: u64,
    /// Ticks that had no run of their own because an earlier run or a stall outlasted them.
    pub missed_ticks: u64,
    /// When the timer starts it next. In the past while a run outlasts its tick: then as soon as that run is over.
    /// `None` if the timer does not: switched off, too far away for the clock, or the runner has stopped.
    pub next_due: Option<Instant>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned `()` or `Ok`.
    Success,
    /// It returned this error, its sources included.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
}

/// The books of one task, shared by its loop and all handles.
pub struct Record(Mutex<TaskStatus>);

impl Record {
    pub fn new(name: &'static str, enabled: bool, next_due: Option<Instant>) -> Self {
        Self(Mutex::new(TaskStatus {
            name,
            enabled,
            running: false,
            last_run_started: None,
            last_duration: None,
            last_outcome: None,
            runs: 0,
            failures: 0,
            panics: 0,
            missed_ticks: 0,
            next_due,
        }))
    }

    pub fn read(&self) -> TaskStatus {
        self.status().clone()
    }

    pub fn schedule(&self, next_due: Option<Instant>, missed_ticks: u64) {
        let mut status = self.status();
        status.next_due = next_due;
        status.missed_ticks = status.missed_ticks.saturating_add(missed_ticks);
    }

    pub fn begin(&self, now: Instant) -> InFlight<'_> {
        let mut status = self.status();
        status.running = true;
        status.last_run_started = Some(now);
        status.runs += 1;
        InFlight(self)
    }

    fn status(&self) -> MutexGuard<'_, TaskStatus> {
        self.0.lock().expect("plain assignments under this lock do not panic")
    }
}

/// A run in progress; over when dropped.
pub struct InFlight<'a>(&'a Record);

impl InFlight<'_> {
    pub fn finish(self, took: Duration, outcome: Outcome) {
        let mut status = self.0.status();
        match outcome {
            Outcome::Success => {}
            Outcome::Failed(_) => status.failures += 1,
            Outcome::Panicked(_) => status.panics += 1,
        }
        status.last_duration = Some(took);
        status.last_outcome = Some(outcome);
        drop(status); // before `self`, whose end takes the lock again
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.status().running = false;
    }
}
