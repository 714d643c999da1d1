//! `novella zone list`: the availability zones of the hosts, and the hint about a zone that has no hosts.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use novella_objects::{HostStatus, HostSummary};
use serde::Serialize;
use serde_json::json;

use super::host::capacity;
use super::host::wanted::{zones, zones_there_are};
use crate::connect::{Bus, scheduler_failed};
use crate::exit_codes::OK;
use crate::output::{Cell, Column, Console, Listing, OutputArgs, SortArgs, natural, write_sorted};
use crate::units;

/// The commands of `zone`.
#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// List the availability zones with their hosts and what is used in them
    #[command(alias = "ls")]
    List(ZoneListArgs),
}

/// Arguments of `zone list`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  novella zone list
  novella zone list -f value -c zone

A zone is listed if a host is in it. A host is in the zone that its aggregates name, or else in the
one that its agent reports. UP counts the hosts that can be given work, suspect ones included.")]
pub struct ZoneListArgs {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sort: SortArgs,
}

/// A zone: the sums of its hosts.
#[derive(Debug, Default, Serialize)]
struct ZoneRow {
    zone: String,
    hosts: u64,
    /// Hosts on which instances can be placed.
    up: u64,
    disabled: u64,
    down: u64,
    instances: u64,
    vcpus_used: u64,
    vcpus_capacity: u64,
    memory_mb_used: u64,
    memory_mb_capacity: u64,
    disk_gb_used: u64,
    disk_gb_capacity: u64,
}

impl ZoneRow {
    fn add(&mut self, host: &HostSummary) {
        let most = capacity(host);
        self.hosts += 1;
        match host.state {
            HostStatus::Up | HostStatus::Suspect => self.up += 1,
            HostStatus::Disabled => self.disabled += 1,
            HostStatus::Down => self.down += 1,
        }
        self.instances += u64::from(host.instances);
        self.vcpus_used += host.vcpus_used;
        self.vcpus_capacity += most.vcpus;
        self.memory_mb_used += host.memory_mb_used;
        self.memory_mb_capacity += most.memory_mb;
        self.disk_gb_used += host.disk_gb_used;
        self.disk_gb_capacity += most.disk_gb;
    }
}

const ZONES: Listing<ZoneRow> = Listing {
    all: &[
        Column::field("zone", |z| json!(z.zone)),
        Column::field("hosts", |z| json!(z.hosts)),
        Column::field("up", |z| json!(z.up)),
        Column::field("disabled", |z| json!(z.disabled)),
        Column::field("down", |z| json!(z.down)),
        Column::field("instances", |z| json!(z.instances)),
        Column::field("vcpus_used", |z| json!(z.vcpus_used)),
        Column::field("vcpus_capacity", |z| json!(z.vcpus_capacity)),
        Column::field("memory_mb_used", |z| json!(z.memory_mb_used)),
        Column::field("memory_mb_capacity", |z| json!(z.memory_mb_capacity)),
        Column::field("disk_gb_used", |z| json!(z.disk_gb_used)),
        Column::field("disk_gb_capacity", |z| json!(z.disk_gb_capacity)),
        Column::view(
            "cpu",
            |z| json!(z.vcpus_used),
            |z| Cell::number(format!("{}/{}", z.vcpus_used, z.vcpus_capacity)),
        ),
        Column::view(
            "ram",
            |z| json!(z.memory_mb_used),
            |z| {
                Cell::number(format!("{}/{}", units::mib(z.memory_mb_used), units::mib(z.memory_mb_capacity)))
            },
        ),
        Column::view(
            "disk",
            |z| json!(z.disk_gb_used),
            |z| Cell::number(format!("{}/{}", units::gib(z.disk_gb_used), units::gib(z.disk_gb_capacity))),
        ),
    ],
    table: &["zone", "hosts", "up", "disabled", "down", "instances", "cpu", "ram", "disk"],
    wide: &[],
    fields: &[
        "zone",
        "hosts",
        "up",
        "disabled",
        "down",
        "instances",
        "vcpus_used",
        "vcpus_capacity",
        "memory_mb_used",
        "memory_mb_capacity",
        "disk_gb_used",
        "disk_gb_capacity",
    ],
};

/// Lists the zones.
pub async fn list(bus: &Bus, args: &ZoneListArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    ZONES.pick(&args.output.columns)?;
    let hosts = bus.scheduler().list_hosts(bus.options()).await.map_err(scheduler_failed)?.hosts;
    let mut by_name: BTreeMap<&str, ZoneRow> = BTreeMap::new();
    for host in &hosts {
        zones(host).for_each(|zone| by_name.entry(zone).or_default().add(host));
    }
    let mut rows: Vec<_> =
        by_name.into_iter().map(|(zone, row)| ZoneRow { zone: zone.to_owned(), ..row }).collect();
    rows.sort_by(|a, b| natural(&a.zone, &b.zone));
    write_sorted(&mut rows, &ZONES, args.sort.sort.as_ref(), &args.output, console)?;
    Ok(OK)
}

/// The note on a refused request that asks for a zone without hosts. It lists the zones that there are.
pub async fn unknown(bus: &Bus, az: Option<&str>) -> Option<String> {
    let az = az?;
    // The request is answered. If this query fails, only the hint is missing.
    let list = bus.scheduler().list_hosts(bus.options()).await.ok()?;
    let known = list.hosts.iter().flat_map(zones).any(|zone| zone == az);
    (!known).then(|| format!("no host is in zone {az}; {}", zones_there_are(&list.hosts)))
}
