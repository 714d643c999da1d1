//! Sends reports, one at a time, and always the newest.
//!
//! What always holds: at most one report waits to be sent. A report that could not be sent is not kept if there is a newer
//! one, because a report replaces all earlier ones and the scheduler would drop the old one. While the broker is away or
//! another agent holds the host name, the sender waits instead of trying again and again. When the host name is lost, the
//! waiting report is withdrawn, because it will be out of date when the name comes back. A report that the queue of no
//! scheduler took counts as unheard, not as published.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_messaging::{ConnectionState, RpcError, Transport};
use novella_objects::Capabilities;
use novella_rpcapi::SchedulerApi;
use novella_service::exit::chain;
use novella_service::health::Condition;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Of consecutive failures, the first and then every 30th is logged. All are counted.
const LOG_EVERY: u64 = 30;
/// Pause after a failed publication, so that a broker that refuses reports is not asked too often.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// After so many unheard reports in a row the agent is not ready. One may fall into the restart of a scheduler.
const UNHEARD_MAX: u64 = 2;
/// The detail of `/readyz` while reports are heard.
const HEARD: &str = "the last report reached a scheduler's queue";

/// Name of the service in reports.
const SERVICE_NAME: &str = "compute";

/// Whether the agent may report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The agent waits for the queue `compute.<host>`.
    Waiting,
    /// The agent holds the queue `compute.<host>`.
    Holder,
    /// The broker refuses to let the agent consume the queue `compute.<host>`, for this reason.
    Refused(Arc<str>),
}

/// A report that is to be sent.
pub struct Pending {
    /// Host name in the report.
    pub host: String,
    /// The report.
    pub capabilities: Capabilities<'static>,
}

/// Counts of reports by outcome.
#[derive(Debug, Default)]
pub struct PublishCounters {
    /// Number of reports that the broker put into the queue of at least one scheduler.
    pub published: AtomicU64,
    /// Number of reports that the broker took, but that no scheduler has a queue for.
    pub unheard: AtomicU64,
    /// Number of attempts that failed.
    pub failed: AtomicU64,
    /// Number of reports that were replaced by a newer one before they were sent.
    pub replaced: AtomicU64,
}

/// The slot that holds the newest report, and the task that sends it.
pub struct Publisher {
    slot: Mutex<Option<Pending>>,
    filled: Notify,
    scheduler: SchedulerApi,
    connection: watch::Receiver<ConnectionState>,
    timeout: Duration,
    /// Whether a scheduler hears the reports.
    heard: Condition,
    /// What happened to the reports so far.
    pub counters: PublishCounters,
}

impl Publisher {
    /// A publisher over `transport`. Each attempt ends after `timeout`. `heard` shows whether a scheduler hears the reports.
    pub fn new(
        scheduler: SchedulerApi,
        transport: &dyn Transport,
        timeout: Duration,
        heard: Condition,
    ) -> Arc<Self> {
        heard.set(true, "no report was sent yet");
        Arc::new(Self {
            slot: Mutex::new(None),
            filled: Notify::new(),
            scheduler,
            connection: transport.state(),
            timeout,
            heard,
            counters: PublishCounters::default(),
        })
    }

    /// Hands over the newest report, which replaces one that is not sent yet.
    pub fn offer(&self, report: Pending) {
        let replaced = self.slot.lock().expect("no panic while the slot is held").replace(report).is_some();
        if replaced {
            self.counters.replaced.fetch_add(1, Ordering::Relaxed);
        }
        self.filled.notify_one();
    }

    /// Discards the report that is not sent yet, because this agent may no longer report.
    pub fn withdraw(&self) {
        self.slot.lock().expect("no panic while the slot is held").take();
    }

    /// Sends reports while this agent holds its host name, until `stop`.
    pub async fn run(self: Arc<Self>, mut standing: watch::Receiver<Standing>, stop: CancellationToken) {
        let mut connection = self.connection.clone();
        let (mut failures_in_a_row, mut unheard_in_a_row) = (0u64, 0u64);
        loop {
            let may_send = async {
                self.filled.notified().await;
                let connected = connection.wait_for(ConnectionState::takes_messages);
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
                Ok(heard) => {
                    if failures_in_a_row > 0 {
                        info!(failures_in_a_row, "reports are being published again");
                    }
                    failures_in_a_row = 0;
                    unheard_in_a_row = self.note_heard(heard, unheard_in_a_row);
                    debug!(host = report.host, heard, "published a report");
                }
                Err(error) => {
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    if failures_in_a_row.is_multiple_of(LOG_EVERY) {
                        warn!(
                            error = %chain(&error),
                            failures_in_a_row,
                            "could not publish a report; trying again with the newest one"
                        );
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

    /// Counts and shows whether a scheduler heard the last report. Returns how many were unheard in a row.
    fn note_heard(&self, heard: bool, unheard_before: u64) -> u64 {
        if heard {
            self.counters.published.fetch_add(1, Ordering::Relaxed);
            if unheard_before >= UNHEARD_MAX {
                info!(unheard = unheard_before, "a scheduler hears the reports again");
            }
            self.heard.set(true, HEARD);
            return 0;
        }
        self.counters.unheard.fetch_add(1, Ordering::Relaxed);
        let unheard = unheard_before + 1;
        if unheard == UNHEARD_MAX {
            warn!(
                "no scheduler hears the reports of this host: none runs, or the binding of its queue is lost. Reports go on"
            );
        }
        if unheard >= UNHEARD_MAX {
            self.heard.set(false, format!("no scheduler heard the last {unheard} reports; is one running?"));
        }
        unheard
    }

    /// Sends one report at once, without regard to the waiting one. Returns whether the queue of any scheduler took it. The
    /// goodbye is sent like this too.
    pub async fn send(&self, report: &Pending) -> Result<bool, RpcError> {
        self.scheduler
            .update_service_capabilities(SERVICE_NAME, &report.host, &report.capabilities, self.timeout)
            .await
    }

    fn put_back(&self, report: Pending) {
        self.slot.lock().expect("no panic while the slot is held").get_or_insert(report);
        self.filled.notify_one();
    }
}
