//! Everything that a user of this crate sees: probes, both drivers, their values in a report, and instances.

mod contradictions;
mod disk;
mod fake;
mod hardware;
mod host;
mod instances;
mod linux;
mod machines;
mod missing;
mod probe;
mod recording;
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
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
