//! The fleet of the demo: a scheduler and hosts of different kinds on one in-process bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use novella_compute_agent::{Agent, AgentConfig};
use novella_messaging::in_process::{InProcessBroker, InProcessOptions};
use novella_objects::{HostSummary, VmState};
use novella_rpcapi::{InstanceListQuery, SchedulerStatus};
use novella_scheduler::{Scheduler, SchedulerConfig};
use novella_service::{Env, Random};
use novella_virt::{DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver};

use uuid::Uuid;

use crate::connect::Bus;
use crate::output::natural;
use crate::settings::CliSettings;

/// The time between reports of a host. It is shorter than in production, so that there is something to see.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A host is down after a silence of this length, in which three reports are missing.
const DOWN_AFTER: Duration = Duration::from_millis(3_500);
/// How long hosts may take to answer when the scheduler asks all of them to report.
const ANSWER_WINDOW: Duration = Duration::from_millis(200);
/// The longest time for one call. On a bus in this process, only a defect can make it longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the scheduler may take to learn of the hosts and become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a build takes.
const BUILD: Duration = Duration::from_millis(600);
/// How many of 100 builds fail.
const FAILED_BUILDS: u32 = 5;
/// How long agents and scheduler may take to stop in order.
const GRACE: Duration = Duration::from_secs(2);

/// A kind of host.
struct HostKind {
    name: &'static str,
    vcpus: u32,
    memory_gb: u64,
    disk_gb: u64,
    zone: &'static str,
    arch: &'static str,
    traits: &'static [&'static str],
}

const fn kind(name: &'static str, vcpus: u32, memory_gb: u64, disk_gb: u64, zone: &'static str) -> HostKind {
    HostKind { name, vcpus, memory_gb, disk_gb, zone, arch: "x86_64", traits: &[] }
}

/// The kinds of the first eight hosts. Further hosts repeat the list.
const KINDS: [HostKind; 8] = [
    kind("std", 16, 64, 500, "north"),
    kind("std", 16, 64, 500, "south"),
    kind("std", 24, 96, 800, "south"),
    HostKind { traits: &["CUSTOM_TURBO"], ..kind("cpu", 48, 96, 400, "north") },
    kind("mem", 16, 256, 500, "north"),
    HostKind { traits: &["CUSTOM_SPINDLES"], ..kind("store", 8, 32, 4000, "south") },
    kind("edge", 8, 16, 100, "edge"),
    HostKind { arch: "aarch64", ..kind("edge", 8, 16, 200, "edge") },
];

/// The running fleet.
pub struct Fleet {
    broker: Arc<InProcessBroker>,
    scheduler: Scheduler,
    agents: Vec<Agent>,
    bus: Bus,
}

impl Fleet {
    /// Starts the agents and the scheduler, and returns when the scheduler is ready. Builds take a moment, and some fail.
    pub async fn start(env: &Env, hosts: usize) -> anyhow::Result<Self> {
        let builds = FakeConfig {
            spawn_delay_ms: BUILD.as_millis() as u64,
            spawn_failure_percent: FAILED_BUILDS,
            seed: Random::from_seed(env.random.fork("builds")).u64() % 1_000_000,
            ..FakeConfig::default()
        };
        Self::start_with(env, hosts, "", &builds).await
    }

    /// The same, with a policy file for the scheduler, and with hosts that build as `builds` says. An empty path means that there
    /// is no file.
    pub async fn start_with(
        env: &Env,
        hosts: usize,
        policy_file: &str,
        builds: &FakeConfig,
    ) -> anyhow::Result<Self> {
        let broker = InProcessBroker::new(InProcessOptions {
            seed: env.random.fork("bus"),
            ..InProcessOptions::default()
        });
        let agents = join_all((0..hosts).map(|index| start_agent(env, &broker, index, builds))).await;
        let agents = agents.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let transport = broker.connect("scheduler");
        let config = SchedulerConfig { policy_file: policy_file.to_owned(), ..scheduler_config() };
        let scheduler =
            novella_scheduler::start(config, "demo".into(), env.child("scheduler"), transport).await?;
        let settings = CliSettings { timeout: CALL_TIMEOUT, ..CliSettings::default() };
        let bus = Bus::new(broker.connect("novella"), &settings, env);
        let fleet = Self { broker, scheduler, agents, bus };
        tokio::time::timeout(READY_TIMEOUT, fleet.scheduler.health().until_ready())
            .await
            .context("the demo's scheduler did not become ready in time")?;
        Ok(fleet)
    }

    /// The client that operators use.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Asks the scheduler for all hosts, by name, and for its status.
    pub async fn look(&self) -> anyhow::Result<(Vec<HostSummary>, SchedulerStatus)> {
        let (api, options) = (self.bus.scheduler(), self.bus.options());
        let mut hosts = api.list_hosts(options.clone()).await?.hosts;
        hosts.sort_by(|a, b| natural(&a.host, &b.host));
        Ok((hosts, api.status(options).await?))
    }

    /// Asks the scheduler in which state each instance is.
    pub async fn instance_states(&self) -> anyhow::Result<BTreeMap<Uuid, VmState>> {
        let list =
            self.bus.scheduler().list_instances(&InstanceListQuery::default(), self.bus.options()).await?;
        let states = list.instances.into_iter().filter_map(|one| Some((one.uuid, one.instance?.vm_state)));
        Ok(states.collect())
    }

    /// Draws one of the hosts.
    pub fn pick(&self, random: &Random) -> String {
        let index = random.u64() % self.agents.len() as u64;
        self.agents[index as usize].host().to_owned()
    }

    /// Cuts a host off the bus, or connects it again.
    pub fn silence(&self, host: &str, silent: bool) {
        self.broker.partition(host, silent);
    }

    /// Stops the agents and then the scheduler.
    pub async fn stop(self) {
        join_all(self.agents.into_iter().map(|agent| agent.stop(GRACE))).await;
        self.scheduler.stop(GRACE).await;
    }
}

async fn start_agent(
    env: &Env,
    broker: &Arc<InProcessBroker>,
    index: usize,
    builds: &FakeConfig,
) -> anyhow::Result<Agent> {
    let kind = &KINDS[index % KINDS.len()];
    let of_this_kind = (0..=index).filter(|i| KINDS[i % KINDS.len()].name == kind.name).count();
    let host = format!("{}-{of_this_kind}", kind.name);
    let fake = FakeConfig {
        vcpus: kind.vcpus,
        memory_mb: kind.memory_gb * 1024,
        disk_gb: kind.disk_gb,
        cpu_arch: kind.arch.into(),
        ..builds.clone()
    };
    let driver = Arc::new(FakeDriver::new(host.clone(), Arc::new(fake), DEFAULT_PROBE_DEADLINE)?);
    let agent = novella_compute_agent::start(
        agent_config(kind),
        host.clone(),
        env.child(&host),
        driver,
        broker.connect(&host),
    );
    agent.await.with_context(|| format!("cannot start the agent of {host}"))
}

fn agent_config(kind: &HostKind) -> AgentConfig {
    let mut config = AgentConfig::default();
    config.report.periodic_interval = REPORT_EVERY;
    config.report.host_state_interval = REPORT_EVERY;
    config.report.periodic_fuzzy_delay = REPORT_EVERY;
    config.report.service_down_time = DOWN_AFTER;
    config.placement.availability_zone = kind.zone.to_owned();
    config.placement.traits = kind.traits.iter().map(|&name| name.to_owned()).collect();
    config.facts.insert("kind".to_owned(), kind.name.into());
    // There is no overcommit, so that the bar of a full host is full.
    config.allocation_ratio.cpu = 1.0;
    config
}

fn scheduler_config() -> SchedulerConfig {
    let mut config = SchedulerConfig::default();
    config.reports.report_interval = REPORT_EVERY;
    config.reports.service_down_time = DOWN_AFTER;
    config.reports.answer_window = ANSWER_WINDOW;
    config
}
