//! Reservations: how they are made, confirmed and ended; repeated and conflicting requests; messages of peers.

use std::collections::BTreeMap;

use novella_filter_scheduler::{FilterScheduler, SchedulerOptions};

use crate::tests::*;

/// A map with one host, `h1`, heard at 0 s.
fn one_host() -> (HostManager, Report) {
    let (mut m, mut h) = (manager(), Report::of(1));
    h.send(&mut m, s(0));
    (m, h)
}

#[test]
fn a_report_from_before_the_claim_does_not_give_it_back() {
    let (mut m, mut h) = one_host();
    let decision = place(&mut m, &request([1, 2], SMALL), s(1));
    assert_eq!((decision.hold_s, decision.repeated, decision.selections.len()), (30, false, 2));
    assert_eq!(used(&m, "h1"), (2, 2048, 2, 2));
    h.send(&mut m, s(2));
    assert_eq!(used(&m, "h1"), (2, 2048, 2, 2));
    h.claims = vec![claim(1, SMALL)];
    assert_eq!(h.send(&mut m, s(3)), Applied::Updated { gap: 0, settled: 1 });
    assert_eq!(used(&m, "h1"), (2, 2048, 2, 1), "one claimed, one reserved, none twice");
    h.claims.push(claim(2, SMALL));
    h.send(&mut m, s(4));
    assert_eq!(used(&m, "h1"), (2, 2048, 2, 0));
    m.expire(s(500));
    assert_eq!(used(&m, "h1"), (2, 2048, 2, 0));
}

#[test]
fn an_unconfirmed_reservation_is_forgotten_in_time() {
    let (mut m, mut h) = one_host();
    place(&mut m, &SelectDestinations { hold_s: Some(5), ..request([1], SMALL) }, s(1));
    place(&mut m, &request([2], SMALL), s(1));
    place(&mut m, &SelectDestinations { hold_s: Some(u64::MAX), ..request([3], SMALL) }, s(1));
    h.send(&mut m, s(2));
    for (t, held) in [(5, 3), (6, 2), (30, 2), (31, 1), (3600, 1), (3601, 0)] {
        m.expire(s(t));
        assert_eq!(used(&m, "h1").3, held, "at {t} s");
    }
    assert_eq!(used(&m, "h1"), (0, 0, 0, 0));
    assert_eq!(m.counters().expired, 3);
}

#[test]
fn only_its_own_hosts_claim_of_all_of_it_settles_a_reservation() {
    let (mut m, mut h) = one_host();
    let large = Amounts { memory_mb: 15_360, ..SMALL };
    place(&mut m, &request([1], large), s(1));
    m.expire(s(1));
    let told = |m: &mut HostManager| {
        let events = m.expire(s(2)).into_iter();
        let claims = events.filter_map(|event| match event {
            Event::ClaimDoesNotSettle { host, instance, held_on, claims } => {
                Some((host, instance, held_on, claims))
            }
            _ => None,
        });
        claims.collect::<Vec<_>>()
    };

    let mut stranger = Report { claims: vec![claim(1, large)], ..Report::of(2) };
    stranger.send(&mut m, s(2));
    assert_eq!((used(&m, "h1"), used(&m, "h2")), ((1, 15_360, 1, 1), (1, 15_360, 1, 0)));
    assert_eq!(told(&mut m), [("h2".to_owned(), id(1), "h1".to_owned(), 1)]);
    let again = place(&mut m, &request([1], large), s(2));
    assert_eq!(
        (&*again.selections[0].host, again.repeated),
        ("h1", true),
        "the claim elsewhere is no answer"
    );
    let other = place(&mut m, &request([2], large), s(2));
    assert!(other.refusal.is_some(), "the room is not given twice");

    h.claims = vec![claim(1, SMALL)];
    h.send(&mut m, s(2));
    assert_eq!(used(&m, "h1"), (2, 16_384, 2, 1), "both count");
    assert_eq!(told(&mut m), [("h1".to_owned(), id(1), "h1".to_owned(), 1)]);
    h.claims = vec![claim(1, large)];
    assert_eq!(h.send(&mut m, s(2)), Applied::Updated { gap: 0, settled: 1 });
    assert_eq!(used(&m, "h1"), (1, 15_360, 1, 0));
    assert_eq!((m.counters().settled, m.counters().unsettled), (1, 2));
}

#[test]
fn a_peers_reservation_counts_although_another_host_claims_the_instance() {
    let (mut m, mut h) = one_host();
    let mut stranger = Report { claims: vec![claim(1, SMALL)], ..Report::of(2) };
    stranger.send(&mut m, s(1));
    assert_eq!(m.reserve(&told(1, "h1", 30_000), s(1)), 1);
    assert_eq!(used(&m, "h1").3, 1);
    h.claims = vec![claim(2, SMALL)];
    h.send(&mut m, s(2));
    assert_eq!(m.reserve(&Reserve { decision_id: "s2-2".into(), ..told(2, "h1", 30_000) }, s(2)), 0);
}

#[test]
fn an_ended_instance_is_let_go() {
    let (mut m, mut h) = one_host();
    place(&mut m, &request([1, 2], SMALL), s(1));
    let mut stranger = Report { ended: vec![id(1)], ..Report::of(2) };
    stranger.send(&mut m, s(2));
    assert_eq!(used(&m, "h1").3, 2, "what ended elsewhere says nothing of this host");
    h.ended = vec![id(1), id(77)];
    assert_eq!(h.send(&mut m, s(3)), Applied::Updated { gap: 0, settled: 1 });
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 1));
}

#[test]
fn repeating_a_request_repeats_the_answer() {
    let (mut m, mut h) = one_host();
    let asked = request([1, 2], SMALL);
    let first = place(&mut m, &asked, s(1));
    let mut again = asked.clone();
    again.request_spec.attempt = 2;
    let second = place(&mut m, &again, s(11));
    assert!(second.repeated);
    assert_eq!((&second.decision_id, &second.selections), (&first.decision_id, &first.selections));
    assert_eq!(second.hold_s, 20);
    assert_eq!(used(&m, "h1").3, 2);
    assert_eq!(m.to_reserve(&second, s(11)).unwrap().entries.len(), 2);

    h.claims = vec![claim(1, SMALL), claim(2, SMALL)];
    h.send(&mut m, s(12));
    let third = place(&mut m, &again, s(500));
    assert!(third.repeated && third.selections.iter().all(|selection| selection.host == "h1"));
    assert_eq!(m.to_reserve(&third, s(500)), None, "claims need no reservation");
}

#[test]
fn only_the_unknown_part_of_a_request_is_decided() {
    let (mut m, mut h) = one_host();
    place(&mut m, &request([2], SMALL), s(1));
    h.claims = vec![claim(4, SMALL)];
    h.send(&mut m, s(2));
    let decision = place(&mut m, &request([1, 2, 3, 4], SMALL), s(3));
    assert!(!decision.repeated && decision.refusal.is_none());
    let order: Vec<_> = decision.selections.iter().map(|selection| selection.instance_uuid).collect();
    assert_eq!(order, [id(1), id(2), id(3), id(4)]);
    assert_eq!(used(&m, "h1"), (4, 4096, 4, 3));
    assert_eq!(m.to_reserve(&decision, s(3)).unwrap().entries.len(), 2, "peers know of the other already");
}

#[test]
fn the_same_instance_with_another_size_is_a_conflict() {
    let (mut m, mut h) = one_host();
    place(&mut m, &request([1], SMALL), s(1));
    h.claims = vec![claim(2, SMALL)];
    h.send(&mut m, s(2));
    let larger = Amounts { memory_mb: 2048, ..SMALL };
    for (uuids, amounts, host) in
        [(vec![9, 1], larger, "h1"), (vec![2], larger, "h1"), (vec![8, 8], SMALL, "")]
    {
        let decision = place(&mut m, &request(uuids.clone(), amounts), s(3));
        let Some(Refusal::Conflict { host: on, instance_uuid, .. }) = decision.refusal else {
            panic!("{uuids:?}: {decision:?}")
        };
        assert_eq!((on.as_str(), instance_uuid), (host, id(*uuids.last().unwrap())));
        assert_eq!(used(&m, "h1"), (2, 2048, 2, 1), "nothing is reserved");
    }
}

#[test]
fn dry_runs_and_refusals_reserve_nothing() {
    let (mut m, _) = one_host();
    let dry = place(&mut m, &SelectDestinations { dry_run: true, ..request([1], SMALL) }, s(1));
    assert_eq!((dry.selections.len(), dry.hold_s, m.reservations()), (1, 0, 0));
    assert_eq!(m.to_reserve(&dry, s(1)), None);
    let refused = place(&mut m, &request(1..=17, SMALL), s(1));
    assert!(matches!(refused.refusal, Some(Refusal::NoValidHost { placeable: 16, .. })));
    assert_eq!((used(&m, "h1"), m.reservations()), ((0, 0, 0, 0), 0));
}

#[test]
fn reservations_are_bounded() {
    let options = HostManagerOptions { max_reservations: 2, ..Default::default() };
    let mut m = HostManager::new(options, "s1");
    Report::of(1).send(&mut m, s(0));
    assert!(place(&mut m, &request([1, 2, 3], SMALL), s(0)).refusal.is_some());
    assert!(place(&mut m, &request([1, 2], SMALL), s(0)).refusal.is_none());
    assert_eq!(m.reserve(&told(9, "h1", 1000), s(0)), 0);
    assert_eq!(m.counters().peer_refused, 1);
    assert!(place(&mut m, &request([3], SMALL), s(31)).refusal.is_none(), "those before have run out");
}

#[test]
fn a_peers_decision_counts_until_settled_let_go_or_over() {
    let (mut m, mut h) = one_host();
    assert_eq!(m.reserve(&told(1, "h1", 20_000), s(0)), 1);
    assert_eq!(m.reserve(&told(1, "h1", 20_000), s(0)), 0, "a second delivery");
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 1));
    m.expire(s(20));
    assert_eq!(used(&m, "h1"), (0, 0, 0, 0));

    m.reserve(&told(2, "h1", 20_000), s(20));
    let other = Reserve { decision_id: "s3-1".into(), ..told(2, "h1", 0) };
    assert_eq!(m.reserve(&other, s(21)), 0, "another decision's word does not let go");
    assert_eq!(m.reserve(&told(2, "h1", 0), s(21)), 1);
    assert_eq!(used(&m, "h1"), (0, 0, 0, 0));

    m.reserve(&told(3, "h1", 20_000), s(22));
    h.claims = vec![claim(3, SMALL)];
    h.send(&mut m, s(23));
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 0));
    assert_eq!(m.reserve(&told(3, "h1", 20_000), s(24)), 0, "late: a report has it already");
    let mine = Reserve { scheduler: "s1".into(), ..told(4, "h1", 20_000) };
    assert_eq!(m.reserve(&mine, s(24)), 0, "our own words come back to us");
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 0));
}

#[test]
fn a_peers_decision_waits_for_a_host_not_yet_heard() {
    let mut m = manager();
    assert_eq!(m.reserve(&told(1, "h1", 20_000), s(0)), 1);
    assert_eq!(m.reserve(&told(2, "h1", 1_000), s(0)), 1);
    m.expire(s(2));
    Report::of(1).send(&mut m, s(3));
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 1));
    m.expire(s(20));
    assert_eq!(used(&m, "h1"), (0, 0, 0, 0));
    for absurd in [told(3, "", 1000), told(3, "a\nb", 1000), {
        let mut reserve = told(3, "h1", 1000);
        reserve.entries[0].memory_mb = u64::MAX;
        reserve
    }] {
        assert_eq!(m.reserve(&absurd, s(20)), 0, "{absurd:?}");
    }
    assert_eq!((m.counters().peer_refused, m.reservations()), (3, 0));
}

#[test]
fn what_one_scheduler_decides_another_repeats() {
    let (mut m, _) = one_host();
    let mut peer = HostManager::new(HostManagerOptions::default(), "s2");
    Report::of(1).send(&mut peer, s(0));
    let asked = request([1], SMALL);
    let decision = place(&mut m, &asked, s(1));
    let reserve = m.to_reserve(&decision, s(1)).unwrap();
    assert_eq!(peer.reserve(&reserve, s(100)), 1);
    let repeated = place(&mut peer, &asked, s(101));
    assert!(repeated.repeated);
    assert_eq!(repeated.decision_id, decision.decision_id);
    assert_eq!(repeated.selections[0].host, "h1");
    let let_go = m.release(&decision.decision_id, &[], None).unwrap().unwrap();
    assert_eq!(let_go.ttl_ms, 0);
    peer.reserve(&let_go, s(102));
    assert_eq!((used(&m, "h1"), used(&peer, "h1")), ((0, 0, 0, 0), (0, 0, 0, 0)));
    assert_eq!(m.release(&decision.decision_id, &[], None).unwrap(), None);
}

#[test]
fn a_peer_cannot_reserve_what_the_host_it_names_does_not_have() {
    let (mut m, _) = one_host();
    // The host has 16 CPUs, 16,384 MiB and 100 GiB. Together the reservations may exceed that, because peers may have decided
    // at the same time; one alone cannot.
    let with = |uuid: u128, host: &str, change: fn(&mut ReserveEntry)| {
        let mut message = told(uuid, host, 20_000);
        change(&mut message.entries[0]);
        message
    };
    let has: [fn(&mut ReserveEntry); 3] =
        [|entry| entry.vcpus = 16, |entry| entry.memory_mb = 16_384, |entry| entry.disk_gb = 100];
    let has_not: [fn(&mut ReserveEntry); 4] = [
        |entry| entry.vcpus = 17,
        |entry| entry.memory_mb = 16_385,
        |entry| entry.disk_gb = 101,
        |entry| entry.resources = [("CUSTOM_GPU".to_owned(), 1)].into(),
    ];
    for (number, change) in has.into_iter().enumerate() {
        assert_eq!(m.reserve(&with(10 + number as u128, "h1", change), s(1)), 1, "{number}");
    }
    for (number, change) in has_not.into_iter().enumerate() {
        assert_eq!(m.reserve(&with(20 + number as u128, "h1", change), s(1)), 0, "{number}");
    }
    assert_eq!((m.counters().peer_refused, used(&m, "h1").3), (4, 3));

    // Of a host that is not known yet, it is found when its first report comes.
    for (number, change) in has.into_iter().chain(has_not).enumerate() {
        assert_eq!(m.reserve(&with(30 + number as u128, "h2", change), s(1)), 1, "{number}");
    }
    Report::of(2).send(&mut m, s(2));
    assert_eq!((m.counters().peer_refused, used(&m, "h2").3), (8, 3));
}

#[test]
fn what_a_user_placed_is_released_by_nobody_else() {
    let (mut m, mut engine) = (one_host().0, FilterScheduler::new(SchedulerOptions::default()).unwrap());
    let asked = m.resolve(request([1, 2], SMALL)).unwrap().asked_by(Some("ann"));
    let decision = m.select_destinations(&mut engine, &asked, "s1-1".into(), 0, s(0)).unwrap().decision;
    let mut peer = HostManager::new(HostManagerOptions::default(), "s2");
    Report::of(1).send(&mut peer, s(0));
    let told = m.to_reserve(&decision, s(0)).unwrap();
    assert_eq!(told.user.as_deref(), Some("ann"));
    assert_eq!(peer.reserve(&told, s(0)), 2);
    for manager in [&mut m, &mut peer] {
        for uuids in [&[][..], &[id(1)], &[id(9), id(2)]] {
            assert_eq!(manager.release("s1-1", uuids, Some("ben")), Err("ann".into()), "{uuids:?}");
        }
        assert_eq!(manager.release_instances(&[id(1), id(2)], Some("ben")), []);
        assert_eq!(used(manager, "h1").3, 2, "nothing was released");
        assert_eq!(manager.release("s1-1", &[id(1)], Some("ann")).unwrap().unwrap().entries.len(), 1);
        // Somebody who may release everything says no name.
        assert_eq!(manager.release_instances(&[id(2)], None).len(), 1);
        assert_eq!(manager.release("s1-1", &[], Some("ben")), Ok(None), "there is nothing left of it");
    }
}

#[test]
fn a_users_name_in_a_message_of_a_peer_is_bounded() {
    let (mut m, _) = one_host();
    let long = Reserve { user: Some("x".repeat(256)), ..told(1, "h1", 20_000) };
    assert_eq!((m.reserve(&long, s(1)), m.counters().peer_refused), (0, 1));
    let usual = Reserve { user: Some("x".repeat(255)), ..long };
    assert_eq!(m.reserve(&usual, s(1)), 1);
}

#[test]
fn one_instance_of_a_decision_can_be_let_go() {
    let (mut m, _) = one_host();
    let decision = place(&mut m, &request([1, 2], SMALL), s(0));
    assert_eq!(m.release("s1-other", &[id(1)], None).unwrap(), None);
    assert_eq!(m.release(&decision.decision_id, &[id(1)], None).unwrap().unwrap().entries.len(), 1);
    assert_eq!(used(&m, "h1").3, 1);
}

#[test]
fn the_engine_decides_on_what_reports_and_reservations_leave() {
    let mut m = manager();
    let mut engine = FilterScheduler::new(SchedulerOptions::default()).unwrap();
    let mut hosts: Vec<_> = (1..=3).map(Report::of).collect();
    hosts[1].claims = vec![claim(90, Amounts { memory_mb: 10_000, ..SMALL })];
    hosts[2].goodbye = true;
    hosts.iter_mut().for_each(|h| {
        h.send(&mut m, s(0));
    });
    let large = Amounts { memory_mb: 7_000, ..SMALL };
    let mut ask = |uuid, dry_run| {
        let asked = SelectDestinations { dry_run, ..request([uuid], large) };
        let decision = select(&mut m, &mut engine, &asked, format!("s1-{uuid}"), s(1)).unwrap();
        (decision.selections.first().map(|selection| selection.host.clone()), decision)
    };
    for (uuid, dry_run, host) in
        [(1, true, Some("h1")), (1, false, Some("h1")), (2, false, Some("h1")), (3, false, None)]
    {
        let (on, decision) = ask(uuid, dry_run);
        assert_eq!(on.as_deref(), host, "{decision:?}");
    }
    let (_, refused) = ask(3, false);
    assert!(
        matches!(&refused.refusal, Some(Refusal::NoValidHost { reason, .. }) if reason.starts_with("No valid host"))
    );
    assert_eq!(refused.explanation.hosts, 3);
    assert!(
        refused.explanation.filters.iter().any(|tally| tally.filter == "RamFilter" && tally.hosts_out == 0)
    );
    let nothing = select(&mut m, &mut engine, &request([], SMALL), "s1-0".into(), s(1));
    assert!(nothing.is_err(), "a request for nothing is no request: {nothing:?}");
    assert_eq!(used(&m, "h1"), (2, 14_000, 2, 2));
}

/// The used GPUs and the reservations of `h1`.
fn gpus(manager: &HostManager) -> (u64, u32) {
    let row = manager.table().row_of("h1").unwrap();
    let held = manager.table().inventories(row).find(|held| held.class == "CUSTOM_GPU");
    (held.map_or(0, |held| held.used), manager.map.record(row).held)
}

fn with_gpus(uuids: impl IntoIterator<Item = u128>, amount: u64) -> SelectDestinations {
    let mut request = request(uuids, SMALL);
    let specs = &mut request.request_spec.spec.flavor.extra_specs;
    specs.insert("resources:CUSTOM_GPU".into(), amount.to_string());
    specs.insert("trait:HW_CPU_X86_AVX2".into(), "required".into());
    request
}

#[test]
fn further_classes_are_held_confirmed_and_given_back_like_the_sizes() {
    let (mut m, mut h) = (manager(), Report::of(1));
    h.resources = vec![("CUSTOM_GPU", Inventory { total: 4, ..Inventory::default() })];
    h.send(&mut m, s(0));
    let mut engine = FilterScheduler::new(SchedulerOptions::default()).unwrap();
    let mut ask = |m: &mut HostManager, request: &SelectDestinations, now| {
        select(m, &mut engine, request, format!("s1-{now}"), s(now)).unwrap()
    };
    let first = ask(&mut m, &with_gpus([1, 2], 1), 1);
    assert_eq!((first.refusal.is_none(), gpus(&m)), (true, (2, 2)));
    assert!(ask(&mut m, &with_gpus([3], 3), 1).refusal.is_some());
    assert_eq!(ask(&mut m, &SelectDestinations { dry_run: true, ..with_gpus([3], 2) }, 1).refusal, None);
    assert_eq!(gpus(&m), (2, 2), "neither holds anything");
    let told = m.to_reserve(&first, s(1)).unwrap();
    assert_eq!(told.entries[0].resources, [("CUSTOM_GPU".to_owned(), 1)].into());

    let mut peer = HostManager::new(HostManagerOptions::default(), "s2");
    peer.reserve(&told, s(1));
    h.clone().send(&mut peer, s(1));
    assert_eq!(gpus(&peer), (2, 2), "a peer counts them, even before it hears of the host");

    let with_gpu = |uuid| Claim { resources: Entries(vec![("CUSTOM_GPU".into(), 1)]), ..claim(uuid, SMALL) };
    h.claims = vec![with_gpu(1)];
    assert_eq!(h.send(&mut m, s(2)), Applied::Updated { gap: 0, settled: 1 });
    assert_eq!(gpus(&m), (2, 1), "one claimed, one reserved, none twice");
    assert!(ask(&mut m, &with_gpus([1], 1), 2).repeated);
    let other = ask(&mut m, &with_gpus([1], 2), 2);
    assert!(matches!(other.refusal, Some(novella_objects::Refusal::Conflict { .. })), "{other:?}");
    let copy = &m.copy(s(2)).take_hosts()[0];
    assert_eq!(copy.reported.words().traits, ["HW_CPU_X86_AVX2"]);
    assert_eq!((copy.resources["CUSTOM_GPU"].total, copy.resources["CUSTOM_GPU"].used), (4, 2));
    m.expire(s(100));
    h.send(&mut m, s(101));
    assert_eq!(gpus(&m), (1, 0));
    h.resources.clear();
    h.claims.clear();
    h.traits.clear();
    h.send(&mut m, s(102));
    assert_eq!(gpus(&m), (0, 0));
    let refused = ask(&mut m, &with_gpus([9], 0), 103);
    assert_eq!(refused.explanation.filters[0].filter, "trait:HW_CPU_X86_AVX2=required");
}

#[test]
fn pinned_cpus_are_held_confirmed_and_given_back_in_the_class_that_they_were_taken_of() {
    let (mut m, mut h) = (manager(), Report::of(1));
    h.resources = vec![("PCPU", Inventory { total: 4, ..Inventory::default() })];
    h.send(&mut m, s(0));
    let mut engine = FilterScheduler::new(SchedulerOptions::default()).unwrap();
    let mut ask = |m: &mut HostManager, uuid, now| {
        let mut asked = request([uuid], Amounts { vcpus: 2, ..SMALL });
        let specs = &mut asked.request_spec.spec.flavor.extra_specs;
        specs.insert("hw:cpu_policy".into(), "dedicated".into());
        select(m, &mut engine, &asked, format!("s1-{now}"), s(now)).unwrap()
    };
    /// The used VCPU and PCPU of `h1`.
    fn cpus(m: &HostManager) -> (u64, u64) {
        let row = m.table().row_of("h1").unwrap();
        let pcpus = m.table().inventories(row).find(|held| held.class == "PCPU");
        (m.table().view(row).used().vcpus, pcpus.map_or(0, |held| held.used))
    }
    let first = ask(&mut m, 1, 1);
    assert_eq!((first.refusal.is_none(), cpus(&m)), (true, (0, 2)));
    let told = m.to_reserve(&first, s(1)).unwrap();
    assert_eq!((told.entries[0].vcpus, told.entries[0].resources["PCPU"]), (0, 2));
    let resources = Entries(vec![("PCPU".into(), 2)]);
    h.claims = vec![Claim { resources, ..claim(1, Amounts { vcpus: 0, ..SMALL }) }];
    assert_eq!(h.send(&mut m, s(2)), Applied::Updated { gap: 0, settled: 1 });
    assert_eq!(cpus(&m), (0, 2));
    assert!(ask(&mut m, 1, 2).repeated, "the claim is what was asked for");

    assert_eq!(ask(&mut m, 2, 3).refusal, None);
    assert_eq!(cpus(&m), (0, 4));
    // A host that no longer dedicates CPUs is asked for VCPUs. Earlier reservations stay where they were taken.
    h.resources.clear();
    h.send(&mut m, s(4));
    assert_eq!(ask(&mut m, 3, 4).refusal, None);
    assert_eq!(cpus(&m), (2, 2));
    m.expire(s(100));
    assert_eq!(cpus(&m), (0, 0));
}

fn marks<const N: usize>(marked: [(&str, HostStatus); N]) -> BTreeMap<String, HostStatus> {
    marked.map(|(host, state)| (host.to_owned(), state)).into()
}

fn forcing(uuid: u128, host: &str) -> SelectDestinations {
    let mut asked = request([uuid], SMALL);
    asked.request_spec.spec.force_hosts = vec![host.to_owned()];
    asked
}

#[test]
fn hosts_of_the_answer_that_are_not_up_are_marked() {
    let mut m = manager();
    let mut engine = FilterScheduler::new(SchedulerOptions::default()).unwrap();
    let mut hosts: Vec<_> = (1..=3).map(Report::of).collect();
    hosts.iter_mut().for_each(|h| _ = h.send(&mut m, s(0)));
    let mut ask = |m: &mut HostManager, asked: &SelectDestinations, t: u64| {
        select(m, &mut engine, asked, format!("d{t}"), s(t)).unwrap()
    };
    let first = ask(&mut m, &SelectDestinations { hold_s: Some(600), ..request([1], SMALL) }, 1);
    assert_eq!((&*first.selections[0].host, &first.not_up), ("h1", &BTreeMap::new()));
    assert!(
        !serde_json::to_string(&first).unwrap().contains("not_up"),
        "nothing is added to the usual answer"
    );

    // h1 is silent for its own part, and the others while this scheduler did not run.
    m.note_stall(s(2), s(52));
    hosts[1].send(&mut m, s(53));
    let suspects = ask(&mut m, &request([2], SMALL), 62);
    assert_eq!((&*suspects.selections[0].host, suspects.explanation.suspect_hosts), ("h2", 2));
    assert_eq!(suspects.not_up, marks([("h1", HostStatus::Suspect), ("h3", HostStatus::Suspect)]));

    hosts[2].send(&mut m, s(150));
    let again = ask(&mut m, &SelectDestinations { hold_s: Some(600), ..request([1], SMALL) }, 150);
    assert_eq!((again.repeated, &*again.selections[0].host), (true, "h1"));
    assert_eq!(
        again.not_up,
        marks([("h1", HostStatus::Down), ("h2", HostStatus::Down)]),
        "h2 is an alternate"
    );
    let forced = ask(&mut m, &forcing(5, "h1"), 151);
    assert_eq!((&*forced.selections[0].host, forced.not_up), ("h1", marks([("h1", HostStatus::Down)])));
}

#[test]
fn a_disabled_host_is_refused_by_its_trait_even_if_forced() {
    let mut m = manager();
    let mut engine = FilterScheduler::new(SchedulerOptions::default()).unwrap();
    let mut hosts: Vec<_> = (1..=3).map(Report::of).collect();
    hosts[0].disabled_reason = Some("kernel".into());
    hosts.iter_mut().for_each(|h| _ = h.send(&mut m, s(0)));
    let listed = m.fleet(s(0)).summaries();
    assert_eq!(listed[0].traits, ["HW_CPU_X86_AVX2", "COMPUTE_STATUS_DISABLED"]);
    assert_eq!(listed[1].traits, ["HW_CPU_X86_AVX2"]);
    let mut ask = |m: &mut HostManager, asked: &SelectDestinations, t: u64| {
        let decision = select(m, &mut engine, asked, format!("d{t}"), s(t)).unwrap();
        let lines = decision.explanation.filters.iter();
        let lines: Vec<_> = lines.map(|f| (f.filter.to_string(), f.hosts_in, f.hosts_out)).collect();
        (decision.refusal.is_some(), lines[0].clone())
    };
    let line = |hosts_in, hosts_out| ("compute_status_filter".to_owned(), hosts_in, hosts_out);
    assert_eq!(ask(&mut m, &forcing(1, "h1"), 1), (true, line(1, 0)));
    assert_eq!(ask(&mut m, &request([2], SMALL), 2), (false, line(3, 2)));
    hosts[1].disabled_reason = Some("disk".into());
    hosts[1].send(&mut m, s(3));
    assert_eq!(ask(&mut m, &request([3], SMALL), 3), (false, line(3, 1)), "a known shape");
    for host in &mut hosts {
        host.disabled_reason = None;
        host.send(&mut m, s(4));
    }
    assert_eq!(m.fleet(s(4)).summaries()[0].traits, ["HW_CPU_X86_AVX2"]);
    let (refused, first) = ask(&mut m, &forcing(4, "h1"), 5);
    assert!(!refused && first.0 != "compute_status_filter", "{first:?}");

    // Reports of 2012 say it in their own way.
    let plain: Capabilities<'_> = serde_json::from_str(r#"{"vcpus": 4, "enabled": false}"#).unwrap();
    m.apply_report(None, "compute", "plain", &plain, s(6));
    assert_eq!(ask(&mut m, &forcing(6, "plain"), 6), (true, line(1, 0)));
}

/// The flavor names so many resource classes that the reservations of 10,000 instances would take too much.
#[test]
fn reservations_have_a_budget_of_bytes_and_a_request_beyond_it_is_refused_with_the_number() {
    let mut m = manager();
    Report::of(1).send(&mut m, s(0));
    let mut asked = request(1..=10_000, SMALL);
    let class = |n| (format!("resources:CUSTOM_{n}"), "1".to_owned());
    asked.request_spec.spec.flavor.extra_specs = (0..1000).map(class).collect();
    let decision = place(&mut m, &asked, s(1));
    let Some(Refusal::NoValidHost { reason, .. }) = decision.refusal else { panic!("{decision:?}") };
    assert!(reason.contains("268435456 are allowed"), "{reason}");
    asked.request_spec.instance_uuids.truncate(1);
    let Some(Refusal::NoValidHost { reason, .. }) = place(&mut m, &asked, s(2)).refusal else { return };
    assert!(!reason.contains("are allowed"), "{reason}");
}
