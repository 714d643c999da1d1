//! `novella ping`: checks that a scheduler, or the agent of a host, answers.
//!
//! A scheduler asks the agent, because the broker does not let operators send to agents.

use clap::Args;
use novella_rpcapi::{AgentStatus, BaseApi, HostPing};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::connect::{Bus, Peer, scheduler_failed};
use crate::exit_codes::OK;
use crate::output::{Console, OutputArgs, write_object};

/// Arguments of `ping`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  novella ping\n  novella ping cmp-1 --timeout 2s -f json")]
pub struct PingArgs {
    /// Host whose agent should answer; without it, any scheduler answers
    pub host: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Sends a ping and shows who answered, and how fast.
pub async fn run(bus: &Bus, args: &PingArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let began = Instant::now();
    let mut answer = match &args.host {
        Some(host) => serde_json::to_value(agent(bus, host).await?)?,
        None => {
            let pong = BaseApi::ping(bus.client(), bus.names().scheduler(), Value::Null, bus.options()).await;
            json!({ "service": pong.map_err(scheduler_failed)?.service })
        }
    };
    answer["round_trip_ms"] = json!((began.elapsed().as_secs_f64() * 1e6).round() / 1e3);
    write_object(&answer, &args.output, console)?;
    Ok(OK)
}

/// Has a scheduler ask the agent of a host. The agent gets less time than the command, so that the scheduler can still say
/// that it did not answer.
async fn agent(bus: &Bus, host: &str) -> anyhow::Result<AgentStatus> {
    let options = bus.options();
    let for_the_agent = options.timeout.mul_f64(0.8);
    match bus.scheduler().ping_host(host, for_the_agent, options).await.map_err(scheduler_failed)? {
        HostPing::Answered(status) => Ok(status),
        HostPing::NobodyListens => Err(Peer::Agent(host).nobody_listens_there().into()),
        HostPing::NoAnswer => Err(Peer::Agent(host).did_not_answer(for_the_agent).into()),
    }
}
