//! `novella scheduler status`: whether a scheduler is ready, and what it has seen and decided.

use clap::{Args, Subcommand};

use crate::connect::{Bus, failed};
use crate::exit_codes::OK;
use crate::output::{Console, OutputArgs, write_object};

/// The commands of `scheduler`.
#[derive(Debug, Subcommand)]
pub enum SchedulerCommand {
    /// Show whether a scheduler is ready, and what it has seen and decided
    #[command(alias = "show", alias = "get")]
    Status(SchedulerStatusArgs),
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
