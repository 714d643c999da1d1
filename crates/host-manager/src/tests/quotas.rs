//! What is held for each user and each project, and how much it may be.

use novella_filter_scheduler::SchedulerOptions;

use crate::holder::HolderKind;
use crate::tests::*;
use crate::{OverQuota, Quota, Resolved};

/// One host with 64 CPUs to hold, and room for 3 instances of one user.
fn limited() -> (HostManager, FilterScheduler) {
    let three = Quota { most: Amounts { instances: 3, ..Quota::default().most } };
    let options = HostManagerOptions { user_quota: three, ..HostManagerOptions::default() };
    let mut m = HostManager::new(options, "s1");
    Report::of(1).send(&mut m, s(0));
    (m, FilterScheduler::new(SchedulerOptions::default()).unwrap())
}

fn asked(m: &HostManager, user: &str, uuids: &[u128]) -> Resolved {
    let mut asked = request(uuids.iter().copied(), SMALL);
    asked.request_spec.spec.project_id = Some("p".into());
    m.resolve(asked).unwrap().held_for(user)
}

/// Places instances of a user, if its quota allows that.
fn place_for(
    m: &mut HostManager,
    engine: &mut FilterScheduler,
    user: &str,
    uuids: &[u128],
    now: u64,
) -> Result<(), OverQuota> {
    let asked = asked(m, user, uuids);
    if let Some(over) = m.over_quota(&asked, s(now)) {
        return Err(over);
    }
    let id = format!("s1-{}", uuids[0]);
    let placed = m.select_destinations(engine, &asked, id, 0, s(now)).unwrap();
    assert_eq!(placed.decision.refusal, None);
    Ok(())
}

fn held(m: &HostManager, kind: HolderKind) -> Vec<(String, u32, u64)> {
    let all = m.largest_holders(kind, 10).into_iter();
    all.map(|usage| (usage.holder, usage.held.instances, usage.held.vcpus)).collect()
}

#[test]
fn what_is_held_is_refused_beyond_the_limit_and_given_back_by_every_end_of_a_hold() {
    let (mut m, mut engine) = limited();
    place_for(&mut m, &mut engine, "ann", &[1, 2], 0).unwrap();
    let over = place_for(&mut m, &mut engine, "ann", &[3, 4], 0).unwrap_err();
    assert_eq!(
        (over.kind, over.amount, over.held, over.asked, over.limit),
        (HolderKind::User, "instances", 2, 2, 3)
    );
    assert_eq!(
        over.to_string(),
        "the user ann holds 2 instances that no report has confirmed, asks for 2 more, and may hold 3"
    );
    place_for(&mut m, &mut engine, "ann", &[1, 2, 3], 0).expect("two of them are held already");
    place_for(&mut m, &mut engine, "ben", &[5], 0).unwrap();
    assert_eq!(held(&m, HolderKind::User), [("ann".into(), 3, 3), ("ben".into(), 1, 1)]);
    assert_eq!(held(&m, HolderKind::Project), [("p".into(), 4, 4)]);

    // A report confirms one, a release ends one, and the time of the others runs out.
    Report { seq: 2, claims: vec![claim(1, SMALL)], ..Report::of(1) }.send(&mut m, s(1));
    assert_eq!(held(&m, HolderKind::User)[0], ("ann".into(), 2, 2));
    m.release("s1-1", &[id(2)], None).unwrap();
    assert_eq!(held(&m, HolderKind::User), [("ann".into(), 1, 1), ("ben".into(), 1, 1)]);
    place_for(&mut m, &mut engine, "ann", &[1, 6, 7], 1).expect("the claimed one does not count");
    assert_eq!(place_for(&mut m, &mut engine, "ann", &[8], 40), Ok(()), "what has run out is not held");
    assert_eq!(held(&m, HolderKind::Project), [("p".into(), 1, 1)]);
    m.expire(s(1000));
    assert!(HolderKind::ALL.iter().all(|kind| held(&m, *kind).is_empty()));
}

#[test]
fn what_a_peer_reserved_for_a_user_counts_here() {
    let (mut m, mut engine) = limited();
    let mut peer = HostManager::new(HostManagerOptions::default(), "s2");
    Report::of(1).send(&mut peer, s(0));
    let asked = asked(&peer, "ann", &[1, 2, 3]).asked_by(Some("ann"));
    let decision = peer.select_destinations(&mut engine, &asked, "s2-1".into(), 0, s(0)).unwrap().decision;
    assert_eq!(m.reserve(&peer.to_reserve(&decision, s(0)).unwrap(), s(0)), 3);
    assert_eq!(place_for(&mut m, &mut engine, "ann", &[4], 0).unwrap_err().held, 3);
}
