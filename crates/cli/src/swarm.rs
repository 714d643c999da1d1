//! `novella swarm`: thousands of agents with simulated hosts, against a real broker.
//!
//! Each is the agent that real hosts run, with its own identity, channel and exclusive queue. Only the driver
//! is fake, and by default thousands of agents share a connection. A swarm shows how a broker and its schedulers cope
//! with a fleet of this size, and how long placements take meanwhile. Progress and rates are messages and go to standard
//! error; the summary is the data.
//!
//! Layout, in reading order:
//! - `meter`: measures how long the broker takes to confirm a report
//! - `placements`: asks for placements at a steady rate
//! - `agents`: starts, counts and stops the agents
//! - `summary`: the result

mod agents;
mod meter;
mod placements;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agents::{AT_ONCE, Swarm, Totals};
use clap::Args;
use futures_util::future::OptionFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use novella_compute_agent::{Agent, AgentConfig};
use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{Transport, TransportUrl};
use novella_service::config::{Sources, load};
use novella_service::exit::Failure;
use novella_service::shutdown::Shutdown;
use novella_service::{Env, Random};
use placements::{Answers, Asker};
use summary::{SwarmFormat, SwarmSummary};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::connect::{Bus, connected, rabbit_options, transport_url};
use crate::exit_codes::{OK, PARTIAL, USAGE};
use crate::latencies::Latencies;
use crate::output::Console;
use crate::settings::CliSettings;
use crate::units;

/// How many agents may share a connection. RabbitMQ gives it 2047 channels, and some of them are for publishing.
const AGENTS_PER_CONNECTION: u32 = 2000;
/// The time between rate lines in a terminal, where each replaces the one before.
const LIVE: Duration = Duration::from_secs(1);
/// The time between rate lines in a log, where all of them are kept.
const LOGGED: Duration = Duration::from_secs(5);

/// Arguments of `swarm`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  novella swarm --hosts 1000 --interval 10s
  novella swarm --hosts 10000 --interval 30s --connections 16 --for 5m -f json
  novella swarm --hosts 100 --agent-config numa.toml    hosts with NUMA nodes, PCI devices, ...
  novella swarm --hosts 500 --connections 500           a connection for each agent, as real hosts have
  novella swarm --hosts 0 --placements 20 --for 30s     only placements, for a fleet that already runs")]
pub struct SwarmArgs {
    /// Number of agents
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    pub hosts: u32,
    /// Time between the reports of one agent
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub interval: Duration,
    /// Number of connections that the agents share
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub connections: u32,
    /// Ask for this many placements per second meanwhile, on a separate connection; nothing is held
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub placements: Option<u32>,
    /// End after this time, counted from when all agents run; without it, run until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = units::parse_duration)]
    pub duration: Option<Duration>,
    /// Settings of each agent, in the form of config/compute-agent.toml; [driver.fake] describes the simulated hosts
    #[arg(long, value_name = "FILE")]
    pub agent_config: Option<PathBuf>,
    /// Beginning of the host names
    #[arg(long, value_name = "TEXT", default_value = "swarm-")]
    pub name_prefix: String,
    /// Output format of the summary
    #[arg(short = 'f', long, short_alias = 'o', value_enum, default_value_t)]
    pub format: SwarmFormat,
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
            format!("one connection has channels for at most {AGENTS_PER_CONNECTION} agents"),
        )
        .next(format!("use --connections {enough} or more"))
        .into());
    }
    let files = args.agent_config.iter().cloned().collect();
    let agent_config = load::<AgentConfig>(&Sources { files, ..Sources::default() })?.config;
    let connections = if args.hosts == 0 { Vec::new() } else { connect(args, settings, &env).await? };
    let mut asker = match args.placements {
        Some(rate) => Some(asker(rate, settings, &env).await?),
        None => None,
    };
    console.note(&format!("starting {} agents over {} connections", args.hosts, args.connections));
    let swarm = Swarm {
        hosts: args.hosts,
        name_prefix: args.name_prefix.clone(),
        agent_config: with_swarm_settings(agent_config, args, settings),
        env,
        connections,
        confirms: Arc::new(Latencies::default()),
    };
    let answers = asker.as_ref().map(Asker::answers);
    let began = Instant::now();
    let (agents, failed) = swarm.start(shutdown).await;
    let start_s = began.elapsed().as_secs_f64();
    let complete = agents.len() == args.hosts as usize;
    if complete {
        console.note(&format!("all {} agents hold their queues after {start_s:.1} s", agents.len()));
    } else if !shutdown.is_requested() {
        let missing = args.hosts as usize - agents.len();
        console.note(&format!("{missing} of {} agents did not start", args.hosts));
    }
    let measured = Instant::now();
    let before = Totals::of(&agents);
    if failed.is_none() {
        let watching = watch(&swarm, &agents, answers.as_deref(), args.duration, shutdown, console);
        match &mut asker {
            Some(asker) => asker.during(watching).await,
            None => watching.await,
        }
    }
    let (totals, measured) = (Totals::of(&agents).since(before), measured.elapsed());
    if let Some(asker) = asker {
        asker.finish().await;
    }
    let seconds = measured.as_secs_f64();
    let summary = SwarmSummary {
        agents: agents.len() as u32,
        connections: args.connections,
        start_s,
        seconds,
        reports: totals.reports,
        reports_per_s: totals.reports as f64 / seconds.max(0.001),
        failures: totals.failures,
        replaced: totals.replaced,
        confirm_p50_ms: swarm.confirms.quantile_ms(0.5),
        confirm_p99_ms: swarm.confirms.quantile_ms(0.99),
        confirm_max_ms: swarm.confirms.max_ms(),
        placements: answers.map(|answers| answers.summary()),
    };
    swarm.stop(agents).await;
    match failed {
        Some(failure) => Err(failure.into()),
        None => {
            summary::write(&summary, args.format, console)?;
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

/// Opens one connection and waits until it is up.
async fn open(
    url: &TransportUrl,
    name: String,
    settings: &CliSettings,
    env: &Env,
) -> anyhow::Result<Arc<RabbitTransport>> {
    let connection = RabbitTransport::start(rabbit_options(url, name, env)?);
    connected(connection.state(), url, settings.timeout).await?;
    Ok(connection)
}

/// A client that asks for placements, on a connection of its own.
async fn asker(per_second: u32, settings: &CliSettings, env: &Env) -> anyhow::Result<Asker> {
    let transport = open(&transport_url(settings)?, "novella placements".to_owned(), settings, env).await?;
    let random = Random::from_seed(env.random.fork("placements"));
    Ok(Asker::new(Bus::new(transport, settings, env), per_second, random))
}

/// The settings of each agent: those of the operator, changed by the options of the swarm.
fn with_swarm_settings(mut config: AgentConfig, args: &SwarmArgs, settings: &CliSettings) -> AgentConfig {
    config.report.periodic_interval = args.interval;
    config.report.host_state_interval = args.interval;
    // Agents that start together must not all report at the same moment.
    config.report.periodic_fuzzy_delay = args.interval;
    config.rpc.control_exchange = settings.control_exchange.clone();
    config.rpc.compute_topic = settings.compute_topic.clone();
    config
}

/// Shows the rates until the time is up or `shutdown` is requested.
async fn watch(
    swarm: &Swarm,
    agents: &[Agent],
    answers: Option<&Answers>,
    duration: Option<Duration>,
    shutdown: &Shutdown,
    console: &mut Console<'_>,
) {
    let bar = spinner();
    let every = if bar.is_hidden() { LOGGED } else { LIVE };
    let mut tick = tokio::time::interval_at(Instant::now() + every, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = duration.map(|duration| Instant::now() + duration);
    let mut last = (Instant::now(), Totals::of(agents));
    loop {
        tokio::select! { biased;
            () = shutdown.requested() => break,
            Some(()) = OptionFuture::from(end.map(sleep_until)) => break,
            _ = tick.tick() => {
                let now = (Instant::now(), Totals::of(agents));
                let reports_per_s =
                    now.1.since(last.1).reports as f64 / (now.0 - last.0).as_secs_f64().max(0.001);
                let line = rates(swarm, agents.len(), answers, reports_per_s, now.1.failures);
                last = now;
                if bar.is_hidden() { console.note(&line) } else { bar.set_message(line) }
            }
        }
    }
    bar.finish_and_clear();
}

fn rates(
    swarm: &Swarm,
    agents: usize,
    answers: Option<&Answers>,
    reports_per_s: f64,
    failures: u64,
) -> String {
    let placements = answers.map_or_else(String::new, |answers| {
        let [p50, p99] = [0.5, 0.99].map(|share| units::latency(answers.quantile(share)));
        format!("  placements p50 {p50} p99 {p99}")
    });
    let [p50, p99] = [0.5, 0.99].map(|share| units::latency(swarm.confirms.quantile(share)));
    format!(
        "{agents} agents  {}/{} connections  {reports_per_s:.1} reports/s  {failures} failures  confirm p50 {p50} p99 \
         {p99}{placements}",
        swarm.connected(),
        swarm.connections.len(),
    )
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is right");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}
