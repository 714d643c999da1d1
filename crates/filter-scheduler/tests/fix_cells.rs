//! Checks suggested fixes of requests for NUMA cells and PCI devices: that the single changes are found that would be
//! enough, with the largest amount that fits; and that a refusal names what is short. A failing case prints its seed;
//! `FIX_SEED=n` runs that one alone.

mod common;

use std::collections::BTreeMap;

use common::{DRY, Rng, add, scheduler, seeds, set, uuids};
use novella_filter_scheduler::{
    FilterKind, FilterScheduler, HostTable, Resources, SchedulerOptions, change_request, inspect,
    near_misses, search_fixes, try_changes,
};
use novella_objects::document::{MemoryPages, NumaCell, NumaTopology, PciPool, PciRequest};
use novella_objects::{Change, Flavor, Image, Inventory, Part, Quantity, RequestSpec};
use novella_resources::Devices;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

const CASES: u64 = 250;

const ALIAS: &str = "pci_passthrough:alias";

fn resources() -> Resources {
    Resources { vcpus_total: 8, memory_mb_total: 65_536, disk_gb_total: 100, ..Resources::default() }
}

fn engine() -> FilterScheduler {
    let mut enabled_filters = FilterKind::DEFAULT.to_vec();
    enabled_filters.extend([FilterKind::NumaTopology, FilterKind::PciPassthrough]);
    scheduler(SchedulerOptions { enabled_filters, ..SchedulerOptions::default() })
}

/// A host with two cells of four CPUs for pinning and four pages of 1 GiB each, and one free device.
fn fleet() -> HostTable {
    let cell = |id: u32| NumaCell {
        id,
        cpuset: (4 * id..4 * id + 4).collect(),
        pcpuset: (4 * id..4 * id + 4).collect(),
        memory_mb: 8192,
        siblings: (4 * id..4 * id + 4).map(|cpu| vec![cpu]).collect(),
        mempages: vec![
            MemoryPages { size_kb: 4, total: 1 << 20, used: 0, reserved: 0 },
            MemoryPages { size_kb: 1 << 20, total: 5, used: 0, reserved: 1 },
        ],
        ..NumaCell::default()
    };
    let pool = PciPool {
        vendor_id: "10de".into(),
        product_id: "1db4".into(),
        dev_type: "type-PCI".into(),
        numa_node: Some(0),
        count: 1,
        ..PciPool::default()
    };
    let topology = NumaTopology { cells: vec![cell(0), cell(1)] };
    let mut table = HostTable::new();
    let row = add(&mut table, "h0", "n0", &resources());
    table.set_devices(row, &Devices::read(Some(&topology), &[pool]).unwrap());
    let pcpus = Inventory { total: 8, ..Inventory::default() };
    table.set_inventories(row, [("PCPU", pcpus, 0)].into_iter());
    table
}

fn request(vcpus: u32, memory_mb: u64, specs: &[(&str, &str)]) -> RequestSpec {
    let extra_specs = specs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let gpus = specs.iter().find(|(key, _)| *key == ALIAS).and_then(|(_, text)| text.split_once(':'));
    let device = |(name, count): (&str, &str)| PciRequest {
        count: count.parse().unwrap(),
        spec: vec![[("vendor_id".to_owned(), json!("10de"))].into()],
        alias_name: Some(name.to_owned()),
        ..PciRequest::default()
    };
    RequestSpec {
        flavor: Flavor { vcpus, memory_mb, extra_specs, ..Flavor::default() },
        image: Some(Image::default()),
        pci_requests: gpus.map(device).into_iter().collect(),
        ..RequestSpec::default()
    }
}

/// The single changes that are found.
fn singles(table: &mut HostTable, request: &RequestSpec) -> Vec<Change> {
    let (mut engine, instance) = (engine(), uuids(1));
    let misses = near_misses(&mut engine, table, request, &instance).unwrap().expect("it does not fit");
    let fixes = search_fixes(request, 1, &misses, |changes| {
        try_changes(&mut engine, table, request, &instance, changes)
    });
    assert_eq!(fixes.cut, None);
    fixes.fixes.into_iter().filter(|fix| fix.changes.len() == 1).flat_map(|fix| fix.changes).collect()
}

fn drop_spec(key: &str) -> Change {
    Change::Drop { part: Part::ExtraSpec(key.to_owned()) }
}

fn ask(amount: Quantity, from: u64, to: u64) -> Change {
    Change::Ask { amount, from, to }
}

#[test]
fn single_changes_of_cells_and_devices_are_found() {
    let pages = ("hw:mem_page_size", "1GB");
    let dedicated = ("hw:cpu_policy", "dedicated");
    let two_nodes = ("hw:numa_nodes", "2");
    for (request, expected) in [
        (request(1, 512, &[(ALIAS, "gpu:2")]), vec![drop_spec(ALIAS)]),
        (
            request(1, 5120, &[pages]),
            vec![ask(Quantity::MemoryMb, 5120, 4096), drop_spec("hw:mem_page_size")],
        ),
        (request(5, 512, &[("hw:numa_nodes", "1"), dedicated]), vec![ask(Quantity::Vcpus, 5, 4)]),
        // Both nodes get the same, and whole pages.
        (request(2, 10_240, &[pages, two_nodes]), vec![ask(Quantity::MemoryMb, 10_240, 8192)]),
        (request(10, 512, &[dedicated, two_nodes]), vec![ask(Quantity::Vcpus, 10, 8)]),
        // Memory that does not fill whole pages.
        (
            request(1, 3584, &[pages]),
            vec![ask(Quantity::MemoryMb, 3584, 3072), drop_spec("hw:mem_page_size")],
        ),
        // The mask names three CPUs, so there must be four.
        (
            request(9, 512, &[("hw:cpu_policy", "mixed"), ("hw:cpu_dedicated_mask", "0-2")]),
            vec![ask(Quantity::Vcpus, 9, 7)],
        ),
    ] {
        let found = singles(&mut fleet(), &request);
        for change in &expected {
            assert!(found.contains(change), "{change:?} is not among {found:?}");
        }
    }
}

#[test]
fn a_forced_host_that_does_not_exist_may_be_dropped() {
    for forced in [
        RequestSpec { force_hosts: vec!["nobody".into()], ..request(1, 512, &[]) },
        RequestSpec { force_nodes: vec!["nobody".into()], ..request(1, 512, &[]) },
        RequestSpec { target_host: Some("nobody".into()), ..request(1, 512, &[]) },
    ] {
        let dropped = Change::Drop { part: Part::TargetHost("nobody".into()) };
        assert_eq!(singles(&mut fleet(), &forced), [dropped]);
    }
}

#[test]
fn a_refusal_names_the_pages_and_cpus_that_are_short() {
    let pages = ("hw:mem_page_size", "1GB");
    let dedicated = ("hw:cpu_policy", "dedicated");
    let two_nodes = ("hw:numa_nodes", "2");
    for (request, words) in [
        (
            request(1, 5120, &[pages]),
            "short of free pages of 1 GiB: asked 5 in one NUMA cell; each of its 2 NUMA cells has 4 of 5 free",
        ),
        (
            request(5, 512, &[dedicated]),
            "short of CPUs free to be pinned: asked 5 in one NUMA cell; each of its 2 NUMA cells has 4 of 4 free",
        ),
        (
            request(8, 512, &[dedicated, two_nodes, ("hw:emulator_threads_policy", "isolate")]),
            "short of CPUs free to be pinned, one of them for the emulator: asked 5, 4 in one NUMA cell each; \
             each of its 2 NUMA cells has 4 of 4 free",
        ),
        (
            request(1, 3584, &[pages]),
            "asked 3584 MiB in one NUMA cell, which is not a whole number of pages of 1 GiB",
        ),
        (
            request(1, 2048, &[("hw:mem_page_size", "2MB")]),
            "short of free pages of 2 MiB: asked 1024 in one NUMA cell; each of its 2 NUMA cells has no such pages",
        ),
        (
            request(1, 6144, &[("hw:mem_page_size", "large")]),
            "short of free memory in large pages: asked 6144 MiB in one NUMA cell; \
             each of its 2 NUMA cells has 4 of 5 pages of 1 GiB free",
        ),
        (
            request(2, 6144, &[dedicated]),
            "short of free memory: asked 6144 MiB in one NUMA cell; \
             each of its 2 NUMA cells has 1048576 of 1048576 pages of 4 KiB free",
        ),
        (request(3, 768, &[("hw:numa_nodes", "3")]), "short of NUMA cells: asked 3, it has 2"),
        (
            request(2, 512, &[dedicated, ("hw:cpu_thread_policy", "require")]),
            "its cores have no threads, which hw:cpu_thread_policy requires",
        ),
    ] {
        let mut table = fleet();
        let row = table.row_of("h0").unwrap();
        let verdict = inspect(&mut engine(), &mut table, &request, uuids(1)[0], row).unwrap();
        let numa = verdict.filters.iter().find(|filter| filter.filter == "NUMATopologyFilter").unwrap();
        assert_eq!(numa.reason.as_deref(), Some(words));
    }
}

#[test]
fn the_largest_amount_that_fits_is_found() {
    let all = ["ask MemoryMb", "ask Vcpus", "large", "any", "2 nodes", "require", "nothing"];
    seeds::reaching("FIX_SEED", CASES, case, &all, 5);
}

fn case(seed: u64) -> Vec<String> {
    let mut rng = Rng::seed_from_u64(seed);
    let mut table = HostTable::new();
    for at in 0..rng.random_range(1..5) {
        let row = add(&mut table, &format!("h{at}"), "node", &resources());
        let cells = (0..rng.random_range(1..3)).map(|id| random_cell(id, &mut rng)).collect();
        table.set_devices(row, &Devices::read(Some(&NumaTopology { cells }), &[]).unwrap());
    }
    let mut specs = BTreeMap::new();
    for (key, values, often) in [
        ("hw:cpu_policy", &["dedicated", "dedicated", "shared"][..], 0.7),
        ("hw:numa_nodes", &["1", "2"], 0.5),
        ("hw:mem_page_size", &["large", "any", "2048", "65536"], 0.7),
    ] {
        set(&mut rng, &mut specs, key, often, values);
    }
    if specs.get("hw:cpu_policy").is_some_and(|policy: &String| policy == "dedicated") {
        set(&mut rng, &mut specs, "hw:cpu_thread_policy", 0.4, &["require", "isolate", "prefer"]);
    }
    let (vcpus, memory_mb) = (2 * rng.random_range(1..5), 2 * rng.random_range(32..260));
    let flavor = Flavor { vcpus, memory_mb, extra_specs: specs.clone(), ..Flavor::default() };
    let asked = RequestSpec { flavor, image: Some(Image::default()), ..RequestSpec::default() };
    let mut engine = engine();
    let mut fits =
        |request: &RequestSpec| engine.select(&mut table, request, &uuids(1), &DRY).failure.is_none();
    if fits(&asked) {
        return Vec::new();
    }
    // Every amount is tried.
    let expected =
        [(Quantity::MemoryMb, memory_mb), (Quantity::Vcpus, vcpus.into())].map(|(amount, from)| {
            let most = (1..from).rev().find(|to| {
                let mut less = asked.clone();
                change_request(&mut less, &mut &[][..], &ask(amount.clone(), from, *to));
                fits(&less)
            });
            most.map(|to| ask(amount, from, to))
        });
    let mut found = singles(&mut table, &asked);
    found.retain(|change| matches!(change, Change::Ask { .. }));
    for change in &found {
        assert!(expected.contains(&Some(change.clone())), "{change:?} is not the most of {asked:#?}");
    }
    let expected: Vec<_> = expected.into_iter().flatten().collect();
    for change in &expected {
        assert!(found.contains(change), "{change:?} is missing for {asked:#?}");
    }
    let mut kinds: Vec<_> = expected
        .iter()
        .map(|change| match change {
            Change::Ask { amount, .. } => format!("ask {amount:?}"),
            _ => unreachable!("nothing else is expected"),
        })
        .collect();
    if kinds.is_empty() {
        return vec!["nothing".to_owned()];
    }
    kinds.extend(specs.get("hw:mem_page_size").cloned());
    kinds.extend(specs.get("hw:cpu_thread_policy").cloned());
    kinds.extend(specs.get("hw:numa_nodes").map(|nodes| format!("{nodes} nodes")));
    kinds
}

fn random_cell(id: u32, rng: &mut Rng) -> NumaCell {
    let cpus = rng.random_range(2..5);
    NumaCell {
        id,
        cpuset: (100 + 8 * id..100 + 8 * id + rng.random_range(0..5)).collect(),
        pcpuset: (8 * id..8 * id + cpus).collect(),
        memory_mb: 512,
        siblings: if rng.random_bool(0.5) {
            (0..4).map(|core| vec![8 * id + 2 * core, 8 * id + 2 * core + 1]).collect()
        } else {
            (0..cpus).map(|cpu| vec![8 * id + cpu]).collect()
        },
        mempages: vec![
            MemoryPages { size_kb: 4, total: *[2048, 65_536].choose(rng).unwrap(), used: 0, reserved: 0 },
            MemoryPages { size_kb: 2048, total: 128, used: rng.random_range(0..129), reserved: 0 },
            MemoryPages { size_kb: 65_536, total: rng.random_range(1..6), used: 0, reserved: 0 },
        ],
        ..NumaCell::default()
    }
}
