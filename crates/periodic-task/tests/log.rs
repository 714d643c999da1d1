//! What the log says about an error and a panic.
//!
//! This test is alone in its file. tracing remembers for the whole process whether anyone listens to an event, and another
//! test, which does not listen, might come first.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_periodic_task::{Runner, RunnerOptions, TaskError, periodic_tasks};
use tokio::time::sleep;

#[derive(Debug, thiserror::Error)]
#[error("cannot read the host's memory")]
struct ProbeError(#[source] io::Error);

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task]
    async fn well(&self) {}

    #[periodic_task]
    async fn failing(&self) -> Result<(), TaskError> {
        Err(ProbeError(io::Error::new(io::ErrorKind::NotFound, "no /proc/meminfo")).into())
    }

    #[periodic_task]
    async fn panicking(&self) {
        panic!("out of luck");
    }

    #[periodic_task]
    async fn slow(&self) {
        sleep(Duration::from_secs(27)).await;
    }
}

/// Holds the log, so that the test can read it.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics here").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn errors_panics_and_missed_ticks_are_logged_with_task_and_cause() {
    let captured = Captured::default();
    let writer = captured.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _log = tracing::subscriber::set_default(log);
    let options = RunnerOptions {
        periodic_interval: Duration::from_secs(10),
        periodic_fuzzy_delay: Duration::ZERO,
        seed: [5; 32],
    };
    let runner = Runner::start(Arc::new(Manager), options);
    sleep(Duration::from_secs(30)).await;
    runner.shutdown().await;

    let log =
        String::from_utf8(captured.0.lock().expect("no test panics here").clone()).expect("the log is text");
    let line =
        |of: &str| log.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("no {of} in {log}"));
    let failed = line("periodic task failed");
    assert!(failed.contains("WARN") && failed.contains("task=\"failing\""), "{failed}");
    assert!(failed.contains("cannot read the host's memory: no /proc/meminfo"), "{failed}");
    let panicked = line("periodic task panicked");
    assert!(panicked.contains("ERROR") && panicked.contains("task=\"panicking\""), "{panicked}");
    assert!(panicked.contains("out of luck"), "{panicked}");
    let late = line("periodic task started late");
    assert!(late.contains("task=\"slow\"") && late.contains("missed_ticks=2"), "{late}");
    assert!(!log.contains("\"well\""), "a task that does well is quiet at this level: {log}");
}
