//! A running agent: how its parts are started, and how they are stopped.
//!
//! Starting happens in this order: raise the incarnation durably; load the claims; go on with the instances; read the driver once, and compare the configuration with
//! the reading; take the queue `compute.<host>`; report. Stopping happens in this order: take no new commands; finish those
//! in flight; say goodbye; close the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use novella_messaging::{ConnectionState, QueueKind, RpcClient, RpcServer, ServerOptions, Transport};
use novella_periodic_task::{Runner, RunnerOptions};
use novella_rpcapi::{BaseApi, COMPUTE_TOPIC, ComputeApi, ComputeServer, SchedulerApi};
use novella_service::Env;
use novella_service::config::{Invalid, name_fault};
use novella_service::exit::chain;
use novella_service::health::Health;
use novella_virt::{ComputeDriver, DriverError};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::claims::tracker::{ClaimsError, ResourceTracker};
use crate::config::AgentConfig;
use crate::identity::{self, IdentityError};
use crate::instances::manager::Instances;
use crate::manager::{ComputeManager, ReadError};
use crate::publisher::{PublishCounters, Publisher, Standing};
use crate::report::ReportTemplate;
use crate::{metrics, standing};

/// Number of commands that are handled at once. An agent has few callers, and a larger number would only hide a flood.
const CONCURRENCY: usize = 16;
/// A publishing loop that has not run for this long, or for three intervals if that is longer, counts as dead.
const LATE_LOOP: Duration = Duration::from_secs(60);
/// How long the goodbye may take. It is part of the grace period.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long closing the connection may take. It is part of the grace period.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The name cannot be the name of a host.
    #[error("{host:?} cannot be the name of a host: {fault}")]
    HostName {
        /// The name.
        host: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The identity cannot be read or stored.
    #[error("cannot load this host's identity")]
    Identity(#[from] IdentityError),
    /// The claims of earlier processes cannot be read.
    #[error("cannot load the claims of this host")]
    Claims(#[from] ClaimsError),
    /// The driver does not work on this host.
    #[error("the compute driver cannot be used on this host")]
    Driver(#[from] DriverError),
    /// The first reading of the driver failed, so there is nothing to report.
    #[error("the compute driver cannot read this host")]
    Reading(#[from] ReadError),
    /// The configuration offers hardware that the host does not have.
    #[error("the configuration does not match the hardware of this host")]
    Offer(#[from] Invalid),
    /// The transport cannot consume the host's queue.
    #[error("cannot consume the command queue of this host")]
    Consume(#[source] novella_messaging::TransportError),
}

/// A running agent.
pub struct Agent {
    host: String,
    manager: Arc<ComputeManager>,
    publisher: Arc<Publisher>,
    server: RpcServer,
    runner: Runner,
    transport: Arc<dyn Transport>,
    health: Health,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Stops all tasks if the agent is dropped, so that none of them keeps reporting.
    _stop_on_drop: DropGuard,
}

/// Starts an agent for `host` with this driver over this transport.
pub async fn start(
    config: AgentConfig,
    host: String,
    env: Env,
    driver: Arc<dyn ComputeDriver>,
    transport: Arc<dyn Transport>,
) -> Result<Agent, StartError> {
    if let Some(fault) = name_fault(&host) {
        return Err(StartError::HostName { host, fault });
    }
    let identity = identity::load(&env).await?;
    info!(host, uuid = %identity.uuid, incarnation = identity.incarnation, driver = driver.name(), "agent starts");
    let tracker = ResourceTracker::open(&host, &env).await?;
    driver.init_host().await?;
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let tasks = TaskTracker::new();
    let instances =
        Instances::start(&host, &config, &env, driver.clone(), tracker.clone(), stop.clone(), tasks.clone());

    let config = Arc::new(config);
    let client = RpcClient::new(transport.clone(), env.random.fork("rpc client"));
    let names = config.rpc.names();
    let scheduler = SchedulerApi::new(client.clone(), &names);
    let health = Health::new(env.clock.clone());
    let heard = health.condition("reports");
    let publisher = Publisher::new(scheduler, &*transport, config.rpc.publish_timeout, heard);
    let template = ReportTemplate::new(&config, identity);
    let manager = ComputeManager::new(
        host.clone(),
        config.clone(),
        env.clone(),
        driver,
        instances,
        template,
        publisher.clone(),
    );
    manager.read_driver(false).await?;
    manager.check_first_offer()?;

    let options = ServerOptions {
        concurrency: CONCURRENCY,
        authority: Arc::new(config.rpc.authority()),
        ..ServerOptions::new(env.random.fork("rpc server"))
    };
    let server = RpcServer::new(transport.clone(), options)
        .endpoint(Arc::new(ComputeServer(manager.clone())))
        .endpoint(Arc::new(BaseApi::new(COMPUTE_TOPIC)));
    let queue = QueueKind::Server {
        exchange: names.control_exchange.clone(),
        topic: names.compute_topic.clone(),
        server: host.clone(),
        fanout: true,
    };
    let own_queue = server.listen(queue).await.map_err(StartError::Consume)?;

    let compute = ComputeApi::new(client, &names);
    manager.attach(health.watch_loop("reports", LATE_LOOP.max(config.report.periodic_interval * 3)));
    let until_stop = |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
        tasks.spawn(stop.clone().run_until_cancelled_owned(task));
    };
    let broker = health.condition("broker");
    until_stop(Box::pin(broker.follow(transport.state(), ConnectionState::readiness)));
    until_stop(Box::pin(health.condition("host name").follow(own_queue.clone(), standing::of_name)));
    until_stop(Box::pin(tracker.clone().expire()));
    until_stop(Box::pin(manager.clone().publish_claims()));
    until_stop(Box::pin(standing::follow(manager.clone(), own_queue, compute, host.clone())));
    tasks.spawn(publisher.clone().run(manager.standing(), stop.clone()));
    let runner = Runner::start(
        manager.clone(),
        RunnerOptions {
            periodic_interval: config.report.periodic_interval,
            periodic_fuzzy_delay: config.report.periodic_fuzzy_delay,
            seed: env.random.fork("periodic tasks"),
        },
    );
    tasks.close();
    metrics::register(&env.metrics, &manager, &publisher, &server, transport.state());
    Ok(Agent { host, manager, publisher, server, runner, transport, health, stop, tasks, _stop_on_drop })
}

impl Agent {
    /// The host name that the agent reports under.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The manager.
    pub fn manager(&self) -> &Arc<ComputeManager> {
        &self.manager
    }

    /// What happened to the reports so far.
    pub fn publish_counters(&self) -> &PublishCounters {
        &self.publisher.counters
    }

    /// The agent's health, for `/livez` and `/readyz`.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The RPC server, for its counters.
    pub fn server(&self) -> &RpcServer {
        &self.server
    }

    /// Stops in order, within `grace`. Commands in flight finish, nothing new starts, and the schedulers get a goodbye.
    pub async fn stop(self, grace: Duration) {
        let deadline = Instant::now() + grace.saturating_sub(GOODBYE_TIMEOUT + CLOSE_TIMEOUT);
        // This is checked first, because the server gives up the queue when it stops.
        let goodbye_due = *self.manager.standing().borrow() == Standing::Holder;
        self.manager.begin_stop();
        self.server.shutdown(deadline).await;
        if tokio::time::timeout_at(deadline, self.runner.shutdown()).await.is_err() {
            warn!(host = self.host, "a periodic task did not end in time and was aborted");
        }
        self.stop.cancel();
        self.tasks.wait().await;
        if tokio::time::timeout_at(deadline, self.manager.tracker().flush()).await.is_err() {
            warn!(
                host = self.host,
                "the disk did not take the newest holds in time; they end with this process"
            );
        }
        if let Some(goodbye) = self.manager.goodbye().filter(|_| goodbye_due) {
            match tokio::time::timeout(GOODBYE_TIMEOUT, self.publisher.send(&goodbye)).await {
                Ok(Ok(heard)) => info!(host = self.host, heard, "told the schedulers that this agent stops"),
                Ok(Err(error)) => {
                    warn!(
                        host = self.host,
                        error = chain(&error),
                        "the goodbye could not be sent; schedulers mark this host as down after service_down_time"
                    )
                }
                Err(_) => {
                    warn!(
                        host = self.host,
                        "the goodbye was not confirmed in time; schedulers may mark this host as down only after \
                         service_down_time"
                    )
                }
            }
        }
        self.transport.close(Instant::now() + CLOSE_TIMEOUT).await;
        info!(host = self.host, "agent stopped");
    }
}
