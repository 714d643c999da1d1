//! `novella host forget`: makes all schedulers forget a host.

use novella_objects::ForgottenBy;
use novella_service::exit::Failure;
use serde_json::json;

use super::HostForgetArgs;
use super::wanted::SEE_ALL;
use crate::commands::policy::note_failures;
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{NOT_FOUND, OK, PARTIAL};
use crate::output::{Column, Console, Listing, printable, write_rows};

const SCHEDULERS: Listing<ForgottenBy> = Listing {
    all: &[
        Column::field("scheduler", |by| json!(by.scheduler)),
        Column::field("known", |by| json!(by.known)),
    ],
    table: &["scheduler", "known"],
    wide: &[],
    fields: &["scheduler", "known"],
};

/// Makes all schedulers forget a host, and shows which of them knew it.
pub async fn forget(bus: &Bus, args: &HostForgetArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let forgotten = bus.scheduler().forget_host(&args.host, bus.options()).await.map_err(scheduler_failed)?;
    if args.output.format.is_table() && args.output.columns.is_empty() {
        for by in &forgotten.schedulers {
            let what = if by.known { "forgot" } else { "did not know" };
            writeln!(console.out, "{} {what} {}", printable(&by.scheduler), printable(&args.host))?;
        }
    } else {
        write_rows(&forgotten.schedulers, &SCHEDULERS, &args.output, console)?;
    }
    note_failures(&forgotten.failures, console);
    let known = forgotten.schedulers.iter().any(|by| by.known);
    if !known && forgotten.failures.is_empty() {
        let failure = Failure::new(NOT_FOUND, format!("no scheduler knows a host {}", args.host));
        return Err(failure.next(SEE_ALL).into());
    }
    Ok(if forgotten.failures.is_empty() { OK } else { PARTIAL })
}
