//! Runs a manager's tasks. Each is a tokio task of its own, so that a slow one delays no other.
//!
//! What always holds:
//! - a task never overlaps itself, because its loop awaits the run;
//! - the loop outlives every error and panic of the task;
//! - every point in time comes from the grid, and the only randomness is one draw from the seed.
//!
//! Left out: a deadline for a run. A task that may hang needs its own; otherwise its status stays `running`.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument, debug, error, error_span, warn};

use crate::grid::Grid;
use crate::status::{RunOutcome, SharedStatus, TaskStatus};
use crate::task::{PeriodicTask, PeriodicTasks, TaskError};

/// How many sources of an error are written out. A longer chain is more likely a loop than a cause.
const MAX_SOURCES: usize = 16;

/// The timer's settings.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// The length of a tick, which is the period of tasks without a spacing. It and any spacing count as at least a
    /// millisecond.
    pub periodic_interval: Duration,
    /// The ticks begin after a random delay between zero and this, in whole milliseconds, so that services which start
    /// together do not work in step.
    pub periodic_fuzzy_delay: Duration,
    /// Decides the delay: equal seeds draw equal delays.
    pub seed: [u8; 32],
}

/// The running tasks of one manager.
///
/// Dropping it ends them at once, a run in progress at its next await; [`shutdown`](Self::shutdown) lets that run
/// finish.
#[derive(Debug)]
#[must_use = "dropping the runner ends its tasks"]
pub struct Runner {
    handle: RunnerHandle,
    tasks: JoinSet<()>,
    _stop_on_drop: DropGuard,
}

/// Nudges the tasks of a [`Runner`], and reads their status. It is cheap to clone, and does not keep the manager alive, so
/// that the manager itself may own one.
#[derive(Clone)]
pub struct RunnerHandle {
    controls: Arc<[TaskControl]>,
    stop: CancellationToken,
}

/// What the loop of one task and the handles share.
struct TaskControl {
    name: &'static str,
    enabled: bool,
    status: SharedStatus,
    /// Holds at most one nudge, so any number of nudges during a run cause one more run.
    nudge: Notify,
}

/// Why a nudge did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NudgeError {
    /// No method of this name is marked.
    #[error("cannot nudge `{name}`: there is no such periodic task, only {}", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names of all tasks.
        known: Vec<&'static str>,
    },
    /// The task was switched off when the runner started.
    #[error("cannot nudge `{name}`: it is switched off")]
    Disabled {
        /// The task's name.
        name: &'static str,
    },
    /// The runner has been shut down or dropped.
    #[error("cannot nudge `{name}`: the periodic tasks have been stopped")]
    Stopped {
        /// The task's name.
        name: &'static str,
    },
}

impl Runner {
    /// Starts the manager's tasks on the current tokio runtime, and panics outside of one.
    pub fn start<M: PeriodicTasks>(manager: Arc<M>, options: RunnerOptions) -> Self {
        let start = Instant::now();
        let delay = fuzzy_delay(&options);
        let registered = manager.periodic_tasks();
        let grids: Vec<Grid> = registered
            .iter()
            .map(|task| {
                Grid::new(task.schedule, options.periodic_interval, start, delay, task.run_immediately)
            })
            .collect();
        let controls = registered.iter().zip(&grids).map(|(task, grid)| TaskControl::new(task, grid));
        let handle = RunnerHandle { controls: controls.collect(), stop: CancellationToken::new() };
        let mut tasks = JoinSet::new();
        for (index, (task, grid)) in registered.into_iter().zip(grids).enumerate() {
            if task.enabled {
                tasks.spawn(run_loop(manager.clone(), task, grid, handle.clone(), index));
            }
        }
        debug!(tasks = handle.controls.len(), delay_ms = delay.as_millis(), "periodic tasks started");
        let stop_on_drop = handle.stop.clone().drop_guard();
        Self { handle, tasks, _stop_on_drop: stop_on_drop }
    }

    /// A handle, which may outlive the runner. Its nudges then fail with [`NudgeError::Stopped`].
    pub fn handle(&self) -> RunnerHandle {
        self.handle.clone()
    }

    /// See [`RunnerHandle::nudge`].
    pub fn nudge(&self, name: &str) -> Result<(), NudgeError> {
        self.handle.nudge(name)
    }

    /// See [`RunnerHandle::status`].
    pub fn status(&self) -> Vec<TaskStatus> {
        self.handle.status()
    }

    /// Starts nothing new, and returns when the runs in progress are over.
    ///
    /// The caller can bound the wait with `tokio::time::timeout`: dropping the future ends those runs at their next await.
    pub async fn shutdown(mut self) {
        self.handle.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                error!(%error, "the loop of a periodic task ended early");
            }
        }
    }
}

impl RunnerHandle {
    /// Has the task run now. If it is running, it runs once more right after that, however often it is nudged meanwhile.
    /// The later ticks stay where they were.
    pub fn nudge(&self, name: &str) -> Result<(), NudgeError> {
        let Some(control) = self.controls.iter().find(|control| control.name == name) else {
            let known = self.controls.iter().map(|control| control.name).collect();
            return Err(NudgeError::Unknown { name: name.to_owned(), known });
        };
        if !control.enabled {
            return Err(NudgeError::Disabled { name: control.name });
        }
        if self.stop.is_cancelled() {
            return Err(NudgeError::Stopped { name: control.name });
        }
        control.nudge.notify_one();
        Ok(())
    }

    /// The status of each task, in the order of their methods.
    pub fn status(&self) -> Vec<TaskStatus> {
        let stopped = self.stop.is_cancelled();
        let statuses = self.controls.iter().map(|control| control.status.read());
        statuses
            .map(|status| if stopped { TaskStatus { next_due: None, ..status } } else { status })
            .collect()
    }
}

impl fmt::Debug for RunnerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}

impl TaskControl {
    fn new<M>(task: &PeriodicTask<M>, grid: &Grid) -> Self {
        let first = grid.first.filter(|_| task.enabled);
        let status = SharedStatus::new(task.name, task.enabled, first);
        let nudge = Notify::new();
        if task.run_immediately {
            nudge.notify_one();
        }
        Self { name: task.name, enabled: task.enabled, status, nudge }
    }
}

fn fuzzy_delay(options: &RunnerOptions) -> Duration {
    let most = u64::try_from(options.periodic_fuzzy_delay.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(ChaCha8Rng::from_seed(options.seed).random_range(0..=most))
}

async fn run_loop<M>(manager: Arc<M>, task: PeriodicTask<M>, grid: Grid, handle: RunnerHandle, index: usize) {
    let control = &handle.controls[index];
    let mut due = grid.first;
    loop {
        tokio::select! {
            biased;
            () = handle.stop.cancelled() => return,
            () = control.nudge.notified() => {}
            () = at(due) => {}
        }
        let now = Instant::now();
        // One run serves both the tick and a nudge that came before it.
        let _ = control.nudge.notified().now_or_never();
        if let Some(tick) = due.filter(|tick| *tick <= now) {
            let (next, missed_ticks) = grid.after(tick, now);
            if missed_ticks > 0 {
                warn!(task = task.name, missed_ticks, "periodic task started late");
            }
            control.status.schedule(next, missed_ticks);
            due = next;
        }
        let run = AssertUnwindSafe(async { (task.run)(manager.clone()).await });
        // The span's level is error, so that no filter removes the task's name from the events inside.
        let span = error_span!("periodic_task", task = task.name);
        run_once(&control.status, now, run.catch_unwind()).instrument(span).await;
    }
}

/// Waits until then. Never returns if the tick is out of the clock's range.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn run_once(
    status: &SharedStatus,
    started: Instant,
    run: impl Future<Output = Result<Result<(), TaskError>, Box<dyn Any + Send>>>,
) {
    let in_flight = status.begin(started);
    let result = run.await;
    let took = started.elapsed();
    let elapsed_ms = took.as_millis();
    let outcome = match result {
        Ok(Ok(())) => {
            debug!(elapsed_ms, "periodic task done");
            RunOutcome::Success
        }
        Ok(Err(error)) => {
            let error = with_sources(&error);
            warn!(elapsed_ms, %error, "periodic task failed; its next run is not affected");
            RunOutcome::Failed(error)
        }
        Err(payload) => {
            let panic = panic_message(&*payload);
            error!(elapsed_ms, %panic, "periodic task panicked; its next run is not affected");
            RunOutcome::Panicked(panic)
        }
    };
    in_flight.finish(took, outcome);
}

fn with_sources(error: &TaskError) -> String {
    let chain = std::iter::successors(error.source(), |source| source.source()).take(MAX_SOURCES);
    chain.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
