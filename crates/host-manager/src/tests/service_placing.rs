//! Placement on services other than compute, by what their drivers reported in Folsom.

use crate::tests::*;

fn report(m: &mut HostManager, host: &str, caps: &str, now: Duration) {
    let caps: Capabilities<'_> = serde_json::from_str(caps).unwrap();
    assert!(m.apply_report(None, "volume", host, &caps, now).is_accepted(), "{host}");
}

/// Four hosts: one with 63 GiB free, one with 40 GiB, one with any amount, and one that does not say.
fn fleet() -> HostManager {
    let mut m = manager();
    let lvm = r#"{"volume_backend_name":"lvm","total_capacity_gb":100,"free_capacity_gb":70.5,"reserved_percentage":10}"#;
    report(&mut m, "v1", lvm, s(0));
    let other = r#"{"volume_backend_name":"nfs","total_capacity_gb":40,"free_capacity_gb":40,"availability_zone":"z"}"#;
    report(&mut m, "v2", other, s(0));
    report(&mut m, "v4", r#"{"volume_backend_name":"x"}"#, s(0));
    m
}

fn ask(m: &mut HostManager, request: &SelectDestinations, now: u64) -> Decision {
    let request = m.resolve(request.clone()).unwrap();
    m.select_service("volume", &request, format!("d{now}"), s(now))
}

fn volumes(uuids: impl IntoIterator<Item = u128>, gb: u64) -> SelectDestinations {
    request(uuids, Amounts { vcpus: 0, memory_mb: 0, disk_gb: gb, instances: 1 })
}

fn hosts(decision: &Decision) -> Vec<&str> {
    assert_eq!(decision.refusal, None);
    decision.selections.iter().map(|selection| &*selection.host).collect()
}

#[test]
fn the_most_room_is_taken_and_what_is_held_counts() {
    let mut m = fleet();
    assert_eq!(hosts(&ask(&mut m, &volumes([1, 2], 30), 1)), ["v1", "v2"], "63, then 33 against 40");
    let refused = ask(&mut m, &volumes([3], 34), 2);
    let Some(Refusal::NoValidHost { reason, placeable: 0 }) = refused.refusal else { panic!("{refused:#?}") };
    assert_eq!(reason, "No valid host was found. No volume host has 34 GiB free.");
    let last = refused.explanation.filters.last().unwrap();
    assert_eq!((&*last.filter, last.hosts_in, last.hosts_out), ("CapacityFilter", 3, 0));
    assert_eq!(last.nearest_miss.as_ref().unwrap().text(), "v1 short by 1 GiB");
    // All instances or none are placed: here only one of two fits.
    let half = ask(&mut m, &volumes([4, 5], 30), 3);
    assert!(half.refusal.is_some() && half.explanation.ranking.is_empty());
    let last = half.explanation.filters.last().unwrap();
    assert_eq!((last.hosts_in, last.hosts_out), (3, 0), "v1 had room for the first only");
    // A report gives nothing back, because it may be older than the decision. The end of the hold does.
    report(&mut m, "v1", r#"{"free_capacity_gb":70.5,"reserved_percentage":10}"#, s(4));
    assert!(ask(&mut m, &volumes([6], 40), 5).refusal.is_some());
    report(&mut m, "v1", r#"{"free_capacity_gb":70.5,"reserved_percentage":10}"#, s(59));
    assert_eq!(hosts(&ask(&mut m, &volumes([6], 40), 60)), ["v1"]);
}

#[test]
fn repeating_releasing_and_dry_runs() {
    let mut m = fleet();
    let asked = volumes([1], 40);
    assert_eq!(hosts(&ask(&mut m, &SelectDestinations { dry_run: true, ..volumes([1], 50) }, 1)), ["v1"]);
    let first = ask(&mut m, &asked, 2);
    let again = ask(&mut m, &asked, 3);
    assert!(again.repeated && again.decision_id == first.decision_id && hosts(&again) == hosts(&first));
    let other = ask(&mut m, &volumes([1], 41), 4);
    assert!(matches!(other.refusal, Some(Refusal::Conflict { .. })), "{other:#?}");
    let told = m.to_reserve(&first, s(4)).expect("peers are told");
    assert_eq!((told.entries[0].service.as_deref(), told.entries[0].disk_gb), (Some("volume"), 40));
    let freed = m.release(&first.decision_id, &[], None).unwrap().expect("held");
    assert_eq!((freed.ttl_ms, freed.entries.len()), (0, 1));
    assert_eq!(hosts(&ask(&mut m, &volumes([9], 63), 5)), ["v1"]);

    // A peer subtracts the hold once, as if it were its own, and ends it when it is told to.
    let mut peer = fleet();
    let theirs = Reserve { scheduler: "other".into(), ..told };
    assert_eq!((peer.reserve(&theirs, s(4)), peer.reserve(&theirs, s(4))), (1, 0));
    assert_eq!(hosts(&ask(&mut peer, &volumes([8], 30), 5)), ["v2"]);
    assert_eq!(peer.reserve(&Reserve { scheduler: "other".into(), ..freed }, s(6)), 1);
    assert_eq!(hosts(&ask(&mut peer, &volumes([7], 60), 7)), ["v1"]);
}

#[test]
fn silence_names_zones_and_capabilities_are_looked_at() {
    let mut m = fleet();
    report(&mut m, "v3", r#"{"free_capacity_gb":"infinite","reserved_percentage":100}"#, s(0));
    assert_eq!(hosts(&ask(&mut m, &volumes([1], 1_000_000), 1)), ["v3"]);
    let with = |change: &dyn Fn(&mut RequestSpec)| {
        let mut asked = volumes([2], 10);
        change(&mut asked.request_spec.spec);
        SelectDestinations { dry_run: true, ..asked }
    };
    let zone = with(&|spec| spec.availability_zone = Some("z".into()));
    assert_eq!(hosts(&ask(&mut m, &zone, 2)), ["v2"]);
    for key in ["volume_backend_name", "capabilities:volume_backend_name"] {
        let lvm = with(&|spec| drop(spec.flavor.extra_specs.insert(key.into(), "<in> lvm".into())));
        assert_eq!(hosts(&ask(&mut m, &lvm, 3)), ["v1"]);
    }
    let not = with(&|spec| spec.ignore_hosts = vec!["V3".into()]);
    assert_eq!(hosts(&ask(&mut m, &not, 4)), ["v1"]);
    let only = with(&|spec| spec.target_host = Some("v2".into()));
    assert_eq!(hosts(&ask(&mut m, &only, 5)), ["v2"]);
    report(&mut m, "v3", r#"{"free_capacity_gb":"infinite","enabled":false}"#, s(6));
    assert_eq!(hosts(&ask(&mut m, &with(&|_| ()), 7)), ["v1"], "disabled");
    let silent = ask(&mut m, &with(&|_| ()), 300);
    assert!(silent.refusal.is_some());
    assert_eq!(
        (&*silent.explanation.filters[0].filter, silent.explanation.filters[0].hosts_out),
        ("ServiceUpFilter", 0)
    );
    let other = m.resolve(with(&|_| ())).unwrap();
    assert_eq!(m.select_service("network", &other, "d".into(), s(301)).explanation.hosts, 0);
}

#[test]
fn a_suspect_host_comes_last_and_is_marked() {
    let mut m = fleet();
    m.note_stall(s(5), s(305));
    report(&mut m, "v2", r#"{"free_capacity_gb":40}"#, s(306));
    let first = ask(&mut m, &volumes([1], 10), 307);
    assert_eq!((hosts(&first), first.explanation.suspect_hosts), (vec!["v2"], 2), "v1 has more room");
    assert!(first.not_up.is_empty());
    let scored = &first.explanation.ranking[1];
    assert_eq!((&*scored.host, scored.weighers[1].multiplier), ("v1", -5.0));
    let second = ask(&mut m, &volumes([2], 50), 308);
    assert_eq!(hosts(&second), ["v1"]);
    assert_eq!(second.not_up, [("v1".to_owned(), HostStatus::Suspect)].into());
    let repeated = ask(&mut m, &volumes([2], 50), 309);
    assert_eq!((repeated.repeated, repeated.not_up), (true, second.not_up));
}
