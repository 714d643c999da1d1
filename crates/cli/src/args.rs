//! The command line as a whole. The arguments of each command are defined in the file of this command.

use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use novella_service::args::{CommonArgs, with_short_help};
use novella_service::config::{ConfigCommand, Sources};

use crate::commands::{
    aggregate, capacity, completion, evaluate, explain, flavor, group, host, ping, place, policy, release,
    scheduler, server, service, snapshot, zone,
};
use crate::{demo, exit_codes, swarm, units};

/// Show the hosts of a novella fleet, and choose hosts for new instances.
#[derive(Debug, Parser)]
#[command(
    name = "novella",
    version,
    max_term_width = 110,
    propagate_version = true,
    subcommand_required = true,
    after_help = exit_codes::text(),
    after_long_help = format!("{}\n{EXAMPLES}", exit_codes::text()),
)]
pub struct Cli {
    #[command(flatten)]
    pub common: CommonArgs,

    /// How long one request may take, including the time to connect [default: 10s]
    #[arg(long, global = true, value_name = "TIME", value_parser = units::parse_duration, help_heading = "Common options")]
    pub timeout: Option<Duration>,

    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  novella demo --for 20s                        a whole fleet in this process, no broker needed
  novella host list                             all hosts and what they have left
  novella place --vcpus 2 --ram 4G --explain    where it would go, and why
  novella service list --transport-url rabbit://USER@mq.example/";

/// The examples of all commands of `config`, which the daemons have too.
const CONFIG_EXAMPLES: &str = "\
Examples:
  novella config check
  novella config check --config novella.toml -f json
  novella config explain
  novella config explain timeout
  novella config example";

impl Cli {
    /// The command line with its help. Shell completion is generated without this, because the help leaves out the
    /// common options of each command.
    pub fn with_help() -> clap::Command {
        with_short_help(Self::command())
    }

    /// Reads a command line.
    pub fn read(args: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::with_help().try_get_matches_from(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::with_help()))
    }

    /// The sources of the settings: files, environment and options.
    pub fn sources(&self) -> Sources {
        self.common.sources().set("timeout", "--timeout", self.timeout.map(humantime::format_duration))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the hosts and what is left on them
    #[command(subcommand, visible_alias = "hypervisor", alias = "hosts")]
    Host(host::HostCommand),
    /// List the availability zones and what is used in them
    #[command(subcommand, alias = "zones")]
    Zone(zone::ZoneCommand),
    /// Place instances: choose hosts and hold the room on them
    Place(place::PlaceArgs),
    /// Release the room held by a placement
    Release(release::ReleaseArgs),
    /// Create, list and delete instances, which hosts build
    #[command(subcommand, aliases = ["servers", "instance", "instances"])]
    Server(server::ServerCommand),
    /// List the services that report
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// The same as `service list`, in the spelling of other tools: `compute service list`
    #[command(subcommand, hide = true)]
    Compute(ComputeCommand),
    /// List the schedulers, and show the status of one
    #[command(subcommand, alias = "schedulers")]
    Scheduler(scheduler::SchedulerCommand),
    /// Check, show, compare and reload the schedulers' policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show the flavors of the policy
    #[command(subcommand, alias = "flavors")]
    Flavor(flavor::FlavorCommand),
    /// Show the aggregates of the policy and the hosts in them
    #[command(subcommand, alias = "aggregates")]
    Aggregate(aggregate::AggregateCommand),
    /// Show the server groups and their members
    #[command(subcommand, alias = "groups")]
    Group(group::GroupCommand),
    /// Count how many more instances fit, and show what runs out first
    Capacity(capacity::CapacityArgs),
    /// Explain a past decision, or try a request and explain the result
    Explain(explain::ExplainArgs),
    /// List the last decisions, or explain one
    #[command(subcommand, alias = "decisions")]
    Decision(explain::DecisionCommand),
    /// Export a scheduler's view of all hosts, for `novella evaluate`
    Snapshot(snapshot::SnapshotArgs),
    /// Place requests on a fleet from a file, without a scheduler
    Evaluate(evaluate::EvaluateArgs),
    /// Check that a scheduler, or the agent of a host, answers
    Ping(ping::PingArgs),
    /// Run a whole fleet in this process and watch it place instances
    Demo(demo::DemoArgs),
    /// Run thousands of agents with simulated hosts against a real broker
    Swarm(swarm::SwarmArgs),
    /// Check or explain the settings of this command line
    #[command(subcommand, after_help = CONFIG_EXAMPLES)]
    Config(ConfigCommand),
    /// Print the completion script for a shell
    Completion(completion::CompletionArgs),
    /// List the exit codes
    #[command(after_help = exit_codes::text())]
    ExitCodes,
}

/// The commands of `compute`.
#[derive(Debug, Subcommand)]
pub enum ComputeCommand {
    /// List the services that report
    #[command(subcommand)]
    Service(service::ServiceCommand),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        Cli::with_help().debug_assert();
    }

    #[test]
    fn help_of_every_command_has_its_own_options_and_one_line_on_the_others() {
        fn check(command: &mut clap::Command) {
            for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
                let rows = ["--config <FILE>", "--transport-url <URL>", "--timeout <TIME>"];
                let of_others = rows.iter().find(|row| help.contains(**row));
                assert_eq!(of_others, None, "{help}");
                let line = "Common options, which `novella --help` describes: --config, --transport-url, --log-format, --verbose, --timeout";
                assert!(help.contains(line), "{help}");
            }
            command.get_subcommands_mut().filter(|sub| sub.get_name() != "help").for_each(check);
        }
        let mut novella = Cli::with_help();
        novella.build();
        assert!(novella.render_help().to_string().contains("--transport-url <URL>"));
        novella.get_subcommands_mut().filter(|sub| sub.get_name() != "help").for_each(check);
    }

    #[test]
    fn every_command_has_examples_and_help() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no description");
            let has_children = command.get_subcommands().next().is_some();
            // The daemons have the commands of `config` too, so their examples stand above them.
            let shared = path.starts_with("novella config ");
            if (!has_children || path == "novella config") && !path.ends_with("exit-codes") && !shared {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with("Examples:\n  novella "), "{path} has no examples: {help:?}");
                parse_examples(&help);
            }
            command.get_subcommands().for_each(|c| check(c, &format!("{path} {}", c.get_name())));
        }
        fn parse_examples(help: &str) {
            for line in help.lines().filter(|line| line.starts_with("  novella ")) {
                // Two blanks end the command. Lines that need a shell are not parsed.
                let example = line.trim().split("  ").next().unwrap_or_default();
                if !example.contains(['|', '>', '$', '\'', '(']) {
                    Cli::try_parse_from(example.split_whitespace())
                        .unwrap_or_else(|error| panic!("example {example:?} is refused: {error}"));
                }
            }
        }
        check(&Cli::command(), "novella");
        parse_examples(EXAMPLES);
    }

    #[test]
    fn habits_of_other_tools_are_understood() {
        for line in [
            "novella host ls",
            "novella hypervisor list -o json",
            "novella host get cmp-1",
            "novella host describe cmp-1",
            "novella host list -c host -c state --sort-column ram:desc",
            "novella host list -w",
            "novella host list -w 5s --output jsonl",
            "novella compute service list",
            "novella host list --timeout 3s",
            "novella decision show s1-1-1",
            "novella servers ls",
            "novella instance list -f json",
            "novella server rm web-1",
            "novella flavors ls",
            "novella aggregates list",
            "novella zones list",
            "novella group get web",
            "novella place --vcpus 1 --ram 4Gi --disk 20GiB",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
