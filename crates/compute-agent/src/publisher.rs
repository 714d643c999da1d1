//! Sends reports: the newest, one at a time.
//!
//! Always holds: at most one report waits to be sent. A report that could not be sent is not kept when a newer one
//! exists, because a report replaces what came before it and an old one would only be dropped by the scheduler. While
//! the broker is away, or another agent holds the host name, the sender waits instead of piling up attempts, and what
//! was offered before is withdrawn: who comes back reports what is true then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_messaging::{ConnectionState, RpcError, Transport};
use novella_objects::Capabilities;
use novella_rpcapi::SchedulerApi;
use novella_service::exit::chain;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::manager::Standing;

/// How often at most a failing publication is logged at `warn`; the rest go to `debug` and the counter.
const LOG_EVERY: u64 = 30;
/// Pause after a failed publication, so that a broker which refuses is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Service name in reports.
pub const SERVICE_NAME: &str = "compute";

/// A report built but not yet sent.
pub struct Pending {
    /// Host name at the time.
    pub host: String,
    /// The report.
    pub capabilities: Capabilities<'static>,
}

/// Counts of what the publisher did.
#[derive(Debug, Default)]
pub struct PublishCounters {
    /// Confirmed by the broker.
    pub published: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Replaced by a newer one before they were sent.
    pub replaced: AtomicU64,
}

/// The slot that holds the newest report, and the task that sends it.
pub struct Publisher {
    slot: Mutex<Option<Pending>>,
    filled: Notify,
    scheduler: SchedulerApi,
    connection: watch::Receiver<ConnectionState>,
    timeout: Duration,
    /// See [`PublishCounters`].
    pub counters: PublishCounters,
}

impl Publisher {
    /// A publisher over `transport`; `timeout` bounds each attempt.
    pub fn new(scheduler: SchedulerApi, transport: &dyn Transport, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            slot: Mutex::new(None),
            filled: Notify::new(),
            scheduler,
            connection: transport.state(),
            timeout,
            counters: PublishCounters::default(),
        })
    }

    /// Hands over the newest report.
    pub fn offer(&self, report: Pending) {
        let replaced = self.slot.lock().expect("no panic while the slot is held").replace(report).is_some();
        if replaced {
            self.counters.replaced.fetch_add(1, Ordering::Relaxed);
        }
        self.filled.notify_one();
    }

    /// Takes back what was offered and not sent: it is no longer ours to say.
    pub fn withdraw(&self) {
        self.slot.lock().expect("no panic while the slot is held").take();
    }

    /// Sends what is offered, while this agent holds its host name, until `stop`.
    pub async fn run(self: Arc<Self>, mut standing: watch::Receiver<Standing>, stop: CancellationToken) {
        let mut connection = self.connection.clone();
        let mut failures_in_a_row = 0u64;
        loop {
            let may_send = async {
                self.filled.notified().await;
                let connected = connection.wait_for(|s| matches!(s, ConnectionState::Connected { .. }));
                connected.await.is_ok() && standing.wait_for(|s| *s == Standing::Holder).await.is_ok()
            };
            tokio::select! { biased;
                () = stop.cancelled() => return,
                may_send = may_send => if !may_send { return },
            }
            let Some(report) = self.slot.lock().expect("no panic while the slot is held").take() else {
                continue;
            };
            let sent = tokio::select! { biased;
                () = stop.cancelled() => return,
                sent = self.send(&report) => sent,
            };
            match sent {
                Ok(()) => {
                    self.counters.published.fetch_add(1, Ordering::Relaxed);
                    if failures_in_a_row > 0 {
                        info!(failures_in_a_row, "reports are being published again");
                    }
                    failures_in_a_row = 0;
                    debug!(host = report.host, "published a report");
                }
                Err(error) => {
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    if failures_in_a_row.is_multiple_of(LOG_EVERY) {
                        warn!(error = %chain(&error), failures_in_a_row, "a report was not published; trying on");
                    }
                    failures_in_a_row += 1;
                    self.put_back(report);
                    tokio::select! { biased;
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                    }
                }
            }
        }
    }

    /// Sends one report now, past the slot: the goodbye.
    pub async fn send(&self, report: &Pending) -> Result<(), RpcError> {
        self.scheduler
            .update_service_capabilities(SERVICE_NAME, &report.host, &report.capabilities, self.timeout)
            .await
    }

    fn put_back(&self, report: Pending) {
        let mut slot = self.slot.lock().expect("no panic while the slot is held");
        if slot.is_none() {
            *slot = Some(report);
        }
        self.filled.notify_one();
    }
}
