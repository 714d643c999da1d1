//! NUMA cells and PCI devices through the engine: what placements take, what is given back, and which requests are
//! refused.

mod common;

use common::{DRY, add, uuids};
use novella_filter_scheduler::{
    Failure, FilterKind, FilterScheduler, HostTable, OnFilterError, Resources, Row, SchedulerOptions,
    Selected, Terms,
};
use novella_objects::document::{MemoryPages, NumaCell, NumaTopology, PciPool, PciRequest};
use novella_objects::{AllocationRatios, Flavor, Image, RequestSpec};
use novella_resources::Devices;
use serde_json::json;

/// Two cells of eight dedicated CPUs in pairs, and two devices near the second.
fn devices() -> Devices {
    let cell = |id: u32| NumaCell {
        id,
        pcpuset: (8 * id..8 * id + 8).collect(),
        memory_mb: 8192,
        siblings: (0..4).map(|core| vec![8 * id + 2 * core, 8 * id + 2 * core + 1]).collect(),
        mempages: vec![MemoryPages { size_kb: 4, total: 2_097_152, used: 0, reserved: 0 }],
        ..NumaCell::default()
    };
    let topology = NumaTopology { cells: vec![cell(0), cell(1)] };
    let pool = PciPool {
        vendor_id: "10de".into(),
        product_id: "1db4".into(),
        dev_type: "type-PCI".into(),
        numa_node: Some(1),
        count: 2,
        ..PciPool::default()
    };
    Devices::read(Some(&topology), &[pool]).unwrap()
}

fn fleet(hosts: usize, devices: &Devices) -> HostTable {
    let mut table = HostTable::new();
    let resources = Resources {
        vcpus_total: 16,
        memory_mb_total: 16_384,
        disk_gb_total: 100,
        ratios: AllocationRatios { cpu: 4.0, ram: 1.0, disk: 1.0 },
        ..Resources::default()
    };
    for at in 0..hosts {
        let row = add(&mut table, &format!("host{at}"), "node", &resources);
        table.set_devices(row, devices);
    }
    table
}

fn scheduler(on_filter_error: OnFilterError) -> FilterScheduler {
    common::scheduler(SchedulerOptions {
        enabled_filters: vec![FilterKind::NumaTopology, FilterKind::PciPassthrough, FilterKind::IoOps],
        on_filter_error,
        ..SchedulerOptions::default()
    })
}

fn pinned(vcpus: u32) -> RequestSpec {
    let extra_specs = [("hw:cpu_policy".to_owned(), "dedicated".to_owned())].into();
    RequestSpec {
        flavor: Flavor { vcpus, memory_mb: 1024, extra_specs, ..Flavor::default() },
        image: Some(Image::default()),
        ..RequestSpec::default()
    }
}

fn place(
    scheduler: &mut FilterScheduler,
    table: &mut HostTable,
    request: &RequestSpec,
    instances: u128,
) -> Selected {
    scheduler.select(table, request, &uuids(instances), &Terms::default())
}

fn with_device(request: RequestSpec, policy: &str) -> RequestSpec {
    let spec = [("vendor_id".to_owned(), json!("10DE"))].into();
    let numa_policy = Some(policy.to_owned());
    let device = PciRequest { count: 1, spec: vec![spec], numa_policy, alias_name: Some("gpu".into()) };
    RequestSpec { pci_requests: vec![device], ..request }
}

fn left(table: &HostTable) -> Vec<Option<Devices>> {
    table.rows().map(|row| table.devices(row).cloned()).collect()
}

fn pinned_cpus(table: &HostTable, row: Row) -> Vec<usize> {
    let numa = table.devices(row).and_then(|devices| devices.numa.as_ref()).unwrap();
    numa.cells.iter().map(|cell| cell.pinned_cpus.len()).collect()
}

#[test]
fn each_instance_sees_what_the_one_before_has_taken() {
    let mut table = fleet(2, &devices());
    let mut scheduler = scheduler(OnFilterError::FailRequest);
    let selected = place(&mut scheduler, &mut table, &pinned(6), 4);
    assert_eq!(selected.failure, None);
    for row in table.rows().collect::<Vec<_>>() {
        assert_eq!(pinned_cpus(&table, row), [6, 6], "one on each cell");
    }
    let limits = scheduler.limits(&mut table, &pinned(6), &[selected.picks[0].row]).unwrap()[0];
    let limits = limits.numa_topology.unwrap();
    assert_eq!((limits.cpu_allocation_ratio, limits.ram_allocation_ratio), (4.0, 1.0));
    let full = place(&mut scheduler, &mut table, &pinned(6), 1);
    assert!(matches!(full.failure, Some(Failure::NoValidHost { .. })));
}

#[test]
fn a_failure_or_a_dry_run_leaves_everything_as_it_was() {
    let mut table = fleet(3, &devices());
    let mut scheduler = scheduler(OnFilterError::FailRequest);
    place(&mut scheduler, &mut table, &with_device(pinned(2), "required"), 2);
    let before = left(&table);
    let request = with_device(pinned(2), "required");
    let dry = scheduler.select(&mut table, &request, &uuids(4), &DRY);
    assert_eq!((dry.failure, dry.picks.len()), (None, 4));
    assert_eq!(left(&table), before);
    let failed = place(&mut scheduler, &mut table, &with_device(pinned(2), "required"), 5);
    assert!(matches!(failed.failure, Some(Failure::NoValidHost { placeable: 4, .. })));
    assert_eq!(left(&table), before);
}

#[test]
fn devices_draw_the_instance_to_their_cell_and_are_used_up() {
    let mut table = fleet(1, &devices());
    let mut scheduler = scheduler(OnFilterError::FailRequest);
    let selected = place(&mut scheduler, &mut table, &with_device(pinned(3), "required"), 2);
    assert_eq!(selected.failure, None);
    let row = table.row_of("host0").unwrap();
    assert_eq!(pinned_cpus(&table, row), [0, 6]);
    assert!(table.devices(row).unwrap().pci_pools.is_empty());
    let none = place(&mut scheduler, &mut table, &with_device(pinned(1), "preferred"), 1);
    assert!(matches!(none.failure, Some(Failure::NoValidHost { .. })));
}

#[test]
fn an_instance_whose_cells_cannot_be_taken_is_placed_but_does_not_count_as_building() {
    let mut without_pages = devices();
    let cells = &mut without_pages.numa.as_mut().unwrap().cells;
    cells.iter_mut().for_each(|cell| cell.mempages.clear());
    let mut table = fleet(1, &without_pages);
    let mut scheduler = scheduler(OnFilterError::FailRequest);
    // Eight building instances are the limit. These do not build: as in Nova, consuming their devices fails.
    let selected = place(&mut scheduler, &mut table, &pinned(1), 12);
    assert_eq!(selected.failure, None);
    let row = table.row_of("host0").unwrap();
    assert_eq!((table.view(row).used().vcpus, pinned_cpus(&table, row)), (12, vec![0, 0]));
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_reason() {
    let mut table = fleet(1, &devices());
    let mut engine = scheduler(OnFilterError::FailRequest);
    let mut asymmetric = pinned(3);
    asymmetric.flavor.extra_specs.insert("hw:numa_nodes".into(), "2".into());
    let failure = place(&mut engine, &mut table, &asymmetric, 1).failure.unwrap();
    assert_eq!(failure.to_string(), "3 CPUs and 1024 MiB cannot be shared out evenly to 2 NUMA nodes");
    let imageless = RequestSpec { image: None, ..pinned(1) };
    let failure = place(&mut engine, &mut table, &imageless, 1).failure;
    assert!(matches!(failure, Some(Failure::Filter(error)) if error.filter == FilterKind::NumaTopology));
    // A request without an image counts as one without image properties.
    let placed = place(&mut scheduler(OnFilterError::RejectHost), &mut table, &imageless, 1);
    assert_eq!(placed.failure, None);
}
