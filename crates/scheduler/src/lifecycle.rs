//! The scheduler's life beside requests: fills the map, opens the door, and asks again whenever it may have missed
//! something: a lost connection, a stall of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use novella_messaging::{ConsumerState, QueueKind, RpcServer, TransportError};
use novella_objects::Reserve;
use novella_rpcapi::{Names, SchedulerApi};
use novella_service::exit::chain;
use novella_service::health::Condition;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::startup::Startup;

/// Reserves published at once. They are small, and of different instances, so that confirms may overlap.
const RESERVES_IN_FLIGHT: usize = 64;

/// Why a scheduler takes requests.
const FILLED: &str = "the map is filled";

/// What the life needs.
pub struct Lifecycle {
    /// Fills the map.
    pub startup: Startup,
    /// Serves requests once the map is filled.
    pub server: Arc<RpcServer>,
    /// Where it listens.
    pub names: Names,
    /// This scheduler's name.
    pub name: String,
    /// Whether the name is ours alone.
    pub held_name: Condition,
}

impl Lifecycle {
    /// Runs until dropped.
    pub async fn run(self, mut fanout: watch::Receiver<ConsumerState>) {
        if !self.startup.reports_arrive(&mut fanout).await {
            return;
        }
        self.have_requests_wait().await;
        if !self.startup.fill_the_map(&mut fanout).await {
            return;
        }
        let own = match self.open().await {
            Ok(own) => own,
            Err(cause) => {
                error!(error = chain(&cause), "cannot take requests");
                self.startup.ready.set(false, format!("no queue for requests: {}", chain(&cause)));
                return;
            }
        };
        self.startup.ready.set(true, FILLED);
        self.follow(fanout, own).await;
    }

    /// Sees to it that the queue of requests is there while the map fills, on a broker that never had one too.
    async fn have_requests_wait(&self) {
        let deadline = Instant::now() + self.startup.publish_timeout;
        if let Err(cause) = self.server.declare(self.requests(), deadline).await {
            warn!(error = chain(&cause), "requests cannot wait yet: their queue is not there");
        }
    }

    /// The queue that all schedulers share.
    fn requests(&self) -> QueueKind {
        let Names { control_exchange, scheduler_topic, .. } = self.names.clone();
        QueueKind::Topic { exchange: control_exchange, topic: scheduler_topic }
    }

    /// Takes requests: first those for this scheduler by name, then its share of those for any. Yields the state of its
    /// own queue.
    async fn open(&self) -> Result<watch::Receiver<ConsumerState>, TransportError> {
        let Names { control_exchange: exchange, scheduler_topic: topic, .. } = self.names.clone();
        let server = self.name.clone();
        let own = QueueKind::Server { exchange, topic, server, fanout: false };
        let mut own = self.server.listen(own).await?;
        // Two schedulers of one name would each take the other's reserves for its own and ignore them.
        while !self.tell_name(&own.borrow_and_update()) {
            if own.changed().await.is_err() {
                return Err(TransportError::Closed);
            }
        }
        self.server.listen(self.requests()).await?;
        Ok(own)
    }

    /// Says whether this scheduler's own queue, and with it its name, is held; true if so.
    fn tell_name(&self, own: &ConsumerState) -> bool {
        match own {
            ConsumerState::Active { .. } => self.held_name.set(true, "held"),
            ConsumerState::Held => {
                warn!(
                    name = self.name,
                    "another scheduler has this name; waiting until it is gone. Give one of them another --name"
                );
                self.held_name.set(false, "another scheduler has this name; waiting until it is gone");
            }
            ConsumerState::Failed { reason } => {
                error!(name = self.name, reason, "cannot consume the queue of this scheduler");
                self.held_name.set(false, reason);
            }
            ConsumerState::Pending => self.held_name.set(false, "the queue of this name is not consumed yet"),
        }
        matches!(own, ConsumerState::Active { .. })
    }

    /// Keeps the map honest through lost connections and stalls.
    async fn follow(
        &self,
        mut fanout: watch::Receiver<ConsumerState>,
        mut own: watch::Receiver<ConsumerState>,
    ) {
        let manager = &self.startup.manager;
        let mut active = true;
        loop {
            tokio::select! { biased;
                changed = fanout.changed() => if changed.is_err() { return },
                changed = own.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.tell_name(&own.borrow_and_update());
                    continue;
                }
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
                    self.startup.ready.set(false, "no connection to the broker; the map is kept");
                }
                (false, true) => {
                    info!("reports reach this scheduler again; asking all agents for theirs");
                    manager.with_hosts(|hosts, now| hosts.broker_back(now));
                    self.startup.ready.set(true, FILLED);
                    self.startup.ask_all().await;
                }
                // A new connection, faster than we looked: the queue before it is gone with what was in it.
                (true, true) => {
                    self.startup.ask_all().await;
                }
                (false, false) => {}
            }
            active = now_active;
        }
    }
}

/// Tells the other schedulers what was given away and what was let go, until `stop`; what waits then is still told.
pub async fn tell_reserves(
    api: SchedulerApi,
    mut reserves: mpsc::Receiver<Reserve>,
    timeout: Duration,
    stop: CancellationToken,
) {
    let tell = |reserve: Reserve| {
        let api = api.clone();
        async move {
            if let Err(error) = api.reserve(&reserve, timeout).await {
                let decision_id = reserve.decision_id;
                warn!(
                    decision_id,
                    error = chain(&error),
                    "other schedulers were not told of a decision; host claims will settle it"
                );
            }
        }
    };
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! { biased;
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
            reserve = reserves.recv(), if in_flight.len() < RESERVES_IN_FLIGHT => {
                let Some(reserve) = reserve else { return };
                let lets_go = reserve.ttl_ms == 0;
                // What lets go must not overtake what it lets go of, nor be overtaken by what is decided after it.
                if lets_go {
                    while in_flight.next().await.is_some() {}
                }
                in_flight.push(tell(reserve));
                if lets_go {
                    while in_flight.next().await.is_some() {}
                }
            }
            () = stop.cancelled(), if in_flight.is_empty() => return,
        }
    }
}
