//! From an empty map to a complete one.
//!
//! ```text
//! consume the fanout queue ─▶ ask all agents to publish ─▶ wait: window passed and the count stands still,
//!                                                          or one report interval ─▶ take requests
//! ```
//! Until then requests wait in the topic queue under their own expiration, so that nobody is refused for want of a
//! report that is on its way. After a lost connection the map is kept, its hosts are suspect, and the agents are asked
//! again; requests are still taken.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::ConsumerState;
use novella_rpcapi::ComputeApi;
use novella_service::health::Condition;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::manager::SchedulerManager;

/// How often the number of hosts is looked at while the map fills.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The count has stopped growing when it stood still this long.
const STANDSTILL: Duration = Duration::from_millis(500);

/// What the start-up and the re-asking need.
pub struct Startup {
    /// Owner of the map.
    pub manager: Arc<SchedulerManager>,
    /// The agents.
    pub compute: ComputeApi,
    /// Told what is waited for.
    pub ready: Condition,
    /// How long agents have to answer.
    pub answer_window: Duration,
    /// The longest wait.
    pub report_interval: Duration,
    /// Bounds each question.
    pub publish_timeout: Duration,
}

impl Startup {
    /// Waits until the fanout queue is consumed and the map is as complete as it will get. False if the queue is gone.
    pub async fn fill_the_map(&self, fanout: &mut watch::Receiver<ConsumerState>) -> bool {
        self.ready.set(false, "waiting for the broker: the report queue is not being consumed yet");
        if fanout.wait_for(|s| matches!(s, ConsumerState::Active { .. })).await.is_err() {
            return false;
        }
        self.ask_all().await;
        let began = Instant::now();
        let mut seen = 0;
        let mut grew = began;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let now = Instant::now();
            let hosts = self.manager.with_hosts(|hosts, _| hosts.len());
            if hosts != seen {
                (seen, grew) = (hosts, now);
            }
            let window_passed = now - began >= self.answer_window && hosts > 0;
            if (window_passed && now - grew >= STANDSTILL) || now - began >= self.report_interval {
                info!(
                    hosts,
                    elapsed_ms = (now - began).as_millis() as u64,
                    "the map is filled; taking requests"
                );
                return true;
            }
            let asked = (now - began).as_secs_f64();
            self.ready.set(
                false,
                format!("waiting for reports: {hosts} hosts so far, asked for them {asked:.1} s ago"),
            );
        }
    }

    /// Asks every agent to report within the answer window.
    pub async fn ask_all(&self) {
        if let Err(error) =
            self.compute.publish_service_capabilities(self.answer_window, self.publish_timeout).await
        {
            warn!(%error, "could not ask the agents to report; their next reports will fill the map");
        }
    }
}
