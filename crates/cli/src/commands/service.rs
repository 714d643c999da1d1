//! `novella service list`: the services that report to the schedulers.

use clap::{Args, Subcommand};
use novella_objects::ServiceSummary;
use serde_json::json;

use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::OK;
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, SortArgs, natural, state_tone, write_sorted,
};
use crate::units;

/// The commands of `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List every service that reports to the schedulers
    #[command(alias = "ls")]
    List(ServiceListArgs),
}

/// Arguments of `service list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  novella service list\n  novella service list -f value -c host")]
pub struct ServiceListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

const SERVICES: Listing<ServiceSummary> = Listing {
    all: &[
        Column::field("service", |s| json!(s.service)),
        Column::field("host", |s| json!(s.host)),
        Column::view("state", |s| json!(s.state), |s| Cell::text(s.state.as_str()).tone(state_tone(s.state))),
        Column::field("report_age_s", |s| json!(s.report_age_s)),
        Column::view("age", |s| json!(s.report_age_s), |s| Cell::number(units::age(s.report_age_s))),
    ],
    table: &["service", "host", "state", "age"],
    wide: &[],
    fields: &["service", "host", "state", "report_age_s"],
};

/// Lists the services.
pub async fn list(bus: &Bus, args: &ServiceListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let mut services = bus.scheduler().list_services(bus.options()).await.map_err(scheduler_failed)?;
    services.sort_by(|a, b| a.service.cmp(&b.service).then_with(|| natural(&a.host, &b.host)));
    write_sorted(&mut services, &SERVICES, args.sort.sort.as_ref(), &args.output, console)?;
    Ok(OK)
}
