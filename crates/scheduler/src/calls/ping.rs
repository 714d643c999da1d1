//! `ping_host`: asks the agent of a host whether it answers.
//!
//! The broker lets only schedulers send to agents. So an operator asks a scheduler, which asks the agent.
//!
//! What always holds: the caller gets an answer within the time that it gave, and within [`LONGEST`].

use std::time::Duration;

use novella_messaging::{CallError, CallOptions, RpcError, TransportError};
use novella_rpcapi::{ComputeApi, HostPing, PingHost};
use novella_service::exit::chain;

use crate::call_errors::internal;
use crate::manager::SchedulerManager;

/// The longest time that an agent may take. Meanwhile the request occupies one of the server's slots.
const LONGEST: Duration = Duration::from_secs(30);

/// Answers the call.
pub(crate) async fn ping_host(manager: &SchedulerManager, args: PingHost) -> Result<HostPing, CallError> {
    let agents =
        manager.agents.get().ok_or_else(|| internal("this scheduler has no connection to the agents"))?;
    let timeout = Duration::from_millis(args.timeout_ms).min(LONGEST);
    let answer = ping(agents, &args.host, timeout).await;
    answer.map_err(|error| internal(format!("cannot ask the agent of {}: {}", args.host, chain(&error))))
}

/// Asks the agent of a host, which may take `timeout`. An error is one of the question or of the answer.
pub(crate) async fn ping(agents: &ComputeApi, host: &str, timeout: Duration) -> Result<HostPing, RpcError> {
    let options = CallOptions { mandatory: true, ..CallOptions::new(timeout) };
    match agents.ping(host, options).await {
        Ok(status) => Ok(HostPing::Answered(status)),
        Err(RpcError::Send { source: TransportError::Unroutable { .. }, .. }) => Ok(HostPing::NobodyListens),
        Err(RpcError::Timeout { .. }) => Ok(HostPing::NoAnswer),
        Err(error) => Err(error),
    }
}
