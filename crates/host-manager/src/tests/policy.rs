//! The policy in force: aggregates follow reports and reloads, members of groups are found, and flavors are found by
//! name.

use std::sync::Arc;

use novella_filter_scheduler::{Failure, FilterScheduler};
use novella_objects::{InstanceGroup, Json};
use serde_json::json;

use crate::policy::file::PolicyFile;
use crate::tests::*;

const POLICY: &str = r#"
[filter_scheduler]
enabled_filters = [
    "ComputeFilter", "AvailabilityZoneFilter", "RamFilter", "DifferentHostFilter", "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter", "TypeAffinityFilter", "NumInstancesFilter", "IoOpsFilter",
]
[aggregates.named]
hosts = ["h[1-2]"]
metadata = { availability_zone = "az-named" }
[aggregates.rack]
match.facts = { rack = "r1" }
[flavors.small]
vcpus = 1
memory_mb = 1024
root_gb = 1
[flavors.large]
vcpus = 2
memory_mb = 1024
[server_groups.apart]
policy = "anti-affinity"
[server_groups.together]
policy = "affinity"
"#;

fn rig(hosts: u128) -> (HostManager, FilterScheduler, Vec<Report>) {
    let policy = Arc::new(PolicyFile::parse(POLICY).unwrap_or_else(|bad| panic!("{bad}")));
    let engine = FilterScheduler::new(policy.options.clone()).unwrap();
    let mut m = manager();
    m.set_policy(policy);
    let mut reports: Vec<Report> = (1..=hosts).map(Report::of).collect();
    reports.iter_mut().for_each(|report| _ = report.send(&mut m, s(0)));
    (m, engine, reports)
}

fn ask(
    (m, engine): (&mut HostManager, &mut FilterScheduler),
    uuid: u128,
    change: impl FnOnce(&mut SelectDestinations),
) -> Result<String, String> {
    let mut asked = request([uuid], SMALL);
    asked.request_spec.spec.flavor.name = "f".into();
    change(&mut asked);
    let decided = select(m, engine, &asked, format!("s1-{uuid}"), s(1));
    let decision = decided.map_err(|failure| failure.to_string())?;
    assert_eq!(decision.policy_hash, m.policy_hash());
    decision.selections.first().map(|s| s.host.clone()).ok_or_else(|| {
        let out = decision.explanation.filters.iter().find(|filter| filter.hosts_out == 0);
        out.map_or("nothing".into(), |filter| filter.filter.to_string())
    })
}

fn aggregates(m: &HostManager, host: &str) -> Vec<String> {
    m.detail(host, s(1)).unwrap().aggregates
}

#[test]
fn aggregates_follow_names_reports_and_reloads() {
    let (mut m, _, mut reports) = rig(3);
    assert_eq!((aggregates(&m, "h1"), aggregates(&m, "h3")), (vec!["named".to_owned()], vec![]));
    let zones = |m: &HostManager| {
        m.fleet(s(1)).summaries().into_iter().map(|h| h.availability_zone).collect::<Vec<_>>()
    };
    assert_eq!(zones(&m), ["az-named", "az-named", "nova"]);
    let with_rack = |report: &mut Report, m: &mut HostManager, rack: &str| {
        let mut caps = report.caps();
        caps.novella.as_mut().unwrap().facts = Entries(vec![("rack".into(), Json::of(rack).unwrap())]);
        caps.novella.as_mut().unwrap().availability_zone = Some("own".into());
        assert!(m.apply_report("compute", &report.host, &caps, s(1)).is_accepted());
        report.seq += 1;
    };
    with_rack(&mut reports[0], &mut m, "r1");
    with_rack(&mut reports[2], &mut m, "r1");
    assert_eq!(
        (aggregates(&m, "h1"), aggregates(&m, "h3")),
        (vec!["named".into(), "rack".into()], vec!["rack".to_owned()])
    );
    assert_eq!(
        zones(&m),
        ["az-named", "az-named", "own"],
        "aggregates before the host's own, that before the default"
    );
    with_rack(&mut reports[2], &mut m, "r2");
    assert_eq!(aggregates(&m, "h3"), [""; 0]);
    reports[1].host = "other".into();
    reports[1].send(&mut m, s(1));
    assert_eq!(aggregates(&m, "other"), [""; 0]);
    m.set_policy(Arc::new(PolicyFile::parse("[aggregates.all]\nhosts = ['*']").unwrap()));
    assert_eq!(
        (aggregates(&m, "h1"), aggregates(&m, "other")),
        (vec!["all".to_owned()], vec!["all".to_owned()])
    );
    m.set_policy(Arc::default());
    assert_eq!(aggregates(&m, "h1"), [""; 0]);
    assert_eq!(
        (zones(&m), m.policy_hash()),
        (vec!["own".into(), "nova".into(), "own".to_owned()], &*PolicyFile::default().hash())
    );
}

#[test]
fn a_group_is_known_by_claims_and_reservations() {
    let (mut m, mut engine, mut reports) = rig(3);
    let hint = |asked: &mut SelectDestinations| {
        asked.request_spec.spec.scheduler_hints.insert("group".into(), json!(["apart"]));
    };
    let first = ask((&mut m, &mut engine), 1, hint).unwrap();
    let second = ask((&mut m, &mut engine), 2, hint).unwrap();
    assert_ne!(first, second, "the reservation counts");
    assert_eq!(ask((&mut m, &mut engine), 1, hint), Ok(first.clone()), "a repeated question has its answer");
    // The host without either member lists a member of its own.
    let third = reports.iter_mut().find(|report| report.host != first && report.host != second).unwrap();
    third.claims = vec![Claim { group: Some("apart".into()), ..claim(9, SMALL) }];
    third.send(&mut m, s(1));
    assert_eq!(ask((&mut m, &mut engine), 3, hint), Err("ServerGroupAntiAffinityFilter".into()));
    third.claims.clear();
    third.send(&mut m, s(1));
    assert_eq!(ask((&mut m, &mut engine), 3, hint), Ok(third.host.clone()));
    m.release("s1-2", &[]);
    assert_eq!(ask((&mut m, &mut engine), 4, hint), Ok(second));

    let together = |asked: &mut SelectDestinations| {
        asked.request_spec.spec.instance_group =
            Some(InstanceGroup { name: "together".into(), ..InstanceGroup::default() });
    };
    let there = ask((&mut m, &mut engine), 11, together).unwrap();
    assert_eq!(ask((&mut m, &mut engine), 12, together), Ok(there));
}

#[test]
fn a_peers_reservation_carries_its_group() {
    let (mut m, mut engine, _) = rig(2);
    let (mut peer, mut peers_engine, _) = rig(2);
    let hint = |asked: &mut SelectDestinations| {
        asked.request_spec.spec.scheduler_hints.insert("group".into(), json!("apart"));
    };
    let first = ask((&mut m, &mut engine), 1, hint).unwrap();
    let mut asked = request([1], SMALL);
    asked.request_spec.spec.flavor.name = "f".into();
    hint(&mut asked);
    let decision = select(&mut m, &mut engine, &asked, "s1-x".into(), s(1)).unwrap();
    let mut told = m.to_reserve(&decision, s(1)).unwrap();
    told.scheduler = "s9".into();
    assert_eq!(peer.reserve(&told, s(1)), 1);
    let second = ask((&mut peer, &mut peers_engine), 2, hint).unwrap();
    assert_ne!(first, second);
}

#[test]
fn what_a_request_names_must_be_in_the_policy() {
    let (mut m, mut engine, mut reports) = rig(1);
    let named = |name: &'static str| move |asked: &mut SelectDestinations| asked.flavor = Some(name.into());
    let error = ask((&mut m, &mut engine), 1, named("huge")).unwrap_err();
    assert_eq!(error, "the policy in force has no flavor \"huge\"; known are large, small");
    assert_eq!(ask((&mut m, &mut engine), 1, named("large")), Ok("h1".into()));
    assert_eq!(m.table().view(m.table().row_of("h1").unwrap()).used().vcpus, 2);
    assert_eq!(ask((&mut m, &mut engine), 2, named("small")), Err("TypeAffinityFilter".into()));
    m.release("s1-1", &[]);
    reports[0].claims = vec![Claim { flavor: Some("small".into()), ..claim(9, SMALL) }];
    reports[0].send(&mut m, s(1));
    assert_eq!(ask((&mut m, &mut engine), 2, named("small")), Ok("h1".into()));

    let group = |name: &'static str, policy: &'static str| {
        move |asked: &mut SelectDestinations| {
            asked.request_spec.spec.instance_group =
                Some(InstanceGroup { name: name.into(), policy: policy.into(), ..InstanceGroup::default() });
        }
    };
    let error = ask((&mut m, &mut engine), 3, group("new", "")).unwrap_err();
    assert_eq!(error, "the policy in force has no server group \"new\"; known are apart, together");
    let mut asked = request([3], SMALL);
    group("new", "soft-affinity")(&mut asked);
    let failure = select(&mut m, &mut engine, &asked, "s1-3".into(), s(1)).unwrap_err();
    assert!(
        matches!(failure, Failure::NotConfigured { missing: "ServerGroupSoftAffinityWeigher", .. }),
        "{failure}"
    );
}

#[test]
fn hints_about_instances_see_what_hosts_list_and_hold() {
    let (mut m, mut engine, mut reports) = rig(2);
    reports[0].claims = vec![Claim { flavor: Some("f".into()), ..claim(9, SMALL) }];
    reports[0].send(&mut m, s(1));
    let apart_from = |uuid: u128| {
        move |asked: &mut SelectDestinations| {
            asked
                .request_spec
                .spec
                .scheduler_hints
                .insert("different_host".into(), json!([id(uuid).to_string()]));
        }
    };
    assert_eq!(ask((&mut m, &mut engine), 1, apart_from(9)), Ok("h2".into()));
    assert_eq!(ask((&mut m, &mut engine), 2, apart_from(1)), Ok("h1".into()), "held there, not yet reported");
}

#[test]
fn operations_in_progress_are_taken_from_reports() {
    let (mut m, mut engine, reports) = rig(1);
    let mut caps = reports[0].caps();
    caps.novella.as_mut().unwrap().num_io_ops = 8;
    assert!(m.apply_report("compute", "h1", &caps, s(1)).is_accepted());
    assert_eq!(ask((&mut m, &mut engine), 1, |_| ()), Err("IoOpsFilter".into()));
    assert_eq!(m.detail("h1", s(1)).unwrap().capabilities["novella"]["num_io_ops"], 8);
}
