//! The central daemon: a host-state map made of reports, and placements made from the map.
//!
//! [`start`] builds it from a checked configuration, an [`Env`] and a transport. It keeps nothing on disk: the hosts own
//! the truth, and a scheduler that starts anew asks them for it. Several may run; each holds the whole map.
//!
//! ```text
//! scheduler_fanout_<id> ─▶ ReportHandler (batches) ─▶ SchedulerManager ─▶ HostManager::apply_report
//! scheduler             ─▶ SchedulerServer (calls) ─▶ SchedulerManager ─▶ HostManager::select_destinations
//! ```

mod call_errors;
mod capacity;
pub mod config;
mod decisions;
mod explain;
mod lag;
mod lifecycle;
mod manager;
mod metrics;
mod nova;
mod policy;
mod snapshots;
mod startup;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::FilterScheduler;
use novella_host_manager::{BadPolicy, HostManager, HostManagerOptions};
use novella_messaging::{
    FanoutLimits, QueueKind, RpcClient, RpcServer, ServerOptions, Transport, TransportError,
};
use novella_periodic_task::{Runner, RunnerOptions};
use novella_rpcapi::{
    BaseApi, ComputeApi, NovaSchedulerServer, ReportHandler, SCHEDULER_TOPIC, SchedulerApi, SchedulerServer,
};
use novella_service::Env;
use novella_service::health::{Condition, Health};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use config::SchedulerConfig;
pub use manager::{MAX_ALTERNATES, MAX_INSTANCES, ManagerOptions, RequestCounters, SchedulerManager};
pub use policy::PolicySource;

/// Reports in the fanout queue at most, per host: a host reports once per interval and the queue's TTL is three.
const QUEUED_REPORTS_PER_HOST: u32 = 4;
/// The map is looked after every second; later than this, the scheduler is not alive.
const LATE_LOOP: Duration = Duration::from_secs(30);
/// How long the transport may take to close; part of the grace period.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy is wrong or cannot be read.
    #[error("cannot work by the policy")]
    Policy(#[from] BadPolicy),
    /// The transport cannot consume.
    #[error("cannot consume the reports of the hosts")]
    Consume(#[source] TransportError),
}

/// A running scheduler.
pub struct Scheduler {
    name: String,
    manager: Arc<SchedulerManager>,
    health: Health,
    ready: Condition,
    server: Arc<RpcServer>,
    runner: Runner,
    transport: Arc<dyn Transport>,
    life: Life,
    /// A scheduler that is dropped leaves nothing behind that could still answer.
    _abort_on_drop: DropGuard,
}

/// What runs beside requests, and how it ends.
struct Life {
    /// No more questions, and no door opened any more.
    stop: CancellationToken,
    /// Nothing is decided any more: tell the peers what remains to be told, and end.
    no_more_reserves: CancellationToken,
    /// Everything ends at once.
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Life {
    fn new() -> Self {
        let abort = CancellationToken::new();
        let (stop, no_more_reserves) = (abort.child_token(), CancellationToken::new());
        Self { stop, no_more_reserves, abort, tasks: TaskTracker::new() }
    }

    /// Runs a task until it is done, `until` is cancelled, or the scheduler is dropped.
    fn spawn(&self, until: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(until.clone().run_until_cancelled_owned(work));
    }
}

/// Starts a scheduler called `name` over this transport.
pub async fn start(
    config: SchedulerConfig,
    name: String,
    env: Env,
    transport: Arc<dyn Transport>,
) -> Result<Scheduler, StartError> {
    let names = config.rpc.names();
    let source = PolicySource::of(&config);
    let reading = source.clone();
    let read = env.blocking.run(move || reading.read()).await;
    let policy = read.unwrap_or_else(|panicked| std::panic::panic_any(panicked.message))?;
    let hosts = HostManager::new(host_manager_options(&config), name.clone());
    let health = Health::new(env.clock.clone());
    let ready = health.condition("host map");
    let options = ManagerOptions {
        name: name.clone(),
        policy: source,
        max_hold: config.reservations.max_hold,
        nova_cell: config.nova.cell(),
    };
    let engine = FilterScheduler::new(policy.options.clone()).expect("a checked policy makes an engine");
    let (manager, reserves) = SchedulerManager::new(options, env.clone(), hosts, engine, health.clone());
    manager.enforce(policy).await?;

    let client = RpcClient::new(transport.clone(), env.random.fork("rpc client"));
    let server_options = ServerOptions {
        concurrency: config.rpc.concurrency as usize,
        report_batch: config.rpc.report_batch as usize,
        ..ServerOptions::new(env.random.fork("rpc server"))
    };
    let mut server = RpcServer::new(transport.clone(), server_options)
        .endpoint(Arc::new(SchedulerServer(manager.clone())))
        .endpoint(Arc::new(BaseApi { service: SCHEDULER_TOPIC.to_owned() }));
    if config.nova.serve {
        server = server.endpoint(Arc::new(NovaSchedulerServer(manager.clone())));
    }
    for handler in ReportHandler::all(&manager) {
        server = server.batch(Arc::new(handler));
    }
    let server = Arc::new(server);
    let limits = FanoutLimits {
        message_ttl: config.reports.report_ttl,
        max_length: config.reports.max_hosts.saturating_mul(QUEUED_REPORTS_PER_HOST),
    };
    let fanout = |topic: &str| QueueKind::Fanout { topic: topic.to_owned(), limits };
    let reports = server.listen(fanout(&names.report_topic)).await.map_err(StartError::Consume)?;
    if names.scheduler_topic != names.report_topic {
        // What the other schedulers decided comes by another queue then.
        server.listen(fanout(&names.scheduler_topic)).await.map_err(StartError::Consume)?;
    }

    let life = Life::new();
    let lifecycle = lifecycle::Lifecycle {
        startup: startup::Startup {
            manager: manager.clone(),
            compute: ComputeApi::named(client.clone(), &names),
            ready: ready.clone(),
            answer_window: config.reports.answer_window,
            report_interval: config.reports.report_interval,
            publish_timeout: config.rpc.publish_timeout,
        },
        server: server.clone(),
        names: names.clone(),
        name: name.clone(),
        held_name: health.condition("scheduler name"),
    };
    life.spawn(&life.stop, lifecycle.run(reports));
    life.spawn(&life.stop, manager.clone().watch_for_stalls());
    let scheduler_api = SchedulerApi::named(client.clone(), &names);
    manager.set_peers(scheduler_api.clone());
    let telling = lifecycle::tell_reserves(
        scheduler_api,
        reserves,
        config.rpc.publish_timeout,
        life.no_more_reserves.clone(),
    );
    life.spawn(&life.abort, telling);
    life.tasks.close();
    let runner = Runner::start(
        Arc::new(tasks::Tasks {
            manager: manager.clone(),
            compute: ComputeApi::named(client, &names),
            heartbeat: health.watch_loop("host map", LATE_LOOP),
            publish_timeout: config.rpc.publish_timeout,
        }),
        RunnerOptions {
            periodic_interval: tasks::TICK,
            periodic_fuzzy_delay: Duration::ZERO,
            seed: env.random.fork("periodic tasks"),
        },
    );
    metrics::register(&env.metrics, &manager, &server);
    info!(scheduler = name, "scheduler starts");
    let _abort_on_drop = life.abort.clone().drop_guard();
    Ok(Scheduler { name, manager, health, ready, server, runner, transport, life, _abort_on_drop })
}

fn host_manager_options(config: &SchedulerConfig) -> HostManagerOptions {
    HostManagerOptions {
        service_down_time: config.reports.service_down_time,
        forget_after: config.reports.forget_after,
        reservation_ttl: config.reservations.reservation_ttl,
        report_interval: config.reports.report_interval,
        max_hold: config.reservations.max_hold,
        max_hosts: config.reports.max_hosts as usize,
        default_availability_zone: config.filter_scheduler.default_availability_zone.clone(),
        ..HostManagerOptions::default()
    }
}

impl Scheduler {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its manager, for tests and benchmarks.
    pub fn manager(&self) -> &Arc<SchedulerManager> {
        &self.manager
    }

    /// Whether it lives and takes requests: `/livez` and `/readyz`.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Its RPC server, for counters.
    pub fn server(&self) -> &RpcServer {
        &self.server
    }

    /// Stops in order, within `grace`: requests in flight are answered, nothing new starts, peers hear what was decided.
    pub async fn stop(self, grace: Duration) {
        let Self { name, ready, server, runner, transport, life, _abort_on_drop, .. } = self;
        life.stop.cancel();
        ready.set(false, "stopping");
        let deadline = Instant::now() + grace.saturating_sub(CLOSE_TIMEOUT);
        server.shutdown(deadline).await;
        life.no_more_reserves.cancel();
        let drained = tokio::time::timeout_at(deadline, async {
            runner.shutdown().await;
            life.tasks.wait().await;
        });
        if drained.await.is_err() {
            warn!(scheduler = name, "work did not end in time and is cut off");
            life.abort.cancel();
            life.tasks.wait().await;
        }
        transport.close(Instant::now() + CLOSE_TIMEOUT).await;
        info!(scheduler = name, "scheduler stopped");
    }
}
