//! `novella host`: lists the hosts that report, shows everything that one of them reported, and makes schedulers forget one.
//!
//! Layout, in reading order:
//! - `wanted`: which hosts are listed, and which names do not exist
//! - `show`: one host for people
//! - `forget`: makes schedulers forget one

pub mod forget;
pub mod show;
pub mod wanted;

use std::time::Duration;

use clap::{Args, Subcommand};
use novella_objects::document::UsedInventory;
use novella_objects::{HostAmounts, HostSummary, HostWarning};
use novella_service::Env;
use novella_service::exit::Failure;
use novella_service::shutdown::Shutdown;
use serde::Serialize;
use serde_json::json;

use self::wanted::WantedHosts;
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::{OK, USAGE};
use crate::output::{
    Cell, Column, Console, Format, Listing, OutputArgs, SortArgs, Tone, natural, state_tone, write_rows,
    write_sorted,
};
use crate::units;

/// The commands of `host`.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts with their state, their zone and what is used
    #[command(alias = "ls")]
    List(HostListArgs),
    /// Show what is left on one host, and everything that it has reported
    #[command(aliases = ["get", "describe"])]
    Show(HostShowArgs),
    /// Make all schedulers forget a host, so that whoever reports it next has it
    #[command(alias = "rm")]
    Forget(HostForgetArgs),
}

/// Arguments of `host forget`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella host forget cmp-1
  novella host forget cmp-1 -f json

Use it when the wrong process, identity or broker user has a host: stop the wrong agent, or change the
password of its user, and then forget the host. The next report makes it known again. It is also the
way to be rid of a host that never comes back. What is held on the host stays held until its time is up.

Exit code 0: done. 4: no scheduler knows the host. 3: a scheduler did not answer.")]
pub struct HostForgetArgs {
    /// The name of the host
    pub host: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `host list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella host list
  novella host list cmp-[001-100] --state up,suspect --sort free_ram:desc
  novella host list --az north --aggregate ssd --fact rack=r1
  novella host list -f value -c host -c state
  novella host list --trait CUSTOM_NVME -c host -c traits
  novella host list -w 1s
  novella host list -f json | jq '.[] | select(.state == \"down\") | .host'

CPU, RAM and DISK show how much is used of what may be used: what the host has, times its
allocation ratio. -f wide adds how much is free, and how much reservations hold.
Columns: host, state, az, cpu, ram, disk, free_cpu, free_ram, free_disk, held_cpu, held_ram,
held_disk, instances, age, warnings, facts, and every field of the JSON form.

Exit code 4: a name or pattern matches no host. 3: the same, but others match and are listed.")]
pub struct HostListArgs {
    #[command(flatten)]
    pub wanted: WantedHosts,
    /// Repeat the list every INTERVAL: redrawn in a terminal, as JSON lines elsewhere
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = units::parse_duration)]
    pub watch: Option<Duration>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
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
        Column::field("conflicting_zones", |h| json!(h.conflicting_zones)),
        Column::field("az", |h| json!(h.availability_zone)),
        Column::field("vcpus", |h| json!(h.vcpus)),
        Column::field("vcpus_used", |h| json!(h.vcpus_used)),
        Column::view(
            "cpu",
            |h| json!(h.vcpus_used),
            |h| Cell::number(format!("{}/{}", h.vcpus_used, capacity(h).vcpus)),
        ),
        Column::field("memory_mb", |h| json!(h.memory_mb)),
        Column::field("memory_mb_used", |h| json!(h.memory_mb_used)),
        Column::view(
            "ram",
            |h| json!(h.memory_mb_used),
            |h| used_of(units::mib(h.memory_mb_used), units::mib(capacity(h).memory_mb)),
        ),
        Column::field("disk_gb", |h| json!(h.disk_gb)),
        Column::field("disk_gb_used", |h| json!(h.disk_gb_used)),
        Column::view(
            "disk",
            |h| json!(h.disk_gb_used),
            |h| used_of(units::gib(h.disk_gb_used), units::gib(capacity(h).disk_gb)),
        ),
        Column::field("capacity", |h| json!(h.capacity)),
        Column::field("held", |h| json!(h.held)),
        Column::field("free_cpu", |h| json!(free(h).0)),
        Column::view("free_ram", |h| json!(free(h).1), |h| Cell::number(signed(free(h).1, units::mib))),
        Column::view("free_disk", |h| json!(free(h).2), |h| Cell::number(signed(free(h).2, units::gib))),
        Column::field("held_cpu", |h| json!(h.held.map(|held| held.vcpus))),
        Column::view(
            "held_ram",
            |h| json!(h.held.map(|held| held.memory_mb)),
            |h| held(h, |held| units::mib(held.memory_mb)),
        ),
        Column::view(
            "held_disk",
            |h| json!(h.held.map(|held| held.disk_gb)),
            |h| held(h, |held| units::gib(held.disk_gb)),
        ),
        Column::field("instances", |h| json!(h.instances)),
        Column::field("reservations", |h| json!(h.reservations)),
        Column::view("resources", |h| json!(h.resources), |h| Cell::text(resources(h))),
        Column::view("traits", |h| json!(h.traits), |h| Cell::text(h.traits.join(" "))),
        Column::field("aggregates", |h| json!(h.aggregates)),
        Column::view("facts", |h| json!(h.facts), |h| Cell::text(facts(h))),
        Column::field("report_age_s", |h| json!(h.report_age_s)),
        Column::view("age", |h| json!(h.report_age_s), |h| Cell::number(units::age(h.report_age_s))),
        Column::field("disabled_reason", |h| json!(h.disabled_reason)),
        Column::field("clock_offset_s", |h| json!(h.clock_offset_s)),
        Column::view("warnings", |h| json!(h.warnings), |h| Cell::text(warnings(h)).tone(host_tone(h))),
    ],
    table: &["host", "state", "az", "cpu", "ram", "disk", "instances", "age", "warnings"],
    wide: &[
        "free_cpu",
        "free_ram",
        "free_disk",
        "held_cpu",
        "held_ram",
        "held_disk",
        "reservations",
        "aggregates",
        "uuid",
        "resources",
        "traits",
    ],
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
        "free_cpu",
        "free_ram",
        "free_disk",
        "held_cpu",
        "held_ram",
        "held_disk",
        "aggregates",
        "clock_offset_s",
    ],
};

/// The total of each amount, after overcommit.
pub fn capacity(host: &HostSummary) -> HostAmounts {
    let HostSummary { vcpus, memory_mb, disk_gb, .. } = *host;
    host.capacity.unwrap_or(HostAmounts { vcpus, memory_mb, disk_gb })
}

/// What is left of CPUs, memory and disk. It is negative if more is used than the total.
fn free(host: &HostSummary) -> (i64, i64, i64) {
    let HostAmounts { vcpus, memory_mb, disk_gb } = capacity(host);
    let left = |most: u64, used: u64| most.saturating_sub(used) as i64 - used.saturating_sub(most) as i64;
    (left(vcpus, host.vcpus_used), left(memory_mb, host.memory_mb_used), left(disk_gb, host.disk_gb_used))
}

/// An amount with its sign.
fn signed(amount: i64, unit: fn(u64) -> String) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    format!("{sign}{}", unit(amount.unsigned_abs()))
}

fn held(host: &HostSummary, amount: fn(&HostAmounts) -> String) -> Cell {
    Cell::number(host.held.as_ref().map_or_else(String::new, amount))
}

/// For each further resource class: what is used, and the total.
fn resources(host: &HostSummary) -> String {
    let of_class = |(class, held): (&String, &UsedInventory)| {
        let limit = (held.total.saturating_sub(held.reserved)) as f64 * held.allocation_ratio;
        format!("{class} {}/{}", held.used, limit.floor())
    };
    host.resources.iter().map(of_class).collect::<Vec<_>>().join(", ")
}

fn facts(host: &HostSummary) -> String {
    let one = |(key, value): (&String, &serde_json::Value)| {
        format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    host.facts.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn used_of(used: String, total: String) -> Cell {
    Cell::number(format!("{used}/{total}"))
}

fn host_tone(host: &HostSummary) -> Tone {
    if host.warnings.iter().any(HostWarning::is_conflict) || host.unlisted_claims > 0 {
        Tone::Bad
    } else if host.warnings.is_empty() && host.conflicting_zones.is_empty() && host.clock_offset_s.is_none() {
        Tone::Plain
    } else {
        Tone::Warn
    }
}

fn warnings(host: &HostSummary) -> String {
    let disabled = host.disabled_reason.iter().map(|reason| format!("disabled: {reason}"));
    let zones = (!host.conflicting_zones.is_empty())
        .then(|| format!("in {} zones: {}", host.conflicting_zones.len(), host.conflicting_zones.join(", ")));
    let unlisted = (host.unlisted_claims > 0)
        .then(|| format!("{} INSTANCES CLAIMED BY TOO MANY HOSTS", host.unlisted_claims));
    let clock = host.clock_offset_s.iter().map(|offset| {
        let way = if *offset > 0.0 { "ahead" } else { "behind" };
        format!("clock {} {way}", units::age(offset.abs()))
    });
    let all = disabled.chain(host.warnings.iter().map(warning)).chain(unlisted).chain(zones).chain(clock);
    all.collect::<Vec<_>>().join("; ")
}

fn warning(warning: &HostWarning) -> String {
    match warning {
        HostWarning::DuplicateName { other } => format!("DUPLICATE NAME, also {other}"),
        HostWarning::ClonedIdentity { other_host } => format!("CLONED IDENTITY, also on {other_host}"),
        HostWarning::OtherUser { user } => format!("REPORTED BY ANOTHER USER, {user}"),
        HostWarning::NoAnswer => "DOES NOT ANSWER".to_owned(),
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
        let all = fetch(bus, args).await?;
        let missing = args.wanted.missing(&all);
        let mut hosts = args.wanted.of(all);
        write_sorted(&mut hosts, &HOSTS, args.sort.sort.as_ref(), &args.output, console)?;
        if !args.output.holds_notes() {
            hosts.iter().for_each(|host| warn_ambiguous(host, console));
        }
        return missing.map_or(Ok(OK), |missing| Err(missing.failure(!hosts.is_empty()).into()));
    };
    let redraw = args.output.format.is_table() && console.style.terminal;
    if !redraw && matches!(args.output.format, Format::Json | Format::Yaml | Format::Csv | Format::Value) {
        return Err(Failure::new(USAGE, "--watch cannot repeat a single document")
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
        // A failure of the first query ends the command, as without --watch. A later failure may be temporary.
        let trouble = match (fetched, &last) {
            (Ok(hosts), before) => {
                // Missing hosts may still appear, so they do not end the watch.
                if let (Some(missing), None, false) = (args.wanted.missing(&hosts), before, redraw) {
                    console.note(&format!("warning: {}", missing.failure(true)));
                }
                last = Some(args.wanted.of(hosts));
                None
            }
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => Some(novella_service::exit::chain(error.as_ref())),
        };
        let hosts = last.as_deref_mut().unwrap_or_default();
        if redraw {
            write!(console.out, "\x1b[H\x1b[2J")?;
            write_sorted(hosts, &HOSTS, args.sort.sort.as_ref(), &args.output, console)?;
            let status = trouble.map_or_else(String::new, |why| format!("  out of date: {why}"));
            writeln!(console.out, "\n{}{status}", env.clock.rfc3339())?;
            console.out.flush()?;
        } else if let Some(why) = trouble {
            console.note(&format!("warning: {why}; retrying"));
        } else {
            if let Some(sort) = &args.sort.sort {
                HOSTS.sort(hosts, sort)?;
            }
            json_lines(hosts, &env.clock.rfc3339(), &args.output, console)?;
        }
    }
}

/// Writes a line for each host, with the time of this query.
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

/// All hosts of the fleet in the order of their names, with their facts if these are needed.
async fn fetch(bus: &Bus, args: &HostListArgs) -> anyhow::Result<Vec<HostSummary>> {
    // A wrong column is an error before the scheduler is asked.
    HOSTS.pick(&args.output.columns)?;
    let sort = args.sort.sort.as_ref();
    let mut named = args.output.columns.iter().map(String::as_str).chain(sort.map(|sort| &*sort.column));
    let facts = args.wanted.needs_facts() || named.any(|column| column == "facts");
    let (api, options) = (bus.scheduler(), bus.options());
    let list = if facts { api.list_hosts_with_facts(options).await } else { api.list_hosts(options).await };
    let mut hosts = list.map_err(scheduler_failed)?.hosts;
    hosts.sort_by(|a, b| natural(&a.host, &b.host));
    Ok(hosts)
}

fn warn_ambiguous(host: &HostSummary, console: &mut Console<'_>) {
    for found in host.warnings.iter().filter(|warning| warning.is_conflict()) {
        let text = match found {
            HostWarning::ClonedIdentity { other_host } if *other_host == host.host => format!(
                "warning: two processes report as {} with the same identity (one is refused); next: stop the wrong one, and \
                 run `novella host forget {}` if it is the one that is kept",
                host.host, host.host
            ),
            HostWarning::OtherUser { user } => format!(
                "warning: the broker user {user} reports as {} and is refused, because the host belongs to another user; \
                 next: run `novella host forget {}` if {user} is the right one, or else change its password",
                host.host, host.host
            ),
            HostWarning::ClonedIdentity { other_host } => format!(
                "warning: {} and {other_host} report with the same identity; next: on the host that is the copy, stop the agent, \
                 remove identity.json from its state directory, and start it again",
                host.host
            ),
            HostWarning::DuplicateName { other } => format!(
                "warning: two agents report as {} (the reports of the other, {other}, are refused); next: give one of \
                 them another --host, or stop it",
                host.host
            ),
            _ => continue,
        };
        console.note(&text);
    }
}

#[cfg(test)]
mod tests {
    use novella_objects::HostStatus;
    use novella_service::exit::ErrorFormat;
    use serde_json::Value;

    use super::*;
    use crate::output::OutputStyle;
    use crate::tests::a_host;

    fn two_hosts() -> Vec<HostSummary> {
        let warnings = vec![HostWarning::ClonedIdentity { other_host: "h3".into() }];
        let down = HostSummary { state: HostStatus::Down, warnings, ..a_host("h2, \"x\"") };
        vec![a_host("h1"), down]
    }

    #[test]
    fn what_is_free_may_be_negative_and_an_old_scheduler_does_not_know_overcommit() {
        let amounts = HostAmounts { vcpus: 2, memory_mb: 1024, disk_gb: 30 };
        let overfull = HostSummary { capacity: Some(amounts), ..a_host("h1") };
        let shown = |host: &HostSummary, column: &str| HOSTS.pick(&[column]).unwrap()[0].shown(host).text;
        let of = |host: &HostSummary| {
            ["cpu", "free_cpu", "free_ram", "free_disk", "held_ram"].map(|c| shown(host, c))
        };
        assert_eq!(of(&overfull), ["3/2", "-1", "-512M", "10G", "1G"]);
        let old = HostSummary { capacity: None, held: None, ..a_host("h1") };
        assert_eq!(of(&old), ["3/8", "5", "14.5G", "180G", ""]);
    }

    fn rendered(format: Format, columns: &[&str]) -> String {
        rendered_hosts(&two_hosts(), format, columns)
    }

    fn rendered_hosts(hosts: &[HostSummary], format: Format, columns: &[&str]) -> String {
        let args = OutputArgs { format, columns: columns.iter().map(|&c| c.to_owned()).collect() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let style = OutputStyle::default();
        let mut console = Console { out: &mut out, err: &mut err, style, messages: ErrorFormat::Text };
        write_rows(hosts, &HOSTS, &args, &mut console).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_host_reports_cannot_change_the_terminal_or_hide() {
        let reason = Some("\u{1b}[2Jx\u{202e}y\u{200b}z".to_owned());
        let hosts = [HostSummary { disabled_reason: reason, unlisted_claims: 3, ..a_host("h1") }];
        for format in [Format::Table, Format::Csv, Format::Value] {
            let shown = rendered_hosts(&hosts, format, &["host", "warnings"]);
            assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{format:?}: {shown:?}");
        }
        assert_eq!(host_tone(&hosts[0]), Tone::Bad);
        assert!(warnings(&hosts[0]).ends_with("3 INSTANCES CLAIMED BY TOO MANY HOSTS"));
    }

    #[test]
    fn a_host_in_two_zones_is_marked() {
        let zones = vec!["north".to_owned(), "south".to_owned()];
        let host = HostSummary { conflicting_zones: zones, ..a_host("h1") };
        assert_eq!(warnings(&host), "in 2 zones: north, south");
        assert_eq!(host_tone(&host), Tone::Warn);
    }

    #[test]
    fn a_clock_that_is_off_is_a_warning() {
        let with = |offset| HostSummary { clock_offset_s: Some(offset), ..a_host("h1") };
        assert_eq!(warnings(&with(12.4)), "clock 12s ahead");
        assert_eq!(warnings(&with(-3600.0 * 5.0)), "clock 5h behind");
        assert_eq!(warnings(&a_host("h1")), "");
    }

    #[test]
    fn rows_in_every_format() {
        assert_eq!(
            rendered(Format::Table, &[]),
            "\
HOST     STATE  AZ     CPU       RAM      DISK  INSTANCES   AGE  WARNINGS
h1       up     nova  3/32  1.5G/16G  20G/200G          2  3.2s
h2, \"x\"  down   nova  3/32  1.5G/16G  20G/200G          2  3.2s  CLONED IDENTITY, also on h3
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
        assert_eq!(rendered(Format::Csv, &[]).lines().next().unwrap().split(',').count(), 25);
    }
}
