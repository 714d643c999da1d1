//! The `compute-agent` executable: arguments, configuration, start, wait, drain, exit code.

use std::fs::File;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use novella_compute_agent::{
    AgentConfig, ComputeManager, IdentityError, StartError, overrides, probe, start,
};
use novella_service::args::{self, CommonArgs};
use novella_service::config::{ConfigCommand, Invalid, Loaded, OutputFormat, Sources, load};
use novella_service::exit::{self, Failure};
use novella_service::shutdown::{self, Shutdown};
use novella_service::{Env, health, logging, systemd};
use novella_virt::{ComputeDriver, DriverOptions, HostStats, LinuxDriver, Recording, Registry};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long work in flight may take after a request to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Report this host to the schedulers, and answer their questions about it.
#[derive(Parser)]
#[command(name = "compute-agent", version, about, after_help = exit::daemon_help(EXAMPLES))]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,

    /// Host name to report under (default: this machine's)
    #[arg(long, value_name = "NAME", global = true)]
    host: Option<String>,

    /// Directory of the identity file
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,

    /// Compute driver: linux or fake
    #[arg(long, value_name = "NAME", global = true)]
    driver: Option<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the detected values of this host, each with its source, and exit
    Probe(ProbeArgs),
    /// Check or explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check whether the agent on this machine is ready; exit code 0 if so, else 1
    Health,
}

#[derive(Args)]
struct ProbeArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    format: OutputFormat,

    /// Read a recorded host from this directory instead of this machine
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    root: Option<PathBuf>,

    /// Also write the files that were read to this archive, without names and serial numbers
    #[arg(long, value_name = "FILE.tar.gz")]
    record: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  compute-agent probe                                      what would be reported
  compute-agent probe --record host.tar.gz                 the same, with an archive for a bug report
  compute-agent --transport-url rabbit://agent:PW@mq1/     run with defaults
  compute-agent --config /etc/novella/compute-agent.toml   run with a file
  compute-agent config explain report                      every setting, its value and origin";

fn main() -> ExitCode {
    exit::finish(run(args::parse()))
}

fn run(args: Cli) -> anyhow::Result<u8> {
    let sources = args
        .common
        .sources()
        .set("host", "--host", args.host.as_ref())
        .set("state_dir", "--state-dir", args.state_dir.as_ref().map(|dir| dir.display()))
        .set("driver.name", "--driver", args.driver.as_ref());
    if let Some(Command::Config(command)) = &args.command {
        let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
        return Ok(command.run::<AgentConfig>(&sources, &mut out, &mut err)?);
    }
    let loaded = load::<AgentConfig>(&sources)?;
    // One thread is enough, because an agent waits nearly all of the time, and each further thread costs memory on every
    // host.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
    shutdown::run(runtime, async {
        match args.command {
            Some(Command::Probe(probe)) => print_probe(&loaded, &probe).await,
            Some(Command::Health) => Ok(health::ask(&loaded.config.http.listen).await?),
            Some(Command::Config(_)) => unreachable!("handled before the configuration was loaded"),
            None => {
                logging::init(args.common.log_options())?;
                serve(loaded, sources).await
            }
        }
    })
}

fn host_name(config: &AgentConfig) -> String {
    if config.host.is_empty() { novella_service::host_name() } else { config.host.clone() }
}

/// The address to report, and its source: the configured one, or else the local address of the default route. The kernel
/// looks the route up without sending a packet. The destinations are reserved for documentation.
fn my_ip(config: &AgentConfig) -> (Option<String>, &'static str) {
    let local = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    if !config.my_ip.is_empty() {
        return (Some(config.my_ip.clone()), "my_ip in the configuration");
    }
    match local("0.0.0.0:0", "192.0.2.1:9").or_else(|| local("[::]:0", "[2001:db8::1]:9")) {
        Some(address) => (Some(address), "local address of the default route"),
        None => (None, "there is no default route"),
    }
}

/// What the drivers are made from.
fn driver_options(config: &AgentConfig, host: &str, env: &Env) -> DriverOptions {
    DriverOptions {
        probe_deadline: config.report.probe_timeout,
        disk_path: config.driver.disk_path.clone(),
        pci_devices: !config.pci.device_spec.is_empty(),
        cpu_stats: !config.compute_monitors.is_empty(),
        fake: Arc::new(config.driver.fake.sized()),
        ..DriverOptions::new(host, env.blocking.as_executor())
    }
}

fn driver(config: &AgentConfig, options: &DriverOptions) -> anyhow::Result<Arc<dyn ComputeDriver>> {
    Registry::default()
        .create(&config.driver.name, options)
        .map_err(|error| Failure::new(exit::USAGE, "cannot create the compute driver").because(error).into())
}

async fn print_probe(loaded: &Loaded<AgentConfig>, args: &ProbeArgs) -> anyhow::Result<u8> {
    let config = &loaded.config;
    let env = Env::system(None)?;
    if (args.root.is_some() || args.record.is_some()) && config.driver.name != LinuxDriver::NAME {
        let what = format!("the driver {} reads no files, so none can be recorded", config.driver.name);
        return Err(Failure::new(exit::USAGE, what).next("use --driver linux").into());
    }
    let recording = args.record.as_ref().map(|_| Arc::new(Recording::default()));
    let mut options = DriverOptions {
        pci_devices: true,
        cpu_stats: true,
        recording: recording.clone(),
        ..driver_options(config, &host_name(config), &env)
    };
    if let Some(root) = &args.root {
        if !root.join("proc").is_dir() {
            let what = format!("{} has no directory proc, so it is not a recorded host", root.display());
            return Err(Failure::new(exit::USAGE, what)
                .next("unpack an archive of `compute-agent probe --record` and give that directory")
                .into());
        }
        options.disk_path.clone_from(root);
        options.root.clone_from(root);
    }
    let read = driver(config, &options)?.get_host_stats(true).await;
    // The archive is written even if the host cannot be read, because it shows why.
    if let (Some(recording), Some(file)) = (&recording, &args.record) {
        write_recording(recording, file)?;
    }
    let mut stats = read?;
    for (key, value) in &config.driver.overrides {
        overrides::apply(&mut stats, key, value)?;
    }
    let address = match &args.root {
        Some(_) => (None, "not recorded"),
        None => my_ip(config),
    };
    print_stats(loaded, args.format, &stats, address)
}

fn write_recording(recording: &Recording, file: &Path) -> anyhow::Result<()> {
    let written = File::create(file).and_then(|out| recording.write_tar_gz(out));
    written.map_err(|error| {
        Failure::new(exit::INTERNAL, format!("cannot write the recording to {}", file.display()))
            .because(error)
            .next("choose a file in a directory that you may write to")
            .into()
    })
}

fn print_stats(
    loaded: &Loaded<AgentConfig>,
    format: OutputFormat,
    stats: &HostStats,
    address: (Option<String>, &str),
) -> anyhow::Result<u8> {
    let offer = loaded.config.offer().map_err(|problems| loaded.locate(Invalid { problems }))?;
    let rows = probe::rows(stats, &offer, address);
    let mut out = std::io::stdout().lock();
    match format {
        OutputFormat::Table => probe::table(&rows, &mut out)?,
        OutputFormat::Json => writeln!(out, "{:#}", probe::object(&rows))?,
    }
    let mut err = std::io::stderr().lock();
    for stale in &stats.stale {
        writeln!(err, "warning: the probe {} returned no value: {}", stale.probe, stale.reason)?;
    }
    stats.warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"))?;
    match offer.problems(stats) {
        problems if problems.is_empty() => Ok(exit::OK),
        problems => Err(loaded.locate(Invalid { problems }).into()),
    }
}

/// Reads the settings again at each SIGHUP. The log says which are now in force, and which need a restart.
async fn reload_on_hangup(manager: Arc<ComputeManager>, sources: Sources, env: Env, mut hangups: Signal) {
    const KEPT: &str = "the new settings are refused; the previous ones stay in force";
    while hangups.recv().await.is_some() {
        let sources = sources.clone();
        let loaded = match env.blocking.run(move || load::<AgentConfig>(&sources)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(invalid)) => {
                tracing::error!(error = exit::chain(&invalid), "{KEPT}");
                continue;
            }
            Err(panicked) => {
                tracing::error!(error = exit::chain(&panicked), "{KEPT}");
                continue;
            }
        };
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        match manager.reload(&loaded.config).await {
            Err(invalid) => tracing::error!(error = exit::chain(&loaded.locate(invalid)), "{KEPT}"),
            Ok(reload) => {
                match reload.applied.is_empty() {
                    true => {
                        tracing::info!("settings read again; none that can change at run time has changed")
                    }
                    false => tracing::info!(keys = reload.applied.join(", "), "new settings are in force"),
                }
                if !reload.after_restart.is_empty() {
                    let keys = reload.after_restart.join(", ");
                    tracing::warn!(
                        keys,
                        "these settings take effect only at the next start: restart the agent"
                    );
                }
            }
        }
    }
}

/// Keeps looking for the address of this machine, because the network may come up after the agent.
async fn follow_address(manager: Arc<ComputeManager>, config: AgentConfig) {
    let mut told = false;
    loop {
        match my_ip(&config) {
            (Some(address), source) => {
                if manager.set_host_ip(&address) {
                    tracing::info!(address, source, "reporting this address for the host");
                }
            }
            (None, why) if !told => {
                told = true;
                tracing::warn!(
                    why,
                    "this machine has no address yet; until it has one, or my_ip is set, reports carry no address"
                );
            }
            (None, _) => {}
        }
        tokio::time::sleep(config.report.periodic_interval).await;
    }
}

/// An error at the start, with its place in the settings or with the next step.
fn refused(error: StartError, loaded: &Loaded<AgentConfig>) -> anyhow::Error {
    match error {
        StartError::Offer(invalid) => StartError::Offer(loaded.locate(invalid)).into(),
        StartError::Identity(malformed @ IdentityError::Malformed { .. }) => Failure::new(
            exit::USAGE,
            "cannot load this host's identity",
        )
        .because(malformed)
        .next("restore the file from a backup, or remove it; the schedulers will then treat this host as a new one")
        .into(),
        StartError::Claims(error) => {
            let next = error.next_step();
            Failure::new(exit::USAGE, "cannot load the claims of this host").because(error).next(next).into()
        }
        name @ StartError::HostName { .. } => {
            Failure::new(exit::USAGE, "the host name cannot be used")
                .because(name)
                .next("set another name with --host or with `host` in the settings")
                .into()
        }
        other => other.into(),
    }
}

async fn serve(loaded: Loaded<AgentConfig>, sources: Sources) -> anyhow::Result<u8> {
    let config = loaded.config.clone();
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot watch for signals")?;
    // The handler is installed before anything can wait, because an unhandled SIGHUP ends the process.
    let hangups = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    config.rpc.authority().warn_of_unset();
    let env = Env::system(Some(&config.state_dir))?;
    let store = env.store.clone();
    // On another thread, because the disk of the state directory may hang.
    let _lock = tokio::select! { biased;
        () = shutdown.requested() => return Ok(exit::OK),
        lock = env.blocking.run(move || store.lock()) => lock??,
    };
    let host = host_name(&config);
    if host.is_empty() {
        return Err(Failure::new(exit::USAGE, "this machine has no name")
            .next("give one with --host")
            .into());
    }
    let http = tokio::select! { biased;
        () = shutdown.requested() => return Ok(exit::OK),
        http = health::bind_to(&config.http.listen) => http?,
    };
    let driver = driver(&config, &driver_options(&config, &host, &env))?;
    let name = format!("compute-agent.{host}");
    // The schedulers declare the exchanges.
    let transport =
        novella_messaging::connect(&config.transport_url, name, env.random.fork("transport"), false)
            .map_err(|error| Failure::new(exit::USAGE, "transport_url cannot be used").because(error))?;

    let agent = tokio::select! { biased;
        () = shutdown.requested() => return Ok(exit::OK),
        agent = start(config.clone(), host, env.clone(), driver, transport) => {
            agent.map_err(|error| refused(error, &loaded))?
        }
    };
    tokio::spawn(reload_on_hangup(agent.manager().clone(), sources, env.clone(), hangups));
    if config.my_ip.is_empty() {
        tokio::spawn(follow_address(agent.manager().clone(), config));
    }
    let state = agent.health().clone();
    let http = http.map(|listener| {
        let router = state.router(env.metrics.clone());
        tokio::spawn(health::serve(listener, router, shutdown.token()))
    });
    let companion = tokio::spawn(systemd::accompany(state, shutdown.clone()));
    shutdown.requested().await;
    let verdict = shutdown.drain(GRACE, agent.stop(GRACE)).await;
    companion.await.context("the systemd companion panicked")?;
    if let Some(http) = http {
        // A client that keeps its connection open must not keep the agent running.
        http.abort();
    }
    Ok(verdict.code())
}
