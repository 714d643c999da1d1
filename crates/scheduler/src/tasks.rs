//! The tasks that the scheduler runs every second.

use std::sync::Arc;
use std::time::Duration;

use novella_periodic_task::periodic_tasks;
use novella_rpcapi::ComputeApi;
use novella_service::exit::chain;
use novella_service::health::Heartbeat;
use tracing::debug;

use crate::manager::SchedulerManager;

/// How often the tasks run. A silent host is marked as down at most this late.
pub const TICK: Duration = Duration::from_secs(1);
/// Maximum number of hosts that are asked to report again in one tick. The others report within their interval anyway.
const ASKED_PER_TICK: usize = 64;

/// See the module documentation.
pub struct Tasks {
    /// The owner of the map.
    pub manager: Arc<SchedulerManager>,
    /// The client for the agents.
    pub compute: ComputeApi,
    /// Beats whenever the tasks run.
    pub heartbeat: Heartbeat,
    /// How long publishing a question may take.
    pub publish_timeout: Duration,
}

#[periodic_tasks]
impl Tasks {
    /// Marks silent hosts as down, forgets those that have been gone for long, and ends expired reservations.
    #[periodic_task(run_immediately)]
    async fn expire(&self) {
        self.heartbeat.beat();
        self.manager.expire();
    }

    /// Asks hosts to report again if one of their reports was lost.
    #[periodic_task]
    async fn ask_again(&self) {
        let hosts = self.manager.with_hosts(|hosts, _| hosts.hosts_to_ask_again());
        if hosts.len() > ASKED_PER_TICK {
            debug!(
                hosts = hosts.len(),
                "too many hosts to ask one by one; the others will report within their interval"
            );
        }
        for host in hosts.iter().take(ASKED_PER_TICK) {
            let asked = self.compute.publish_service_capabilities_of(host, self.publish_timeout).await;
            if let Err(error) = asked {
                // The other questions would fail at the same broker.
                debug!(
                    host,
                    error = chain(&error),
                    "could not ask a host to report again; its next regular report will replace the lost one"
                );
                return;
            }
        }
    }
}
