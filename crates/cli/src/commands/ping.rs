//! `novella ping`: checks that a scheduler, or the agent of a host, answers.

use clap::Args;
use novella_rpcapi::{BaseApi, ComputeApi};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::connect::{Bus, Peer, failed, scheduler_failed};
use crate::exit_codes::OK;
use crate::output::{Console, OutputArgs, write_object};

/// Arguments of `ping`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  novella ping\n  novella ping cmp-1 --timeout 2s -f json")]
pub struct PingArgs {
    /// Host whose agent should answer; without it, any scheduler
    pub host: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Sends a ping and shows who answered, and how fast.
pub async fn run(bus: &Bus, args: &PingArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let began = Instant::now();
    let mut answer = match &args.host {
        Some(host) => {
            let api = ComputeApi::new(bus.client().clone(), bus.names());
            let status = api.ping(host, bus.options()).await;
            serde_json::to_value(status.map_err(|error| failed(error, Peer::Agent(host)))?)?
        }
        None => {
            let pong = BaseApi::ping(bus.client(), bus.names().scheduler(), Value::Null, bus.options()).await;
            json!({ "service": pong.map_err(scheduler_failed)?.service })
        }
    };
    answer["round_trip_ms"] = json!((began.elapsed().as_secs_f64() * 1e6).round() / 1e3);
    write_object(&answer, &args.output, console)?;
    Ok(OK)
}
