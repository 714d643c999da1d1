//! Asks hosts that are new to the map whether they have a queue of their own.
//!
//! Anybody who may report can report hosts that do not exist. Only a real one answers under its own queue. The map places on
//! hosts that do not answer after all others.
//!
//! What always holds: a few hosts are asked at a time, so that a fleet that comes at once is no load for the broker. Any
//! answer counts, also an error, because agents of other projects need not know the question.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use novella_messaging::RpcError;
use novella_rpcapi::{ComputeApi, HostPing};
use tokio::time::{MissedTickBehavior, interval};

use crate::calls::ping::ping;
use crate::manager::SchedulerManager;

/// How often new hosts are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// How many hosts are asked at the same time. The next ones are asked when all have answered or had the time to. `join_all`
/// of so few polls them in order, so that the same seed gives the same messages.
const AT_A_TIME: usize = 30;
/// How many times so many hosts are asked before the next look.
const ROUNDS: usize = 32;
/// How long a host has to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks until dropped.
pub async fn ask(manager: Arc<SchedulerManager>, agents: ComputeApi) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for _ in 0..ROUNDS {
            let hosts = manager.with_hosts(|hosts, now| hosts.hosts_to_ask(AT_A_TIME, now));
            if hosts.is_empty() {
                break;
            }
            join_all(hosts.into_iter().map(|host| ask_one(&manager, &agents, host))).await;
        }
    }
}

async fn ask_one(manager: &SchedulerManager, agents: &ComputeApi, host: String) {
    let answer = match ping(agents, &host, PATIENCE).await {
        Ok(HostPing::Answered(status)) => Some(Some(status.uuid)),
        Ok(HostPing::NobodyListens | HostPing::NoAnswer) => None,
        Err(RpcError::Remote { .. } | RpcError::Malformed { .. }) => Some(None),
        // That the question cannot be sent says nothing of the host.
        Err(RpcError::Timeout { .. } | RpcError::Send { .. }) => {
            return manager.with_hosts(|hosts, now| hosts.ask_later(&host, now));
        }
    };
    manager.with_hosts(|hosts, now| hosts.answered(&host, answer, now));
}
