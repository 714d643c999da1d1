//! Watches whether this agent is connected and holds the exclusive queue of its host name.
//!
//! The broker gives the queue `compute.<host>` to one connection at a time. While another connection has it, this agent
//! reports nothing, logs who has it, and waits. Each of these tasks ends when it is dropped.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::{CallOptions, ConnectionState, ConsumerState, RpcError, TransportError};
use novella_rpcapi::ComputeApi;
use novella_service::exit::chain;
use novella_service::health::Condition;
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

/// Sets the condition `broker` to the state of the connection.
pub async fn watch_broker(condition: Condition, mut connection: watch::Receiver<ConnectionState>) {
    loop {
        match &*connection.borrow_and_update() {
            ConnectionState::Connected { broker, .. } => {
                condition.set(true, format!("connected to {broker}"))
            }
            ConnectionState::Connecting { attempt, last_error } => {
                let why = last_error.as_deref().unwrap_or("not tried yet");
                condition.set(false, format!("not connected after {attempt} attempts: {why}"));
            }
            ConnectionState::Blocked { reason } => {
                condition.set(false, format!("the broker accepts no messages: {reason}"));
            }
            ConnectionState::Closed => condition.set(false, "closed"),
        }
        if connection.changed().await.is_err() {
            return;
        }
    }
}

/// Sets the condition `host name` to the state of the host's queue.
pub async fn watch_name(condition: Condition, mut queue: watch::Receiver<ConsumerState>) {
    loop {
        match &*queue.borrow_and_update() {
            ConsumerState::Active { .. } => condition.set(true, "held"),
            ConsumerState::Held => {
                condition.set(false, "another agent holds this host name; waiting until it is gone")
            }
            ConsumerState::Failed { reason } => condition.set(false, reason),
            ConsumerState::Pending => condition.set(false, "the queue of this host is not consumed yet"),
        }
        if queue.changed().await.is_err() {
            return;
        }
    }
}
