//! Answers in the forms that other implementations send, and answers whose queue is missing.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::{
    CallOptions, Destination, QueueKind, RpcError, ServerOptions, Subscription, Transport,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::*;

/// Answers the next request with these inner messages, `$id` being its `_msg_id`.
async fn answer_by_hand(transport: Arc<dyn Transport>, peer: &Peer, messages: &[&str]) {
    let mut queue = transport.consume(Subscription { queue: topic(), prefetch: 10 }).await.unwrap();
    let request = next_inner(&mut queue).await;
    for inner in messages {
        let inner = inner.replace("$id", request["_msg_id"].as_str().unwrap());
        let queue = Destination::Queue { name: request["_reply_q"].as_str().unwrap().into() };
        peer.send_to(queue, sealed_text(&inner)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_other_makes_are_understood() {
    let broker = broker();
    let peer = Peer::new(&broker).await;
    let client = client(&broker, "client");
    let ask = async |messages: &[&str]| {
        let answering = answer_by_hand(broker.connect("s"), &peer, messages);
        tokio::join!(answering, call(&client, "m", json!({}), 5)).1
    };
    for (messages, result) in [
        (
            &[r#"{"_msg_id": "$id", "result": 1, "failure": null}"#, r#"{"_msg_id": "$id", "ending": true}"#]
                [..],
            json!(1),
        ),
        (&[r#"{"_msg_id": "$id", "failure": null, "ending": true}"#], json!(null)),
        (
            &[
                r#"{"_msg_id": "other", "result": 1, "ending": true}"#,
                r#"{"_msg_id": "$id", "result": 2, "ending": true}"#,
            ],
            json!(2),
        ),
        (
            &[
                r#"{"_msg_id": "$id", "result": 3, "ending": true}"#,
                r#"{"_msg_id": "$id", "result": 4, "ending": true}"#,
            ],
            json!(3),
        ),
    ] {
        assert_eq!(ask(messages).await.unwrap(), result, "{messages:?}");
    }
    let failed =
        r#"{"_msg_id": "$id", "failure": "{\"class\": \"ValueError\", \"module\": \"exceptions\"}"}"#;
    let got = ask(&[failed]).await;
    assert!(matches!(got, Err(RpcError::Remote { source, .. }) if source.module == "builtins"));
    let started = Instant::now();
    let got = ask(&[r#"{"result": NaN, "_msg_id": "$id", "_reply_q": "-"}"#]).await;
    assert!(got.is_err() && started.elapsed() <= 5 * SECOND, "{got:?}");
    assert_eq!(
        call(&client, "m", json!({}), 1).await.unwrap_err().to_string(),
        "no answer to m from scheduler within 1s"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_queue() {
    let Rig { broker, server, .. } = Rig::new().await;
    let mut peer = Peer::new(&broker).await;
    peer.call("echo", json!({"args": {"n": 1}, "_reply_q": "reply_later"})).await;
    tokio::time::sleep(5 * SECOND).await;
    let queue = QueueKind::Reply { name: "reply_later".into() };
    let mut late = peer.transport.consume(Subscription { queue, prefetch: 1 }).await.unwrap();
    assert_eq!(next_inner(&mut late).await["result"], json!({"n": 1}));
    assert_eq!(server.counters().get("replies"), 1);
    peer.hears_nothing_for(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stays_missing_is_remembered_for_a_while() {
    let broker = broker();
    let options = ServerOptions { concurrency: 1, ..ServerOptions::new([7; 32]) };
    let server = serve_with(&broker, "server", &Arc::default(), options).await;
    let mut peer = Peer::new(&broker).await;
    peer.call("echo", json!({"_reply_q": "reply_dead"})).await;
    peer.call("echo", json!({})).await;
    let started = Instant::now();
    peer.answer().await;
    assert!(started.elapsed() < SECOND, "an answer that waits keeps no request from work");
    until(|| server.counters().get("replies_unroutable") == 1).await;
    let given_up = started.elapsed();
    assert!((59 * SECOND..=61 * SECOND).contains(&given_up), "{given_up:?}");
    peer.call("echo", json!({"_reply_q": "reply_dead"})).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.counters().get("replies_unroutable"), 2, "dropped at once");
    tokio::time::sleep(60 * SECOND).await;
    peer.call("echo", json!({"_reply_q": "reply_dead"})).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(server.counters().get("replies_unroutable"), 2, "forgotten, and tried anew");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_queue_is_counted() {
    let Rig { broker, server, .. } = Rig::new().await;
    let mut peer = Peer::new(&broker).await;
    peer.call("echo", json!({"_reply_q": null})).await;
    peer.call("echo", json!({"_reply_q": "q".repeat(256)})).await;
    peer.call("echo", json!({"_msg_id": [1, {"a": null}]})).await;
    assert_eq!(peer.answer().await["_msg_id"], json!([1, {"a": null}]), "any id is echoed");
    assert_eq!(server.counters().get("replies_without_queue"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_becomes_a_failure() {
    let Rig { broker, server, client, .. } = Rig::new().await;
    let too_large = call(&client, "large", json!({}), 5).await;
    assert!(
        matches!(too_large, Err(RpcError::Remote { source, .. }) if source.message.contains("too large"))
    );
    let data = json!({"x": "y".repeat(1000)});
    let fill = client.call::<Value>(&target(), "echo", &data, CallOptions::default()).await;
    assert_eq!(fill.unwrap(), data);
    let mut peer = Peer::new(&broker).await;
    // An answer is longer than its request, because it has a failure and an ending.
    let mut inner = json!({"method": "echo", "args": data, "_msg_id": "m1", "_reply_q": "reply_peer"});
    inner["args"]["x"] = json!("\"".repeat(1000));
    let body = sealed(inner);
    broker.limit_message_size(body.len());
    peer.send(body).await;
    let failure = peer.answer().await;
    assert!(
        failure["failure"].is_null()
            || failure["failure"].as_str().unwrap().contains("the broker refused it")
    );
    assert_eq!(server.counters().get("replies"), 3);
}
