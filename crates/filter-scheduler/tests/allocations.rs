//! Checks what the engine allocates: nothing for a known shape of request, and little for a host.

mod common;

use common::{add, report, scheduler};
use novella_filter_scheduler::{
    Amounts, FilterKind, HostTable, Instance, Resources, SchedulerOptions, Selected, Terms, WeigherKind,
};
use novella_objects::{AllocationRatios, Flavor, RequestSpec};
use uuid::Uuid;

fn fleet(hosts: usize, instances: usize) -> HostTable {
    let mut table = HostTable::new();
    for at in 0..hosts {
        let resources = Resources {
            vcpus_total: 64,
            vcpus_used: (at * 7 % 64) as u64,
            memory_mb_total: 262_144,
            memory_mb_used: (at * 512 % 262_144) as u64,
            disk_gb_total: 2_000,
            disk_gb_used: (at * 13 % 2_000) as u64,
            ratios: AllocationRatios { cpu: 4.0, ..AllocationRatios::default() },
            num_io_ops: (at % 5) as u32,
            ..Resources::default()
        };
        let row = add(&mut table, &format!("cmp{at:05}"), &format!("cmp{at:05}.example.org"), &resources);
        let attributes = format!(
            r#""vcpus":64,"vcpus_used":{},"disk_total":2000,"disk_used":{},"disk_available":{},
            "host_memory_total":262144,"host_memory_free":{},"cpu_info":{{"arch":"x86_64"}},
            "hypervisor_type":"QEMU","hypervisor_version":8002001,"#,
            resources.vcpus_used,
            resources.disk_gb_used,
            2_000 - resources.disk_gb_used,
            262_144 - resources.memory_mb_used,
        );
        let facts = format!(r#""rack":{},"row":2,"psu":2,"site":"dc0","model":"r7525""#, at / 40);
        report(&mut table, row, &attributes, &facts);
        let traits = (0..10).map(|number| format!("CUSTOM_{}", (at % 30) * 3 + number));
        table.set_traits(row, traits.collect::<Vec<_>>().iter().map(String::as_str));
        for number in 0..instances {
            let uuid = Uuid::from_u128((at * instances + number) as u128);
            table.add_instance(row, &Instance { uuid, flavor: None, image: None }).expect("without image");
        }
    }
    table
}

fn requests() -> Vec<RequestSpec> {
    let flavor = |vcpus| Flavor { vcpus, memory_mb: 2048, root_gb: 20, ..Flavor::default() };
    let plain = |vcpus| RequestSpec { flavor: flavor(vcpus), ..RequestSpec::default() };
    let mut asking = plain(3);
    asking.flavor.extra_specs.insert("capabilities:cpu_info:arch".to_owned(), "s== x86_64".to_owned());
    let zone = RequestSpec { availability_zone: Some("nova".to_owned()), ..plain(5) };
    vec![plain(1), plain(2), plain(8), asking, zone]
}

#[test]
fn known_shapes_are_placed_without_allocating() {
    let mut table = fleet(1_000, 0);
    let options = SchedulerOptions {
        enabled_filters: [FilterKind::DEFAULT.as_slice(), &[FilterKind::ImageProperties]].concat(),
        weighers: WeigherKind::ALL.map(|kind| (kind, kind.default_multiplier())).to_vec(),
        ..SchedulerOptions::default()
    };
    let mut scheduler = scheduler(options);
    let (requests, mut selected) = (requests(), Selected::default());
    let mut uuids = Vec::new();
    let (mut number, mut misses) = (0, 0);
    let mut round = |table: &mut HostTable, instances: u128| {
        let mut named = 0;
        for request in &requests {
            uuids.clear();
            uuids.extend((number..number + instances).map(Uuid::from_u128));
            number += instances;
            let missed = selected.explanation.filters.iter().filter(|f| f.nearest_miss.is_some()).count();
            scheduler.select_into(table, request, &uuids, &Terms::default(), &mut selected);
            let misses = selected.explanation.filters.iter().filter(|f| f.nearest_miss.is_some()).count();
            named += misses.abs_diff(missed) as u64;
            assert_eq!((&selected.failure, selected.picks.len()), (&None, instances as usize));
            assert!(selected.explanation.filters.len() >= 3 && selected.explanation.ranking.len() == 4);
            let row = selected.picks[0].row;
            let consumed = table.view(row).consumed();
            table.give_back(row, &consumed);
            table.consume(row, &Amounts { instances: 1, ..Amounts::default() });
        }
        named
    };
    // In the first rounds the buffers grow to their final size.
    for _ in 0..20 {
        round(&mut table, 8);
    }
    // Only the answer allocates: the name of a nearest miss, if the answer before had none.
    for (rounds, instances) in [(100, 1), (20, 8)] {
        let allocated = allocation_counter::measure(|| {
            for _ in 0..rounds {
                misses += round(&mut table, instances);
            }
        });
        assert!(allocated.count_total <= misses, "{instances}: {misses} {allocated:?}");
    }
}

/// The hosts are of thirty kinds with ten traits, and have five facts and twenty instances each. Only the engine is
/// measured.
#[test]
fn a_host_takes_little_memory() {
    const HOSTS: usize = 10_000;
    let mut table = None;
    let built = allocation_counter::measure(|| table = Some(fleet(HOSTS, 20)));
    let mut table = table.expect("it is built");
    let mut scheduler = scheduler(SchedulerOptions::default());
    let known = allocation_counter::measure(|| {
        for vcpus in 0..64 {
            let flavor = Flavor { vcpus, memory_mb: 2048, root_gb: 20, ..Flavor::default() };
            let request = RequestSpec { flavor, ..RequestSpec::default() };
            scheduler.select(&mut table, &request, &[Uuid::nil()], &Terms::default());
        }
    });
    let per_host = |bytes: i64| bytes as f64 / HOSTS as f64;
    println!("memory_10000_table {:.0} bytes per host", per_host(built.bytes_current));
    println!("memory_10000_64_shapes {:.0} bytes per host", per_host(known.bytes_current));
    assert!(per_host(built.bytes_current) <= 1_024.0, "{built:?}");
    assert!(per_host(known.bytes_current) < 256.0, "{known:?}");
}
