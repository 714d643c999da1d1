//! What no honest peer sends. Daemons count it, say what was wrong where somebody waits, and serve on.

use std::collections::BTreeMap;
use std::time::Duration;

use novella_messaging::{CallOptions, Destination, MAX_BODY_BYTES, RpcError, Target, Version};
use novella_objects::HostStatus;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::{Cluster, EXCHANGE, REPORT_INTERVAL, flavor, scheduler_fanout, scheduler_topic, settle};
use crate::poisons::{poisons, report, request};

/// What the daemon has counted of messages and reports, by name.
fn numbers(cluster: &Cluster) -> BTreeMap<String, u64> {
    let metrics = cluster.metrics("s1");
    let ours = |line: &&str| line.starts_with("novella_rpc_") || line.starts_with("novella_scheduler_");
    let pair = |line: &str| line.rsplit_once(' ').map(|(name, n)| (name.to_owned(), n.parse().unwrap_or(0)));
    metrics.lines().filter(ours).filter_map(pair).collect()
}

#[tokio::test(start_paused = true)]
async fn poison_on_every_queue_is_counted_and_served_past() {
    let cluster = Cluster::of(60, 3).await;
    // Larger than any broker takes by default: the daemons must bear what an operator's broker lets through.
    cluster.broker.limit_message_size(64 << 20);
    let own =
        Destination::Server { exchange: EXCHANGE.into(), topic: "scheduler".into(), server: "s1".into() };
    let host =
        Destination::Server { exchange: EXCHANGE.into(), topic: "compute".into(), server: "host-1".into() };
    for destination in [scheduler_fanout(), scheduler_topic(), own, host.clone()] {
        let large = report(json!("large"), json!({"x": "y".repeat(20 << 20)}));
        for (what, body) in
            poisons().into_iter().chain([("20 MB", vec![b'['; 20 << 20]), ("a 20 MB message", large)])
        {
            let before = numbers(&cluster);
            cluster.publish(destination.clone(), body).await;
            settle().await;
            if destination != host {
                let after = numbers(&cluster);
                let told = after.iter().any(|(name, n)| {
                    *n > before[name]
                        && ["malformed", "method", "version", "arguments", "unreadable", "bad"]
                            .iter()
                            .any(|word| name.contains(word))
                });
                assert!(told, "{what} at {destination:?} is not counted: {:#?}", changed(&before, &after));
            }
            let decision = cluster.place(1, flavor(0, 16, 0)).await; // so many hold more CPUs than there are
            assert_eq!(decision.refusal, None, "after {what} at {destination:?}");
        }
        settle().await;
    }
    // Nothing waits to be given again.
    for queue in cluster.broker.queues() {
        assert_eq!(cluster.broker.depth(&queue), Some(0), "{queue}");
    }
    sleep(2 * REPORT_INTERVAL).await;
    let view = cluster.view("s1").await;
    let names: Vec<_> = view.keys().map(String::as_str).collect();
    assert_eq!(names, ["host-1", "host-2", "host-3"], "no poisonous host came into being");
    assert!(view.values().all(|host| host.state == HostStatus::Up));
    assert_eq!(cluster.metric("s1", "novella_rpc_failures_total{kind=\"panics\"}"), 0);
    cluster.stop().await;
}

fn changed(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let grown = after.iter().filter(|(name, n)| before.get(*name) != Some(n));
    grown.map(|(name, n)| (name.clone(), *n)).collect()
}

/// Calls a scheduler's method with any arguments, and yields the remote error's class and text.
async fn error_of(cluster: &Cluster, method: &str, args: Value) -> (String, String) {
    let target = Target::topic("scheduler").version(Version::new(1, 1));
    let options = CallOptions::new(Duration::from_secs(5));
    let answer = cluster.operator().call::<Value>(&target, method, &args, options).await;
    match answer {
        Err(RpcError::Remote { source, .. }) => (source.class, source.message),
        other => panic!("{method}({args}) was answered {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_hears_what_was_wrong_and_where() {
    let cluster = Cluster::of(61, 2).await;
    let uuid = "6f5902ac-237b-4a07-a7a7-7d1b0a0d3d11";
    let spec = |key: &str, value: Value| {
        let mut flavor = json!({"vcpus": 1, "memory_mb": 1, "root_gb": 1});
        flavor[key] = value;
        json!({"request_spec": {"instance_uuids": [uuid], "flavor": flavor}})
    };
    let many: Vec<String> = (0..10_001).map(|_| cluster.env.random.uuid().to_string()).collect();
    let plain = |uuids: Value| json!({"request_spec": {"instance_uuids": uuids}});
    for (args, words) in [
        (spec("memory_mb", json!(-512)), &["-512"][..]),
        (spec("vcpus", json!(-1)), &["-1"]),
        (spec("vcpus", json!("two")), &["\"two\""]),
        (spec("root_gb", json!(1u64 << 40)), &["root_gb", "1099511627776"]),
        (spec("color", json!("red")), &["color"]),
        (plain(json!([])), &["instance_uuids is empty"]),
        (plain(json!([uuid, uuid])), &[uuid, "twice"]),
        (plain(json!(["not-a-uuid"])), &["UUID"]),
        (plain(json!(many)), &["10001 instances", "10000"]),
        (
            json!({"request_spec": {"instance_uuids": [uuid]}, "hold_s": 4_000_000}),
            &["hold_s is 4000000", "3600"],
        ),
        (
            json!({"request_spec": {"instance_uuids": [uuid]}, "alternates": 4_000_000_000u32}),
            &["alternates", "32"],
        ),
        (json!({"request_spec": {"instance_uuids": [uuid]}, "surprise": 1}), &["surprise"]),
        (json!({}), &["request_spec"]),
    ] {
        let (class, text) = error_of(&cluster, "select_destinations", args.clone()).await;
        assert_eq!(class, "TypeError", "{args}");
        assert!(words.iter().all(|word| text.contains(word)), "{args}: {text}");
    }
    assert_eq!(error_of(&cluster, "fly", json!({})).await.0, "NoSuchMethod");
    assert_eq!(error_of(&cluster, "show_host_resources", json!({"host": ""})).await.0, "ComputeHostNotFound");
    assert!(error_of(&cluster, "show_host", json!({})).await.1.contains("host"));
    assert_eq!(cluster.reservations("s1").await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_the_broker_takes_is_refused_at_the_sender() {
    let cluster = Cluster::of(62, 1).await;
    let large = "x".repeat(MAX_BODY_BYTES);
    let error = cluster.report("volume", "vol-1", &json!({"text": large}).to_string()).await.unwrap_err();
    let said = novella_service::exit::chain(&error);
    assert!(
        said.contains("update_service_capabilities") && said.contains("at most")
            || said.contains("brokers accept at most"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peers_absurd_reserves_are_refused_and_hold_nothing() {
    let cluster = Cluster::of(63, 2).await;
    let before: Vec<_> = cluster.view("s1").await.into_values().map(|host| host.memory_mb_used).collect();
    let uuid = cluster.env.random.uuid();
    let entry = json!({"uuid": uuid, "host": "host-1", "vcpus": 1, "memory_mb": u64::MAX, "disk_gb": 1, "spec_hash": 1});
    let args = json!({"decision_id": "s9-1-1", "scheduler": "s9", "ttl_ms": u64::MAX, "entries": [entry]});
    cluster.publish(scheduler_fanout(), request("reserve", "1.1", args)).await;
    // A host that we do not know is waited for, and never comes.
    let entry = json!({"uuid": cluster.env.random.uuid(), "host": "nowhere", "vcpus": 1, "memory_mb": 1, "disk_gb": 1, "spec_hash": 1});
    let args = json!({"decision_id": "s9-1-2", "scheduler": "s9", "ttl_ms": 1000, "entries": [entry]});
    cluster.publish(scheduler_fanout(), request("reserve", "1.1", args)).await;
    settle().await;
    assert_eq!(cluster.metric("s1", "novella_scheduler_events_total{event=\"peer_refused\"}"), 1);
    let after: Vec<_> = cluster.view("s1").await.into_values().map(|host| host.memory_mb_used).collect();
    assert_eq!(after, before);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.metric("s1", "novella_scheduler_reservations"), 0);
    assert_eq!(cluster.place(2, flavor(1, 9000, 1)).await.refusal, None);
}
