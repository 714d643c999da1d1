//! The command line as a whole. Each command's own arguments stand beside the command.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use novella_service::args::CommonArgs;
use novella_service::config::Sources;

use crate::commands::{
    capacity, completion, evaluate, explain, host, ping, place, policy, release, scheduler, service, snapshot,
};
use crate::{demo, exit_codes, swarm, units};

/// Ask the schedulers of a novella fleet: which hosts there are, and where an instance would go.
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

    /// How long one request may take, connecting included [default: 10s]
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

impl Cli {
    /// Where the settings come from.
    pub fn sources(&self) -> Sources {
        self.common.sources().set("timeout", "--timeout", self.timeout.map(humantime::format_duration))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show hosts and what they have left
    #[command(subcommand, visible_alias = "hypervisor", alias = "hosts")]
    Host(host::Command),
    /// Ask where instances would go, and hold the room for them
    Place(place::PlaceArgs),
    /// Let go what a placement holds
    Release(release::ReleaseArgs),
    /// Show the services that report
    #[command(subcommand)]
    Service(service::Command),
    /// `compute service list`, as other tools spell it
    #[command(subcommand, hide = true)]
    Compute(Compute),
    /// Ask how a scheduler does
    #[command(subcommand)]
    Scheduler(scheduler::Command),
    /// Check, show and reload the policy that schedulers work by
    #[command(subcommand)]
    Policy(policy::Command),
    /// Count how many more instances fit, and what runs out first
    Capacity(capacity::CapacityArgs),
    /// Tell why a decision came about, or what a request would get and why
    Explain(explain::ExplainArgs),
    /// `explain`, as it was called before
    #[command(subcommand, hide = true)]
    Decision(explain::DecisionCommand),
    /// Write down all hosts as a scheduler sees them, for `novella evaluate`
    Snapshot(snapshot::SnapshotArgs),
    /// Work out where requests would go on a fleet from a file, asking nobody
    Evaluate(evaluate::EvaluateArgs),
    /// See whether a scheduler, or the agent of a host, answers
    Ping(ping::PingArgs),
    /// Run a whole fleet in this process and watch it place instances
    Demo(demo::DemoArgs),
    /// Run thousands of agents with made-up hosts against a real broker
    Swarm(swarm::SwarmArgs),
    /// Print the completion script for a shell
    Completion(completion::CompletionArgs),
    /// List the exit codes
    #[command(after_help = exit_codes::text())]
    ExitCodes,
}

/// What stands behind `compute`.
#[derive(Debug, Subcommand)]
pub enum Compute {
    /// Show the services that report
    #[command(subcommand)]
    Service(service::Command),
}

/// Where rows are sorted, and shown again and again.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub struct SortArgs {
    /// Sort by this column: COL or COL:desc
    #[arg(long, alias = "sort-column", value_name = "COL[:desc]")]
    pub sort: Option<crate::output::SortArg>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_help() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no description");
            let has_children = command.get_subcommands().next().is_some();
            if !has_children && !path.ends_with("exit-codes") {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with("Examples:\n  novella "), "{path} has no examples: {help:?}");
                parse_examples(&help);
            }
            command.get_subcommands().for_each(|c| check(c, &format!("{path} {}", c.get_name())));
        }
        fn parse_examples(help: &str) {
            for line in help.lines().filter(|line| line.starts_with("  novella ")) {
                // What stands before two blanks is the command, unless the shell has to do with it.
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
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
