//! The rules of the book, one by one, and all of them together against a model.

use std::collections::{BTreeMap, HashMap};

use novella_objects::ReserveEntry;
use proptest::prelude::*;

use super::*;

const HOST: &str = "h1";

/// A host of 4 CPUs without overcommit, with room for as much memory and disk as tests take.
const REPORT: &str = r#"{"vcpus":4,"host_memory_total":100000,"disk_total":1000,"novella":{
        "uuid":"00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,"sent_at":"","interval_ms":1,
        "allocation_ratios":{"cpu":1.0,"ram":1.0,"disk":1.0}}}"#;

fn limits() -> HostLimits {
    HostLimits::of_report(&serde_json::from_str(REPORT).unwrap()).unwrap()
}

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn rank(attempt: u32, try_number: u32) -> Rank {
    Rank { attempt, try_number }
}

fn wanted(n: u128, vcpus: u32, rank: Rank) -> InstanceClaim {
    let instance = ReserveEntry {
        uuid: uuid(n),
        host: HOST.to_owned(),
        vcpus,
        memory_mb: 1,
        spec_hash: u64::from(vcpus),
        ..ReserveEntry::default()
    };
    InstanceClaim { instance, rank, ..InstanceClaim::default() }
}

fn request(hold_ms: Option<u64>, instances: Vec<InstanceClaim>) -> ClaimRequest {
    ClaimRequest { decision_id: "s1-1-0".to_owned(), user: None, hold_ms, instances }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Changes that are not written, with what they grant and what they end.
type Unwritten = (Staged, Vec<(u128, Rank)>, Vec<u128>);

/// A book with the disk that its records are on.
struct Bench {
    book: ClaimBook,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            book: ClaimBook::new(HOST.to_owned(), Records::default(), s(0)).unwrap(),
            disk: BTreeMap::new(),
        }
    }

    fn write(&mut self, staged: Staged, works: bool) {
        if works {
            for Change { key, value } in staged.records {
                match value {
                    Some(value) => drop(self.disk.insert(key, value)),
                    None => drop(self.disk.remove(&key)),
                }
            }
        }
        self.book.settle(staged.outcomes, works);
    }

    fn ask(
        &mut self,
        hold_ms: Option<u64>,
        instances: Vec<InstanceClaim>,
        now: u64,
        works: bool,
    ) -> Vec<ClaimAnswer> {
        let (answers, staged) = self.book.claim(&limits(), &request(hold_ms, instances), s(now)).unwrap();
        self.write(staged, works);
        answers
    }

    fn claim(&mut self, n: u128, vcpus: u32, rank: Rank) -> ClaimAnswer {
        self.ask(None, vec![wanted(n, vcpus, rank)], 0, true).remove(0)
    }

    fn hold(&mut self, n: u128, vcpus: u32, ms: u64, now: u64) -> ClaimAnswer {
        self.ask(Some(ms), vec![wanted(n, vcpus, rank(0, 0))], now, true).remove(0)
    }

    fn end(&mut self, n: u128, up_to_rank: Option<Rank>, now: u64) -> Terminated {
        let request = TerminateInstance { instance_uuids: vec![uuid(n)], up_to_rank };
        let (answers, staged) = self.book.terminate(&request, |_| false, s(now)).unwrap();
        self.write(staged, true);
        answers[0]
    }

    fn granted(&self) -> Vec<(u128, u32, bool)> {
        let all = self.book.granted();
        all.map(|(uuid, grant)| (uuid.as_u128(), grant.record.claim.instance.vcpus, grant.expires.is_some()))
            .collect()
    }

    /// The process ends, and the next one starts at `now` of its own clock.
    fn restart(&mut self, now: u64) {
        let pairs = self.disk.clone().into_iter().collect();
        self.book = ClaimBook::new(HOST.to_owned(), Records::read(pairs).unwrap(), s(now)).unwrap();
    }
}

fn granted(attempt: u32, try_number: u32) -> ClaimAnswer {
    ClaimAnswer::Granted { rank: rank(attempt, try_number) }
}

#[test]
fn claims_and_holds_share_the_room_and_a_claim_takes_its_holds_place() {
    let mut bench = Bench::new();
    assert_eq!(bench.hold(1, 3, 60_000, 0), granted(0, 0));
    let refused = bench.claim(2, 2, rank(1, 1));
    assert_eq!(refused.refusal().unwrap(), "VCPU: 2 CPUs wanted, 1 free");
    assert_eq!(bench.claim(1, 3, rank(1, 1)), granted(1, 1));
    assert_eq!(bench.granted(), [(1, 3, false)]);
    assert_eq!(bench.claim(2, 1, rank(1, 1)), granted(1, 1));
    assert_eq!(bench.end(1, None, 0), Terminated::Ended);
    assert_eq!(bench.claim(3, 3, rank(1, 1)), granted(1, 1));
}

#[test]
fn a_repeated_claim_raises_the_rank_and_another_spec_is_a_conflict() {
    let mut bench = Bench::new();
    assert_eq!(bench.claim(1, 2, rank(1, 1)), granted(1, 1));
    assert_eq!(bench.claim(1, 2, rank(2, 1)), granted(2, 1));
    assert_eq!(bench.claim(1, 2, rank(1, 3)), granted(2, 1), "a rank never falls");
    bench.restart(0);
    assert_eq!(bench.claim(1, 2, rank(1, 9)), granted(2, 1), "and it is on the disk");
    assert!(matches!(bench.claim(1, 3, rank(9, 1)), ClaimAnswer::Conflict { .. }));
    assert_eq!(bench.hold(1, 2, 1000, 0), granted(2, 1), "a claim does not become a hold");
    assert_eq!(bench.granted(), [(1, 2, false)]);
    let other =
        ClaimRequest { user: Some("ben".to_owned()), ..request(None, vec![wanted(4, 1, rank(1, 1))]) };
    let (answers, staged) = bench.book.claim(&limits(), &other, s(0)).unwrap();
    bench.write(staged, true);
    assert!(answers[0].is_granted());
    let answer = bench.claim(4, 1, rank(2, 1));
    assert_eq!(answer.refusal().unwrap(), format!("instance {} belongs to the broker user ben", uuid(4)));
}

#[test]
fn after_its_end_only_a_higher_rank_comes_back_and_after_a_delete_none() {
    let mut bench = Bench::new();
    assert_eq!(bench.end(1, Some(rank(1, 2)), 0), Terminated::Unknown);
    assert!(matches!(bench.claim(1, 1, rank(1, 2)), ClaimAnswer::Ended { .. }));
    assert_eq!(bench.claim(1, 1, rank(1, 3)), granted(1, 3));
    assert_eq!(bench.end(1, Some(rank(1, 2)), 0), Terminated::Outranked);
    assert_eq!(bench.end(1, None, 0), Terminated::Ended);
    assert!(matches!(bench.claim(1, 1, rank(7, 1)), ClaimAnswer::Ended { .. }));
    assert_eq!(bench.end(1, Some(rank(9, 9)), 1), Terminated::Unknown);
    assert!(matches!(bench.claim(1, 1, rank(10, 1)), ClaimAnswer::Ended { .. }), "a delete stays one");
    assert_eq!(bench.end(2, None, 0), Terminated::Unknown, "a delete may overtake its claim");
    bench.restart(0);
    assert!(matches!(bench.claim(2, 1, rank(1, 1)), ClaimAnswer::Ended { .. }));
    assert_eq!(bench.book.newest_ended().count(), 2);
}

#[test]
fn ended_instances_are_remembered_for_an_hour_of_running_time() {
    let mut bench = Bench::new();
    bench.end(1, None, 1000);
    bench.end(2, None, 2000);
    assert_eq!(bench.book.newest_ended().collect::<Vec<_>>(), [uuid(2), uuid(1)]);
    // The last record was written after 2,000 s, and the machine may have been off for days since.
    bench.restart(5);
    let look = |bench: &mut Bench, now| {
        let staged = bench.book.expire(s(now));
        bench.write(staged, true);
        bench.book.newest_ended().count()
    };
    assert_eq!(look(&mut bench, 5 + 2599), 2);
    assert_eq!(look(&mut bench, 5 + 2600), 1);
    assert_eq!(look(&mut bench, 5 + 3600), 0);
    assert_eq!(bench.disk.len(), 1, "only the running time is left: {:?}", bench.disk.keys());
}

#[test]
fn a_hold_ends_by_itself_or_with_its_decision_and_lasts_over_a_restart() {
    let mut bench = Bench::new();
    bench.hold(1, 1, 30_000, 10);
    bench.hold(2, 1, 50_000, 10);
    assert_eq!(bench.book.next_expiry(), Some(s(40)));
    bench.restart(100);
    assert_eq!(bench.book.next_expiry(), Some(s(130)), "with the time that was left when it was written");
    let staged = bench.book.expire(s(130));
    bench.write(staged, true);
    assert_eq!(bench.granted(), [(2, 1, true)]);
    let staged = bench.book.end_holds("another", &[]);
    bench.write(staged, true);
    assert_eq!(bench.granted().len(), 1);
    let staged = bench.book.end_holds("s1-1-0", &[uuid(2)]);
    bench.write(staged, true);
    assert!(bench.granted().is_empty() && bench.book.newest_ended().next().is_none());
    bench.restart(0);
    assert!(bench.granted().is_empty());
}

#[test]
fn what_could_not_be_written_is_undone() {
    let mut bench = Bench::new();
    bench.ask(None, vec![wanted(1, 4, rank(1, 1))], 0, false);
    assert!(bench.granted().is_empty());
    assert_eq!(bench.claim(2, 4, rank(1, 1)), granted(1, 1), "its room is free again");
    let request = TerminateInstance { instance_uuids: vec![uuid(2)], up_to_rank: None };
    let (_, staged) = bench.book.terminate(&request, |_| false, s(0)).unwrap();
    // While the end is being written, the room is not free yet.
    assert!(!bench.ask(None, vec![wanted(3, 1, rank(1, 1))], 0, true)[0].is_granted());
    bench.write(staged, false);
    assert_eq!(bench.granted(), [(2, 4, false)]);
    assert_eq!(bench.claim(2, 4, rank(2, 1)), granted(2, 1), "it has not ended");
}

#[test]
fn a_claim_that_is_not_on_the_disk_yet_is_not_acknowledged_by_a_repetition() {
    let mut bench = Bench::new();
    let once = request(None, vec![wanted(1, 1, rank(1, 1))]);
    let (_, first) = bench.book.claim(&limits(), &once, s(0)).unwrap();
    let (answers, second) = bench.book.claim(&limits(), &once, s(0)).unwrap();
    assert!(
        answers[0].is_granted() && !second.outcomes.is_empty(),
        "the answer waits for a record of its own"
    );
    bench.write(first, true);
    bench.write(second, false);
    assert_eq!(bench.granted(), [(1, 1, false)], "the first is acknowledged");
}

#[test]
fn a_host_has_no_more_members_of_a_group_than_its_rule_allows() {
    let mut bench = Bench::new();
    let member = |n| {
        let mut member = InstanceClaim { max_in_group: Some(2), ..wanted(n, 1, rank(1, 1)) };
        member.instance.group = Some("web".to_owned());
        member
    };
    let answers = bench.ask(None, vec![member(1), member(2), member(3)], 0, true);
    assert!(answers[0].is_granted() && answers[1].is_granted());
    assert_eq!(answers[2].refusal().unwrap(), "server group web: 1 members wanted, 0 free");
    let mut other = member(4);
    other.instance.group = Some("db".to_owned());
    assert!(bench.ask(None, vec![other], 0, true)[0].is_granted());
    assert!(bench.ask(None, vec![member(1)], 0, true)[0].is_granted(), "it does not count against itself");
}

#[test]
fn disk_that_was_just_given_is_not_given_again() {
    let mut report: novella_objects::Capabilities<'_> = serde_json::from_str(REPORT).unwrap();
    report.novella.as_mut().unwrap().disk_available_least = Some(10);
    let limits = HostLimits::of_report(&report).unwrap();
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, n, disk_gb, hold_ms| {
        let mut wanted = wanted(n, 0, rank(1, 1));
        wanted.instance.disk_gb = disk_gb;
        let (answers, staged) = bench.book.claim(&limits, &request(hold_ms, vec![wanted]), s(0)).unwrap();
        bench.write(staged, true);
        answers[0].refusal()
    };
    assert_eq!(ask(&mut bench, 1, 4, Some(60_000)), None);
    assert_eq!(bench.book.given_gb(), Given { all: 4, claims: 0 });
    assert_eq!(ask(&mut bench, 1, 4, None), None, "the claim takes the hold's place");
    assert_eq!(bench.book.given_gb(), Given { all: 4, claims: 4 });
    assert_eq!(ask(&mut bench, 2, 7, None).unwrap(), "DISK_GB: 7 GiB wanted, 6 free");
    bench.book.note_reading(false);
    assert_eq!(
        ask(&mut bench, 2, 7, None).unwrap(),
        "DISK_GB: 7 GiB wanted, 6 free",
        "that reading may be older"
    );
    bench.book.note_reading(false);
    assert_eq!(ask(&mut bench, 2, 7, None), None, "what is written is in the second reading");
}

#[test]
fn a_wrong_request_is_refused_as_a_whole_and_says_what_is_wrong() {
    let mut bench = Bench::new();
    let refused = |change: fn(&mut ClaimRequest), said: &str, bench: &mut Bench| {
        let mut request = request(None, vec![wanted(1, 1, rank(1, 1)), wanted(2, 1, rank(1, 1))]);
        change(&mut request);
        let reason = bench.book.claim(&limits(), &request, s(0)).unwrap_err();
        assert!(reason.contains(said), "{reason}");
        assert!(bench.granted().is_empty());
    };
    refused(
        |r| r.instances[1].instance.host = "h2".into(),
        r#"it is for host "h2", and this is "h1""#,
        &mut bench,
    );
    refused(
        |r| r.instances[1].instance.memory_mb = u64::MAX,
        "memory_mb is 18446744073709551615; at most",
        &mut bench,
    );
    refused(|r| r.instances[1].instance.group = Some("a\nb".into()), "group is not a name", &mut bench);
    refused(
        |r| r.instances[0].instance.service = Some("volume".into()),
        "no room for other services",
        &mut bench,
    );
    refused(|r| r.decision_id = String::new(), "decision_id is not a name", &mut bench);
    refused(|r| r.user = Some("\u{1b}[31m".into()), "user is not a name", &mut bench);
}

#[test]
fn claims_are_refused_while_too_many_ends_are_remembered() {
    let mut bench = Bench::new();
    let uuids = |from: u128| (from..from + 50_000).map(uuid).collect::<Vec<_>>();
    for from in [1_000_000, 2_000_000] {
        let request = TerminateInstance { instance_uuids: uuids(from), up_to_rank: None };
        let (_, staged) = bench.book.terminate(&request, |_| false, s(0)).unwrap();
        bench.book.settle(staged.outcomes, true);
    }
    assert!(
        bench
            .claim(1, 1, rank(1, 1))
            .refusal()
            .unwrap()
            .contains("claims are taken again when some are forgotten")
    );
    let request = TerminateInstance { instance_uuids: vec![uuid(7)], up_to_rank: None };
    assert!(bench.book.terminate(&request, |_| false, s(0)).unwrap_err().contains("100000 ended instances"));
    let _ = bench.book.expire(s(3600));
    assert!(bench.claim(1, 1, rank(1, 1)).is_granted());
}

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Claim {
        n: u8,
        vcpus: u32,
        attempt: u32,
    },
    Hold {
        n: u8,
        vcpus: u32,
        ms: u64,
    },
    End {
        n: u8,
        attempt: Option<u32>,
    },
    /// The oldest record that waits is written, or fails.
    Disk {
        works: bool,
    },
    Wait {
        ms: u64,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, 1u32..4, 1u32..4).prop_map(|(n, vcpus, attempt)| Step::Claim { n, vcpus, attempt }),
        3 => (0u8..6, 1u32..4, 1u64..5000).prop_map(|(n, vcpus, ms)| Step::Hold { n, vcpus, ms }),
        2 => (0u8..6, proptest::option::of(1u32..4)).prop_map(|(n, attempt)| Step::End { n, attempt }),
        6 => any::<bool>().prop_map(|works| Step::Disk { works }),
        1 => (1u64..3000).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    /// Whatever is asked, written, lost and restarted: no more is promised than the host has, no claim that was acknowledged is
    /// lost before it ends, and its rank never falls.
    #[test]
    fn promises_are_kept_whatever_happens(steps in proptest::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let mut now = Duration::ZERO;
        let mut waiting = std::collections::VecDeque::<Unwritten>::new();
        // What callers were told and nobody has tried to end since, with its rank.
        let mut told: HashMap<u128, Rank> = HashMap::new();
        for step in steps {
            match step {
                Step::Claim { n, vcpus, attempt } => {
                    let asked = request(None, vec![wanted(n.into(), vcpus, rank(attempt, 1))]);
                    let (answers, staged) = bench.book.claim(&limits(), &asked, now).unwrap();
                    let told_after: Vec<_> = match answers[0] {
                        ClaimAnswer::Granted { rank } => vec![(u128::from(n), rank)],
                        _ => vec![],
                    };
                    if staged.outcomes.is_empty() {
                        told.extend(told_after);
                    } else {
                        waiting.push_back((staged, told_after, vec![]));
                    }
                }
                Step::Hold { n, vcpus, ms } => {
                    let asked = request(Some(ms), vec![wanted(n.into(), vcpus, rank(0, 0))]);
                    let (_, staged) = bench.book.claim(&limits(), &asked, now).unwrap();
                    let outcomes = staged.outcomes;
                    bench.book.settle(outcomes, true);
                    waiting.push_back((Staged { records: staged.records, outcomes: vec![] }, vec![], vec![]));
                }
                Step::End { n, attempt } => {
                    let up_to_rank = attempt.map(|attempt| rank(attempt, 1));
                    let asked = TerminateInstance { instance_uuids: vec![uuid(n.into())], up_to_rank };
                    let (answers, staged) = bench.book.terminate(&asked, |_| false, now).unwrap();
                    if answers[0] != Terminated::Outranked {
                        // Until the answer is known, the caller may count on neither.
                        told.remove(&n.into());
                        waiting.push_back((staged, vec![], vec![n.into()]));
                    }
                }
                Step::Disk { works } => {
                    if let Some((staged, told_after, ended)) = waiting.pop_front() {
                        if !works && staged.outcomes.is_empty() {
                            // What nobody waits for is kept for the next write.
                            waiting.push_front((staged, told_after, ended));
                            continue;
                        }
                        bench.write(staged, works);
                        if works {
                            told.retain(|n, _| !ended.contains(n));
                            told.extend(told_after);
                        }
                    }
                }
                Step::Wait { ms } => {
                    now += Duration::from_millis(ms);
                    let staged = bench.book.expire(now);
                    waiting.push_back((staged, vec![], vec![]));
                }
                Step::Crash => {
                    waiting.clear();
                    let pairs = bench.disk.clone().into_iter().collect();
                    bench.book = ClaimBook::new(HOST.to_owned(), Records::read(pairs).unwrap(), now).unwrap();
                }
            }
            let granted: HashMap<u128, &Grant> =
                bench.book.granted().map(|(uuid, grant)| (uuid.as_u128(), grant)).collect();
            let vcpus: u32 = granted.values().map(|grant| grant.record.claim.instance.vcpus).sum();
            prop_assert!(vcpus <= 4, "{vcpus} CPUs of 4 are promised");
            let ending: Vec<u128> = waiting.iter().flat_map(|(_, _, ended)| ended).copied().collect();
            for (n, rank) in &told {
                if ending.contains(n) {
                    continue;
                }
                let grant = granted.get(n);
                prop_assert!(grant.is_some(), "the claim of {n} is lost");
                prop_assert!(grant.unwrap().record.claim.rank >= *rank, "the rank of {n} fell");
                prop_assert!(grant.unwrap().expires.is_none());
            }
        }
    }
}
