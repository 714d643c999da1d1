//! The scheduler's periodic tasks.

use std::sync::Arc;
use std::time::Duration;

use novella_periodic_task::periodic_tasks;
use novella_rpcapi::ComputeApi;
use novella_service::exit::chain;
use novella_service::health::Heartbeat;
use tracing::debug;

use crate::manager::SchedulerManager;

/// Tick of the tasks. Also bounds how late a silent host is seen to be down.
pub const TICK: Duration = Duration::from_secs(1);
/// Hosts asked one by one per tick to report again. Those beyond it report within their interval anyway.
const ASKED_PER_TICK: usize = 64;

/// What the tasks work on.
pub struct Tasks {
    /// Owner of the map.
    pub manager: Arc<SchedulerManager>,
    /// The agents.
    pub compute: ComputeApi,
    /// Beats while the map is looked after.
    pub heartbeat: Heartbeat,
    /// Bounds each question.
    pub publish_timeout: Duration,
}

#[periodic_tasks]
impl Tasks {
    /// Marks the silent as down, forgets the long gone, lets expired reservations go.
    #[periodic_task(run_immediately)]
    async fn expire(&self) {
        self.heartbeat.beat();
        self.manager.expire();
    }

    /// Asks hosts whose reports were seen to be lost to report again.
    #[periodic_task]
    async fn ask_again(&self) {
        let hosts = self.manager.with_hosts(|hosts, _| hosts.hosts_to_ask_again());
        if hosts.len() > ASKED_PER_TICK {
            debug!(hosts = hosts.len(), "too many to ask one by one; their next reports will do");
        }
        for host in hosts.iter().take(ASKED_PER_TICK) {
            let asked = self.compute.publish_service_capabilities_of(host, self.publish_timeout).await;
            if let Err(error) = asked {
                // The rest would wait for the same broker, each as long.
                debug!(host, error = chain(&error), "could not ask for a report; the next will do");
                return;
            }
        }
    }
}
