//! Which reports are accepted, and which values are refused.

use novella_objects::{HostWarning, MAX_AMOUNT};

use crate::report::outcome::{BadReport, Event, Fault};
use crate::tests::*;
use crate::views::conflicts::Conflicts;

#[test]
fn a_report_replaces_and_never_adds() {
    let mut m = manager();
    let mut h = Report::of(1);
    h.reserved = Reserved { vcpus: 1, memory_mb: 512, disk_gb: 5 };
    h.claims = vec![claim(50, SMALL), claim(51, SMALL)];
    assert_eq!(h.send(&mut m, s(0)), Applied::New);
    assert_eq!(used(&m, "h1"), (3, 2560, 7, 0));
    for _ in 0..3 {
        assert_eq!(h.send(&mut m, s(10)), Applied::Updated { gap: 0, settled: 0 });
        assert_eq!(used(&m, "h1"), (3, 2560, 7, 0));
    }
    h.claims.remove(0);
    h.reserved.memory_mb = 0;
    h.send(&mut m, s(20));
    assert_eq!(used(&m, "h1"), (2, 1024, 6, 0));
    assert!(m.map.claimed(&[id(50)]).is_empty());
    assert!(m.map.claimed(&[id(51)]).len() == 1);
}

#[test]
fn old_words_change_nothing_not_even_by_goodbye() {
    let mut m = manager();
    let mut old = Report::of(1);
    old.send(&mut m, s(0));
    let mut new = Report { incarnation: 2, nonce: 9, seq: 1, claims: vec![claim(5, SMALL)], ..old.clone() };
    assert_eq!(new.send(&mut m, s(1)), Applied::Updated { gap: 0, settled: 0 });
    old.goodbye = true;
    old.seq = 1_000;
    assert_eq!(old.send(&mut m, s(2)), Applied::Stale);
    assert_eq!(status(&m, "h1"), Some(HostStatus::Up));
    new.seq = 1;
    new.claims.clear();
    assert_eq!(new.send(&mut m, s(3)), Applied::Stale, "a second delivery");
    assert_eq!(used(&m, "h1").0, 1);
    assert_eq!(m.counters().stale, 2);
}

#[test]
fn missed_reports_are_counted_and_their_hosts_asked_again_once() {
    let mut m = manager();
    let (mut a, mut b) = (Report { seq: 7, ..Report::of(1) }, Report::of(2));
    assert_eq!(a.send(&mut m, s(0)), Applied::New, "what was before this scheduler is not missed");
    b.send(&mut m, s(0));
    a.seq += 3;
    assert_eq!(a.send(&mut m, s(10)), Applied::Updated { gap: 3, settled: 0 });
    a.seq += 1;
    a.send(&mut m, s(20));
    b.send(&mut m, s(20));
    assert_eq!(m.hosts_to_ask_again(), ["h1"]);
    assert!(m.hosts_to_ask_again().is_empty());
    assert_eq!(m.counters().missed, 4);
}

fn warnings(m: &HostManager, host: &str, t: u64) -> Vec<HostWarning> {
    let mut hosts = m.fleet(s(t)).summaries().into_iter();
    hosts.find(|found| found.host == host).expect("the host is listed").warnings
}

#[test]
fn a_clone_is_named_and_refused() {
    let mut m = manager();
    let mut first = Report::of(1);
    first.send(&mut m, s(0));
    let mut clone =
        Report { host: "copy".into(), nonce: 7, seq: 50, claims: vec![claim(9, SMALL)], ..first.clone() };
    assert_eq!(clone.send(&mut m, s(1)), Applied::Cloned { host: "h1".into() });
    assert_eq!(clone.send(&mut m, s(2)), Applied::Cloned { host: "h1".into() });
    assert_eq!(status(&m, "copy"), None);
    assert_eq!(used(&m, "h1").0, 0);
    let warning = HostWarning::ClonedIdentity { other_host: "copy".into() };
    assert_eq!(warnings(&m, "h1", 2), std::slice::from_ref(&warning));
    assert_eq!(m.conflicts().cloned_identity, 1);
    assert_eq!(first.send(&mut m, s(3)), Applied::Updated { gap: 0, settled: 0 });
    let (host, other) = ("h1".to_owned(), warning.clone());
    assert_eq!(m.expire(s(3)), [Event::Conflict { host, warning: other }], "told once");

    clone.goodbye = true;
    assert_eq!(clone.send(&mut m, s(4)), Applied::Cloned { host: "h1".into() });
    assert_eq!(warnings(&m, "h1", 4), [], "it says itself that it is gone");
    let over = || [Event::ConflictOver { host: "h1".to_owned(), warning: warning.clone() }];
    assert_eq!(m.expire(s(4)), over());
    assert_eq!(m.conflicts(), Conflicts::default());

    clone.goodbye = false;
    clone.send(&mut m, s(5));
    m.expire(s(5));
    first.send(&mut m, s(50));
    assert_eq!(m.expire(s(64)), []);
    assert_eq!(m.expire(s(65)), over(), "quiet for service_down_time");
    assert_eq!((warnings(&m, "h1", 65), m.conflicts()), (vec![], Conflicts::default()));
}

/// The first restart of a copied identity has a higher incarnation than the process that it was copied from.
#[test]
fn a_copy_under_another_name_does_not_take_a_live_host_nor_one_that_restarts() {
    let mut m = manager();
    let mut original = Report { incarnation: 5, claims: vec![claim(9, SMALL)], ..Report::of(1) };
    original.send(&mut m, s(0));
    place(&mut m, &request([70], SMALL), s(0));
    let mut copy = Report { host: "copy".into(), incarnation: 6, nonce: 7, claims: vec![], ..Report::of(1) };
    let cloned = |of: &str| Applied::Cloned { host: of.into() };
    assert_eq!(copy.send(&mut m, s(1)), cloned("h1"));
    assert_eq!((used(&m, "h1"), status(&m, "copy")), ((2, 2048, 2, 1), None));
    assert_eq!(m.counters().cloned, 1);

    original.goodbye = true;
    assert_eq!(original.send(&mut m, s(10)), Applied::Goodbye);
    assert_eq!(copy.send(&mut m, s(11)), cloned("h1"), "the goodbye may be a restart");
    let mut restarted = Report { incarnation: 6, nonce: 8, ..Report::of(1) };
    assert_eq!(restarted.send(&mut m, s(12)), Applied::Updated { gap: 0, settled: 0 }, "at its first start");
    for t in 13..=72 {
        assert_eq!(copy.send(&mut m, s(t)), cloned("h1"), "the original died at 12; now it is {t}");
    }
    assert_eq!(copy.send(&mut m, s(73)), Applied::Renamed { from: "h1".into(), previous: None });
    assert_eq!((warnings(&m, "copy", 73), status(&m, "h1")), (vec![], None), "one of them is gone");
    let events = m.expire(s(73));
    assert!(events.contains(&Event::Renamed { host: "copy".into(), from: "h1".into() }), "{events:?}");

    // Now the copy is the host. The original is refused while the copy reports, and not for ever.
    let mut again = Report { incarnation: 7, nonce: 9, ..Report::of(1) };
    assert_eq!(again.send(&mut m, s(80)), cloned("copy"));
    assert_eq!(warnings(&m, "copy", 80), [HostWarning::ClonedIdentity { other_host: "h1".into() }]);
    copy.goodbye = true;
    assert_eq!(copy.send(&mut m, s(90)), Applied::Goodbye);
    for t in (100..=150).step_by(10) {
        assert_eq!(again.send(&mut m, s(t)), cloned("copy"), "the goodbye may be a restart");
    }
    assert_eq!(again.send(&mut m, s(151)), Applied::Renamed { from: "copy".into(), previous: None });
    assert_eq!(m.conflicts(), Conflicts::default());
}

#[test]
fn a_scheduler_that_starts_between_clones_names_the_older_one_too() {
    let mut m = manager();
    let mut copy = Report { host: "copy".into(), incarnation: 6, nonce: 7, ..Report::of(1) };
    let mut original = Report { incarnation: 5, ..Report::of(1) };
    copy.send(&mut m, s(0));
    assert_eq!(original.send(&mut m, s(1)), Applied::Cloned { host: "copy".into() }, "its number is lower");
    assert_eq!(warnings(&m, "copy", 1), [HostWarning::ClonedIdentity { other_host: "h1".into() }]);
    assert_eq!(original.send(&mut m, s(60)), Applied::Cloned { host: "copy".into() });
    assert_eq!(
        original.send(&mut m, s(61)),
        Applied::Renamed { from: "copy".into(), previous: None },
        "nobody else reports with this identity"
    );
}

#[test]
fn a_restored_identity_file_is_accepted_when_the_later_process_is_silent() {
    let mut m = manager();
    let mut before = Report { incarnation: 9, ..Report::of(1) };
    before.send(&mut m, s(0));
    before.goodbye = true;
    before.send(&mut m, s(1));
    let mut restored = Report { incarnation: 3, nonce: 4, ..Report::of(1) };
    assert_eq!(restored.send(&mut m, s(61)), Applied::Stale, "it may be a late report of an earlier process");
    assert_eq!(restored.send(&mut m, s(62)), Applied::Updated { gap: 0, settled: 0 });
    assert_eq!(status(&m, "h1"), Some(HostStatus::Up));
}

#[test]
fn a_name_is_taken_over_only_from_the_silent() {
    let mut m = manager();
    let (mut old, mut new) = (Report::of(1), Report { host: "h1".into(), ..Report::of(2) });
    old.claims = vec![claim(7, SMALL)];
    old.send(&mut m, s(0));
    assert_eq!(new.send(&mut m, s(60)), Applied::DuplicateName { holder: id(1) });
    assert_eq!(m.fleet(s(60)).summaries()[0].warnings, [HostWarning::DuplicateName { other: id(2) }]);
    assert_eq!(m.conflicts(), Conflicts { duplicate_name: 1, ..Conflicts::default() });
    place(&mut m, &request([70], SMALL), s(60));
    assert_eq!(new.send(&mut m, s(61)), Applied::TakenOver { previous: Some(id(1)) });
    let events = m.expire(s(61));
    assert!(
        events.contains(&Event::TakenOver { host: "h1".into(), previous: id(1), uuid: id(2) }),
        "{events:?}"
    );
    assert_eq!(m.table().len(), 1);
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 1), "the reservation was made by name; the claims went");
    assert!(m.map.claimed(&[id(7)]).is_empty());
    let row = m.fleet(s(61)).summaries().remove(0);
    assert_eq!(row.uuid, Some(id(2)));
    assert_eq!(row.warnings, [HostWarning::TakenOver { previous: id(1) }], "the other has the name now");
    assert_eq!(m.conflicts(), Conflicts::default());
    assert_eq!(old.send(&mut m, s(62)), Applied::DuplicateName { holder: id(2) });
}

#[test]
fn a_goodbye_frees_the_name_at_once() {
    let mut m = manager();
    let mut old = Report::of(1);
    old.send(&mut m, s(0));
    old.goodbye = true;
    assert_eq!(old.send(&mut m, s(1)), Applied::Goodbye);
    assert_eq!(status(&m, "h1"), Some(HostStatus::Down));
    let mut new = Report { host: "h1".into(), ..Report::of(2) };
    assert_eq!(new.send(&mut m, s(2)), Applied::TakenOver { previous: Some(id(1)) });
    assert_eq!(status(&m, "h1"), Some(HostStatus::Up));
}

#[test]
fn a_row_follows_its_identity_to_another_name() {
    let mut m = manager();
    let mut h = Report::of(1);
    h.claims = vec![claim(7, SMALL)];
    h.send(&mut m, s(0));
    place(&mut m, &request([70], SMALL), s(0));
    h.goodbye = true;
    h.send(&mut m, s(1));
    (h.host, h.incarnation, h.goodbye) = ("renamed".into(), 2, false);
    assert_eq!(h.send(&mut m, s(1)), Applied::Renamed { from: "h1".into(), previous: None });
    assert_eq!(status(&m, "h1"), None);
    assert_eq!(used(&m, "renamed"), (2, 2048, 2, 1));
    assert_eq!(m.table().len(), 1);
    assert_eq!(Report { host: "h1".into(), ..Report::of(2) }.send(&mut m, s(2)), Applied::New);
}

#[test]
fn a_known_identity_may_take_a_silent_name_but_not_a_live_one() {
    let mut m = manager();
    let (mut a, mut b) = (Report::of(1), Report::of(2));
    a.send(&mut m, s(0));
    b.send(&mut m, s(50));
    place(&mut m, &request([70], SMALL), s(50)); // on h1
    assert_eq!(used(&m, "h1").3, 1);
    b.restart_as("h1", &mut m, s(54));
    assert_eq!(b.send(&mut m, s(55)), Applied::DuplicateName { holder: id(1) });
    assert_eq!(b.send(&mut m, s(61)), Applied::Renamed { from: "h2".into(), previous: Some(id(1)) });
    assert_eq!((m.table().len(), status(&m, "h2")), (1, None));
    assert_eq!(used(&m, "h1"), (1, 1024, 1, 1), "what was reserved on the name stays on the name");
    a.incarnation = 2;
    assert_eq!(
        a.send(&mut m, s(62)),
        Applied::DuplicateName { holder: id(2) },
        "and the old holder is a stranger"
    );
}

#[test]
fn reports_without_identity_never_touch_a_host_that_has_one() {
    let mut m = manager();
    let mut plain = Report::of(1).caps();
    plain.novella = None;
    plain.host_memory_free = Some(384);
    assert_eq!(m.apply_report(None, "compute", "h1", &plain, s(0)), Applied::New);
    assert_eq!(m.apply_report(None, "compute", "h1", &plain, s(1)), Applied::Updated { gap: 0, settled: 0 });
    assert_eq!(used(&m, "h1").1, 16_000);
    let mut h = Report::of(1);
    assert_eq!(h.send(&mut m, s(2)), Applied::TakenOver { previous: None });
    assert_eq!(used(&m, "h1").1, 0);
    assert_eq!(m.apply_report(None, "compute", "h1", &plain, s(3)), Applied::NoIdentityIgnored);
    m.expire(s(500));
    assert_eq!(status(&m, "h1"), Some(HostStatus::Down));
    assert_eq!(
        m.apply_report(None, "compute", "h1", &plain, s(501)),
        Applied::NoIdentityIgnored,
        "even of a silent one"
    );
    assert_eq!(used(&m, "h1").1, 0);
}

#[test]
fn the_map_is_bounded() {
    let mut m = HostManager::new(HostManagerOptions { max_hosts: 2, ..Default::default() }, "s1");
    for n in 1..=2 {
        assert_eq!(Report::of(n).send(&mut m, s(0)), Applied::New);
        assert_eq!(
            m.apply_report(None, "volume", &format!("v{n}"), &Capabilities::default(), s(0)),
            Applied::New
        );
    }
    assert_eq!(Report::of(3).send(&mut m, s(0)), Applied::TooMany);
    assert_eq!(m.apply_report(None, "volume", "v3", &Capabilities::default(), s(0)), Applied::TooMany);
    let services = (0..100).filter(|n| {
        m.apply_report(None, &format!("service{n}"), "v1", &Capabilities::default(), s(0)) != Applied::TooMany
    });
    assert_eq!(services.count(), 15, "one more was there");
    let mut renamed = Report { seq: 2, ..Report::of(1) };
    renamed.restart_as("other", &mut m, s(1));
    assert!(matches!(renamed.send(&mut m, s(1)), Applied::Renamed { .. }), "a full map takes new names");
    assert_eq!(m.counters().too_many, 2 + 85);
}

#[test]
fn hostile_values_are_refused_with_a_reason_and_change_nothing() {
    type Change = fn(&mut Capabilities<'static>);
    fn ours<'a>(caps: &'a mut Capabilities<'static>) -> &'a mut NovellaReport<'static> {
        caps.novella.as_mut().unwrap()
    }
    let cases: [(Change, &str, Fault); 16] = [
        (|c| c.vcpus = Some(-1), "vcpus", Fault::Negative),
        (|c| c.host_memory_total = Some(i64::MIN), "host_memory_total", Fault::Negative),
        (|c| c.disk_total = Some(i64::MAX), "disk_total", Fault::Absurd(MAX_AMOUNT)),
        (|c| c.host_memory_free = Some(i64::MIN), "host_memory_free", Fault::Absurd(MAX_AMOUNT)),
        (|c| ours(c).uuid = Uuid::nil(), "novella.uuid", Fault::Empty),
        (|c| ours(c).reserved.vcpus = u32::MAX, "novella.reserved.vcpus", Fault::Absurd(1 << 20)),
        (|c| ours(c).reserved.disk_gb = u64::MAX, "novella.reserved.disk_gb", Fault::Absurd(MAX_AMOUNT)),
        (|c| ours(c).allocation_ratios.cpu = 0.0, "novella.allocation_ratios", Fault::Ratio),
        (|c| ours(c).allocation_ratios.ram = -1.0, "novella.allocation_ratios", Fault::Ratio),
        (|c| ours(c).allocation_ratios.disk = f64::NAN, "novella.allocation_ratios", Fault::Ratio),
        (|c| ours(c).allocation_ratios.disk = f64::INFINITY, "novella.allocation_ratios", Fault::Ratio),
        (|c| ours(c).claims = vec![claim(1, SMALL); 5000], "novella.claims", Fault::TooLong(4096)),
        (
            |c| ours(c).availability_zone = Some("a\nb".into()),
            "novella.availability_zone",
            Fault::ControlCharacter,
        ),
        (|c| ours(c).traits = vec!["".into()], "novella.traits", Fault::Empty),
        (
            |c| c.hypervisor_hostname = Some("x".repeat(256).into()),
            "hypervisor_hostname",
            Fault::TooLong(255),
        ),
        (
            |c| ours(c).disabled_reason = Some("x".repeat(70_000).into()),
            "capabilities",
            Fault::TooLong(65_536),
        ),
    ];
    let mut m = manager();
    let mut h = Report::of(1);
    h.claims = vec![claim(5, SMALL)];
    h.send(&mut m, s(0));
    let before = m.detail("h1", s(0));
    for (at, (change, key, fault)) in cases.into_iter().enumerate() {
        for host in ["h1", "new"] {
            let mut caps = Report { uuid: if host == "h1" { 1 } else { 2 }, ..h.clone() }.caps();
            change(&mut caps);
            let applied = m.apply_report(None, "compute", host, &caps, s(0));
            let Applied::Bad(bad) = applied else { panic!("case {at}: {applied:?}") };
            assert_eq!((bad.key, &bad.fault), (key, &fault), "case {at}: {bad}");
            assert_eq!(m.detail("h1", s(0)), before, "case {at}");
            assert_eq!((m.table().len(), m.map.by_identity.len(), m.map.claims), (1, 1, 1), "case {at}");
        }
    }
    let names = ["", "a\u{7}b", "a b", "a#b", "@a", "h\u{202e}1", "h\u{200b}1", &"x".repeat(201)];
    for name in names.map(str::to_owned) {
        for (service, host) in [("compute", &*name), ("volume", &name), (&name, "h9")] {
            let applied = m.apply_report(None, service, host, &h.caps(), s(0));
            let refused = matches!(&applied, Applied::Bad(bad) if bad.fault == Fault::HostName);
            assert!(refused, "{name:?}: {applied:?}");
        }
    }
    assert_eq!(m.counters().bad, 32 + 24);
    assert_eq!(h.send(&mut m, s(1)), Applied::Updated { gap: 0, settled: 0 }, "the next good one is taken");
}

#[test]
fn amounts_that_only_their_sum_makes_absurd_are_refused() {
    let mut m = manager();
    let huge = Amounts { memory_mb: MAX_AMOUNT, ..SMALL };
    let mut h = Report { claims: vec![claim(1, huge), claim(2, huge)], ..Report::of(1) };
    assert!(matches!(h.send(&mut m, s(0)), Applied::Bad(_)));
    assert!(m.table().is_empty());
}

#[test]
fn an_instance_that_very_many_hosts_claim_is_a_fault_that_is_shown_and_ends() {
    let mut m = manager();
    let most = crate::promises::members::MAX_ROWS_PER_INSTANCE as u128;
    let mut hosts: Vec<_> = (1..=most + 2).map(Report::of).collect();
    for h in &mut hosts {
        h.claims = vec![claim(7, SMALL), Claim { group: Some("g".into()), ..claim(100 + h.uuid, SMALL) }];
        h.send(&mut m, s(0));
    }
    let unlisted = |m: &HostManager| -> Vec<_> {
        m.fleet(s(0)).summaries().into_iter().filter(|h| h.unlisted_claims > 0).map(|h| h.host).collect()
    };
    assert_eq!(unlisted(&m), ["h9", "h10"]);
    assert_eq!((m.unlisted_claims(), m.table().rows_with(id(7)).count() as u128), (2, most));
    assert_eq!(used(&m, "h10").0, 2, "the claim counts as used");
    let told = |host: &str| Event::ClaimedTooOften { host: host.into(), instance: id(7), claims: 1 };
    assert_eq!(m.expire(s(0)), [told("h9"), told("h10")]);
    hosts[9].send(&mut m, s(1));
    assert_eq!(m.expire(s(1)), [], "a lasting fault is told once");
    // One host ends its claim, and another is forgotten with what it claims.
    hosts[0].claims.clear();
    hosts[0].send(&mut m, s(2));
    assert_eq!(m.unlisted_claims(), 2, "the next report of a host lists its claim again");
    hosts[9].send(&mut m, s(2));
    assert_eq!(
        (unlisted(&m), m.expire(s(2))),
        (vec!["h9".into()], vec![Event::ClaimsListed { host: "h10".into() }])
    );
    let row = m.table().row_of("h9").unwrap();
    m.map.remove(row);
    assert_eq!(m.unlisted_claims(), 0);
    hosts[1].claims.clear();
    hosts[1].send(&mut m, s(3));
    assert_eq!(m.table().rows_with(id(7)).count() as u128, most - 1);
}

#[test]
fn names_that_differ_only_in_letter_case_are_few() {
    let mut m = manager();
    let named = |n: u32| (0..6).map(|bit| if n >> bit & 1 == 1 { 'A' } else { 'a' }).collect::<String>();
    let mut sent = |n: u32| {
        let mut h = Report { host: named(n), ..Report::of(1 + u128::from(n)) };
        h.send(&mut m, s(0))
    };
    let applied: Vec<_> = (0..20).map(&mut sent).collect();
    assert!(applied[..8].iter().all(|applied| *applied == Applied::New));
    let refused = Applied::Bad(BadReport { key: "host", fault: Fault::SameButCase });
    assert!(applied[8..].iter().all(|applied| *applied == refused));
}
