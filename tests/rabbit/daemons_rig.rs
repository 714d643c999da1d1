//! Whole daemons on the broker under test. Each test has a virtual host of its own, and with it its own exchanges,
//! queues and fleet. Times are short: hosts report twice a second.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use novella_compute_agent::{Agent, AgentConfig};
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{CallOptions, RpcClient, RpcError};
use novella_objects::{
    Decision, Flavor, HostStatus, HostSummary, PlacementRequest, RequestSpec, SelectDestinations,
};
use novella_rpcapi::{Names, Release, SchedulerApi};
use novella_scheduler::{Scheduler, SchedulerConfig};
use novella_service::Env;
use novella_virt::{DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// The control exchange of the default configuration.
pub const EXCHANGE: &str = "nova";
/// Time between the reports of a host.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// For stopping in order.
pub const GRACE: Duration = Duration::from_secs(5);
/// The one host on which the flavor [`large`] fits.
pub const BIG: &str = "big";
/// How long a caller waits before it asks again.
const ASK: Duration = Duration::from_secs(2);

/// What each shipped broker user may ask a scheduler for, as config/rabbitmq/scheduler.toml has it.
pub const SHIPPED_LISTS: [(&str, &str); 5] = [
    ("NOVELLA_AUTHORITY__REPORT", "agent"),
    ("NOVELLA_AUTHORITY__PLACE", "operator"),
    ("NOVELLA_AUTHORITY__READ", "operator"),
    ("NOVELLA_AUTHORITY__ADMINISTER", "scheduler"),
    ("NOVELLA_AUTHORITY__SCHEDULERS", "scheduler"),
];

/// The broker's script keeps the file that it imports in one place.
static IMPORTING: Mutex<()> = Mutex::const_new(());

/// Loads definitions into the broker.
pub async fn import(broker: &Broker, definitions: &Path) {
    let _one = IMPORTING.lock().await;
    broker.ctl(&["import", definitions.to_str().expect("paths of tests are UTF-8")]);
}

/// Makes a virtual host in which the test account may do everything; yields its URL.
pub async fn make_vhost(broker: &Broker, vhost: &str) -> String {
    let (user, password, address) = broker.parts();
    let all = ".*";
    let rights =
        serde_json::json!({"user": user, "vhost": vhost, "configure": all, "write": all, "read": all});
    let definitions = serde_json::json!({"vhosts": [{"name": vhost}], "permissions": [rights]});
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(file, "{definitions}").expect("it can be written");
    import(broker, file.path()).await;
    format!("rabbit://{user}:{password}@{address}/{vhost}")
}

/// A virtual host, and who lives in it.
pub struct House {
    pub broker: Broker,
    /// Of the virtual host.
    pub url: String,
    pub vhost: String,
    pub env: Env,
    pub dir: tempfile::TempDir,
}

impl House {
    /// On a broker that others use as well; `None` (said aloud) without a broker.
    pub async fn shared(test: &str) -> Option<Self> {
        Some(Self::on(broker(test).await?).await)
    }

    /// On a broker that this test may stop.
    pub async fn alone(test: &str) -> Option<Self> {
        Some(Self::on(broker_alone(test).await?).await)
    }

    /// On a broker that the caller has the use of.
    pub async fn on(broker: Broker) -> Self {
        let vhost = broker.unique("daemons");
        let url = make_vhost(&broker, &vhost).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { url, broker, vhost, env: Env::system(None).expect("entropy"), dir }
    }

    /// Makes this virtual host as shipped: the users with their permissions, the exchanges and the policies.
    pub async fn allow_the_shipped_users(&self) {
        self.import_of_the_shipped(&[
            "permissions",
            "topic_permissions",
            "exchanges",
            "bindings",
            "policies",
        ])
        .await;
    }

    /// Gives this virtual host these lists of the shipped definitions, and the shipped users.
    pub async fn import_of_the_shipped(&self, lists: &[&str]) {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rabbitmq/definitions.json");
        let text = std::fs::read_to_string(shipped).expect("it is there");
        let mut shipped: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let users = shipped["users"].take();
        let mut definitions = serde_json::json!({"vhosts": [{"name": self.vhost}], "users": users});
        for &list in lists {
            definitions[list] = shipped[list].take();
            for entry in definitions[list].as_array_mut().expect("a list") {
                entry["vhost"] = self.vhost.as_str().into();
            }
        }
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        write!(file, "{definitions}").expect("it can be written");
        import(&self.broker, file.path()).await;
    }

    /// The URL of a shipped user in this virtual host.
    pub fn url_of(&self, user: &str) -> String {
        format!("rabbit://{user}:{user}-development@{}/{}", self.broker.parts().2, self.vhost)
    }

    /// A transport, connected soon. Its seed is its own, and with it the names of its queues.
    fn dial(&self, url: &str, name: &str) -> Arc<RabbitTransport> {
        RabbitTransport::start(RabbitOptions { seed: self.env.random.fork(name), ..options(url, name) })
    }

    /// A connected transport in this virtual host.
    pub async fn transport(&self, name: &str) -> Arc<RabbitTransport> {
        let transport = self.dial(&self.url, name);
        connected(&transport).await;
        transport
    }

    /// Who asks schedulers.
    pub async fn operator(&self) -> SchedulerApi {
        let transport = self.transport("operator").await;
        SchedulerApi::new(RpcClient::new(transport, self.env.random.fork("operator")), &Names::on(EXCHANGE))
    }

    /// Settings of a scheduler for this fleet.
    pub fn scheduler_config(&self, service_down_time: Duration) -> SchedulerConfig {
        let mut config = SchedulerConfig::default();
        config.reports.report_interval = INTERVAL;
        config.reports.answer_window = Duration::from_millis(300);
        config.reports.report_ttl = Duration::from_secs(2);
        config.reports.service_down_time = service_down_time;
        config
    }

    /// A scheduler that knows `hosts` hosts and takes requests.
    pub async fn scheduler(&self, name: &str, config: SchedulerConfig, hosts: usize) -> Scheduler {
        let transport = self.dial(&self.url, name);
        let started = novella_scheduler::start(config, name.into(), self.env.child(name), transport).await;
        let scheduler = started.expect("default filters and weighers");
        timeout(PATIENCE, scheduler.health().until_ready()).await.expect("ready in time");
        until_all_up(&scheduler, hosts).await;
        scheduler
    }

    /// An agent with a made-up host, on a connection of its own. `query` goes into its transport URL.
    pub async fn agent(&self, host: &str, size: FakeConfig, query: &str) -> Agent {
        let first = if self.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{first}single_connection=true{query}", self.url);
        let seed = self.env.random.fork(host);
        // As the agent's program has it.
        let options = RabbitOptions { seed, declare_exchanges: false, ..options(&url, host) };
        let transport = RabbitTransport::start(options);
        let driver = FakeDriver::new(host, Arc::new(size), DEFAULT_PROBE_DEADLINE).expect("a usable size");
        let mut config = AgentConfig::default();
        config.report.periodic_interval = INTERVAL;
        config.report.host_state_interval = INTERVAL;
        config.report.periodic_fuzzy_delay = INTERVAL;
        let env = self.env.child(host);
        let agent = novella_compute_agent::start(config, host.into(), env, Arc::new(driver), transport).await;
        agent.expect("a fake host can be read")
    }

    /// `count` usual hosts and the big one.
    pub async fn fleet(&self, count: usize) -> Vec<Agent> {
        let big = FakeConfig { vcpus: 4096, memory_mb: 1 << 30, ..FakeConfig::default() };
        let mut agents = vec![self.agent(BIG, big, "").await];
        for number in 0..count {
            agents.push(self.agent(&format!("host-{number:02}"), FakeConfig::default(), "").await);
        }
        agents
    }

    /// A request for one instance of this flavor.
    pub fn request(&self, flavor: Flavor) -> SelectDestinations {
        let instance_uuids = vec![self.env.random.uuid()];
        let spec = RequestSpec { flavor, ..RequestSpec::default() };
        let request_spec = PlacementRequest { instance_uuids, spec, attempt: 1 };
        SelectDestinations { request_spec, ..SelectDestinations::default() }
    }

    /// Clients that place and let go, without a pause between.
    pub async fn load(self: &Arc<Self>, clients: usize) -> Load {
        let stop = CancellationToken::new();
        let placed = Arc::new(AtomicU64::new(0));
        let client = |api| client(self.clone(), api, placed.clone(), stop.clone());
        let apis = join_all((0..clients).map(|_| self.operator())).await;
        let tasks = apis.into_iter().map(|api| tokio::spawn(client(api))).collect();
        Load { stop, placed, tasks }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let deleted = Command::new(&self.broker.ctl).args(["ctl", "delete_vhost", &self.vhost]).output();
        if !deleted.is_ok_and(|output| output.status.success()) {
            eprintln!("the virtual host {} is left behind", self.vhost);
        }
    }
}

/// Fits on any host.
pub fn small() -> Flavor {
    Flavor { vcpus: 1, memory_mb: 64, ..Flavor::default() }
}

/// Fits on [`BIG`] alone: a map without it would refuse.
pub fn large() -> Flavor {
    Flavor { vcpus: 16, memory_mb: 65_536, ..Flavor::default() }
}

/// Requests that go on whatever happens. Any refusal fails the test.
pub struct Load {
    stop: CancellationToken,
    placed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Load {
    pub fn placed(&self) -> u64 {
        self.placed.load(Ordering::Relaxed)
    }

    /// Waits for so many more placements.
    pub async fn more(&self, count: u64) {
        let wanted = self.placed() + count;
        let failed = || self.tasks.iter().any(JoinHandle::is_finished);
        eventually("placements go on", async || self.placed() >= wanted || failed()).await;
    }

    /// How many placements each scheduler made.
    pub async fn end(self) -> BTreeMap<String, u64> {
        self.stop.cancel();
        let mut all = BTreeMap::new();
        for task in self.tasks {
            for (scheduler, count) in task.await.expect("every request was placed") {
                *all.entry(scheduler).or_default() += count;
            }
        }
        all
    }
}

/// Places, asks the same again, lets go, and so on.
async fn client(
    house: Arc<House>,
    api: SchedulerApi,
    placed: Arc<AtomicU64>,
    stop: CancellationToken,
) -> BTreeMap<String, u64> {
    let mut by_scheduler = BTreeMap::new();
    while !stop.is_cancelled() {
        let flavor = if house.env.random.u64().is_multiple_of(2) { small() } else { large() };
        let request = house.request(flavor);
        let decision = ask(&api, &request).await;
        let host = host_of(&decision);
        assert!(request.request_spec.spec.flavor != large() || host == BIG, "{decision:#?}");
        placed.fetch_add(1, Ordering::Relaxed);
        let scheduler = decided_by(&decision).to_owned();
        // Another scheduler may not have heard of the decision yet.
        let same = api.of(&scheduler);
        assert_eq!(host_of(&ask(&same, &request).await), host, "repeated under the same uuid");
        release(&same, &decision).await;
        *by_scheduler.entry(scheduler).or_default() += 1;
        sleep(Duration::from_millis(5)).await;
    }
    by_scheduler
}

/// Asks as who owns the request: again, under the same uuids, until there is an answer.
pub async fn ask(api: &SchedulerApi, request: &SelectDestinations) -> Decision {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = api.select_destinations(request, CallOptions::new(ASK)).await;
        if let Some(decision) = unless_lost(answer, deadline).await {
            return decision;
        }
    }
}

async fn release(api: &SchedulerApi, decision: &Decision) {
    let release = Release { decision_id: decision.decision_id.clone(), ..Release::default() };
    let deadline = Instant::now() + PATIENCE;
    while unless_lost(api.release(&release, CallOptions::new(ASK)).await, deadline).await.is_none() {}
}

/// The answer; nothing, after a pause, if request or answer were lost and there is time to ask again.
async fn unless_lost<T>(answer: Result<T, RpcError>, deadline: Instant) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error @ (RpcError::Timeout { .. } | RpcError::Send { .. })) => {
            assert!(Instant::now() < deadline, "no answer: {error:?}");
            sleep(Duration::from_millis(50)).await;
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// The host of a decision that placed one instance.
pub fn host_of(decision: &Decision) -> &str {
    assert!(decision.refusal.is_none(), "refused: {decision:#?}");
    &decision.selections[0].host
}

/// The scheduler whose name the decision's id begins with.
pub fn decided_by(decision: &Decision) -> &str {
    decision.decision_id.rsplitn(3, '-').nth(2).expect("name, run and number")
}

/// The fleet as a scheduler sees it, asked past the broker.
pub async fn view(scheduler: &Scheduler) -> BTreeMap<String, HostSummary> {
    use novella_rpcapi::{HostListQuery, SchedulerEndpoint};
    let list =
        scheduler.manager().list_hosts(HostListQuery::default()).await.expect("a list is always answered");
    list.hosts.into_iter().map(|host| (host.host.clone(), host)).collect()
}

/// Waits until a scheduler sees so many hosts, all up.
pub async fn until_all_up(scheduler: &Scheduler, hosts: usize) {
    let up = async || {
        let view = view(scheduler).await;
        view.len() == hosts && view.values().all(|host| host.state == HostStatus::Up)
    };
    eventually("all hosts are up", up).await;
}

/// Waits until a scheduler sees this host in this state.
pub async fn until_state(scheduler: &Scheduler, host: &str, wanted: HostStatus) {
    let state = async || view(scheduler).await.get(host).map(|host| host.state);
    eventually("the host's state", async || state().await == Some(wanted)).await;
}

/// Hosts in this state.
pub fn in_state(view: &BTreeMap<String, HostSummary>, state: HostStatus) -> BTreeSet<&str> {
    view.values().filter(|host| host.state == state).map(|host| host.host.as_str()).collect()
}

/// One value of what `/metrics` shows.
pub fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"));
    value.parse::<f64>().expect("a metric is a number") as u64
}

/// A connection by lapin alone, to where a transport URL says.
pub async fn connection(url: &str) -> lapin::Connection {
    let uri = format!("{}?frame_max=131072", url.replacen("rabbit://", "amqp://", 1));
    let connected = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await;
    connected.expect("the broker answers")
}
