//! A manager with three periodic tasks, which run for five seconds. At the end it shows the status of each.
//!
//! `cargo run -p novella-periodic-task --example heartbeat`

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use novella_periodic_task::{Runner, RunnerOptions, TaskError, TaskStatus, periodic_tasks};

struct Manager {
    report_interval: Duration,
    reports: AtomicU64,
}

#[periodic_tasks]
impl Manager {
    /// Runs as often as the manager says, and does not wait for the first tick.
    #[periodic_task(spacing = self.report_interval, run_immediately)]
    async fn report(&self) {
        let report = self.reports.fetch_add(1, Ordering::Relaxed) + 1;
        say(&format!("report {report}"));
    }

    /// Runs on every third tick. That it fails stops nothing.
    #[periodic_task(ticks_between_runs = 2)]
    async fn probe(&self) -> Result<(), TaskError> {
        say("probe");
        Err("nobody answered".into())
    }

    /// Runs at the first tick, and then after an hour unless it is nudged.
    #[periodic_task(spacing = "1h")]
    async fn clean_up(&self) {
        say("clean up");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), TaskError> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let manager = Manager { report_interval: Duration::from_millis(1500), reports: AtomicU64::new(0) };
    let options = RunnerOptions {
        periodic_interval: Duration::from_secs(1),
        periodic_fuzzy_delay: Duration::from_secs(1),
        seed: [1; 32],
    };
    let runner = Runner::start(Arc::new(manager), options);
    tokio::time::sleep(Duration::from_secs(4)).await;
    runner.nudge("clean_up")?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for TaskStatus { name, runs, failures, last_outcome, .. } in runner.status() {
        say(&format!("{name}: {runs} runs, {failures} failed, last {last_outcome:?}"));
    }
    runner.shutdown().await;
    Ok(())
}

/// Prints a line. Unlike `println!`, it does not panic if the pipe is closed.
fn say(line: &str) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        tracing::debug!(%error, "nobody reads");
    }
}
