//! One placement with filters, weighers, pick and explanation, at several fleet sizes; also the snapshot, and the
//! memory per host.
//!
//! Run it with `cargo bench -p novella-filter-scheduler`. There are three fleets: `mixed` has hosts of several sizes
//! and all degrees of use, `equal` has empty hosts with equal weights, and in `ratios` no CPU value is a round number.

use divan::Bencher;
use divan::counter::BytesCount;
use novella_filter_scheduler::{FilterScheduler, HostTable, Resources, SchedulerOptions, Terms};
use novella_objects::{AllocationRatios, Flavor, HostStatus, RequestSpec};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

#[derive(Clone, Copy, PartialEq)]
enum Fleet {
    Mixed,
    Equal,
    Ratios,
}

fn fleet(kind: Fleet, hosts: usize) -> HostTable {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut table = HostTable::new();
    for at in 0..hosts {
        let row = table.insert(&format!("cmp{at:06}"), &format!("cmp{at:06}.dc0.example.org"));
        let (vcpus, memory, disk) = match kind {
            Fleet::Equal => (64, 262_144, 2_000),
            _ => *[(32, 131_072, 1_000), (64, 262_144, 2_000), (128, 524_288, 4_000)]
                .choose(&mut rng)
                .expect("three"),
        };
        let mut used = |of: u64| if kind == Fleet::Equal { 0 } else { rng.random_range(0..=of) };
        let resources = Resources {
            vcpus_total: vcpus,
            vcpus_used: used(vcpus * 4),
            memory_mb_total: memory,
            memory_mb_used: used(memory / 512) * 512,
            disk_gb_total: disk,
            disk_gb_used: used(disk),
            ratios: AllocationRatios {
                cpu: if kind == Fleet::Ratios { 1.1 } else { 4.0 },
                ..Default::default()
            },
            ..Resources::default()
        };
        table.set_resources(row, &resources).expect("good resources");
        let down = kind != Fleet::Equal && rng.random_bool(0.02);
        table.set_status(row, if down { HostStatus::Down } else { HostStatus::Up });
        table.set_zone(row, Some(["az1", "az2", "az3"][at % 3]));
        let arch = if at % 10 == 0 { "aarch64" } else { "x86_64" };
        let report = format!(
            r#"{{"vcpus":{vcpus},"vcpus_used":0,"cpu_info":{{"arch":"{arch}","model":"EPYC-Rome","vendor":"AMD",
            "topology":{{"cells":2,"sockets":2,"cores":32,"threads":2}},"features":["svm","avx2","aes","clwb"]}},
            "hypervisor_type":"QEMU","hypervisor_version":8002001,"novella":{{"uuid":
            "00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,"sent_at":"","interval_ms":1,
            "facts":{{"rack":"r{}","row":"{}","serial":"s{at}","psu":2,"site":"dc0"}}}}}}"#,
            at / 40,
            at / 400
        );
        table.set_capabilities(row, &serde_json::from_str(&report).expect("good report"));
    }
    table
}

fn request() -> RequestSpec {
    RequestSpec {
        flavor: Flavor { vcpus: 4, memory_mb: 8192, root_gb: 80, ..Flavor::default() },
        ..RequestSpec::default()
    }
}

fn place(bencher: Bencher<'_, '_>, kind: Fleet, hosts: usize, request: &RequestSpec, instances: u128) {
    let instances: Vec<_> = (0..instances).map(Uuid::from_u128).collect();
    let mut table = fleet(kind, hosts);
    let mut scheduler = FilterScheduler::new(SchedulerOptions::default()).expect("the defaults are good");
    let terms = Terms { dry_run: true, ..Terms::default() };
    bencher.bench_local(|| {
        let selected = scheduler.select(&mut table, request, &instances, &terms);
        assert!(selected.failure.is_none() && selected.explanation.ranking.len() == 4);
        selected
    });
}

#[divan::bench(args = SIZES)]
fn mixed(bencher: Bencher<'_, '_>, hosts: usize) {
    place(bencher, Fleet::Mixed, hosts, &request(), 1);
}

#[divan::bench(args = SIZES)]
fn equal(bencher: Bencher<'_, '_>, hosts: usize) {
    place(bencher, Fleet::Equal, hosts, &request(), 1);
}

#[divan::bench(args = SIZES)]
fn ratios(bencher: Bencher<'_, '_>, hosts: usize) {
    place(bencher, Fleet::Ratios, hosts, &request(), 1);
}

#[divan::bench(args = SIZES)]
fn in_a_zone(bencher: Bencher<'_, '_>, hosts: usize) {
    let request = RequestSpec { availability_zone: Some("az2".to_owned()), ..request() };
    place(bencher, Fleet::Mixed, hosts, &request, 1);
}

#[divan::bench(args = SIZES)]
fn of_an_architecture(bencher: Bencher<'_, '_>, hosts: usize) {
    let mut request = request();
    request.flavor.extra_specs.insert("capabilities:cpu_info:arch".to_owned(), "s== x86_64".to_owned());
    place(bencher, Fleet::Mixed, hosts, &request, 1);
}

#[divan::bench(args = SIZES)]
fn hundred_instances(bencher: Bencher<'_, '_>, hosts: usize) {
    place(bencher, Fleet::Mixed, hosts, &request(), 100);
}

#[divan::bench(args = SIZES)]
fn snapshot(bencher: Bencher<'_, '_>, hosts: usize) {
    let table = fleet(Fleet::Mixed, hosts);
    bencher.bench_local(|| table.snapshot());
}

#[divan::bench]
fn unchanged_capabilities(bencher: Bencher<'_, '_>) {
    let mut table = fleet(Fleet::Mixed, 1_000);
    let row = table.row_of("cmp000500").expect("it is there");
    let text = r#"{"vcpus":64,"cpu_info":{"arch":"x86_64"},"hypervisor_type":"QEMU","novella":{"uuid":
        "00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,"sent_at":"","interval_ms":1,
        "facts":{"rack":"r1","row":"2","serial":"s1","psu":2,"site":"dc0"}}}"#;
    let report = serde_json::from_str(text).expect("good report");
    bencher.bench_local(|| table.set_capabilities(row, &report));
}

/// See the allocation columns: bytes per 10,000 hosts with five facts each.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn memory_of_ten_thousand_hosts(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(0usize)).bench_local(|| fleet(Fleet::Mixed, 10_000));
}
