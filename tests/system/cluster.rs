//! A small cluster: real daemons over one in-process broker that can be made to fail.
//!
//! Connections carry the name of what they belong to (`host-3`, `s1`, `operator`), and faults reach them by it. Waiting
//! is for a state, never for a time; the clock is paused, so it costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use novella_compute_agent::{Agent, AgentConfig};
use novella_messaging::in_process::{InProcessBroker, InProcessOptions};
use novella_messaging::{CallOptions, Destination, Outgoing, RpcClient, RpcError, Transport};
use novella_objects::{
    Capabilities, Decision, Flavor, HostStatus, HostSummary, PlacementRequest, Refusal, RequestSpec,
    SelectDestinations,
};
use novella_rpcapi::{HostListQuery, Names, Release, SCHEDULER_TOPIC, SchedulerApi, SchedulerEndpoint};
use novella_scheduler::{Scheduler, SchedulerConfig};
use novella_service::{Env, Metrics};
use novella_virt::{DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver};
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

use crate::log::{EventLog, Recorded};

/// The control exchange of the default configuration.
pub const EXCHANGE: &str = "nova";
/// How long a state is waited for, on the paused clock.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// How long an operator waits for an answer.
pub const CALL: Duration = Duration::from_secs(60);
/// For stopping in order.
pub const GRACE: Duration = Duration::from_secs(10);
/// Default of both daemons.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Default of the scheduler.
pub const DOWN_TIME: Duration = Duration::from_secs(60);

/// How large a host is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub vcpus: u32,
    pub memory_mb: u64,
    pub disk_gb: u64,
}

/// The usual host.
pub const SIZE: Size = Size { vcpus: 8, memory_mb: 16_384, disk_gb: 200 };

/// See the module.
pub struct Cluster {
    pub seed: u64,
    pub env: Env,
    pub broker: Arc<InProcessBroker>,
    pub log: EventLog,
    pub agents: BTreeMap<String, Agent>,
    pub schedulers: BTreeMap<String, Scheduler>,
    pub scheduler_config: SchedulerConfig,
    pub agent_config: AgentConfig,
    /// The broker user of all hosts. Without one, each host has its own, of its name.
    pub hosts_user: Option<&'static str>,
    metrics: BTreeMap<String, Metrics>,
    /// Where the policy is.
    pub dir: TempDir,
    pub api: SchedulerApi,
    operator: RpcClient,
    raw: Arc<dyn Transport>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this run is {}", self.seed);
        }
    }
}

impl Cluster {
    /// Nobody there yet, on a bus without faults.
    pub fn new(seed: u64) -> Self {
        Self::on(seed, InProcessOptions::default())
    }

    /// Nobody there yet, on a bus with these faults. Its seed follows from ours.
    pub fn on(seed: u64, faults: InProcessOptions) -> Self {
        let env = Env::simulated(seed);
        let broker = InProcessBroker::new(InProcessOptions { seed: env.random.fork("bus"), ..faults });
        let log = EventLog::default();
        let raw = recorded(&broker, &env, &log, "operator", "operator");
        let operator = RpcClient::new(raw.clone(), env.random.fork("operator"));
        Self {
            seed,
            api: SchedulerApi::new(operator.clone(), &Names::on(EXCHANGE)),
            operator,
            raw,
            broker,
            log,
            agents: BTreeMap::new(),
            schedulers: BTreeMap::new(),
            scheduler_config: SchedulerConfig::default(),
            agent_config: AgentConfig::default(),
            hosts_user: None,
            metrics: BTreeMap::new(),
            dir: TempDir::new().expect("a directory for the test"),
            env,
        }
    }

    /// Hosts `host-1` to `host-<hosts>` and the scheduler `s1`, ready.
    pub async fn of(seed: u64, hosts: usize) -> Self {
        let mut cluster = Self::new(seed);
        cluster.start_hosts(hosts).await;
        cluster.serve("s1").await;
        cluster
    }

    /// A connection of its own.
    pub fn connect(&self, name: &str) -> Arc<dyn Transport> {
        self.connect_as(name, name)
    }

    /// A connection of its own, as this broker user.
    pub fn connect_as(&self, name: &str, user: &str) -> Arc<dyn Transport> {
        recorded(&self.broker, &self.env, &self.log, name, user)
    }

    /// Hosts `host-1` to `host-<hosts>` with one broker user for all, and the scheduler `s1`, ready.
    pub async fn of_one_user(seed: u64, hosts: usize) -> Self {
        let mut cluster = Self::new(seed);
        cluster.hosts_user = Some("agent");
        cluster.start_hosts(hosts).await;
        cluster.serve("s1").await;
        cluster
    }

    /// A client of the schedulers on a connection of its own, as this broker user.
    pub fn as_user(&self, user: &str) -> SchedulerApi {
        SchedulerApi::new(self.client_as(user), &Names::on(EXCHANGE))
    }

    /// The client of a broker user, for calls to anybody.
    pub fn client_as(&self, user: &str) -> RpcClient {
        RpcClient::new(self.broker.connect_as(user, user), self.env.random.fork(user))
    }

    /// Starts usual hosts, `host-1` to `host-<hosts>`.
    pub async fn start_hosts(&mut self, hosts: usize) {
        for number in 1..=hosts {
            self.start_host(&format!("host-{number}"), SIZE).await;
        }
    }

    /// Starts an agent with the present agent configuration, on the store that this name always had.
    pub async fn start_host(&mut self, name: &str, size: Size) {
        let env = self.env.child(name);
        let agent = self.agent(name, name, env, size).await;
        self.agents.insert(name.to_owned(), agent);
    }

    /// Starts an agent with these settings, whose host is as `driver.fake` has it.
    pub async fn start_configured(&mut self, name: &str, config: AgentConfig) {
        let (env, fake) = (self.env.child(name), config.driver.fake.sized());
        let agent = self.start_agent(name, name, env, config, fake).await;
        self.agents.insert(name.to_owned(), agent);
    }

    /// An agent for `host`, whose connection has another name.
    pub async fn agent(&self, connection: &str, host: &str, env: Env, size: Size) -> Agent {
        let Size { vcpus, memory_mb, disk_gb } = size;
        let fake = FakeConfig { vcpus, memory_mb, disk_gb, ..FakeConfig::default() };
        self.start_agent(connection, host, env, self.agent_config.clone(), fake).await
    }

    async fn start_agent(
        &self,
        connection: &str,
        host: &str,
        env: Env,
        config: AgentConfig,
        fake: FakeConfig,
    ) -> Agent {
        let driver = FakeDriver::new(host, Arc::new(fake), DEFAULT_PROBE_DEADLINE);
        let (driver, transport) = (
            driver.expect("a host that a fake can be"),
            self.connect_as(connection, self.hosts_user.unwrap_or(connection)),
        );
        let agent = novella_compute_agent::start(config, host.into(), env, Arc::new(driver), transport);
        agent.await.expect("an agent on a store in memory, whose settings fit its host, starts")
    }

    /// Starts a scheduler; it may take a while until it is ready.
    pub async fn start_scheduler(&mut self, name: &str) {
        let (env, transport) = (self.env.child(name), self.connect(name));
        self.metrics.insert(name.to_owned(), env.metrics.clone());
        let started =
            novella_scheduler::start(self.scheduler_config.clone(), name.into(), env, transport).await;
        self.schedulers.insert(name.to_owned(), started.expect("a scheduler with default settings starts"));
    }

    /// Starts a scheduler and waits until it takes requests.
    pub async fn serve(&mut self, scheduler: &str) {
        self.start_scheduler(scheduler).await;
        self.ready(scheduler).await;
    }

    /// Makes this the policy that schedulers read from now on, when they start or reload.
    pub fn set_policy(&mut self, policy: &str) {
        let file = self.dir.path().join("policy.toml");
        std::fs::write(&file, policy).expect("it can be written");
        self.scheduler_config.policy_file = file.to_str().expect("a path in UTF-8").to_owned();
    }

    /// A running scheduler.
    pub fn scheduler(&self, name: &str) -> &Scheduler {
        &self.schedulers[name]
    }

    /// Waits until a scheduler takes requests.
    pub async fn ready(&self, scheduler: &str) {
        let ready = self.scheduler(scheduler).health().until_ready();
        let waited = tokio::time::timeout(PATIENCE, ready).await;
        assert!(waited.is_ok(), "{scheduler} is not ready: {:?}", self.scheduler(scheduler).health().ready());
    }

    /// A host's process dies without a word; its connection ends with it.
    pub async fn crash_host(&mut self, name: &str) {
        self.broker.kill(name);
        drop(self.agents.remove(name).expect("a running host"));
        settle().await;
    }

    /// A host's agent stops in order.
    pub async fn stop_host(&mut self, name: &str) {
        self.agents.remove(name).expect("a running host").stop(GRACE).await;
    }

    /// A scheduler's process dies without a word.
    pub async fn crash_scheduler(&mut self, name: &str) {
        self.broker.kill(name);
        drop(self.schedulers.remove(name).expect("a running scheduler"));
        settle().await;
    }

    /// The fleet as a scheduler sees it, by host, asked past the bus.
    pub async fn view(&self, scheduler: &str) -> BTreeMap<String, HostSummary> {
        let list = self
            .scheduler(scheduler)
            .manager()
            .list_hosts(HostListQuery::default())
            .await
            .expect("a list is always answered");
        list.hosts.into_iter().map(|host| (host.host.clone(), host)).collect()
    }

    /// A host's state; none if the scheduler does not know it.
    pub async fn state(&self, scheduler: &str, host: &str) -> Option<HostStatus> {
        self.view(scheduler).await.get(host).map(|host| host.state)
    }

    /// How many reservations a scheduler counts.
    pub async fn reservations(&self, scheduler: &str) -> u32 {
        self.view(scheduler).await.values().map(|host| host.reservations).sum()
    }

    /// Waits until a host is in this state, and tells how long that took.
    pub async fn until_state(&self, scheduler: &str, host: &str, wanted: Option<HostStatus>) -> Duration {
        let began = self.env.clock.now();
        loop {
            let state = self.state(scheduler, host).await;
            let waited = self.env.clock.now() - began;
            if state == wanted {
                return waited;
            }
            assert!(waited < 20 * PATIENCE, "{host} is {state:?} for {scheduler}, not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A counter of a scheduler's map or server, by the name that `/metrics` shows.
    pub fn metric(&self, scheduler: &str, wanted: &str) -> u64 {
        let text = &self.metrics(scheduler);
        let line = text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no metric {wanted} in:\n{text}"));
        value.parse::<f64>().expect("a metric is a number") as u64
    }

    /// Everything that a scheduler's `/metrics` shows.
    pub fn metrics(&self, scheduler: &str) -> String {
        self.metrics[scheduler].encode().expect("metrics can be written")
    }

    /// Asks any scheduler where to put `count` instances of a flavor, under fresh uuids.
    pub async fn place(&self, count: usize, flavor: Flavor) -> Decision {
        self.select(&self.api, &self.request(count, flavor)).await
    }

    /// A request under fresh uuids.
    pub fn request(&self, count: usize, flavor: Flavor) -> SelectDestinations {
        let instance_uuids: Vec<Uuid> = (0..count).map(|_| self.env.random.uuid()).collect();
        let spec = RequestSpec { flavor, ..RequestSpec::default() };
        let request_spec = PlacementRequest { instance_uuids, spec, attempt: 1 };
        SelectDestinations { request_spec, ..SelectDestinations::default() }
    }

    /// Asks one scheduler, or any, by `api`.
    pub async fn select(&self, api: &SchedulerApi, request: &SelectDestinations) -> Decision {
        api.select_destinations(request, CallOptions::new(CALL)).await.expect("a decision is answered")
    }

    /// Lets a decision go.
    pub async fn release(&self, api: &SchedulerApi, decision_id: &str) -> u64 {
        let release = Release { decision_id: decision_id.to_owned(), ..Release::default() };
        api.release(&release, CallOptions::new(CALL)).await.expect("a release is answered")
    }

    /// Reports as any service of any host, by the operator's connection.
    pub async fn report(&self, service: &str, host: &str, capabilities: &str) -> Result<(), RpcError> {
        let capabilities: Capabilities<'_> = serde_json::from_str(capabilities).expect("a report");
        self.api.update_service_capabilities(service, host, &capabilities, CALL).await.map(drop)
    }

    /// Publishes any bytes to any destination.
    pub async fn publish(&self, destination: Destination, body: impl Into<bytes::Bytes>) {
        self.publish_on(&self.raw, destination, body).await;
    }

    /// Publishes this body on a connection.
    pub async fn publish_on(
        &self,
        transport: &Arc<dyn Transport>,
        destination: Destination,
        body: impl Into<bytes::Bytes>,
    ) {
        let deadline = Instant::now() + CALL;
        let message =
            Outgoing { destination, body: body.into(), expiration: None, mandatory: false, deadline };
        transport.publish(message).await.expect("the bus takes it");
    }

    /// The operator's client, for calls that the api does not know.
    pub fn operator(&self) -> &RpcClient {
        &self.operator
    }

    /// Stops everything in order.
    pub async fn stop(mut self) {
        for (_, agent) in std::mem::take(&mut self.agents) {
            agent.stop(GRACE).await;
        }
        for (_, scheduler) in std::mem::take(&mut self.schedulers) {
            scheduler.stop(GRACE).await;
        }
    }
}

/// Where every scheduler hears it.
pub fn scheduler_fanout() -> Destination {
    Destination::Fanout { topic: SCHEDULER_TOPIC.into() }
}

/// Where one scheduler hears it.
pub fn scheduler_topic() -> Destination {
    Destination::Topic { exchange: EXCHANGE.into(), topic: SCHEDULER_TOPIC.into() }
}

fn recorded(
    broker: &Arc<InProcessBroker>,
    env: &Env,
    log: &EventLog,
    name: &str,
    user: &str,
) -> Arc<dyn Transport> {
    let (inner, connection) = (broker.connect_as(name, user), name.to_owned());
    Arc::new(Recorded { inner, connection, env: env.clone(), log: log.clone() })
}

/// Lets every task that can run do so, for a moment of the paused clock.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A flavor.
pub fn flavor(vcpus: u32, memory_mb: u64, root_gb: u64) -> Flavor {
    Flavor { name: "f".into(), vcpus, memory_mb, root_gb, ..Flavor::default() }
}

/// The hosts of a decision, in the order of its instances.
pub fn hosts(decision: &Decision) -> Vec<&str> {
    decision.selections.iter().map(|selection| selection.host.as_str()).collect()
}

/// The reason of a refusal.
pub fn refusal(decision: &Decision) -> &str {
    match decision.refusal.as_ref().unwrap_or_else(|| panic!("not refused: {decision:?}")) {
        Refusal::NoValidHost { reason, .. } | Refusal::Conflict { reason, .. } => reason,
    }
}
