//! The scheduler's life beside requests: fills the map, opens the door, and asks again whenever it may have missed
//! something: a lost connection, a stall of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use novella_messaging::{ConsumerState, QueueKind, RpcServer};
use novella_objects::Reserve;
use novella_rpcapi::{SCHEDULER_TOPIC, SchedulerApi};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::startup::Startup;

/// Reserves published at once. They are small and ordered by nothing, so that confirms may overlap.
const RESERVES_IN_FLIGHT: usize = 64;

/// What the life needs.
pub struct Lifecycle {
    /// Fills the map.
    pub startup: Startup,
    /// Serves requests once the map is filled.
    pub server: Arc<RpcServer>,
    /// Control exchange.
    pub exchange: String,
    /// This scheduler's name.
    pub name: String,
}

impl Lifecycle {
    /// Runs until dropped.
    pub async fn run(self, mut fanout: watch::Receiver<ConsumerState>) {
        if !self.startup.fill_the_map(&mut fanout).await {
            return;
        }
        let own = QueueKind::Server {
            exchange: self.exchange.clone(),
            topic: SCHEDULER_TOPIC.to_owned(),
            server: self.name.clone(),
            fanout: false,
        };
        let shared = QueueKind::Topic { exchange: self.exchange.clone(), topic: SCHEDULER_TOPIC.to_owned() };
        for queue in [own, shared] {
            if let Err(cause) = self.server.listen(queue).await {
                error!(%cause, "cannot take requests");
                self.startup.ready.set(false, format!("no queue for requests: {cause}"));
                return;
            }
        }
        self.startup.ready.set(true, "the map is filled");
        self.follow(fanout).await;
    }

    /// Keeps the map honest through lost connections and stalls.
    async fn follow(&self, mut fanout: watch::Receiver<ConsumerState>) {
        let manager = &self.startup.manager;
        let mut active = true;
        loop {
            tokio::select! { biased;
                changed = fanout.changed() => if changed.is_err() { return },
                () = manager.stalled() => {
                    self.startup.ask_all().await;
                    continue;
                }
            }
            let now_active = matches!(*fanout.borrow_and_update(), ConsumerState::Active { .. });
            match (active, now_active) {
                (true, false) => {
                    warn!(
                        "no reports reach this scheduler: the connection is lost; its hosts are suspect meanwhile"
                    );
                    manager.with_hosts(|hosts, now| hosts.broker_lost(now));
                }
                (false, true) => {
                    info!("reports reach this scheduler again; asking all agents for theirs");
                    manager.with_hosts(|hosts, now| hosts.broker_back(now));
                    self.startup.ask_all().await;
                }
                // A new connection, faster than we looked: the queue before it is gone with what was in it.
                (true, true) => self.startup.ask_all().await,
                (false, false) => {}
            }
            active = now_active;
        }
    }
}

/// Tells the other schedulers what was given away, until `stop`; what waits then is still told.
pub async fn tell_reserves(
    api: SchedulerApi,
    mut reserves: mpsc::Receiver<Reserve>,
    timeout: Duration,
    stop: CancellationToken,
) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! { biased;
            Some((decision_id, told)) = in_flight.next(), if !in_flight.is_empty() => {
                if let Err(error) = told {
                    let error: novella_messaging::RpcError = error;
                    let decision_id: String = decision_id;
                    warn!(decision_id, %error, "other schedulers were not told of a decision; host claims will settle it");
                }
            }
            reserve = reserves.recv(), if in_flight.len() < RESERVES_IN_FLIGHT => {
                let Some(reserve) = reserve else { return };
                let api = api.clone();
                in_flight.push(async move {
                    let told = api.reserve(&reserve, timeout).await;
                    (reserve.decision_id, told)
                });
            }
            () = stop.cancelled(), if in_flight.is_empty() => return,
        }
    }
}
