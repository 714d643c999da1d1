//! `novella scheduler`: which schedulers there are, whether each is ready, and what it has seen and decided.

use clap::{Args, Subcommand};
use futures_util::future::join_all;
use novella_rpcapi::SchedulerStatus;
use serde_json::json;

use super::policy::{note_drift, note_failures};
use crate::connect::{Bus, failed, scheduler_failed};
use crate::exit_codes::{CONFLICT, OK, PARTIAL};
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, SortArgs, Tone, natural, write_object, write_sorted,
};
use crate::units;

/// The commands of `scheduler`.
#[derive(Debug, Subcommand)]
pub enum SchedulerCommand {
    /// List all schedulers: whether each is ready, and which policy it has
    #[command(alias = "ls")]
    List(SchedulerListArgs),
    /// Show whether a scheduler is ready, and what it has seen and decided
    #[command(alias = "show", alias = "get")]
    Status(SchedulerStatusArgs),
}

/// Arguments of `scheduler list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella scheduler list
  novella scheduler list -f value -c scheduler -c ready

Exit code 0: all schedulers answered and have the same policy. 5: their policies differ. 3: one did not answer.")]
pub struct SchedulerListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// Arguments of `scheduler status`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  novella scheduler status\n  novella scheduler status s1 -f json")]
pub struct SchedulerStatusArgs {
    /// Name of the scheduler; without it, any scheduler answers
    pub name: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Shows the status of a scheduler.
pub async fn status(bus: &Bus, args: &SchedulerStatusArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let (api, peer) = bus.scheduler_named(args.name.as_deref());
    let status = api.status(bus.options()).await.map_err(|error| failed(error, peer))?;
    write_object(&status, &args.output, console)?;
    Ok(OK)
}

const SCHEDULERS: Listing<SchedulerStatus> = Listing {
    all: &[
        Column::field("scheduler", |s| json!(s.scheduler)),
        Column::view(
            "ready",
            |s| json!(s.ready),
            |s| match s.ready {
                true => Cell::text("yes").tone(Tone::Good),
                false => Cell::text("no").tone(Tone::Bad),
            },
        ),
        Column::field("version", |s| json!(s.version)),
        Column::field("uptime_s", |s| json!(s.uptime_s)),
        Column::view("uptime", |s| json!(s.uptime_s), |s| Cell::number(units::age(s.uptime_s))),
        Column::view("hosts", |s| json!(s.hosts), |s| Cell::number(s.hosts.values().sum::<u64>())),
        Column::field("reports", |s| json!(s.reports)),
        Column::field("decisions", |s| json!(s.decisions)),
        Column::field("refusals", |s| json!(s.refusals)),
        Column::field("reservations", |s| json!(s.reservations)),
        Column::field("policy_hash", |s| json!(s.policy_hash)),
        Column::field("policy_refused", |s| json!(s.policy_refused)),
        Column::field("waiting_for", |s| json!(s.waiting_for)),
        Column::field("largest_holders", |s| json!(s.largest_holders)),
    ],
    table: &[
        "scheduler",
        "ready",
        "version",
        "uptime",
        "hosts",
        "decisions",
        "reservations",
        "policy_hash",
        "waiting_for",
    ],
    wide: &["reports", "refusals", "policy_refused"],
    fields: &[
        "scheduler",
        "version",
        "uptime_s",
        "ready",
        "waiting_for",
        "hosts",
        "reports",
        "decisions",
        "refusals",
        "reservations",
        "policy_hash",
        "policy_refused",
        "largest_holders",
    ],
};

/// Lists all schedulers.
pub async fn list(bus: &Bus, args: &SchedulerListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    SCHEDULERS.pick(&args.output.columns)?;
    let policies = bus.scheduler().get_policies(bus.options()).await.map_err(scheduler_failed)?;
    let mut failures = policies.failures.clone();
    let asked = policies.schedulers.iter().map(|policy| async {
        let (api, peer) = bus.scheduler_named(Some(&policy.scheduler));
        api.status(bus.options()).await.map_err(|error| failed(error, peer))
    });
    let mut statuses = Vec::new();
    for answer in join_all(asked).await {
        match answer {
            Ok(status) => statuses.push(status),
            Err(failure) => failures.push(novella_service::exit::chain(&failure)),
        }
    }
    statuses.sort_by(|a, b| natural(&a.scheduler, &b.scheduler));
    write_sorted(&mut statuses, &SCHEDULERS, args.sort.sort.as_ref(), &args.output, console)?;
    note_failures(&failures, console);
    Ok(match (note_drift(&policies.schedulers, console), failures.is_empty()) {
        (true, _) => CONFLICT,
        (false, true) => OK,
        (false, false) => PARTIAL,
    })
}
