//! The `scheduler` executable: arguments, configuration, start, wait, drain, exit code.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use novella_scheduler::{SchedulerConfig, start};
use novella_service::args::CommonArgs;
use novella_service::config::{ConfigCommand, Loaded, load};
use novella_service::exit::{self, Failure};
use novella_service::shutdown::Shutdown;
use novella_service::{Env, logging, systemd};

/// How long work in flight may take after a request to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long `health` waits for its own daemon.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps the map of hosts and places instances from it.
#[derive(Parser)]
#[command(name = "scheduler", version, about, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// Name of this scheduler (default: this machine's host name)
    #[arg(long, value_name = "NAME", global = true)]
    name: Option<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Check or explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask the running scheduler on this machine whether it is ready; exit code 0 if so, else 1
    Health,
}

const EXAMPLES: &str = "\
Examples:
  scheduler --transport-url rabbit://scheduler:PW@mq1/     run with defaults
  scheduler --config /etc/novella/scheduler.toml           run with a file
  scheduler --config scheduler.toml config check           say what is wrong with it
  scheduler config explain reports                         every setting, its value and origin

Exit codes: 0 stopped in order, 1 refused, 2 usage or configuration, 255 internal";

fn main() -> ExitCode {
    exit::finish(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<u8> {
    let sources = args.common.sources().set("name", "--name", args.name.as_ref());
    if let Some(Command::Config(command)) = &args.command {
        let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
        return Ok(command.run::<SchedulerConfig>(&sources, &mut out, &mut err)?);
    }
    let loaded = load::<SchedulerConfig>(&sources)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")?;
    runtime.block_on(async {
        match args.command {
            Some(Command::Health) => ask_health(&loaded.config).await,
            Some(Command::Config(_)) => unreachable!("handled before the configuration was loaded"),
            None => {
                logging::init(args.common.log_options())?;
                serve(loaded).await
            }
        }
    })
}

fn listen_address(config: &SchedulerConfig) -> Option<SocketAddr> {
    (!config.http.listen.is_empty())
        .then(|| config.http.listen.parse().expect("the configuration was checked for an address"))
}

async fn ask_health(config: &SchedulerConfig) -> anyhow::Result<u8> {
    let address = listen_address(config).ok_or_else(|| {
        Failure::new(exit::USAGE, "http.listen is empty, so there is nobody to ask").next("set http.listen")
    })?;
    Ok(novella_service::health::run_probe(address, "/readyz", HEALTH_TIMEOUT, &mut std::io::stdout()).await?)
}

async fn serve(loaded: Loaded<SchedulerConfig>) -> anyhow::Result<u8> {
    let config = loaded.config;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot watch for signals")?;
    let env = Env::system(None)?;
    let name = if config.name.is_empty() { novella_service::host_name() } else { config.name.clone() };
    let http = match listen_address(&config) {
        Some(address) => Some(novella_service::health::bind(address).await?),
        None => None,
    };
    let connection = format!("scheduler.{name}");
    let transport =
        novella_messaging::connect(&config.transport_url, connection, env.random.fork("transport"))
            .map_err(|error| Failure::new(exit::USAGE, "transport_url cannot be used").because(error))?;

    let scheduler = start(config, name, env.clone(), transport).await?;
    let health = scheduler.health().clone();
    if let Some(listener) = http {
        let router = health.router(env.metrics.clone());
        tokio::spawn(novella_service::health::serve(listener, router, shutdown.token()));
    }
    let companion = tokio::spawn(systemd::accompany(health, shutdown.clone()));
    shutdown.requested().await;
    let verdict = shutdown.drain(GRACE, scheduler.stop(GRACE)).await;
    companion.await.context("the systemd companion panicked")?;
    Ok(verdict.code())
}
