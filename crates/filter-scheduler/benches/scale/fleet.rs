//! Fleets and requests of any size, from a seed: the distributions of the recorded fleet, and equal empty hosts.
//!
//! A host of the `Oracle` fleet draws its hardware, ratios, aggregates, state and load from the values and frequencies of
//! `crates/fleet-documents/tests/oracle/fleet_1000.json.gz`; load is drawn apart from hardware, so that amounts repeat no more often than there.

use std::collections::BTreeMap;
use std::path::Path;

use novella_filter_scheduler::{
    Aggregate, FilterKind, HostTable, Instance, Resources, SchedulerOptions, WeigherKind,
};
use novella_objects::{AllocationRatios, Flavor, HostStatus, RequestSpec};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::naive;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Oracle,
    Equal,
}

#[derive(Deserialize)]
struct Recorded {
    aggregates: Vec<RecordedAggregate>,
    hosts: Vec<RecordedHost>,
}

#[derive(Deserialize)]
struct RecordedAggregate {
    id: u32,
    name: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RecordedHost {
    vcpus: u64,
    vcpus_used: u64,
    memory_mb: u64,
    memory_mb_used: u64,
    local_gb: u64,
    local_gb_used: u64,
    cpu_allocation_ratio: f64,
    ram_allocation_ratio: f64,
    disk_allocation_ratio: f64,
    hypervisor_type: String,
    hypervisor_version: i64,
    cpu_info: Value,
    supported_instances: Value,
    num_instances: u32,
    num_io_ops: u32,
    failed_builds: u32,
    aggregates: Vec<u32>,
    disabled: bool,
    last_seen_age_s: u64,
}

pub fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-documents/tests/oracle").join(name);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(file)).expect("it is gzipped text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A fleet for the engine, and what the naive engine needs to have the same.
pub struct Fleet {
    pub table: HostTable,
    pub aggregates: Vec<Aggregate>,
    pub naive: Vec<naive::Host>,
    /// What each host reported first.
    pub reported: Vec<Resources>,
    /// The capabilities of the recorded hosts, as reports.
    pub reports: Vec<String>,
    /// By row: which of these the host reports.
    pub report_of: Vec<usize>,
}

/// Nova's default filters with Ram, Core and Disk, and every weigher.
pub fn options() -> SchedulerOptions {
    SchedulerOptions {
        enabled_filters: vec![
            FilterKind::Compute,
            FilterKind::Ram,
            FilterKind::Core,
            FilterKind::Disk,
            FilterKind::ComputeCapabilities,
            FilterKind::ImageProperties,
            FilterKind::ServerGroupAntiAffinity,
            FilterKind::ServerGroupAffinity,
        ],
        weighers: WeigherKind::ALL.map(|kind| (kind, kind.default_multiplier())).to_vec(),
        ..SchedulerOptions::default()
    }
}

/// `instances` on each host; the naive engine's fleet only if asked for, because it takes far more memory.
pub fn fleet(kind: Kind, hosts: usize, instances: usize, with_naive: bool) -> Fleet {
    let recorded: Recorded = read("fleet_1000.json.gz");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut table = HostTable::new();
    let aggregates: Vec<Aggregate> = recorded
        .aggregates
        .iter()
        .map(|a| Aggregate { id: a.id, name: a.name.clone(), metadata: a.metadata.clone() })
        .collect();
    table.set_aggregates(aggregates.iter().cloned());
    let reports: Vec<String> = recorded.hosts.iter().map(report).collect();
    let (reported, report_of) = (Vec::with_capacity(hosts), Vec::with_capacity(hosts));
    let mut fleet = Fleet { table, aggregates, naive: Vec::new(), reported, reports, report_of };
    for at in 0..hosts {
        let name = format!("cmp{at:07}");
        let row = fleet.table.insert(&name, &format!("{name}.dc{}.example.org", at % 3));
        let pick = if kind == Kind::Equal { 0 } else { rng.random_range(0..recorded.hosts.len()) };
        let host = &recorded.hosts[pick];
        let load = recorded.hosts.choose(&mut rng).expect("there are hosts");
        let (resources, status) = match kind {
            Kind::Equal => (equal(), HostStatus::Up),
            Kind::Oracle => (drawn(&mut rng, host, load), status(load)),
        };
        let ids: &[u32] = if kind == Kind::Equal { &[] } else { &host.aggregates };
        fleet.table.set_resources(row, &resources).expect("good resources");
        fleet.table.set_status(row, status);
        fleet.table.set_host_aggregates(row, ids);
        fleet
            .table
            .set_capabilities(row, &serde_json::from_str(&fleet.reports[pick]).expect("a good report"));
        let uuids =
            (0..instances).map(|number| Uuid::from_u128((1 << 64) + (at * instances + number) as u128));
        for uuid in uuids.clone() {
            let instance = Instance { uuid, flavor: None, image: None };
            fleet.table.add_instance(row, &instance).expect("without image");
        }
        if with_naive {
            fleet.naive.push(naive::Host {
                aggregates: ids.iter().copied().collect(),
                instances: uuids.collect(),
                hypervisor_version: host.hypervisor_version,
                ..naive::Host::new(name, resources, status)
            });
        }
        fleet.reported.push(resources);
        fleet.report_of.push(pick);
    }
    fleet
}

fn equal() -> Resources {
    Resources {
        vcpus_total: 64,
        memory_mb_total: 262_144,
        disk_gb_total: 2_000,
        ratios: AllocationRatios { cpu: 4.0, ..AllocationRatios::default() },
        ..Resources::default()
    }
}

/// The hardware of one recorded host under the load of another.
fn drawn(rng: &mut ChaCha8Rng, host: &RecordedHost, load: &RecordedHost) -> Resources {
    let mut part = |total: u64, used: u64, of: u64, unit: u64| {
        let share = used as f64 / of.max(1) as f64 * rng.random_range(0.8..1.2);
        (total as f64 * share / unit as f64).round() as u64 * unit
    };
    Resources {
        vcpus_total: host.vcpus,
        vcpus_used: part(host.vcpus, load.vcpus_used, load.vcpus, 1),
        memory_mb_total: host.memory_mb,
        memory_mb_used: part(host.memory_mb, load.memory_mb_used, load.memory_mb, 512),
        disk_gb_total: host.local_gb,
        disk_gb_used: part(host.local_gb, load.local_gb_used, load.local_gb, 1).min(host.local_gb),
        ratios: AllocationRatios {
            cpu: host.cpu_allocation_ratio,
            ram: host.ram_allocation_ratio,
            disk: host.disk_allocation_ratio,
        },
        num_instances: load.num_instances,
        num_io_ops: load.num_io_ops,
        failed_builds: load.failed_builds,
    }
}

fn status(host: &RecordedHost) -> HostStatus {
    match (host.disabled, host.last_seen_age_s > 60) {
        (true, _) => HostStatus::Disabled,
        (false, true) => HostStatus::Down,
        (false, false) => HostStatus::Up,
    }
}

fn report(host: &RecordedHost) -> String {
    serde_json::json!({
        "cpu_info": host.cpu_info.to_string(),
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "supported_instances": host.supported_instances,
        "novella": {
            "uuid": Uuid::nil(), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "", "interval_ms": 1,
            "facts": {"rack": 7, "row": 2, "psu": 2, "site": "dc0", "model": "r7525"},
        },
    })
    .to_string()
}

/// Some instances.
pub fn uuids(instances: u128) -> Vec<Uuid> {
    (0..instances).map(Uuid::from_u128).collect()
}

/// A request without wishes. No two `variant`s are of the same shape.
pub fn request(variant: u64) -> RequestSpec {
    RequestSpec {
        flavor: Flavor { vcpus: 4, memory_mb: 8192 + variant, root_gb: 80, ..Flavor::default() },
        ..RequestSpec::default()
    }
}
