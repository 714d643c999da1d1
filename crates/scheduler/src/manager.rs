//! The scheduler itself: applies reports to the host-state map and answers from it.
//!
//! Always holds: one lock guards map and decisions; a placement or a batch of reports holds it once, and never across an
//! await. Whoever looks at the map first after a stall of this process notes the stall, before anything is judged by the
//! clock: time in which nobody here listened is no host's silence. Peers are told in the order in which was decided.
//! Whoever lists the hosts takes rows out under the lock and formats them outside it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use novella_filter_scheduler::FilterScheduler;
use novella_host_manager::Applied;
use novella_host_manager::COMPUTE;
use novella_host_manager::Counters;
use novella_host_manager::Event;
use novella_host_manager::HostManager;
use novella_messaging::{CallError, RemoteError, RequestContext};
use novella_objects::{
    Capacity, CapacityQuery, Decision, Explain, Explained, Flavor, HostDetail, HostState, Policies,
    PolicyStatus, Reserve, SelectDestinations, ServiceSummary, UpdateServiceCapabilities,
};
use novella_rpcapi::{
    DecisionQuery, HostList, HostQuery, OwnPolicy, Release, ReportSink, SchedulerEndpoint, SchedulerStatus,
    SnapshotPage, SnapshotQuery,
};
use novella_service::Env;
use novella_service::health::Health;
use novella_service::stall::{self, StallMonitor};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::call_errors::{PolicyFaults, bad_arguments, internal};
use crate::decisions::Decisions;
use crate::lag::ReportLag;
use crate::policy::{PolicySource, PolicyState};
use crate::snapshots::Snapshots;

/// Instances in one request at most: a bound on the time one critical section may take.
pub const MAX_INSTANCES: usize = 10_000;
/// Alternates per instance at most: a bound on the size of an answer.
pub const MAX_ALTERNATES: u32 = 32;
/// Decisions waiting to be told to the other schedulers; beyond it they are counted and the hosts' claims settle it.
pub const RESERVE_OUTBOX: usize = 1024;

/// Why the lock cannot be poisoned.
pub(crate) const POISONED: &str = "no panic while the map is held";

/// What is guarded.
pub(crate) struct Core {
    pub(crate) hosts: HostManager,
    pub(crate) engine: FilterScheduler,
    pub(crate) decisions: Decisions,
}

/// Counts of requests.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// Answers to `select_destinations`, refusals included.
    pub decisions: AtomicU64,
    /// Of these, refusals.
    pub refusals: AtomicU64,
    /// Reservations not told to other schedulers because too many waited.
    pub reserve_overflow: AtomicU64,
    /// Reports whose arguments could not be read.
    pub unreadable_reports: AtomicU64,
}

/// Counts one more. True for the first and at every doubling: a fault is seen in the log at once, and a flood of it
/// costs a line per doubling.
fn is_news(counter: &AtomicU64) -> bool {
    (counter.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two()
}

/// Refused reports that an operator must look at, by what is to be done about them.
#[derive(Debug, Default)]
struct Refusals {
    cloned: AtomicU64,
    duplicate_name: AtomicU64,
    too_many: AtomicU64,
    bad: AtomicU64,
}

impl Refusals {
    fn log(&self, report: &UpdateServiceCapabilities<'_>, applied: &Applied) {
        let (host, service) = (&*report.host, &*report.service_name);
        match applied {
            Applied::Cloned { host: first } if is_news(&self.cloned) => warn!(
                host,
                first,
                "two processes report with one identity; the later is refused. Remove identity.json from the state \
                 directory of one of the two hosts and restart its agent"
            ),
            Applied::DuplicateName { holder } if is_news(&self.duplicate_name) => warn!(
                host,
                %holder,
                "another identity reports under the name of a live host and is refused; give it another --host"
            ),
            Applied::TooMany if is_news(&self.too_many) => {
                warn!(host, service, "the map is full; raise reports.max_hosts")
            }
            Applied::Bad(bad) if is_news(&self.bad) => {
                warn!(host, service, %bad, "a report with an impossible value is refused")
            }
            _ => debug!(host, service, outcome = ?applied, "report not applied"),
        }
    }
}

/// Settings that the manager needs at run time.
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// This scheduler's name.
    pub name: String,
    /// Where its policy is read from.
    pub policy: PolicySource,
    /// Longest hold.
    pub max_hold: Duration,
    /// The cell that Nova is told all hosts are in.
    pub nova_cell: Uuid,
}

/// Owner of the map.
pub struct SchedulerManager {
    pub(crate) options: ManagerOptions,
    pub(crate) env: Env,
    pub(crate) policy: PolicyState,
    pub(crate) snapshots: Snapshots,
    core: Arc<Mutex<Core>>,
    health: Health,
    /// Looked at under the lock of `core` only, so that nobody judges between a stall and its note.
    stalls: StallMonitor,
    stalled: Notify,
    outbox: mpsc::Sender<Reserve>,
    started: Duration,
    /// Keeps decision ids apart from those of the process before this one.
    run: u32,
    next_decision: AtomicU64,
    refusals: Refusals,
    pub(crate) policy_faults: PolicyFaults,
    pub(crate) report_lag: ReportLag,
    /// See [`RequestCounters`].
    pub requests: RequestCounters,
}

impl SchedulerManager {
    /// A manager with an empty map. Reserves to be told to others are read from the returned receiver.
    pub fn new(
        options: ManagerOptions,
        env: Env,
        hosts: HostManager,
        engine: FilterScheduler,
        health: Health,
    ) -> (Arc<Self>, mpsc::Receiver<Reserve>) {
        let (outbox, reserves) = mpsc::channel(RESERVE_OUTBOX);
        let policy = PolicyState::new(options.policy.clone(), health.condition("policy"));
        let core = Arc::new(Mutex::new(Core { hosts, engine, decisions: Decisions::default() }));
        let manager = Self {
            policy,
            options,
            core,
            health,
            stalls: StallMonitor::new(env.clock.clone()),
            stalled: Notify::new(),
            snapshots: Snapshots::default(),
            outbox,
            started: env.clock.now(),
            run: env.random.u64() as u32,
            env,
            next_decision: AtomicU64::new(0),
            refusals: Refusals::default(),
            policy_faults: PolicyFaults::default(),
            report_lag: ReportLag::default(),
            requests: RequestCounters::default(),
        };
        (Arc::new(manager), reserves)
    }

    /// The map, with the time at which it is looked at.
    pub(crate) fn core(&self) -> (MutexGuard<'_, Core>, Duration) {
        let mut core = self.core.lock().expect(POISONED);
        if let Some(stall) = self.stalls.observe() {
            core.hosts.note_stall(stall.from, stall.to);
            self.stalled.notify_one();
        }
        (core, self.env.clock.now())
    }

    /// The map for a thread of its own, which asks nothing about time.
    pub(crate) fn shared(&self) -> Arc<Mutex<Core>> {
        Arc::clone(&self.core)
    }

    /// Calls `f` with the map and the time, for tasks of this daemon.
    pub fn with_hosts<T>(&self, f: impl FnOnce(&mut HostManager, Duration) -> T) -> T {
        let (mut core, now) = self.core();
        f(&mut core.hosts, now)
    }

    /// Watches for stalls, for ever.
    pub async fn watch_for_stalls(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(stall::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.with_hosts(|_, _| ());
        }
    }

    /// Wakes after this process did not run for a while.
    pub async fn stalled(&self) {
        self.stalled.notified().await;
    }

    /// Marks the silent as down, forgets the long gone, lets expired reservations go.
    pub fn expire(&self) {
        let events = self.with_hosts(|hosts, now| hosts.expire(now));
        log_events(&events);
        self.snapshots.forget_old(self.env.clock.now());
    }

    /// Counts of reports.
    pub fn report_counters(&self) -> Counters {
        self.with_hosts(|hosts, _| *hosts.counters())
    }

    /// How many requests failed because of the policy.
    pub fn policy_faults(&self) -> u64 {
        self.policy_faults.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn decision_id(&self) -> String {
        let number = self.next_decision.fetch_add(1, Ordering::Relaxed);
        format!("{}-{:x}-{number:x}", self.options.name, self.run)
    }

    /// For what is picked at random; see `Decision::seed`.
    pub(crate) fn seed(&self) -> u64 {
        self.env.random.u64() >> 11
    }

    pub(crate) fn check(&self, request: &SelectDestinations) -> Result<(), CallError> {
        let bad = |reason: String| Err(bad_arguments(reason));
        let spec = &request.request_spec;
        match spec.instance_uuids.len() {
            0 => return bad("request_spec.instance_uuids is empty: name each instance by a uuid".into()),
            n if n > MAX_INSTANCES => {
                return bad(format!("{n} instances in one request; at most {MAX_INSTANCES} are allowed"));
            }
            _ => {}
        }
        let mut uuids = spec.instance_uuids.clone();
        uuids.sort_unstable();
        if let Some(twice) = uuids.windows(2).find(|w| w[0] == w[1]) {
            return bad(format!("instance {} is named twice", twice[0]));
        }
        let Flavor { memory_mb, root_gb, ephemeral_gb, .. } = spec.flavor;
        for (name, value) in [("memory_mb", memory_mb), ("root_gb", root_gb), ("ephemeral_gb", ephemeral_gb)]
        {
            const LIMIT: u64 = i32::MAX as u64; // the engine's columns; a host larger than this cannot report
            if value > LIMIT {
                return bad(format!("flavor.{name} is {value}; at most {LIMIT} is allowed"));
            }
        }
        if let Some(alternates) = request.alternates.filter(|wanted| *wanted > MAX_ALTERNATES) {
            return bad(format!("alternates is {alternates}; at most {MAX_ALTERNATES} are allowed"));
        }
        let max_hold = self.options.max_hold.as_secs();
        match request.hold_s {
            Some(hold) if hold > max_hold => bad(format!("hold_s is {hold}; max_hold allows {max_hold}")),
            _ => Ok(()),
        }
    }

    /// Hands a reserve to the task that tells the other schedulers. They may miss it: the hosts' claims settle it.
    pub(crate) fn tell(&self, reserve: Reserve) {
        if self.outbox.try_send(reserve).is_err() {
            self.requests.reserve_overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The request with the flavor and the PCI aliases that it names.
    pub(crate) fn resolve(
        &self,
        core: &Core,
        request: SelectDestinations,
    ) -> Result<SelectDestinations, CallError> {
        let flavor = request.flavor.clone();
        let resolved = core.hosts.resolve(request);
        resolved.map_err(|failure| self.policy_faults.unresolved(&failure, flavor.as_deref()))
    }

    /// Decides, reserves, remembers, and tells the peers, all while the caller holds the map. The request has been
    /// [checked](Self::check).
    pub(crate) fn decide(
        &self,
        core: &mut Core,
        request: SelectDestinations,
        now: Duration,
    ) -> Result<Arc<Decision>, CallError> {
        let decision_id = self.decision_id();
        let request = self.resolve(core, request)?;
        let compute_only = request.service.as_deref().is_none_or(|service| service == COMPUTE);
        let decision = match request.service.as_deref().filter(|_| !compute_only) {
            None => {
                let id = decision_id.clone();
                let decided =
                    core.hosts.select_destinations(&mut core.engine, &request, id, self.seed(), now);
                decided.map_err(|failure| self.policy_faults.call_error(&failure))?
            }
            Some(service) => core.hosts.select_service(service, &request, decision_id.clone(), now),
        };
        if let Some(reserve) = core.hosts.to_reserve(&decision, now) {
            self.tell(reserve);
        }
        let decision = Arc::new(decision);
        // A repeated answer has an earlier decision's id and lacks its explanation. What would help is searched among
        // compute hosts only.
        if decision.decision_id == decision_id && compute_only {
            core.decisions.push(decision.clone(), request.request_spec);
        }
        Ok(decision)
    }

    /// Counts and logs a decision that took since `began`.
    pub(crate) fn decided(&self, decision: &Decision, began: Duration) {
        self.requests.decisions.fetch_add(1, Ordering::Relaxed);
        if decision.refusal.is_some() {
            self.requests.refusals.fetch_add(1, Ordering::Relaxed);
        }
        let elapsed = self.env.clock.now().saturating_sub(began);
        let hosts_left = decision.explanation.filters.last().map_or(0, |f| f.hosts_out);
        let chosen = decision.selections.first().map_or("-", |s| s.host.as_str());
        info!(
            decision_id = decision.decision_id,
            host = chosen,
            instances = decision.selections.len(),
            refused = decision.refusal.is_some(),
            hosts_seen = decision.explanation.hosts,
            hosts_left,
            dry_run = decision.dry_run,
            repeated = decision.repeated,
            seed = decision.seed,
            elapsed_us = elapsed.as_micros() as u64,
            "decided"
        );
    }
}

#[async_trait]
impl SchedulerEndpoint for SchedulerManager {
    async fn select_destinations(
        &self,
        _: &RequestContext,
        args: SelectDestinations,
    ) -> Result<Decision, CallError> {
        self.check(&args)?;
        let (decision, began) = {
            let (mut core, now) = self.core();
            (self.decide(&mut core, args, now)?, now)
        };
        self.decided(&decision, began);
        Ok(Arc::unwrap_or_clone(decision))
    }

    async fn reserve(&self, _: &RequestContext, args: Reserve) -> Result<(), CallError> {
        if args.scheduler != self.options.name {
            self.with_hosts(|hosts, now| hosts.reserve(&args, now));
        }
        Ok(())
    }

    async fn release(&self, _: &RequestContext, args: Release) -> Result<u64, CallError> {
        Ok(self.with_hosts(|hosts, _| {
            let Some(told) = hosts.release(&args.decision_id, &args.instance_uuids) else { return 0 };
            let count = told.entries.len() as u64;
            self.tell(told);
            count
        }))
    }

    async fn list_hosts(&self) -> Result<HostList, CallError> {
        // Copied under the lock, written out beside it: a listing of ten thousand hosts must not hold up placements.
        let hosts = self.with_hosts(|hosts, now| hosts.fleet(now)).summaries();
        Ok(HostList { scheduler: self.options.name.clone(), hosts })
    }

    async fn show_host(&self, args: HostQuery) -> Result<Option<HostDetail>, CallError> {
        Ok(self.with_hosts(|hosts, now| hosts.detail(&args.host, now)))
    }

    async fn list_services(&self) -> Result<Vec<ServiceSummary>, CallError> {
        Ok(self.with_hosts(|hosts, now| hosts.services(now)))
    }

    async fn get_decision(&self, args: DecisionQuery) -> Result<Option<Decision>, CallError> {
        let found = self.core().0.decisions.get(&args.decision_id);
        Ok(found.map(|decision| Decision::clone(&decision)))
    }

    async fn explain(&self, args: Explain) -> Result<Option<Explained>, CallError> {
        self.explained(args).await
    }

    async fn capacity(&self, args: CapacityQuery) -> Result<Capacity, CallError> {
        self.counted(args).await
    }

    async fn snapshot(&self, args: SnapshotQuery) -> Result<SnapshotPage, CallError> {
        self.snapshot_page(args.cursor)
    }

    async fn status(&self) -> Result<SchedulerStatus, CallError> {
        let (hosts, reservations, reports, policy_hash) = self.with_hosts(|hosts, _| {
            let (reservations, accepted) = (hosts.reservations() as u64, hosts.counters().accepted);
            (count_by_state(hosts), reservations, accepted, hosts.policy_hash().to_owned())
        });
        let ready = self.health.ready();
        Ok(SchedulerStatus {
            scheduler: self.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.env.clock.now().saturating_sub(self.started).as_secs_f64(),
            ready: ready.ok,
            waiting_for: (!ready.ok).then(|| ready.summary()),
            hosts,
            reports,
            decisions: self.requests.decisions.load(Ordering::Relaxed),
            refusals: self.requests.refusals.load(Ordering::Relaxed),
            reservations,
            policy_hash,
            policy_refused: self.policy.refused(),
        })
    }

    async fn reload_policy(&self) -> Result<Policies, CallError> {
        self.all_policies(true).await
    }

    async fn get_policies(&self) -> Result<Policies, CallError> {
        self.all_policies(false).await
    }

    async fn own_policy(&self, args: OwnPolicy) -> Result<PolicyStatus, CallError> {
        Ok(if args.reload { self.reload_own_policy().await } else { self.policy_status() })
    }

    async fn get_host_list(&self) -> Result<Value, CallError> {
        json(&self.with_hosts(|hosts, _| hosts.get_host_list()))
    }

    async fn get_service_capabilities(&self) -> Result<Value, CallError> {
        json(&self.with_hosts(|hosts, now| hosts.get_service_capabilities(now)))
    }

    async fn show_host_resources(&self, args: HostQuery) -> Result<Value, CallError> {
        self.with_hosts(|hosts, _| hosts.show_host_resources(&args.host)).ok_or_else(|| {
            // The class that Nova's own manager raised; callers test for it by name.
            CallError::Failed(Box::new(RemoteError {
                class: "ComputeHostNotFound".into(),
                module: "nova.exception".into(),
                message: format!("Compute host {} could not be found.", args.host),
                traceback: Vec::new(),
                args: Vec::new(),
                kwargs: serde_json::Map::from_iter([("host".to_owned(), args.host.clone().into())]),
            }))
        })
    }
}

impl ReportSink for SchedulerManager {
    fn apply_reports(&self, reports: &[UpdateServiceCapabilities<'_>]) {
        let (mut core, now) = self.core();
        for report in reports {
            for capabilities in &report.capabilities.0 {
                let applied = core.hosts.apply_report(&report.service_name, &report.host, capabilities, now);
                if !applied.is_accepted() {
                    self.refusals.log(report, &applied);
                }
            }
        }
        drop(core);
        self.report_lag.record(reports, self.env.clock.wall());
    }

    fn bad_report(&self, context: &RequestContext, reason: &CallError) {
        if is_news(&self.requests.unreadable_reports) {
            warn!(user_id = context.user_id, %reason, "a report cannot be read; it is dropped");
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<Value, CallError> {
    serde_json::to_value(value).map_err(internal)
}

/// How many hosts are in each state.
pub fn count_by_state(hosts: &HostManager) -> BTreeMap<String, u64> {
    [HostState::Up, HostState::Suspect, HostState::Disabled, HostState::Down]
        .into_iter()
        .map(|state| (state.as_str().to_owned(), u64::from(hosts.table().count(state))))
        .collect()
}

/// Each event of the map at the level of what must be done about it.
fn log_events(events: &[Event]) {
    for event in events {
        match event {
            Event::Down { host } => warn!(host, "host is down: silent for too long"),
            Event::Suspect { host } => {
                debug!(host, "host is suspect: silent, but it need not be its own fault")
            }
            Event::Back { host } => info!(host, "host is back"),
            Event::Forgotten { host } => info!(host, "host forgotten: silent for a long time"),
            Event::LostTogether { hosts, live } => {
                warn!(
                    hosts,
                    live,
                    "many hosts fell silent at once; they stay candidates as suspects. Look at the network"
                );
            }
            Event::TakenOver { host, previous, uuid } => {
                warn!(host, %previous, %uuid, "a new identity took over this host name");
            }
            Event::ReservationsExpired { count } => info!(count, "reservations ran out without a claim"),
        }
    }
}
