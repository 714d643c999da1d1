//! Watches whether this agent holds the exclusive queue of its host name.
//!
//! The broker gives the queue `compute.<host>` to one connection at a time. While another connection has it, this agent
//! reports nothing, logs who has it, and waits. Each of these tasks ends when it is dropped.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::{CallOptions, ConsumerState, RpcError, TransportError};
use novella_rpcapi::ComputeApi;
use novella_service::exit::chain;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::manager::ComputeManager;

/// How long to wait for the agent that holds the queue to say who it is.
const WHO_TIMEOUT: Duration = Duration::from_secs(2);

/// Sets the manager's standing as the queue's state changes.
pub async fn follow(
    manager: Arc<ComputeManager>,
    mut queue: watch::Receiver<ConsumerState>,
    compute: ComputeApi,
    host: String,
) {
    loop {
        let state = queue.borrow_and_update().clone();
        match state {
            ConsumerState::Active { .. } => {
                manager.take_name();
            }
            ConsumerState::Held => {
                manager.give_up_name();
                tell_who_holds(&compute, &host).await;
            }
            ConsumerState::Failed { reason } => {
                manager.refuse_name(&reason);
                error!(
                    host,
                    reason,
                    "cannot consume the queue of this host; nothing is reported until it can be consumed"
                );
            }
            // The connection is lost. Reports cannot be published now, and another agent may have the queue when the
            // connection comes back.
            ConsumerState::Pending => manager.give_up_name(),
        }
        if queue.changed().await.is_err() {
            return;
        }
    }
}

/// Asks the agent that holds the queue who it is, and logs the answer.
async fn tell_who_holds(compute: &ComputeApi, host: &str) {
    let options = CallOptions { timeout: WHO_TIMEOUT, ..CallOptions::default() };
    match compute.ping(host, options).await {
        Ok(who) => warn!(
            host,
            holder_uuid = %who.uuid,
            holder_pid = who.pid,
            holder_uptime_s = who.uptime_s,
            "another agent reports as this host; waiting until it is gone. Stop one of them, or give it another --host"
        ),
        // The shipped permissions let only schedulers send to agents.
        Err(RpcError::Send { source: TransportError::Refused { .. }, .. }) => warn!(
            host,
            "another connection holds the queue of this host; waiting until it is gone. Run `novella ping {host}` to see \
             which agent it is. The broker user of an agent is not allowed to ask"
        ),
        Err(error) => info!(
            host,
            error = chain(&error),
            "another connection holds the queue of this host and does not say who it is; waiting until it is gone"
        ),
    }
}

/// The condition `host name`: whether the host's queue is this agent's.
pub fn of_name(queue: &ConsumerState) -> (bool, String) {
    let why_not = match queue {
        ConsumerState::Active { .. } => return (true, "held".to_owned()),
        ConsumerState::Held => "another agent holds this host name; waiting until it is gone",
        ConsumerState::Failed { reason } => reason,
        ConsumerState::Pending => "the queue of this host is not consumed yet",
    };
    (false, why_not.to_owned())
}
