//! What can happen to a run: nudges, errors, panics, status while it lasts, shutdown and drop. The clock is paused.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use novella_periodic_task::{
    NudgeError, RunOutcome, Runner, RunnerHandle, RunnerOptions, TaskError, TaskStatus, periodic_tasks,
};
use tokio::time::{Instant, sleep, timeout};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A manager, its runner, and when that began.
fn start() -> (Arc<Manager>, Runner, Instant) {
    let manager = Arc::new(Manager::default());
    let options =
        RunnerOptions { periodic_interval: seconds(10), periodic_fuzzy_delay: Duration::ZERO, seed: [5; 32] };
    (manager.clone(), Runner::start(manager, options), Instant::now())
}

/// An error with a source, to see that the outcome names both.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the host's memory")]
struct ProbeError(#[source] io::Error);

#[derive(Default)]
struct Manager {
    slow_runs: AtomicU64,
    slow_ends: AtomicU64,
    well: AtomicBool,
    runner: OnceLock<RunnerHandle>,
}

#[periodic_tasks]
impl Manager {
    /// Takes four seconds of every ten.
    #[periodic_task(spacing = "10s")]
    async fn slow(&self) {
        self.slow_runs.fetch_add(1, Ordering::Relaxed);
        sleep(seconds(4)).await;
        self.slow_ends.fetch_add(1, Ordering::Relaxed);
    }

    #[periodic_task]
    async fn failing(&self) -> Result<(), ProbeError> {
        if self.well.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(ProbeError(io::Error::new(io::ErrorKind::NotFound, "no /proc/meminfo")))
    }

    #[periodic_task]
    async fn panicking(&self) -> Result<(), TaskError> {
        let well = self.well.load(Ordering::Relaxed);
        panic!("well: {well}");
    }

    #[periodic_task(spacing = "1h")]
    async fn rare(&self) -> Result<(), TaskError> {
        if let Some(runner) = self.runner.get() {
            runner.nudge("slow")?;
        }
        Ok(())
    }

    #[periodic_task(enabled = false)]
    async fn off(&self) {}
}

fn of(status: &[TaskStatus], name: &str) -> TaskStatus {
    status.iter().find(|task| task.name == name).expect("every task has a status").clone()
}

#[tokio::test(start_paused = true)]
async fn status_is_readable_before_while_and_after_a_run() {
    let (_, runner, begin) = start();
    let slow = || of(&runner.status(), "slow");
    // Nothing has run: no times, no outcome, all counts zero.
    let new = TaskStatus { name: "slow", enabled: true, next_due: Some(begin), ..TaskStatus::default() };
    assert_eq!(slow(), new);

    sleep(seconds(1)).await;
    let next_due = Some(begin + seconds(10));
    let running = TaskStatus { running: true, last_run_started: Some(begin), runs: 1, next_due, ..new };
    assert_eq!(slow(), running);

    sleep(seconds(4)).await;
    let last_outcome = Some(RunOutcome::Success);
    let done = TaskStatus { running: false, last_duration: Some(seconds(4)), last_outcome, ..running };
    assert_eq!(slow(), done);

    sleep(seconds(6)).await;
    let last_run_started = Some(begin + seconds(10));
    let next_due = Some(begin + seconds(20));
    assert_eq!(slow(), TaskStatus { running: true, last_run_started, runs: 2, next_due, ..done });
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_are_counted_and_stop_nothing() {
    let (manager, runner, _) = start();
    sleep(seconds(25)).await;
    let status = runner.status();
    let failing = of(&status, "failing");
    assert_eq!((failing.runs, failing.failures, failing.panics), (3, 3, 0));
    let error = "cannot read the host's memory: no /proc/meminfo";
    assert_eq!(failing.last_outcome, Some(RunOutcome::Failed(error.to_owned())));
    let panicking = of(&status, "panicking");
    assert_eq!((panicking.runs, panicking.failures, panicking.panics), (3, 0, 3));
    assert_eq!(panicking.last_outcome, Some(RunOutcome::Panicked("well: false".to_owned())));
    assert!(!panicking.running);
    assert_eq!(of(&status, "slow").runs, 3);

    manager.well.store(true, Ordering::Relaxed);
    sleep(seconds(10)).await;
    let failing = of(&runner.status(), "failing");
    assert_eq!((failing.runs, failing.failures, failing.last_outcome), (4, 3, Some(RunOutcome::Success)));
}

#[tokio::test(start_paused = true)]
async fn a_nudge_runs_an_idle_task_now_and_leaves_its_grid() {
    let (_, runner, begin) = start();
    sleep(seconds(5)).await;
    runner.nudge("slow").expect("slow is on");
    sleep(Duration::from_millis(1)).await;
    let slow = of(&runner.status(), "slow");
    assert_eq!((slow.runs, slow.running, slow.last_run_started), (2, true, Some(begin + seconds(5))));
    assert_eq!(slow.next_due, Some(begin + seconds(10)));
    sleep(seconds(6)).await;
    let slow = of(&runner.status(), "slow");
    assert_eq!((slow.runs, slow.last_run_started), (3, Some(begin + seconds(10))));
}

#[tokio::test(start_paused = true)]
async fn nudges_during_a_run_ask_for_one_more_right_after() {
    let (manager, runner, begin) = start();
    for _ in 0..3 {
        sleep(seconds(1)).await;
        runner.nudge("slow").expect("slow is on");
    }
    assert_eq!(manager.slow_runs.load(Ordering::Relaxed), 1, "never overlaps itself");
    sleep(Duration::from_millis(1_001)).await;
    let slow = of(&runner.status(), "slow");
    assert_eq!((slow.runs, slow.last_run_started), (2, Some(begin + seconds(4))));
    sleep(seconds(5)).await;
    assert_eq!(of(&runner.status(), "slow").runs, 2, "three nudges, one more run");
}

#[tokio::test(start_paused = true)]
async fn one_run_serves_a_tick_and_the_nudges_that_come_with_it() {
    let (_, runner, _) = start();
    runner.nudge("slow").expect("slow is on");
    runner.nudge("slow").expect("slow is on");
    sleep(seconds(9)).await;
    assert_eq!(of(&runner.status(), "slow").runs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_nudge_of_nothing_says_why() {
    let (_, runner, _) = start();
    let unknown = runner.nudge("slwo").expect_err("there is no such task");
    assert_eq!(
        unknown.to_string(),
        "cannot nudge `slwo`: there is no such periodic task, only slow, failing, panicking, rare, off"
    );
    assert_eq!(runner.nudge("off"), Err(NudgeError::Disabled { name: "off" }));
    let handle = runner.handle();
    runner.shutdown().await;
    assert_eq!(handle.nudge("slow"), Err(NudgeError::Stopped { name: "slow" }));
}

#[tokio::test(start_paused = true)]
async fn a_task_may_nudge_another_through_a_handle_of_its_manager() {
    let (manager, runner, _) = start();
    assert!(manager.runner.set(runner.handle()).is_ok());
    sleep(seconds(5)).await;
    assert_eq!(manager.slow_runs.load(Ordering::Relaxed), 2, "its own tick and the nudge");
    runner.shutdown().await;
    assert_eq!(Arc::strong_count(&manager), 1, "the handle does not keep the manager alive");
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_a_run_finish_and_starts_nothing_new() {
    let (manager, runner, begin) = start();
    let handle = runner.handle();
    sleep(seconds(1)).await;
    handle.nudge("slow").expect("slow is on");
    runner.shutdown().await;
    assert_eq!(begin.elapsed(), seconds(4), "returns when the run is over, and no later");
    let slow = of(&handle.status(), "slow");
    assert_eq!((slow.runs, slow.running, slow.last_outcome), (1, false, Some(RunOutcome::Success)));
    assert_eq!(slow.next_due, None);
    sleep(seconds(100)).await;
    assert_eq!(manager.slow_runs.load(Ordering::Relaxed), 1, "neither the nudge nor a tick");
    assert_eq!(manager.slow_ends.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_before_the_first_poll_starts_nothing() {
    let (manager, runner, _) = start();
    runner.shutdown().await;
    assert_eq!(manager.slow_runs.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&manager), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_runner_or_a_shutdown_under_a_deadline_cuts_the_run_off() {
    for patience in [None, Some(seconds(1))] {
        let (manager, runner, _) = start();
        let handle = runner.handle();
        sleep(seconds(1)).await;
        match patience {
            None => drop(runner),
            Some(patience) => assert!(timeout(patience, runner.shutdown()).await.is_err()),
        }
        sleep(seconds(100)).await;
        let slow = of(&handle.status(), "slow");
        assert_eq!((slow.runs, slow.running, slow.last_outcome, slow.next_due), (1, false, None, None));
        assert_eq!(manager.slow_ends.load(Ordering::Relaxed), 0);
        assert_eq!(handle.nudge("slow"), Err(NudgeError::Stopped { name: "slow" }));
        assert_eq!(Arc::strong_count(&manager), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_on_a_multi_threaded_runtime_too() {
    let (_, runner, _) = start();
    runner.nudge("rare").expect("rare is on");
    timeout(seconds(30), async {
        while of(&runner.status(), "rare").last_outcome.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a nudged task runs at once");
}
