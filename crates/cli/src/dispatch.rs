//! Runs the command of the command line with what it needs: settings, console, connection.
//!
//! What always holds: a command that asks nobody on the bus runs without settings and without a broker.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use novella_service::Env;
use novella_service::config::load;
use novella_service::exit::{self, ErrorFormat};
use novella_service::logging::{self, LogOptions};
use novella_service::shutdown::Shutdown;

use crate::args::{Cli, Command, ComputeCommand};
use crate::commands::{
    aggregate, capacity, completion, decision_list, evaluate, explain, flavor, group, host, ping, place,
    policy, release, scheduler, server, service, snapshot, zone,
};
use crate::connect::Bus;
use crate::output::{Console, OutputStyle};
use crate::settings::CliSettings;
use crate::{demo, exit_codes, swarm, usage};

/// How long a swarm may take to stop.
const SWARM_STOP: Duration = Duration::from_secs(120);

/// Runs the command line to its end.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let errors = usage::error_format(&args);
    match Cli::read(&args) {
        Ok(cli) => ExitCode::from(exit::report(execute(cli, errors).await, errors, &mut io::stderr())),
        Err(error) => usage::report(&error, &args, errors),
    }
}

async fn execute(cli: Cli, messages: ErrorFormat) -> anyhow::Result<u8> {
    // Without -v, errors are the only messages. With it, the embedded parts log as the daemons do.
    if cli.common.verbose > 0 {
        logging::init(LogOptions { verbose: cli.common.verbose - 1, ..cli.common.log_options() })?;
    }
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console { out: &mut out, err: &mut err, style: OutputStyle::of_stdout(), messages };
    if let Command::Config(command) = &cli.command {
        return Ok(command.run::<CliSettings>(&cli.sources(), console.out, console.err)?);
    }
    let env = Env::system(None)?;
    let shutdown = Shutdown::new();
    if let Some(result) = run_locally(&cli.command, &env, &mut console) {
        return result;
    }
    if let Command::Demo(args) = &cli.command {
        shutdown.on_signals()?;
        return demo::run(args, env, &shutdown, &mut console).await;
    }
    let loaded = load::<CliSettings>(&cli.sources())?;
    loaded.warnings.iter().for_each(|warning| console.note(&format!("warning: {warning}")));
    if let Command::Swarm(args) = &cli.command {
        // Thousands of agents say goodbye, a few at a time.
        shutdown.on_signals_within(SWARM_STOP)?;
        return swarm::run(args, &loaded.config, env, &shutdown, &mut console).await;
    }
    let bus = Bus::connect(&loaded.config, &env).await?;
    if matches!(&cli.command, Command::Host(host::HostCommand::List(args)) if args.watch.is_some()) {
        shutdown.on_signals()?;
    }
    let result = ask(&cli.command, &bus, &env, &shutdown, &mut console).await;
    bus.close().await;
    result
}

/// Runs a command that needs neither settings nor a bus. Returns `None` for any other command.
pub fn run_locally(command: &Command, env: &Env, console: &mut Console<'_>) -> Option<anyhow::Result<u8>> {
    Some(match command {
        Command::Completion(args) => completion::run(args, &mut Cli::command(), console.out),
        Command::Evaluate(args) => evaluate::run(args, console),
        Command::Capacity(args) => capacity::run_on_file(args.hosts.as_ref()?, args, env, console),
        Command::ExitCodes => exit_codes::show(console.out),
        Command::Policy(policy::PolicyCommand::Check(args)) => policy::check(args, console),
        _ => return None,
    })
}

/// Runs a command that asks someone on the bus.
pub async fn ask(
    command: &Command,
    bus: &Bus,
    env: &Env,
    shutdown: &Shutdown,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    match command {
        Command::Host(host::HostCommand::List(args)) => host::list(bus, args, env, shutdown, console).await,
        Command::Host(host::HostCommand::Show(args)) => host::show::show(bus, args, console).await,
        Command::Host(host::HostCommand::Forget(args)) => host::forget::forget(bus, args, console).await,
        Command::Zone(zone::ZoneCommand::List(args)) => zone::list(bus, args, console).await,
        Command::Place(args) => place::run(bus, args, env, console).await,
        Command::Release(args) => release::run(bus, args, console).await,
        Command::Server(server::ServerCommand::Create(args)) => {
            server::create::run(bus, args, env, console).await
        }
        Command::Server(server::ServerCommand::List(args)) => server::list(bus, args, console).await,
        Command::Server(server::ServerCommand::Show(args)) => server::show(bus, args, console).await,
        Command::Server(server::ServerCommand::Delete(args)) => server::delete(bus, args, console).await,
        Command::Server(server::ServerCommand::Stop(args)) => server::stop(bus, args, console).await,
        Command::Server(server::ServerCommand::Start(args)) => server::start(bus, args, console).await,
        Command::Server(server::ServerCommand::Events(args)) => server::events(bus, args, console).await,
        Command::Service(service::ServiceCommand::List(args))
        | Command::Compute(ComputeCommand::Service(service::ServiceCommand::List(args))) => {
            service::list(bus, args, console).await
        }
        Command::Scheduler(scheduler::SchedulerCommand::List(args)) => {
            scheduler::list(bus, args, console).await
        }
        Command::Scheduler(scheduler::SchedulerCommand::Status(args)) => {
            scheduler::status(bus, args, console).await
        }
        Command::Capacity(args) => capacity::run(bus, args, env, console).await,
        Command::Decision(explain::DecisionCommand::List(args)) => {
            decision_list::list(bus, args, console).await
        }
        Command::Explain(args) => explain::run(bus, args, env, console).await,
        Command::Decision(explain::DecisionCommand::Show(args)) => {
            explain::run(bus, args, env, console).await
        }
        Command::Flavor(flavor::FlavorCommand::List(args)) => flavor::list(bus, args, console).await,
        Command::Flavor(flavor::FlavorCommand::Show(args)) => flavor::show(bus, args, console).await,
        Command::Aggregate(aggregate::AggregateCommand::List(args)) => {
            aggregate::list(bus, args, console).await
        }
        Command::Aggregate(aggregate::AggregateCommand::Show(args)) => {
            aggregate::show(bus, args, console).await
        }
        Command::Group(group::GroupCommand::List(args)) => group::list(bus, args, console).await,
        Command::Group(group::GroupCommand::Show(args)) => group::show(bus, args, console).await,
        Command::Policy(policy::PolicyCommand::Show(args)) => policy::show(bus, args, console).await,
        Command::Policy(policy::PolicyCommand::Diff(args)) => policy::diff(bus, args, console).await,
        Command::Policy(policy::PolicyCommand::Reload(args)) => policy::reload(bus, args, console).await,
        Command::Snapshot(args) => snapshot::run(bus, args, console).await,
        Command::Ping(args) => ping::run(bus, args, console).await,
        Command::Policy(policy::PolicyCommand::Check(_))
        | Command::Demo(_)
        | Command::Swarm(_)
        | Command::Completion(_)
        | Command::Config(_)
        | Command::Evaluate(_)
        | Command::ExitCodes => {
            unreachable!("this command needs no bus and has run before one was connected")
        }
    }
}
