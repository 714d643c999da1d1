//! The end of a daemon: a signal asks for it, work in flight is finished within a grace period, and a verdict says how
//! it went.
//!
//! What always holds: the first SIGTERM or SIGINT cancels a token, and everything that must end watches it; the second ends
//! the process at once. If the process has not ended by a limit after the first, it is ended with the exit code for a
//! time-out, whatever hangs: a disk, a thread, the runtime itself or the reader of the log. Nothing else in a daemon exits
//! the process.
//!
//! What it leaves out: the work itself. Each daemon passes the end of its own work as a future.

use std::{future::Future, io, process, thread, time::Duration};

use tokio::{
    runtime::{self, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::failure;

/// How a shell reports a process that a signal ended: this plus the signal's number.
const SIGNALLED: i32 = 128;

/// How long a stop may take in all. It is longer than every grace period, and shorter than the time after which systemd
/// kills the process by the shipped units (`TimeoutStopSec`).
pub const LIMIT: Duration = Duration::from_secs(20);

/// How much longer than the limit a process may take if its last log line hangs.
const LOG_TIME: Duration = Duration::from_secs(1);

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Everything in flight was finished.
    Clean,
    /// The grace period ran out first.
    Overrun,
}

impl DrainOutcome {
    /// The exit code for it.
    pub fn code(self) -> u8 {
        match self {
            DrainOutcome::Clean => failure::OK,
            DrainOutcome::Overrun => failure::TIMEOUT,
        }
    }
}

/// The request to stop. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// From now on SIGTERM and SIGINT ask for the stop. A second signal ends the process at once, and so does the end of
    /// [`LIMIT`] after the first.
    pub fn on_signals(&self) -> io::Result<()> {
        self.on_signals_within(LIMIT)
    }

    /// The same with another limit, which must be longer than the grace period. Signals are waited for on a separate
    /// thread, because everything else may hang.
    pub fn on_signals_within(&self, limit: Duration) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        // Both are registered before this returns, so that no early signal has its default effect.
        let signals = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let shutdown = self.clone();
        let follow = move || runtime.block_on(follow(signals, shutdown, limit));
        thread::Builder::new().name("signals".into()).spawn(follow).map(drop)
    }

    /// Asks for the stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether somebody has asked.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when somebody asks.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// The token alone, for code that must not depend on this crate.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits until `work` has ended, at most for `grace`. What is left after that is dropped, and logged.
    pub async fn drain(&self, grace: Duration, work: impl Future<Output = ()>) -> DrainOutcome {
        self.request();
        match time::timeout(grace, work).await {
            Ok(()) => DrainOutcome::Clean,
            Err(_) => {
                tracing::warn!(?grace, "the grace period is over; work in flight is abandoned");
                DrainOutcome::Overrun
            }
        }
    }
}

/// Runs `work` and then gives up the runtime without waiting for its threads. A call that hangs on one of them, such as a
/// question to a dead disk, would otherwise keep the process from ending.
pub fn run<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Waits for the first signal, asks for the stop, and ends the process after the second or after `limit`.
async fn follow(mut signals: (Signal, Signal), shutdown: Shutdown, limit: Duration) {
    let (name, _) = next_signal(&mut signals).await;
    shutdown.request();
    // Nothing is logged here, because the log itself may hang.
    let last_resort = move || {
        thread::sleep(limit + LOG_TIME);
        process::exit(failure::TIMEOUT.into());
    };
    if let Err(error) = thread::Builder::new().name("last resort".into()).spawn(last_resort) {
        tracing::warn!(%error, "cannot start the thread that ends this process if its log hangs");
    }
    tracing::info!(signal = name, "stopping; a second signal ends the process at once");
    tokio::select! {
        biased;
        (name, kind) = next_signal(&mut signals) => {
            tracing::warn!(signal = name, "second signal: ending now, work in flight is abandoned");
            process::exit(SIGNALLED + kind.as_raw_value());
        }
        () = time::sleep(limit) => {
            tracing::error!(?limit, "the process did not end in time; ending it, work in flight is abandoned");
            process::exit(failure::TIMEOUT.into());
        }
    }
}

async fn next_signal((terminate, interrupt): &mut (Signal, Signal)) -> (&'static str, SignalKind) {
    tokio::select! {
        biased;
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_is_a_clean_stop() {
        let shutdown = Shutdown::new();
        let (seen, grace) = (shutdown.clone(), Duration::from_secs(10));
        let work = async move {
            seen.requested().await;
            time::sleep(Duration::from_secs(9)).await;
        };
        assert!(!shutdown.is_requested());
        assert_eq!(shutdown.drain(grace, work).await, DrainOutcome::Clean);
        assert!(shutdown.is_requested() && shutdown.token().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_abandoned_after_the_grace_period() {
        let before = time::Instant::now();
        let verdict = Shutdown::new().drain(Duration::from_secs(10), std::future::pending()).await;
        assert_eq!((verdict, before.elapsed()), (DrainOutcome::Overrun, Duration::from_secs(10)));
        assert_eq!(verdict.code(), failure::TIMEOUT);
    }
}
