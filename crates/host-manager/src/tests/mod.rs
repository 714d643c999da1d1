//! Tests of the manager as a whole: each rule by example, and everything together against a naive model.

mod admission;
mod devices;
mod holds;
mod model;
mod newcomers;
mod owners;
mod placing;
mod policy;
mod quotas;
mod service_placing;
mod time;
mod views;

use std::time::Duration;

use novella_filter_scheduler::{Failure, FilterScheduler, HostTable, Pick, Selected};
use novella_objects::{
    Capabilities, Claim, Decision, Entries, Explanation, Flavor, HostStatus, Inventory, Json, NovellaReport,
    PlacementRequest, Refusal, RequestSpec, Reserve, ReserveEntry, Reserved, SelectDestinations,
};
use novella_resources::Amounts;
use uuid::Uuid;

use crate::holder::By;
use crate::host_manager::HostManager;
use crate::options::HostManagerOptions;
use crate::report::outcome::{Applied, Event};
use crate::verbs::place::decide;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn manager() -> HostManager {
    HostManager::new(HostManagerOptions::default(), "s1")
}

/// Runs the cases of the seeds below `cases`, or the one that `NOVELLA_TEST_SEED` names. A case that fails prints its seed.
fn each_seed(cases: u64, case: fn(u64)) {
    let seeds = match std::env::var("NOVELLA_TEST_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("NOVELLA_TEST_SEED is a number"),
        Err(_) => 0..cases,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| case(seed)) {
            eprintln!("failed with NOVELLA_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The report of a host, which each test varies.
#[derive(Clone, Default)]
struct Report {
    host: String,
    uuid: u128,
    incarnation: u64,
    nonce: u64,
    seq: u64,
    user: Option<&'static str>,
    reserved: Reserved,
    claims: Vec<Claim<'static>>,
    holds: Vec<Claim<'static>>,
    ended: Vec<Uuid>,
    goodbye: bool,
    disabled_reason: Option<String>,
    traits: Vec<&'static str>,
    resources: Vec<(&'static str, Inventory)>,
    numa_topology: Option<Json<'static>>,
    pci_pools: Option<Json<'static>>,
}

impl Report {
    /// The first report of host `h<n>`, with 16 CPUs, 16 GiB of memory and 100 GiB of disk.
    fn of(n: u128) -> Self {
        Self {
            host: format!("h{n}"),
            uuid: n,
            incarnation: 1,
            nonce: 1000 + n as u64,
            seq: 1,
            traits: vec!["HW_CPU_X86_AVX2"],
            ..Self::default()
        }
    }

    fn caps(&self) -> Capabilities<'static> {
        let novella = NovellaReport {
            uuid: id(self.uuid),
            incarnation: self.incarnation,
            nonce: self.nonce,
            seq: self.seq,
            sent_at: format!("2026-01-01T00:00:{:02}Z", self.seq % 60).into(),
            interval_ms: 10_000,
            goodbye: self.goodbye,
            disabled_reason: self.disabled_reason.clone().map(Into::into),
            reserved: self.reserved,
            claims: self.claims.clone(),
            holds: self.holds.clone(),
            ended: self.ended.clone(),
            traits: self.traits.iter().map(|name| (*name).into()).collect(),
            resources: Entries(self.resources.iter().map(|(class, i)| ((*class).into(), *i)).collect()),
            numa_topology: self.numa_topology.clone(),
            pci_pools: self.pci_pools.clone(),
            ..NovellaReport::default()
        };
        Capabilities {
            vcpus: Some(16),
            host_memory_total: Some(16_384),
            disk_total: Some(100),
            novella: Some(Box::new(novella)),
            ..Capabilities::default()
        }
    }

    /// Says goodbye, and goes on as the next process, under this name.
    fn restart_as(&mut self, host: &str, manager: &mut HostManager, now: Duration) {
        self.goodbye = true;
        assert_eq!(self.send(manager, now), Applied::Goodbye);
        *self = Self {
            host: host.into(),
            incarnation: self.incarnation + 1,
            seq: 1,
            goodbye: false,
            ..self.clone()
        };
    }

    /// Sends the report as the next one of its process.
    fn send(&mut self, manager: &mut HostManager, now: Duration) -> Applied {
        let applied = manager.apply_report(self.user, "compute", &self.host, &self.caps(), now);
        self.seq += 1;
        applied
    }
}

fn claim(uuid: u128, amounts: Amounts) -> Claim<'static> {
    Claim {
        uuid: id(uuid),
        vcpus: amounts.vcpus as u32,
        memory_mb: amounts.memory_mb,
        disk_gb: amounts.disk_gb,
        ..Claim::default()
    }
}

/// A flavor with one CPU, 1 GiB of memory and 1 GiB of disk.
const SMALL: Amounts = Amounts { vcpus: 1, memory_mb: 1024, disk_gb: 1, instances: 1 };

fn request(uuids: impl IntoIterator<Item = u128>, amounts: Amounts) -> SelectDestinations {
    SelectDestinations {
        request_spec: PlacementRequest {
            instance_uuids: uuids.into_iter().map(id).collect(),
            spec: RequestSpec {
                flavor: Flavor {
                    vcpus: amounts.vcpus as u32,
                    memory_mb: amounts.memory_mb,
                    root_gb: amounts.disk_gb,
                    ..Flavor::default()
                },
                ..RequestSpec::default()
            },
            attempt: 1,
        },
        ..SelectDestinations::default()
    }
}

/// What a peer tells of a small instance that it placed.
fn told(uuid: u128, host: &str, ttl_ms: u64) -> Reserve {
    let entry = ReserveEntry {
        uuid: id(uuid),
        host: host.into(),
        vcpus: 1,
        memory_mb: 1024,
        disk_gb: 1,
        spec_hash: 7,
        ..ReserveEntry::default()
    };
    Reserve { decision_id: "s2-1".into(), scheduler: "s2".into(), ttl_ms, entries: vec![entry], user: None }
}

/// A replacement for filters and weighers: the first serving host with enough memory, all instances or none.
fn first_fit(table: &mut HostTable, spec: &RequestSpec, instances: &[Uuid], dry_run: bool) -> Selected {
    let amounts = Amounts::of_flavor(&spec.flavor);
    let mut picks = Vec::new();
    for _ in instances {
        let fits = |row: &novella_filter_scheduler::Row| {
            let view = table.view(*row);
            matches!(view.status(), HostStatus::Up | HostStatus::Suspect)
                && view.free_memory_mb() >= amounts.memory_mb as f64
        };
        let Some(row) = table.rows().find(fits) else { break };
        table.consume(row, &amounts);
        picks.push(Pick { row, weight: 1.5, took_devices: false });
    }
    let all = picks.len() == instances.len();
    if !all || dry_run {
        picks.iter().for_each(|pick| table.give_back(pick.row, &amounts));
    }
    let placeable = picks.len() as u32;
    Selected {
        picks: if all { picks } else { Vec::new() },
        alternates: table.rows().skip(1).collect(),
        explanation: Explanation::default(),
        filter_errors: Vec::new(),
        weigher_errors: Vec::new(),
        failure: (!all).then(|| Failure::NoValidHost { reason: "None fits.".into(), placeable }),
    }
}

fn place(manager: &mut HostManager, request: &SelectDestinations, now: Duration) -> Decision {
    let decision_id = format!("s1-{}", now.as_millis());
    place_as(manager, request, decision_id, now)
}

/// Decides by the stand-in.
fn place_as(m: &mut HostManager, asked: &SelectDestinations, decision_id: String, now: Duration) -> Decision {
    let decision = decide(&mut m.map, asked, &By::default(), decision_id, now, |table, spec, instances| {
        first_fit(table, spec, instances, asked.dry_run)
    });
    decision.expect("the stand-in always answers").decision
}

/// Decides by the real engine, with seed 0.
fn select(
    manager: &mut HostManager,
    engine: &mut FilterScheduler,
    request: &SelectDestinations,
    decision_id: String,
    now: Duration,
) -> Result<Decision, Failure> {
    let request = manager.resolve(request.clone())?;
    Ok(manager.select_destinations(engine, &request, decision_id, 0, now)?.decision)
}

/// What is in use on a host: vCPUs, MiB, GiB, and the number of reservations.
fn used(manager: &HostManager, host: &str) -> (u64, u64, u64, u32) {
    let row = manager.table().row_of(host).expect("the host is known");
    let used = manager.table().view(row).used();
    (used.vcpus, used.memory_mb, used.disk_gb, manager.map.record(row).held)
}

fn status(manager: &HostManager, host: &str) -> Option<HostStatus> {
    manager.table().row_of(host).map(|row| manager.table().view(row).status())
}
