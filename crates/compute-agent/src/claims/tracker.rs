//! Nova's ResourceTracker: the host has the last word on what it is used for.
//!
//! What always holds: a claim and the end of a claim are acknowledged only when they are on the disk, and a hold at once. Requests
//! are decided in the order in which they are handed over, without waiting in between, so a report that is made later lists what
//! was decided before. While the host was never read, nothing is granted.
//!
//! Left out: what fits (`book`), and the guests of instances (`instances`). Their records are written together with those of
//! claims, and decided under the same lock, so that the disk has both in the order of the decisions.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use novella_messaging::CallError;
use novella_objects::{Claim, ClaimAnswer, ClaimRequest, Json, TerminateInstance, Terminated};
use novella_resources::HostLimits;
use novella_service::{Change, CommitError, Env, Format, Panicked, RecordWriter, RecordsError};
use serde::Serialize;
use tokio::sync::Notify;
use tracing::{info, warn};
use uuid::Uuid;

use crate::claims::book::{ClaimBook, Grant, Staged};
use crate::claims::counters::ClaimCounters;
use crate::claims::record::{BadRecord, InstanceRecord, Records};

/// Name of the file in the state directory.
pub const CLAIMS_FILE: &str = "claims.redb";

/// The format of that file.
const FORMAT: Format = Format { version: 1, migrations: &[] };

/// How often holds that are over and instances that ended long ago are looked for, at least.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Why the claims of this host cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// The store cannot be opened or read.
    #[error("the claims of this host cannot be read")]
    Store(#[from] RecordsError),
    /// The store holds something that is not a record of claims.
    #[error("{} does not hold the claims of a host: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with the contents.
        reason: String,
    },
    /// The store panicked, or the runtime is being shut down.
    #[error("the claims of this host cannot be read")]
    Panicked(#[from] Panicked),
}

impl ClaimsError {
    /// What an operator can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Store(error) => error.next_step(),
            Self::Malformed { path, .. } => format!(
                "run the version of compute-agent that wrote it; to start without its claims, move {} away",
                path.display()
            ),
            Self::Panicked(_) => "start the agent again, and report this as a bug".to_owned(),
        }
    }
}

/// See the module documentation.
pub struct ResourceTracker {
    book: Mutex<ClaimBook>,
    /// What the host can give. `None` while it was never read.
    limits: Mutex<Option<Arc<HostLimits>>>,
    /// The instances of earlier processes, until they are taken over.
    instances: Mutex<Vec<(Uuid, InstanceRecord)>>,
    writer: RecordWriter,
    env: Env,
    /// Notified when the next report differs from the last one.
    changed: Notify,
    /// Notified when a hold may end before those that were known.
    held: Notify,
    /// What became of requests so far.
    pub counters: ClaimCounters,
}

/// The claims and ended instances of a report.
#[derive(Debug, Default)]
pub struct ReportedClaims {
    /// All claims.
    pub claims: Vec<Claim<'static>>,
    /// All holds.
    pub holds: Vec<Claim<'static>>,
    /// Disk of claims that the last reading of the host may not show, GiB.
    pub given_gb: u64,
    /// Instances that ended within the last hour, newest first.
    pub ended: Vec<Uuid>,
    /// Instances whose builds have failed, newest first, as JSON text.
    pub failed: Vec<(Uuid, Json<'static>)>,
    /// Instances with which the driver does something just now.
    pub num_io_ops: u32,
    /// Builds that have failed in a row.
    pub failed_builds: u32,
}

impl ResourceTracker {
    /// Reads the claims of `host` from the store.
    pub async fn open(host: &str, env: &Env) -> Result<Arc<Self>, ClaimsError> {
        let store = env.store.clone();
        let (records, pairs) = env
            .blocking
            .run(move || {
                let mut records = store.open_records(CLAIMS_FILE, FORMAT)?;
                let pairs = records.load()?;
                Ok::<_, RecordsError>((records, pairs))
            })
            .await??;
        let malformed = |reason| ClaimsError::Malformed { path: env.store.location(CLAIMS_FILE), reason };
        let mut read = Records::read(pairs)
            .map_err(|error: BadRecord| malformed(novella_service::exit::chain(&error)))?;
        let (claims, ended) = (read.claims.len(), read.ended.len());
        let instances = std::mem::take(&mut read.instances);
        let book = ClaimBook::new(host.to_owned(), read, env.clock.now()).map_err(malformed)?;
        if claims + ended > 0 {
            info!(host, claims, ended, "claims of earlier processes are in force");
        }
        Ok(Arc::new(Self {
            book: Mutex::new(book),
            limits: Mutex::default(),
            instances: Mutex::new(instances),
            writer: RecordWriter::start(records, env.blocking.clone()),
            env: env.clone(),
            changed: Notify::new(),
            held: Notify::new(),
            counters: ClaimCounters::default(),
        }))
    }

    fn book(&self) -> MutexGuard<'_, ClaimBook> {
        self.book.lock().expect("no panic while the claims are held")
    }

    /// The writer of the store, for its metrics.
    pub(crate) fn writer(&self) -> &RecordWriter {
        &self.writer
    }

    /// Takes over what the host can give from its newest reading, which shows the disk of instances or does not.
    pub fn set_limits(&self, limits: HostLimits, shows_instances: bool) {
        self.book().note_reading(shows_instances);
        *self.limits.lock().expect("no panic while the limits are held") = Some(Arc::new(limits));
    }

    fn limits(&self) -> Result<Arc<HostLimits>, CallError> {
        let limits = self.limits.lock().expect("no panic while the limits are held").clone();
        limits.ok_or_else(|| CallError::Internal { message: "this host was not read yet".to_owned() })
    }

    /// Claims room for instances, and no more. Answers when what is granted is on the disk.
    pub async fn claim(&self, mut request: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        request.instances.iter_mut().for_each(|wanted| wanted.build = None);
        self.claim_with(request, |_| Vec::new()).await
    }

    /// Claims room for instances. What `also` makes of the answers is written in the same commit. It is called under the lock
    /// of the claims.
    pub(crate) async fn claim_with(
        &self,
        request: ClaimRequest,
        also: impl FnOnce(&[ClaimAnswer]) -> Vec<Change>,
    ) -> Result<Vec<ClaimAnswer>, CallError> {
        let limits = self.limits()?;
        let request = ClaimRequest { hold_ms: None, ..request };
        let (answers, outcomes, written) = {
            let mut book = self.book();
            let claimed = book.claim(&limits, &request, self.env.clock.now());
            let (answers, Staged { mut records, outcomes }) = claimed.map_err(bad_arguments)?;
            records.extend(also(&answers));
            // Queued while the book is locked, so that records are written in the order of the decisions.
            let written = (!records.is_empty()).then(|| self.writer.commit(records));
            (answers, outcomes, written)
        };
        let Some(written) = written else { return Ok(self.count(answers)) };
        let written = written.await;
        self.book().settle(outcomes, written.is_ok());
        self.changed.notify_one();
        let answers = match written {
            Ok(()) => answers,
            Err(error) => answers.into_iter().map(|answer| unwritten(answer, &error)).collect(),
        };
        Ok(self.count(answers))
    }

    /// Holds room for instances for a while, or ends what a decision holds.
    pub fn hold(&self, request: &ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        let Some(hold_ms) = request.hold_ms else {
            return Err(bad_arguments("hold_ms is missing: a hold has an end".to_owned()));
        };
        if hold_ms == 0 {
            return Ok(self.end_holds(request));
        }
        let limits = self.limits()?;
        let mut book = self.book();
        let held = book.claim(&limits, request, self.env.clock.now());
        let (answers, staged) = held.map_err(bad_arguments)?;
        self.write_behind(&mut book, staged);
        drop(book);
        self.held.notify_one();
        Ok(self.count(answers))
    }

    fn end_holds(&self, request: &ClaimRequest) -> Vec<ClaimAnswer> {
        let uuids: Vec<Uuid> = request.instances.iter().map(|wanted| wanted.instance.uuid).collect();
        let mut book = self.book();
        let staged = book.end_holds(&request.decision_id, &uuids);
        self.write_behind(&mut book, staged);
        let ended = ClaimAnswer::Ended { reason: "the hold was given back".to_owned(), deleted: false };
        vec![ended; uuids.len()]
    }

    /// Ends claims and holds on a host that builds nothing. Answers when that is on the disk.
    pub async fn terminate(&self, request: &TerminateInstance) -> Result<Vec<Terminated>, CallError> {
        self.terminate_with(request, |_| false, |_, _| Vec::new()).await
    }

    /// Ends claims and holds, and closes those of instances that the driver `built`. What `also` makes of the answers is written
    /// in the same commit. It is called under the lock of the claims.
    pub(crate) async fn terminate_with(
        &self,
        request: &TerminateInstance,
        built: impl Fn(&Uuid) -> bool,
        also: impl FnOnce(&ClaimBook, &[Terminated]) -> Vec<Change>,
    ) -> Result<Vec<Terminated>, CallError> {
        let (answers, outcomes, before, written) = {
            let mut book = self.book();
            let uuids = &request.instance_uuids;
            let before: Vec<_> = uuids.iter().map(|uuid| (*uuid, book.closing(uuid))).collect();
            let ended = book.terminate(request, built, self.env.clock.now());
            let (answers, Staged { mut records, outcomes }) = ended.map_err(bad_arguments)?;
            records.extend(also(&book, &answers));
            let written = (!records.is_empty()).then(|| self.writer.commit(records));
            (answers, outcomes, before, written)
        };
        if let Some(written) = written {
            let written = written.await;
            let mut book = self.book();
            book.settle(outcomes, written.is_ok());
            if written.is_err() {
                before.into_iter().for_each(|(uuid, before)| book.reopen(uuid, before));
            }
            drop(book);
            self.changed.notify_one();
            written.map_err(|error| CallError::Internal { message: refused_by_disk(&error) })?;
        }
        let ended = answers.iter().filter(|answer| **answer == Terminated::Ended).count();
        self.counters.count_ended(ended as u64);
        Ok(answers)
    }

    /// The instances of earlier processes. They are handed over once.
    pub(crate) fn take_instances(&self) -> Vec<(Uuid, InstanceRecord)> {
        std::mem::take(&mut *self.instances.lock().expect("no panic while the instances are held"))
    }

    /// Looks at the claims, or closes some.
    pub(crate) fn with_book<T>(&self, look: impl FnOnce(&mut ClaimBook) -> T) -> T {
        look(&mut self.book())
    }

    /// Writes what `decide` says under the lock of the claims. Answers when that is on the disk.
    pub(crate) async fn write(
        &self,
        decide: impl FnOnce(&mut ClaimBook) -> Result<Vec<Change>, CallError>,
    ) -> Result<(), CallError> {
        let written = {
            let mut book = self.book();
            let records = decide(&mut book)?;
            if records.is_empty() {
                return Ok(());
            }
            self.writer.commit(records)
        };
        let written = written.await.map_err(|error| CallError::Internal { message: refused_by_disk(&error) });
        self.changed.notify_one();
        written
    }

    /// Writes soon what `decide` says under the lock of the claims.
    pub(crate) fn write_soon(&self, decide: impl FnOnce(&mut ClaimBook) -> Vec<Change>) {
        let mut book = self.book();
        let records = decide(&mut book);
        if records.is_empty() {
            return;
        }
        if let Err(error) = self.writer.write_behind(records) {
            warn!(%error, "the states of instances are not on the disk; the next process does again what they stand for");
        }
        drop(book);
        self.changed.notify_one();
    }

    /// Ends a closed instance together with its record, because its guest is gone. `on_written` is called under the lock of the
    /// claims once both are on the disk, so that nobody can claim the instance in between.
    pub(crate) async fn end_closed(
        &self,
        uuid: Uuid,
        record: Change,
        on_written: impl FnOnce(),
    ) -> Result<(), CommitError> {
        let (outcomes, written) = {
            let mut book = self.book();
            let Staged { mut records, outcomes } = book.end_closed(uuid, self.env.clock.now());
            records.push(record);
            (outcomes, self.writer.commit(records))
        };
        let written = written.await;
        let mut book = self.book();
        book.settle(outcomes, written.is_ok());
        if written.is_ok() {
            on_written();
        }
        drop(book);
        self.changed.notify_one();
        written
    }

    /// Hands over what nobody waits for. If even that cannot be taken, the hold is in memory only.
    fn write_behind(&self, book: &mut ClaimBook, staged: Staged) {
        let Staged { records, outcomes } = staged;
        if records.is_empty() {
            return;
        }
        book.settle(outcomes, true);
        if let Err(error) = self.writer.write_behind(records) {
            warn!(%error, "holds are not on the disk, so they end with this process");
        }
        self.changed.notify_one();
    }

    fn count(&self, answers: Vec<ClaimAnswer>) -> Vec<ClaimAnswer> {
        answers.iter().for_each(|answer| self.counters.count(answer));
        answers
    }

    /// Ends holds whose time is up, until dropped.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            let now = self.env.clock.now();
            let next = {
                let mut book = self.book();
                let staged = book.expire(now);
                self.write_behind(&mut book, staged);
                book.next_expiry()
            };
            let wait = next.map_or(LOOK_EVERY, |next| next.saturating_sub(now).min(LOOK_EVERY));
            tokio::select! { biased;
                () = self.held.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits until the next report differs from the last one.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What a report lists.
    pub fn reported(&self) -> ReportedClaims {
        let now = self.env.clock.now();
        let book = self.book();
        let listed = book.granted().map(|(uuid, grant)| reported(*uuid, grant, now));
        let (holds, claims) = listed.partition(|claim| claim.hold_ms.is_some());
        ReportedClaims {
            claims,
            holds,
            given_gb: book.given_gb().claims,
            ended: book.newest_ended().collect(),
            ..ReportedClaims::default()
        }
    }

    /// Waits until everything that was decided so far is on the disk, or cannot be.
    pub(crate) async fn flush(&self) {
        if let Err(error) = self.writer.commit(Vec::new()).await {
            warn!(%error, "holds are not on the disk, so they end with this process");
        }
    }

    /// How many claims and how many holds there are.
    pub fn counts(&self) -> (u64, u64) {
        let book = self.book();
        book.granted().fold((0, 0), |(claims, holds), (_, grant)| match grant.expires {
            None => (claims + 1, holds),
            Some(_) => (claims, holds + 1),
        })
    }
}

fn bad_arguments(reason: String) -> CallError {
    CallError::BadArguments { reason }
}

fn refused_by_disk(error: &CommitError) -> String {
    let why = novella_service::exit::chain(error);
    format!("the host cannot write its claims: {why}; {}", error.next_step())
}

/// The answer for an instance whose claim could not be written.
fn unwritten(answer: ClaimAnswer, error: &CommitError) -> ClaimAnswer {
    match answer {
        ClaimAnswer::Granted { .. } => ClaimAnswer::Busy { reason: refused_by_disk(error) },
        answer => answer,
    }
}

/// A claim or hold as a report lists it.
fn reported(uuid: Uuid, grant: &Grant, now: Duration) -> Claim<'static> {
    let Grant { record, expires, .. } = grant;
    let instance = &record.claim.instance;
    let some = |list: bool, text: Json<'static>| list.then_some(text);
    let resources = instance.resources.iter().map(|(class, amount)| (class.clone().into(), *amount));
    Claim {
        uuid,
        vcpus: instance.vcpus,
        memory_mb: instance.memory_mb,
        disk_gb: instance.disk_gb,
        group: instance.group.clone().map(Into::into),
        flavor: instance.flavor.clone().map(Into::into),
        image: record.claim.image.as_ref().map(text),
        resources: novella_objects::Entries(resources.collect()),
        numa_topology: some(!instance.numa_topology.is_empty(), text(&instance.numa_topology)),
        pci: some(!instance.pci.is_empty(), text(&instance.pci)),
        hold_ms: expires.map(|end| end.saturating_sub(now).as_millis() as u64),
        decision: Some(record.decision_id.clone().into()),
        user: record.user.clone().map(Into::into),
        rank: Some(record.claim.rank),
        spec_hash: Some(instance.spec_hash),
        migration: record.claim.migration,
        instance: None,
    }
}

fn text(value: &impl Serialize) -> Json<'static> {
    Json::of(value).expect("what was read from JSON can be written as JSON")
}
