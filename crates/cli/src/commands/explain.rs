//! `novella explain`: explains a past decision or tries a request, says why a host was or was not chosen, and what would
//! make a refused request fit.

use clap::{Args, Subcommand};
use novella_fleet_documents::request_of;
use novella_objects::{
    Change, Explain, Explained, FilterOutcome, FilterVerdict, Fix, Fixes, HostStatus, HostVerdict, NearHost,
    Part, Quantity, WeigherScore,
};
use novella_service::Env;
use novella_service::exit::Failure;
use serde_json::json;

use super::decision_list::DecisionListArgs;
use super::request::RequestArgs;
use super::{decision, zone};
use crate::connect::{Bus, failed};
use crate::exit_codes::{NOT_FOUND, OK, REFUSED, USAGE};
use crate::output::{
    Cell, Column, Console, Listing, OutputArgs, Tone, printable, table_text, value_cell, write_answer,
    write_rows,
};
use crate::units;

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  novella explain s1-68a3c0f1-2a
  novella explain s1-68a3c0f1-2a --host cmp-7
  novella explain --vcpus 8 --ram 32G --az north
  novella explain --vcpus 8 --ram 32G --az north --fix
  novella explain --vcpus 8 --ram 32G --extra-spec capabilities:cpu_info:arch=aarch64 --host cmp-7 -f json

A past decision is shown as it was made. The hosts that nearly pass, --host and --fix look at the fleet as it is now.
Nothing is held.
--fix tries single changes of the request or of hosts, and then pairs of changes. The search is bounded; a note says when
it stopped early.
Exit code: that of `novella place` for a request. With --host: 0 if this host passes, 1 if it does not.")]
pub struct ExplainArgs {
    /// Id of a past decision, as `novella place` showed it
    #[arg(value_name = "DECISION", conflicts_with_all = ["disk", "count", "az", "extra_specs", "hints", "force_hosts", "ignore_hosts", "instances", "project"])]
    pub decision: Option<String>,
    /// CPUs of each instance
    #[arg(long, value_name = "N", required_unless_present_any = ["decision", "flavor"], conflicts_with_all = ["decision", "flavor"], value_parser = clap::value_parser!(u32).range(1..=65_536), allow_negative_numbers = true)]
    pub vcpus: Option<u32>,
    /// Memory of each instance: 512M, 4G; a bare number is MiB
    #[arg(long, value_name = "SIZE", required_unless_present_any = ["decision", "flavor"], conflicts_with_all = ["decision", "flavor"], value_parser = units::parse_ram, allow_negative_numbers = true)]
    pub ram: Option<u64>,
    /// A flavor of the scheduler's policy, by name or id, instead of CPUs, memory, disk and extra specs
    #[arg(long, value_name = "NAME", conflicts_with_all = ["decision", "disk", "extra_specs"])]
    pub flavor: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Show what every filter says about this host, and its rank
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Search for the smallest changes that make it fit
    #[arg(long)]
    pub fix: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The commands of `decision`.
#[derive(Debug, Subcommand)]
pub enum DecisionCommand {
    /// List the last decisions of a scheduler, newest first
    #[command(alias = "ls")]
    List(DecisionListArgs),
    /// Explain a past decision, as `novella explain` does
    #[command(aliases = ["get", "describe"])]
    Show(Box<ExplainArgs>),
}

/// Asks the scheduler that made the decision, or any for a request, and shows the answer.
pub async fn run(bus: &Bus, args: &ExplainArgs, env: &Env, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let scheduler = args.decision.as_deref().map(scheduler_of).transpose()?;
    let request_spec = match scheduler {
        Some(_) => None,
        None => Some(args.request.request(args.vcpus, args.ram, env)?),
    };
    let question = Explain {
        decision_id: args.decision.clone(),
        request_spec,
        flavor: args.flavor.clone(),
        host: args.host.clone(),
        fix: args.fix,
    };
    let (api, peer) = bus.scheduler_named(scheduler);
    let answer = api.explain(&question, bus.options()).await.map_err(|error| failed(error, peer))?;
    let explained = answer.ok_or_else(|| {
        let (name, id) = (scheduler.unwrap_or_default(), args.decision.as_deref().unwrap_or_default());
        Failure::new(NOT_FOUND, format!("scheduler {name} does not remember decision {id}"))
            .next("a scheduler remembers the last few thousand decisions since its start; its log has a line for each decision")
    })?;
    if let (Some(host), None) = (&args.host, &explained.host) {
        return Err(Failure::new(NOT_FOUND, format!("the scheduler knows no host {host}"))
            .next("`novella host list` shows those it knows")
            .into());
    }
    let mut notes = explained.decision.notes.clone();
    if explained.decision.refusal.is_some() {
        notes.extend(zone::unknown(bus, args.request.az.as_deref()).await);
    }
    show(&explained, &notes, &args.output, console)?;
    Ok(match &explained.host {
        Some(host) if host.passes => OK,
        Some(_) => REFUSED,
        None if args.decision.is_some() => OK,
        None => decision::exit_code(&explained.decision),
    })
}

/// The name of the scheduler in a decision id: the part before the two hexadecimal numbers.
fn scheduler_of(id: &str) -> Result<&str, Failure> {
    let mut parts = id.rsplitn(3, '-');
    let hex =
        |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_hexdigit()));
    let name = (hex(parts.next()) && hex(parts.next())).then(|| parts.next()).flatten();
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::new(USAGE, format!("{id:?} is not a decision id"))
            .next("write it as `novella place` showed it: SCHEDULER-HEX-HEX")
    })
}

const FILTERS: Listing<FilterVerdict> = Listing {
    all: &[
        Column::field("filter", |f| json!(f.filter)),
        Column::view("verdict", |f| json!(f.verdict), |f| value_cell(json!(f.verdict)).tone(tone(f))),
        Column::view("why", |f| json!(f.reason), |f| Cell::text(f.reason.clone().unwrap_or_default())),
        Column::field("wanted", |f| json!(f.miss.as_ref().map(|miss| miss.wanted))),
        Column::field("available", |f| json!(f.miss.as_ref().map(|miss| miss.available))),
        Column::field("unit", |f| json!(f.miss.as_ref().map(|miss| &miss.unit))),
    ],
    table: &["filter", "verdict", "why"],
    wide: &["wanted", "available", "unit"],
    fields: &["filter", "verdict", "why", "wanted", "available", "unit"],
};

fn tone(filter: &FilterVerdict) -> Tone {
    if filter.verdict == FilterOutcome::Passes { Tone::Plain } else { Tone::Bad }
}

fn show(
    explained: &Explained,
    notes: &[String],
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let Explained { request_spec, decision, host, near, fixes } = explained;
    if args.format.is_table() && args.columns.is_empty() {
        decision::headline(request_spec, None, decision, console)?;
        match host {
            Some(host) => {
                show_host(host, args, console)?;
                decision::write_notes(notes, args, console);
            }
            None => {
                decision::show(decision, notes, true, args, console)?;
                show_near(near, console)?;
            }
        }
        return fixes.as_ref().map_or(Ok(()), |fixes| show_fixes(fixes, args, console));
    }
    let mut document = decision::document(decision, true);
    (document.host, document.near, document.fixes) = (host.as_ref(), near, fixes.as_ref());
    document.request = Some(request_of(request_spec, decision));
    document.notes = notes;
    match (fixes, host) {
        (Some(fixes), _) => write_answer(&document, &fixes.fixes, &FIXES, args, console)?,
        (None, Some(host)) => write_answer(&document, &host.filters, &FILTERS, args, console)?,
        (None, None) => {
            decision::selections(&document, decision, args, console)?;
            decision::note_refusal(decision, args, console);
        }
    }
    decision::write_notes(notes, args, console);
    Ok(())
}

fn show_host(host: &HostVerdict, args: &OutputArgs, console: &mut Console<'_>) -> anyhow::Result<()> {
    let against = host.filters.iter().filter(|filter| filter.verdict != FilterOutcome::Passes).count();
    let verdict = match (&host.not_considered, against) {
        (Some(why), 0) => format!("not considered: {why}; no filter refuses it"),
        (Some(why), n) => {
            format!("not considered: {why}; {n} of {} filters refuse it", host.filters.len())
        }
        (None, 0) => "passes all filters".to_owned(),
        (None, n) => format!("refused by {n} of {} filters", host.filters.len()),
    };
    let line = format!("host {} ({}): {verdict}", host.host, host.state.as_str());
    writeln!(console.out, "{}", printable(&line))?;
    write_rows(&host.filters, &FILTERS, args, console)?;
    let place = match (host.rank, host.weight, &host.weigher_error) {
        (_, _, Some(error)) => format!("it has no weight: {error}"),
        (Some(_), _, None) if host.candidates == 1 && host.passes => "it is the only candidate".to_owned(),
        (Some(_), _, None) if host.candidates == 1 => "it would be the only candidate".to_owned(),
        (Some(rank), Some(weight), None) => {
            let is = if host.passes { "is" } else { "would be" };
            format!("it {is} number {rank} of {} candidates, weight {weight:.3}", host.candidates)
        }
        _ => return Ok(console.out.flush()?),
    };
    writeln!(console.out, "\n{}", printable(&place))?;
    if !host.weighers.is_empty() {
        let text = table_text(
            &["weigher", "raw", "from", "to", "normalised", "multiplier", "share"],
            host.weighers.iter().map(share).collect(),
            console.style,
        );
        write!(console.out, "{text}")?;
    }
    Ok(console.out.flush()?)
}

/// Shows the hosts that only one or two filters refuse, with a line for each of these filters.
fn show_near(near: &[NearHost], console: &mut Console<'_>) -> anyhow::Result<()> {
    if near.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::new();
    for host in near {
        for filter in &host.refused {
            let why = filter.reason.as_deref().unwrap_or_default();
            rows.push([&host.host, host.state.as_str(), &filter.filter, why].map(Cell::text).to_vec());
        }
    }
    let text = table_text(&["host", "state", "filter", "why"], rows, console.style);
    write!(console.out, "\nhosts that nearly pass now:\n{text}")?;
    Ok(console.out.flush()?)
}

const FIXES: Listing<Fix> = Listing::of(&[
    Column::view("change", |f| json!(f.changes), |f| Cell::text(changes(f))),
    Column::view("size", |f| json!(f.size), |f| Cell::number(format!("{:.0} %", f.size * 100.0))),
    Column::field("host", |f| json!(f.host)),
]);

fn changes(fix: &Fix) -> String {
    fix.changes.iter().map(change).collect::<Vec<_>>().join(", and ")
}

fn change(change: &Change) -> String {
    match change {
        Change::Ask { amount: Quantity::Instances, from, to } => {
            format!("ask for {to} of the {from} instances")
        }
        Change::Ask { amount, from, to } => {
            format!("ask for {} {} instead of {}", shown(amount, *to), noun(amount), shown(amount, *from))
        }
        Change::Drop { part } => match part {
            Part::AvailabilityZone(zone) => format!("drop the zone {zone}"),
            Part::ExtraSpec(key) => match key.strip_prefix("trait:") {
                Some(name) => format!("drop the trait {name}"),
                None => format!("drop the extra spec {key}"),
            },
            Part::Hint(key) => format!("drop the hint {key}"),
            Part::ImageProperty(key) => format!("drop the image property {key}"),
            Part::ServerGroup(policy) => format!("drop the server group with its {policy}"),
            Part::TargetHost(host) => format!("allow hosts other than {host}"),
            Part::IgnoreHosts => "do not ignore any hosts".to_owned(),
            Part::Retry => "allow the hosts that were tried before".to_owned(),
        },
        Change::Free { host, amount: Quantity::Instances, by } => format!("move {by} instances off {host}"),
        Change::Free { host, amount, by } => {
            format!("free {} {} on {host}", shown(amount, *by), noun(amount))
        }
        Change::RaiseRatio { host, amount, from, to } => {
            format!("raise the {} allocation ratio of {host} from {from} to {to}", noun(amount))
        }
        Change::SetMetadata { aggregate, key, from, to, .. } => {
            format!("raise {key} of the aggregate {aggregate} from {from} to {to}")
        }
        Change::RaiseGroupLimit { from, to } => {
            format!("allow {to} members of the server group on a host instead of {from}")
        }
        Change::Enable { host, state: HostStatus::Disabled } => format!("enable {host}"),
        Change::Enable { host, state } => format!("bring back {host}, which is {}", state.as_str()),
    }
}

/// An amount with its unit. It is exact, because a rounded amount might not fit.
fn shown(amount: &Quantity, value: u64) -> String {
    let unit = match amount {
        Quantity::MemoryMb => "M",
        Quantity::DiskGb => "G",
        Quantity::Vcpus | Quantity::Instances | Quantity::Class(_) => "",
    };
    format!("{value}{unit}")
}

fn noun(amount: &Quantity) -> &str {
    match amount {
        Quantity::MemoryMb => "RAM",
        Quantity::DiskGb => "disk",
        Quantity::Vcpus => "vCPU",
        Quantity::Instances => "instances",
        Quantity::Class(class) => class,
    }
}

fn show_fixes(fixes: &Fixes, args: &OutputArgs, console: &mut Console<'_>) -> anyhow::Result<()> {
    if fixes.fits {
        return Ok(writeln!(console.out, "\nit fits now; nothing has to change")?);
    }
    if fixes.fixes.is_empty() {
        writeln!(console.out, "\nno single change and no pair of changes that was tried makes it fit")?;
    } else {
        let these = if fixes.fixes.len() == 1 { "this change" } else { "each of these changes" };
        writeln!(console.out, "\n{these} makes it fit (tested):")?;
        let args = OutputArgs { format: args.format, ..OutputArgs::default() };
        write_rows(&fixes.fixes, &FIXES, &args, console)?;
    }
    if let Some(cut) = &fixes.cut {
        console.note(&format!("note: the search {cut}; a smaller change may be missing"));
    }
    Ok(console.out.flush()?)
}

fn share(score: &WeigherScore) -> Vec<Cell> {
    vec![
        Cell::text(&*score.weigher),
        Cell::number(score.raw),
        Cell::number(score.range.0),
        Cell::number(score.range.1),
        Cell::number(format!("{:.3}", score.normalised)),
        Cell::number(score.multiplier),
        Cell::number(format!("{:.3}", score.multiplier * score.normalised)),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn an_id_names_its_scheduler() {
        assert_eq!(scheduler_of("s1-68a3c0f1-2a").unwrap(), "s1");
        assert_eq!(scheduler_of("dc-1.example-68a3c0f1-0").unwrap(), "dc-1.example");
        for wrong in ["", "s1", "s1-2a", "-68a3-2a", "s1-68a3-", "s1-xyz-2a"] {
            assert_eq!(scheduler_of(wrong).unwrap_err().code, USAGE, "{wrong}");
        }
    }

    #[test]
    fn either_a_decision_or_a_request() {
        for (line, good) in [
            ("", false),
            ("--vcpus 1", false),
            ("s1-1-1 --vcpus 1 --ram 1G", false),
            ("s1-1-1 --az x", false),
            ("--flavor f --vcpus 1 --ram 1G", false),
            ("s1-1-1 --host h", true),
            ("--vcpus 1 --ram 1G --az x", true),
            ("--flavor f", true),
            ("s1-1-1", true),
        ] {
            let parsed = Cli::try_parse_from(format!("novella explain {line}").split_whitespace());
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }
}
