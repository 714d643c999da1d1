//! The summary of a swarm, for people and for programs.

use clap::ValueEnum;
use serde::Serialize;

use super::placements::PlacementSummary;
use crate::output::{Cell, Console, Format, OutputArgs, table_text, write_object};
use crate::units::milliseconds;

/// The format of the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SwarmFormat {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
}

/// The whole run. Times and rates are counted from when all agents held their queues.
#[derive(Debug, Serialize)]
pub struct SwarmSummary {
    /// How many agents ran.
    pub agents: u32,
    /// How many connections they shared.
    pub connections: u32,
    /// How long the agents took to start, in seconds.
    pub start_s: f64,
    /// How long they ran, in seconds.
    pub seconds: f64,
    /// Reports that the broker confirmed.
    pub reports: u64,
    /// Confirmed reports per second.
    pub reports_per_s: f64,
    /// Attempts to send a report that failed.
    pub failures: u64,
    /// Reports that newer ones replaced before they were sent.
    pub replaced: u64,
    /// The time within which half of the reports were confirmed.
    pub confirm_p50_ms: Option<f64>,
    /// The time within which 99 of 100 reports were confirmed.
    pub confirm_p99_ms: Option<f64>,
    /// The longest time to a confirm.
    pub confirm_max_ms: f64,
    /// The results of the placements, if any were requested.
    pub placements: Option<PlacementSummary>,
}

fn times(p50_ms: Option<f64>, p99_ms: Option<f64>, max_ms: f64) -> String {
    format!("p50 {}, p99 {}, longest {max_ms:.2} ms", milliseconds(p50_ms), milliseconds(p99_ms))
}

/// Writes the summary as data.
pub fn write(summary: &SwarmSummary, format: SwarmFormat, console: &mut Console<'_>) -> anyhow::Result<()> {
    if format == SwarmFormat::Json {
        let args = OutputArgs { format: Format::Json, ..OutputArgs::default() };
        return write_object(summary, &args, console);
    }
    let replaced = format!("{} reports replaced by newer ones before they were sent", summary.replaced);
    let mut rows = vec![
        ("swarm", format!("{} agents over {} connections", summary.agents, summary.connections)),
        ("started in", format!("{:.1} s", summary.start_s)),
        ("ran", format!("{:.1} s", summary.seconds)),
        ("reports", format!("{} ({:.1}/s)", summary.reports, summary.reports_per_s)),
        ("failures", format!("{}; {replaced}", summary.failures)),
        ("confirms", times(summary.confirm_p50_ms, summary.confirm_p99_ms, summary.confirm_max_ms)),
    ];
    if let Some(placements) = &summary.placements {
        let PlacementSummary { answered, refused, failed, p50_ms, p99_ms, max_ms } = placements;
        let times = times(*p50_ms, *p99_ms, *max_ms);
        let text =
            format!("{answered} answered, {refused} of them refused, {failed} without an answer; {times}");
        rows.push(("placements", text));
    }
    let rows = rows.into_iter().map(|(name, value)| vec![Cell::text(name), Cell::text(value)]).collect();
    write!(console.out, "{}", table_text(&[], rows, console.style))?;
    Ok(console.out.flush()?)
}
