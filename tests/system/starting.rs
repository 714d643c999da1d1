//! From start to ready: nobody is refused for want of a report that is on its way.

use std::time::Duration;

use futures_util::future::join_all;
use novella_messaging::{CallOptions, RpcError};
use novella_objects::HostStatus;
use tokio::time::{sleep, timeout};

use crate::cluster::{CALL, Cluster, REPORT_INTERVAL, SIZE, flavor, refusal, settle};

/// More than half of a host's memory: one fits on each.
const LARGE: u64 = 9000;

#[tokio::test(start_paused = true)]
async fn requests_wait_until_the_map_is_full() {
    for seed in 10..20 {
        let mut cluster = Cluster::of(seed, 12).await;
        cluster.crash_scheduler("s1").await;
        // Any time since the last question, also while agents still answer to that one.
        sleep(Duration::from_millis(cluster.env.random.u64() % 4000)).await;
        cluster.start_scheduler("s2").await;
        let began = cluster.env.clock.now();
        let requests = (0..12).map(|_| cluster.request(1, flavor(1, LARGE, 1))).collect::<Vec<_>>();
        let answers = join_all(requests.iter().map(|request| cluster.select(&cluster.api, request))).await;
        let refused = answers.iter().filter(|decision| decision.refusal.is_some()).count();
        assert_eq!(refused, 0, "seed {seed}: {:?}", cluster.view("s2").await.keys());
        let waited = cluster.env.clock.now() - began;
        assert!(
            waited >= Duration::from_secs(2) && waited < Duration::from_secs(4),
            "seed {seed}: {waited:?}"
        );
        assert!(answers.iter().all(|decision| decision.explanation.hosts == 12), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_first_scheduler_there_ever_was() {
    let mut cluster = Cluster::new(19);
    cluster.start_host("host-1", SIZE).await;
    let request = cluster.request(1, flavor(1, 1, 1));
    let mandatory = CallOptions { mandatory: true, ..CallOptions::new(CALL) };
    let nobody = cluster.api.select_destinations(&request, mandatory).await;
    assert!(matches!(nobody, Err(RpcError::Send { .. })), "no queue yet, which is said at once: {nobody:?}");
    cluster.start_scheduler("s1").await;
    settle().await;
    assert!(!cluster.scheduler("s1").health().ready().ok, "it is still asking for reports");
    let decision = cluster.place(1, flavor(1, 1, 1)).await;
    assert_eq!(decision.selections.len(), 1, "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_fleet_is_known_as_such_after_one_interval() {
    let mut cluster = Cluster::new(20);
    cluster.start_scheduler("s1").await;
    let until_ready = cluster.scheduler("s1").health().until_ready();
    assert!(timeout(REPORT_INTERVAL - Duration::from_millis(200), until_ready).await.is_err());
    let said = cluster.scheduler("s1").health().ready().summary();
    assert!(said.contains("0 hosts so far"), "{said}");
    sleep(Duration::from_millis(400)).await;
    assert!(cluster.scheduler("s1").health().ready().ok);
    let decision = cluster.place(1, flavor(1, 1, 1)).await;
    assert!(refusal(&decision).starts_with("No valid host was found"), "{}", refusal(&decision));
    assert_eq!((decision.explanation.hosts, decision.selections.len()), (0, 0));
    // A host that comes is there at once.
    cluster.start_host("host-1", SIZE).await;
    settle().await;
    assert_eq!(cluster.place(1, flavor(1, 1, 1)).await.selections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_while_the_map_fills_does_not_open_the_door() {
    let mut cluster = Cluster::new(21);
    cluster.start_hosts(4).await;
    cluster.broker.partition("s1", true);
    cluster.start_scheduler("s1").await;
    cluster.broker.partition("s1", false);
    sleep(Duration::from_millis(5)).await;
    cluster.broker.partition("s1", true);
    sleep(3 * REPORT_INTERVAL).await;
    let health = cluster.scheduler("s1").health().ready();
    assert!(
        !health.ok && health.summary().contains("host map: the report queue is not consumed yet"),
        "{health:?}"
    );
    cluster.broker.partition("s1", false);
    cluster.ready("s1").await;
    assert_eq!(cluster.view("s1").await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_daemons_wait_and_then_find_each_other() {
    let mut cluster = Cluster::new(22);
    cluster.broker.stop();
    cluster.start_host("host-1", SIZE).await;
    cluster.start_scheduler("s1").await;
    sleep(Duration::from_secs(100)).await;
    let said = cluster.scheduler("s1").health().ready().summary();
    assert!(said.contains("broker: not connected after 1 attempt: memory: "), "{said}");
    assert_eq!(cluster.metric("s1", "novella_broker_connected"), 0);
    cluster.broker.start();
    cluster.ready("s1").await;
    assert_eq!(cluster.metric("s1", "novella_broker_connected"), 1);
    assert_eq!(cluster.state("s1", "host-1").await, Some(HostStatus::Up));
    assert_eq!(cluster.place(1, flavor(1, 1, 1)).await.selections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn both_daemons_show_the_broker_and_why_it_takes_no_messages() {
    let cluster = Cluster::of(24, 1).await;
    let said = |words: &str| {
        for health in [cluster.scheduler("s1").health(), cluster.agents["host-1"].health()] {
            let ready = health.ready();
            let broker = ready.parts.iter().find(|part| part.name == "broker").expect("a condition of both");
            assert_eq!((broker.reason.as_str(), broker.ok), (words, words.starts_with("connected")));
        }
    };
    said("connected to memory");
    cluster.broker.block(Some("memory alarm"));
    settle().await;
    said("the broker memory accepts no messages: memory alarm");
    cluster.broker.block(None);
    settle().await;
    said("connected to memory");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_did_not_get_through_is_not_waited_for_in_vain() {
    let mut cluster = Cluster::new(23);
    cluster.start_hosts(6).await;
    sleep(CALL).await;
    // The broker accepts no messages, but delivers: the question fails, the answers are the periodic reports.
    cluster.start_scheduler("s1").await;
    cluster.broker.block(Some("memory alarm"));
    sleep(Duration::from_secs(6)).await;
    cluster.broker.block(None);
    cluster.ready("s1").await;
    assert_eq!(cluster.view("s1").await.len(), 6, "each host has reported once within the interval");
}

#[tokio::test(start_paused = true)]
async fn the_way_of_every_report_from_its_agent_into_the_map_is_timed() {
    let cluster = Cluster::of(21, 3).await;
    sleep(REPORT_INTERVAL * 3).await;
    let metric = |name: &str| cluster.metric("s1", &format!("novella_scheduler_{name}"));
    let accepted = metric("reports_total{outcome=\"accepted\"}");
    assert!(accepted >= 9, "{accepted}");
    assert_eq!(metric("report_lag_seconds_count"), accepted);
    assert_eq!(metric("report_lag_seconds_bucket{le=\"+Inf\"}"), accepted);
}
