//! `novella capacity`: how many more instances fit, and what runs out first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use novella_fleet_documents::{EvaluationOptions, Evaluator, host_table};
use novella_host_manager::PolicyFile;
use novella_objects::{
    CapacityQuery, FilterTally, Flavor, FlavorCapacity, GroupCapacity, Grouping, PlacementRequest,
    RequestSpec,
};
use novella_service::Env;
use novella_service::exit::Failure;
use serde::Serialize;
use serde_json::json;

use super::decision::write_notes;
use super::documents::Source;
use super::request::RequestArgs;
use super::zone;
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{OK, REFUSED, USAGE};
use crate::output::{Cell, Column, Console, Format, Listing, OutputArgs, Tone, write_answer, write_rows};
use crate::units;

/// Arguments of `capacity`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  novella capacity --vcpus 4 --ram 8G --disk 80G
  novella capacity --vcpus 4 --ram 8G --by zone --reserve n+1
  novella capacity --flavor m1.small --flavor m1.large
  novella capacity --flavors flavors.json --reserve n+1:zone -f json
  novella capacity --vcpus 1 --ram 1G --az north --by host -f csv
  novella capacity --hosts fleet.json.gz --flavors policy.toml --by aggregate

flavors.json is a list such as [{\"name\": \"small\", \"vcpus\": 1, \"memory_mb\": 2048, \"root_gb\": 20}]. Each flavor is counted
by itself, as if none of the others were placed. Without a flavor, all flavors of the scheduler's policy are counted.
With --reserve, the instances on the lost part are moved first, counted in instances of the flavor.

FITS is how many more instances fit, ELIGIBLE the number of hosts that no other filter refuses, OPEN the number of these
with room for one more, and LIMIT what runs out first.

Exit code 0: at least one instance of each flavor fits. 1: none fits of some flavor.")]
pub struct CapacityArgs {
    /// CPUs of each instance
    #[arg(long, value_name = "N", requires = "ram", value_parser = clap::value_parser!(u32).range(1..=65_536), allow_negative_numbers = true)]
    pub vcpus: Option<u32>,
    /// Memory of each instance: 512M, 4G; a bare number is MiB
    #[arg(long, value_name = "SIZE", requires = "vcpus", value_parser = units::parse_ram, allow_negative_numbers = true)]
    pub ram: Option<u64>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Count this flavor of the scheduler's policy, by name or id; repeat it for several
    #[arg(long = "flavor", value_name = "NAME", conflicts_with_all = ["vcpus", "ram", "disk", "extra_specs"])]
    pub names: Vec<String>,
    /// Count each flavor of this file: a JSON list, or a scheduler's policy if its name ends in .toml
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vcpus", "ram", "disk", "extra_specs"])]
    pub flavors: Option<PathBuf>,
    /// Count on the hosts of this file, in the format of `novella evaluate`, without a scheduler; CPUs, memory and disk
    /// count even if none of its filters looks at them
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    pub hosts: Option<PathBuf>,
    /// Also count each part of the fleet
    #[arg(long, value_name = "PART")]
    pub by: Option<By>,
    /// Count what still fits after the loss of one host (n+1), zone (n+1:zone) or aggregate (n+1:aggregate), in the worst
    /// case
    #[arg(long, value_name = "n+1[:PART]")]
    pub reserve: Option<Reserve>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The parts of the fleet to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Each host
    Host,
    /// Each availability zone
    Zone,
    /// Each aggregate
    Aggregate,
}

impl From<By> for Grouping {
    fn from(by: By) -> Self {
        match by {
            By::Host => Self::Host,
            By::Zone => Self::Zone,
            By::Aggregate => Self::Aggregate,
        }
    }
}

/// The argument of --reserve: `n+1`, alone or with the part of the fleet that may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve(Grouping);

impl FromStr for Reserve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (n, part) = text.split_once(':').unwrap_or((text, "host"));
        let part = By::from_str(part, false).ok().filter(|_| n.eq_ignore_ascii_case("n+1"));
        part.map(|part| Self(part.into()))
            .ok_or_else(|| "write n+1, n+1:host, n+1:zone or n+1:aggregate".to_owned())
    }
}

/// Asks a scheduler for the counts and shows them.
pub async fn run(bus: &Bus, args: &CapacityArgs, env: &Env, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let query = query(args, env)?;
    let capacity = bus.scheduler().capacity(&query, bus.options()).await.map_err(scheduler_failed)?;
    let mut notes = Vec::new();
    if exit_code(&capacity.flavors) == REFUSED {
        notes.extend(zone::unknown(bus, args.request.az.as_deref()).await);
    }
    show(&capacity.flavors, &notes, args, console)
}

/// Counts on the hosts of a file and shows the counts.
pub fn run_on_file(
    file: &Path,
    args: &CapacityArgs,
    env: &Env,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let query = query(args, env)?;
    if query.flavors.is_empty() {
        let next = "add --vcpus and --ram, or --flavors FILE: a file of hosts does not list flavors";
        return Err(Failure::new(USAGE, "there is nothing to count").next(next).into());
    }
    let source = Source::open(file)?;
    let fleet = source.fleet()?;
    let options = EvaluationOptions::read(&fleet.options.clone().unwrap_or_default());
    let options = options.map_err(|bad| source.refused(&bad))?;
    let table = host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s);
    let table = table.map_err(|bad| source.refused(&bad))?;
    let evaluator = Evaluator::new(table, options, &BTreeMap::new()).map_err(|bad| source.refused(&bad))?;
    let mut evaluator = evaluator.with_fleet(&fleet);
    let CapacityQuery { flavors, request_spec, by, reserve, .. } = query;
    let (alone, running) = (flavors.len() == 1, evaluator.running());
    let count = |flavor: Flavor| {
        let spec = RequestSpec { flavor: flavor.clone(), ..request_spec.spec.clone() };
        match evaluator.eligible(PlacementRequest { spec, ..request_spec.clone() }) {
            Ok(eligible) => Ok(eligible.count(by, reserve, &running)),
            Err(bad) if alone => Err(Failure::new(USAGE, format!("invalid request: {bad}"))),
            Err(bad) => Ok(FlavorCapacity::failed(flavor, bad.to_string())),
        }
    };
    let counted = flavors.into_iter().map(count).collect::<Result<Vec<_>, Failure>>()?;
    show(&counted, &[], args, console)
}

fn query(args: &CapacityArgs, env: &Env) -> anyhow::Result<CapacityQuery> {
    let request_spec = args.request.request(args.vcpus, args.ram, env)?;
    let flavors = match &args.flavors {
        Some(file) => read_flavors(file)?,
        None if args.vcpus.is_some() => vec![request_spec.spec.flavor.clone()],
        None => Vec::new(), // the scheduler counts those in `names`, or all of its policy
    };
    Ok(CapacityQuery {
        flavors,
        names: args.names.clone(),
        request_spec,
        by: args.by.map(Grouping::from),
        reserve: args.reserve.map(|Reserve(part)| part),
    })
}

fn read_flavors(file: &PathBuf) -> anyhow::Result<Vec<Flavor>> {
    let wrong = |what: String| {
        Failure::new(USAGE, what).next("`novella capacity --help` shows what such a file holds")
    };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| wrong(format!("cannot read {}: {error}", file.display())))?;
    let flavors: Vec<Flavor> = if file.extension().is_some_and(|extension| extension == "toml") {
        let policy = PolicyFile::parse(&text);
        let policy = policy.map_err(|bad| wrong(format!("{} is not a policy: {bad}", file.display())))?;
        policy.flavors.into_values().collect()
    } else {
        serde_json::from_str(&text)
            .map_err(|error| wrong(format!("{} is not a list of flavors: {error}", file.display())))?
    };
    if flavors.is_empty() {
        return Err(wrong(format!("{} contains no flavors", file.display())).into());
    }
    Ok(flavors)
}

const FLAVORS: Listing<FlavorCapacity> = Listing {
    all: &[
        Column::field("flavor", |f| json!(name(&f.flavor))),
        Column::view("fits", |f| json!(f.fits), |f| Cell::number(f.fits).tone(tone(f.fits))),
        Column::field("hosts", |f| json!(f.hosts)),
        Column::field("eligible", |f| json!(f.eligible)),
        Column::field("open", |f| json!(f.open)),
        Column::view(
            "limit",
            |f| json!(f.limits.first().map(|limit| &limit.amount)),
            |f| Cell::text(limits(f)),
        ),
        Column::view(
            "reserved",
            |f| json!(f.reserve.as_ref().map(|reserve| reserve.fits)),
            |f| Cell::text(reserved(f)),
        ),
    ],
    table: &["flavor", "fits", "open", "eligible", "hosts", "limit"],
    wide: &["reserved"],
    fields: &["flavor", "fits", "open", "eligible", "hosts", "limit", "reserved"],
};

/// The count of one flavor on one part of the fleet.
#[derive(Serialize)]
struct PartRow {
    flavor: String,
    #[serde(flatten)]
    group: GroupCapacity,
}

const PARTS: Listing<PartRow> = Listing::of(&[
    Column::field("flavor", |p| json!(p.flavor)),
    Column::view("name", |p| json!(p.group.name), |p| Cell::text(part_name(&p.group))),
    Column::view("fits", |p| json!(p.group.fits), |p| Cell::number(p.group.fits).tone(tone(p.group.fits))),
    Column::field("eligible", |p| json!(p.group.eligible)),
    Column::field("limit", |p| json!(p.group.limit)),
]);

fn part_name(group: &GroupCapacity) -> String {
    if group.name.is_empty() { "(none)".to_owned() } else { group.name.clone() }
}

fn tone(fits: u64) -> Tone {
    if fits == 0 { Tone::Bad } else { Tone::Plain }
}

/// The name of the flavor, or its size if it has none.
fn name(flavor: &Flavor) -> String {
    if !flavor.name.is_empty() {
        return flavor.name.clone();
    }
    format!("{} vCPU, {}, {}", flavor.vcpus, units::mib(flavor.memory_mb), units::gib(flavor.disk_gb()))
}

/// What runs out first. If no host is eligible, the filter that refused the last hosts.
fn limits(flavor: &FlavorCapacity) -> String {
    if flavor.error.is_some() {
        return "every request is refused".to_owned();
    }
    if flavor.limits.is_empty() {
        let emptied = flavor.refused.iter().find(|tally| tally.hosts_out == 0);
        let refused = |tally: &FilterTally| format!("{} lets no host pass", tally.filter);
        return emptied.map_or_else(String::new, refused);
    }
    let limits = flavor.limits.iter().map(|limit| format!("{} on {}", limit.amount, hosts(limit.hosts)));
    limits.collect::<Vec<_>>().join(", ")
}

fn hosts(count: u32) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

fn reserved(flavor: &FlavorCapacity) -> String {
    let Some(reserve) = &flavor.reserve else { return String::new() };
    let lost = if reserve.lost.is_empty() { "a part" } else { &reserve.lost };
    match reserve.short {
        0 => format!("{} with {lost} lost ({} moved)", reserve.fits, reserve.moved),
        short => format!("0 with {lost} lost ({short} of {} moved do not fit)", reserve.moved),
    }
}

/// Shows the counts. The exit code says whether at least one instance of each flavor fits.
fn show(
    flavors: &[FlavorCapacity],
    notes: &[String],
    args: &CapacityArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    if args.output.format.is_table() && args.output.columns.is_empty() {
        tables(flavors, args, console)?;
    } else {
        let mut document = json!({ "flavors": flavors });
        if !notes.is_empty() {
            document["notes"] = json!(notes);
        }
        match args.by {
            Some(_) => write_answer(&document, &parts(flavors), &PARTS, &args.output, console)?,
            None => write_answer(&document, flavors, &FLAVORS, &args.output, console)?,
        }
    }
    write_notes(notes, &args.output, console);
    Ok(exit_code(flavors))
}

fn exit_code(flavors: &[FlavorCapacity]) -> u8 {
    if flavors.iter().all(|flavor| flavor.fits > 0) { OK } else { REFUSED }
}

fn parts(flavors: &[FlavorCapacity]) -> Vec<PartRow> {
    let each = |f: &FlavorCapacity| {
        let row = |group: &GroupCapacity| PartRow { flavor: name(&f.flavor), group: group.clone() };
        f.groups.iter().map(row).collect::<Vec<_>>()
    };
    flavors.iter().flat_map(each).collect()
}

fn tables(flavors: &[FlavorCapacity], args: &CapacityArgs, console: &mut Console<'_>) -> anyhow::Result<()> {
    // The only wide column is `reserved`, which is empty without --reserve.
    let format = if args.reserve.is_some() { Format::Wide } else { Format::Table };
    let output = OutputArgs { format, ..OutputArgs::default() };
    write_rows(flavors, &FLAVORS, &output, console)?;
    if args.by.is_some() {
        writeln!(console.out)?;
        write_rows(&parts(flavors), &PARTS, &OutputArgs::default(), console)?;
    }
    for flavor in flavors {
        if let Some(error) = &flavor.error {
            console.note(&format!("error: {} cannot be counted: {error}", name(&flavor.flavor)));
        }
        for what in &flavor.not_asked {
            let name = name(&flavor.flavor);
            console.note(&format!("note: {name}: neither these counts nor a placement consider {what}"));
        }
    }
    for flavor in flavors.iter().filter(|flavor| !flavor.asked_once.is_empty()) {
        let (filters, name) = (flavor.asked_once.join(", "), name(&flavor.flavor));
        console.note(&format!(
            "note: fewer may fit for {name}, because {filters} ran only for the first instance"
        ));
    }
    Ok(console.out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_n_plus_one_of_some_part() {
        assert_eq!("n+1".parse(), Ok(Reserve(Grouping::Host)));
        assert_eq!("N+1:zone".parse(), Ok(Reserve(Grouping::Zone)));
        assert_eq!("n+1:aggregate".parse(), Ok(Reserve(Grouping::Aggregate)));
        for wrong in ["", "n+2", "zone", "n+1:", "n+1:rack"] {
            assert!(wrong.parse::<Reserve>().unwrap_err().contains("n+1:zone"), "{wrong}");
        }
    }
}
