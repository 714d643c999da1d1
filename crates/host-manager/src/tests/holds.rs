//! Holds that hosts list in their reports.

use crate::tests::*;

fn hold(uuid: u128, decision: &'static str, ms: u64) -> Claim<'static> {
    Claim {
        hold_ms: Some(ms),
        decision: Some(decision.into()),
        user: Some("ann".into()),
        spec_hash: Some(7),
        group: Some("web".into()),
        ..claim(uuid, SMALL)
    }
}

fn held(m: &HostManager) -> (usize, u64) {
    (m.reservations(), used(m, "h1").0)
}

#[test]
fn a_hold_that_nobody_knows_is_a_reservation_until_the_host_ends_it() {
    let mut m = manager();
    let mut host =
        Report { holds: vec![hold(1, "old-1-0", 20_000), hold(2, "old-1-0", 60_000)], ..Report::of(1) };
    host.send(&mut m, s(0));
    assert_eq!(held(&m), (2, 2), "they count once each");
    assert_eq!(m.server_group("web").expect("it has members").members.len(), 2);
    host.send(&mut m, s(10));
    assert_eq!(held(&m), (2, 2));
    m.expire(s(21));
    host.send(&mut m, s(21));
    assert_eq!(held(&m), (1, 1), "its time is over here, and the host's clock does not bring it back");
    host.holds.clear();
    host.send(&mut m, s(30));
    assert_eq!(held(&m), (0, 0));
}

#[test]
fn a_hold_that_was_released_here_does_not_come_back_with_a_late_report() {
    let mut m = manager();
    let mut host = Report::of(1);
    host.send(&mut m, s(0));
    let late = Report { holds: vec![hold(1, "s2-1-0", 60_000)], ..host.clone() };
    let entry =
        ReserveEntry { uuid: id(1), host: "h1".into(), vcpus: 1, memory_mb: 1, ..ReserveEntry::default() };
    let told = |ttl_ms| Reserve {
        decision_id: "s2-1-0".into(),
        scheduler: "s2".into(),
        ttl_ms,
        entries: vec![entry.clone()],
        user: None,
    };
    m.reserve(&told(60_000), s(1));
    assert_eq!(m.reservations(), 1);
    m.reserve(&told(0), s(2));
    late.clone().send(&mut m, s(2));
    assert_eq!(held(&m), (0, 0));
}

#[test]
fn what_a_killed_process_may_have_lost_stays_reserved() {
    let mut m = manager();
    let mut host = Report { holds: vec![hold(1, "s2-1-0", 60_000)], ..Report::of(1) };
    host.send(&mut m, s(0));
    let mut next = Report { incarnation: 2, nonce: 5, seq: 1, holds: Vec::new(), ..host.clone() };
    next.send(&mut m, s(5));
    assert_eq!(held(&m), (1, 1));
    m.expire(s(60));
    assert_eq!(held(&m), (0, 0));
}

#[test]
fn a_claim_takes_the_place_of_its_hold() {
    let mut m = manager();
    let mut host = Report { holds: vec![hold(1, "s2-1-0", 60_000)], ..Report::of(1) };
    host.send(&mut m, s(0));
    host.holds.clear();
    host.claims.push(claim(1, SMALL));
    host.send(&mut m, s(1));
    assert_eq!(held(&m), (0, 1));
}

#[test]
fn absurd_holds_are_refused_with_their_report() {
    let mut m = manager();
    let mut host = Report::of(1);
    host.send(&mut m, s(0));
    host.holds = vec![Claim { memory_mb: u64::MAX, ..hold(1, "s2-1-0", 1) }];
    assert!(matches!(host.send(&mut m, s(1)), Applied::Bad(_)));
    host.holds = vec![hold(1, "s2-1-0", 1); 5000];
    assert!(matches!(host.send(&mut m, s(2)), Applied::Bad(_)));
    host.holds = vec![Claim { hold_ms: None, ..hold(1, "s2-1-0", 1) }];
    host.send(&mut m, s(3));
    assert_eq!(held(&m), (0, 0), "a hold without an end is not one");
}
