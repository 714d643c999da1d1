//! The end of a daemon: a signal asks for it, work in flight is finished within a grace period, and a verdict tells how
//! it went.
//!
//! What always holds: the first SIGTERM or SIGINT only cancels a token, and everything that must end watches it; the
//! second ends the process at once. Nothing else in a daemon exits the process.
//!
//! What it leaves out: the work itself. Each daemon passes the end of its own work as a future.

use std::{future::Future, io, process, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::failure;

/// How a shell reports a process that a signal ended: this plus the signal's number.
const SIGNALLED: i32 = 128;

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

    /// From now on SIGTERM and SIGINT ask for the stop, and a second signal ends the process at once.
    pub fn on_signals(&self) -> io::Result<()> {
        // Both are registered before this returns, so no early signal falls to the default action.
        let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        tokio::spawn(async move {
            let (name, _) = next_signal(&mut signals).await;
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            shutdown.request();
            let (name, kind) = next_signal(&mut signals).await;
            tracing::warn!(signal = name, "second signal: ending now, work in flight is abandoned");
            process::exit(SIGNALLED + kind.as_raw_value());
        });
        Ok(())
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
