//! Compares counting what fits with placing it one by one, and checks what is left when a part of the fleet is lost. A
//! failing case prints its seed; `CAPACITY_SEED=n` runs that one alone.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Rng, add, one_by_one, scheduler, seeds, set};
use novella_filter_scheduler::{
    Aggregate, Amounts, FilterKind, HostTable, MAX_ON_A_HOST, Policy, Resources, Running, SchedulerOptions,
    eligible,
};
use novella_objects::{AllocationRatios, Flavor, FlavorCapacity, Grouping, HostStatus, RequestSpec};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

const CASES: u64 = 1_500;
/// After this many instances, the number counts as unlimited.
const MANY: u64 = 300;

#[test]
fn counting_is_placing_one_by_one_until_refusal() {
    let all = ["vcpus", "memory_mb", "disk_gb", "instances", "io_ops", "none"];
    seeds::reaching("CAPACITY_SEED", CASES, case, &all, 21);
}

fn case(seed: u64) -> Vec<String> {
    let mut rng = Rng::seed_from_u64(seed);
    let mut table = fleet(&mut rng);
    let mut filters = FilterKind::DEFAULT.to_vec();
    let further = [
        FilterKind::AggregateRam,
        FilterKind::AggregateCore,
        FilterKind::AggregateDisk,
        FilterKind::NumInstances,
        FilterKind::AggregateNumInstances,
        FilterKind::IoOps,
        FilterKind::AggregateIoOps,
    ];
    filters.extend(further.into_iter().filter(|_| rng.random_bool(0.3)));
    filters.shuffle(&mut rng);
    filters.truncate(rng.random_range(0..=filters.len()));
    let limits = Policy {
        max_instances_per_host: rng.random_range(0..40),
        max_io_ops_per_host: rng.random_range(0..30),
        ..Policy::default()
    };
    let options =
        SchedulerOptions { enabled_filters: filters, policy: limits, ..SchedulerOptions::default() };
    let mut engine = scheduler(options);
    let spec = RequestSpec {
        flavor: Flavor {
            vcpus: rng.random_range(0..5),
            memory_mb: *[0, 100, 512, 4096].choose(&mut rng).unwrap(),
            root_gb: rng.random_range(0..6),
            swap: *[0, 0, 700].choose(&mut rng).unwrap(),
            ..Flavor::default()
        },
        availability_zone: rng.random_bool(0.3).then(|| "az1".to_owned()),
        ..RequestSpec::default()
    };
    let counted = eligible(&mut engine, &mut table, &spec).unwrap().count(
        Some(Grouping::Host),
        None,
        &Running::default(),
    );
    let mut names = Vec::new();
    let (mut eligible, mut open) = (0, 0);
    for row in table.rows().collect::<Vec<_>>() {
        let host = table.host(row).to_owned();
        let (placed, ended_by) = one_by_one(&mut engine, &mut table, &spec, &host, MANY);
        let placed = if placed == MANY { MAX_ON_A_HOST } else { placed };
        let Some(group) = counted.groups.iter().find(|group| group.name == host) else {
            assert_eq!(placed, 0, "{host} is not eligible\n{spec:#?}");
            continue;
        };
        assert_eq!(group.fits, placed, "{host}\n{spec:#?}");
        eligible += 1;
        open += u32::from(placed > 0);
        let filter_of = |amount: &str| {
            let limit = counted.limits.iter().filter(|limit| limit.amount == amount);
            limit.map(|limit| limit.filter.clone()).collect::<Vec<_>>()
        };
        match (&group.limit, ended_by) {
            (None, None) => names.push("none".to_owned()),
            (Some(amount), Some(filter)) => {
                // If several filters refuse at the same number, the one that runs first is named.
                assert!(filter_of(amount).contains(&filter), "{amount} {filter} {:?}", counted.limits);
                names.push(amount.clone());
            }
            (told, ended_by) => panic!("{host}: {told:?} but {ended_by:?}"),
        }
    }
    assert_eq!((counted.eligible, counted.open, counted.hosts), (eligible, open, table.len() as u32));
    assert_eq!(counted.fits, counted.groups.iter().map(|group| group.fits).sum::<u64>());
    names
}

/// The hosts are small, so that placing one by one ends soon.
fn fleet(rng: &mut Rng) -> HostTable {
    let mut table = HostTable::new();
    for at in 0..rng.random_range(1..12) {
        let (vcpus, memory_mb, disk_gb) =
            (rng.random_range(0..9), rng.random_range(0..9000), rng.random_range(0..60));
        let mut used = |of: u64| if rng.random_bool(0.5) { 0 } else { rng.random_range(0..=of * 5 / 4) };
        let resources = Resources {
            vcpus_total: vcpus,
            vcpus_used: used(vcpus),
            memory_mb_total: memory_mb,
            memory_mb_used: used(memory_mb),
            disk_gb_total: disk_gb,
            disk_gb_used: used(disk_gb),
            ratios: AllocationRatios {
                cpu: *[4.0, 1.1, 16.0].choose(rng).unwrap(),
                ram: *[1.0, 1.5, 1.3].choose(rng).unwrap(),
                disk: *[1.0, 1.7].choose(rng).unwrap(),
            },
            num_instances: rng.random_range(0..9),
            num_io_ops: rng.random_range(0..3),
            failed_builds: 0,
        };
        let row = add(&mut table, &format!("h{at}"), &format!("n{at}"), &resources);
        if rng.random_bool(0.1) {
            table.set_status(row, HostStatus::Down);
        }
        table.set_zone(row, [None, Some("az1"), Some("az2")].choose(rng).unwrap().as_deref());
        let aggregates: Vec<u32> = (1..4).filter(|_| rng.random_bool(0.3)).collect();
        table.set_host_aggregates(row, &aggregates);
    }
    table.set_aggregates((1..4).map(|id| {
        let mut metadata = BTreeMap::new();
        for key in ["ram_allocation_ratio", "cpu_allocation_ratio", "disk_allocation_ratio"] {
            set(rng, &mut metadata, key, 0.4, &["0.7", "2", "x"]);
        }
        for key in ["max_instances_per_host", "max_io_ops_per_host"] {
            set(rng, &mut metadata, key, 0.4, &["-1", "7", "15"]);
        }
        Aggregate { id, name: format!("rack{id}"), metadata }
    }));
    table
}

fn count(table: &mut HostTable, by: Grouping, reserve: Grouping, running: &Running) -> FlavorCapacity {
    let mut engine = scheduler(SchedulerOptions::default());
    let flavor = Flavor { vcpus: 1, memory_mb: 1024, ..Flavor::default() };
    let spec = RequestSpec { flavor, ..RequestSpec::default() };
    eligible(&mut engine, table, &spec).unwrap().count(Some(by), Some(reserve), running)
}

/// Hosts with `free` of 16 GiB each, in the zone and the racks named.
fn hosts(hosts: &[(u64, &str, &[u32])]) -> HostTable {
    let mut table = HostTable::new();
    for (at, (free, zone, racks)) in hosts.iter().enumerate() {
        let resources = Resources {
            vcpus_total: 64,
            memory_mb_total: 16_384,
            memory_mb_used: 16_384 - free,
            disk_gb_total: 100,
            ..Resources::default()
        };
        let row = add(&mut table, &format!("h{at}"), &format!("n{at}"), &resources);
        table.set_zone(row, Some(zone));
        table.set_host_aggregates(row, racks);
    }
    let racks: BTreeSet<u32> = hosts.iter().flat_map(|(_, _, racks)| racks.iter().copied()).collect();
    table.set_aggregates(racks.into_iter().map(|id| Aggregate {
        id,
        name: format!("rack{id}"),
        metadata: BTreeMap::new(),
    }));
    table
}

#[test]
fn parts_of_the_fleet_are_counted_and_the_worst_is_lost() {
    // 8, 3 and 12 instances fit on the hosts, and 8, 13 and 4 instances of this size run there.
    let mut table = hosts(&[(8192, "a", &[1]), (3072, "b", &[1, 2]), (12_288, "b", &[])]);
    for (by, groups, lost, (moved, fits, short)) in [
        // Without h1 there is room for 20, of which its 13 instances leave 7. Without h0 there is room for 15, of which
        // its 8 leave 7 too; h0 comes first.
        (Grouping::Host, &[("h0", 8), ("h1", 3), ("h2", 12)][..], "h0", (8, 7, 0)),
        (Grouping::Zone, &[("a", 8), ("b", 15)], "b", (17, 0, 9)),
        (Grouping::Aggregate, &[("", 12), ("rack1", 11), ("rack2", 3)], "rack1", (21, 0, 9)),
    ] {
        let counted = count(&mut table, by, by, &Running::default());
        assert_eq!((counted.fits, counted.eligible, counted.open), (23, 3, 3), "{by:?}");
        let told: Vec<_> = counted.groups.iter().map(|group| (group.name.as_str(), group.fits)).collect();
        assert_eq!(told, groups, "{by:?}");
        let reserve = counted.reserve.unwrap();
        assert_eq!(reserve.lost, lost, "{by:?}");
        assert_eq!((reserve.moved, reserve.fits, reserve.short), (moved, fits, short), "{by:?}");
        assert_eq!((counted.limits[0].amount.as_str(), counted.limits[0].hosts), ("memory_mb", 3), "{by:?}");
    }
}

#[test]
fn what_a_host_holds_back_for_itself_does_not_move() {
    let mut table = hosts(&[(8192, "a", &[]), (16_384 - 512, "a", &[])]);
    let held_back = vec![Amounts { memory_mb: 512, ..Amounts::default() }; 2];
    let running = Running { held_back, ..Running::default() };
    let counted = count(&mut table, Grouping::Host, Grouping::Host, &running);
    let reserve = counted.reserve.unwrap();
    // h0 runs 7.5 GiB in 8 slots, and h1 runs nothing. Without h1, 8 fit on h0. Without h0, 15 fit on h1, of which 8
    // slots leave 7.
    assert_eq!((reserve.lost.as_str(), reserve.moved, reserve.fits), ("h0", 8, 7));
}

#[test]
fn instances_move_with_their_own_sizes() {
    let sizes = |memory_mb: &[u64]| {
        let size = |memory_mb: &u64| Amounts { memory_mb: *memory_mb, instances: 1, ..Amounts::default() };
        memory_mb.iter().map(size).collect::<Vec<_>>()
    };
    for (sizes, moved, fits, short) in [
        // h1 and h2 have 6 GiB free each. Each takes one instance of 4 GiB, and the third finds no place.
        (sizes(&[4096, 4096, 4096]), 3, 0, 1),
        // The four of 3 GiB fill both hosts.
        (sizes(&[3072, 3072, 3072, 3072]), 4, 0, 0),
        // 5 GiB leave 1 GiB on h1, and 3 GiB leave 3 GiB on h2. The rest of the memory in use is counted as 4 of 1 GiB.
        (sizes(&[3072, 5120]), 6, 0, 0),
    ] {
        let mut table = hosts(&[(4096, "a", &[]), (6144, "a", &[]), (6144, "a", &[])]);
        let other = Amounts { memory_mb: 16_384 - 6144, ..Amounts::default() };
        let running =
            Running { held_back: vec![Amounts::default(), other, other], instances: vec![sizes.clone()] };
        let reserve = count(&mut table, Grouping::Host, Grouping::Host, &running).reserve.unwrap();
        assert_eq!(reserve.lost, "h0", "{sizes:?}");
        assert_eq!((reserve.moved, reserve.fits, reserve.short), (moved, fits, short), "{sizes:?}");
    }
}

#[test]
fn a_fleet_without_hosts_or_without_eligible_ones_has_room_for_none() {
    let mut table = HostTable::new();
    let counted = count(&mut table, Grouping::Host, Grouping::Host, &Running::default());
    assert_eq!((counted.fits, counted.hosts, counted.reserve), (0, 0, None));
    let mut table = hosts(&[(8192, "a", &[])]);
    let row = table.row_of("h0").unwrap();
    table.set_status(row, HostStatus::Down);
    let counted = count(&mut table, Grouping::Host, Grouping::Host, &Running::default());
    assert_eq!((counted.fits, counted.hosts, counted.eligible), (0, 1, 0));
    assert_eq!((&*counted.refused[0].filter, counted.refused[0].hosts_out), ("ComputeFilter", 0));
}
