//! Silence of hosts, and whether it is the host's own.

use novella_objects::HostStatus::{Disabled, Down, Suspect, Up};

use crate::report::outcome::Event;
use crate::tests::*;

/// A map with `count` hosts, all heard at `now`.
fn fleet(m: &mut HostManager, count: u128, now: Duration) -> Vec<Report> {
    let mut hosts: Vec<_> = (1..=count).map(Report::of).collect();
    send(&mut hosts, m, now);
    hosts
}

/// Sends the next report of each of these hosts.
fn send(hosts: &mut [Report], m: &mut HostManager, now: Duration) {
    hosts.iter_mut().for_each(|h| _ = h.send(m, now));
}

fn with_status(m: &HostManager, wanted: HostStatus) -> u32 {
    m.table().count(wanted)
}

#[test]
fn a_silent_host_goes_down_comes_back_and_is_forgotten() {
    let mut m = manager();
    let mut hosts = fleet(&mut m, 4, s(0));
    for t in (10..=60).step_by(10) {
        send(&mut hosts[1..], &mut m, s(t));
        assert_eq!(m.expire(s(t)), []);
    }
    assert_eq!(m.expire(s(61)), [Event::Down { host: "h1".into() }]);
    assert_eq!(m.expire(s(62)), []);
    assert_eq!(m.table().len(), 4, "it stays in the map");
    hosts[0].send(&mut m, s(70));
    assert_eq!(m.expire(s(70)), [Event::Back { host: "h1".into(), before: Down }]);
    for t in 71..140 {
        send(&mut hosts[1..], &mut m, s(t));
        m.expire(s(t));
    }
    assert_eq!(status(&m, "h1"), Some(Down));
    let hour = 3600;
    hosts[1].send(&mut m, s(70 + hour));
    let events = m.expire(s(71 + hour));
    assert!(events.contains(&Event::Forgotten { host: "h1".into() }), "{events:?}");
    assert!(m.map.claimed(&[id(1)]).is_empty() && status(&m, "h1").is_none());
    hosts[0].seq = 1;
    assert_eq!(hosts[0].send(&mut m, s(72 + hour)), Applied::New, "nothing of it is remembered");
}

#[test]
fn a_stall_of_the_scheduler_is_nobodys_silence() {
    let mut m = manager();
    let mut hosts = fleet(&mut m, 10, s(0));
    m.expire(s(5));
    m.note_stall(s(5), s(305));
    m.expire(s(305));
    assert_eq!((with_status(&m, Suspect), with_status(&m, Down)), (10, 0));
    let decision = place(&mut m, &request([1], SMALL), s(305));
    assert!(decision.refusal.is_none(), "suspects are candidates");
    hosts[0].send(&mut m, s(306));
    assert_eq!(status(&m, "h1"), Some(Up), "one report ends suspicion");
    m.expire(s(365));
    assert_eq!(with_status(&m, Suspect), 9);
    hosts[0].send(&mut m, s(365));
    m.expire(s(367));
    assert_eq!((with_status(&m, Up), with_status(&m, Down)), (1, 9), "and the dead are found dead");
}

#[test]
fn an_outage_of_the_broker_neither_kills_nor_revives() {
    let mut m = manager();
    let mut hosts = fleet(&mut m, 6, s(0));
    for t in (10..=100).step_by(10) {
        send(&mut hosts[1..], &mut m, s(t));
        m.expire(s(t));
    }
    assert_eq!(status(&m, "h1"), Some(Down));
    m.broker_lost(s(105));
    m.broker_lost(s(106));
    for t in (110..100_000).step_by(500) {
        m.expire(s(t));
    }
    assert_eq!((with_status(&m, Suspect), with_status(&m, Down)), (5, 1));
    assert_eq!(m.table().len(), 6, "nobody is forgotten for it");
    m.broker_back(s(200_000));
    m.expire(s(200_000));
    assert_eq!((with_status(&m, Suspect), with_status(&m, Down)), (5, 1));
    hosts[1].send(&mut m, s(200_010));
    m.expire(s(200_061));
    assert_eq!((with_status(&m, Up), with_status(&m, Down)), (1, 5));
}

#[test]
fn a_flapping_broker_does_not_keep_the_dead_alive() {
    let mut m = manager();
    fleet(&mut m, 6, s(0));
    let mut t = 0;
    while with_status(&m, Down) < 6 {
        m.broker_lost(s(t));
        m.broker_back(s(t + 5));
        m.expire(s(t + 6));
        t += 20;
        assert!(t < 200, "15 of every 20 seconds count");
    }
}

#[test]
fn a_host_that_comes_and_goes_is_told_each_time() {
    let mut m = manager();
    let mut h = Report::of(1);
    h.send(&mut m, s(0));
    for t in [10, 20] {
        h.goodbye = true;
        h.send(&mut m, s(t));
        h.send(&mut m, s(t + 1)); // once more changes nothing
        (h.incarnation, h.seq, h.goodbye) = (h.incarnation + 1, 1, false);
        h.send(&mut m, s(t + 2));
        let host = || "h1".to_owned();
        let events = [Event::Left { host: host() }, Event::Back { host: host(), before: Down }];
        assert_eq!(m.expire(s(t + 2)), events);
    }
}

#[test]
fn many_lost_together_are_suspect_for_a_while() {
    let mut m = manager();
    let mut hosts = fleet(&mut m, 12, s(0));
    // Five of twelve hosts fall silent together. Their last reports are within one interval of each other.
    for (at, h) in hosts[..5].iter_mut().enumerate() {
        h.send(&mut m, s(1 + 2 * at as u64));
    }
    let mut events = Vec::new();
    for t in 10..=70 {
        send(&mut hosts[5..], &mut m, s(t));
        events.extend(m.expire(s(t)));
    }
    assert!(events.contains(&Event::LostTogether { hosts: 5, live: 12 }), "{events:?}");
    assert_eq!((with_status(&m, Suspect), with_status(&m, Down)), (5, 0));
    hosts[0].send(&mut m, s(71));
    for t in 72..=190 {
        send(&mut hosts[5..], &mut m, s(t));
        hosts[0].send(&mut m, s(t));
        m.expire(s(t));
        // The last reports came at 3, 5, 7 and 9 s.
        let down = [184, 186, 188, 190].iter().filter(|end| t >= **end).count() as u32;
        assert_eq!((with_status(&m, Suspect), with_status(&m, Down)), (4 - down, down), "{t} s");
    }
}

#[test]
fn few_lost_together_are_down() {
    // In a fleet of fewer than ten hosts, however many.
    for (count, lost) in [(12, 4), (10, 3), (9, 9), (9, 5), (6, 3), (3, 2), (3, 1), (2, 1), (1, 1)] {
        let mut m = manager();
        let mut hosts = fleet(&mut m, count, s(0));
        for t in 10..=62 {
            send(&mut hosts[lost..], &mut m, s(t));
            m.expire(s(t));
        }
        assert_eq!(with_status(&m, Down), lost as u32, "{lost} of {count}");
    }
}

#[test]
fn a_disabled_host_is_disabled_until_it_is_down() {
    let mut m = manager();
    let mut hosts = fleet(&mut m, 4, s(0));
    hosts[0].disabled_reason = Some("kernel".into());
    hosts[0].send(&mut m, s(1));
    assert_eq!(status(&m, "h1"), Some(Disabled));
    assert_eq!(m.fleet(s(1)).summaries()[0].disabled_reason.as_deref(), Some("kernel"));
    hosts[0].disabled_reason = None;
    hosts[0].send(&mut m, s(2));
    assert_eq!(status(&m, "h1"), Some(Up));
    hosts[0].disabled_reason = Some("disk".into());
    hosts[0].send(&mut m, s(3));
    for t in 4..70 {
        send(&mut hosts[1..], &mut m, s(t));
        m.expire(s(t));
    }
    assert_eq!(status(&m, "h1"), Some(Down));
}
