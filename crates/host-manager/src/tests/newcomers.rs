//! New hosts: how many a user may report, who makes room for them, and what counts until they have answered.

use novella_objects::HostWarning;

use crate::report::outcome::Event;
use crate::tests::*;

/// A map for so many hosts whose answer window is over.
fn limited(max_hosts: usize, new_hosts_per_minute: u32) -> HostManager {
    let options = HostManagerOptions { max_hosts, new_hosts_per_minute, ..Default::default() };
    let mut m = HostManager::new(options, "s1");
    m.limit_new_hosts(s(0));
    m
}

fn of(user: &'static str, n: u128) -> Report {
    Report { user: Some(user), ..Report::of(n) }
}

#[test]
fn one_user_cannot_fill_the_map_in_a_moment() {
    let mut m = limited(1_000, 50);
    let refused = (1..=500).filter(|n| of("thief", *n).send(&mut m, s(1)) == Applied::TooManyNew).count();
    assert_eq!((refused, m.table().len(), m.counters().too_many_new), (450, 50, 450));
    assert_eq!(of("agent", 900).send(&mut m, s(1)), Applied::New, "others have their own allowance");
    assert!(of("thief", 1).send(&mut m, s(1)) != Applied::TooManyNew, "known hosts are not new");
    let caps = Capabilities::default();
    assert_eq!(m.apply_report(Some("thief"), "volume", "v1", &caps, s(1)), Applied::TooManyNew);
    assert_eq!(m.apply_report(Some("agent"), "volume", "v1", &caps, s(1)), Applied::New);
}

#[test]
fn hosts_that_did_not_answer_go_first_then_silent_ones_and_nobody_else() {
    let mut m = limited(4, 1_000);
    let mut held = of("a", 1);
    held.send(&mut m, s(0));
    place(&mut m, &SelectDestinations { hold_s: Some(73), ..request([70], SMALL) }, s(0));
    Report { claims: vec![claim(5, SMALL)], ..of("a", 2) }.send(&mut m, s(0));
    of("a", 3).send(&mut m, s(0));
    of("a", 4).send(&mut m, s(0));
    assert!(!m.is_full(s(0)), "nobody was refused");
    let asked = m.hosts_to_ask(100, s(1));
    assert_eq!(asked, ["h1", "h2", "h3", "h4"]);
    for host in ["h1", "h2", "h3"] {
        m.answered(host, Some(None), s(1));
    }
    assert_eq!(of("a", 5).send(&mut m, s(1)), Applied::TooMany, "h4 may still answer");
    assert!(m.is_full(s(1)) && m.is_full(s(61)) && !m.is_full(s(62)));
    m.answered("h4", None, s(4));
    assert_eq!(of("a", 5).send(&mut m, s(4)), Applied::New);
    assert_eq!((status(&m, "h4"), m.counters().forgotten), (None, 1));
    m.answered("h5", Some(None), s(4));
    assert_eq!(of("a", 6).send(&mut m, s(5)), Applied::TooMany, "all are there and answer");

    // All fall silent. The one that is not held on and claims nothing goes.
    m.expire(s(70));
    assert_eq!(of("a", 6).send(&mut m, s(70)), Applied::New);
    assert_eq!(status(&m, "h3"), None, "it was silent for longest");
    assert_eq!(of("a", 7).send(&mut m, s(72)), Applied::New);
    assert_eq!(status(&m, "h5"), None);
    m.expire(s(74));
    assert_eq!(of("a", 8).send(&mut m, s(74)), Applied::New, "the reservation on h1 has run out");
    assert_eq!((status(&m, "h1"), status(&m, "h2").is_some()), (None, true));
    assert_eq!(of("a", 9).send(&mut m, s(76)), Applied::TooMany, "what is left has claims or is heard");
}

#[test]
fn a_host_that_has_not_answered_is_suspect() {
    let mut m = manager();
    let mut early = of("a", 1);
    early.send(&mut m, s(0));
    assert!(m.hosts_to_ask(100, s(1)).is_empty(), "nobody is asked in the answer window");
    m.limit_new_hosts(s(2));
    let mut late = of("a", 2);
    late.send(&mut m, s(3));
    let now = |m: &HostManager| (status(m, "h1").unwrap(), status(m, "h2").unwrap());
    assert_eq!(now(&m), (HostStatus::Up, HostStatus::Suspect));
    assert_eq!(m.hosts_to_ask(1, s(3)), ["h1"]);
    assert_eq!(m.hosts_to_ask(1, s(3)), ["h2"]);
    m.expire(s(3));
    m.answered("h1", None, s(4));
    m.answered("h2", Some(Some(id(2))), s(4));
    assert_eq!(now(&m), (HostStatus::Suspect, HostStatus::Up));
    assert_eq!(m.expire(s(4)), [Event::Unanswered { host: "h1".into() }]);
    let warnings =
        |m: &HostManager| m.fleet(s(10)).summaries().into_iter().map(|h| h.warnings).collect::<Vec<_>>();
    assert_eq!(warnings(&m), [vec![HostWarning::NoAnswer], vec![]]);
    early.send(&mut m, s(10));
    late.send(&mut m, s(10));
    m.expire(s(11));
    assert_eq!(now(&m), (HostStatus::Suspect, HostStatus::Up), "reports and time change nothing about it");

    assert!(m.hosts_to_ask(100, s(60)).is_empty());
    early.send(&mut m, s(60));
    assert_eq!(m.hosts_to_ask(100, s(64)), ["h1"]);
    m.answered("h1", Some(Some(id(77))), s(64));
    assert_eq!(now(&m).0, HostStatus::Suspect, "another host answered");
    m.answered("h1", Some(Some(id(1))), s(64));
    assert_eq!((now(&m).0, warnings(&m)[0].len()), (HostStatus::Up, 0));
    m.expire(s(500));
    m.answered("h1", Some(None), s(500));
    assert_eq!(now(&m).0, HostStatus::Down, "an answer is no report");

    // A host that comes back is asked at once.
    m.answered("h2", None, s(501));
    assert!(m.hosts_to_ask(100, s(502)).is_empty());
    late = Report { incarnation: 2, nonce: 9, seq: 1, ..late };
    late.send(&mut m, s(502));
    assert_eq!(m.hosts_to_ask(100, s(502)), ["h2"]);
}
