//! Commits of many callers as few transactions.
//!
//! What always holds: [`RecordWriter::commit`] resolves to `Ok` only when the changes are durable. What is queued while a
//! transaction runs goes into the next one, in the order of the calls, so a later change of a key wins. Nothing waits
//! without bound: [`MAX_WAITING`] and [`MAX_BEHIND`]. If the writer is dropped instead of closed, what was not yet
//! acknowledged may be lost, as in a crash; the file is whole.
//!
//! What it leaves out: what to do when the disk is full. The caller is told.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Change, Records, RecordsError};
use crate::env::blocking::{Blocking, Panicked};
use crate::env::metrics::Metrics;

/// The most commits that wait for the disk. With more, the disk is too slow for what is asked.
pub const MAX_WAITING: usize = 1024;
/// The most changes that nobody waits for and that are not yet written. There are many only while the disk is full.
pub const MAX_BEHIND: usize = 16_384;
/// After this time at the latest, changes that nobody waits for are written. After a failure they wait as long again.
pub const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Upper bounds of the times of a transaction in seconds: from a fast NVMe to a disk that hangs.
const COMMIT_SECONDS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Why changes are not durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The queue is full, and nothing was queued.
    #[error(
        "cannot write records: {MAX_WAITING} commits or {MAX_BEHIND} other changes already wait for the disk"
    )]
    Busy,
    /// The transaction failed, and all changes in it.
    #[error(transparent)]
    Failed(Arc<RecordsError>),
    /// The transaction panicked.
    #[error("cannot write records: {0}")]
    Panicked(Panicked),
    /// The writer was dropped.
    #[error("cannot write records: the writer has stopped")]
    Stopped,
}

impl CommitError {
    /// What an operator can do about it.
    pub fn next_step(&self) -> String {
        match self {
            CommitError::Busy => {
                "retry later; if this lasts, the disk of the state directory is too slow".into()
            }
            CommitError::Failed(error) => error.next_step(),
            CommitError::Panicked(_) => "restart this daemon, and report this as a bug".into(),
            CommitError::Stopped => "retry when this daemon has restarted".into(),
        }
    }
}

/// What a writer counts. Clones share the counts.
#[derive(Clone, Debug)]
pub struct WriterMetrics {
    /// Commits that are durable.
    pub commits: Counter,
    /// Changes that are durable; several of one key in one transaction count once.
    pub changes: Counter,
    /// Transactions that succeeded.
    pub groups: Counter,
    /// Transactions that failed.
    pub failed_groups: Counter,
    /// Changes that nobody waits for and that a failed transaction left for the next one.
    pub kept_changes: Counter,
    /// How long transactions take.
    pub commit_seconds: Histogram,
}

impl WriterMetrics {
    fn new() -> WriterMetrics {
        WriterMetrics {
            commits: Counter::default(),
            changes: Counter::default(),
            groups: Counter::default(),
            failed_groups: Counter::default(),
            kept_changes: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
        }
    }

    /// Shows the counts as `novella_store_...`.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register("store_commits", "Commits that are durable", self.commits.clone());
        metrics.register("store_changes", "Changed records that are durable", self.changes.clone());
        metrics.register("store_groups", "Transactions of the store", self.groups.clone());
        metrics.register(
            "store_failed_groups",
            "Transactions of the store that failed",
            self.failed_groups.clone(),
        );
        metrics.register(
            "store_kept_changes",
            "Changes that a failed transaction left for the next one",
            self.kept_changes.clone(),
        );
        metrics.register(
            "store_commit_seconds",
            "Time of a transaction of the store",
            self.commit_seconds.clone(),
        );
    }
}

type Answer = oneshot::Sender<Result<(), CommitError>>;

/// What one call brought, with its waiter if it has one.
struct Entry {
    changes: Vec<Change>,
    waiter: Option<Answer>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// How many entries have a waiter.
    waiting: usize,
    /// How many changes are in entries without a waiter, and in such entries that are being written.
    behind: usize,
    /// When changes without a waiter are to be written.
    flush_at: Option<Instant>,
    closing: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes records for many callers.
pub struct RecordWriter {
    shared: Arc<Shared>,
    metrics: WriterMetrics,
    task: AbortOnDropHandle<Result<(), CommitError>>,
}

impl RecordWriter {
    /// Starts to write to `records`. It needs the tokio runtime around it that it will write in.
    pub fn start(records: Records, blocking: Blocking) -> RecordWriter {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Notify::new() });
        let metrics = WriterMetrics::new();
        let task = Task {
            shared: shared.clone(),
            metrics: metrics.clone(),
            records: Arc::new(Mutex::new(records)),
            blocking,
            failing: false,
        };
        RecordWriter { shared, metrics, task: AbortOnDropHandle::new(tokio::spawn(task.run())) }
    }

    /// What this writer counts.
    pub fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    /// Queues `changes` at once, and resolves when they are durable. They are all written, or none is. If the future is
    /// dropped, they are written all the same.
    pub fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<> {
        let (waiter, answered) = oneshot::channel();
        let queued = {
            let mut queue = self.shared.queue();
            let free = queue.waiting < MAX_WAITING;
            if free {
                queue.waiting += 1;
                queue.entries.push_back(Entry { changes, waiter: Some(waiter) });
            }
            free
        };
        self.shared.changed.notify_one();
        async move {
            match queued {
                true => answered.await.unwrap_or(Err(CommitError::Stopped)),
                false => Err(CommitError::Busy),
            }
        }
    }

    /// Queues `changes` that nobody waits for. They are written with the next transaction, which starts within
    /// [`FLUSH_AFTER`] if the disk is free. If it fails they are kept for the one after it.
    pub fn write_behind(&self, changes: Vec<Change>) -> Result<(), CommitError> {
        let mut queue = self.shared.queue();
        if queue.behind + changes.len() > MAX_BEHIND {
            return Err(CommitError::Busy);
        }
        queue.behind += changes.len();
        queue.entries.push_back(Entry { changes, waiter: None });
        queue.flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
        drop(queue);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Writes what is queued and closes the file. An error says that changes which nobody waits for are lost.
    pub async fn close(self) -> Result<(), CommitError> {
        self.shared.queue().closing = true;
        self.shared.changed.notify_one();
        self.task.await.unwrap_or(Err(CommitError::Stopped))
    }
}

/// Who writes.
struct Task {
    shared: Arc<Shared>,
    metrics: WriterMetrics,
    records: Arc<Mutex<Records>>,
    blocking: Blocking,
    /// Whether the last transaction failed. The first failure of a row is logged.
    failing: bool,
}

impl Task {
    async fn run(mut self) -> Result<(), CommitError> {
        let mut last = Ok(());
        loop {
            self.until_there_is_work().await;
            let (entries, closing) = {
                let mut queue = self.shared.queue();
                queue.waiting = 0;
                queue.flush_at = None;
                (std::mem::take(&mut queue.entries), queue.closing)
            };
            if !entries.is_empty() {
                last = self.write(entries).await;
            }
            if closing {
                break;
            }
        }
        // The last handle goes on a thread that may block, because redb writes when it closes.
        let records = self.records;
        drop(self.blocking.run(move || drop(records)).await);
        last
    }

    async fn until_there_is_work(&self) {
        loop {
            let flush_at = {
                let queue = self.shared.queue();
                if queue.waiting > 0 || queue.closing {
                    return;
                }
                queue.flush_at
            };
            match flush_at {
                None => self.shared.changed.notified().await,
                Some(at) => tokio::select! {
                    biased;
                    () = sleep_until(at) => return,
                    () = self.shared.changed.notified() => {}
                },
            }
        }
    }

    /// Writes all entries as one transaction.
    async fn write(&mut self, entries: VecDeque<Entry>) -> Result<(), CommitError> {
        let mut latest = BTreeMap::new();
        for Change { key, value } in entries.iter().flat_map(|entry| &entry.changes) {
            latest.insert(key.clone(), value.clone());
        }
        let changes: Vec<_> = latest.into_iter().map(|(key, value)| Change { key, value }).collect();
        let (count, records) = (changes.len() as u64, self.records.clone());
        let began = Instant::now();
        let outcome = self
            .blocking
            .run(move || records.lock().unwrap_or_else(PoisonError::into_inner).commit(&changes))
            .await;
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        let outcome = match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(CommitError::Failed(Arc::new(error))),
            Err(panicked) => Err(CommitError::Panicked(panicked)),
        };
        match &outcome {
            Ok(()) => {
                self.metrics.groups.inc();
                self.metrics.changes.inc_by(count);
                self.failing = false;
            }
            Err(error) => {
                self.metrics.failed_groups.inc();
                if !self.failing {
                    let next_step = error.next_step();
                    tracing::warn!(%error, next_step, "records were not written");
                }
                self.failing = true;
            }
        }
        self.settle(entries, &outcome);
        outcome
    }

    /// Tells the waiters, and keeps what has none if it was not written.
    fn settle(&self, entries: VecDeque<Entry>, outcome: &Result<(), CommitError>) {
        let mut kept = BTreeMap::new();
        let mut behind = 0;
        for Entry { changes, waiter } in entries {
            match waiter {
                Some(waiter) => {
                    if outcome.is_ok() {
                        self.metrics.commits.inc();
                    }
                    // An error here means that the caller has stopped waiting.
                    drop(waiter.send(outcome.clone()));
                }
                None => {
                    behind += changes.len();
                    if outcome.is_err() {
                        kept.extend(changes.into_iter().map(|Change { key, value }| (key, value)));
                    }
                }
            }
        }
        self.metrics.kept_changes.inc_by(kept.len() as u64);
        let mut queue = self.shared.queue();
        queue.behind = queue.behind - behind + kept.len();
        if !kept.is_empty() {
            // They are older than what was queued in the meantime, so they go before it.
            let changes = kept.into_iter().map(|(key, value)| Change { key, value }).collect();
            queue.entries.push_front(Entry { changes, waiter: None });
            queue.flush_at = Some(Instant::now() + FLUSH_AFTER);
        }
    }
}
