//! The views of the map.

use std::sync::Arc;

use novella_objects::{HostAmounts, InstanceSummary, ServerGroupSummary, VmState};
use serde_json::{Value, json};

use crate::policy::file::PolicyFile;

use crate::report::reported::raw;
use crate::tests::*;
use crate::views::copy::CopyInProgress;
use crate::views::hosts::ListingInProgress;
use crate::views::instances::InstancesInProgress;
use crate::views::services::ServicesInProgress;

#[test]
fn the_detail_shows_the_report_whole() {
    let text = json!({
        "vcpus": 8, "vcpus_used": 2, "disk_total": 100, "disk_used": 7, "disk_available": 93,
        "host_memory_total": 16384, "host_memory_free": 9000, "hypervisor_version": 1_002_003,
        "hypervisor_type": "fake", "hypervisor_hostname": "node-1",
        "cpu_info": {"arch": "x86_64", "features": ["aes"]}, "pets": ["cat"], "speed": 2.5,
        "novella": {
            "uuid": id(1), "incarnation": 3, "nonce": 18_446_744_073_709_551_615_u64, "seq": 9,
            "sent_at": "2026-01-01T00:00:00Z", "interval_ms": 10_000, "availability_zone": "az1",
            "disabled_reason": "kernel", "reserved": {"vcpus": 1, "memory_mb": 512, "disk_gb": 2},
            "allocation_ratios": {"cpu": 4.0, "ram": 1.5, "disk": 1.0},
            "claims": [
                {"uuid": id(5), "vcpus": 1, "memory_mb": 1024, "disk_gb": 1},
                {"uuid": id(6), "vcpus": 2, "memory_mb": 1, "disk_gb": 3, "group": "g", "resources": {"CUSTOM_GPU": 1}}
            ],
            "traits": ["CUSTOM_GOLD"],
            "resources": {"CUSTOM_GPU": {"total": 4, "reserved": 0, "min_unit": 1, "max_unit": 4, "step_size": 1,
                "allocation_ratio": 1.0}},
            "facts": {"rack": "r1", "depth": [[1]]},
            "numa_topology": {"cells": [{"id": 0, "cpuset": [0, 1], "memory_mb": 8192}]},
            "measured": {"load_1m": 0.5},
            "stale_probes": {"disk": 70_000}
        }
    });
    let encoded = text.to_string();
    let caps: Capabilities<'_> = serde_json::from_str(&encoded).unwrap();
    let mut m = manager();
    m.apply_report(None, "compute", "h1", &caps, s(10));
    place(&mut m, &request([7], SMALL), s(10));
    let detail = m.detail("h1", s(12)).unwrap();
    assert_eq!(detail.capabilities, text);
    let shown = serde_json::to_value(&detail).unwrap();
    let mut expected = json!({
        "host": "h1", "uuid": id(1), "state": "disabled", "availability_zone": "az1", "vcpus": 8, "vcpus_used": 4,
        "memory_mb": 16384, "memory_mb_used": 1537, "disk_gb": 100, "disk_gb_used": 6,
        "capacity": {"vcpus": 32, "memory_mb": 24576, "disk_gb": 100},
        "held": {"vcpus": 0, "memory_mb": 0, "disk_gb": 0}, "instances": 2,
        "reservations": 0, "report_age_s": 2.0, "disabled_reason": "kernel",
        "warnings": [{"kind": "stale_probe", "probe": "disk", "age_ms": 70_000}],
        "incarnation": 3, "seq": 9, "sent_at": "2026-01-01T00:00:00Z"
    });
    expected["capabilities"] = text;
    expected["numa_topology"] = json!({"cells": [{"id": 0, "cpuset": [0, 1], "pcpuset": [], "memory_mb": 8192,
        "cpu_usage": 0, "memory_usage_mb": 0, "pinned_cpus": [], "siblings": [],
        "mempages": [{"size_kb": 4, "total": 2_097_152, "used": 0, "reserved": 0}]}]});
    expected["traits"] = json!(["CUSTOM_GOLD", "COMPUTE_STATUS_DISABLED"]);
    expected["resources"] = json!({"CUSTOM_GPU": {"total": 4, "reserved": 0, "min_unit": 1, "max_unit": 4, "step_size": 1,
        "allocation_ratio": 1.0, "used": 1}});
    expected["resource"] = json!({"vcpus": 8, "vcpus_used": 4, "memory_mb": 16384, "memory_mb_used": 1537,
        "local_gb": 100, "local_gb_used": 6});
    assert_eq!(shown, expected);
    assert_eq!(m.show_host_resources("h1").unwrap(), json!({"resource": expected["resource"], "usage": {}}));
    assert!(m.detail("h2", s(12)).is_none() && m.show_host_resources("h2").is_none());
}

#[test]
fn facts_nested_deeper_than_a_reader_goes_are_shown_as_text() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let encoded = format!(
        r#"{{"x":{deep},"novella":{{"uuid":"{}","incarnation":1,"nonce":1,"seq":1,"sent_at":"","interval_ms":1,"facts":{{"f":{deep}}}}}}}"#,
        id(1)
    );
    let caps: Capabilities<'_> = serde_json::from_str(&encoded).unwrap();
    let mut m = manager();
    assert_eq!(m.apply_report(None, "compute", "h1", &caps, s(0)), Applied::New);
    let shown = m.detail("h1", s(0)).unwrap().capabilities;
    assert_eq!(
        (&shown["x"], &shown["novella"]["facts"]["f"]),
        (&Value::String(deep.clone()), &Value::String(deep))
    );
}

#[test]
fn what_is_read_in_steps_is_the_map_at_the_last_step() {
    let mut m = manager();
    let reports: Vec<_> = (1..=600).map(Report::of).collect();
    reports.iter().for_each(|report| assert_eq!(report.clone().send(&mut m, s(0)), Applied::New));
    let (mut copying, mut services) = (CopyInProgress::default(), ServicesInProgress::default());
    let mut listing = ListingInProgress::new(true);
    // Between two steps the map changes in every way, before and behind what is read already.
    let second = |n: u128| Report { seq: 2, ..reports[n as usize - 1].clone() };
    let claims = vec![Claim { group: Some("db".into()), ..claim(900, SMALL) }];
    let forget_after = HostManagerOptions::default().forget_after;
    let sent = |report: Report| -> Box<dyn Fn(&mut HostManager)> {
        Box::new(move |m| assert!(report.clone().send(m, s(1)).is_accepted()))
    };
    let changes = [
        sent(Report { claims, ..second(3) }),
        sent(Report { traits: vec!["CUSTOM_NEW"], ..second(590) }),
        sent(Report { goodbye: true, ..second(7) }),
        Box::new(|m| _ = place(m, &request([7, 8, 9], SMALL), s(2))),
        sent(Report { goodbye: true, ..second(20) }),
        sent(Report { host: "other".into(), incarnation: 2, seq: 1, ..second(20) }),
        sent(Report::of(1000)),
        // One host reports, and the others are forgotten.
        Box::new(move |m| {
            let late = s(4) + forget_after;
            Report { seq: 2, ..Report::of(1000) }.send(m, late);
            m.expire(late + s(1));
        }),
    ];
    let last = s(6) + forget_after;
    let mut done = [false; 3];
    for change in changes {
        for _ in 0..2 {
            done = [
                done[0] || m.copy_some(&mut copying),
                done[1] || m.list_some(&mut listing),
                done[2] || m.services_some(&mut services),
            ];
        }
        change(&mut m);
    }
    assert_eq!(done, [true; 3], "few hosts have changed in the end");
    let (mut in_steps, mut at_once) = (m.finish_copy(copying, last), m.copy(last));
    assert_eq!(format!("{:?}", in_steps.take_hosts()), format!("{:?}", at_once.take_hosts()));
    assert_eq!(m.finish_list(listing, last).summaries(), m.fleet_with_facts(last).summaries());
    assert_eq!(m.finish_services(services, last).services(), m.services(last).services());
    assert_eq!(m.fleet(last).summaries().len(), 1);
}

#[test]
fn summaries_are_in_fleet_order_with_the_default_zone() {
    let mut m = manager();
    for n in [3, 1, 2] {
        Report::of(n).send(&mut m, s(0));
    }
    let rows = m.fleet(s(4)).summaries();
    assert_eq!(rows.iter().map(|row| row.host.as_str()).collect::<Vec<_>>(), ["h3", "h1", "h2"]);
    assert!(rows.iter().all(|row| row.availability_zone == "nova" && row.report_age_s == 4.0));
}

#[test]
fn capacity_is_that_of_the_enabled_filters_and_holds_are_told_apart() {
    let mut m = manager();
    Report::of(1).send(&mut m, s(0));
    Report::of(2).send(&mut m, s(0));
    place(&mut m, &request([7], SMALL), s(0));
    let row = |m: &HostManager, at: usize| m.fleet(s(1)).summaries().remove(at);
    let amounts = |vcpus, memory_mb, disk_gb| Some(HostAmounts { vcpus, memory_mb, disk_gb });
    let first = row(&m, 0);
    assert_eq!((first.vcpus, first.capacity), (16, amounts(64, 16_384, 100)));
    assert_eq!((first.held, first.reservations), (amounts(1, 1024, 1), 1));
    assert_eq!(row(&m, 1).held, amounts(0, 0, 0));

    let policy = |filters: &str| {
        let text = format!(
            "[filter_scheduler]\nenabled_filters = [{filters}]\n[aggregates.slow]\nhosts = ['h1']\n\
             metadata = {{ cpu_allocation_ratio = '2.0' }}\n[aggregates.fast]\nhosts = ['h1']\n\
             metadata = {{ cpu_allocation_ratio = '8.0' }}\n"
        );
        Arc::new(PolicyFile::parse(&text).unwrap())
    };
    for (filters, vcpus) in
        [("'CoreFilter'", 64), ("'AggregateCoreFilter'", 32), ("'CoreFilter', 'AggregateCoreFilter'", 32)]
    {
        m.set_policy(policy(filters));
        let (first, second) = (row(&m, 0), row(&m, 1));
        assert_eq!(first.capacity, amounts(vcpus, 16_384, 100), "{filters}");
        assert_eq!(
            second.capacity,
            amounts(64, 16_384, 100),
            "{filters}: no aggregate of this host sets a ratio"
        );
        assert_eq!((first.aggregates, second.aggregates), (vec!["fast".to_owned(), "slow".into()], vec![]));
    }
}

#[test]
fn facts_are_listed_if_they_are_asked_for() {
    let mut m = manager();
    let mut caps = Report::of(1).caps();
    caps.novella.as_mut().unwrap().facts = Entries(vec![("rack".into(), Json::of("r1").unwrap())]);
    m.apply_report(None, "compute", "h1", &caps, s(0));
    assert!(m.fleet(s(0)).summaries()[0].facts.is_empty());
    assert_eq!(m.fleet_with_facts(s(0)).summaries()[0].facts["rack"], "r1");
}

#[test]
fn server_groups_are_those_of_the_policy_and_those_with_members() {
    let mut m = manager();
    let text = "[filter_scheduler]\nenabled_filters = ['ServerGroupAntiAffinityFilter']\n\
        [server_groups.web]\npolicy = 'anti-affinity'\nmax_server_per_host = 2\n";
    m.set_policy(Arc::new(PolicyFile::parse(text).unwrap()));
    let of_group =
        |uuid: u128, group: &'static str| Claim { group: Some(group.into()), ..claim(uuid, SMALL) };
    Report { claims: vec![of_group(5, "db")], ..Report::of(1) }.send(&mut m, s(0));
    let mut asked = request([7], SMALL);
    asked.request_spec.spec.scheduler_hints.insert("group".into(), json!("web"));
    place(&mut m, &asked, s(0));

    let group = |name: &str, policy: Option<&str>, most, instances| ServerGroupSummary {
        name: name.into(),
        policy: policy.map(Into::into),
        max_server_per_host: most,
        instances,
        members: Vec::new(),
    };
    assert_eq!(
        m.server_groups(),
        [group("db", None, None, 1), group("web", Some("anti-affinity"), Some(2), 1)]
    );
    let members = |name: &str| {
        let group = m.server_group(name).unwrap();
        group.members.into_iter().map(|m| (m.instance_uuid, m.host, m.held)).collect::<Vec<_>>()
    };
    assert_eq!(members("db"), [(id(5), "h1".to_owned(), false)]);
    assert_eq!(members("web"), [(id(7), "h1".to_owned(), true)]);
    assert_eq!(m.server_group("nope"), None);
}

#[test]
fn any_service_is_kept_and_rolled_up_by_nova_s_rules() {
    let mut m = manager();
    let apply = |m: &mut HostManager, service: &str, host: &str, text: &str, now: u64| {
        let caps: Capabilities<'_> = serde_json::from_str(text).unwrap();
        assert!(m.apply_report(None, service, host, &caps, s(now)).is_accepted());
    };
    apply(
        &mut m,
        "compute",
        "h1",
        r#"{"vcpus":4,"host_memory_free":100,"weight":1.5,"name":"x","timestamp":7}"#,
        0,
    );
    apply(&mut m, "compute", "h2", r#"{"vcpus":16,"weight":-2}"#, 10);
    apply(&mut m, "compute", "h3", r#"{"vcpus":99,"enabled":false}"#, 10);
    apply(&mut m, "volume", "v1", r#"{"total_gb":9007199254740993}"#, 0);
    apply(&mut m, "volume", "v2", r#"{"total_gb":9007199254740992,"enabled":true}"#, 20);
    let roll_up = |m: &mut HostManager, now: u64| {
        let bounds = m.get_service_capabilities(s(now));
        bounds.iter().map(|(key, (least, most))| format!("{key} {least} {most}")).collect::<Vec<_>>()
    };
    assert_eq!(
        roll_up(&mut m, 30),
        [
            "compute_host_memory_free 100 100",
            "compute_vcpus 4 16",
            "compute_weight -2 1.5",
            "volume_total_gb 9007199254740992 9007199254740993"
        ]
    );
    let list = |m: &HostManager| {
        m.services(s(0))
            .host_list()
            .iter()
            .map(|e| format!("{} {}", e.service, e.host_name))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&m), ["compute h1", "compute h2", "compute h3", "volume v1", "volume v2"]);
    assert_eq!(
        roll_up(&mut m, 31),
        ["compute_vcpus 16 16", "compute_weight -2 -2", "volume_total_gb 9007199254740992 9007199254740992"],
        "over three intervals is stale"
    );
    assert_eq!(
        list(&m),
        ["compute h1", "compute h2", "compute h3", "volume v2"],
        "hosts are judged elsewhere"
    );
    let services = m.services(s(81)).services();
    assert_eq!(services.len(), 4);
    assert_eq!((services[3].service.as_str(), services[3].state), ("volume", HostStatus::Down));
    let goodbye = Report { goodbye: true, ..Report::of(1) }.caps();
    m.apply_report(None, "volume", "v3", &goodbye, s(81));
    assert_eq!(m.services(s(81)).services()[4].state, HostStatus::Down);
}

#[test]
fn instances_claims_and_holds_are_listed_and_a_state_that_cannot_be_read_is_an_error() {
    let built =
        |text: &str| Claim { instance: Some(raw(text)), decision: Some("s1-1".into()), ..claim(1, SMALL) };
    let claims = [
        built(r#"{"name":"web","vm_state":"active"}"#),
        Claim { uuid: id(2), ..built(r#"{"name":"odd","vm_state":"melting"}"#) },
        claim(3, SMALL),
    ];
    let report = json!({"vcpus": 8, "host_memory_total": 16_384, "disk_total": 100, "novella": {
        "uuid": id(9), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "", "interval_ms": 10_000, "grants": true,
        "claims": claims}});
    let mut m = manager();
    m.apply_report(None, "compute", "h1", &serde_json::from_str(&report.to_string()).unwrap(), s(10));
    let held = place(&mut m, &request([4], SMALL), s(10));
    let listed = |host: Option<&str>, all| -> Vec<_> {
        let mut listing = InstancesInProgress::new(host.map(str::to_owned), all);
        while !m.instances_some(&mut listing) {}
        m.finish_instances(listing, s(12)).summaries().collect()
    };
    let uuids = |rows: Vec<InstanceSummary>| rows.into_iter().map(|row| row.uuid).collect::<Vec<_>>();
    assert_eq!(uuids(listed(None, false)), [id(1), id(2)]);
    assert_eq!(uuids(listed(Some("h1"), true)), [id(1), id(2), id(3), id(4)]);
    assert_eq!(listed(Some("h2"), true), []);
    let rows = listed(None, true);
    assert_eq!((rows[0].age_s, rows[0].decision.as_deref()), (2.0, Some("s1-1")));
    let odd = rows[1].instance.as_ref().unwrap();
    assert!(odd.vm_state == VmState::Error && odd.fault.as_ref().unwrap().contains("melting"), "{odd:?}");
    assert_eq!(
        (rows[3].hold_ms, rows[3].decision.as_deref()),
        (Some(28_000), Some(held.decision_id.as_str()))
    );
    assert_eq!(m.find_instance(id(1), s(12)), rows[..1]);
    assert_eq!(m.find_instance(id(4), s(12)), rows[3..]);
    assert_eq!(m.find_instance(id(5), s(12)), []);
}
