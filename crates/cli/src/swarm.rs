//! `novella swarm`: thousands of agents with made-up hosts, against a real broker.
//!
//! Each is the agent that hosts run, with its own identity, channel and exclusive queue; only the driver is fake, and
//! some thousands share a connection, unless each is given its own. It answers what design questions cannot: what a fleet
//! does to this broker and these schedulers, and how long placements take meanwhile. Progress and rates are talk and go to
//! standard error; the summary is the data.

mod meter;
mod placements;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use novella_compute_agent::{Agent, AgentConfig, IDENTITY_FILE, Standing};
use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{CallOptions, ConnectionState, RpcClient, Transport, TransportUrl};
use novella_rpcapi::SchedulerApi;
use novella_service::config::{Sources, load};
use novella_service::exit::Failure;
use novella_service::shutdown::Shutdown;
use novella_service::{Env, Random, StoreError};
use novella_virt::{DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use crate::connect::{connected, rabbit_options, transport_url};
use crate::exit_codes::{CONFLICT, OK, PARTIAL, TIMEOUT, USAGE};
use crate::histogram::Histogram;
use crate::output::{Cell, Console, Format, OutputArgs, object, plain};
use crate::settings::CliSettings;
use crate::units;
use meter::Metered;
use placements::{Answered, Answers, Asker};

/// Agents that start, or stop, and connections that open at the same time. More would only queue up at the broker.
const AT_ONCE: usize = 256;
/// How long one agent may wait for its queue.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// For stopping one agent in order.
const GRACE: Duration = Duration::from_secs(5);
/// RabbitMQ gives a connection 2047 channels; some are for publishing.
const AGENTS_PER_CONNECTION: u32 = 2000;
/// Rate lines: each second where they replace each other, seldom where they add up.
const LIVE: Duration = Duration::from_secs(1);
const LOGGED: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  novella swarm --hosts 1000 --interval 10s
  novella swarm --hosts 10000 --interval 30s --connections 16 --for 5m -f json
  novella swarm --hosts 100 --agent-config numa.toml    hosts with NUMA nodes, PCI devices, ...
  novella swarm --hosts 500 --connections 500           a connection for each agent, as hosts have
  novella swarm --hosts 0 --placements 20 --for 30s     only placements, for a fleet that is there")]
pub struct SwarmArgs {
    /// How many agents
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    pub hosts: u32,
    /// Time between the reports of one agent
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub interval: Duration,
    /// Connections that the agents share
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub connections: u32,
    /// Placements asked for per second meanwhile, on a connection of their own; nothing is held
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub placements: Option<u32>,
    /// End after this time, counted from when all run; without it, run until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = units::parse_duration)]
    pub duration: Option<Duration>,
    /// Settings of each agent, in the form of config/compute-agent.toml; [driver.fake] says what their hosts have
    #[arg(long, value_name = "FILE")]
    pub agent_config: Option<PathBuf>,
    /// What host names start with
    #[arg(long, value_name = "TEXT", default_value = "swarm-")]
    pub name_prefix: String,
    /// How to write the summary
    #[arg(short = 'f', long, short_alias = 'o', value_enum, default_value_t)]
    pub format: SwarmFormat,
}

/// How the summary is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SwarmFormat {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
}

/// The whole run.
#[derive(Debug, Serialize)]
struct Summary {
    agents: u32,
    connections: u32,
    start_s: f64,
    seconds: f64,
    reports: u64,
    reports_per_s: f64,
    failures: u64,
    replaced: u64,
    confirm_p50_ms: Option<f64>,
    confirm_p99_ms: Option<f64>,
    confirm_max_ms: f64,
    placements: Option<Answered>,
}

/// Runs the swarm to its end and writes the summary.
pub async fn run(
    args: &SwarmArgs,
    settings: &CliSettings,
    env: Env,
    shutdown: &Shutdown,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    if args.hosts.div_ceil(args.connections) > AGENTS_PER_CONNECTION {
        let enough = args.hosts.div_ceil(AGENTS_PER_CONNECTION);
        return Err(Failure::new(
            USAGE,
            format!("a connection has channels for {AGENTS_PER_CONNECTION} agents at most"),
        )
        .next(format!("use --connections {enough} or more"))
        .into());
    }
    let files = args.agent_config.iter().cloned().collect();
    let agents = load::<AgentConfig>(&Sources { files, ..Sources::default() })?.config;
    let connections = if args.hosts == 0 { Vec::new() } else { connect(args, settings, &env).await? };
    let mut asking = match args.placements {
        Some(rate) => Some(Asking::connect(rate, settings, &env).await?),
        None => None,
    };
    console.note(&format!("starting {} agents over {} connections", args.hosts, args.connections));
    let agent_config = agent_config(agents, args, settings);
    let answers = asking.as_ref().map(|asking| asking.asker.answers());
    let swarm =
        Swarm { args, agent_config, env, connections, times: Arc::new(Histogram::default()), answers };
    let began = Instant::now();
    let (agents, failed) = swarm.start(shutdown).await;
    let start_s = began.elapsed().as_secs_f64();
    let complete = agents.len() == args.hosts as usize;
    if complete {
        console.note(&format!("all {} agents hold their queues after {start_s:.1} s", agents.len()));
    } else if !shutdown.is_requested() {
        console.note(&format!(
            "{} of {} agents did not start",
            args.hosts as usize - agents.len(),
            args.hosts
        ));
    }
    let measured = Instant::now();
    let before = Totals::of(&agents);
    if failed.is_none() {
        let watching = swarm.watch(&agents, shutdown, console);
        match &mut asking {
            Some(asking) => asking.asker.during(watching).await,
            None => watching.await,
        }
    }
    let (totals, measured) = (Totals::of(&agents).since(before), measured.elapsed());
    if let Some(asking) = asking {
        asking.asker.finish().await;
        asking.transport.close(Instant::now() + GRACE).await;
    }
    let summary = swarm.summary(agents.len() as u32, start_s, measured, totals);
    swarm.stop(agents).await;
    match failed {
        Some(failure) => Err(failure.into()),
        None => {
            write_summary(&summary, args.format, console)?;
            Ok(if complete || shutdown.is_requested() { OK } else { PARTIAL })
        }
    }
}

async fn connect(
    args: &SwarmArgs,
    settings: &CliSettings,
    env: &Env,
) -> anyhow::Result<Vec<Arc<RabbitTransport>>> {
    let url = transport_url(settings)?;
    let connecting = stream::iter(0..args.connections)
        .map(|index| open(&url, format!("novella swarm {}/{}", index + 1, args.connections), settings, env));
    connecting.buffered(AT_ONCE).try_collect().await
}

/// One connection, when it is there.
async fn open(
    url: &TransportUrl,
    name: String,
    settings: &CliSettings,
    env: &Env,
) -> anyhow::Result<Arc<RabbitTransport>> {
    let connection = RabbitTransport::start(rabbit_options(url, name, env)?);
    connected(connection.state(), url, url.hosts.len(), settings.timeout).await?;
    Ok(connection)
}

/// Who asks for placements, and by which connection.
struct Asking {
    asker: Asker,
    transport: Arc<RabbitTransport>,
}

impl Asking {
    async fn connect(per_second: u32, settings: &CliSettings, env: &Env) -> anyhow::Result<Self> {
        let transport =
            open(&transport_url(settings)?, "novella placements".to_owned(), settings, env).await?;
        let client = RpcClient::new(transport.clone(), env.random.fork("rpc client"));
        let api = SchedulerApi::named(client, &settings.names());
        let options = CallOptions { mandatory: true, ..CallOptions::new(settings.timeout) };
        let random = Random::from_seed(env.random.fork("placements"));
        Ok(Self { asker: Asker::new(api, options, per_second, random), transport })
    }
}

/// The operator's settings of each agent, but for what the swarm itself was told.
fn agent_config(mut config: AgentConfig, args: &SwarmArgs, settings: &CliSettings) -> AgentConfig {
    config.report.periodic_interval = args.interval;
    config.report.host_state_interval = args.interval;
    // So that a fleet started in one go does not report in one go.
    config.report.periodic_fuzzy_delay = args.interval;
    config.rpc.control_exchange = settings.control_exchange.clone();
    config.rpc.compute_topic = settings.compute_topic.clone();
    config
}

struct Swarm<'a> {
    args: &'a SwarmArgs,
    agent_config: AgentConfig,
    env: Env,
    connections: Vec<Arc<RabbitTransport>>,
    times: Arc<Histogram>,
    answers: Option<Arc<Answers>>,
}

impl Swarm<'_> {
    /// Starts the agents, until the first that cannot start or `shutdown`.
    async fn start(&self, shutdown: &Shutdown) -> (Vec<Agent>, Option<Failure>) {
        let bar = progress(self.args.hosts.into(), "starting");
        let fake = Arc::new(self.agent_config.driver.fake.sized());
        let mut starting = stream::iter(0..self.args.hosts)
            .take_until(Box::pin(shutdown.requested()))
            .map(|index| self.start_one(index, fake.clone(), shutdown))
            .buffer_unordered(AT_ONCE);
        let mut agents = Vec::with_capacity(self.args.hosts as usize);
        let mut failed = None;
        while let Some(started) = starting.next().await {
            match started {
                Ok(Some(agent)) => {
                    agents.push(agent);
                    bar.inc(1);
                }
                Ok(None) => {}
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        bar.finish_and_clear();
        (agents, failed)
    }

    /// Starts one agent and waits until it holds its queue; nothing if it is told to stop meanwhile.
    async fn start_one(
        &self,
        index: u32,
        fake: Arc<FakeConfig>,
        shutdown: &Shutdown,
    ) -> Result<Option<Agent>, Failure> {
        let host = format!("{}{index:05}", self.args.name_prefix);
        let cannot = || Failure::new(crate::exit_codes::INTERNAL, format!("cannot start agent {host}"));
        let driver =
            FakeDriver::new(host.clone(), fake, DEFAULT_PROBE_DEADLINE).map_err(|e| cannot().because(e))?;
        let shared = self.connections[index as usize % self.connections.len()].share();
        let transport: Arc<dyn Transport> = Arc::new(Metered::new(shared, self.times.clone()));
        let env = self.env.child(&host);
        remember(&env, &host).map_err(|error| cannot().because(error))?;
        let agent = novella_compute_agent::start(
            self.agent_config.clone(),
            host.clone(),
            env,
            Arc::new(driver),
            transport,
        );
        let agent = agent.await.map_err(|error| cannot().because(error))?;
        let mut standing = agent.manager().standing();
        let held = tokio::select! { biased;
            () = shutdown.requested() => None,
            held = tokio::time::timeout(START_TIMEOUT, standing.wait_for(|s| *s == Standing::Holder)) => {
                Some(held.is_ok_and(|held| held.is_ok()))
            }
        };
        match held {
            Some(true) => Ok(Some(agent)),
            None => {
                agent.stop(GRACE).await;
                Ok(None)
            }
            Some(false) => {
                agent.stop(GRACE).await;
                Err(self.not_held(&host))
            }
        }
    }

    fn not_held(&self, host: &str) -> Failure {
        let waited = humantime::format_duration(START_TIMEOUT);
        if self.connected() == self.connections.len() {
            Failure::new(CONFLICT, format!("agent {host} did not get its queue within {waited}"))
                .next("another swarm or agent may have these names: use another --name-prefix")
        } else {
            Failure::new(TIMEOUT, format!("the broker was away for more than {waited}"))
                .next("look at the broker's log")
        }
    }

    fn connected(&self) -> usize {
        let up = |c: &&Arc<RabbitTransport>| matches!(*c.state().borrow(), ConnectionState::Connected { .. });
        self.connections.iter().filter(up).count()
    }

    /// Tells the rates until the end.
    async fn watch(&self, agents: &[Agent], shutdown: &Shutdown, console: &mut Console<'_>) {
        let bar = spinner();
        let every = if bar.is_hidden() { LOGGED } else { LIVE };
        let mut tick = tokio::time::interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = self.args.duration.map(|duration| Instant::now() + duration);
        let mut last = (Instant::now(), Totals::of(agents));
        loop {
            tokio::select! { biased;
                () = shutdown.requested() => break,
                () = crate::demo::at(end) => break,
                _ = tick.tick() => {
                    let now = (Instant::now(), Totals::of(agents));
                    let line = self.line(agents.len(), now.1, now.1.since(last.1), now.0 - last.0);
                    last = now;
                    if bar.is_hidden() { console.note(&line) } else { bar.set_message(line) }
                }
            }
        }
        bar.finish_and_clear();
    }

    fn line(&self, agents: usize, total: Totals, recent: Totals, time: Duration) -> String {
        let latency = |share| self.times.quantile(share).map_or_else(|| "-".to_owned(), units::latency);
        let answers = self.answers.as_ref().map_or_else(String::new, |answers| {
            let shown = |share| answers.quantile(share).map_or_else(|| "-".to_owned(), units::latency);
            format!("  placements p50 {} p99 {}", shown(0.5), shown(0.99))
        });
        format!(
            "{agents} agents  {}/{} connections  {:.1} reports/s  {} failures  confirm p50 {} p99 {}{answers}",
            self.connected(),
            self.connections.len(),
            recent.reports as f64 / time.as_secs_f64().max(0.001),
            total.failures,
            latency(0.5),
            latency(0.99),
        )
    }

    fn summary(&self, agents: u32, start_s: f64, time: Duration, totals: Totals) -> Summary {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let seconds = time.as_secs_f64();
        Summary {
            agents,
            connections: self.args.connections,
            start_s,
            seconds,
            reports: totals.reports,
            reports_per_s: totals.reports as f64 / seconds.max(0.001),
            failures: totals.failures,
            replaced: totals.replaced,
            confirm_p50_ms: self.times.quantile(0.5).map(ms),
            confirm_p99_ms: self.times.quantile(0.99).map(ms),
            confirm_max_ms: ms(self.times.max()),
            placements: self.answers.as_ref().map(|answers| answers.summary()),
        }
    }

    /// Stops the agents in order, then the connections.
    async fn stop(&self, agents: Vec<Agent>) {
        let bar = progress(agents.len() as u64, "stopping");
        let stopped = stream::iter(agents).map(|agent| agent.stop(GRACE)).buffer_unordered(AT_ONCE);
        stopped.for_each(|()| async { bar.inc(1) }).await;
        bar.finish_and_clear();
        for connection in &self.connections {
            connection.close(Instant::now() + GRACE).await;
        }
    }
}

/// Makes a host the same one whenever a swarm is run: its uuid follows from its name, its incarnation from the time, so
/// that schedulers see the hosts of the last run restarted and not replaced by strangers.
fn remember(env: &Env, host: &str) -> Result<(), StoreError> {
    let uuid = Random::from_seed(Random::from_number(0).fork(host)).uuid();
    let identity = json!({ "uuid": uuid, "incarnation": env.clock.unix_ms() });
    env.store.write_durable(IDENTITY_FILE, identity.to_string().as_bytes())
}

/// Sums over all agents.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    reports: u64,
    failures: u64,
    replaced: u64,
}

impl Totals {
    fn of(agents: &[Agent]) -> Self {
        agents.iter().fold(Self::default(), |sum, agent| {
            let counters = agent.publish_counters();
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            Self {
                reports: sum.reports + read(&counters.published),
                failures: sum.failures + read(&counters.failed),
                replaced: sum.replaced + read(&counters.replaced),
            }
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            reports: self.reports - before.reports,
            failures: self.failures - before.failures,
            replaced: self.replaced - before.replaced,
        }
    }
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is right"))
        .with_message(what)
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is right");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn write_summary(summary: &Summary, format: SwarmFormat, console: &mut Console<'_>) -> anyhow::Result<()> {
    if format == SwarmFormat::Json {
        let args = OutputArgs { format: Format::Json, ..OutputArgs::default() };
        return object(summary, &args, console);
    }
    let ms = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"));
    let mut rows = vec![
        ("swarm", format!("{} agents over {} connections", summary.agents, summary.connections)),
        ("started in", format!("{:.1} s", summary.start_s)),
        ("ran", format!("{:.1} s", summary.seconds)),
        ("reports", format!("{} ({:.1}/s)", summary.reports, summary.reports_per_s)),
        (
            "failures",
            format!(
                "{}; {} reports replaced by newer ones before they were sent",
                summary.failures, summary.replaced
            ),
        ),
        (
            "confirms",
            format!(
                "p50 {}, p99 {}, longest {:.2} ms",
                ms(summary.confirm_p50_ms),
                ms(summary.confirm_p99_ms),
                summary.confirm_max_ms
            ),
        ),
    ];
    if let Some(placements) = &summary.placements {
        let Answered { answered, refused, failed, p50_ms, p99_ms, max_ms } = placements;
        rows.push((
            "placements",
            format!(
                "{answered} answered, {refused} of them refused, {failed} without an answer; p50 {}, p99 {}, longest \
                 {max_ms:.2} ms",
                ms(*p50_ms),
                ms(*p99_ms)
            ),
        ));
    }
    let rows = rows.into_iter().map(|(name, value)| vec![Cell::text(name), Cell::text(value)]).collect();
    write!(console.out, "{}", plain(&[], rows, console.style))?;
    Ok(console.out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_swarm_run_again_is_the_same_hosts_restarted() {
        let identity = |env: &Env, host: &str| {
            let child = env.child(host);
            remember(&child, host).unwrap();
            let bytes = child.store.read(IDENTITY_FILE).unwrap().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            (json["uuid"].as_str().unwrap().to_owned(), json["incarnation"].as_u64().unwrap())
        };
        let first = identity(&Env::simulated(1), "swarm-00001");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (again, other) = (Env::simulated(2), Env::simulated(3));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(identity(&again, "swarm-00001").0, first.0);
        assert!(identity(&again, "swarm-00001").1 > first.1);
        assert_ne!(identity(&other, "swarm-00002").0, first.0);
    }
}
