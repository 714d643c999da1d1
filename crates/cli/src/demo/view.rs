//! What the demo tells, and the form of it for programs.

use std::io::Write;
use std::time::Duration;

use novella_objects::{HostState, HostSummary};
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An instance found its host.
    Placed { flavor: &'static str, host: String, weight: f64, alternates: Vec<String>, latency_ms: f64 },
    /// No host fits.
    Refused { flavor: &'static str, reason: String, latency_ms: f64 },
    /// An instance let its room go.
    Released { flavor: &'static str, host: String, after_s: f64 },
    /// A request got no answer.
    Failed { what: &'static str, error: String },
    /// The demo cuts a host off.
    Silenced { host: String },
    /// The demo lets it speak again.
    Heard { host: String },
    /// The scheduler thinks otherwise of a host.
    HostState { host: String, from: HostState, to: HostState },
    /// A look at the whole fleet.
    Hosts { hosts: Vec<HostSummary> },
    /// The end.
    Summary(Summary),
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Instances placed.
    pub placed: u64,
    /// Requests refused.
    pub refused: u64,
    /// Instances that let their room go.
    pub released: u64,
    /// Requests without answer.
    pub failed: u64,
    /// Reports that the scheduler applied.
    pub reports: u64,
    /// Times a host went down.
    pub went_down: u64,
    /// Times a host came back up.
    pub came_back: u64,
}

/// The fleet at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// More comes than goes.
    pub filling: bool,
    /// The hosts, in order of their names.
    pub hosts: Vec<HostSummary>,
    /// See [`Counts`].
    pub counts: Counts,
    /// Instances that hold room.
    pub held: usize,
    /// Half of the placements were answered within this time.
    pub p50: Option<Duration>,
    /// And all but one in a hundred within this.
    pub p99: Option<Duration>,
}

/// The whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How long it ran.
    pub seconds: f64,
    /// How many hosts the scheduler knew.
    pub hosts: usize,
    /// What to give `--seed` for the same stream of requests.
    pub seed: u64,
    /// Placements and refusals.
    pub decisions: u64,
    /// See [`Counts`].
    #[serde(flatten)]
    pub counts: Counts,
    /// Of the time from request to answer.
    pub p50_ms: Option<f64>,
    /// Of the time from request to answer.
    pub p99_ms: Option<f64>,
}

/// Whoever shows it.
pub trait View {
    /// Something happened, so many seconds after the start.
    fn event(&mut self, seconds: f64, event: &Event) -> anyhow::Result<()>;
    /// A look at the fleet; comes several times a second.
    fn look(&mut self, seconds: f64, snapshot: &Snapshot) -> anyhow::Result<()>;
}

/// One JSON object per line.
pub struct JsonLines<'a>(pub &'a mut (dyn Write + Send));

impl View for JsonLines<'_> {
    fn event(&mut self, seconds: f64, event: &Event) -> anyhow::Result<()> {
        writeln!(self.0, "{}", json_line(seconds, event)?)?;
        Ok(self.0.flush()?)
    }

    fn look(&mut self, seconds: f64, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.event(seconds, &Event::Hosts { hosts: snapshot.hosts.clone() })
    }
}

/// An event with its time.
pub fn json_line(seconds: f64, event: &Event) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        t: f64,
        #[serde(flatten)]
        event: &'a Event,
    }
    serde_json::to_string(&Line { t: (seconds * 1e3).round() / 1e3, event })
}
