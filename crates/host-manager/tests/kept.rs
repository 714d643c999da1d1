//! What the map keeps of reports is within its budgets, and its estimate is about as large as what is really allocated.
//!
//! The estimate decides what is refused, so it must not be far below the truth for any shape of report.

use std::fmt::Write;
use std::time::Duration;

use novella_host_manager::{Applied, HostManager, HostManagerOptions};
use novella_objects::Capabilities;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: usize = 1024 * 1024;

fn manager(max_hosts: usize) -> HostManager {
    HostManager::new(HostManagerOptions { max_hosts, ..HostManagerOptions::default() }, "s1")
}

/// The text of a report whose further fields of novella's own part, or of the top level, are these.
fn report(host: usize, own: &Value, top: &Value) -> String {
    let mut novella = json!({"uuid": Uuid::from_u128(1 + host as u128), "incarnation": 1, "nonce": 1, "seq": 1,
        "sent_at": "", "interval_ms": 10000});
    novella.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
    let mut report =
        json!({"vcpus": 64, "host_memory_total": 1 << 20, "disk_total": 10_000, "novella": novella});
    report.as_object_mut().expect("an object").extend(top.as_object().expect("an object").clone());
    report.to_string()
}

fn send(manager: &mut HostManager, host: usize, text: &str) -> Applied {
    let caps: Capabilities<'_> = serde_json::from_str(text).expect("a report");
    manager.apply_report(None, "compute", &format!("h{host}"), &caps, Duration::from_secs(1))
}

fn claims(n: usize, more: impl Fn(usize) -> Value) -> Value {
    let claim = |at: usize| {
        let mut claim =
            json!({"uuid": Uuid::from_u128(1000 + at as u128), "vcpus": 1, "memory_mb": 1, "disk_gb": 1});
        claim.as_object_mut().expect("an object").extend(more(at).as_object().expect("an object").clone());
        claim
    };
    json!({"claims": (0..n).map(claim).collect::<Value>()})
}

fn object(n: usize, value: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..n).map(|at| (format!("key{at}"), value(at))).collect())
}

/// Reports of many shapes, each as large as a report may be, or nearly.
fn shapes() -> Vec<(&'static str, Value, Value)> {
    let none = || json!({});
    let ones = |n: usize| Value::from(vec![1; n]);
    let lists = |n: usize| Value::from(vec![Value::Array(Vec::new()); n]);
    let pool = |at: usize| json!({"vendor_id": format!("{at:04x}"), "product_id": "1", "dev_type": "type-PCI", "count": 1});
    let cell = |at: usize| json!({"id": at, "cpuset": [4 * at], "memory_mb": 1024, "siblings": [[4 * at]]});
    vec![
        ("plain claims", claims(4096, |_| none()), none()),
        ("claims in groups", claims(2000, |at| json!({"group": format!("group-{at}")})), none()),
        ("claims with flavors", claims(2000, |at| json!({"flavor": format!("flavor-{at}")})), none()),
        (
            "claims with images",
            claims(500, |at| json!({"image": {"properties": {"os_distro": format!("{at}")}}})),
            none(),
        ),
        (
            "claims with resources",
            claims(2000, |_| json!({"resources": {"CUSTOM_A": 1, "CUSTOM_B": 2}})),
            none(),
        ),
        ("facts", json!({"facts": object(1000, |at| at.into())}), none()),
        ("a fact with many numbers", json!({"facts": {"f": ones(9000)}}), none()),
        ("a fact with many lists", json!({"facts": {"f": lists(8000)}}), none()),
        ("a fact with many keys", json!({"facts": {"f": object(3000, |_| 1.into())}}), none()),
        ("a long fact", json!({"facts": {"f": "x".repeat(60_000)}}), none()),
        ("top-level keys", none(), object(1000, |at| json!([at]))),
        ("cpu_info", none(), json!({"cpu_info": object(3000, |_| 1.into())})),
        (
            "traits",
            json!({"traits": (0..1000).map(|at| format!("CUSTOM_TRAIT_{at}")).collect::<Vec<_>>()}),
            none(),
        ),
        ("resources", json!({"resources": object(1000, |_| json!({"total": 1}))}), none()),
        ("metrics", json!({"metrics": ones(9000)}), none()),
        ("probes", json!({"stale_probes": object(1000, |at| at.into())}), none()),
        ("pci_pools", json!({"pci_pools": (0..700).map(pool).collect::<Value>()}), none()),
        ("cells", json!({"numa_topology": {"cells": (0..100).map(cell).collect::<Value>()}}), none()),
    ]
}

#[test]
fn the_estimate_is_not_far_below_what_is_allocated() {
    for (what, own, top) in shapes() {
        let text = report(0, &own, &top).replace("\"seq\":1", "\"seq\":2");
        let mut map = manager(20_000);
        send(&mut map, 0, &report(0, &json!({}), &json!({})));
        let allocated = allocation_counter::measure(|| {
            let applied = send(&mut map, 0, &text);
            assert!(applied.is_accepted(), "{what}: {applied:?}");
        });
        let (really, estimated) = (allocated.bytes_current as usize, map.kept_bytes());
        println!("{what}: {really} bytes, estimated {estimated}");
        assert!(really <= 2 * estimated, "{what}: {really} bytes, estimated {estimated}");
        assert!(estimated <= MIB, "{what}: {estimated}");
    }
}

/// What the map keeps goes back to nothing when the same host reports nothing more.
#[test]
fn what_a_host_no_longer_reports_is_no_longer_counted() {
    for (what, own, top) in shapes() {
        let mut map = manager(20_000);
        let plain = |seq: &str| report(0, &json!({}), &json!({})).replace("\"seq\":1", seq);
        send(&mut map, 0, &plain("\"seq\":1"));
        let before = map.kept_bytes();
        let large = report(0, &own, &top).replace("\"seq\":1", "\"seq\":2");
        assert!(send(&mut map, 0, &large).is_accepted(), "{what}");
        assert!(map.kept_bytes() > before, "{what}");
        assert!(send(&mut map, 0, &plain("\"seq\":3")).is_accepted(), "{what}");
        assert_eq!(map.kept_bytes(), before, "{what}");
    }
}

fn refusal(applied: &Applied) -> String {
    match applied {
        Applied::Bad(bad) => bad.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_host_that_would_take_too_much_is_refused_with_the_number_and_keeps_its_last_report() {
    let mut map = manager(20_000);
    send(&mut map, 0, &report(0, &claims(1, |_| json!({})), &json!({})));
    let before = map.kept_bytes();
    let image = |at: usize| json!({"image": {"properties": {"os_distro": format!("{at}").repeat(100)}}});
    let large = report(0, &claims(2400, image), &json!({})).replace("\"seq\":1", "\"seq\":2");
    let refused = refusal(&send(&mut map, 0, &large));
    assert!(refused.contains("bytes of memory, more than the 1048576 that one host may take"), "{refused}");
    assert_eq!(map.kept_bytes(), before);
    let tree = report(1, &json!({"facts": {"f": vec![1; 30_000]}}), &json!({}));
    let refused = refusal(&send(&mut map, 1, &tree));
    assert!(refused.contains("more than the 1048576"), "{refused}");
    assert_eq!((map.table().len(), map.kept_bytes()), (1, before));
}

/// The attack that was seen: 60 hosts of 240 claims with a long text each.
#[test]
fn many_large_hosts_fill_the_map_up_to_its_budget_only() {
    let mut map = manager(1000);
    let most = map.max_kept_bytes();
    assert_eq!(most, 1000 * 16 * 1024);
    let allocated = allocation_counter::measure(|| {
        let mut refused = String::new();
        for host in 0..60 {
            let text = format!("{host}-{}", "x".repeat(1000));
            let own =
                claims(240, |at| json!({"image": {"properties": {"os_distro": format!("{text}{at}")}}}));
            refused = refusal(&send(&mut map, host, &report(host, &own, &json!({}))));
        }
        let mut expected = String::new();
        write!(expected, "more than the {most} that reports.max_hosts allows").expect("a text");
        assert!(refused.contains(&expected), "{refused}");
        assert!(map.kept_bytes() <= most);
    });
    assert!(map.table().len() >= 5, "{} hosts", map.table().len());
    assert!((allocated.bytes_current as usize) < 2 * most, "{} bytes", allocated.bytes_current);
    // A host that is there may go on reporting, with less or with the same.
    let small = report(0, &claims(1, |_| json!({})), &json!({})).replace("\"seq\":1", "\"seq\":2");
    assert!(send(&mut map, 0, &small).is_accepted());
}

#[test]
fn services_count_and_are_forgotten() {
    let mut map = manager(20_000);
    let empty = map.kept_bytes();
    let text = json!({"pools": vec![1; 5000], "free_capacity_gb": 1}).to_string();
    let caps: Capabilities<'_> = serde_json::from_str(&text).expect("a report");
    for service in ["volume", "network", "volume"] {
        assert!(map.apply_report(None, service, "h0", &caps, Duration::from_secs(1)).is_accepted());
    }
    assert!(map.kept_bytes() > 2 * text.len());
    map.expire(Duration::from_secs(10_000));
    map.expire(Duration::from_secs(20_000));
    assert_eq!(map.kept_bytes(), empty);
}
