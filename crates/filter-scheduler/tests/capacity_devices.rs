//! Compares counting instances with NUMA cells and PCI devices with placing them one by one. A failing case prints its
//! seed; `CAPACITY_SEED=n` runs that one alone.

mod common;

use std::collections::BTreeMap;

use common::{Rng, add, one_by_one, scheduler, seeds, set, uuids};
use novella_filter_scheduler::{
    FilterKind, HostTable, MAX_ON_A_HOST, Resources, Running, SchedulerOptions, Terms, eligible,
};
use novella_objects::document::{MemoryPages, NumaCell, NumaTopology, PciPool, PciRequest};
use novella_objects::{AllocationRatios, Flavor, Grouping, Image, RequestSpec};
use novella_resources::Devices;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::json;

const CASES: u64 = 500;
/// After this many instances, the number counts as unlimited.
const MANY: u64 = 150;

#[test]
fn counting_cells_and_devices_is_placing_one_by_one() {
    let all = ["numa_cells after some", "pci_devices after some", "numa_cells", "memory_mb", "vcpus"];
    seeds::reaching("CAPACITY_SEED", CASES, case, &all, 15);
}

fn case(seed: u64) -> Vec<String> {
    let mut rng = Rng::seed_from_u64(seed);
    let mut table = fleet(&mut rng);
    let mut filters = vec![FilterKind::Compute, FilterKind::Ram, FilterKind::NumInstances];
    filters.extend([FilterKind::NumaTopology].into_iter().filter(|_| rng.random_bool(0.9)));
    filters
        .extend([FilterKind::PciPassthrough, FilterKind::Core].into_iter().filter(|_| rng.random_bool(0.7)));
    filters.shuffle(&mut rng);
    let mut engine = scheduler(SchedulerOptions { enabled_filters: filters, ..SchedulerOptions::default() });
    let spec = request(&mut rng);
    let counted = match eligible(&mut engine, &mut table, &spec) {
        Ok(eligible) => eligible.count(Some(Grouping::Host), None, &Running::default()),
        Err(failure) => {
            let placed = engine.select(&mut table, &spec, &uuids(1), &Terms::default());
            assert_eq!(placed.failure, Some(failure), "what cannot be asked cannot be placed");
            return vec!["not asked".to_owned()];
        }
    };
    let mut ends = Vec::new();
    for row in table.rows().collect::<Vec<_>>() {
        let host = table.host(row).to_owned();
        let (placed, ended_by) = one_by_one(&mut engine, &mut table, &spec, &host, MANY);
        let group = counted.groups.iter().find(|group| group.name == host);
        let Some(group) = group else {
            assert_eq!(placed, 0, "{host} is not eligible\n{spec:#?}");
            continue;
        };
        let told = if placed == MANY { group.fits >= MANY } else { group.fits == placed };
        assert!(told, "{host}: {} counted, {placed} placed\n{spec:#?}", group.fits);
        assert!(group.fits <= MAX_ON_A_HOST);
        let (Some(limit), Some(filter)) = (&group.limit, ended_by) else { continue };
        let named = counted.limits.iter().any(|told| told.amount == *limit && told.filter == filter);
        assert!(named, "{host}: {limit} but {filter}: {:?}", counted.limits);
        ends.push(if placed > 0 { format!("{limit} after some") } else { limit.clone() });
        ends.push(limit.clone());
    }
    ends
}

fn fleet(rng: &mut Rng) -> HostTable {
    let mut table = HostTable::new();
    let kinds: Vec<_> = (0..3).map(|_| devices(rng)).collect();
    for at in 0..rng.random_range(1..8) {
        let resources = Resources {
            vcpus_total: 16,
            vcpus_used: rng.random_range(0..8),
            memory_mb_total: 16_384,
            memory_mb_used: rng.random_range(0..8000),
            disk_gb_total: 100,
            ratios: AllocationRatios {
                cpu: *[1.0, 4.0].choose(rng).unwrap(),
                ram: *[1.0, 1.5].choose(rng).unwrap(),
                disk: 1.0,
            },
            ..Resources::default()
        };
        let row = add(&mut table, &format!("host{at}"), "node", &resources);
        if rng.random_bool(0.85) {
            table.set_devices(row, kinds.choose(rng).unwrap());
        }
    }
    table
}

fn devices(rng: &mut Rng) -> Devices {
    let cells = rng.random_range(1..3);
    let cell = |id: u32, rng: &mut Rng| NumaCell {
        id,
        cpuset: (100 + 8 * id..100 + 8 * id + rng.random_range(0..5)).collect(),
        pcpuset: (8 * id..8 * id + rng.random_range(2..9)).collect(),
        memory_mb: 8192,
        memory_usage_mb: rng.random_range(0..2000),
        siblings: if rng.random_bool(0.5) {
            (0..4).map(|core| vec![8 * id + 2 * core, 8 * id + 2 * core + 1]).collect()
        } else {
            Vec::new()
        },
        mempages: vec![
            MemoryPages { size_kb: 4, total: 1_048_576, used: 0, reserved: 0 },
            MemoryPages { size_kb: 2048, total: 2048, used: rng.random_range(0..2000), reserved: 0 },
        ],
        ..NumaCell::default()
    };
    let topology = NumaTopology { cells: (0..cells).map(|id| cell(id, rng)).collect() };
    let pool = |node: Option<u32>, rng: &mut Rng| PciPool {
        vendor_id: "10de".into(),
        product_id: "1db4".into(),
        dev_type: "type-PCI".into(),
        numa_node: node,
        count: rng.random_range(1..6),
        ..PciPool::default()
    };
    let pools: Vec<_> = [Some(0), Some(1), None].into_iter().filter(|_| rng.random_bool(0.5)).collect();
    let pools: Vec<_> = pools.into_iter().map(|node| pool(node, rng)).collect();
    Devices::read(rng.random_bool(0.9).then_some(&topology), &pools).unwrap()
}

fn request(rng: &mut Rng) -> RequestSpec {
    let mut specs = BTreeMap::new();
    for (key, values, often) in [
        ("hw:cpu_policy", &["dedicated", "shared"][..], 0.6),
        ("hw:numa_nodes", &["1", "2"][..], 0.5),
        ("hw:mem_page_size", &["large", "small", "2048"][..], 0.3),
        ("hw:cpu_thread_policy", &["require", "isolate", "prefer"][..], 0.2),
    ] {
        set(rng, &mut specs, key, often, values);
    }
    let device = |rng: &mut Rng| PciRequest {
        count: rng.random_range(1..3),
        spec: vec![[("vendor_id".to_owned(), json!("10de"))].into()],
        numa_policy: [None, Some("required"), Some("preferred")].choose(rng).unwrap().map(str::to_owned),
        alias_name: Some("gpu".into()),
    };
    RequestSpec {
        flavor: Flavor {
            vcpus: rng.random_range(1..5),
            memory_mb: rng.random_range(1..4) * 512,
            extra_specs: specs,
            ..Flavor::default()
        },
        image: Some(Image::default()),
        pci_requests: if rng.random_bool(0.5) { vec![device(rng)] } else { Vec::new() },
        ..RequestSpec::default()
    }
}

#[test]
fn what_no_filter_looks_at_is_told() {
    let mut table = fleet(&mut Rng::seed_from_u64(1));
    let alias = ("pci_passthrough:alias".to_owned(), "gpu:1".to_owned());
    let specs = [alias, ("hw:cpu_policy".to_owned(), "dedicated".to_owned())].into();
    let flavor = Flavor { vcpus: 1, memory_mb: 64, extra_specs: specs, ..Flavor::default() };
    let spec = RequestSpec { flavor, image: Some(Image::default()), ..RequestSpec::default() };
    let mut told = |filters: &[FilterKind]| {
        let options = SchedulerOptions { enabled_filters: filters.to_vec(), ..SchedulerOptions::default() };
        eligible(&mut scheduler(options), &mut table, &spec)
            .unwrap()
            .count(None, None, &Running::default())
            .not_asked
    };
    let alias = "pci_passthrough:alias=gpu:1, because no PCI aliases are defined";
    assert_eq!(told(&[FilterKind::NumaTopology]), [alias]);
    assert_eq!(
        told(&[FilterKind::Ram]),
        ["hw:cpu_policy=dedicated, because NUMATopologyFilter is not enabled", alias]
    );
}
