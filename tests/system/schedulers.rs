//! Several schedulers: each holds the whole map, and what one gives away the others count.

use std::time::Duration;

use futures_util::future::join_all;
use novella_messaging::RequestContext;
use novella_objects::{HostStatus, Refusal};
use novella_rpcapi::{Release, SchedulerEndpoint};
use tokio::time::sleep;

use crate::cluster::{Cluster, DOWN_TIME, REPORT_INTERVAL, SIZE, flavor, hosts, refusal, settle};

/// More than half of a host's memory: one fits on each.
const LARGE: u64 = 9000;

async fn pair(seed: u64, hosts: usize) -> Cluster {
    let mut cluster = Cluster::of(seed, hosts).await;
    cluster.serve("s2").await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_peers_reservations_count_here() {
    let cluster = pair(50, 4).await;
    let (first, second) = (cluster.api.of("s1"), cluster.api.of("s2"));
    let here = cluster.select(&first, &cluster.request(2, flavor(1, LARGE, 1))).await;
    settle().await;
    let there = cluster.select(&second, &cluster.request(2, flavor(1, LARGE, 1))).await;
    let mut all = [hosts(&here), hosts(&there)].concat();
    all.sort_unstable();
    assert_eq!(all, ["host-1", "host-2", "host-3", "host-4"]);
    settle().await;
    assert_eq!(
        cluster.view("s1").await.values().map(|h| h.memory_mb_used).collect::<Vec<_>>(),
        cluster.view("s2").await.values().map(|h| h.memory_mb_used).collect::<Vec<_>>()
    );
    assert!(refusal(&cluster.place(1, flavor(1, LARGE, 1)).await).starts_with("No valid host"));

    // Either lets go of what the other decided, and both forget it.
    assert_eq!(cluster.release(&second, &here.decision_id).await, 2);
    settle().await;
    for scheduler in ["s1", "s2"] {
        assert_eq!(cluster.reservations(scheduler).await, 2, "{scheduler}");
    }
    sleep(Duration::from_secs(32)).await;
    for scheduler in ["s1", "s2"] {
        assert_eq!(cluster.reservations(scheduler).await, 0, "{scheduler}");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_has_one_answer_whoever_gives_it() {
    let cluster = pair(51, 6).await;
    let request = cluster.request(3, flavor(2, 2048, 5));
    let decision = cluster.select(&cluster.api.of("s1"), &request).await;
    settle().await;
    for scheduler in ["s1", "s2"] {
        let again = cluster.select(&cluster.api.of(scheduler), &request).await;
        assert!(again.repeated, "{scheduler}");
        assert_eq!(
            (&again.decision_id, hosts(&again)),
            (&decision.decision_id, hosts(&decision)),
            "{scheduler}"
        );
        let uuids: Vec<_> = again.selections.iter().map(|s| s.instance_uuid).collect();
        assert_eq!(uuids, request.request_spec.instance_uuids, "{scheduler}");

        let mut other = request.clone();
        other.request_spec.spec.flavor.memory_mb += 1;
        let conflict = cluster.select(&cluster.api.of(scheduler), &other).await;
        let Some(Refusal::Conflict { instance_uuid, host, .. }) = &conflict.refusal else {
            panic!("{conflict:?}")
        };
        assert_eq!((*instance_uuid, host.as_str()), (uuids[0], hosts(&decision)[0]));
        assert!(conflict.selections.is_empty());
    }
    settle().await;
    for scheduler in ["s1", "s2"] {
        assert_eq!(cluster.reservations(scheduler).await, 3, "{scheduler} counts it once");
    }
    // The explanation is that of the decision, not of its repetition.
    let api = cluster.api.of("s1");
    let options = novella_messaging::CallOptions::new(crate::cluster::CALL);
    let remembered = api.get_decision(&decision.decision_id, options).await.unwrap();
    assert_eq!(remembered, Some(decision));
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_joins_under_load_refuses_nobody() {
    let mut cluster = Cluster::of(52, 20).await;
    // Small enough that all fit: any refusal is the fault of a map with gaps.
    for round in 0..60 {
        if round == 20 {
            cluster.start_scheduler("s2").await;
        }
        let decisions = join_all((0..4).map(|_| cluster.place(5, flavor(1, 256, 1)))).await;
        for decision in &decisions {
            assert_eq!(decision.refusal, None, "round {round}");
            assert_eq!(decision.explanation.hosts, 20, "round {round}: {}", decision.decision_id);
            cluster.release(&cluster.api.of(deciding(&decision.decision_id)), &decision.decision_id).await;
        }
        sleep(Duration::from_millis(250)).await;
    }
    let decisions = |scheduler| cluster.metric(scheduler, "novella_scheduler_decisions_total");
    assert!(decisions("s2") > 20 && decisions("s1") + decisions("s2") == 240, "both take part");
    cluster.stop().await;
}

fn deciding(decision_id: &str) -> &str {
    decision_id.split('-').next().expect("an id starts with its scheduler")
}

#[tokio::test(start_paused = true)]
async fn one_scheduler_dies_and_the_other_serves_on() {
    let mut cluster = pair(53, 6).await;
    cluster.crash_scheduler("s1").await;
    for _ in 0..20 {
        let decision = cluster.place(1, flavor(1, 256, 1)).await;
        assert!(decision.decision_id.starts_with("s2-"), "{}", decision.decision_id);
    }
    // It comes back under its name, with other decision ids, and learns the map anew.
    cluster.serve("s1").await;
    assert!(cluster.view("s1").await.values().all(|host| host.state == HostStatus::Up));
    assert_eq!(cluster.view("s1").await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_second_scheduler_of_the_same_name_waits_and_says_so() {
    let mut cluster = Cluster::of(54, 3).await;
    let (env, transport) = (cluster.env.child("twin"), cluster.connect("twin"));
    let twin = novella_scheduler::start(cluster.scheduler_config.clone(), "s1".into(), env, transport);
    let twin = twin.await.unwrap();
    sleep(2 * REPORT_INTERVAL).await;
    let said = twin.health().ready();
    assert!(!said.ok && said.summary().contains("another scheduler has this name"), "{said:?}");
    for _ in 0..10 {
        assert_eq!(cluster.place(1, flavor(1, 256, 1)).await.refusal, None);
    }
    assert_eq!(cluster.metric("s1", "novella_scheduler_decisions_total"), 10, "the first one answers all");
    // The name changes hands while the first one is cut off, which then hears that it has lost it.
    cluster.broker.partition("s1", true);
    settle().await;
    assert!(twin.health().ready().ok, "{:?}", twin.health().ready());
    cluster.broker.partition("s1", false);
    settle().await;
    let said = cluster.scheduler("s1").health().ready();
    assert!(!said.ok && said.summary().contains("another scheduler has this name"), "{said:?}");
    cluster.crash_scheduler("s1").await;
    assert_eq!(cluster.place(1, flavor(1, 256, 1)).await.refusal, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_let_go_at_once_is_let_go_everywhere() {
    let faults = novella_messaging::in_process::InProcessOptions {
        min_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(400),
        ..Default::default()
    };
    let mut cluster = Cluster::on(55, faults);
    cluster.start_host("host-1", SIZE).await;
    for scheduler in ["s1", "s2"] {
        cluster.serve(scheduler).await;
    }
    // Past the bus, so that both are told in the same moment.
    let (manager, context) = (cluster.scheduler("s1").manager(), RequestContext::default());
    for _ in 0..20 {
        let mut request = cluster.request(1, flavor(1, 256, 1));
        request.hold_s = Some(3600);
        let decision = manager.select_destinations(&context, request).await.unwrap();
        assert_eq!(decision.refusal, None);
        let release = Release { decision_id: decision.decision_id.clone(), ..Release::default() };
        assert_eq!(manager.release(&context, release).await.unwrap(), 1);
    }
    sleep(Duration::from_secs(30)).await;
    for scheduler in ["s1", "s2"] {
        let view = cluster.view(scheduler).await;
        assert_eq!(view["host-1"].reservations, 0, "{scheduler}: a release overtook what it lets go of");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_scheduler_hears_of_decisions_no_more_and_catches_up() {
    let cluster = pair(56, 4).await;
    cluster.broker.partition("s2", true);
    sleep(2 * DOWN_TIME).await;
    assert_eq!(cluster.place(2, flavor(1, LARGE, 1)).await.refusal, None, "the other serves");
    cluster.broker.partition("s2", false);
    sleep(Duration::from_secs(35)).await;
    for scheduler in ["s1", "s2"] {
        let view = cluster.view(scheduler).await;
        assert!(
            view.values().all(|host| host.state == HostStatus::Up && host.reservations == 0),
            "{scheduler}"
        );
    }
}
