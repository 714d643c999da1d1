//! The cost of questions about placements, compared with a placement: looking closely at one host, searching for fixes,
//! and counting what fits.
//!
//! Run it with `cargo bench -p novella-filter-scheduler --bench explain`. The fleet is nine tenths full. `placement` is
//! the yardstick. `eligible` is the part of `capacity` under the scheduler's lock, and `count` the part outside it. A
//! search for fixes takes the lock for one trial at a time.

use divan::Bencher;
use novella_filter_scheduler::{
    FilterScheduler, HostTable, Resources, Running, SchedulerOptions, Terms, eligible, inspect, near_misses,
    search_fixes, try_changes,
};
use novella_objects::{AllocationRatios, Flavor, Grouping, HostStatus, RequestSpec};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

fn fleet(hosts: usize) -> HostTable {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut table = HostTable::new();
    for at in 0..hosts {
        let row = table.insert(&format!("cmp{at:06}"), &format!("cmp{at:06}"));
        let (vcpus, memory, disk) = *[(32, 131_072, 1_000), (64, 262_144, 2_000), (128, 524_288, 4_000)]
            .choose(&mut rng)
            .expect("three");
        let resources = Resources {
            vcpus_total: vcpus,
            vcpus_used: rng.random_range(vcpus * 3..=vcpus * 4),
            memory_mb_total: memory,
            memory_mb_used: rng.random_range(memory / 10 * 8..=memory),
            disk_gb_total: disk,
            disk_gb_used: rng.random_range(disk / 10 * 8..=disk),
            ratios: AllocationRatios { cpu: 4.0, ..AllocationRatios::default() },
            ..Resources::default()
        };
        table.set_resources(row, &resources).expect("good resources");
        table.set_status(row, if rng.random_bool(0.02) { HostStatus::Down } else { HostStatus::Up });
        table.set_zone(row, Some(["az1", "az2", "az3"][at % 3]));
    }
    table
}

const ONE: [Uuid; 1] = [Uuid::nil()];

fn request(memory_mb: u64) -> RequestSpec {
    RequestSpec {
        flavor: Flavor { vcpus: 4, memory_mb, root_gb: 80, ..Flavor::default() },
        availability_zone: Some("az2".to_owned()),
        ..RequestSpec::default()
    }
}

fn scheduler() -> FilterScheduler {
    FilterScheduler::new(SchedulerOptions::default()).expect("the defaults are good")
}

#[divan::bench(args = SIZES)]
fn placement(bencher: Bencher<'_, '_>, hosts: usize) {
    let (mut table, mut scheduler, request) = (fleet(hosts), scheduler(), request(8192));
    let terms = Terms { dry_run: true, ..Terms::default() };
    bencher.bench_local(|| scheduler.select(&mut table, &request, &ONE, &terms));
}

#[divan::bench(args = SIZES)]
fn one_host(bencher: Bencher<'_, '_>, hosts: usize) {
    let (mut table, mut scheduler, request) = (fleet(hosts), scheduler(), request(8192));
    let row = table.row_of("cmp000500").expect("it is there");
    bencher
        .bench_local(|| inspect(&mut scheduler, &mut table, &request, ONE[0], row).expect("a good request"));
}

/// No host has this much memory left.
#[divan::bench(args = SIZES)]
fn fixes(bencher: Bencher<'_, '_>, hosts: usize) {
    let (mut table, mut scheduler, request) = (fleet(hosts), scheduler(), request(200_000));
    bencher.bench_local(|| {
        let misses = near_misses(&mut scheduler, &mut table, &request, &ONE)
            .expect("a good request")
            .expect("it fits nowhere");
        let found = search_fixes(&request, 1, &misses, |changes| {
            try_changes(&mut scheduler, &mut table, &request, &ONE, changes)
        });
        assert!(!found.fixes.is_empty() && found.cut.is_none());
        found.trials
    });
}

#[divan::bench(args = SIZES)]
fn eligible_hosts(bencher: Bencher<'_, '_>, hosts: usize) {
    let (mut table, mut scheduler, request) = (fleet(hosts), scheduler(), request(8192));
    bencher.bench_local(|| eligible(&mut scheduler, &mut table, &request).expect("a good request"));
}

#[divan::bench(args = SIZES)]
fn count(bencher: Bencher<'_, '_>, hosts: usize) {
    let (mut table, mut scheduler, request) = (fleet(hosts), scheduler(), request(8192));
    let eligible = eligible(&mut scheduler, &mut table, &request).expect("a good request");
    bencher.bench_local(|| eligible.count(Some(Grouping::Zone), Some(Grouping::Host), &Running::default()));
}
