//! The instances of this host: takes requests, writes them, and tells reports about them.
//!
//! What always holds:
//! - a claim and its instance are written in one commit, and they end in one commit, when the guest is gone;
//! - what a caller asks for is on the disk before the caller is answered and before the driver is called. What the driver did
//!   is written soon after: if that is lost, the next process calls the driver again, which is harmless;
//! - records are decided under the lock of the claims, which is taken before the lock of the instances.
//!
//! Left out: what a request makes of a state (`machine`), and calls to the driver (`driving`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use novella_messaging::{CallError, RemoteError};
use novella_objects::{
    ClaimAnswer, ClaimRequest, InstanceClaim, InstanceEvent, Json, PowerState, TerminateInstance, Terminated,
    VmState,
};
use novella_service::exit::chain;
use novella_service::{Change, Env};
use novella_virt::ComputeDriver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use crate::claims::book::ClaimBook;
use crate::claims::record::{Ending, InstanceRecord, put_instance};
use crate::claims::tracker::{ReportedClaims, ResourceTracker};
use crate::config::AgentConfig;
use crate::instances::counters::InstanceCounters;
use crate::instances::failures::Failures;
use crate::instances::machine::{Step, fault_of};

/// The module of the exceptions that Nova's API raises for instances.
const NOVA_EXCEPTIONS: &str = "nova.exception";

/// How long calls to the driver may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub spawn: Duration,
    pub destroy: Duration,
    pub power: Duration,
    pub list: Duration,
}

/// One instance, and what is being done with it.
pub(super) struct Entry {
    /// The newest state.
    pub record: InstanceRecord,
    /// The newest state that will be on the disk, whatever becomes of the commits under way. `None` if there is none.
    kept: Option<InstanceRecord>,
    /// Number of the newest state. What the driver did for an older one is not taken over.
    pub version: u64,
    /// Commits under way of what callers asked for. The driver is not called meanwhile.
    pub pending: u32,
    /// Whether a task calls the driver.
    pub driven: bool,
    /// Ends the call to the driver that is under way, because something else is wanted now.
    pub interrupt: CancellationToken,
}

impl Entry {
    fn new(record: InstanceRecord, kept: Option<InstanceRecord>) -> Self {
        let interrupt = CancellationToken::new();
        Self { record, kept, version: 0, pending: 0, driven: false, interrupt }
    }

    /// Takes note that the state has changed, which was to do `before`.
    fn touch(&mut self, before: Option<Step>) {
        self.version += 1;
        if self.record.step() != before {
            std::mem::take(&mut self.interrupt).cancel();
        }
    }

    /// The change of the disk that a caller waits for, and what [`Instances::settle`] is told afterwards.
    fn commit(&mut self, uuid: Uuid) -> (Change, Intent) {
        self.pending += 1;
        (put_instance(uuid, &self.record), Intent { uuid, record: self.record.clone() })
    }

    /// The change of the disk that nobody waits for.
    pub fn write(&mut self, uuid: Uuid) -> Change {
        self.version += 1;
        self.kept = Some(self.record.clone());
        put_instance(uuid, &self.record)
    }
}

/// A state that a caller asked for and that is being written.
struct Intent {
    uuid: Uuid,
    record: InstanceRecord,
}

/// All instances.
#[derive(Default)]
pub(super) struct Table {
    pub live: BTreeMap<Uuid, Entry>,
    pub failures: Failures,
}

/// See the module documentation.
pub(crate) struct Instances {
    host: String,
    pub(super) tracker: Arc<ResourceTracker>,
    pub(super) driver: Arc<dyn ComputeDriver>,
    pub(super) env: Env,
    pub(super) deadlines: Deadlines,
    table: Mutex<Table>,
    pub(super) counters: InstanceCounters,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Instances {
    /// Takes over the instances of earlier processes, and goes on with what was being done with them. Its tasks are added to
    /// `tasks`, and end with `stop`.
    pub fn start(
        host: &str,
        config: &AgentConfig,
        env: &Env,
        driver: Arc<dyn ComputeDriver>,
        tracker: Arc<ResourceTracker>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let deadlines = Deadlines {
            spawn: config.driver.spawn_timeout,
            destroy: config.driver.destroy_timeout,
            power: config.driver.power_timeout,
            list: config.report.probe_timeout,
        };
        let at = env.clock.rfc3339();
        let mut live = BTreeMap::new();
        for (uuid, mut record) in tracker.take_instances() {
            let kept = record.clone();
            if let Some(ending) = record.ending {
                tracker.with_book(|book| book.close(uuid, ending.up_to_rank()));
            }
            if record.step().is_some() {
                record.tell(at.clone(), "resumed after a restart", None);
            }
            live.insert(uuid, Entry::new(record, Some(kept)));
        }
        if !live.is_empty() {
            info!(host, instances = live.len(), "instances of earlier processes are taken over");
        }
        let uuids: Vec<Uuid> = live.keys().copied().collect();
        let instances = Arc::new(Self {
            host: host.to_owned(),
            tracker,
            driver,
            env: env.clone(),
            deadlines,
            table: Mutex::new(Table { live, failures: Failures::default() }),
            counters: InstanceCounters::default(),
            stop,
            tasks,
        });
        uuids.into_iter().for_each(|uuid| instances.kick(uuid));
        instances
    }

    /// What the host has granted.
    pub fn tracker(&self) -> &Arc<ResourceTracker> {
        &self.tracker
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic while the instances are held")
    }

    pub(super) fn now(&self) -> String {
        self.env.clock.rfc3339()
    }

    /// Starts to call the driver for an instance, if there is something to do and nobody does it.
    pub(super) fn kick(self: &Arc<Self>, uuid: Uuid) {
        let mut table = self.table();
        let Some(entry) = table.live.get_mut(&uuid) else { return };
        if entry.driven || entry.pending > 0 || entry.record.step().is_none() {
            return;
        }
        entry.driven = true;
        drop(table);
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(self.clone().drive(uuid)));
    }

    /// Claims room for instances and builds them. Answers when both are on the disk; the builds follow.
    pub async fn build(self: &Arc<Self>, request: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        for InstanceClaim { instance, build, .. } in &request.instances {
            let fault = match build {
                None => Some("it has no build; use claim for room alone".to_owned()),
                Some(build) => fault_of(build),
            };
            if let Some(fault) = fault {
                return Err(CallError::BadArguments {
                    reason: format!("instance {}: {fault}", instance.uuid),
                });
            }
        }
        if let Some(cannot_build) = self.driver.abilities().cannot_build {
            let reason = format!("host {} builds no instances: {cannot_build}", self.host);
            let answers = vec![ClaimAnswer::Busy { reason }; request.instances.len()];
            answers.iter().for_each(|answer| self.tracker.counters.count(answer));
            return Ok(answers);
        }
        let wanted = request.instances.clone();
        let mut intents = Vec::new();
        let answers =
            self.tracker.claim_with(request, |answers| self.stage(&wanted, answers, &mut intents)).await?;
        for (at, intent) in intents {
            self.settle(intent, answers[at].is_granted());
        }
        Ok(answers)
    }

    /// Makes the instances whose claims are granted and that are not there yet.
    fn stage(
        &self,
        wanted: &[InstanceClaim],
        answers: &[ClaimAnswer],
        intents: &mut Vec<(usize, Intent)>,
    ) -> Vec<Change> {
        let mut table = self.table();
        let mut changes = Vec::new();
        for (at, wanted) in wanted.iter().enumerate().filter(|(at, _)| answers[*at].is_granted()) {
            let uuid = wanted.instance.uuid;
            let build = wanted.build.clone().unwrap_or_default();
            let new = || Entry::new(InstanceRecord::new(build, self.now()), None);
            let entry = table.live.entry(uuid).or_insert_with(new);
            // A repeated request waits for the disk too, as long as nothing of the instance is there.
            if entry.kept.is_none() {
                let (change, intent) = entry.commit(uuid);
                changes.push(change);
                intents.push((at, intent));
                table.failures.forget(&uuid);
            }
        }
        changes
    }

    /// Takes note of whether a state that a caller asked for was written, and goes on from there.
    fn settle(self: &Arc<Self>, intent: Intent, written: bool) {
        let Intent { uuid, record } = intent;
        let mut table = self.table();
        let Some(entry) = table.live.get_mut(&uuid) else { return };
        entry.pending -= 1;
        if written {
            entry.kept = Some(record);
        } else if entry.pending == 0 {
            match entry.kept.clone() {
                Some(kept) => {
                    let before = entry.record.step();
                    entry.record = kept;
                    entry.touch(before);
                }
                None => drop(table.live.remove(&uuid)),
            }
        }
        drop(table);
        self.kick(uuid);
    }

    /// Stops the guest of an instance. Answers when that is noted.
    pub async fn stop(self: &Arc<Self>, uuid: Uuid) -> Result<(), CallError> {
        self.change(uuid, "stop", InstanceRecord::stop).await
    }

    /// Starts the guest of an instance. Answers when that is noted.
    pub async fn power_on(self: &Arc<Self>, uuid: Uuid) -> Result<(), CallError> {
        self.change(uuid, "start", InstanceRecord::start).await
    }

    async fn change(
        self: &Arc<Self>,
        uuid: Uuid,
        verb: &str,
        apply: impl FnOnce(&mut InstanceRecord, String) -> Result<bool, &'static str>,
    ) -> Result<(), CallError> {
        let mut intents = Vec::new();
        let decided = self.tracker.write(|book| {
            let mut table = self.table();
            let Some(entry) = table.live.get_mut(&uuid) else { return Err(self.not_found(book, uuid)) };
            let before = entry.record.step();
            match apply(&mut entry.record, self.now()) {
                Ok(false) => Ok(Vec::new()),
                Ok(true) => {
                    entry.touch(before);
                    let (change, intent) = entry.commit(uuid);
                    intents.push(intent);
                    Ok(vec![change])
                }
                Err(reason) => {
                    let message = format!("cannot {verb} instance {uuid} on host {}: {reason}", self.host);
                    Err(RemoteError::new(NOVA_EXCEPTIONS, "InstanceInvalidState", message).into())
                }
            }
        });
        let written = decided.await;
        intents.into_iter().for_each(|intent| self.settle(intent, written.is_ok()));
        written
    }

    /// Ends claims, holds and instances. Answers when that is on the disk; the guests are destroyed afterwards.
    pub async fn terminate(
        self: &Arc<Self>,
        request: &TerminateInstance,
    ) -> Result<Vec<Terminated>, CallError> {
        let mut intents = Vec::new();
        let built = |uuid: &Uuid| self.table().live.contains_key(uuid);
        let ended = self.tracker.terminate_with(request, built, |book, answers| {
            let mut table = self.table();
            let mut changes = Vec::new();
            let outranked = |at: &usize| answers[*at] == Terminated::Outranked;
            for (_, uuid) in request.instance_uuids.iter().enumerate().filter(|(at, _)| !outranked(at)) {
                table.failures.forget(uuid);
                let Some(entry) = table.live.get_mut(uuid) else { continue };
                let before = entry.record.step();
                if entry.record.end(book.closing(uuid).flatten(), self.now()) {
                    entry.touch(before);
                    let (change, intent) = entry.commit(*uuid);
                    changes.push(change);
                    intents.push(intent);
                }
            }
            changes
        });
        let ended = ended.await;
        intents.into_iter().for_each(|intent| self.settle(intent, ended.is_ok()));
        ended
    }

    /// What happened to an instance, oldest first.
    pub fn events(&self, uuid: Uuid) -> Result<Vec<InstanceEvent>, CallError> {
        let table = self.table();
        let live = table.live.get(&uuid).map(|entry| &entry.record);
        let known = live.or_else(|| table.failures.get(&uuid)).map(|record| record.events.clone());
        drop(table);
        known.ok_or_else(|| self.tracker.with_book(|book| self.not_found(book, uuid)))
    }

    fn not_found(&self, book: &ClaimBook, uuid: Uuid) -> CallError {
        let host = &self.host;
        let message = match book.claim_of(&uuid) {
            Some(_) => format!("instance {uuid} is only a claim on host {host}; its own tools run it"),
            None => format!("host {host} has no instance {uuid}; list the instances to see where it is"),
        };
        RemoteError::new(NOVA_EXCEPTIONS, "InstanceNotFound", message).into()
    }

    /// Adds to a report what is known of instances.
    pub fn add_to(&self, claimed: &mut ReportedClaims) {
        let table = self.table();
        let text = |record: &InstanceRecord| Json::of(&record.state).expect("a state has only text keys");
        for claim in &mut claimed.claims {
            claim.instance = table.live.get(&claim.uuid).map(|entry| text(&entry.record));
        }
        let busy = table.live.values().filter(|entry| entry.record.state.task_state.is_some()).count();
        claimed.num_io_ops = u32::try_from(busy).unwrap_or(u32::MAX);
        claimed.failed = table.failures.listed().map(|(uuid, record)| (*uuid, text(record))).collect();
        claimed.failed_builds = table.failures.in_a_row(self.env.clock.now());
    }

    /// How many instances there are in each vm_state.
    pub fn by_vm_state(&self) -> [(VmState, u64); 4] {
        let table = self.table();
        [VmState::Building, VmState::Active, VmState::Stopped, VmState::Error].map(|state| {
            let count = table.live.values().filter(|entry| entry.record.state.vm_state == state).count();
            (state, count as u64)
        })
    }

    /// How often builds were started and how they ended.
    pub fn counters(&self) -> &InstanceCounters {
        &self.counters
    }

    /// Compares the instances with the guests that the driver lists.
    pub async fn sync(self: &Arc<Self>) {
        if !self.driver.abilities().lists_instances {
            return;
        }
        let idle: Vec<(Uuid, u64)> = {
            let table = self.table();
            let idle =
                table.live.iter().filter(|(_, entry)| entry.pending == 0 && entry.record.step().is_none());
            idle.map(|(uuid, entry)| (*uuid, entry.version)).collect()
        };
        if idle.is_empty() {
            return;
        }
        let guests = match tokio::time::timeout(self.deadlines.list, self.driver.list_instances()).await {
            Ok(Ok(guests)) => guests,
            Ok(Err(error)) => {
                warn!(
                    host = self.host,
                    error = chain(&error),
                    "the driver cannot list its guests; their power states are old"
                );
                return;
            }
            Err(_) => {
                warn!(
                    host = self.host,
                    "the driver did not list its guests in time; their power states are old"
                );
                return;
            }
        };
        let guests: BTreeMap<Uuid, PowerState> =
            guests.into_iter().map(|guest| (guest.uuid, guest.power_state)).collect();
        let mut changed = Vec::new();
        self.tracker.write_soon(|_| {
            let mut table = self.table();
            let mut changes = Vec::new();
            for (uuid, version) in idle {
                // What has changed since then is newer than the list.
                let Some(entry) = table.live.get_mut(&uuid).filter(|entry| entry.version == version) else {
                    continue;
                };
                if entry.record.observe(guests.get(&uuid).copied(), self.now()) {
                    changes.push(entry.write(uuid));
                    changed.push(uuid);
                }
            }
            changes
        });
        for uuid in changed {
            info!(host = self.host, instance = %uuid, "the guest was not as it should be; see the events of the instance");
            self.kick(uuid);
        }
    }

    /// Takes an instance out, because its end is on the disk.
    pub(super) fn take_out(&self, uuid: Uuid) {
        let mut table = self.table();
        let Some(entry) = table.live.remove(&uuid) else { return };
        if let Some(Ending::FailedBuild(_)) = entry.record.ending {
            let mut record = entry.record;
            record.state.task_state = None;
            table.failures.remember(uuid, record);
        }
    }
}
