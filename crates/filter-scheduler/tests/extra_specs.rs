//! ComputeCapabilitiesFilter and ImagePropertiesFilter on the attributes of Nova's HostState, each held against what Nova 34
//! answers.

mod common;

use common::{DRY, add, answer, report, request};
use novella_filter_scheduler::{
    Aggregate, Failure, FilterKind, HostTable, Instance, OnFilterError, Resources, SchedulerOptions,
};
use novella_objects::document::{NumaCell, NumaTopology};
use novella_objects::{Image, RequestSpec};
use novella_resources::Devices;
use uuid::Uuid;

const REPORT: &str = r#""vcpus":8,"vcpus_used":0,"disk_total":100,"disk_used":1,"disk_available":99,
    "host_memory_total":16384,"host_memory_free":8192,"hypervisor_type":"QEMU","hypervisor_version":8002001,"#;

/// One host that reports all of Folsom's keys, but no list of what it supports.
fn fleet(attributes: &str) -> HostTable {
    let mut table = HostTable::new();
    let resources =
        Resources { vcpus_total: 8, memory_mb_total: 16_384, disk_gb_total: 100, ..Resources::default() };
    let row = add(&mut table, "h0", "n0", &resources);
    report(&mut table, row, attributes, r#""rack":"7","tier":"gold""#);
    table
}

/// Whether the host passes, or why it could not be decided about.
fn asked(table: &mut HostTable, request: &RequestSpec) -> Result<bool, String> {
    let options = SchedulerOptions {
        enabled_filters: vec![FilterKind::ComputeCapabilities, FilterKind::ImageProperties],
        on_filter_error: OnFilterError::FailRequest,
        ..SchedulerOptions::default()
    };
    match answer(options, table, request, 1, &DRY).failure {
        None => Ok(true),
        Some(Failure::NoValidHost { .. }) => Ok(false),
        Some(failure) => Err(failure.to_string()),
    }
}

fn passes(table: &mut HostTable, key: &str, text: &str) -> Result<bool, String> {
    asked(table, &request(1, &[(key, text)]))
}

#[test]
fn without_a_scope_only_attributes_of_hoststate_and_facts_are_asked() {
    let mut table = fleet(REPORT);
    let lacking =
        ["vcpus", "disk_total", "disk_used", "disk_available", "host_memory_total", "host_memory_free"];
    for key in lacking.into_iter().chain(["novella", "unheard_of", "__slots__", "to_dict"]) {
        assert_eq!(passes(&mut table, key, "nothing like it"), Ok(true), "{key} is no attribute");
    }
    assert_eq!(passes(&mut table, "capabilities:vcpus", "8"), Ok(true), "the report has it");
    assert_eq!(passes(&mut table, "capabilities:vcpus", "9"), Ok(false));
    let numbers = ["vcpus_total", "free_ram_mb", "num_instances", "failed_builds", "hypervisor_version"];
    let words = ["host", "nodename", "hypervisor_type", "hypervisor_hostname", "limits", "rack", "tier"];
    let unset = ["cpu_info", "host_ip", "numa_topology", "updated", "uuid", "__weakref__"];
    for key in numbers.into_iter().chain(words).chain(unset) {
        assert_eq!(passes(&mut table, key, "nothing like it"), Ok(false), "{key} is asked");
    }
    for key in unset {
        assert_eq!(passes(&mut table, key, "s!= x"), Ok(false), "{key} is None");
    }
}

#[test]
fn objects_equal_nothing_but_what_is_empty() {
    let mut table = fleet(REPORT);
    let objects = [
        "_locked_consume_from_request",
        "_update_from_compute_node",
        "aggregates",
        "allocation_candidates",
        "cell_uuid",
        "consume_from_request",
        "instances",
        "metrics",
        "pci_stats",
        "service",
        "stats",
        "supported_instances",
        "update",
        "__class__",
        "__doc__",
        "__module__",
    ];
    for key in objects {
        assert_eq!(passes(&mut table, key, "nothing like it"), Ok(false), "{key}");
        assert_eq!(passes(&mut table, key, "s!= x"), Ok(true), "{key} is not None");
        assert!(passes(&mut table, key, ">= 1").is_err(), "{key} is no number, for which Nova raises");
        assert_eq!(
            passes(&mut table, &format!("capabilities:{key}:x"), "s!= x"),
            Ok(false),
            "{key} has no x"
        );
    }
    assert_eq!(passes(&mut table, "_lock_name", "h0-n0"), Ok(true));
    assert_eq!(passes(&mut table, "supported_instances", "[]"), Ok(true));
    let empty = [("aggregates", "[]"), ("instances", "{}")];
    for (key, text) in empty {
        assert_eq!(passes(&mut table, key, text), Ok(true), "{key} is empty");
    }
    let row = table.row_of("h0").unwrap();
    table.set_aggregates([Aggregate { id: 1, name: "a".into(), metadata: [].into() }]);
    table.set_host_aggregates(row, &[1]);
    table.add_instance(row, &Instance { uuid: Uuid::from_u128(7), flavor: None, image: None }).unwrap();
    let cell = NumaCell { id: 0, memory_mb: 64, ..NumaCell::default() };
    table.set_devices(row, &Devices::read(Some(&NumaTopology { cells: vec![cell] }), &[]).unwrap());
    for (key, text) in empty {
        assert_eq!(passes(&mut table, key, text), Ok(false), "{key} is not empty");
    }
    assert_eq!(passes(&mut table, "numa_topology", "s!= x"), Ok(true));
}

/// As in `nova/tests/unit/scheduler/filters/test_image_props_filter.py`, and with a `cpu_info` that is a text, which
/// Nova 34 cannot read.
#[test]
fn address_bits_of_an_image_are_compared_with_those_of_the_host() {
    let properties = |bits: &str| {
        let properties =
            [("hw_maxphysaddr_bits".to_owned(), bits.into()), ("hw_vm_mode".to_owned(), "hvm".into())];
        let image = Image { properties: properties.into(), ..Image::default() };
        RequestSpec { image: Some(image), ..request(1, &[]) }
    };
    for (cpu_info, passing) in [
        (r#""cpu_info":{"maxphysaddr":{"bits":42}},"#, true),
        (r#""cpu_info":{"maxphysaddr":{"bits":43,"mode":"emulate"}},"#, true),
        (r#""cpu_info":{"maxphysaddr":{"bits":41}},"#, false),
        (r#""cpu_info":"{\"maxphysaddr\":{\"bits\":41}}","#, false),
        (r#""cpu_info":"{\"maxphysaddr\":{\"bits\":46}}","#, true),
        (r#""cpu_info":{"maxphysaddr":{}},"#, true),
        (r#""cpu_info":{"arch":"x86_64"},"#, true),
        ("", true),
    ] {
        let mut table =
            fleet(&format!(r#"{REPORT}{cpu_info}"supported_instances":[["x86_64","kvm","hvm"]],"#));
        assert_eq!(asked(&mut table, &properties("42")), Ok(passing), "{cpu_info}");
        assert_eq!(asked(&mut table, &properties("0")), Ok(true), "{cpu_info}");
    }
}
