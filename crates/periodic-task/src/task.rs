//! What a periodic task is: the record that `#[periodic_tasks]` makes of each marked method.
//!
//! The record is plain data. `enabled` and the schedule are read from the manager once, when the runner starts.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The error of a task: any error, or a text (`"no answer".into()`). The runner logs it with its sources.
pub type TaskError = Box<dyn Error + Send + Sync + 'static>;

/// One run in progress.
pub type TaskRun = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send + 'static>>;

/// A manager whose methods run on the timer. `#[periodic_tasks]` implements it.
pub trait PeriodicTasks: Send + Sync + 'static {
    /// The tasks, in the order of their methods.
    fn periodic_tasks(&self) -> Vec<PeriodicTask<Self>>
    where
        Self: Sized;
}

/// One registered method of the manager `M`.
#[derive(Debug)]
pub struct PeriodicTask<M> {
    /// Name of the method. [`nudge`](crate::RunnerHandle::nudge), status and logs call the task by it.
    pub name: &'static str,
    /// How often the task runs.
    pub schedule: Schedule,
    /// Whether the task also runs at once when the runner starts.
    pub run_immediately: bool,
    /// Whether the task runs at all.
    pub enabled: bool,
    /// Starts one run.
    pub run: fn(Arc<M>) -> TaskRun,
}

/// How often a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Once per `periodic_interval`.
    EveryTick,
    /// Once per this duration. Zero means every tick, as in Nova's configuration files.
    Spacing(Duration),
    /// The form that Nova had in 2012: after `n` ticks without a run comes one with a run. So the first run is on tick
    /// `n + 1`, and the period is `n + 1` times `periodic_interval`.
    TicksBetweenRuns(u32),
}

/// What a task may return: `()`, or a `Result<(), E>` whose error becomes a [`TaskError`].
#[diagnostic::on_unimplemented(
    message = "a periodic task cannot return `{Self}`",
    label = "write `-> Result<(), TaskError>`, or no return type at all",
    note = "any `Result<(), E>` will do whose `E` is an error, a `String` or a `&str`"
)]
pub trait TaskOutput {
    /// The outcome of the run.
    fn into_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), TaskError> {
        Ok(())
    }
}

impl<E: Into<TaskError>> TaskOutput for Result<(), E> {
    fn into_result(self) -> Result<(), TaskError> {
        self.map_err(Into::into)
    }
}
