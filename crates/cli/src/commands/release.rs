//! `novella release`: gives back the room of placements, held or claimed.

use clap::Args;
use novella_rpcapi::{Release, Released};
use novella_service::exit::Failure;
use serde_json::json;
use uuid::Uuid;

use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{NOT_FOUND, OK, PARTIAL};
use crate::output::{Column, Console, Listing, OutputArgs, write_rows};

/// Arguments of `release`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella release s1-68a3c0f1-2a
  novella release s1-68a3c0f1-2a --instance 6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d
  novella release --instance 6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d

What is held is given back at once. What `novella place --claim` has claimed is given back when the host has noted it, and
the same uuid cannot be claimed on that host again for an hour.")]
pub struct ReleaseArgs {
    /// Decisions whose room to release
    #[arg(value_name = "DECISION", required_unless_present = "instances")]
    pub decisions: Vec<String>,
    /// Only this instance, of the decision or of any; repeat it for several
    #[arg(long = "instance", value_name = "UUID")]
    pub instances: Vec<Uuid>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What came of one decision, or of the instances.
#[derive(serde::Serialize)]
struct Outcome {
    decision_id: String,
    released: u64,
    #[serde(flatten)]
    parts: Released,
}

const RELEASED: Listing<Outcome> = Listing::of(&[
    Column::field("decision_id", |r| json!(r.decision_id)),
    Column::field("released", |r| json!(r.released)),
    Column::field("holds", |r| json!(r.parts.holds)),
    Column::field("claims", |r| json!(r.parts.claims)),
]);

/// Releases the decisions, or the instances of any decision, and shows what each had.
pub async fn run(bus: &Bus, args: &ReleaseArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let any = [String::new()];
    let decisions = if args.decisions.is_empty() { &any[..] } else { &args.decisions };
    let mut done = Vec::new();
    for decision_id in decisions {
        let release = Release { decision_id: decision_id.clone(), instance_uuids: args.instances.clone() };
        let parts = bus.scheduler().release_claims(&release, bus.options()).await;
        let parts = parts.map_err(scheduler_failed)?;
        done.push(Outcome { decision_id: decision_id.clone(), released: parts.holds + parts.claims, parts });
    }
    write_rows(&done, &RELEASED, &args.output, console)?;
    let failed: Vec<_> = done.iter().flat_map(|outcome| &outcome.parts.failed).collect();
    if let Some((host, reason)) = failed.first() {
        return Err(Failure::new(PARTIAL, format!("host {host} keeps its claims: {reason}"))
            .next("repeat the command when the host answers; `novella ping HOST` asks it")
            .into());
    }
    let missed: Vec<_> = done.iter().filter(|r| r.released == 0).map(|r| r.decision_id.as_str()).collect();
    if missed.is_empty() {
        return Ok(OK);
    }
    let code = if missed.len() < done.len() { PARTIAL } else { NOT_FOUND };
    let of = if args.decisions.is_empty() { "these instances".to_owned() } else { missed.join(", ") };
    Err(Failure::new(code, format!("nothing is held or claimed for {of}"))
        .next("it was released already, its hold has ended, or no host has reported the claim yet")
        .into())
}
