//! Measured values differ in nearly every report. Requests that read them see each change, and other requests are not
//! affected.

mod common;

use common::{DRY, add, scheduler};
use novella_filter_scheduler::{FilterKind, FilterScheduler, HostTable, Resources, SchedulerOptions, Terms};
use novella_objects::RequestSpec;
use serde_json::json;
use uuid::Uuid;

fn fleet() -> HostTable {
    let mut table = HostTable::new();
    let resources =
        Resources { vcpus_total: 64, memory_mb_total: 65_536, disk_gb_total: 1_000, ..Resources::default() };
    for name in ["a", "b"] {
        add(&mut table, name, name, &resources);
        measure(&mut table, name, 10_000, 1);
    }
    table
}

/// A report with other measured values and the same words.
fn measure(table: &mut HostTable, host: &str, free: u64, load: u64) {
    let report = json!({
        "host_memory_free": free, "hypervisor_type": "QEMU",
        "novella": {"uuid": Uuid::from_u128(1), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "", "interval_ms": 1,
            "metrics": [{"name": "load", "value": load}]},
    });
    let row = table.row_of(host).expect("it is there");
    table.set_capabilities(row, &serde_json::from_str(&report.to_string()).expect("a good report"));
}

fn hosts(engine: &mut FilterScheduler, table: &mut HostTable, request: &RequestSpec) -> usize {
    let terms = Terms { alternates: Some(9), ..DRY };
    let selected = engine.select(table, request, &[Uuid::from_u128(9)], &terms);
    selected.picks.len() + selected.alternates.len()
}

fn request(specs: &[(&str, &str)], hint: Option<&str>) -> RequestSpec {
    RequestSpec {
        scheduler_hints: hint.into_iter().map(|query| ("query".to_owned(), json!(query))).collect(),
        ..common::request(1, specs)
    }
}

#[test]
fn requests_that_read_measured_values_see_every_report() {
    let options = SchedulerOptions {
        enabled_filters: vec![FilterKind::Compute, FilterKind::ComputeCapabilities, FilterKind::Json],
        ..SchedulerOptions::default()
    };
    let mut engine = scheduler(options);
    let mut table = fleet();
    let by_spec = request(&[("capabilities:host_memory_free", ">= 5000")], None);
    let by_query = request(&[], Some(r#"[">=", "$host_memory_free", 5000]"#));
    let by_word = request(&[("capabilities:hypervisor_type", "QEMU")], None);
    for (free_of_a, expected) in [(10_000, 2), (4_999, 1), (4_999, 1), (5_000, 2), (1, 1)] {
        measure(&mut table, "a", free_of_a, free_of_a);
        assert_eq!(hosts(&mut engine, &mut table, &by_spec), expected, "{free_of_a}");
        assert_eq!(hosts(&mut engine, &mut table, &by_query), expected, "{free_of_a}");
        assert_eq!(hosts(&mut engine, &mut table, &by_word), 2, "{free_of_a}");
    }
}

#[test]
fn metrics_are_measured_values_too() {
    let mut options = SchedulerOptions {
        enabled_filters: vec![FilterKind::Compute, FilterKind::Metrics],
        ..SchedulerOptions::default()
    };
    options.policy.metrics_weight_setting = vec!["load=1.0".to_owned()];
    let mut engine = scheduler(options);
    let (mut table, plain) = (fleet(), request(&[], None));
    assert_eq!(hosts(&mut engine, &mut table, &plain), 2);
    measure(&mut table, "a", 10_000, 2);
    assert_eq!(hosts(&mut engine, &mut table, &plain), 2);
    let row = table.row_of("a").expect("it is there");
    let none = r#"{"host_memory_free": 10000, "hypervisor_type": "QEMU"}"#;
    table.set_capabilities(row, &serde_json::from_str(none).expect("a good report"));
    assert_eq!(hosts(&mut engine, &mut table, &plain), 1, "a host without the metric is refused");
}
