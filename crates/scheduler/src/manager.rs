//! What the calls share: the map behind its one lock, and what is kept beside it.
//!
//! What always holds: one lock guards the map, the engine and the remembered decisions. A placement takes it once. A batch of
//! reports gives it back every millisecond, and a question about the fleet every quarter of one. Nobody holds it across an
//! await. After this process has stalled, the first to take the lock records the stall before any host is judged by the clock:
//! a host was not silent while nobody here listened. Peers hear of decisions in the order in which they were made.
//!
//! Left out: what each call does (`calls/`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::Duration;

use novella_filter_scheduler::FilterScheduler;
use novella_host_manager::{Counters, HolderKind, HostManager};
use novella_messaging::Authority;
use novella_objects::{Decision, HostStatus, Reserve};
use novella_rpcapi::{ComputeApi, SchedulerApi};
use novella_service::Env;
use novella_service::health::{Condition, Health};
use novella_service::stall::{self, StallMonitor};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::call_errors::PolicyFaults;
use crate::core_lock::{Asking, CoreLock};
use crate::decisions::{Decided, Decisions};
use crate::host_clocks::HostClocks;
use crate::kept_snapshots::KeptSnapshots;
use crate::map_events;
use crate::policy_source::{PolicySource, PolicyState};
use crate::quotas::{Quotas, RequestQuotas};
use crate::refused_reports::RefusedReports;
use crate::report_lag::ReportLag;
use crate::request_metrics::RequestMetrics;

/// Maximum number of decisions that wait to be sent to the other schedulers. Further ones are dropped and counted.
const RESERVE_OUTBOX: usize = 1024;

/// Maximum number of instances in one message to the other schedulers. An entry usually takes about 250 bytes.
const ENTRIES_PER_MESSAGE: usize = 500;

/// How many users and how many projects the status of a scheduler shows.
const SHOWN_HOLDERS: usize = 5;

/// How long a question holds the lock before it lets others in. A placement takes about as long.
const QUESTION_HOLDS: Duration = Duration::from_micros(250);

/// The detail of `/readyz` while the map has room for new hosts, and while it has not.
const ROOM: &str = "the map has room for new hosts";
const FULL: &str = "the map holds as many hosts as reports.max_hosts allows, and new ones were refused; raise it, or forget \
                    hosts that do not exist with `novella host forget`";

/// What the lock guards.
pub(crate) struct Core {
    pub(crate) hosts: HostManager,
    pub(crate) engine: FilterScheduler,
    pub(crate) decisions: Decisions,
}

/// How many requests had each outcome.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// Answers to `select_destinations`, refusals included.
    pub decisions: AtomicU64,
    /// Answers to `select_destinations` that placed nothing.
    pub refusals: AtomicU64,
    /// Reservations that were not sent to the other schedulers because too many were waiting.
    pub reserve_overflow: AtomicU64,
}

/// The settings that the manager needs at run time.
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// This scheduler's name.
    pub name: String,
    /// Where its policy is read from.
    pub policy: PolicySource,
    /// The longest time for which a request may hold its room.
    pub max_hold: Duration,
    /// The cell that is reported to Nova for every host.
    pub nova_cell: Uuid,
    /// Which broker users may do what.
    pub authority: Arc<Authority>,
    /// How often a broker user and a project may ask for placements.
    pub request_quotas: RequestQuotas,
}

/// Owner of the map. It implements the endpoints that peers call.
pub struct SchedulerManager {
    pub(crate) options: ManagerOptions,
    pub(crate) env: Env,
    core: Arc<CoreLock<Core>>,
    /// Observed only under the lock of `core`, so that no host is judged before a stall is recorded.
    stalls: StallMonitor,
    stalled: Notify,
    outbox: mpsc::Sender<Reserve>,
    /// The client for all schedulers, once there is one.
    pub(crate) peers: OnceLock<SchedulerApi>,
    /// The client for the agents, once there is one.
    pub(crate) agents: OnceLock<ComputeApi>,
    pub(crate) health: Health,
    /// The health condition that says whether new hosts have room in the map.
    room: Condition,
    pub(crate) policy: PolicyState,
    pub(crate) policy_faults: PolicyFaults,
    pub(crate) snapshots: KeptSnapshots,
    /// When this process started, by the monotonic clock.
    pub(crate) started: Duration,
    /// A random number that keeps decision ids apart from those of the process before this one.
    run: u32,
    next_decision: AtomicU64,
    pub(crate) refused_reports: RefusedReports,
    pub(crate) report_lag: ReportLag,
    pub(crate) request_metrics: RequestMetrics,
    pub(crate) quotas: Quotas,
    pub(crate) host_clocks: HostClocks,
    /// See [`RequestCounters`].
    pub requests: RequestCounters,
}

impl SchedulerManager {
    /// A manager of this map, and the receiver of what the other schedulers must be told.
    pub fn new(
        options: ManagerOptions,
        env: Env,
        hosts: HostManager,
        engine: FilterScheduler,
        health: Health,
    ) -> (Arc<Self>, mpsc::Receiver<Reserve>) {
        let (outbox, reserves) = mpsc::channel(RESERVE_OUTBOX);
        let room = health.condition("room for hosts");
        room.set(true, ROOM);
        let manager = Self {
            room,
            policy: PolicyState::new(options.policy.clone(), health.condition("policy")),
            quotas: Quotas::new(options.request_quotas),
            options,
            core: Arc::new(CoreLock::new(
                Core { hosts, engine, decisions: Decisions::default() },
                env.clock.clone(),
            )),
            stalls: StallMonitor::new(env.clock.clone()),
            stalled: Notify::new(),
            outbox,
            peers: OnceLock::new(),
            agents: OnceLock::new(),
            health,
            policy_faults: PolicyFaults::default(),
            snapshots: KeptSnapshots::default(),
            started: env.clock.now(),
            run: env.random.u64() as u32,
            env,
            next_decision: AtomicU64::new(0),
            refused_reports: RefusedReports::default(),
            report_lag: ReportLag::default(),
            request_metrics: RequestMetrics::default(),
            host_clocks: HostClocks::default(),
            requests: RequestCounters::default(),
        };
        (Arc::new(manager), reserves)
    }

    /// Gives the manager its client for the agents, once.
    pub fn connect_agents(&self, agents: ComputeApi) {
        self.agents.get_or_init(|| agents);
    }

    /// Takes the lock. Also returns the time by which hosts are judged.
    pub(crate) fn core(&self) -> (MutexGuard<'_, Core>, Duration) {
        let mut core = self.core.lock();
        let now = self.now(&mut core);
        (core, now)
    }

    /// Takes the lock for a question, which makes way for everybody else. Also returns the time by which hosts are judged.
    pub(crate) fn ask(&self) -> (Asking<'_, Core>, Duration) {
        let mut core = self.core.ask();
        let now = self.now(&mut core);
        (core, now)
    }

    /// The time by which hosts are judged, after a stall was recorded.
    fn now(&self, core: &mut Core) -> Duration {
        if let Some(stall) = self.stalls.observe() {
            core.hosts.note_stall(stall.from, stall.to);
            self.stalled.notify_one();
        }
        self.env.clock.now()
    }

    /// The lock, for another thread that judges nothing by the clock.
    pub(crate) fn shared(&self) -> Arc<CoreLock<Core>> {
        Arc::clone(&self.core)
    }

    /// See [`CoreLock::let_others_in`].
    pub(crate) fn let_others_in(&self) {
        self.core.let_others_in();
    }

    /// Answers a question about the whole fleet: calls `step` until it returns true, and then `finish`. Others get the map in
    /// between, so that no placement waits longer than for another placement.
    pub(crate) fn ask_in_steps<Q, T>(
        &self,
        mut question: Q,
        step: impl Fn(&HostManager, &mut Q, Duration) -> bool,
        finish: impl FnOnce(&mut Core, Q, Duration) -> T,
    ) -> T {
        loop {
            let (mut core, now) = self.ask();
            loop {
                if step(&core.hosts, &mut question, now) {
                    return finish(&mut core, question, now);
                }
                if self.env.clock.now().saturating_sub(now) >= QUESTION_HOLDS {
                    break;
                }
            }
        }
    }

    /// Calls `f` with the map and the time while the lock is held.
    pub fn with_hosts<T>(&self, f: impl FnOnce(&mut HostManager, Duration) -> T) -> T {
        let (mut core, now) = self.core();
        f(&mut core.hosts, now)
    }

    /// Marks silent hosts as down, forgets those that have been gone for long, ends expired reservations, and looks who holds
    /// the most.
    pub fn expire(&self) {
        let (events, full, holders) = self.with_hosts(|hosts, now| {
            let holders = HolderKind::ALL.map(|kind| hosts.largest_holders(kind, SHOWN_HOLDERS));
            (hosts.expire(now), hosts.is_full(now), holders)
        });
        self.quotas.show(holders);
        map_events::log(&events);
        match full {
            true => self.room.set(false, FULL),
            false => self.room.set(true, ROOM),
        }
        let now = self.env.clock.now();
        self.snapshots.forget_old(now);
        self.host_clocks.forget_silent(now);
    }

    /// Takes the lock at every tick, so that a stall is noticed soon. Never returns.
    pub async fn watch_for_stalls(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(stall::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.with_hosts(|_, _| ());
        }
    }

    /// Waits until this process is found to have stalled.
    pub async fn stalled(&self) {
        self.stalled.notified().await;
    }

    /// Counts of what happened to reports and reservations.
    pub fn report_counters(&self) -> Counters {
        self.with_hosts(|hosts, _| *hosts.counters())
    }

    /// How many requests failed because of the policy.
    pub fn policy_faults(&self) -> u64 {
        self.policy_faults.requests.load(Ordering::Relaxed)
    }

    /// Remembers a decision, for questions about it. Of several with one id, the last is found.
    pub(crate) fn remember(&self, decided: Decided) -> Arc<Decision> {
        let decision = Arc::clone(&decided.decision);
        let at = self.env.clock.wall();
        self.core().0.decisions.push(decided, at);
        decision
    }

    /// An id that no other decision has, here or at a peer.
    pub(crate) fn new_decision_id(&self) -> String {
        let number = self.next_decision.fetch_add(1, Ordering::Relaxed);
        format!("{}-{:x}-{number:x}", self.options.name, self.run)
    }

    /// A seed for random picks; see `Decision::seed`.
    pub(crate) fn new_seed(&self) -> u64 {
        self.env.random.u64() >> 11
    }

    /// Hands a reservation to the task that tells the other schedulers. If they miss it, the hosts' claims correct their
    /// maps. A large decision is told in several messages, because none may be longer than a request.
    pub(crate) fn tell_peers(&self, reserve: Reserve) {
        let Reserve { decision_id, scheduler, ttl_ms, mut entries, user } = reserve;
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(ENTRIES_PER_MESSAGE));
            let part = std::mem::replace(&mut entries, rest);
            let (decision_id, scheduler, user) = (decision_id.clone(), scheduler.clone(), user.clone());
            if self.outbox.try_send(Reserve { decision_id, scheduler, ttl_ms, entries: part, user }).is_err()
            {
                self.requests.reserve_overflow.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// How many hosts are in each state.
pub(crate) fn count_by_state(hosts: &HostManager) -> BTreeMap<String, u64> {
    [HostStatus::Up, HostStatus::Suspect, HostStatus::Disabled, HostStatus::Down]
        .into_iter()
        .map(|state| (state.as_str().to_owned(), u64::from(hosts.table().count(state))))
        .collect()
}
