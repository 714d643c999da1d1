//! Whose a host is, if several processes or broker users report as this host.

use novella_objects::HostWarning;

use crate::report::outcome::Event;
use crate::tests::*;
use crate::views::conflicts::Conflicts;

const UPDATED: Applied = Applied::Updated { gap: 0, settled: 0 };

fn warnings(m: &HostManager, host: &str, t: u64) -> Vec<HostWarning> {
    let mut hosts = m.fleet(s(t)).summaries().into_iter();
    hosts.find(|found| found.host == host).expect("the host is listed").warnings
}

fn owned(other: &str) -> Applied {
    Applied::OtherUser { owner: other.into() }
}

#[test]
fn a_process_that_was_not_replaced_gets_its_host_back() {
    let mut m = manager();
    let mut real = Report { claims: vec![claim(5, SMALL)], ..Report::of(1) };
    real.send(&mut m, s(0));
    let mut thief = Report { incarnation: 2, nonce: 66, claims: vec![], ..real.clone() };
    assert_eq!(thief.send(&mut m, s(1)), UPDATED, "it looks like a restart");
    assert_eq!(used(&m, "h1").0, 0);
    assert_eq!(real.send(&mut m, s(10)), Applied::Stale, "one report may have been under way");
    assert_eq!((real.send(&mut m, s(20)), used(&m, "h1").0), (UPDATED, 1));
    let warning = HostWarning::ClonedIdentity { other_host: "h1".into() };
    assert_eq!(warnings(&m, "h1", 20), std::slice::from_ref(&warning));
    assert_eq!(m.expire(s(20)), [Event::Conflict { host: "h1".into(), warning }]);

    // Neither the thief nor a third process gets it while they report.
    for t in (21..=200).step_by(10) {
        real.send(&mut m, s(t));
        let cloned = Applied::Cloned { host: "h1".into() };
        assert_eq!(thief.send(&mut m, s(t + 1)), cloned);
        thief.incarnation += 1;
        thief.nonce += 1;
        assert_eq!(thief.send(&mut m, s(t + 2)), cloned);
        assert_eq!(used(&m, "h1").0, 1);
    }
    // When the thief is gone, a restart is accepted at once again.
    real.send(&mut m, s(240));
    let mut restarted = Report { incarnation: 2, nonce: 67, seq: 1, ..real.clone() };
    assert_eq!(restarted.send(&mut m, s(260)), UPDATED);
    m.expire(s(300));
    assert_eq!((warnings(&m, "h1", 300), m.conflicts()), (vec![], Conflicts::default()));
}

#[test]
fn a_thief_gains_nothing_by_more_processes_a_goodbye_or_another_name() {
    let mut m = manager();
    let mut real = Report::of(1);
    real.send(&mut m, s(0));
    let mut goodbye = Report { incarnation: 2, nonce: 65, goodbye: true, ..Report::of(1) };
    assert_eq!(goodbye.send(&mut m, s(1)), Applied::Stale, "nobody says goodbye for another process");
    for nonce in 66..70 {
        let mut thief = Report { incarnation: nonce, nonce, ..Report::of(1) };
        assert_eq!(thief.send(&mut m, s(2)), UPDATED);
        thief.goodbye = true;
        assert_eq!(thief.send(&mut m, s(2)), Applied::Goodbye);
        let cloned = Applied::Cloned { host: "h1".into() };
        (thief.goodbye, thief.host) = (false, "elsewhere".into());
        assert_eq!(thief.send(&mut m, s(2)), cloned, "the goodbye freed nothing");
    }
    assert_eq!(real.send(&mut m, s(10)), Applied::Stale);
    assert_eq!((real.send(&mut m, s(20)), status(&m, "h1")), (UPDATED, Some(HostStatus::Up)));
}

#[test]
fn a_late_report_after_a_restart_changes_nothing() {
    let mut m = manager();
    let mut old = Report::of(1);
    old.send(&mut m, s(0));
    let mut new = Report { incarnation: 2, nonce: 9, seq: 1, ..old.clone() };
    new.send(&mut m, s(1));
    assert_eq!(old.send(&mut m, s(2)), Applied::Stale);
    old.seq -= 1;
    assert_eq!(old.send(&mut m, s(3)), Applied::Stale, "the same one again");
    assert_eq!((new.send(&mut m, s(11)), warnings(&m, "h1", 11)), (UPDATED, vec![]));
    new.send(&mut m, s(90));
    assert_eq!(old.send(&mut m, s(100)), Applied::Stale, "much later");
}

#[test]
fn an_older_process_that_still_runs_is_shown_even_if_it_never_had_the_host() {
    let mut m = manager();
    let mut thief = Report { incarnation: 900, nonce: 9, ..Report::of(1) };
    thief.send(&mut m, s(0));
    let mut real = Report::of(1);
    assert_eq!(real.send(&mut m, s(1)), Applied::Stale);
    assert_eq!(real.send(&mut m, s(11)), Applied::Cloned { host: "h1".into() });
    assert_eq!(warnings(&m, "h1", 11), [HostWarning::ClonedIdentity { other_host: "h1".into() }]);
    assert_eq!(m.conflicts().cloned_identity, 1);
}

#[test]
fn a_number_that_no_restart_reaches_is_refused_and_shown() {
    let mut m = manager();
    let mut real = Report::of(1);
    real.send(&mut m, s(0));
    let mut thief = Report { incarnation: u64::MAX, nonce: 9, ..Report::of(1) };
    assert_eq!(thief.send(&mut m, s(1)), Applied::TooFar);
    assert_eq!(m.counters().too_far, 1);
    assert_eq!(warnings(&m, "h1", 1), [HostWarning::ClonedIdentity { other_host: "h1".into() }]);
    assert_eq!(real.send(&mut m, s(10)), UPDATED);
}

#[test]
fn a_host_belongs_to_the_user_who_first_reported_it() {
    let mut m = manager();
    let mut real = Report { user: Some("a"), claims: vec![claim(5, SMALL)], ..Report::of(1) };
    assert_eq!(real.send(&mut m, s(0)), Applied::New);
    let same_identity = Report { incarnation: 2, nonce: 9, user: Some("b"), claims: vec![], ..real.clone() };
    let same_name = Report { uuid: 2, ..same_identity.clone() };
    let another_name = Report { host: "h9".into(), ..same_identity.clone() };
    let anonymous = Report { user: None, ..same_identity.clone() };
    let goodbye = Report { goodbye: true, ..same_identity.clone() };
    for mut other in [goodbye, anonymous, same_identity, same_name, another_name] {
        assert!(!other.send(&mut m, s(1)).is_accepted());
        assert_eq!(other.send(&mut m, s(500)), owned("a"), "silence gives nobody a right");
    }
    assert_eq!((used(&m, "h1").0, m.table().len()), (1, 1));
    assert_eq!(m.counters().other_user, 8);
    let shown = warnings(&m, "h1", 500);
    assert!(shown.contains(&HostWarning::OtherUser { user: "b".into() }), "{shown:?}");
    assert_eq!(m.conflicts().other_user, 1);
    assert_eq!(real.send(&mut m, s(501)), UPDATED);

    // A host that was reported without a user belongs to the first one who has a name.
    let mut old = Report::of(3);
    old.send(&mut m, s(502));
    old.user = Some("a");
    assert_eq!(old.send(&mut m, s(503)), UPDATED);
    old.user = None;
    assert_eq!(old.send(&mut m, s(504)), owned("a"));
}

#[test]
fn a_service_belongs_to_a_user_too() {
    let mut m = manager();
    let caps = Capabilities::default();
    assert_eq!(m.apply_report(Some("a"), "volume", "v1@ceph", &caps, s(0)), Applied::New);
    assert_eq!(m.apply_report(Some("b"), "volume", "v1@ceph", &caps, s(1)), owned("a"));
    assert_eq!(m.apply_report(Some("a"), "volume", "v1@ceph", &caps, s(2)), UPDATED);
    assert_eq!(m.apply_report(Some("b"), "network", "v1@ceph", &caps, s(2)), Applied::New);
}

#[test]
fn a_forgotten_host_belongs_to_whoever_reports_next_and_keeps_what_is_held() {
    let mut m = manager();
    let mut wrong = Report { user: Some("a"), claims: vec![claim(5, SMALL)], ..Report::of(1) };
    wrong.send(&mut m, s(0));
    assert!(m.apply_report(Some("a"), "volume", "h1", &Capabilities::default(), s(0)).is_accepted());
    place(&mut m, &request([70], SMALL), s(1));
    assert!(m.forget_host("h1") && !m.forget_host("h1") && !m.forget_host("h2"));
    assert_eq!((m.table().len(), m.reservations(), m.map.kept()), (0, 1, 0));
    assert!(m.map.claimed(&[id(5)]).is_empty());
    let mut right = Report { user: Some("b"), ..Report::of(1) };
    assert_eq!(right.send(&mut m, s(2)), Applied::New);
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 1), "the reservation counts again");
    assert_eq!(wrong.send(&mut m, s(3)), owned("b"));
    right.claims = vec![claim(70, SMALL)];
    assert_eq!(right.send(&mut m, s(4)), Applied::Updated { gap: 0, settled: 1 });
}

#[test]
fn a_rule_says_to_whom_each_host_belongs() {
    let options = HostManagerOptions { host_user: Some("agent-{host}".into()), ..Default::default() };
    let mut m = HostManager::new(options, "s1");
    let mut h = Report { user: Some("agent-h2"), ..Report::of(1) };
    assert_eq!(h.send(&mut m, s(0)), owned("agent-h1"));
    h.user = None;
    assert_eq!(h.send(&mut m, s(0)), owned("agent-h1"));
    h.user = Some("agent-h1");
    assert_eq!(h.send(&mut m, s(0)), Applied::New);
    let caps = Capabilities::default();
    assert_eq!(m.apply_report(Some("agent-h1"), "volume", "h1@ceph", &caps, s(1)), Applied::New);
    assert_eq!(m.apply_report(Some("agent-h1"), "volume", "h2@ceph", &caps, s(1)), owned("agent-h2"));
}
