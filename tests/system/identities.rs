//! Who may report as which host.

use std::time::Duration;

use novella_compute_agent::IDENTITY_FILE;
use novella_objects::{HostStatus, HostWarning};
use novella_service::health::Health;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cluster::{Cluster, DOWN_TIME, GRACE, REPORT_INTERVAL, SIZE, settle};

fn identity(cluster: &Cluster, host: &str) -> (Uuid, u64) {
    let bytes =
        cluster.env.child(host).store.read(IDENTITY_FILE).unwrap().expect("written before it reported");
    let record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    (record["uuid"].as_str().unwrap().parse().unwrap(), record["incarnation"].as_u64().unwrap())
}

fn not_ready(health: &Health, part: &str) -> Option<String> {
    let parts = health.ready().parts;
    parts.into_iter().find(|p| p.name == part && !p.ok).map(|part| part.reason)
}

#[tokio::test(start_paused = true)]
async fn a_copied_identity_is_refused_and_both_are_named() {
    let mut cluster = Cluster::of_one_user(40, 1).await;
    let image = br#"{"uuid": "6f5902ac-237b-4a07-a7a7-7d1b0a0d3d11", "incarnation": 7}"#;
    for host in ["first", "second"] {
        cluster.env.child(host).store.write_durable(IDENTITY_FILE, image).unwrap();
    }
    cluster.start_host("first", SIZE).await;
    settle().await;
    cluster.start_host("second", SIZE).await;
    settle().await;
    let view = cluster.view("s1").await;
    assert!(view.contains_key("first") && !view.contains_key("second"), "{view:#?}");
    assert_eq!(view["first"].warnings, [HostWarning::ClonedIdentity { other_host: "second".into() }]);
    assert!(cluster.metric("s1", "novella_scheduler_reports_total{outcome=\"cloned\"}") >= 1);

    // The operator gives the second one an identity of its own.
    cluster.crash_host("second").await;
    let own = br#"{"uuid": "0d0a7d0c-6b55-4c3c-9f4e-52a1f7a3c902", "incarnation": 1}"#;
    cluster.env.child("second").store.write_durable(IDENTITY_FILE, own).unwrap();
    cluster.start_host("second", SIZE).await;
    settle().await;
    assert_eq!(cluster.state("s1", "second").await, Some(HostStatus::Up));
    sleep(DOWN_TIME + REPORT_INTERVAL).await;
    assert_eq!(cluster.view("s1").await["first"].warnings, [], "it has stopped");
}

/// The file of a running agent is copied, so the copy starts with a higher incarnation than the agent has.
#[tokio::test(start_paused = true)]
async fn a_copy_of_a_running_hosts_identity_does_not_take_its_place() {
    let mut cluster = Cluster::of_one_user(44, 1).await;
    let file = cluster.env.child("host-1").store.read(IDENTITY_FILE).unwrap().expect("it runs");
    cluster.env.child("copy").store.write_durable(IDENTITY_FILE, &file).unwrap();
    cluster.start_host("copy", SIZE).await;
    sleep(2 * REPORT_INTERVAL).await;
    let cloned = HostWarning::ClonedIdentity { other_host: "copy".into() };
    let conflicts = "novella_scheduler_host_conflicts{kind=\"cloned_identity\"}";
    let view = cluster.view("s1").await;
    assert_eq!(view.keys().collect::<Vec<_>>(), ["host-1"]);
    assert_eq!((view["host-1"].state, &view["host-1"].warnings), (HostStatus::Up, &vec![cloned.clone()]));
    assert_eq!(cluster.metric("s1", conflicts), 1);

    // The original restarts as it likes, in order or not.
    cluster.stop_host("host-1").await;
    sleep(2 * REPORT_INTERVAL).await;
    assert_eq!(cluster.state("s1", "copy").await, None);
    for _ in 0..3 {
        cluster.start_host("host-1", SIZE).await;
        sleep(2 * REPORT_INTERVAL).await;
        let view = cluster.view("s1").await;
        assert_eq!((view.len(), view["host-1"].state), (1, HostStatus::Up));
        assert_eq!(view["host-1"].warnings, std::slice::from_ref(&cloned));
        cluster.crash_host("host-1").await;
    }
    cluster.start_host("host-1", SIZE).await;
    sleep(2 * REPORT_INTERVAL).await;

    // It ends with the copy.
    cluster.stop_host("copy").await;
    settle().await;
    assert_eq!(cluster.view("s1").await["host-1"].warnings, []);
    assert_eq!(cluster.metric("s1", conflicts), 0);

    // If the original is the one that goes, the copy is the host.
    cluster.start_host("copy", SIZE).await;
    sleep(2 * REPORT_INTERVAL).await;
    cluster.stop_host("host-1").await;
    sleep(DOWN_TIME + 2 * REPORT_INTERVAL).await;
    let view = cluster.view("s1").await;
    assert_eq!(view.keys().collect::<Vec<_>>(), ["copy"]);
    assert_eq!((view["copy"].state, &view["copy"].warnings), (HostStatus::Up, &vec![]));
    assert_eq!(cluster.metric("s1", conflicts), 0);
}

#[tokio::test(start_paused = true)]
async fn the_second_agent_of_a_name_waits_and_takes_over_after_silence() {
    let mut cluster = Cluster::of_one_user(41, 2).await;
    let first = cluster.view("s1").await["host-1"].uuid;
    let intruder = cluster.agent("intruder", "host-1", cluster.env.child("intruder"), SIZE).await;
    sleep(3 * REPORT_INTERVAL).await;
    let why = not_ready(intruder.health(), "host name").expect("it does not hold the name");
    assert!(why.contains("another agent"), "{why}");
    assert!(cluster.log.bodies("intruder", "update_service_capabilities").is_empty(), "it is silent");
    assert_eq!(cluster.view("s1").await["host-1"].uuid, first);

    // The first one dies: the name is free on the broker, but the map waits until the silence is certain.
    let (uuid, _) = identity(&cluster, "intruder");
    cluster.crash_host("host-1").await;
    sleep(REPORT_INTERVAL).await;
    let view = cluster.view("s1").await;
    assert_eq!(view["host-1"].uuid, first);
    assert_eq!(view["host-1"].warnings, [HostWarning::DuplicateName { other: uuid }]);
    assert!(cluster.metric("s1", "novella_scheduler_reports_total{outcome=\"duplicate_name\"}") >= 1);
    sleep(DOWN_TIME + REPORT_INTERVAL).await;
    let view = cluster.view("s1").await;
    assert_eq!((view["host-1"].uuid, view["host-1"].state), (Some(uuid), HostStatus::Up));
    let previous = first.expect("a host has an identity");
    assert!(view["host-1"].warnings.contains(&HostWarning::TakenOver { previous }), "{view:#?}");
    assert_eq!(cluster.metric("s1", "novella_scheduler_events_total{event=\"taken_over\"}"), 1);
    intruder.stop(GRACE).await;
}

/// With a broker user for each host, a copied identity is of no use, however long the original is silent.
#[tokio::test(start_paused = true)]
async fn a_copy_of_an_identity_with_another_user_never_becomes_the_host() {
    let mut cluster = Cluster::of(45, 1).await;
    let file = cluster.env.child("host-1").store.read(IDENTITY_FILE).unwrap().expect("it runs");
    cluster.env.child("copy").store.write_durable(IDENTITY_FILE, &file).unwrap();
    cluster.start_host("copy", SIZE).await;
    cluster.crash_host("host-1").await;
    sleep(2 * DOWN_TIME).await;
    let view = cluster.view("s1").await;
    assert_eq!(view.keys().collect::<Vec<_>>(), ["host-1"]);
    assert_eq!(
        view["host-1"].warnings,
        [HostWarning::OtherUser { user: "copy".into() }, HostWarning::NoAnswer]
    );
    assert_eq!(cluster.metric("s1", "novella_scheduler_host_conflicts{kind=\"other_user\"}"), 1);
    cluster.start_host("host-1", SIZE).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.state("s1", "host-1").await, Some(HostStatus::Up));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_host_is_the_same_host() {
    let mut cluster = Cluster::of(42, 2).await;
    let uuid = cluster.view("s1").await["host-1"].uuid;
    cluster.stop_host("host-1").await;
    let renamed = cluster.agent("host-1", "better-name", cluster.env.child("host-1"), SIZE).await;
    settle().await;
    let view = cluster.view("s1").await;
    assert!(!view.contains_key("host-1"), "{view:#?}");
    assert_eq!((view["better-name"].uuid, view["better-name"].state), (uuid, HostStatus::Up));
    renamed.stop(GRACE).await;
}

/// Whenever an agent dies, the next one on its store has the same uuid and a higher incarnation, and the map follows it.
#[tokio::test(start_paused = true)]
async fn an_agent_dropped_anywhere_keeps_its_identity() {
    let mut cluster = Cluster::of(43, 1).await;
    let (uuid, mut last) = identity(&cluster, "host-1");
    for round in 0..40 {
        cluster.crash_host("host-1").await;
        // Start it and drop it again within the moments in which it takes up its identity, its queue, its first report.
        let polls = cluster.env.random.u64() % 40;
        let env = cluster.env.child("host-1");
        let start = cluster.agent("host-1", "host-1", env, SIZE);
        let aborted = abort_after(polls, start).await;
        cluster.broker.kill("host-1");
        drop(aborted);
        settle().await;
        let (now, incarnation) = identity(&cluster, "host-1");
        assert_eq!(now, uuid, "round {round}");
        assert!(incarnation >= last, "round {round}: {incarnation} after {last}");
        last = incarnation;
        cluster.start_host("host-1", SIZE).await;
        settle().await;
        let view = cluster.view("s1").await;
        assert_eq!(
            (view["host-1"].uuid, view["host-1"].state),
            (Some(uuid), HostStatus::Up),
            "round {round}"
        );
        assert_eq!(identity(&cluster, "host-1").1, last + 1, "round {round}: once per process");
        last += 1;
    }
    assert_eq!(cluster.metric("s1", "novella_scheduler_reports_total{outcome=\"cloned\"}"), 0);
    assert_eq!(cluster.metric("s1", "novella_scheduler_reports_total{outcome=\"duplicate_name\"}"), 0);
}

/// Polls a future so often, then drops it; what it was by then, if it was done.
async fn abort_after<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let done = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(value) = done {
            sleep(Duration::from_millis(polls)).await;
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}
