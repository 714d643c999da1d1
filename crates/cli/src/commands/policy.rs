//! `novella policy`: checks a policy file, shows the current policies, compares a file with them, and reloads them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use novella_host_manager::{BadPolicy, PolicyFile};
use novella_objects::{Policies, PolicyChange, PolicyReload, PolicyStatus};
use novella_service::exit::Failure;
use serde::Serialize;
use serde_json::json;

use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{CONFLICT, NOT_FOUND, OK, PARTIAL, USAGE};
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, Tone, natural, printable, write_object, write_rows,
};

/// The commands of `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy file, and show every problem with its line number
    Check(PolicyCheckArgs),
    /// Show the current policy of each scheduler, and whether they are the same
    Show(PolicyShowArgs),
    /// Show what a policy file would change on each scheduler
    Diff(PolicyDiffArgs),
    /// Make every scheduler reload its policy file, and show what changed
    Reload(PolicyReloadArgs),
}

/// Arguments of `policy check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  novella policy check /etc/novella/policy.toml
  novella policy check policy.toml -f json

An error is a part that nothing can use, such as a flavor that every request is refused for. A scheduler takes the file
with it, and with warnings.

Exit code 0: the file has no errors. 2: it has some, or a scheduler would refuse it.")]
pub struct PolicyCheckArgs {
    /// The policy file
    pub file: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `policy show`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella policy show
  novella policy show -f yaml

Exit code 0: all schedulers have the same policy. 5: they do not. 3: one did not answer.")]
pub struct PolicyShowArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `policy diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  novella policy diff /etc/novella/policy.toml\n  novella policy diff policy.toml -f json"
)]
pub struct PolicyDiffArgs {
    /// The policy file
    pub file: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `policy reload`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella policy reload
  novella policy reload -f json

Exit code 0: every scheduler has the policy of its file. 2: all refused their files. 3: some refused, or did not answer.
5: none refused, but the files differ.")]
pub struct PolicyReloadArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

fn read(file: &Path) -> Result<Result<PolicyFile, BadPolicy>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(USAGE, format!("cannot read {}", file.display())).because(error).next("check the path")
    })?;
    Ok(PolicyFile::parse(&text))
}

/// Checks a file and shows its problems.
pub fn check(args: &PolicyCheckArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let checked = read(&args.file)?;
    let (problems, unusable, warnings) = match &checked {
        Ok(policy) => (&[][..], &policy.unusable[..], &policy.warnings[..]),
        Err(bad) => (&bad.problems[..], &[][..], &[][..]),
    };
    if args.output.format.is_table() && args.output.columns.is_empty() {
        let file = args.file.display();
        unusable.iter().for_each(|error| console.note(&format!("error: {file}: {error}")));
        warnings.iter().for_each(|warning| console.note(&format!("warning: {file}: {warning}")));
        match &checked {
            Ok(policy) => {
                let valid = if unusable.is_empty() {
                    "the policy is valid"
                } else {
                    "a scheduler accepts this policy, but it has errors"
                };
                let (aggregates, flavors) = (policy.aggregates.len(), policy.flavors.len());
                let (filters, weighers) =
                    (policy.options.enabled_filters.len(), policy.options.weighers.len());
                writeln!(
                    console.out,
                    "{valid}: {filters} filters, {weighers} weighers, {aggregates} aggregates, {flavors} flavors; \
                     its hash is {}",
                    policy.hash()
                )?;
            }
            Err(bad) => console.note(&bad.to_string()),
        }
    } else {
        let hash = checked.as_ref().ok().map(PolicyFile::hash);
        let document = json!({
            "valid": problems.is_empty(), "problems": problems, "unusable": unusable, "warnings": warnings, "hash": hash,
        });
        write_object(&document, &args.output, console)?;
    }
    Ok(if problems.is_empty() && unusable.is_empty() { OK } else { USAGE })
}

const SCHEDULERS: Listing<PolicyStatus> = Listing {
    all: &[
        Column::field("scheduler", |p| json!(p.scheduler)),
        Column::field("hash", |p| json!(p.hash)),
        Column::field("source", |p| json!(p.source)),
        Column::view(
            "filters",
            |p| p.policy["filter_scheduler"]["enabled_filters"].clone(),
            |p| Cell::number(p.policy["filter_scheduler"]["enabled_filters"].as_array().map_or(0, Vec::len)),
        ),
        Column::view(
            "aggregates",
            |p| p.policy["aggregates"].clone(),
            |p| Cell::number(p.policy["aggregates"].as_object().map_or(0, serde_json::Map::len)),
        ),
        Column::view(
            "flavors",
            |p| p.policy["flavors"].clone(),
            |p| Cell::number(p.policy["flavors"].as_object().map_or(0, serde_json::Map::len)),
        ),
        Column::view(
            "last_reload",
            |p| json!(p.reload),
            |p| match (p.reload, p.problems.is_empty()) {
                (_, false) => Cell::text("refused").tone(Tone::Bad),
                (Some(outcome), true) => Cell::text(outcome.as_str()),
                (None, true) => Cell::text("-"),
            },
        ),
        Column::field("reload", |p| json!(p.reload)),
        Column::field("changes", |p| json!(p.changes)),
        Column::field("problems", |p| json!(p.problems)),
        Column::field("policy", |p| p.policy.clone()),
    ],
    table: &["scheduler", "hash", "source", "filters", "aggregates", "flavors", "last_reload"],
    wide: &[],
    fields: &["scheduler", "hash", "source", "reload", "changes", "problems", "policy"],
};

/// The policy of the first scheduler. Writes a message if others have a different one or do not answer.
pub async fn in_force(bus: &Bus, console: &mut Console<'_>) -> anyhow::Result<PolicyStatus> {
    let policies = bus.scheduler().get_policies(bus.options()).await.map_err(scheduler_failed)?;
    note_failures(&policies.failures, console);
    note_drift(&policies.schedulers, console);
    policies.schedulers.into_iter().next().context("no scheduler answered")
}

/// The failure for a name that the policy does not define.
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Failure {
    let next = match known {
        [] => "the policy of the schedulers defines none".to_owned(),
        known => format!("use one of {}", known.join(", ")),
    };
    Failure::new(NOT_FOUND, format!("there is no {kind} {name}")).next(next)
}

/// Shows the current policies of all schedulers.
pub async fn show(bus: &Bus, args: &PolicyShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let policies = bus.scheduler().get_policies(bus.options()).await.map_err(scheduler_failed)?;
    list(policies, &args.output, console)
}

fn list(policies: Policies, output: &OutputArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let Policies { mut schedulers, failures } = policies;
    schedulers.sort_by(|a, b| natural(&a.scheduler, &b.scheduler));
    write_rows(&schedulers, &SCHEDULERS, output, console)?;
    let told = if output.holds_notes() { &[][..] } else { &schedulers[..] };
    for status in told {
        for problem in &status.problems {
            console.note(&format!(
                "{}: the last reload was refused: {}: {problem}",
                status.scheduler, status.source
            ));
        }
    }
    note_failures(&failures, console);
    Ok(match (note_drift(&schedulers, console), failures.is_empty()) {
        (true, _) => CONFLICT,
        (false, true) => OK,
        (false, false) => PARTIAL,
    })
}

pub(super) fn note_failures(failures: &[String], console: &mut Console<'_>) {
    failures.iter().for_each(|failure| console.note(&format!("a scheduler did not answer: {failure}")));
}

/// Returns whether schedulers have different policies, and writes a message if they do.
pub(super) fn note_drift(schedulers: &[PolicyStatus], console: &mut Console<'_>) -> bool {
    let Some((first, rest)) = schedulers.split_first() else { return false };
    let differing: Vec<_> = rest.iter().filter(|other| other.hash != first.hash).collect();
    for other in &differing {
        console.note(&format!(
            "{} and {} have different policies ({} and {}); make their files the same and run `novella policy reload`",
            first.scheduler, other.scheduler, first.hash, other.hash
        ));
    }
    !differing.is_empty()
}

/// What a file would change on one scheduler.
#[derive(Serialize)]
struct Difference<'a> {
    scheduler: &'a str,
    hash: &'a str,
    changes: Vec<PolicyChange>,
}

/// Shows what a file would change on each scheduler.
pub async fn diff(bus: &Bus, args: &PolicyDiffArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let new = read(&args.file)?.map_err(|bad| {
        Failure::new(USAGE, format!("{}: {bad}", args.file.display()))
            .next("correct the file; no scheduler was asked")
    })?;
    let policies = bus.scheduler().get_policies(bus.options()).await.map_err(scheduler_failed)?;
    let difference = |status: &'_ PolicyStatus| new.differences_from(&status.policy);
    if args.output.format.is_table() && args.output.columns.is_empty() {
        for status in &policies.schedulers {
            print_changes(&status.scheduler, &difference(status), console)?;
        }
    } else {
        let differences: Vec<_> = policies
            .schedulers
            .iter()
            .map(|status| Difference {
                scheduler: &status.scheduler,
                hash: &status.hash,
                changes: difference(status),
            })
            .collect();
        let document =
            json!({ "hash": new.hash(), "schedulers": differences, "failures": policies.failures });
        write_object(&document, &args.output, console)?;
    }
    if !args.output.holds_notes() {
        note_failures(&policies.failures, console);
    }
    note_drift(&policies.schedulers, console);
    Ok(OK)
}

fn print_changes(scheduler: &str, changes: &[PolicyChange], console: &mut Console<'_>) -> anyhow::Result<()> {
    if changes.is_empty() {
        writeln!(console.out, "{}: no changes", printable(scheduler))?;
        return Ok(());
    }
    writeln!(console.out, "{}: {} changes", printable(scheduler), changes.len())?;
    for change in changes {
        writeln!(console.out, "  {}", printable(&change.to_string()))?;
    }
    Ok(())
}

/// Makes all schedulers reload their policies, and shows what changed.
pub async fn reload(bus: &Bus, args: &PolicyReloadArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let policies = bus.scheduler().reload_policy(bus.options()).await.map_err(scheduler_failed)?;
    let refused = |status: &&PolicyStatus| status.reload == Some(PolicyReload::Refused);
    let (all, bad) = (policies.schedulers.len(), policies.schedulers.iter().filter(refused).count());
    let drift = policies.schedulers.windows(2).any(|pair| pair[0].hash != pair[1].hash);
    let code = match (bad, policies.failures.len()) {
        (0, 0) if drift => CONFLICT,
        (0, 0) => OK,
        (bad, 0) if bad == all => USAGE,
        _ => PARTIAL,
    };
    if args.output.format.is_table() && args.output.columns.is_empty() {
        for status in &policies.schedulers {
            match status.reload {
                Some(PolicyReload::Applied) => print_changes(&status.scheduler, &status.changes, console)?,
                Some(PolicyReload::Refused) => writeln!(
                    console.out,
                    "{}: refused; the old policy stays in force",
                    printable(&status.scheduler)
                )?,
                Some(PolicyReload::Unchanged) | None => print_changes(&status.scheduler, &[], console)?,
            }
        }
    } else {
        write_rows(&policies.schedulers, &SCHEDULERS, &args.output, console)?;
    }
    if !args.output.holds_notes() {
        for status in policies.schedulers.iter().filter(refused) {
            status.problems.iter().for_each(|problem| console.note(&format!("{}: {problem}", status.source)));
        }
    }
    note_failures(&policies.failures, console);
    note_drift(&policies.schedulers, console);
    Ok(code)
}
