//! `novella decision show`: what was decided, by the scheduler that remembers it.

use clap::{Args, Subcommand};
use novella_messaging::CallOptions;
use novella_rpcapi::SchedulerApi;
use novella_service::exit::Failure;

use super::explain;
use crate::connect::{Peer, failed};
use crate::exit_codes::{NOT_FOUND, OK, USAGE};
use crate::output::{Console, OutputArgs};

/// What can be done with decisions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show one decision and how it came about
    #[command(aliases = ["get", "describe"])]
    Show(ShowArgs),
}

/// Arguments of `decision show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  novella decision show s1-68a3c0f1-2a\n  novella decision show s1-68a3c0f1-2a -f json"
)]
pub struct ShowArgs {
    /// The id that `novella place` gave; it starts with the scheduler's name
    #[arg(value_name = "DECISION")]
    pub id: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Asks the scheduler that made the decision.
pub async fn show(
    api: &SchedulerApi,
    options: CallOptions,
    args: &ShowArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let scheduler = scheduler_of(&args.id).ok_or_else(|| {
        Failure::new(USAGE, format!("{:?} is no decision id", args.id))
            .next("write it as `novella place` showed it: SCHEDULER-HEX-HEX")
    })?;
    let found = api.of(scheduler).get_decision(&args.id, options).await;
    let decision = found.map_err(|error| failed(error, Peer::Scheduler(scheduler)))?.ok_or_else(|| {
        Failure::new(NOT_FOUND, format!("scheduler {scheduler} does not remember decision {}", args.id))
            .next("it keeps the last few thousand, and none from before it was started; its log has a line for each")
    })?;
    explain::show(&decision, true, &args.output, console)?;
    Ok(OK)
}

/// The part before the two numbers.
fn scheduler_of(id: &str) -> Option<&str> {
    let mut parts = id.rsplitn(3, '-');
    let hex =
        |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_hexdigit()));
    (hex(parts.next()) && hex(parts.next())).then(|| parts.next()).flatten().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_scheduler() {
        assert_eq!(scheduler_of("s1-68a3c0f1-2a"), Some("s1"));
        assert_eq!(scheduler_of("dc-1.example-68a3c0f1-0"), Some("dc-1.example"));
        for wrong in ["", "s1", "s1-2a", "-68a3-2a", "s1-68a3-", "s1-xyz-2a"] {
            assert_eq!(scheduler_of(wrong), None, "{wrong}");
        }
    }
}
