//! What the demo shows, and its form for programs: JSON lines.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use novella_objects::{HostStatus, HostSummary};
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DemoEvent {
    /// An instance was placed.
    Placed { flavor: &'static str, host: String, weight: f64, alternates: Arc<[String]>, latency_ms: f64 },
    /// No host fits an instance.
    Refused { flavor: &'static str, reason: String, latency_ms: f64 },
    /// A host refused an instance that the scheduler had chosen it for.
    HostRefused { flavor: &'static str, host: String, reason: String },
    /// A host has built an instance.
    Built { flavor: &'static str, host: String, after_s: f64 },
    /// A build failed, so the instance is asked for again.
    BuildFailed { flavor: &'static str, host: String },
    /// An instance is being deleted.
    Deleted { flavor: &'static str, host: String, after_s: f64 },
    /// A request got no answer.
    Failed { what: &'static str, error: String },
    /// The demo cuts a host off the bus.
    Silenced { host: String },
    /// The demo connects the host again.
    Heard { host: String },
    /// The scheduler changed the state of a host.
    HostStatus { host: String, from: HostStatus, to: HostStatus },
}

/// What is written for programs only.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ProgramEvent<'a> {
    /// The whole fleet, as it is sampled several times a second.
    Hosts { hosts: &'a [HostSummary] },
    /// The demo ended.
    Summary(&'a DemoSummary),
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Instances placed.
    pub placed: u64,
    /// Requests refused.
    pub refused: u64,
    /// Claims that a host refused.
    pub refused_by_hosts: u64,
    /// Instances that were built.
    pub built: u64,
    /// Builds that failed.
    pub builds_failed: u64,
    /// Instances that were deleted.
    pub deleted: u64,
    /// Requests without an answer.
    pub failed: u64,
    /// Reports that the scheduler applied.
    pub reports: u64,
    /// How often a host went down.
    pub went_down: u64,
    /// How often a host came back up.
    pub came_back: u64,
}

/// The fleet at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Whether more instances are asked for than deleted.
    pub filling: bool,
    /// The hosts, by name.
    pub hosts: Vec<HostSummary>,
    /// What happened since the start.
    pub counts: Counts,
    /// How many instances there are now.
    pub instances: usize,
    /// The time within which half of the requests were answered.
    pub p50: Option<Duration>,
    /// The time within which 99 of 100 requests were answered.
    pub p99: Option<Duration>,
}

/// The whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoSummary {
    /// How long the demo ran, in seconds.
    pub seconds: f64,
    /// How many hosts the scheduler knew.
    pub hosts: usize,
    /// The value of `--seed` that gives the same stream of requests again.
    pub seed: u64,
    /// How many requests were placed or refused.
    pub decisions: u64,
    /// What happened since the start.
    #[serde(flatten)]
    pub counts: Counts,
    /// The time within which half of the requests were answered.
    pub p50_ms: Option<f64>,
    /// The time within which 99 of 100 requests were answered.
    pub p99_ms: Option<f64>,
}

/// Something that shows the demo.
pub trait View {
    /// Shows what happened, at this many seconds after the start.
    fn event(&mut self, seconds: f64, event: &DemoEvent) -> anyhow::Result<()>;
    /// Shows the fleet as it is now. This is called several times a second.
    fn look(&mut self, seconds: f64, sample: &Sample) -> anyhow::Result<()>;
}

/// Shows each event as a JSON object on its line.
pub struct JsonLines<'a>(pub &'a mut (dyn Write + Send));

impl View for JsonLines<'_> {
    fn event(&mut self, seconds: f64, event: &DemoEvent) -> anyhow::Result<()> {
        write_json_line(self.0, seconds, event)
    }

    fn look(&mut self, seconds: f64, sample: &Sample) -> anyhow::Result<()> {
        write_json_line(self.0, seconds, &ProgramEvent::Hosts { hosts: &sample.hosts })
    }
}

/// Writes an event, with the seconds since the start, as a line of JSON.
pub fn write_json_line(out: &mut dyn Write, seconds: f64, event: &impl Serialize) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Line<'a, E> {
        t: f64,
        #[serde(flatten)]
        event: &'a E,
    }
    let line = Line { t: (seconds * 1e3).round() / 1e3, event };
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    Ok(out.flush()?)
}
