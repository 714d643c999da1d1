//! The status of each task: what it did last and how often. It can be read at any time.
//!
//! What always holds: a run is entered when it starts and closed when it ends, even if it ends because the runner is
//! dropped. The lock is held for a few assignments, and never across an await or a call into a task.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// The status of one task at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// The method's name.
    pub name: &'static str,
    /// Whether the task runs at all. Read when the runner started.
    pub enabled: bool,
    /// Whether a run is in progress.
    pub running: bool,
    /// When the newest run started, including one in progress.
    pub last_run_started: Option<Instant>,
    /// How long the newest finished run took.
    pub last_duration: Option<Duration>,
    /// How the newest finished run ended.
    pub last_outcome: Option<RunOutcome>,
    /// How many runs started, including one in progress.
    pub runs: u64,
    /// How many runs returned an error.
    pub failures: u64,
    /// How many runs panicked. They do not count as failures.
    pub panics: u64,
    /// How many ticks had no run of their own, because an earlier run or a stall outlasted them.
    pub missed_ticks: u64,
    /// When the timer starts the next run. In the past while a run outlasts its tick: the next one then follows at once.
    /// `None` if there is none, because the task is switched off, the time is out of the clock's range, or the runner has
    /// stopped.
    pub next_due: Option<Instant>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// The run returned `()` or `Ok`.
    Success,
    /// The run returned this error. The text includes the sources.
    Failed(String),
    /// The run panicked with this message.
    Panicked(String),
}

/// The status of one task, shared by its loop and all handles.
pub struct SharedStatus(Mutex<TaskStatus>);

impl SharedStatus {
    pub fn new(name: &'static str, enabled: bool, next_due: Option<Instant>) -> Self {
        Self(Mutex::new(TaskStatus { name, enabled, next_due, ..TaskStatus::default() }))
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

/// A run in progress. Dropping it ends the run in the status.
pub struct InFlight<'a>(&'a SharedStatus);

impl InFlight<'_> {
    pub fn finish(self, took: Duration, outcome: RunOutcome) {
        let mut status = self.0.status();
        match outcome {
            RunOutcome::Success => {}
            RunOutcome::Failed(_) => status.failures += 1,
            RunOutcome::Panicked(_) => status.panics += 1,
        }
        status.last_duration = Some(took);
        status.last_outcome = Some(outcome);
        drop(status); // because dropping `self` takes the lock again
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.status().running = false;
    }
}
