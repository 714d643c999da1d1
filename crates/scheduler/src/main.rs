//! The `scheduler` executable: arguments, configuration, start, wait, drain, exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use novella_rpcapi::{OwnPolicy, SchedulerEndpoint};
use novella_scheduler::{PolicySource, SchedulerConfig, SchedulerManager, StartError, start};
use novella_service::args::{self, CommonArgs};
use novella_service::config::{ConfigCommand, Loaded, load};
use novella_service::exit::{self, Failure};
use novella_service::shutdown::{self, Shutdown};
use novella_service::{Env, health, logging, systemd};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long work in flight may take after a request to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Keep a map of all hosts, and place instances on them.
#[derive(Parser)]
#[command(name = "scheduler", version, about, after_help = exit::daemon_help(EXAMPLES))]
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
    /// Check whether the scheduler on this machine is ready; exit code 0 if so, else 1
    Health,
}

const EXAMPLES: &str = "\
Examples:
  scheduler --transport-url rabbit://scheduler:PW@mq1/     run with defaults
  scheduler --config /etc/novella/scheduler.toml           run with a file
  scheduler --config scheduler.toml config check           list the errors in the file
  scheduler config explain reports                         every setting, its value and origin";

fn main() -> ExitCode {
    exit::finish(run(args::parse()))
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
    shutdown::run(runtime, async {
        match args.command {
            Some(Command::Health) => Ok(health::ask(&loaded.config.http.listen).await?),
            Some(Command::Config(_)) => unreachable!("handled before the configuration was loaded"),
            None => {
                logging::init(args.common.log_options())?;
                serve(loaded).await
            }
        }
    })
}

/// Reads the policy again at each SIGHUP. The log says what that changed, or why the policy is refused.
async fn reload_on_hangup(manager: Arc<SchedulerManager>, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        if let Err(error) = manager.own_policy(OwnPolicy { reload: true }).await {
            tracing::error!(error = exit::chain(&error), "cannot reload the policy");
        }
    }
}

async fn serve(loaded: Loaded<SchedulerConfig>) -> anyhow::Result<u8> {
    let config = loaded.config;
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot watch for signals")?;
    // The handler is installed before anything can wait, because an unhandled SIGHUP ends the process.
    let hangups = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    config.authority.lists().warn_of_unset();
    let env = Env::system(None)?;
    let name = if config.name.is_empty() { novella_service::host_name() } else { config.name.clone() };
    let connection = format!("scheduler.{name}");
    let transport =
        novella_messaging::connect(&config.transport_url, connection, env.random.fork("transport"), true)
            .map_err(|error| Failure::new(exit::USAGE, "transport_url cannot be used").because(error))?;

    let policy = PolicySource::of(&config).name();
    let listen = config.http.listen.clone();
    let started = async {
        let http = health::bind_to(&listen).await?;
        Ok::<_, anyhow::Error>((http, start(config, name, env.clone(), transport).await))
    };
    // A policy file on a dead disk, or a name server, may not answer.
    let (http, started) = tokio::select! { biased;
        () = shutdown.requested() => return Ok(exit::OK),
        started = started => started?,
    };
    let scheduler = match started {
        Err(StartError::Policy(bad)) => {
            return Err(Failure::new(exit::USAGE, format!("{policy}: {bad}"))
                .next("correct it; `novella policy check FILE` checks a file without a scheduler")
                .into());
        }
        started => started?,
    };
    tokio::spawn(reload_on_hangup(scheduler.manager().clone(), hangups));
    let state = scheduler.health().clone();
    if let Some(listener) = http {
        let router = state.router(env.metrics.clone());
        tokio::spawn(health::serve(listener, router, shutdown.token()));
    }
    let companion = tokio::spawn(systemd::accompany(state, shutdown.clone()));
    shutdown.requested().await;
    let verdict = shutdown.drain(GRACE, scheduler.stop(GRACE)).await;
    companion.await.context("the systemd companion panicked")?;
    Ok(verdict.code())
}
