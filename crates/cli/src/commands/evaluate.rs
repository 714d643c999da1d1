//! `novella evaluate`: decides requests on a fleet, both read from files, without a scheduler.
//!
//! The engine decides as it does in a scheduler with the same options. docs/evaluate.md describes the files.
//!
//! Layout, in reading order:
//! - `stdin`: questions and answers as lines
//! - `show`: results as tables and documents

mod show;
mod stdin;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use novella_fleet_documents::{EvaluationOptions, Evaluator, apply_policy, host_table};
use novella_host_manager::PolicyFile;
use novella_objects::document::{Outcome, Request, Requests, Results, Schema};
use novella_service::exit::Failure;

use super::documents::Source;
use crate::exit_codes::{NOT_FOUND, OK, PARTIAL, REFUSED, USAGE};
use crate::output::{Console, OutputArgs};

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("source").required(true).args(["hosts", "stdin"]),
    after_help = "Examples:\n  novella evaluate --hosts fleet.json.gz --requests requests.jsonl\n  \
        novella evaluate --hosts fleet.json --requests requests.json --request 17 -f wide\n  \
        novella evaluate --hosts fleet.json --requests requests.json --policy policy.toml\n  \
        novella evaluate --hosts fleet.json --requests requests.json -f json > results.json\n  \
        zcat questions.jsonl.gz | novella evaluate --stdin"
)]
pub struct EvaluateArgs {
    /// File with hosts and aggregates: JSON or JSON lines, plain or gzipped; - is standard input
    #[arg(long, value_name = "FILE", requires = "requests")]
    pub hosts: Option<PathBuf>,
    /// File with requests: JSON or JSON lines, plain or gzipped; - is standard input
    #[arg(long, value_name = "FILE", requires = "hosts")]
    pub requests: Option<PathBuf>,
    /// Use the options, aggregates, flavors, server groups and PCI aliases of this policy file of a scheduler
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Only the request with this id; repeat it for several
    #[arg(long = "request", value_name = "ID", requires = "requests")]
    pub ids: Vec<String>,
    /// Read a question from each line of standard input, and answer each with one line
    #[arg(long, conflicts_with_all = ["hosts", "requests", "ids", "format", "columns"])]
    pub stdin: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Decides the requests and shows the results. The exit code says whether all, some or none of them fit.
pub fn run(args: &EvaluateArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let policy = args.policy.as_deref().map(|file| policy(file, console)).transpose()?;
    let (Some(hosts), Some(requests)) = (&args.hosts, &args.requests) else {
        return stdin::serve(&mut io::stdin().lock(), policy.as_ref(), console.out);
    };
    if hosts == requests {
        let next = "put the fleet and the requests into two files, or send both as one question to --stdin";
        return Err(Failure::new(USAGE, "--hosts and --requests name the same file").next(next).into());
    }
    let (hosts, requests) = (Source::open(hosts)?, Source::open(requests)?);
    let (mut fleet, mut asked) = (hosts.fleet()?, requests.requests()?);
    let options = asked.options.as_ref().or(fleet.options.as_ref()).cloned().unwrap_or_default();
    let options_from = if asked.options.is_some() { &requests } else { &hosts };
    let mut options = EvaluationOptions::read(&options).map_err(|bad| options_from.refused(&bad))?;
    if let Some(policy) = policy {
        apply_policy(&policy, &mut fleet, &mut asked).map_err(|bad| requests.refused(&bad))?;
        options.scheduler = policy.options;
    }
    let settings = options.settings();
    let table = host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s);
    let table = table.map_err(|bad| hosts.refused(&bad))?;
    let evaluator = Evaluator::new(table, options, &asked.filter_sets);
    let mut evaluator = evaluator.map_err(|bad| requests.refused(&bad))?.with_fleet(&fleet);
    let wanted = wanted(&asked, &args.ids)?;
    let outcomes = wanted.iter().map(|(at, request)| evaluator.outcome(*at, request));
    let outcomes = outcomes.collect::<Result<Vec<_>, _>>().map_err(|bad| requests.refused(&bad))?;
    let code = exit_code(&outcomes);
    if args.output.format.is_table() && args.output.columns.is_empty() {
        for ((_, request), outcome) in wanted.iter().zip(&outcomes) {
            show::outcome(request, outcome, &fleet, &mut evaluator, &args.output, console)?;
        }
    } else {
        let weighers = evaluator.options().weighers.iter().map(|(kind, _)| kind.name().to_owned());
        let results = Results {
            schema: Schema,
            nova: None,
            novella: Some(env!("CARGO_PKG_VERSION").to_owned()),
            seed: asked.seed,
            fleet_n: fleet.hosts.len() as u64,
            config: settings,
            weighers: weighers.collect(),
            results: outcomes,
        };
        let asked: Vec<&Request> = wanted.into_iter().map(|(_, request)| request).collect();
        show::results(&results, &fleet, &asked, &evaluator, &args.output, console)?;
    }
    Ok(code)
}

fn policy(file: &Path, console: &mut Console<'_>) -> Result<PolicyFile, Failure> {
    let policy = Source::open(file)?.policy()?;
    for warning in &policy.warnings {
        console.note(&format!("warning: {}: {warning}", file.display()));
    }
    Ok(policy)
}

/// The requests to decide, each with its place in the file.
fn wanted<'r>(asked: &'r Requests, ids: &[String]) -> Result<Vec<(usize, &'r Request)>, Failure> {
    let all = || asked.requests.iter().enumerate();
    let id = |at: usize, request: &Request| request.id.as_ref().map_or_else(|| at.to_string(), show::id);
    for wanted in ids {
        if !all().any(|(at, request)| id(at, request) == *wanted) {
            let next = format!(
                "use an id from the file, or the place of the request, from 0 to {}, if it has no id",
                asked.requests.len().max(1) - 1
            );
            return Err(Failure::new(NOT_FOUND, format!("there is no request {wanted}")).next(next));
        }
    }
    let named = |(at, request): &(usize, &Request)| ids.is_empty() || ids.contains(&id(*at, request));
    Ok(all().filter(named).collect())
}

/// The exit code: whether all, none or some of the requests fit.
fn exit_code(outcomes: &[Outcome]) -> u8 {
    match outcomes.iter().filter(|outcome| outcome.complete).count() {
        fits if fits == outcomes.len() => OK,
        0 => REFUSED,
        _ => PARTIAL,
    }
}
