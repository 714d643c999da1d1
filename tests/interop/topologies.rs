//! Who can share a broker with whom: oslo.messaging servers on our topic, other exchanges, and what is said when the
//! shapes differ.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;
use novella_messaging::{ConsumerState, QueueKind, ServerOptions, Transport};
use serde_json::json;

use crate::bed::{self, Bed};
use crate::support::*;

/// Options that both sides are given alike.
const TRANSIENT: [&str; 3] = ["", "amqp_auto_delete=true", "rabbit_transient_queues_ttl=60"];
const DURABLE: [&str; 4] = [
    "amqp_durable_queues=true&rabbit_transient_quorum_queue=true",
    "rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true",
    "rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true&rabbit_quorum_delivery_limit=5",
    "amqp_durable_queues=true&rabbit_transient_quorum_queue=true&rabbit_transient_queues_ttl=0",
];

fn topic_of(bed: &Bed) -> QueueKind {
    QueueKind::Topic { exchange: bed.exchange.clone(), topic: bed.topic.clone() }
}

/// Why we cannot serve this test's topic with the shapes of this URL.
async fn failure(bed: &Bed, url: &str) -> String {
    let transport = bed.transport(url, "ours").await;
    let consumer = consume(&transport, topic_of(bed)).await;
    match reaches(&*consumer, |state| matches!(state, ConsumerState::Failed { .. })).await {
        ConsumerState::Failed { reason } => reason,
        other => unreachable!("waited for Failed, got {other:?}"),
    }
}

/// One server of each kind on one topic, ours first or theirs; both serve casts to all and calls by name.
async fn both_serve(bed: &mut Bed, number: usize, query: &str, ours_first: bool) {
    let n = format!("{number}{ours_first}");
    (bed.topic, bed.exchange) = (bed.broker.unique(&format!("t{n}")), bed.broker.unique(&format!("e{n}")));
    let bed = &*bed;
    let ours_at = format!("{}?topology=oslo&{query}", bed.broker.url);
    let theirs_at = format!("{}?{query}", bed.broker.url);
    let more = json!({"url": theirs_at});
    let serve = async || bed.serve_as(&ours_at, "s1", ServerOptions::default()).await;
    let (ours, theirs) = if ours_first {
        let ours = serve().await;
        (ours, bed.python_serves("p1", more.clone()).await)
    } else {
        let theirs = bed.python_serves("p1", more.clone()).await;
        (serve().await, theirs)
    };
    let to_all = json!({"target": {"fanout": true}, "url": theirs_at});
    bed.cast("echo", json!({"to": "all"}), to_all).await;
    theirs.executed(1).await;
    ours.counted("dispatched", 1).await;
    let to_ours = json!({"target": {"server": "s1"}, "url": theirs_at});
    assert_eq!(bed.call("echo", json!({"a": 1}), to_ours).await.expect(query), json!({"a": 1}));
    theirs.stop().await;
    ours.rpc.shutdown(bed::soon()).await;
    ours.transport.close(bed::soon()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_both_kinds_share_a_transient_topic() {
    let Some(mut bed) = bed::shared("transient topic").await else { return };
    if bed.denies {
        let url = format!("{}?topology=oslo", bed.broker.url);
        let reason = failure(&bed, &url).await;
        assert!(reason.contains("4.3 refuses transient shared queues"), "{reason}");
        return;
    }
    for (number, query) in TRANSIENT.into_iter().enumerate() {
        for ours_first in [true, false] {
            both_serve(&mut bed, number, query, ours_first).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_both_kinds_share_a_durable_topic() {
    let Some(mut bed) = bed::shared("durable topic").await else { return };
    for (number, query) in DURABLE.into_iter().enumerate() {
        for ours_first in [true, false] {
            both_serve(&mut bed, number, query, ours_first).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_with_its_queue_manager_is_served() {
    let Some(bed) = bed::shared("queue manager").await else { return };
    let _ours = bed.serve("s1").await;
    let name = bed.broker.unique("host");
    let more = json!({"options": {"use_queue_manager": true, "hostname": name, "processname": "peer"}});
    assert_eq!(bed.call("echo", json!({"a": 1}), more).await.expect("a result"), json!({"a": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_shapes_serve_python_clients_but_not_beside_python_servers() {
    let Some(bed) = bed::shared("own shapes").await else { return };
    if bed.denies {
        return; // oslo.messaging's default shapes are refused there
    }
    let theirs = bed.python_serves("p1", json!({})).await;
    let reason = failure(&bed, &bed.broker.url).await;
    for part in [&*bed.topic, "PRECONDITION_FAILED", "ours: durable", "`topology=oslo`"] {
        assert!(reason.contains(part), "{part} in: {reason}");
    }
    assert!(!reason.contains('\n'), "{reason}");
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_of_another_shape_is_explained() {
    let Some(bed) = bed::shared("other exchange").await else { return };
    let channel = bed.broker.bare().await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = || bed.exchange.as_str().into();
    channel
        .exchange_declare(name(), ExchangeKind::Topic, durable, FieldTable::default())
        .await
        .expect("made");
    let reason = failure(&bed, &bed.broker.url).await;
    for part in [&*bed.exchange, "ours: topic, transient", "topology=oslo&amqp_durable_queues=true"] {
        assert!(reason.contains(part), "{part} in: {reason}");
    }
    // With the matching option it works.
    let url = format!("{}?topology=oslo&amqp_durable_queues=true", bed.broker.url);
    let transport = bed.transport(&url, "ours durable").await;
    let consumer = consume(&transport, topic_of(&bed)).await;
    active(&*consumer).await;
    drop(consumer);
    channel.exchange_delete(name(), ExchangeDeleteOptions::default()).await.expect("gone again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_topic_on_two_exchanges_is_one_queue() {
    let Some(bed) = bed::shared("two exchanges").await else { return };
    let ours = bed.serve("s1").await;
    // Somebody serves the same topic on an exchange of its own: the queue, named by the topic alone, is fed by both.
    let exchange = bed.broker.unique("other");
    let other = json!({"target": {"exchange": exchange}});
    let transport = bed.transport(&bed.our_url(), "other").await;
    let queue = QueueKind::Topic { exchange, topic: bed.topic.clone() };
    transport.declare(queue, bed::soon()).await.expect("bound");
    assert_eq!(bed.call("echo", json!({"a": 1}), other).await.expect("delivered across"), json!({"a": 1}));
    assert_eq!(ours.count("dispatched"), 1);
}
