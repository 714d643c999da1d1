//! The running scheduler: starts its parts in order, and stops them in order.

use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::FilterScheduler;
use novella_host_manager::{BadPolicy, HostManager, HostManagerOptions};
use novella_messaging::{
    Authority, ConnectionState, ConsumerState, Driver, FanoutLimits, QueueKind, RpcClient, RpcServer,
    ServerOptions, Transport, TransportError,
};
use novella_objects::Reserve;
use novella_periodic_task::{Runner, RunnerOptions};
use novella_rpcapi::{
    BaseApi, ComputeApi, Names, NovaSchedulerServer, ReportHandler, SCHEDULER_TOPIC, SchedulerApi,
    SchedulerServer,
};
use novella_service::Env;
use novella_service::health::{Condition, Health};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::calls::policy;
use crate::config::SchedulerConfig;
use crate::hearing::{Ear, Hearing};
use crate::lifecycle::Lifecycle;
use crate::manager::{ManagerOptions, SchedulerManager};
use crate::policy_source::PolicySource;
use crate::startup::Startup;
use crate::tasks::{TICK, Tasks};
use crate::{answers, metrics, peers};

/// Reports that the fanout queue holds for each host. A host reports once per interval, and the TTL of the queue is three
/// intervals.
const QUEUED_REPORTS_PER_HOST: u32 = 4;
/// If the tasks of every second have not run for this long, the scheduler is reported as not alive.
const LATE_LOOP: Duration = Duration::from_secs(30);
/// How long the transport may take to close. It is a part of the grace period.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy is wrong or cannot be read.
    #[error("cannot use the policy")]
    Policy(#[from] BadPolicy),
    /// The transport cannot consume.
    #[error("cannot consume the reports of the hosts")]
    Consume(#[source] TransportError),
}

/// A running scheduler. If it is dropped, all of its tasks end.
pub struct Scheduler {
    name: String,
    manager: Arc<SchedulerManager>,
    health: Health,
    ready: Condition,
    server: Arc<RpcServer>,
    runner: Runner,
    transport: Arc<dyn Transport>,
    background: Background,
    _abort_on_drop: DropGuard,
}

/// The tasks that run beside requests, and how they end.
struct Background {
    /// Ends the tasks that lead to new requests.
    stop: CancellationToken,
    /// Says that nothing more is decided here. The task that tells the peers sends what remains, and then ends.
    no_more_reserves: CancellationToken,
    /// Ends all tasks at once.
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    fn new() -> Self {
        let abort = CancellationToken::new();
        let (stop, no_more_reserves) = (abort.child_token(), CancellationToken::new());
        Self { stop, no_more_reserves, abort, tasks: TaskTracker::new() }
    }

    /// Runs a task until it is done or `until` is cancelled.
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
    let publish_timeout = config.rpc.publish_timeout;
    let health = Health::new(env.clock.clone());
    let ready = health.condition("host map");
    let authority = Arc::new(config.authority.for_scheduler(&transport.users()));
    let (manager, reserves) = manager(&config, &name, &env, authority, &health).await?;
    let client = RpcClient::new(transport.clone(), env.random.fork("rpc client"));
    let ear = Ear::new(&name);
    let server = server(&config, &env, &transport, &manager, ear.clone());
    let reports = listen_for_reports(&config, &names, &server).await.map_err(StartError::Consume)?;

    let background = Background::new();
    let lifecycle = Lifecycle {
        startup: Startup {
            manager: manager.clone(),
            compute: ComputeApi::new(client.clone(), &names),
            ready: ready.clone(),
            answer_window: config.reports.answer_window,
            report_interval: config.reports.report_interval,
            publish_timeout,
        },
        server: server.clone(),
        names: names.clone(),
        name: name.clone(),
        held_name: health.condition("scheduler name"),
        requests_arrive: health.condition("requests"),
        hearing: Hearing {
            client: client.clone(),
            names: names.clone(),
            transport: transport.clone(),
            ear,
            arrive: health.condition("messages to itself"),
        },
    };
    background.spawn(&background.stop, lifecycle.run(reports));
    let broker = health.condition("broker").follow(transport.state(), ConnectionState::readiness);
    background.spawn(&background.stop, broker);
    background.spawn(&background.stop, manager.clone().watch_for_stalls());
    let schedulers = SchedulerApi::new(client.clone(), &names);
    let no_more_reserves = background.no_more_reserves.clone();
    let telling = peers::tell_reserves(schedulers.clone(), reserves, publish_timeout, no_more_reserves);
    background.spawn(&background.abort, telling);
    let asking = answers::ask(manager.clone(), ComputeApi::new(client.clone(), &names));
    background.spawn(&background.stop, async { match asking.await {} });
    background.tasks.close();
    manager.peers.get_or_init(|| schedulers);
    manager.connect_agents(ComputeApi::new(client.clone(), &names));
    let runner = Runner::start(
        Arc::new(Tasks {
            manager: manager.clone(),
            compute: ComputeApi::new(client, &names),
            heartbeat: health.watch_loop("host map", LATE_LOOP),
            publish_timeout,
        }),
        RunnerOptions {
            periodic_interval: TICK,
            periodic_fuzzy_delay: Duration::ZERO,
            seed: env.random.fork("periodic tasks"),
        },
    );
    metrics::register(&env.metrics, &manager, &server, transport.state());
    info!(scheduler = name, "scheduler starts");
    let _abort_on_drop = background.abort.clone().drop_guard();
    Ok(Scheduler { name, manager, health, ready, server, runner, transport, background, _abort_on_drop })
}

/// A manager with an empty map and the configured policy, and the receiver of what the peers must be told.
async fn manager(
    config: &SchedulerConfig,
    name: &str,
    env: &Env,
    authority: Arc<Authority>,
    health: &Health,
) -> Result<(Arc<SchedulerManager>, mpsc::Receiver<Reserve>), BadPolicy> {
    let source = PolicySource::of(config);
    let reading = source.clone();
    let read = env.blocking.run(move || reading.read()).await;
    let policy = read.unwrap_or_else(|panicked| std::panic::panic_any(panicked.message))?;
    let hosts = HostManager::new(host_manager_options(config), name);
    let engine = FilterScheduler::new(policy.options.clone()).expect("a checked policy makes an engine");
    let options = ManagerOptions {
        name: name.to_owned(),
        policy: source,
        max_hold: config.reservations.max_hold,
        nova_cell: config.nova.cell(),
        authority,
        request_quotas: config.quotas.requests(),
    };
    let (manager, reserves) = SchedulerManager::new(options, env.clone(), hosts, engine, health.clone());
    policy::enforce(&manager, policy).await?;
    Ok((manager, reserves))
}

fn host_manager_options(config: &SchedulerConfig) -> HostManagerOptions {
    let [user_quota, project_quota] = config.quotas.held();
    HostManagerOptions {
        service_down_time: config.reports.service_down_time,
        forget_after: config.reports.forget_after,
        reservation_ttl: config.reservations.reservation_ttl,
        report_interval: config.reports.report_interval,
        max_hold: config.reservations.max_hold,
        max_hosts: config.reports.max_hosts as usize,
        new_hosts_per_minute: config.reports.new_hosts_per_minute,
        host_user: Some(config.authority.host_user.clone()).filter(|rule| !rule.is_empty()),
        user_quota,
        project_quota,
        default_availability_zone: config.filter_scheduler.default_availability_zone.clone(),
        ..HostManagerOptions::default()
    }
}

/// The server with every method that can be called here. It does not listen yet.
fn server(
    config: &SchedulerConfig,
    env: &Env,
    transport: &Arc<dyn Transport>,
    manager: &Arc<SchedulerManager>,
    ear: Ear,
) -> Arc<RpcServer> {
    let blocking = env.blocking.clone();
    let options = ServerOptions {
        driver: Driver::new(move |work| blocking.drive(work)),
        concurrency: config.rpc.concurrency as usize,
        report_batch: config.rpc.report_batch as usize,
        authority: Arc::clone(&manager.options.authority),
        ..ServerOptions::new(env.random.fork("rpc server"))
    };
    let mut server = RpcServer::new(transport.clone(), options)
        .endpoint(Arc::new(SchedulerServer(manager.clone())))
        .endpoint(Arc::new(BaseApi::listening(SCHEDULER_TOPIC, move |arg| ear.hear(arg))));
    if config.nova.serve {
        server = server.endpoint(Arc::new(NovaSchedulerServer(manager.clone())));
    }
    for handler in ReportHandler::all(manager) {
        server = server.batch(Arc::new(handler));
    }
    Arc::new(server)
}

/// Consumes the fanout of the reports, and that of the other schedulers' decisions if it is a different one.
async fn listen_for_reports(
    config: &SchedulerConfig,
    names: &Names,
    server: &RpcServer,
) -> Result<watch::Receiver<ConsumerState>, TransportError> {
    let limits = FanoutLimits {
        message_ttl: config.reports.report_ttl,
        max_length: config.reports.max_hosts.saturating_mul(QUEUED_REPORTS_PER_HOST),
    };
    let fanout = |topic: &str| QueueKind::Fanout { topic: topic.to_owned(), limits };
    let reports = server.listen(fanout(&names.report_topic)).await?;
    if names.scheduler_topic != names.report_topic {
        server.listen(fanout(&names.scheduler_topic)).await?;
    }
    Ok(reports)
}

impl Scheduler {
    /// The owner of the map.
    pub fn manager(&self) -> &Arc<SchedulerManager> {
        &self.manager
    }

    /// Whether the scheduler is alive and takes requests: `/livez` and `/readyz`.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The RPC server, for its counters.
    pub fn server(&self) -> &RpcServer {
        &self.server
    }

    /// Stops in order, within `grace`: nothing new starts, requests in flight are answered, and the peers are told what was
    /// decided.
    pub async fn stop(self, grace: Duration) {
        let Self { name, ready, server, runner, transport, background, _abort_on_drop, .. } = self;
        background.stop.cancel();
        ready.set(false, "stopping");
        let deadline = Instant::now() + grace.saturating_sub(CLOSE_TIMEOUT);
        server.shutdown(deadline).await;
        background.no_more_reserves.cancel();
        let drained = tokio::time::timeout_at(deadline, async {
            runner.shutdown().await;
            background.tasks.wait().await;
        });
        if drained.await.is_err() {
            warn!(scheduler = name, "work in flight did not end in time and was aborted");
            background.abort.cancel();
            background.tasks.wait().await;
        }
        transport.close(Instant::now() + CLOSE_TIMEOUT).await;
        info!(scheduler = name, "scheduler stopped");
    }
}
