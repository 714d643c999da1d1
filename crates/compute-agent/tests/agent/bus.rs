//! A bus with one listening scheduler, and agents to put on it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use novella_compute_agent::{Agent, AgentConfig, StartError, start};
use novella_messaging::in_process::{InProcessBroker, InProcessOptions};
use novella_messaging::{
    CallError, CallOptions, ConsumerState, FanoutLimits, QueueKind, RequestContext, RpcClient, RpcServer,
    ServerOptions,
};
use novella_rpcapi::{ComputeApi, Names, ReceivedReport, ReportHandler, ReportSink};
use novella_service::{Env, MemoryStore};
use novella_virt::{ComputeDriver, DriverError, FakeConfig, FakeDriver, HostStats};
use serde_json::Value;
use tokio::time::Instant;

/// Host name of every agent, unless a test gives another.
pub const HOST: &str = "cmp1";
/// Deadline of the fake driver's probe.
pub const PROBE: Duration = Duration::from_secs(5);

pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A report as it came out of the scheduler's fanout queue.
#[derive(Debug, Clone)]
pub struct Report {
    /// Simulated time since the bus was made.
    pub at: Duration,
    pub host: String,
    pub capabilities: Value,
}

impl Report {
    pub fn novella(&self) -> &Value {
        &self.capabilities["novella"]
    }

    pub fn seq(&self) -> u64 {
        self.novella()["seq"].as_u64().expect("a report has a seq")
    }

    pub fn is_goodbye(&self) -> bool {
        self.novella()["goodbye"] == true
    }
}

struct Sink {
    began: Instant,
    reports: Mutex<Vec<Report>>,
}

impl ReportSink for Sink {
    fn apply_reports(&self, reports: &[ReceivedReport<'_>]) {
        let at = self.began.elapsed();
        self.reports.lock().unwrap().extend(reports.iter().map(|ReceivedReport { report, .. }| {
            assert_eq!((report.service_name.as_ref(), report.capabilities.0.len()), ("compute", 1));
            let capabilities = serde_json::to_value(&report.capabilities).unwrap();
            Report { at, host: report.host.to_string(), capabilities }
        }));
    }

    fn bad_report(&self, _: &RequestContext, reason: &CallError) {
        panic!("the scheduler cannot read a report: {reason}");
    }
}

/// The bus, and the scheduler's end of it.
pub struct Bus {
    pub broker: Arc<InProcessBroker>,
    sink: Arc<Sink>,
    pub client: RpcClient,
    pub compute: ComputeApi,
    _scheduler: RpcServer,
    /// Seed of the next agent, so that no two processes draw the same numbers.
    next_seed: AtomicU64,
}

impl Bus {
    pub async fn new() -> Self {
        let broker = InProcessBroker::new(InProcessOptions::default());
        let sink = Arc::new(Sink { began: Instant::now(), reports: Mutex::default() });
        let mut scheduler = RpcServer::new(broker.connect("scheduler"), ServerOptions::new([1; 32]));
        for handler in ReportHandler::all(&sink) {
            scheduler = scheduler.batch(Arc::new(handler));
        }
        let limits = FanoutLimits { message_ttl: s(30), max_length: 1000 };
        let queue = QueueKind::Fanout { topic: "scheduler".into(), limits };
        let mut reports = scheduler.listen(queue).await.unwrap();
        reports.wait_for(|state| matches!(state, ConsumerState::Active { .. })).await.unwrap();
        let client = RpcClient::new(broker.connect("scheduler"), [2; 32]);
        let compute = ComputeApi::new(client.clone(), &Names::on("nova"));
        Self { broker, sink, client, compute, _scheduler: scheduler, next_seed: AtomicU64::new(7) }
    }

    /// Simulated time since the bus was made.
    pub fn now(&self) -> Duration {
        self.sink.began.elapsed()
    }

    /// Lets everything happen until `then`.
    pub async fn run_until(&self, at: Duration) {
        tokio::time::sleep_until(self.sink.began + at).await;
        settle().await;
    }

    /// All reports so far.
    pub fn reports(&self) -> Vec<Report> {
        self.sink.reports.lock().unwrap().clone()
    }

    /// All reports since the previous call.
    pub fn take(&self) -> Vec<Report> {
        std::mem::take(&mut self.sink.reports.lock().unwrap())
    }

    /// A bus with an agent on it.
    pub async fn with_agent() -> (Self, Agent) {
        let bus = Self::new().await;
        let agent = bus.agent().await;
        (bus, agent)
    }

    /// An agent with the defaults, a working fake driver and a store of its own.
    pub async fn agent(&self) -> Agent {
        self.start(HOST, AgentConfig::default(), &MemoryStore::new(), fake(&[]))
            .await
            .expect("the agent starts")
    }

    pub async fn start(
        &self,
        host: &str,
        config: AgentConfig,
        store: &MemoryStore,
        driver: Arc<dyn ComputeDriver>,
    ) -> Result<Agent, StartError> {
        self.start_as(host, "agent", config, store, driver).await
    }

    /// An agent on a connection called `connection`. Tests name the connection to break it.
    pub async fn start_as(
        &self,
        host: &str,
        connection: &str,
        config: AgentConfig,
        store: &MemoryStore,
        driver: Arc<dyn ComputeDriver>,
    ) -> Result<Agent, StartError> {
        let env = Env::simulated(self.next_seed.fetch_add(1, Ordering::Relaxed)).with_store(store.clone());
        let agent =
            start(config, host.into(), env, driver, self.broker.connect_as(connection, "agent")).await;
        settle().await;
        agent
    }

    pub fn has_queue(&self, name: &str) -> bool {
        self.broker.queues().iter().any(|queue| queue == name)
    }
}

/// The settings in this value. TOML and JSON have the same form.
pub fn settings(value: Value) -> AgentConfig {
    let config: AgentConfig = serde_json::from_value(value).expect("settings");
    assert_eq!(novella_service::config::Settings::validate(&config), []);
    config
}

/// Lets all tasks run that can run now. The clock moves by at most a millisecond.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub fn call() -> CallOptions {
    CallOptions::new(s(8))
}

/// A fake driver that follows this script, and then always answers.
pub fn fake(script: &[&str]) -> Arc<FakeDriver> {
    let script = script.iter().map(|step| step.parse().expect("a step")).collect();
    let config = FakeConfig { script, ..FakeConfig::default() };
    Arc::new(FakeDriver::new(HOST, Arc::new(config), PROBE).expect("the default size is allowed"))
}

/// A fake driver as large as this configuration says.
pub fn fake_of(config: Value) -> Arc<FakeDriver> {
    let config: FakeConfig = serde_json::from_value(config).expect("a fake driver's configuration");
    Arc::new(FakeDriver::new(HOST, Arc::new(config), PROBE).expect("the size is allowed"))
}

/// A driver without probes, which fails as a whole.
pub struct Moody {
    inner: Arc<FakeDriver>,
    mood: AtomicU8,
}

impl Moody {
    pub const WORKS: u8 = 0;
    pub const FAILS: u8 = 1;
    pub const HANGS: u8 = 2;
    pub const PANICS: u8 = 3;

    pub fn new(mood: u8) -> Arc<Self> {
        Arc::new(Self { inner: fake(&[]), mood: AtomicU8::new(mood) })
    }

    pub fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::Relaxed);
    }
}

#[async_trait]
impl ComputeDriver for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    async fn init_host(&self) -> Result<(), DriverError> {
        Ok(())
    }

    async fn get_host_stats(&self, refresh: bool) -> Result<HostStats, DriverError> {
        match self.mood.load(Ordering::Relaxed) {
            Self::FAILS => Err(DriverError::NoReading {
                probe: "hypervisor",
                attempt: "reach it".into(),
                next_step: "start it".into(),
                source: Arc::new(novella_virt::ProbeError::Lost),
            }),
            Self::HANGS => std::future::pending().await,
            Self::PANICS => panic!("the driver panics"),
            _ => self.inner.get_host_stats(refresh).await,
        }
    }
}
