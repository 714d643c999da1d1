//! The operator's command line: novella.
//!
//! Always holds: data goes to standard output and talk to standard error; exit codes are those of [`exit_codes`]; a
//! reader that closes the pipe is a success; colour and redrawing only in a terminal.
//!
//! The commands are thin: they ask a scheduler over RPC and show the answer. `demo` and `swarm` embed the daemons'
//! own code instead, on a bus in this process and against a real broker; `evaluate`, and `capacity` on a file, ask
//! the engine itself.

mod args;
mod commands;
mod connect;
mod demo;
pub mod exit_codes;
mod histogram;
mod output;
mod settings;
mod swarm;
mod units;
mod usage;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use novella_service::config::load;
use novella_service::logging::{self, LogOptions};
use novella_service::shutdown::Shutdown;
use novella_service::{Env, exit};

use args::{Cli, Command, Compute};
use commands::{
    capacity, completion, evaluate, explain, host, ping, place, policy, release, scheduler, service, snapshot,
};
use connect::Bus;
use output::{Console, Style};
use settings::CliSettings;

/// Runs the command line to its end.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => exit::finish(execute(cli).await),
        Err(error) => usage::report(&error, &args),
    }
}

async fn execute(cli: Cli) -> anyhow::Result<u8> {
    // Without -v this program's errors are its only talk; with it, its parts speak as the daemons' do.
    if cli.common.verbose > 0 {
        logging::init(LogOptions { verbose: cli.common.verbose - 1, ..cli.common.log_options() })?;
    }
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console { out: &mut out, err: &mut err, style: Style::of_stdout() };
    let env = Env::system(None)?;
    let shutdown = Shutdown::new();
    match &cli.command {
        Command::Completion(args) => return completion::run(args, console.out),
        Command::Evaluate(args) => return evaluate::run(args, &mut console),
        Command::Capacity(args) => {
            if let Some(file) = &args.hosts {
                return capacity::run_on_file(file, args, &env, &mut console);
            }
        }
        Command::ExitCodes => {
            write!(console.out, "{}", exit_codes::text())?;
            return Ok(exit_codes::OK);
        }
        Command::Policy(policy::Command::Check(args)) => return policy::check(args, &mut console),
        Command::Demo(args) => {
            shutdown.on_signals()?;
            return demo::run(args, env, &shutdown, &mut console).await;
        }
        _ => {}
    }
    let loaded = load::<CliSettings>(&cli.sources())?;
    loaded.warnings.iter().for_each(|warning| console.note(&format!("warning: {warning}")));
    if let Command::Swarm(args) = &cli.command {
        shutdown.on_signals()?;
        return swarm::run(args, &loaded.config, env, &shutdown, &mut console).await;
    }
    let bus = Bus::connect(&loaded.config, &env).await?;
    let result = ask(&cli.command, &bus, &env, &shutdown, &mut console).await;
    bus.close().await;
    result
}

/// The commands that ask somebody on the bus.
async fn ask(
    command: &Command,
    bus: &Bus,
    env: &Env,
    shutdown: &Shutdown,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let (api, options) = (bus.scheduler(), bus.options());
    match command {
        Command::Host(host::Command::List(args)) => {
            if args.watch.is_some() {
                shutdown.on_signals()?;
            }
            host::list(&api, options, args, env, shutdown, console).await
        }
        Command::Host(host::Command::Show(args)) => host::show(&api, options, args, console).await,
        Command::Place(args) => place::run(&api, options, args, env, console).await,
        Command::Release(args) => release::run(&api, options, args, console).await,
        Command::Service(service::Command::List(args))
        | Command::Compute(Compute::Service(service::Command::List(args))) => {
            service::list(&api, options, args, console).await
        }
        Command::Scheduler(scheduler::Command::Status(args)) => {
            scheduler::status(&api, options, args, console).await
        }
        Command::Capacity(args) => capacity::run(&api, options, args, env, console).await,
        Command::Explain(args) | Command::Decision(explain::DecisionCommand::Show(args)) => {
            explain::run(&api, options, args, env, console).await
        }
        Command::Policy(policy::Command::Show(args)) => policy::show(&api, options, args, console).await,
        Command::Policy(policy::Command::Diff(args)) => policy::diff(&api, options, args, console).await,
        Command::Policy(policy::Command::Reload(args)) => policy::reload(&api, options, args, console).await,
        Command::Policy(policy::Command::Check(_)) => {
            unreachable!("execute has run the commands that need no connection")
        }
        Command::Snapshot(args) => snapshot::run(&api, options, args, console).await,
        Command::Ping(args) => ping::run(bus.client(), bus.names(), options, args, console).await,
        Command::Demo(_)
        | Command::Swarm(_)
        | Command::Completion(_)
        | Command::Evaluate(_)
        | Command::ExitCodes => {
            unreachable!("execute has run the commands that need no connection")
        }
    }
}
