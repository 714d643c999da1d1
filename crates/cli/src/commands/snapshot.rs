//! `novella snapshot`: a scheduler's map as a document, from which `novella evaluate` decides as the scheduler would.

use clap::{Args, ValueEnum};
use novella_messaging::CallOptions;
use novella_objects::document::Fleet;
use novella_rpcapi::SchedulerApi;

use crate::connect::{Peer, failed};
use crate::exit_codes::OK;
use crate::output::Console;

/// How the document is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON document, a host on each line
    #[default]
    Json,
    /// The same as JSON lines: first all but the hosts, then a host on each line
    Jsonl,
}

/// See the module.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  novella snapshot > fleet.json\n  novella snapshot s1 -f jsonl > fleet.jsonl\n  \
        novella snapshot | novella evaluate --hosts - --requests requests.json"
)]
pub struct SnapshotArgs {
    /// The scheduler's name; without one, any answers
    pub name: Option<String>,
    /// How to write the document
    #[arg(short = 'f', long = "format", value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// Asks for the map and writes it.
pub async fn run(
    api: &SchedulerApi,
    options: CallOptions,
    args: &SnapshotArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let peer = args.name.as_deref().map_or(Peer::AnyScheduler, Peer::Scheduler);
    let api = args.name.as_ref().map_or_else(|| api.clone(), |name| api.of(name));
    let text = api.snapshot(options).await.map_err(|error| failed(error, peer))?;
    let mut fleet: Fleet<'_> = serde_json::from_str(text.get())?;
    let hosts = std::mem::take(&mut fleet.hosts);
    let head = serde_json::to_string(&fleet)?;
    let head = head.strip_suffix("\"hosts\":[]}").expect("hosts are the last field");
    let (first, between, last) = match args.format {
        Format::Json => (format!("{head}\"hosts\":["), ",\n", "]}\n"),
        Format::Jsonl => (format!("{}}}", head.trim_end_matches(',')), "\n", ""),
    };
    writeln!(console.out, "{first}")?;
    for (at, host) in hosts.iter().enumerate() {
        let between = if at == 0 { "" } else { between };
        write!(console.out, "{between}{}", serde_json::to_string(host)?)?;
    }
    write!(console.out, "\n{last}")?;
    console.out.flush()?;
    let origin = fleet.origin.as_deref().unwrap_or("a scheduler");
    console.note(&format!("{} hosts as {origin} sees them", hosts.len()));
    Ok(OK)
}
