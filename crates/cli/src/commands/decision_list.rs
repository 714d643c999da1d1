//! `novella decision list`: the last decisions of a scheduler, and whose they are.

use clap::Args;
use novella_objects::DecisionSummary;
use novella_rpcapi::DecisionListQuery;
use serde_json::json;

use crate::connect::{Bus, failed};
use crate::exit_codes::OK;
use crate::output::{Cell, Column, Console, Listing, OutputArgs, SortArgs, Tone, write_sorted};

/// Arguments of `decision list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella decision list
  novella decision list --limit 100 -f json
  novella decision list --scheduler s1

OUTCOME is claimed, held, dry_run, refused or conflict. A scheduler remembers its own last decisions since its start. Without
--scheduler, any scheduler answers.")]
pub struct DecisionListArgs {
    /// How many decisions to list at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000), allow_negative_numbers = true)]
    pub limit: u32,
    /// Ask this scheduler
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

const DECISIONS: Listing<DecisionSummary> = Listing {
    all: &[
        Column::field("decision_id", |d| json!(d.decision_id)),
        Column::field("at", |d| json!(d.at)),
        Column::view("outcome", |d| json!(d.outcome), |d| Cell::text(&d.outcome).tone(tone(d))),
        Column::field("instances", |d| json!(d.instances)),
        Column::field("hosts", |d| json!(d.hosts)),
        Column::field("refused_by", |d| json!(d.refused_by)),
        Column::field("user", |d| json!(d.user)),
    ],
    table: &["decision_id", "at", "outcome", "instances", "hosts", "user"],
    wide: &["refused_by"],
    fields: &["decision_id", "at", "outcome", "instances", "hosts", "refused_by", "user"],
};

fn tone(decision: &DecisionSummary) -> Tone {
    match decision.outcome.as_str() {
        "claimed" | "held" => Tone::Good,
        "dry_run" => Tone::Dim,
        _ => Tone::Bad,
    }
}

/// Lists the decisions, newest first.
pub async fn list(bus: &Bus, args: &DecisionListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    DECISIONS.pick(&args.output.columns)?;
    let (api, peer) = bus.scheduler_named(args.scheduler.as_deref());
    let listed = api.list_decisions(&DecisionListQuery { limit: Some(args.limit) }, bus.options()).await;
    let mut rows = listed.map_err(|error| failed(error, peer))?.decisions;
    write_sorted(&mut rows, &DECISIONS, args.sort.sort.as_ref(), &args.output, console)?;
    Ok(OK)
}
