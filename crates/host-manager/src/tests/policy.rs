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
weight_classes = ["RAMWeigher"]
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

/// A map with the policy in force, and the engine with its options.
struct Bed {
    m: HostManager,
    engine: FilterScheduler,
}

fn rig(hosts: u128) -> (Bed, Vec<Report>) {
    let policy = Arc::new(PolicyFile::parse(POLICY).unwrap_or_else(|bad| panic!("{bad}")));
    let engine = FilterScheduler::new(policy.options.clone()).unwrap();
    let mut m = manager();
    m.set_policy(policy);
    let mut reports: Vec<Report> = (1..=hosts).map(Report::of).collect();
    reports.iter_mut().for_each(|report| _ = report.send(&mut m, s(0)));
    (Bed { m, engine }, reports)
}

impl Bed {
    /// Decides about a small instance. Returns its host, or the filter that left no host.
    fn ask(&mut self, uuid: u128, change: impl FnOnce(&mut SelectDestinations)) -> Result<String, String> {
        let decision = self.decide(uuid, change).map_err(|failure| failure.to_string())?;
        assert_eq!(decision.policy_hash, self.m.policy_hash());
        decision.selections.first().map(|s| s.host.clone()).ok_or_else(|| {
            let out = decision.explanation.filters.iter().find(|filter| filter.hosts_out == 0);
            out.map_or("nothing".into(), |filter| filter.filter.to_string())
        })
    }

    fn decide(
        &mut self,
        uuid: u128,
        change: impl FnOnce(&mut SelectDestinations),
    ) -> Result<Decision, Failure> {
        let mut asked = request([uuid], SMALL);
        asked.request_spec.spec.flavor.name = "f".into();
        change(&mut asked);
        select(&mut self.m, &mut self.engine, &asked, format!("s1-{uuid}"), s(1))
    }
}

/// Names a server group, with this policy or, if it is empty, with the scheduler's own.
fn in_group(name: &'static str, policy: &'static str) -> impl Fn(&mut SelectDestinations) {
    move |asked| {
        asked.request_spec.spec.instance_group =
            Some(InstanceGroup { name: name.into(), policy: policy.into(), ..InstanceGroup::default() });
    }
}

fn aggregates(m: &HostManager, host: &str) -> Vec<String> {
    m.detail(host, s(1)).unwrap().summary.aggregates
}

#[test]
fn aggregates_follow_names_reports_and_reloads() {
    let (Bed { mut m, .. }, mut reports) = rig(3);
    assert_eq!((aggregates(&m, "h1"), aggregates(&m, "h3")), (vec!["named".to_owned()], vec![]));
    let zones = |m: &HostManager| {
        m.fleet(s(1)).summaries().into_iter().map(|h| h.availability_zone).collect::<Vec<_>>()
    };
    assert_eq!(zones(&m), ["az-named", "az-named", "nova"]);
    let with_rack = |report: &mut Report, m: &mut HostManager, rack: &str| {
        let mut caps = report.caps();
        caps.novella.as_mut().unwrap().facts = Entries(vec![("rack".into(), Json::of(rack).unwrap())]);
        caps.novella.as_mut().unwrap().availability_zone = Some("own".into());
        assert!(m.apply_report(None, "compute", &report.host, &caps, s(1)).is_accepted());
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
    reports[1].restart_as("other", &mut m, s(1));
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
    let (mut bed, mut reports) = rig(3);
    let hint = |asked: &mut SelectDestinations| {
        asked.request_spec.spec.scheduler_hints.insert("group".into(), json!(["apart"]));
    };
    let first = bed.ask(1, hint).unwrap();
    let second = bed.ask(2, hint).unwrap();
    assert_ne!(first, second, "the reservation counts");
    assert_eq!(bed.ask(1, hint), Ok(first.clone()), "a repeated question has its answer");
    // The host without either member lists a member of its own.
    let third = reports.iter_mut().find(|report| report.host != first && report.host != second).unwrap();
    third.claims = vec![Claim { group: Some("apart".into()), ..claim(9, SMALL) }];
    third.send(&mut bed.m, s(1));
    assert_eq!(bed.ask(3, hint), Err("ServerGroupAntiAffinityFilter".into()));
    third.claims.clear();
    third.send(&mut bed.m, s(1));
    assert_eq!(bed.ask(3, hint), Ok(third.host.clone()));
    bed.m.release("s1-2", &[], None).unwrap();
    assert_eq!(bed.ask(4, hint), Ok(second));

    let there = bed.ask(11, in_group("together", "")).unwrap();
    assert_eq!(bed.ask(12, in_group("together", "")), Ok(there));
}

#[test]
fn a_peers_reservation_carries_its_group() {
    let (mut bed, _) = rig(2);
    let (mut peer, _) = rig(2);
    let hint = |asked: &mut SelectDestinations| {
        asked.request_spec.spec.scheduler_hints.insert("group".into(), json!("apart"));
    };
    let decision = bed.decide(1, hint).unwrap();
    let first = decision.selections[0].host.clone();
    let mut told = bed.m.to_reserve(&decision, s(1)).unwrap();
    told.scheduler = "s9".into();
    assert_eq!(peer.m.reserve(&told, s(1)), 1);
    let second = peer.ask(2, hint).unwrap();
    assert_ne!(first, second);
}

#[test]
fn what_a_request_names_must_be_in_the_policy() {
    let (mut bed, mut reports) = rig(1);
    let named = |name: &'static str| move |asked: &mut SelectDestinations| asked.flavor = Some(name.into());
    let error = bed.ask(1, named("huge")).unwrap_err();
    assert_eq!(error, "the current policy has no flavor \"huge\"; choose one of large, small");
    assert_eq!(bed.ask(1, named("large")), Ok("h1".into()));
    assert_eq!(used(&bed.m, "h1").0, 2);
    assert_eq!(bed.ask(2, named("small")), Err("TypeAffinityFilter".into()));
    bed.m.release("s1-1", &[], None).unwrap();
    reports[0].claims = vec![Claim { flavor: Some("small".into()), ..claim(9, SMALL) }];
    reports[0].send(&mut bed.m, s(1));
    assert_eq!(bed.ask(2, named("small")), Ok("h1".into()));

    let error = bed.ask(3, in_group("new", "")).unwrap_err();
    assert_eq!(error, "the current policy has no server group \"new\"; choose one of apart, together");
    let failure = bed.decide(3, in_group("new", "soft-affinity")).unwrap_err();
    assert!(
        matches!(failure, Failure::NotConfigured { missing: "ServerGroupSoftAffinityWeigher", .. }),
        "{failure}"
    );
}

#[test]
fn hints_about_instances_see_what_hosts_list_and_hold() {
    let (mut bed, mut reports) = rig(2);
    reports[0].claims = vec![Claim { flavor: Some("f".into()), ..claim(9, SMALL) }];
    reports[0].send(&mut bed.m, s(1));
    let apart_from = |uuid: u128| {
        move |asked: &mut SelectDestinations| {
            asked
                .request_spec
                .spec
                .scheduler_hints
                .insert("different_host".into(), json!([id(uuid).to_string()]));
        }
    };
    assert_eq!(bed.ask(1, apart_from(9)), Ok("h2".into()));
    assert_eq!(bed.ask(2, apart_from(1)), Ok("h1".into()), "held there, not yet reported");
}

#[test]
fn operations_in_progress_are_taken_from_reports() {
    let (mut bed, reports) = rig(1);
    let mut caps = reports[0].caps();
    caps.novella.as_mut().unwrap().num_io_ops = 8;
    assert!(bed.m.apply_report(None, "compute", "h1", &caps, s(1)).is_accepted());
    assert_eq!(bed.ask(1, |_| ()), Err("IoOpsFilter".into()));
    assert_eq!(bed.m.detail("h1", s(1)).unwrap().capabilities["novella"]["num_io_ops"], 8);
}

#[test]
fn a_host_in_two_zones_is_told() {
    let (mut bed, _) = rig(2);
    let zones = |bed: &Bed| {
        let summaries = bed.m.fleet(s(1)).summaries();
        summaries.into_iter().map(|host| host.conflicting_zones).collect::<Vec<_>>()
    };
    assert_eq!(zones(&bed), [[""; 0]; 2]);
    let second = "[aggregates.second]\nhosts = [\"h2\"]\nmetadata = { availability_zone = \"north\" }\n";
    let policy = PolicyFile::parse(&format!("{POLICY}{second}")).unwrap();
    assert!(policy.warnings[0].to_string().contains("host h2 is in two zones"), "{:?}", policy.warnings);
    bed.m.set_policy(Arc::new(policy));
    assert_eq!(zones(&bed), [vec![], vec!["az-named".to_owned(), "north".to_owned()]]);
}

#[test]
fn a_placement_tells_what_nothing_looked_at() {
    let (mut bed, _) = rig(1);
    let decision = bed.decide(1, |asked| {
        let hints = &mut asked.request_spec.spec.scheduler_hints;
        hints.insert("same_host".to_owned(), json!("x"));
    });
    let note = "the placement does not consider the hint same_host=x, because SameHostFilter is not enabled";
    assert_eq!(decision.unwrap().notes, [note]);
    assert_eq!(bed.decide(2, |_| {}).unwrap().notes, [""; 0]);
}

#[test]
fn running_instances_have_the_sizes_that_they_claim_or_were_promised() {
    let (mut bed, _) = rig(1);
    assert!(bed.m.running().instances[0].is_empty());
    bed.ask(1, |_| {}).unwrap();
    let running = bed.m.running();
    let sizes: Vec<_> = running.instances[0].iter().map(|size| (size.vcpus, size.memory_mb)).collect();
    assert_eq!(sizes, [(1, 1024)]);
}
