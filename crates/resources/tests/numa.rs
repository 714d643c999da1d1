//! Instances are fitted onto hosts' NUMA cells as in Nova 34, from which the expected results were taken.

use novella_resources::cpu_set::CpuSet;
use novella_resources::numa::{
    Cell, CpuPolicy, FitError, InstanceCell, InstanceTopology, Limits, Network, PAGES_ANY, PAGES_LARGE,
    PAGES_SMALL, Pages, Site, ThreadPolicy, Topology, UsageError, fit,
};
use novella_resources::pci::{self, DeviceRequest, NumaPolicy, Pool, RequestError};

fn cpus(list: &[u32]) -> CpuSet {
    CpuSet::of(list).unwrap()
}

/// A cell with eight dedicated CPUs, two threads to a core, and 4 GiB of memory, half of it in pages of 2 MiB.
fn cell(id: u32) -> Cell {
    let first = id * 8;
    Cell {
        id,
        pcpuset: CpuSet::range(first, first + 8).unwrap(),
        memory_mb: 4096,
        siblings: (0..4).map(|core| cpus(&[first + 2 * core, first + 2 * core + 1])).collect(),
        mempages: vec![
            Pages { size_kb: 4, total: 524_288, ..Pages::default() },
            Pages { size_kb: 2048, total: 1024, ..Pages::default() },
        ],
        socket: Some(i64::from(id / 2)),
        ..Cell::default()
    }
}

fn host(cells: impl IntoIterator<Item = Cell>) -> Topology {
    Topology { cells: cells.into_iter().collect() }
}

fn pinned(id: u32, vcpus: std::ops::Range<u32>, thread_policy: Option<ThreadPolicy>) -> InstanceCell {
    InstanceCell {
        id,
        pcpuset: CpuSet::range(vcpus.start, vcpus.end).unwrap(),
        memory_mb: 512,
        cpu_policy: CpuPolicy::Dedicated,
        cpu_thread_policy: thread_policy,
        ..InstanceCell::default()
    }
}

fn shared(id: u32, vcpus: u32, memory_mb: i64) -> InstanceCell {
    InstanceCell { id, cpuset: CpuSet::first(vcpus).unwrap(), memory_mb, ..InstanceCell::default() }
}

fn guest(cells: impl IntoIterator<Item = InstanceCell>) -> InstanceTopology {
    InstanceTopology { cells: cells.into_iter().collect(), isolate_emulator_threads: false }
}

fn site<'a>(topology: &'a Topology, pools: &'a [Pool]) -> Site<'a> {
    Site { topology, pools, packing: false }
}

fn fitted(topology: &Topology, guest: &InstanceTopology) -> Option<InstanceTopology> {
    let mut guest = guest.clone();
    fit(site(topology, &[]), &mut guest, None, &[]).unwrap().then_some(guest)
}

fn host_cpus(guest: &InstanceTopology) -> Vec<u32> {
    guest.cells.iter().flat_map(|cell| cell.pinning.iter().map(|(_, cpu)| *cpu)).collect()
}

#[test]
fn thread_policies_choose_cores() {
    let topology = host([cell(0)]);
    let on = |policy| fitted(&topology, &guest([pinned(0, 0..2, policy)])).map(|guest| host_cpus(&guest));
    assert_eq!(on(None), Some(vec![0, 1]));
    assert_eq!(on(Some(ThreadPolicy::Prefer)), Some(vec![0, 1]));
    assert_eq!(on(Some(ThreadPolicy::Require)), Some(vec![0, 1]));
    assert_eq!(on(Some(ThreadPolicy::Isolate)), None, "threads, and CPUs set aside for pinning");
    let mut legacy = cell(0);
    legacy.cpuset = legacy.pcpuset.clone();
    let topology = host([legacy]);
    let isolated = fitted(&topology, &guest([pinned(0, 0..2, Some(ThreadPolicy::Isolate))])).unwrap();
    assert_eq!(host_cpus(&isolated), [0, 2]);
    let mut after = topology.clone();
    after.take(&topology.usage_of(&isolated).unwrap());
    assert_eq!(after.cells[0].pinned_cpus, cpus(&[0, 1, 2, 3]), "their siblings are left idle");
}

#[test]
fn single_threads_are_used_only_if_threads_are_not_required() {
    let mut scattered = cell(0);
    scattered.pinned_cpus = cpus(&[0, 2, 4, 6]);
    let topology = host([scattered]);
    let on = |policy| fitted(&topology, &guest([pinned(0, 0..3, policy)])).map(|guest| host_cpus(&guest));
    assert_eq!(on(Some(ThreadPolicy::Require)), None);
    assert_eq!(on(Some(ThreadPolicy::Prefer)), Some(vec![1, 3, 5]));
}

#[test]
fn isolated_emulator_threads_take_one_more_cpu_on_the_first_cell() {
    let topology = host([cell(0)]);
    let with = |vcpus| {
        let mut guest = guest([pinned(0, 0..vcpus, None)]);
        guest.isolate_emulator_threads = true;
        fitted(&topology, &guest)
    };
    assert_eq!(with(7).unwrap().cells[0].reserved, cpus(&[7]));
    assert_eq!(with(8), None);
}

#[test]
fn page_sizes_are_resolved_by_the_first_cell_tried() {
    let topology = host([cell(0)]);
    let with = |pagesize, memory_mb| {
        let inner = InstanceCell { pagesize, memory_mb, ..pinned(0, 0..1, None) };
        fitted(&topology, &guest([inner])).map(|guest| guest.cells[0].pagesize)
    };
    assert_eq!(with(PAGES_SMALL, 2048), Some(4));
    assert_eq!(with(PAGES_LARGE, 2048), Some(2048));
    assert_eq!(with(PAGES_ANY, 2048), Some(2048));
    assert_eq!(with(PAGES_ANY, 1001), Some(4), "1001 MiB is not a number of large pages");
    assert_eq!(with(PAGES_LARGE, 1001), None);
    assert_eq!(with(1_048_576, 1024), None, "no such pages");
    assert_eq!(with(0, 2049), None, "more than there is in the smallest pages");
}

#[test]
fn shared_cpus_and_memory_are_held_against_ratios_only_with_limits() {
    let mut half_full = cell(0);
    (half_full.cpuset, half_full.pcpuset) = (half_full.pcpuset, CpuSet::EMPTY);
    (half_full.cpu_usage, half_full.memory_usage_mb) = (14, 0);
    let topology = host([half_full]);
    let fits = |vcpus, ratio| {
        let limits = Limits { cpu_allocation_ratio: ratio, ram_allocation_ratio: 1.0, network: None };
        fit(site(&topology, &[]), &mut guest([shared(0, vcpus, 64)]), Some(limits), &[]).unwrap()
    };
    assert!(fits(2, 2.0));
    assert!(!fits(3, 2.0));
    assert!(fitted(&topology, &guest([shared(0, 8, 64)])).is_some());
    assert!(fitted(&topology, &guest([shared(0, 9, 64)])).is_none(), "never more than there are");
}

#[test]
fn empty_cells_come_first_unless_packing() {
    let mut used = cell(0);
    used.pinned_cpus = cpus(&[0]);
    let topology = host([used, cell(1)]);
    let chosen = |packing| {
        let mut guest = guest([pinned(0, 0..1, None)]);
        assert!(fit(Site { topology: &topology, pools: &[], packing }, &mut guest, None, &[]).unwrap());
        guest.cells[0].id
    };
    assert_eq!((chosen(false), chosen(true)), (1, 0));
}

#[test]
fn networks_near_a_cell_draw_the_instance_there() {
    let mut near = cell(1);
    near.network = Some(Network { physnets: ["physnet0".into()].into(), tunneled: true });
    let topology = host([cell(0), near]);
    for wanted in [
        Network { physnets: ["physnet0".into()].into(), tunneled: false },
        Network { physnets: [].into(), tunneled: true },
    ] {
        let limits = Limits { cpu_allocation_ratio: 1.0, ram_allocation_ratio: 1.0, network: Some(&wanted) };
        let mut guest = guest([pinned(0, 0..1, None)]);
        assert!(fit(site(&topology, &[]), &mut guest, Some(limits), &[]).unwrap());
        assert_eq!(guest.cells[0].id, 1);
    }
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    let mut silent = cell(0);
    silent.siblings.clear();
    let topology = host([silent]);
    let result = fit(site(&topology, &[]), &mut guest([pinned(0, 0..1, None)]), None, &[]);
    assert_eq!(result, Err(FitError::NoSiblings(0)));

    let mut pageless = cell(0);
    pageless.mempages.clear();
    let topology = host([pageless]);
    let fitted = fitted(&topology, &guest([pinned(0, 0..1, None)])).expect("it fits all the same");
    assert_eq!(topology.usage_of(&fitted), Err(UsageError::NoPages(0)));
}

#[test]
fn cells_that_devices_are_not_near_are_passed_over() {
    let topology = host([cell(0), cell(1), cell(2)]);
    let pools = [pool("type-PCI", Some(2), 1)];
    let request = DeviceRequest { numa_policy: NumaPolicy::Required, ..request(1, &[]) };
    let mut guest = guest([pinned(0, 0..1, None), pinned(1, 1..2, None)]);
    assert!(fit(site(&topology, &pools), &mut guest, None, &[request]).unwrap());
    assert_eq!(
        guest.cells.iter().map(|cell| cell.id).collect::<Vec<_>>(),
        [2, 0],
        "cells with devices first"
    );
}

fn pool(dev_type: &str, numa_node: Option<u32>, count: u32) -> Pool {
    Pool {
        vendor_id: "8086".into(),
        product_id: "10CA".into(),
        numa_node,
        count,
        tags: [("dev_type".into(), Some(dev_type.into()))].into(),
    }
}

fn request(count: u32, spec: &[(&str, &str)]) -> DeviceRequest {
    let spec = spec.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
    DeviceRequest { count, spec: vec![spec], ..DeviceRequest::default() }
}

fn supports(pools: &[Pool], request: DeviceRequest, cells: Option<&[u32]>) -> Result<bool, RequestError> {
    let topology = host((0..4).map(cell));
    pci::supports(pools, &[request], cells, Some(&topology))
}

#[test]
fn kinds_that_must_be_asked_for_are_not_given_otherwise() {
    let ask = |dev_type: &str| request(1, &[("vendor_id", "8086"), ("dev_type", dev_type)]);
    for (dev_type, plainly) in [("type-PCI", true), ("type-VF", true), ("type-PF", false), ("vdpa", false)] {
        let pools = [pool(dev_type, None, 1)];
        assert_eq!(supports(&pools, request(1, &[("product_id", "10ca")]), None), Ok(plainly), "{dev_type}");
        assert_eq!(supports(&pools, ask(dev_type), None), Ok(true), "{dev_type}");
    }
    let mut managed = pool("type-VF", None, 1);
    managed.tags.insert("remote_managed".into(), Some("True".into()));
    assert_eq!(supports(&[managed.clone()], request(1, &[]), None), Ok(false));
    assert_eq!(supports(&[managed], request(1, &[("remote_managed", "true")]), None), Ok(true));
}

#[test]
fn policies_say_how_near_devices_must_be() {
    let near = |policy, node| {
        let request = DeviceRequest { numa_policy: policy, ..request(1, &[]) };
        supports(&[pool("type-PCI", node, 1)], request, Some(&[0])).unwrap()
    };
    let of = |policy| [Some(0), None, Some(1), Some(2)].map(|node| near(policy, node));
    assert_eq!(of(NumaPolicy::Required), [true, false, false, false]);
    assert_eq!(of(NumaPolicy::Legacy), [true, true, false, false]);
    assert_eq!(of(NumaPolicy::Socket), [true, false, true, false]);
    assert_eq!(of(NumaPolicy::Preferred), [true, true, true, true]);
    let socket = DeviceRequest { numa_policy: NumaPolicy::Socket, ..request(1, &[]) };
    let far = [pool("type-PCI", Some(1), 1)];
    assert_eq!(pci::supports(&far, &[socket], Some(&[0]), None), Err(RequestError::NoTopology));
}

#[test]
fn what_is_granted_before_a_refusal_is_taken_all_the_same() {
    let mut pools = vec![pool("type-PCI", None, 1), pool("type-VF", None, 3)];
    let requests = [request(2, &[]), request(5, &[])];
    let (usage, granted) = pci::usage_of(&pools, &requests, None, None);
    assert_eq!(granted, Ok(false));
    pci::take(&mut pools, &usage);
    assert_eq!(pools, [pool("type-VF", None, 2)], "the first pool is used up and gone");
    let empty = DeviceRequest { spec: Vec::new(), of_alias: true, ..request(1, &[]) };
    assert_eq!(pci::supports(&pools, &[empty], None, None), Err(RequestError::EmptySpec));
}
