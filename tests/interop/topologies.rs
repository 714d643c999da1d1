//! Who can share a broker with whom: oslo.messaging servers on our topic, other exchanges, and what is said when the
//! shapes differ.

use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use novella_messaging::{ConsumerState, QueueKind, ServerOptions, Transport};
use serde_json::json;

use crate::bed::{self, Bed};
use crate::raw::Raw;
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
    let serve = async || bed.serve_as(&ours_at, "s1", ServerOptions::new([0; 32])).await;
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
    has(&reason, &[&*bed.topic, "PRECONDITION_FAILED", "ours: durable", "`topology=oslo`"]);
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
    has(&reason, &[&*bed.exchange, "ours: topic, transient", "topology=oslo&amqp_durable_queues=true"]);
    // With the matching option it works.
    let url = format!("{}?topology=oslo&amqp_durable_queues=true", bed.broker.url);
    let transport = bed.transport(&url, "ours durable").await;
    drop(consuming(&transport, topic_of(&bed)).await);
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

/// A queue that somebody else has made.
#[derive(Clone, Copy, Default)]
struct Made {
    durable: bool,
    auto_delete: bool,
    arguments: &'static [(&'static str, i32)],
    quorum: bool,
}

impl Made {
    async fn make(self, channel: &lapin::Channel, queue: &str) {
        let mut arguments = FieldTable::default();
        if self.quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        for (key, value) in self.arguments {
            arguments.insert((*key).into(), AMQPValue::LongInt(*value));
        }
        let Self { durable, auto_delete, .. } = self;
        let options = QueueDeclareOptions { durable, auto_delete, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, arguments).await.expect("made");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_difference_in_shape_is_told_with_the_option_that_mends_it() {
    let Some(bed) = bed::shared("other shapes").await else { return };
    let channel = bed.broker.bare().await;
    let durable = Made { durable: true, ..Made::default() };
    let quorum = Made { quorum: true, ..durable };
    let mut exchanges = Vec::new();
    for (number, (made, ours, fix, mended)) in [
        (Made::default(), "", "add `topology=oslo`", "topology=oslo"),
        (
            Made::default(),
            "topology=oslo&amqp_durable_queues=true",
            "leave `amqp_durable_queues` out",
            "topology=oslo",
        ),
        (
            Made { auto_delete: true, ..Made::default() },
            "topology=oslo",
            "add `amqp_auto_delete=true`",
            "topology=oslo&amqp_auto_delete=true",
        ),
        (
            durable,
            "topology=oslo",
            "add `amqp_durable_queues=true`",
            "topology=oslo&amqp_durable_queues=true",
        ),
        (
            quorum,
            "",
            "add `topology=oslo&rabbit_quorum_queue=true`",
            "topology=oslo&rabbit_quorum_queue=true",
        ),
        (
            durable,
            "topology=oslo&rabbit_quorum_queue=true",
            "leave `rabbit_quorum_queue` out",
            "topology=oslo&amqp_durable_queues=true",
        ),
        (
            Made { arguments: &[("x-delivery-limit", 5)], ..quorum },
            "topology=oslo&rabbit_quorum_queue=true",
            "add `rabbit_quorum_delivery_limit=5`",
            "topology=oslo&rabbit_quorum_queue=true&rabbit_quorum_delivery_limit=5",
        ),
        (
            Made { arguments: &[("x-max-in-memory-length", 9)], ..quorum },
            "topology=oslo&rabbit_quorum_queue=true",
            "add `rabbit_quorum_max_memory_length=9`",
            "topology=oslo&rabbit_quorum_queue=true&rabbit_quorum_max_memory_length=9",
        ),
        (
            Made { arguments: &[("x-max-in-memory-bytes", 9)], ..quorum },
            "topology=oslo&rabbit_quorum_queue=true",
            "add `rabbit_quorum_max_memory_bytes=9`",
            "topology=oslo&rabbit_quorum_queue=true&rabbit_quorum_max_memory_bytes=9",
        ),
        (
            Made { arguments: &[("x-max-length", 9)], ..durable },
            "topology=oslo&amqp_durable_queues=true",
            "none of our options has",
            "",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        if bed.denies && !made.durable {
            continue; // nobody can make it there
        }
        let queue = bed.broker.unique(&format!("shape-{number}"));
        made.make(&channel, &queue).await;
        // Its exchange is new each time: what a refused attempt has made has the wrong shape too.
        let mut topic = async |query: &str| {
            let exchange = format!("{}-{number}-{}", bed.exchange, exchanges.len());
            exchanges.push(exchange.clone());
            let kind = QueueKind::Topic { exchange, topic: queue.clone() };
            let url = format!("{}?{query}", bed.broker.url);
            let transport = bed.transport(&url, "ours").await;
            (consume(&transport, kind).await, transport)
        };
        let (consumer, _transport) = topic(ours).await;
        let failed = reaches(&*consumer, |state| matches!(state, ConsumerState::Failed { .. })).await;
        let ConsumerState::Failed { reason } = failed else { unreachable!("waited for Failed") };
        assert!(reason.contains(fix) && reason.contains(&queue), "{number}: {fix} in: {reason}");
        assert!(!reason.contains('\n') && reason.contains("PRECONDITION_FAILED"), "{reason}");
        if !mended.is_empty() {
            let (consumer, _transport) = topic(mended).await;
            active(&*consumer).await;
        }
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    }
    for exchange in exchanges {
        // An auto-delete one is gone by itself.
        drop(channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetch_and_direct_mandatory_flag_mean_what_they_mean_to_oslo() {
    let Some(bed) = bed::shared("prefetch").await else { return };
    let url = bed.our_url();
    let mark = if url.contains('?') { '&' } else { '?' };
    let options =
        ServerOptions { reply_retry: std::time::Duration::from_secs(30), ..ServerOptions::new([0; 32]) };
    let url = format!("{url}{mark}rabbit_qos_prefetch_count=3&direct_mandatory_flag=false");
    let ours = bed.serve_as(&url, "s1", options).await;
    let listed = bed.broker.ctl(&["ctl", "list_consumers", "queue_name", "prefetch_count", "--silent"]);
    let rows: Vec<_> = listed.lines().filter(|line| line.starts_with(&bed.topic)).collect();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.ends_with("\t3")), "{listed}");
    assert_eq!(bed.call("echo", json!({"a": 1}), json!({})).await.expect("served"), json!({"a": 1}));
    // An answer whose queue is missing does not come back, and nobody tries again.
    let mut raw = Raw::new(&bed).await;
    let request = raw.call("echo", json!({}), json!({"_reply_q": bed.broker.unique("missing")}));
    raw.publish(&bed, &request.to_string()).await;
    ours.counted("replies", 2).await;
    assert_eq!(ours.count("replies_unroutable"), 0);
}
