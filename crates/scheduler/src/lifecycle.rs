//! When the scheduler takes requests: once its map is filled, and while it has a connection.
//!
//! After a lost connection, a silence or a stall of its own, it may have missed reports, so it asks all agents to report again.

use std::sync::Arc;

use novella_messaging::{ConsumerState, QueueKind, RpcServer, TransportError};
use novella_rpcapi::Names;
use novella_service::exit::chain;
use novella_service::health::Condition;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::hearing::Hearing;
use crate::startup::Startup;

/// The detail of `/readyz` while requests are taken.
const FILLED: &str = "the map is filled";

/// See the module documentation.
pub struct Lifecycle {
    /// Fills the map, and asks the agents again.
    pub startup: Startup,
    /// Serves the requests.
    pub server: Arc<RpcServer>,
    /// The exchange and the topics that it listens on.
    pub names: Names,
    /// This scheduler's name.
    pub name: String,
    /// The health condition that says whether no other scheduler has this name.
    pub held_name: Condition,
    /// The health condition that says whether the queue of requests is consumed.
    pub requests_arrive: Condition,
    /// Makes sure that what is sent to this scheduler arrives.
    pub hearing: Hearing,
}

impl Lifecycle {
    /// Runs until dropped.
    pub async fn run(self, mut fanout: watch::Receiver<ConsumerState>) {
        self.requests_arrive.set(false, "requests wait until the map is filled");
        if !self.startup.reports_arrive(&mut fanout).await {
            return;
        }
        self.have_requests_wait().await;
        if !self.startup.fill_the_map(&mut fanout).await {
            return;
        }
        let [own, requests] = match self.open().await {
            Ok(opened) => opened,
            Err(cause) => {
                error!(error = chain(&cause), "cannot take requests; this scheduler stays not ready");
                self.startup
                    .ready
                    .set(false, format!("cannot consume the queue of requests: {}", chain(&cause)));
                return;
            }
        };
        self.startup.ready.set(true, FILLED);
        // Hosts that were not asked report within their interval, and one report may be lost.
        let patience = 2 * self.startup.report_interval;
        self.startup.manager.with_hosts(|hosts, now| hosts.limit_new_hosts(now.saturating_add(patience)));
        let heard_again = Notify::new();
        tokio::select! { biased;
            () = self.follow(fanout, own, requests, &heard_again) => {}
            never = self.hearing.run(&heard_again) => match never {},
        }
    }

    /// Declares the queue of requests, so that they can wait in it while the map fills.
    async fn have_requests_wait(&self) {
        let deadline = Instant::now() + self.startup.publish_timeout;
        if let Err(cause) = self.server.declare(self.requests(), deadline).await {
            warn!(
                error = chain(&cause),
                "the queue of requests could not be declared; requests cannot wait while the map fills"
            );
        }
    }

    /// The queue of requests that all schedulers share.
    fn requests(&self) -> QueueKind {
        let Names { control_exchange, scheduler_topic, .. } = self.names.clone();
        QueueKind::Topic { exchange: control_exchange, topic: scheduler_topic }
    }

    /// Takes requests: first those that name this scheduler, then its share of those for any scheduler. Returns the states
    /// of both queues.
    async fn open(&self) -> Result<[watch::Receiver<ConsumerState>; 2], TransportError> {
        let Names { control_exchange: exchange, scheduler_topic: topic, .. } = self.names.clone();
        let server = self.name.clone();
        let own = QueueKind::Server { exchange, topic, server, fanout: false };
        let mut own = self.server.listen(own).await?;
        // If two schedulers had one name, each would ignore the other's reservations as its own.
        while !self.show_name(&own.borrow_and_update()) {
            if own.changed().await.is_err() {
                return Err(TransportError::Closed);
            }
        }
        let mut requests = self.server.listen(self.requests()).await?;
        while !self.show_requests(&requests.borrow_and_update()) {
            if requests.changed().await.is_err() {
                return Err(TransportError::Closed);
            }
        }
        Ok([own, requests])
    }

    /// Shows in `/readyz` whether the queue of requests is consumed, and returns it. If not, the transport logs why.
    fn show_requests(&self, requests: &ConsumerState) -> bool {
        match requests {
            ConsumerState::Active { .. } => self.requests_arrive.set(true, "consumed"),
            ConsumerState::Failed { reason } => {
                self.requests_arrive
                    .set(false, format!("the queue of requests cannot be consumed: {reason}"));
            }
            ConsumerState::Pending | ConsumerState::Held => {
                self.requests_arrive.set(false, "the queue of requests is not consumed yet");
            }
        }
        matches!(requests, ConsumerState::Active { .. })
    }

    /// Shows in `/readyz` whether this scheduler holds the queue of its name, and returns it. If not, it logs why.
    fn show_name(&self, own: &ConsumerState) -> bool {
        match own {
            ConsumerState::Active { .. } => self.held_name.set(true, "held"),
            ConsumerState::Held => {
                warn!(
                    name = self.name,
                    "another scheduler has this name; waiting until it is gone. Stop one of them, or give it another --name"
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

    /// Keeps the map complete through lost connections and stalls. Returns when the queues are gone.
    async fn follow(
        &self,
        mut fanout: watch::Receiver<ConsumerState>,
        mut own: watch::Receiver<ConsumerState>,
        mut requests: watch::Receiver<ConsumerState>,
        heard_again: &Notify,
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
                    self.show_name(&own.borrow_and_update());
                    continue;
                }
                changed = requests.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.show_requests(&requests.borrow_and_update());
                    continue;
                }
                () = manager.stalled() => {
                    self.startup.ask_all().await;
                    continue;
                }
                () = heard_again.notified() => {
                    self.startup.ask_all().await;
                    continue;
                }
            }
            let now_active = matches!(*fanout.borrow_and_update(), ConsumerState::Active { .. });
            match (active, now_active) {
                // The transport logs why, and the conditions on the connection and on the queues show it.
                (true, false) => {
                    warn!(
                        "the report queue is not consumed, so no reports arrive; silent hosts are marked as suspect"
                    );
                    manager.with_hosts(|hosts, now| hosts.broker_lost(now));
                    self.startup.ready.set(false, no_reports(&fanout.borrow()));
                }
                (false, true) => {
                    info!("reports arrive again; asking all agents to report");
                    manager.with_hosts(|hosts, now| hosts.broker_back(now));
                    self.startup.ready.set(true, FILLED);
                    self.startup.ask_all().await;
                }
                // The connection was replaced in the meantime. The reports in the queue of the old one are gone.
                (true, true) => {
                    self.startup.ask_all().await;
                }
                (false, false) => self.startup.ready.set(false, no_reports(&fanout.borrow())),
            }
            active = now_active;
        }
    }
}

/// The reason why a filled map gets no reports.
fn no_reports(fanout: &ConsumerState) -> String {
    match fanout {
        ConsumerState::Failed { reason } => format!("the report queue cannot be consumed: {reason}"),
        _ => "the report queue is not consumed, so no reports arrive; the map is kept meanwhile".to_owned(),
    }
}
