//! Everything a user of this crate sees: probes, both drivers, and what becomes of their values in a report.

mod fake;
mod hardware;
mod host;
mod linux;
mod probe;
mod report;
mod this_host;

use std::error::Error;
use std::sync::Arc;

use novella_virt::BlockingExecutor;

/// Runs each job at once, on the caller's thread.
fn inline() -> BlockingExecutor {
    Arc::new(|job| job())
}

/// An error and its sources, as the daemons print them.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
