//! Stopping in order, and being dropped.

use std::time::Duration;

use futures_util::future::join_all;
use novella_messaging::{CallOptions, RpcError};
use novella_objects::HostStatus;
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, GRACE, flavor, settle};

#[tokio::test(start_paused = true)]
async fn work_in_flight_is_answered_and_nothing_new_starts() {
    let faults = novella_messaging::in_process::InProcessOptions {
        min_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(50),
        ..Default::default()
    };
    let mut cluster = Cluster::on(70, faults);
    cluster.start_hosts(4).await;
    for scheduler in ["s1", "s2"] {
        cluster.serve(scheduler).await;
    }
    let requests: Vec<_> = (0..100).map(|_| cluster.request(1, flavor(1, 16, 0))).collect();
    let stopping = cluster.schedulers.remove("s1").unwrap();
    let stop = async {
        sleep(Duration::from_millis(30)).await;
        let began = cluster.env.clock.now();
        stopping.stop(GRACE).await;
        cluster.env.clock.now() - began
    };
    let cluster = &cluster;
    let place = join_all(requests.iter().map(|request| async move {
        // Over a while, so that some come before, some during and some after.
        sleep(Duration::from_millis(cluster.env.random.u64() % 200)).await;
        cluster.api.select_destinations(request, CallOptions::new(Duration::from_secs(20))).await
    }));
    let (took, answers) = tokio::join!(stop, place);
    assert!(took < GRACE, "{took:?}");
    let unanswered: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(unanswered.is_empty(), "{} of 100: {:?}", unanswered.len(), unanswered.first());
    let by_first =
        answers.iter().flatten().filter(|decision| decision.decision_id.starts_with("s1-")).count();
    assert!((1..100).contains(&by_first), "{by_first} of 100 before the stop");
    // What it decided was told.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.reservations("s2").await, 100, "{by_first} by the first");
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_a_broker_keeps_to_its_grace() {
    let mut cluster = Cluster::of(71, 12).await;
    let manager = cluster.scheduler("s1").manager().clone();
    cluster.broker.partition("s1", true);
    // Decisions that nobody can be told of, more than can be tried within the grace.
    for _ in 0..12 * 32 {
        let request = cluster.request(1, flavor(1, 1, 0));
        let context = novella_messaging::RequestContext::default();
        let decision = novella_rpcapi::SchedulerEndpoint::select_destinations(&*manager, &context, request)
            .await
            .unwrap();
        assert_eq!(decision.refusal, None);
    }
    let began = cluster.env.clock.now();
    cluster.schedulers.remove("s1").unwrap().stop(GRACE).await;
    let took = cluster.env.clock.now() - began;
    assert!(took <= GRACE + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_stopped_while_its_map_fills_opens_no_door() {
    let mut cluster = Cluster::new(72);
    cluster.start_scheduler("s1").await;
    sleep(Duration::from_secs(9)).await;
    let scheduler = cluster.schedulers.remove("s1").unwrap();
    let health = scheduler.health().clone();
    scheduler.stop(GRACE).await;
    sleep(Duration::from_secs(30)).await;
    assert!(!health.ready().ok);
    assert_eq!(cluster.broker.queues(), ["scheduler"], "what is shared waits for whoever comes next");
    let request = cluster.request(1, flavor(1, 1, 1));
    let answer = cluster.api.select_destinations(&request, CallOptions::new(Duration::from_secs(5))).await;
    assert!(matches!(answer, Err(RpcError::Timeout { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_daemon_leaves_nothing_that_answers_or_reports() {
    let mut cluster = Cluster::of(73, 3).await;
    // Dropped, and its connection lives on: whatever it left running could still use it.
    drop(cluster.schedulers.remove("s1").unwrap());
    drop(cluster.agents.remove("host-2").unwrap());
    settle().await;
    let said = cluster.log.events().len();
    let options = || CallOptions { mandatory: true, ..CallOptions::new(Duration::from_secs(5)) };
    assert!(cluster.api.of("s1").status(options()).await.is_err());
    sleep(Duration::from_secs(60)).await;
    let after = cluster.log.events();
    let late: Vec<_> = after[said..].iter().map(|event| event.connection.as_str()).collect();
    assert!(!late.contains(&"s1") && !late.contains(&"host-2"), "{late:?}");
    assert!(late.contains(&"host-1"));
    let queues = cluster.broker.queues();
    assert!(
        !queues.iter().any(|name| name.contains("host-2") || name.starts_with("scheduler_fanout")),
        "{queues:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_dropped_anywhere_starts_anew() {
    let mut cluster = Cluster::of(74, 5).await;
    for round in 0..25 {
        cluster.crash_scheduler("s1").await;
        cluster.start_scheduler("s1").await;
        sleep(Duration::from_millis(cluster.env.random.u64() % 4000)).await;
        cluster.crash_scheduler("s1").await;
        cluster.start_scheduler("s1").await;
        assert!(timeout(Duration::from_secs(11), cluster.ready("s1")).await.is_ok(), "round {round}");
        let view = cluster.view("s1").await;
        assert!(
            view.len() == 5 && view.values().all(|host| host.state == HostStatus::Up),
            "round {round}: {view:#?}"
        );
        // What the hosts hold from before still counts, so it is given back for the next round.
        let decision = cluster.place(5, flavor(1, 9000, 1)).await;
        assert_eq!(decision.refusal, None, "round {round}");
        cluster.release(&cluster.api, &decision.decision_id).await;
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_stops_says_goodbye() {
    let mut cluster = Cluster::of(75, 4).await;
    for host in ["host-1", "host-2", "host-3", "host-4"] {
        cluster.stop_host(host).await;
    }
    settle().await;
    assert!(cluster.view("s1").await.values().all(|host| host.state == HostStatus::Down));
    assert!(cluster.place(1, flavor(1, 1, 0)).await.refusal.is_some());
    cluster.stop().await;
}
