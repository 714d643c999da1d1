//! `novella release`: releases the room of placements before their hold ends.

use clap::Args;
use novella_rpcapi::Release;
use novella_service::exit::Failure;
use serde_json::json;
use uuid::Uuid;

use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{NOT_FOUND, OK, PARTIAL, USAGE};
use crate::output::{Column, Console, Listing, OutputArgs, write_rows};

/// Arguments of `release`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  novella release s1-68a3c0f1-2a\n  novella release s1-68a3c0f1-2a --instance 6f1c9d0e-2b7a-4c55-9d0e-0c1f2a3b4c5d"
)]
pub struct ReleaseArgs {
    /// Decisions whose room to release
    #[arg(value_name = "DECISION", required = true)]
    pub decisions: Vec<String>,
    /// Only this instance of the decision; repeat it for several
    #[arg(long = "instance", value_name = "UUID")]
    pub instances: Vec<Uuid>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(serde::Serialize)]
struct Released {
    decision_id: String,
    released: u64,
}

const RELEASED: Listing<Released> = Listing::of(&[
    Column::field("decision_id", |r| json!(r.decision_id)),
    Column::field("released", |r| json!(r.released)),
]);

/// Releases the decisions and shows how many reservations each had.
pub async fn run(bus: &Bus, args: &ReleaseArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    if !args.instances.is_empty() && args.decisions.len() > 1 {
        return Err(Failure::new(USAGE, "--instance needs exactly one decision")
            .next("release one decision at a time")
            .into());
    }
    let mut done = Vec::new();
    for decision_id in &args.decisions {
        let release = Release { decision_id: decision_id.clone(), instance_uuids: args.instances.clone() };
        let released = bus.scheduler().release(&release, bus.options()).await;
        let released = released.map_err(scheduler_failed)?;
        done.push(Released { decision_id: decision_id.clone(), released });
    }
    write_rows(&done, &RELEASED, &args.output, console)?;
    let missed: Vec<_> = done.iter().filter(|r| r.released == 0).map(|r| r.decision_id.as_str()).collect();
    if missed.is_empty() {
        return Ok(OK);
    }
    let code = if missed.len() < done.len() { PARTIAL } else { NOT_FOUND };
    Err(Failure::new(code, format!("nothing is held for {}", missed.join(", ")))
        .next("it was released already, its hold has ended, or its host has reported the instances")
        .into())
}
