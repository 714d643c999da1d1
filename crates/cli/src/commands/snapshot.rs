//! `novella snapshot`: a scheduler's view of all hosts as a document. `novella evaluate` decides on it as the scheduler
//! would.

use anyhow::Context;
use clap::{Args, ValueEnum};
use novella_objects::document::Fleet;

use crate::connect::{Bus, failed};
use crate::exit_codes::OK;
use crate::output::Console;

/// How the document is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SnapshotFormat {
    /// One JSON document, a host on each line
    #[default]
    Json,
    /// JSON lines: everything but the hosts on the first line, then a host on each line
    Jsonl,
}

/// Arguments of `snapshot`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  novella snapshot > fleet.json\n  novella snapshot s1 -f jsonl > fleet.jsonl\n  \
        novella snapshot | novella evaluate --hosts - --requests requests.json"
)]
pub struct SnapshotArgs {
    /// Name of the scheduler; without it, any scheduler answers
    pub name: Option<String>,
    /// How to write the document
    #[arg(short = 'f', long = "format", value_name = "FORMAT", value_enum, default_value_t)]
    pub format: SnapshotFormat,
}

/// Asks a scheduler for its view and writes it.
pub async fn run(bus: &Bus, args: &SnapshotArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let (api, peer) = bus.scheduler_named(args.name.as_deref());
    let snapshot = api.snapshot(bus.options()).await.map_err(|error| failed(error, peer))?;
    let (head, hosts) = (snapshot.head.context("the scheduler did not send the first page")?, snapshot.hosts);
    let origin = serde_json::from_str::<Fleet<'_>>(head.get())?.origin;
    let head = head
        .get()
        .strip_suffix("\"hosts\":[]}")
        .context("the hosts are not the last field of the document")?;
    let (first, between, last) = match args.format {
        SnapshotFormat::Json => (format!("{head}\"hosts\":["), ",\n", "]}\n"),
        SnapshotFormat::Jsonl => (format!("{}}}", head.trim_end_matches(',')), "\n", ""),
    };
    writeln!(console.out, "{first}")?;
    for (at, host) in hosts.iter().enumerate() {
        let between = if at == 0 { "" } else { between };
        write!(console.out, "{between}{}", host.get())?;
    }
    write!(console.out, "\n{last}")?;
    console.out.flush()?;
    let origin = origin.as_deref().unwrap_or("a scheduler");
    console.note(&format!("{} hosts as {origin} sees them", hosts.len()));
    Ok(OK)
}
