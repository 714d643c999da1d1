//! `novella host list` and `novella host show`: the hosts that report, and all that one of them reported.

mod show;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use novella_host_manager::HostPattern;
use novella_objects::document::UsedInventory;
use novella_objects::{HostStatus, HostSummary, HostWarning};
use novella_service::Env;
use novella_service::exit::Failure;
use novella_service::shutdown::Shutdown;
use serde::Serialize;
use serde_json::json;

use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{NOT_FOUND, OK, PARTIAL, USAGE};
use crate::output::{
    Cell, Column, Console, Format, Listing, OutputArgs, SortArgs, Tone, natural, state_tone, write_object,
    write_rows,
};
use crate::units;

/// The commands of `host`.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts with their state, their zone and what is used
    #[command(alias = "ls")]
    List(HostListArgs),
    /// Show everything that one host has reported
    #[command(aliases = ["get", "describe"])]
    Show(HostShowArgs),
}

/// Arguments of `host list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella host list
  novella host list cmp-[001-100] --state up,suspect --sort ram:desc
  novella host list -f value -c host -c state
  novella host list --trait CUSTOM_NVME -c host -c traits
  novella host list -w 1s
  novella host list -f json | jq '.[] | select(.state == \"down\") | .host'

Columns: host, state, cpu, ram, disk, instances, age, az, warnings, and every field of the JSON form.")]
pub struct HostListArgs {
    /// Only these hosts: names, `cmp-*`, `cmp-[001-100]`
    #[arg(value_name = "HOST")]
    pub hosts: Vec<HostPattern>,
    /// Only hosts in this state; separate several by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateArg>,
    /// Only hosts that report this trait; repeat it for hosts that report all of several
    #[arg(long = "trait", value_name = "TRAIT")]
    pub traits: Vec<String>,
    /// Show the list again every INTERVAL: redrawn in a terminal, as JSON lines elsewhere
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = units::parse_duration)]
    pub watch: Option<Duration>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// The argument of --state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Reports in time
    Up,
    /// Silent, but the cause may lie elsewhere: the scheduler, the broker or the network
    Suspect,
    /// Disabled by an operator
    Disabled,
    /// Silent for too long, or stopped
    Down,
}

impl StateArg {
    /// Whether it is the word for this state.
    fn is(self, state: HostStatus) -> bool {
        self.to_possible_value().is_some_and(|value| value.get_name() == state.as_str())
    }
}

/// Arguments of `host show`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  novella host show cmp-1\n  novella host show cmp-1 -f yaml\n  novella host show cmp-1 -f json -c capabilities"
)]
pub struct HostShowArgs {
    /// Name of the host
    pub host: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

const HOSTS: Listing<HostSummary> = Listing {
    all: &[
        Column::view("host", |h| json!(h.host), |h| Cell::text(&h.host).tone(host_tone(h))),
        Column::field("uuid", |h| json!(h.uuid)),
        Column::view("state", |h| json!(h.state), |h| Cell::text(h.state.as_str()).tone(state_tone(h.state))),
        Column::field("availability_zone", |h| json!(h.availability_zone)),
        Column::field("az", |h| json!(h.availability_zone)),
        Column::field("vcpus", |h| json!(h.vcpus)),
        Column::field("vcpus_used", |h| json!(h.vcpus_used)),
        Column::view(
            "cpu",
            |h| json!(h.vcpus_used),
            |h| Cell::number(format!("{}/{}", h.vcpus_used, h.vcpus)),
        ),
        Column::field("memory_mb", |h| json!(h.memory_mb)),
        Column::field("memory_mb_used", |h| json!(h.memory_mb_used)),
        Column::view(
            "ram",
            |h| json!(h.memory_mb_used),
            |h| used_of(units::mib(h.memory_mb_used), units::mib(h.memory_mb)),
        ),
        Column::field("disk_gb", |h| json!(h.disk_gb)),
        Column::field("disk_gb_used", |h| json!(h.disk_gb_used)),
        Column::view(
            "disk",
            |h| json!(h.disk_gb_used),
            |h| used_of(units::gib(h.disk_gb_used), units::gib(h.disk_gb)),
        ),
        Column::field("instances", |h| json!(h.instances)),
        Column::field("reservations", |h| json!(h.reservations)),
        Column::view("resources", |h| json!(h.resources), |h| Cell::text(resources(h))),
        Column::view("traits", |h| json!(h.traits), |h| Cell::text(h.traits.join(" "))),
        Column::field("report_age_s", |h| json!(h.report_age_s)),
        Column::view("age", |h| json!(h.report_age_s), |h| Cell::number(units::age(h.report_age_s))),
        Column::field("disabled_reason", |h| json!(h.disabled_reason)),
        Column::view("warnings", |h| json!(h.warnings), |h| Cell::text(warnings(h)).tone(host_tone(h))),
    ],
    table: &["host", "state", "az", "cpu", "ram", "disk", "instances", "age", "warnings"],
    wide: &["resources", "traits", "reservations", "uuid"],
    fields: &[
        "host",
        "uuid",
        "state",
        "availability_zone",
        "vcpus",
        "vcpus_used",
        "memory_mb",
        "memory_mb_used",
        "disk_gb",
        "disk_gb_used",
        "instances",
        "resources",
        "traits",
        "reservations",
        "report_age_s",
        "disabled_reason",
        "warnings",
    ],
};

/// For each further resource class: what is used, and what may be used in all.
fn resources(host: &HostSummary) -> String {
    let of_class = |(class, held): (&String, &UsedInventory)| {
        let limit = (held.total.saturating_sub(held.reserved)) as f64 * held.allocation_ratio;
        format!("{class} {}/{}", held.used, limit.floor())
    };
    host.resources.iter().map(of_class).collect::<Vec<_>>().join(", ")
}

fn used_of(used: String, total: String) -> Cell {
    Cell::number(format!("{used}/{total}"))
}

/// Whether two hosts share a name or an identity, so that reports of one are taken for the other.
fn is_ambiguous(warning: &HostWarning) -> bool {
    matches!(warning, HostWarning::DuplicateName { .. } | HostWarning::ClonedIdentity { .. })
}

fn host_tone(host: &HostSummary) -> Tone {
    if host.warnings.iter().any(is_ambiguous) {
        Tone::Bad
    } else if host.warnings.is_empty() {
        Tone::Plain
    } else {
        Tone::Warn
    }
}

fn warnings(host: &HostSummary) -> String {
    let disabled = host.disabled_reason.iter().map(|reason| format!("disabled: {reason}"));
    disabled.chain(host.warnings.iter().map(warning)).collect::<Vec<_>>().join("; ")
}

fn warning(warning: &HostWarning) -> String {
    match warning {
        HostWarning::DuplicateName { other } => format!("DUPLICATE NAME, also {other}"),
        HostWarning::ClonedIdentity { other_host } => format!("CLONED IDENTITY, also on {other_host}"),
        HostWarning::TakenOver { previous } => format!("taken over from {previous}"),
        HostWarning::StaleProbe { probe, age_ms } => {
            format!("probe {probe} stale for {}", units::age(*age_ms as f64 / 1e3))
        }
    }
}

/// Lists the hosts, once or until `shutdown`.
pub async fn list(
    bus: &Bus,
    args: &HostListArgs,
    env: &Env,
    shutdown: &Shutdown,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let Some(interval) = args.watch else {
        let hosts = fetch(bus, args).await?;
        write_rows(&hosts, &HOSTS, &args.output, console)?;
        hosts.iter().for_each(|host| warn_ambiguous(host, console));
        return unknown_hosts(&hosts, args).map_or(Ok(OK), |failure| Err(failure.into()));
    };
    let redraw = args.output.format.is_table() && console.style.terminal;
    if !redraw && matches!(args.output.format, Format::Json | Format::Yaml | Format::Csv | Format::Value) {
        return Err(Failure::new(USAGE, "--watch cannot write one document after another")
            .next("use -f jsonl, or a table in a terminal")
            .into());
    }
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! { biased;
            () = shutdown.requested() => return Ok(OK),
            _ = tick.tick() => {}
        }
        let fetched = tokio::select! { biased;
            () = shutdown.requested() => return Ok(OK),
            fetched = fetch(bus, args) => fetched,
        };
        // A failure of the first look ends the command, as without --watch. A later failure may pass.
        let trouble = match (fetched, &last) {
            (Ok(hosts), _) => {
                last = Some(hosts);
                None
            }
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => Some(novella_service::exit::chain(error.as_ref())),
        };
        let hosts = last.as_deref().unwrap_or_default();
        if redraw {
            write!(console.out, "\x1b[H\x1b[2J")?;
            write_rows(hosts, &HOSTS, &args.output, console)?;
            let status = trouble.map_or_else(String::new, |why| format!("  not up to date: {why}"));
            writeln!(console.out, "\n{}{status}", env.clock.rfc3339())?;
            console.out.flush()?;
        } else if let Some(why) = trouble {
            console.note(&format!("warning: {why}; retrying"));
        } else {
            json_lines(hosts, &env.clock.rfc3339(), &args.output, console)?;
        }
    }
}

/// Writes a line for each host, with the time of this look.
fn json_lines(
    hosts: &[HostSummary],
    at: &str,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        sampled_at: &'a str,
        #[serde(flatten)]
        host: &'a HostSummary,
    }
    if args.columns.is_empty() {
        for host in hosts {
            writeln!(console.out, "{}", serde_json::to_string(&Line { sampled_at: at, host })?)?;
        }
        return Ok(console.out.flush()?);
    }
    write_rows(hosts, &HOSTS, &OutputArgs { format: Format::Jsonl, columns: args.columns.clone() }, console)
}

async fn fetch(bus: &Bus, args: &HostListArgs) -> anyhow::Result<Vec<HostSummary>> {
    // A wrong column is an error before the scheduler is asked.
    HOSTS.pick(&args.output.columns)?;
    let list = bus.scheduler().list_hosts(bus.options()).await.map_err(scheduler_failed)?;
    let mut hosts = list.hosts;
    hosts.retain(|host| {
        (args.hosts.is_empty() || args.hosts.iter().any(|pattern| pattern.matches(&host.host)))
            && (args.state.is_empty() || args.state.iter().any(|state| state.is(host.state)))
            && args.traits.iter().all(|name| host.traits.contains(name))
    });
    hosts.sort_by(|a, b| natural(&a.host, &b.host));
    if let Some(sort) = &args.sort.sort {
        HOSTS.sort(&mut hosts, sort)?;
    }
    Ok(hosts)
}

/// The failure for hosts that were named in full and that the scheduler does not know.
fn unknown_hosts(hosts: &[HostSummary], args: &HostListArgs) -> Option<Failure> {
    if !args.state.is_empty() || !args.traits.is_empty() {
        return None;
    }
    let absent =
        |pattern: &&HostPattern| pattern.is_name() && !hosts.iter().any(|host| pattern.matches(&host.host));
    let absent: Vec<_> = args.hosts.iter().filter(absent).map(HostPattern::as_str).collect();
    let code = if hosts.is_empty() { NOT_FOUND } else { PARTIAL };
    (!absent.is_empty()).then(|| {
        Failure::new(code, format!("the scheduler knows no host {}", absent.join(", "))).next(SEE_ALL)
    })
}

const SEE_ALL: &str = "`novella host list` shows the hosts that it knows";

fn warn_ambiguous(host: &HostSummary, console: &mut Console<'_>) {
    for found in host.warnings.iter().filter(|w| is_ambiguous(w)) {
        let text = match found {
            HostWarning::ClonedIdentity { other_host } => format!(
                "warning: {} and {other_host} report under one identity; next: on the host that is the copy, stop the agent, \
                 remove identity.json from its state directory, and start it again",
                host.host
            ),
            HostWarning::DuplicateName { other } => format!(
                "warning: two agents report as {} (the other is {other}, its reports are refused); next: give one of \
                 them another --host, or stop it",
                host.host
            ),
            _ => continue,
        };
        console.note(&text);
    }
}

/// Shows one host with everything that it reported.
pub async fn show(bus: &Bus, args: &HostShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let detail = bus.scheduler().show_host(&args.host, bus.options()).await.map_err(scheduler_failed)?;
    let detail = detail.ok_or_else(|| {
        Failure::new(NOT_FOUND, format!("the scheduler knows no host {}", args.host)).next(SEE_ALL)
    })?;
    if args.output.format.is_table() && args.output.columns.is_empty() {
        show::tables(&detail, &args.output, console)?;
    } else {
        write_object(&detail, &args.output, console)?;
    }
    warn_ambiguous(&detail.summary, console);
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::output::OutputStyle;
    use crate::tests::a_host;

    fn two_hosts() -> Vec<HostSummary> {
        let warnings = vec![HostWarning::ClonedIdentity { other_host: "h3".into() }];
        let down = HostSummary { state: HostStatus::Down, warnings, ..a_host("h2, \"x\"") };
        vec![a_host("h1"), down]
    }

    fn rendered(format: Format, columns: &[&str]) -> String {
        let args = OutputArgs { format, columns: columns.iter().map(|&c| c.to_owned()).collect() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console { out: &mut out, err: &mut err, style: OutputStyle::default() };
        write_rows(&two_hosts(), &HOSTS, &args, &mut console).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_in_every_format() {
        assert_eq!(
            rendered(Format::Table, &[]),
            "\
HOST     STATE  AZ    CPU       RAM      DISK  INSTANCES   AGE  WARNINGS
h1       up     nova  3/8  1.5G/16G  20G/200G          2  3.2s
h2, \"x\"  down   nova  3/8  1.5G/16G  20G/200G          2  3.2s  CLONED IDENTITY, also on h3
"
        );
        assert!(rendered(Format::Wide, &[]).contains("00000000-0000-0000-0000-000000000001"));
        let columns = ["host", "report_age_s", "memory_mb_used"];
        assert_eq!(
            rendered(Format::Csv, &columns),
            "host,report_age_s,memory_mb_used\nh1,3.25,1536\n\"h2, \"\"x\"\"\",3.25,1536\n"
        );
        assert_eq!(rendered(Format::Value, &columns), "h1 3.25 1536\nh2, \"x\" 3.25 1536\n");
        assert_eq!(
            rendered(Format::Jsonl, &columns),
            "{\"host\":\"h1\",\"report_age_s\":3.25,\"memory_mb_used\":1536}\n\
             {\"host\":\"h2, \\\"x\\\"\",\"report_age_s\":3.25,\"memory_mb_used\":1536}\n"
        );
        assert_eq!(
            rendered(Format::Yaml, &columns[..2]),
            "- host: h1\n  report_age_s: 3.25\n- host: h2, \"x\"\n  report_age_s: 3.25\n"
        );
        assert!(
            rendered(Format::Json, &[]).starts_with("[\n  {\n    \"host\": \"h1\",\n    \"uuid\""),
            "fields in their order"
        );
        let whole: Value = serde_json::from_str(&rendered(Format::Json, &[])).unwrap();
        assert_eq!(
            whole,
            serde_json::to_value(two_hosts()).unwrap(),
            "without -c JSON is the rows as they came"
        );
        assert_eq!(rendered(Format::Csv, &[]).lines().next().unwrap().split(',').count(), 17);
    }
}
