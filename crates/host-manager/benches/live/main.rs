//! Placements while a fleet reports: the whole way of a request through the host manager, between reports as agents
//! with the linux driver send them. Free memory, free disk and load differ in each report.
//!
//!     cargo bench -p novella-host-manager --bench live -- [ROW...]
//!
//! With arguments, only the rows whose names begin with one of them run. Each row is one line, separated by tabs: row,
//! fleet, unit, fastest sample, median, target. The fleets are those of the engine's benchmark `scale`.

#[path = "../../../filter-scheduler/benches/scale/fleet.rs"]
#[allow(dead_code, reason = "the engine's benchmark uses more of it")]
mod fleet;
#[path = "../../../filter-scheduler/tests/naive/mod.rs"]
#[allow(dead_code, reason = "the fleet is made for the naive engine too")]
mod naive;
mod shapes;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Kind, fleet, options, request};
use novella_filter_scheduler::{FilterScheduler, Resources};
use novella_host_manager::{Applied, HostManager, HostManagerOptions, PolicyFile};
use novella_objects::{
    Capabilities, Claim, HostStatus, NovellaReport, PlacementRequest, RequestSpec, Reserved,
    SelectDestinations, Selection,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shapes::shapes;
use uuid::Uuid;

/// How long samples of one row are taken at most.
const SAMPLING: Duration = Duration::from_secs(2);

/// How many samples of one row are taken at most.
const SAMPLES: usize = 20_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let run = |row: &str| wanted.is_empty() || wanted.iter().any(|name| row.starts_with(name.as_str()));
    println!("row\tfleet\tunit\tfastest\tmedian\tnaive\ttarget");
    for kind in [Kind::Oracle, Kind::Equal] {
        for (hosts, target) in
            [(100, None), (1_000, None), (10_000, None), (100_000, Some(60.0)), (1_000_000, Some(500.0))]
        {
            if run(&format!("single_{hosts}_repeated")) {
                repeated(kind, hosts, target);
            }
        }
    }
    if run("sustained_5000") {
        sustained(5_000);
    }
}

fn show(row: &str, kind: Kind, unit: &str, (best, median): (f64, f64), target: Option<f64>) {
    let target = target.map_or_else(|| "-".to_owned(), |target| format!("{target:.1}"));
    println!("{row}\t{kind:?}\t{unit}\t{best:.1}\t{median:.1}\t-\t{target}");
}

/// One host of the fleet, with what it reports.
struct Host {
    name: String,
    amounts: Resources,
    capabilities: Capabilities<'static>,
}

impl Host {
    /// Sends the next report, with other measured values and with these claims.
    fn report(&mut self, manager: &mut HostManager, rng: &mut ChaCha8Rng, now: Duration) -> Applied {
        let free = rng.random_range(0..self.amounts.memory_mb_total.max(1));
        let caps = &mut self.capabilities;
        caps.host_memory_free = Some(free as i64);
        caps.disk_available = Some(rng.random_range(0..=self.amounts.disk_gb_total) as i64);
        caps.disk_used = caps.disk_available.map(|free| self.amounts.disk_gb_total as i64 - free);
        let report = caps.novella.as_mut().expect("every report has our part");
        report.seq += 1;
        report.measured.load_1m = Some(rng.random_range(0.0..64.0));
        report.measured.memory_available_mb = Some(free);
        report.reserved = reserved(&self.amounts);
        manager.apply_report(None, "compute", &self.name, caps, now)
    }
}

fn reserved(amounts: &Resources) -> Reserved {
    Reserved {
        vcpus: u32::try_from(amounts.vcpus_used).expect("few CPUs"),
        memory_mb: amounts.memory_mb_used,
        disk_gb: amounts.disk_gb_used,
    }
}

/// A fleet in a host manager, and the engine with the options of the benchmark.
struct Bed {
    manager: HostManager,
    engine: FilterScheduler,
    hosts: Vec<Host>,
    rng: ChaCha8Rng,
    now: Duration,
}

impl Bed {
    fn new(kind: Kind, hosts: usize) -> Self {
        let fleet = fleet(kind, hosts, 0, false);
        let rules = fleet.aggregates.iter().map(|aggregate| {
            let metadata = serde_json::to_string(&aggregate.metadata).expect("texts");
            let metadata = metadata.replace("\":", "\"=");
            let id = aggregate.id;
            format!("[aggregates.\"{}\"]\nid = {id}\nmatch = {{ facts = {{ a{id} = [\"in\"] }} }}\nmetadata = {metadata}\n", aggregate.name)
        });
        let mut policy = PolicyFile::parse(&rules.collect::<String>()).expect("a good policy");
        policy.options = options();
        let bounds =
            HostManagerOptions { max_hosts: hosts, max_reservations: 1_000_000, ..Default::default() };
        let mut manager = HostManager::new(bounds, "bench");
        manager.set_policy(Arc::new(policy));
        let now = Duration::from_secs(1);
        let made = fleet.table.rows().map(|row| {
            let (view, amounts) = (fleet.table.view(row), fleet.reported[row.index()]);
            let text: &'static str = fleet.reports[fleet.report_of[row.index()]].clone().leak();
            let mut capabilities: Capabilities<'static> = serde_json::from_str(text).expect("a good report");
            let whole = |amount: u64| Some(i64::try_from(amount).expect("a small number"));
            capabilities.vcpus = whole(amounts.vcpus_total);
            capabilities.host_memory_total = whole(amounts.memory_mb_total);
            capabilities.disk_total = whole(amounts.disk_gb_total);
            capabilities.hypervisor_hostname = Some(Cow::Owned(view.nodename().to_owned()));
            let report: &mut NovellaReport<'static> = capabilities.novella.as_mut().expect("our part");
            report.uuid = Uuid::from_u128(1 + row.index() as u128);
            report.sent_at = "2026-01-01T00:00:00.000Z".into();
            report.interval_ms = 10_000;
            report.allocation_ratios = amounts.ratios;
            report.num_io_ops = amounts.num_io_ops;
            report.failed_builds = amounts.failed_builds;
            report.traits = TRAITS.iter().map(|name| (*name).into()).collect();
            report.disabled_reason = (view.status() == HostStatus::Disabled).then(|| "by hand".into());
            for id in fleet.table.aggregates_of(row) {
                report
                    .facts
                    .0
                    .push((format!("a{id}").into(), novella_objects::Json::of("in").expect("a text")));
            }
            Host { name: view.host().to_owned(), amounts, capabilities }
        });
        let mut bed = Self {
            hosts: made.collect(),
            manager,
            engine: FilterScheduler::new(options()).expect("good options"),
            rng: ChaCha8Rng::seed_from_u64(5),
            now,
        };
        for host in &mut bed.hosts {
            let applied = host.report(&mut bed.manager, &mut bed.rng, bed.now);
            assert!(applied.is_accepted(), "{applied:?}");
        }
        bed
    }

    /// Answers a request, as the scheduler does that has just read it.
    fn place(&mut self, request: SelectDestinations, number: u128) -> Vec<Selection> {
        let id = format!("bench-{number}");
        let request = self.manager.resolve(request).expect("it names nothing");
        let placed = self.manager.select_destinations(&mut self.engine, &request, id, 1, self.now);
        placed.expect("a good request").decision.selections
    }
}

const TRAITS: [&str; 12] = [
    "HW_ARCH_X86_64",
    "HW_CPU_X86_AESNI",
    "HW_CPU_X86_AVX",
    "HW_CPU_X86_AVX2",
    "HW_CPU_X86_BMI",
    "HW_CPU_X86_BMI2",
    "HW_CPU_X86_F16C",
    "HW_CPU_X86_FMA3",
    "HW_CPU_X86_MMX",
    "HW_CPU_X86_SSE41",
    "HW_CPU_X86_SSE42",
    "HW_CPU_X86_SVM",
];

/// A request for one instance.
fn one(spec: RequestSpec) -> PlacementRequest {
    PlacementRequest { instance_uuids: vec![Uuid::from_u128(0)], spec, attempt: 0 }
}

/// A known shape after 100 reports, half of which say that an instance has come or gone. Nothing stays placed.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn repeated(kind: Kind, hosts: usize, target: Option<f64>) {
    let mut bed = Bed::new(kind, hosts);
    let asked =
        SelectDestinations { request_spec: one(request(0)), dry_run: true, ..SelectDestinations::default() };
    bed.place(asked.clone(), 0);
    let (mut samples, began) = (Vec::new(), Instant::now());
    let mut changed: Vec<usize> = Vec::new();
    while samples.len() < 5 || (samples.len() < SAMPLES && began.elapsed() < SAMPLING) {
        let Bed { manager, hosts, rng, now, .. } = &mut bed;
        for at in changed.drain(..) {
            hosts[at].amounts.memory_mb_used -= 1;
            hosts[at].report(manager, rng, *now);
        }
        for _ in 0..50.min(hosts.len() / 20) {
            let at = rng.random_range(0..hosts.len());
            hosts[at].amounts.memory_mb_used += 1;
            hosts[at].report(manager, rng, *now);
            changed.push(at);
        }
        let request = asked.clone();
        let start = Instant::now();
        let selections = bed.place(request, 0);
        samples.push(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(selections.len(), 1);
    }
    samples.sort_unstable_by(f64::total_cmp);
    show(&format!("single_{hosts}_repeated"), kind, "us", (samples[0], samples[samples.len() / 2]), target);
}

/// Decisions one after another, for the recorded kinds of requests, drawn by Zipf's law. Every host reports once in ten
/// seconds, and then claims what was placed on it, until the fleet is filled to 80 %. Only decisions and reports are
/// timed.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn sustained(hosts: usize) {
    const SHAPES: usize = 64;
    const FULL: f64 = 0.8;
    const MOST: u32 = 1_000_000;
    let mut bed = Bed::new(Kind::Oracle, hosts);
    for host in &mut bed.hosts {
        let amounts = &mut host.amounts;
        (amounts.vcpus_used, amounts.memory_mb_used, amounts.disk_gb_used) = (0, 0, 0);
        host.report(&mut bed.manager, &mut bed.rng, bed.now);
    }
    let mut shapes: Vec<_> = shapes(SHAPES)
        .into_iter()
        .map(|spec| SelectDestinations {
            request_spec: one(spec),
            alternates: Some(0),
            hold_s: Some(3600),
            ..SelectDestinations::default()
        })
        .collect();
    let zipf: Vec<f64> = (1..=SHAPES).map(|rank| (rank as f64).powf(-1.1)).collect();
    let total: f64 = zipf.iter().sum();
    let (mut decisions, mut placed, mut reported, mut filled) = (0u32, 0u32, 0usize, 0.0);
    let (mut worked, mut reporting) = (Duration::ZERO, Duration::ZERO);
    while filled < FULL && decisions < MOST {
        let mut at = bed.rng.random_range(0.0..total);
        let shape = zipf.iter().position(|share| {
            at -= share;
            at < 0.0
        });
        let asked = &mut shapes[shape.unwrap_or(SHAPES - 1)];
        let uuid = Uuid::from_u128((1u128 << 80) + u128::from(decisions));
        asked.request_spec.instance_uuids.clear();
        asked.request_spec.instance_uuids.push(uuid);
        let request = asked.clone();
        let start = Instant::now();
        let selections = bed.place(request, decisions.into());
        worked += start.elapsed();
        decisions += 1;
        for selection in &selections {
            placed += 1;
            let at: usize = selection.host[3..].parse().expect("a number follows cmp");
            let flavor = &asked.request_spec.spec.flavor;
            let claims = &mut bed.hosts[at].capabilities.novella.as_mut().expect("our part").claims;
            claims.push(Claim {
                uuid,
                vcpus: flavor.vcpus,
                memory_mb: flavor.memory_mb,
                disk_gb: flavor.root_gb + flavor.ephemeral_gb,
                ..Claim::default()
            });
        }
        if decisions % 64 == 0 {
            let due = ((worked + reporting).as_secs_f64() * hosts as f64 / 10.0) as usize;
            while reported < due {
                let Bed { manager, hosts: fleet, rng, now, .. } = &mut bed;
                let host = &mut fleet[reported % hosts];
                let start = Instant::now();
                let applied = host.report(manager, rng, *now);
                reporting += start.elapsed();
                assert!(applied.is_accepted(), "{applied:?}");
                reported += 1;
            }
        }
        if decisions % 1024 == 0 {
            filled = fill(&bed);
        }
    }
    let rate = f64::from(decisions) / (worked + reporting).as_secs_f64();
    eprintln!(
        "sustained: {decisions} decisions, {placed} placed, {reported} reports in {} ms; hosts filled to {:.0} %",
        reporting.as_millis(),
        100.0 * filled
    );
    show("sustained_5000", Kind::Oracle, "per s, at least", (rate, rate), Some(50_000.0));
}

/// How full the hosts are that are up. Each counts by the amount that is scarcest on it.
fn fill(bed: &Bed) -> f64 {
    let table = bed.manager.table();
    let (mut sum, mut hosts) = (0.0, 0u32);
    for host in table.rows().map(|row| table.view(row)).filter(|host| host.status() == HostStatus::Up) {
        let (used, of) = (host.used(), host.limits());
        let memory = used.memory_mb as f64 / of.memory_mb;
        sum += memory.max(used.vcpus as f64 / of.vcpus).max(used.disk_gb as f64 / of.disk_gb);
        hosts += 1;
    }
    sum / f64::from(hosts.max(1))
}
