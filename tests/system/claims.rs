//! Claims and holds end to end: the host decides, what it granted outlives every process, and nothing is given twice.

use std::time::Duration;

use novella_messaging::CallOptions;
use novella_objects::{Decision, Rank, Refusal, SelectDestinations, TerminateInstance};
use novella_rpcapi::{ComputeApi, Names, Release, Released};
use novella_service::{MemoryStore, StoreFault};
use tokio::time::sleep;

use crate::cluster::{CALL, Cluster, EXCHANGE, SIZE, Size, flavor, hosts, settle};

/// Longer than an agent waits before it reports changed claims.
const REPORTED: Duration = Duration::from_millis(300);

fn claim_of(cluster: &Cluster, count: usize, vcpus: u32, memory_mb: u64) -> SelectDestinations {
    SelectDestinations { claim: true, ..cluster.request(count, flavor(vcpus, memory_mb, 1)) }
}

async fn claimed(cluster: &Cluster, asked: &SelectDestinations) -> Decision {
    let decision = cluster.select(&cluster.api, asked).await;
    assert_eq!(decision.refusal, None, "{decision:#?}");
    assert!(decision.claimed, "{decision:?}");
    sleep(REPORTED).await;
    decision
}

async fn release(cluster: &Cluster, release: Release) -> Released {
    let released = cluster.api.release_claims(&release, CallOptions::new(CALL)).await;
    sleep(REPORTED).await;
    released.expect("an answer")
}

async fn used(cluster: &Cluster, scheduler: &str) -> u64 {
    cluster.view(scheduler).await.values().map(|host| host.vcpus_used).sum()
}

#[tokio::test(start_paused = true)]
async fn a_claim_lasts_until_it_is_released_whoever_restarts() {
    let mut cluster = Cluster::of(601, 2).await;
    let idle = used(&cluster, "s1").await;
    let decision = claimed(&cluster, &claim_of(&cluster, 3, 2, 512)).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(used(&cluster, "s1").await, idle + 6);
    assert_eq!(cluster.reservations("s1").await, 0, "the reports have settled the reservations");

    cluster.crash_scheduler("s1").await;
    for host in ["host-1", "host-2"] {
        cluster.crash_host(host).await;
        cluster.start_host(host, SIZE).await;
    }
    cluster.serve("s1").await;
    assert_eq!(used(&cluster, "s1").await, idle + 6);

    let of_decision = Release { decision_id: decision.decision_id.clone(), ..Release::default() };
    let released = release(&cluster, of_decision.clone()).await;
    assert_eq!(released, Released { holds: 0, claims: 3, ..Released::default() });
    assert_eq!(used(&cluster, "s1").await, idle);
    assert_eq!(release(&cluster, of_decision).await, Released::default(), "once");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlives_the_scheduler_that_gave_it() {
    let mut cluster = Cluster::of(602, 1).await;
    let mut asked = cluster.request(1, flavor(8, 12_000, 1));
    asked.hold_s = Some(300);
    let decision = cluster.select(&cluster.api, &asked).await;
    assert_eq!((decision.refusal.as_ref(), decision.not_granted.len()), (None, 0));
    settle().await;

    cluster.crash_scheduler("s1").await;
    cluster.serve("s1").await;
    let other = cluster.request(1, flavor(8, 12_000, 1));
    assert!(cluster.select(&cluster.api, &other).await.refusal.is_some(), "the same room is not given twice");
    assert_eq!(cluster.reservations("s1").await, 1);
    let again = cluster.select(&cluster.api, &asked).await;
    assert!(again.repeated && again.decision_id == decision.decision_id, "{again:?}");

    sleep(Duration::from_secs(301)).await;
    assert_eq!(cluster.reservations("s1").await, 0);
    assert_eq!(cluster.select(&cluster.api, &other).await.refusal, None);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_released_hold_is_released_everywhere() {
    let mut cluster = Cluster::of(603, 1).await;
    cluster.serve("s2").await;
    let mut asked = cluster.request(1, flavor(8, 12_000, 1));
    asked.hold_s = Some(300);
    let decision = cluster.select(&cluster.api.of("s1"), &asked).await;
    sleep(REPORTED).await;
    // The other scheduler starts again, so that it knows of the hold from the host alone.
    cluster.crash_scheduler("s2").await;
    cluster.serve("s2").await;
    assert_eq!(cluster.reservations("s2").await, 1);
    let of_decision = Release { decision_id: decision.decision_id, ..Release::default() };
    assert_eq!(release(&cluster, of_decision).await.holds, 1);
    for scheduler in ["s1", "s2"] {
        assert_eq!(cluster.reservations(scheduler).await, 0, "{scheduler}");
    }
    assert_eq!(cluster.agents["host-1"].manager().tracker().counts(), (0, 0));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_is_left_out_and_named() {
    let mut cluster = Cluster::new(604);
    // Both prefer the larger one.
    for (host, memory_mb) in [("large", 16_384), ("small", 12_288)] {
        cluster.start_host(host, Size { memory_mb, ..SIZE }).await;
    }
    cluster.serve("s1").await;
    cluster.serve("s2").await;
    // The schedulers decide before they hear of each other, and give away the same room. The host grants it once.
    let large = |cluster: &Cluster| claim_of(cluster, 1, 8, 9000);
    let (one, other) = (large(&cluster), large(&cluster));
    let (s1, s2) = (cluster.api.of("s1"), cluster.api.of("s2"));
    let (one, other) = tokio::join!(cluster.select(&s1, &one), cluster.select(&s2, &other));
    assert_eq!((one.refusal.as_ref(), other.refusal.as_ref()), (None, None), "{one:#?}\n{other:#?}");
    let mut both = [hosts(&one), hosts(&other)].concat();
    both.sort_unstable();
    assert_eq!(both, ["large", "small"]);
    let refused: Vec<_> = one.refused_by.iter().chain(&other.refused_by).collect();
    let [refused] = &refused[..] else { panic!("one host was asked twice: {refused:?}") };
    assert_eq!(refused.reason, "MEMORY_MB: 9000 MiB wanted, 6872 free");
    assert_eq!(refused.lacks[0].resource, "MEMORY_MB");
    sleep(REPORTED).await;
    let none = cluster.select(&cluster.api, &large(&cluster)).await;
    assert!(matches!(none.refusal, Some(Refusal::NoValidHost { .. })), "{none:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_is_left_out_and_keeps_nothing() {
    let cluster = Cluster::of(605, 2).await;
    cluster.broker.partition("host-1", true);
    cluster.broker.partition("host-2", true);
    let nobody = cluster.select(&cluster.api, &claim_of(&cluster, 1, 1, 512)).await;
    let told: Vec<_> = nobody.refused_by.iter().map(|refused| refused.reason.as_str()).collect();
    assert!(nobody.refusal.is_some() && told.len() == 2, "{nobody:#?}");
    assert!(told.iter().all(|why| why.starts_with("no agent listens as host host-")), "{told:?}");
    assert_eq!(cluster.reservations("s1").await, 0, "what was refused is not held");
    cluster.broker.partition("host-2", false);
    sleep(Duration::from_secs(20)).await;
    let decision = claimed(&cluster, &claim_of(&cluster, 1, 1, 512)).await;
    assert_eq!(hosts(&decision), ["host-2"]);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_instances_of_a_request_are_claimed_or_none() {
    let mut cluster = Cluster::of(606, 1).await;
    let disk = MemoryStore::new();
    let env = cluster.env.child("host-2").with_store(disk.clone());
    let agent = cluster.agent("host-2", "host-2", env, SIZE).await;
    cluster.agents.insert("host-2".to_owned(), agent);
    sleep(Duration::from_secs(5)).await;
    // The scheduler believes that both have room, but one cannot write.
    disk.set_fault(Some(StoreFault::FullDisk));
    let asked = claim_of(&cluster, 2, 8, 9000);
    let refused = cluster.select(&cluster.api, &asked).await;
    assert!(refused.refusal.is_some(), "{refused:#?}");
    let full = refused.refused_by.iter().find(|refused| refused.host == "host-2").expect("it cannot write");
    assert!(
        full.reason.contains("the host cannot write its claims") && full.reason.contains("free space"),
        "{full:?}"
    );
    let counts = |host: &str| cluster.agents[host].manager().tracker().counts();
    assert_eq!((counts("host-1"), counts("host-2")), ((0, 0), (0, 0)), "nothing is left behind");
    // When there is space again, the same instances are claimed by the next attempt.
    disk.set_fault(None);
    let mut asked = asked;
    asked.request_spec.attempt = 2;
    claimed(&cluster, &asked).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_claim_is_the_same_and_a_later_attempt_outranks_it() {
    let cluster = Cluster::of(607, 3).await;
    let idle = used(&cluster, "s1").await;
    let mut asked = claim_of(&cluster, 1, 1, 512);
    let first = claimed(&cluster, &asked).await;
    asked.request_spec.attempt = 2;
    let second = claimed(&cluster, &asked).await;
    assert_eq!(hosts(&first), hosts(&second));
    assert_eq!(used(&cluster, "s1").await, idle + 1, "it counts once");
    let host = hosts(&first)[0].to_owned();
    let claims = cluster.agents[&host].manager().tracker().reported().claims;
    assert_eq!(claims[0].rank, Some(Rank { attempt: 2, try_number: 1 }));
    let mut other = asked.clone();
    other.request_spec.spec.flavor.memory_mb += 1;
    let conflict = cluster.select(&cluster.api, &other).await;
    assert!(matches!(conflict.refusal, Some(Refusal::Conflict { .. })), "{conflict:?}");

    // An end that is meant for the first attempt does not end the second.
    let agents = ComputeApi::new(cluster.operator().clone(), &Names::on(EXCHANGE));
    let end = |up_to_rank| TerminateInstance {
        instance_uuids: asked.request_spec.instance_uuids.clone(),
        up_to_rank,
    };
    let late = end(Some(Rank { attempt: 1, try_number: 9 }));
    agents.terminate_instance(&host, &late, CallOptions::new(CALL)).await.expect("an answer");
    assert_eq!(cluster.agents[&host].manager().tracker().counts(), (1, 0));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_deleted_is_placed_nowhere() {
    let mut cluster = Cluster::of(608, 1).await;
    let asked = claim_of(&cluster, 1, 1, 512);
    // The delete overtakes the claim.
    let agents = ComputeApi::new(cluster.operator().clone(), &Names::on(EXCHANGE));
    let end =
        TerminateInstance { instance_uuids: asked.request_spec.instance_uuids.clone(), up_to_rank: None };
    agents.terminate_instance("host-1", &end, CallOptions::new(CALL)).await.expect("an answer");
    // There is another host, but it is smaller, so the first is preferred.
    cluster.start_host("host-2", Size { memory_mb: 4096, ..SIZE }).await;
    sleep(Duration::from_secs(5)).await;
    let late = cluster.select(&cluster.api, &asked).await;
    let Some(Refusal::Conflict { reason, host, .. }) = &late.refusal else { panic!("{late:#?}") };
    assert_eq!((reason.as_str(), host.as_str()), ("host-1: the instance was deleted", "host-1"));
    assert_eq!(cluster.reservations("s1").await, 0);
    for host in ["host-1", "host-2"] {
        assert_eq!(cluster.agents[host].manager().tracker().counts(), (0, 0), "{host}");
    }
    cluster.stop().await;
}
