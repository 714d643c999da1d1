//! Runs marked methods of a struct on a timer.
//!
//! This is how Nova's managers keep their state current: a manager is a struct, some of its methods are periodic tasks,
//! and the service runs them. [`#[periodic_tasks]`](macro@periodic_tasks) on the `impl` block registers the methods marked
//! `#[periodic_task]`, and a [`Runner`] runs them.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::Duration;
//!
//! use novella_periodic_task::{Runner, RunnerOptions, TaskError, periodic_tasks};
//!
//! struct ComputeManager {
//!     host_state_interval: Duration,
//!     reports: AtomicU64,
//! }
//!
//! #[periodic_tasks]
//! impl ComputeManager {
//!     #[periodic_task(spacing = self.host_state_interval, run_immediately)]
//!     async fn report_driver_status(&self) -> Result<(), TaskError> {
//!         self.reports.fetch_add(1, Ordering::Relaxed);
//!         Ok(())
//!     }
//!
//!     #[periodic_task(spacing = "5m")]
//!     async fn check_disk(&self) {}
//! }
//!
//! # // The clock is paused: tokio moves it on whenever everything waits.
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let host_state_interval = Duration::from_secs(10);
//! let manager = Arc::new(ComputeManager { host_state_interval, reports: AtomicU64::new(0) });
//! let options = RunnerOptions {
//!     periodic_interval: Duration::from_secs(10),
//!     periodic_fuzzy_delay: Duration::ZERO,
//!     seed: [7; 32],
//! };
//! let runner = Runner::start(manager.clone(), options);
//! tokio::time::sleep(Duration::from_secs(35)).await;
//! runner.nudge("report_driver_status").expect("the method is marked");
//! tokio::time::sleep(Duration::from_secs(1)).await;
//!
//! // At the start, after 10, 20 and 30 seconds, and once for the nudge.
//! assert_eq!(manager.reports.load(Ordering::Relaxed), 5);
//! assert_eq!(runner.status()[0].runs, 5);
//! runner.shutdown().await;
//! # }
//! ```
//!
//! # When a task runs
//!
//! | argument | the task runs |
//! |---|---|
//! | none | every tick, which is once per [`periodic_interval`](RunnerOptions::periodic_interval) |
//! | `spacing = "1m 30s"` | once per this duration; a literal has units (`ms`, `s`, `m`, `h`, `d`) |
//! | `spacing = self.interval` | the same, with any expression of type `Duration` on the manager. Zero means every tick |
//! | `ticks_between_runs = 2` | after two ticks without it, so on every third; any `u32` expression |
//! | `run_immediately` | also at once when the runner starts; `run_immediately = self.flag` makes it a choice |
//! | `enabled = self.flag` | only if this `bool` is true |
//!
//! Expressions are read once, when the runner starts. In Nova's settings a negative spacing means "never". A duration
//! cannot be negative, so use `enabled` for that.
//!
//! - **Start.** The runner draws one delay between zero and
//!   [`periodic_fuzzy_delay`](RunnerOptions::periodic_fuzzy_delay), and the first tick comes after it. An immediate run
//!   does not wait for it: there the delay only shifts the ticks that follow, the first of which comes within one period
//!   of the start.
//! - **No drift.** Ticks lie on a fixed grid, however long the runs take.
//! - **No overlap, no bunching.** A tick that comes while the task still runs is late: one run makes up for it as soon
//!   as the task is free, and the next one is at the grid's point nearest to one period later. So the runs of two ticks
//!   start at least half a period apart, and ticks that passed meanwhile are left out and counted. The same holds for a
//!   process that was stopped for a while. (tokio's `MissedTickBehavior::Skip` is similar, but may follow a late run with
//!   another at once.)
//! - **Nudges.** [`nudge`](RunnerHandle::nudge) runs a task now, or once more right after the run in progress, and
//!   leaves its ticks where they were.
//! - **Failures.** An error or a panic is logged, counted in the [`TaskStatus`], and changes nothing else, neither for
//!   the task's later runs nor for other tasks. (A panic can only be caught where the program unwinds.)
//! - **Side by side.** Each task is a tokio task of its own, so a slow one delays no other, and tasks due at
//!   the same moment start in no promised order. A task that may hang needs its own deadline.
//! - **Stop.** [`shutdown`](Runner::shutdown) lets a run in progress finish and starts nothing new.
//!
//! Time comes from tokio, and the only randomness from the seed, so a program on a current-thread runtime with paused time
//! runs the same way each time.
//!
//! # What can be marked
//!
//! `async fn name(&self)` in the manager's own `impl` block, which may have generic parameters, with no return type or
//! any `Result<(), E>` whose `E` is an error, a `String` or a `&str`. A type has at most one `#[periodic_tasks]` block;
//! its other methods can be anything. Its futures must be `Send` and the manager `Send + Sync + 'static`. A task that
//! needs the runner, say to nudge another task, keeps a [`RunnerHandle`], which does not keep the manager alive.
//!
//! # Layout
//!
//! From the bottom up. A module imports only modules above it in this table. The macros are a crate of their own.
//!
//! | module | what it is |
//! |---|---|
//! | `task` | what a task is: the data that the macro makes of a marked method |
//! | `status` | what a task did last and how often |
//! | `grid` | the points in time at which a task is due |
//! | `runner` | runs the tasks of a manager |

mod grid;
mod runner;
mod status;
mod task;

pub use novella_periodic_task_macros::{periodic_task, periodic_tasks};
pub use runner::{NudgeError, Runner, RunnerHandle, RunnerOptions};
pub use status::{RunOutcome, TaskStatus};
pub use task::{PeriodicTask, PeriodicTasks, Schedule, TaskError, TaskOutput, TaskRun};
