//! Fills the map at start, and after a lost connection.
//!
//! ```text
//! consume the fanout queue ─▶ ask all agents to publish ─▶ wait: window passed and the count stands still,
//!           ▲                                                    or one report interval ─▶ take requests
//!           └──────────────── connection lost ◀─────────────────┘
//! ```
//! Until the map is filled, requests wait in the topic queue until they expire, so that no request is refused for
//! lack of a report that is about to arrive. If the connection is lost later, the map is kept, silent hosts are suspect and the
//! agents are asked again. Requests are still taken then.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::ConsumerState;
use novella_rpcapi::ComputeApi;
use novella_service::exit::chain;
use novella_service::health::Condition;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::manager::SchedulerManager;

/// How often the hosts are counted while the map fills.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long after the answer window the count must stay the same before the map counts as filled. Answers take time to
/// arrive.
const STANDSTILL: Duration = Duration::from_millis(500);

/// Fills the map, and asks the agents again later.
pub struct Startup {
    /// The owner of the map.
    pub manager: Arc<SchedulerManager>,
    /// The client for the agents.
    pub compute: ComputeApi,
    /// The health condition that shows what is waited for.
    pub ready: Condition,
    /// How long agents have to answer.
    pub answer_window: Duration,
    /// The longest time to wait. An agent that did not receive the question reports within it.
    pub report_interval: Duration,
    /// How long publishing a question may take.
    pub publish_timeout: Duration,
}

impl Startup {
    /// Waits until the fanout queue is consumed and the map is as complete as it will get. Returns false if the queue is
    /// gone.
    pub async fn fill_the_map(&self, fanout: &mut watch::Receiver<ConsumerState>) -> bool {
        loop {
            if !self.reports_arrive(fanout).await {
                return false;
            }
            let asked = self.ask_all().await;
            tokio::select! { biased;
                // The connection was lost, and its queue is gone with the reports in it.
                changed = fanout.changed() => if changed.is_err() { return false },
                () = self.count_hosts(asked) => return true,
            }
        }
    }

    /// Waits until the fanout queue is consumed. Returns false if it is gone.
    pub async fn reports_arrive(&self, fanout: &mut watch::Receiver<ConsumerState>) -> bool {
        loop {
            let reason = match &*fanout.borrow_and_update() {
                ConsumerState::Active { .. } => return true,
                ConsumerState::Failed { reason } => format!("the report queue cannot be consumed: {reason}"),
                ConsumerState::Pending | ConsumerState::Held => {
                    "the report queue is not consumed yet".to_owned()
                }
            };
            self.ready.set(false, reason);
            if fanout.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Waits while hosts answer. If they could not be asked, they still report within their interval.
    async fn count_hosts(&self, asked: bool) {
        let began = Instant::now();
        let in_time = began + self.answer_window;
        let (mut seen, mut grew) = (0, began);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let now = look.tick().await;
            let hosts = self.manager.with_hosts(|hosts, _| hosts.table().len());
            if hosts != seen {
                (seen, grew) = (hosts, now);
            }
            let elapsed = now - began;
            let complete = asked && hosts > 0 && now >= grew.max(in_time) + STANDSTILL;
            if complete || elapsed >= self.report_interval {
                info!(hosts, elapsed_ms = elapsed.as_millis() as u64, "the map is filled; taking requests");
                return;
            }
            let elapsed_s = elapsed.as_secs_f64();
            let reason =
                format!("waiting for reports: {hosts} hosts so far, {elapsed_s:.1} s after asking for them");
            self.ready.set(false, reason);
        }
    }

    /// Asks every agent to report within the answer window. Returns false if that was not possible.
    pub async fn ask_all(&self) -> bool {
        let asked = self.compute.publish_service_capabilities(self.answer_window, self.publish_timeout).await;
        if let Err(error) = &asked {
            warn!(
                error = chain(error),
                "could not ask the agents to report; their next reports will fill the map"
            );
        }
        asked.is_ok()
    }
}
