//! Messages that are not requests. The server must go on serving.

use std::sync::Arc;

use novella_messaging::{
    Authority, Destination, FORBIDDEN, MethodClass, Outgoing, RpcClient, RpcError, ServerOptions,
};
use serde_json::json;

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn nothing_a_peer_sends_stops_the_server() {
    let Rig { broker, server, .. } = Rig::new().await;
    broker.limit_message_size(64 << 20);
    let mut peer = Peer::new(&broker).await;
    let deep = "[".repeat(5000);
    let nan = r#"{"method": "echo", "args": {"x": NaN}, "_msg_id": "m1", "_reply_q": "reply_peer"}"#;
    for (body, counter) in [
        (b"not json".to_vec(), "malformed_json"),
        (b"\xff\xfe".to_vec(), "malformed_json"),
        ([b"\xef\xbb\xbf", &*sealed(json!({"method": "echo"}))].concat(), "malformed_json"),
        (deep.clone().into_bytes(), "malformed_json"),
        (sealed_text(&deep), "malformed_json"),
        (b"[]".to_vec(), "malformed_envelope"),
        (json!({"oslo.version": "3.0", "oslo.message": "{}"}).to_string().into_bytes(), "malformed_envelope"),
        (json!({"oslo.version": "2.0", "oslo.message": {}}).to_string().into_bytes(), "malformed_envelope"),
        (sealed_text("[]"), "malformed_envelope"),
        (b"".to_vec(), "malformed_request"),
        (sealed(json!({"method": "fly"})), "no_such_method"),
        (sealed(json!({"method": "echo", "version": "9.0"})), "unsupported_version"),
        (sealed(json!({"method": "work", "args": {"seconds": []}})), "bad_arguments"),
        (sealed_text(r#"{"method": "echo", "args": {"s": "\ud800"}}"#), "bad_arguments"),
        (
            sealed_text(&format!(r#"{{"method": "echo", "args": {{"d": {deep}{}}}}}"#, "]".repeat(5000))),
            "bad_arguments",
        ),
        (vec![b'x'; 20 << 20], "malformed_too_large"),
        (sealed_text(nan), "malformed_json"),
    ] {
        let before = server.counters().get(counter);
        peer.send(body).await;
        until(|| server.counters().get(counter) == before + 1).await;
    }
    let told = peer.failure().await;
    assert_eq!(
        (&told["class"], &told["module"]),
        (&json!("ValueError"), &json!("builtins")),
        "whoever can be found hears it"
    );
    peer.hears_nothing_for(SECOND).await;
    peer.call("echo", json!({"args": {"still": "here"}})).await;
    assert_eq!(peer.answer().await["result"]["still"], "here");
    assert_eq!(broker.depth("scheduler"), Some(0));
    // All of them were settled, so another server on the queue gets none of them.
    broker.kill("server");
    let worker: Arc<Worker> = Arc::default();
    let second = serve(&broker, "second", &worker).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(second.counters().get("received"), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_dispatched_are_answered() {
    let Rig { broker, server, .. } = Rig::new().await;
    let mut peer = Peer::new(&broker).await;
    for (more, class) in [
        (json!({"method": null}), "TypeError"),
        (json!({"args": null}), "AttributeError"),
        (json!({"version": "x"}), "ValueError"),
        (json!({"version": null}), "UnsupportedVersion"),
        (json!({"method": "_private"}), "NoSuchMethod"),
    ] {
        peer.call("echo", more.clone()).await;
        assert_eq!(peer.failure().await["class"], class, "{more}");
    }
    assert_eq!(server.counters().get("malformed_request"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_monitored_call_that_fails_at_once_has_no_heartbeats() {
    let Rig { broker, server: _server, .. } = Rig::new().await;
    let mut peer = Peer::new(&broker).await;
    for (method, timeout) in
        [("fly", json!(2)), ("refuse", json!(2)), ("echo", json!([1])), ("echo", json!(1e300))]
    {
        peer.call(method, json!({"_timeout": timeout})).await;
        assert_eq!(peer.answer().await["ending"], true);
    }
    peer.hears_nothing_for(10 * SECOND).await;
}

/// A server on which only `boss` may work. Everybody may read.
fn only_the_boss_may_work() -> ServerOptions {
    let lists = Authority::default().list(MethodClass::Place, "rpc.place", &["boss".to_owned()]);
    ServerOptions { authority: Arc::new(lists), ..ServerOptions::new([7; 32]) }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_call_a_method_is_told_so_and_a_cast_is_dropped() {
    let broker = broker();
    let worker: Arc<Worker> = Arc::default();
    let server = serve_with(&broker, "server", &worker, only_the_boss_may_work()).await;
    let intruder = client(&broker, "intruder");
    cast(&intruder, "work", json!({"name": "evil"})).await;
    let refused = call(&intruder, "work", json!({"name": "evil"}), 5).await.unwrap_err();
    let RpcError::Remote { source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((&*source.module, &*source.class), ("novella", FORBIDDEN));
    assert_eq!(
        source.message,
        "the broker user intruder may not call work: that is for the users in rpc.place (class place)"
    );
    assert_eq!(json!(source.kwargs), json!({"user": "intruder", "class": "place", "setting": "rpc.place"}));
    let nobody = RpcClient::new(broker.connect_anonymously("nobody"), [3; 32]);
    let refused = call(&nobody, "work", json!({"name": "evil"}), 5).await.unwrap_err();
    let RpcError::Remote { source, .. } = refused else { panic!("{refused:?}") };
    assert!(source.message.starts_with("the broker user anonymous may not call work"), "{source}");
    assert_eq!(server.counters().get("rejected_user"), 3);

    let boss = RpcClient::new(broker.connect_as("any", "boss"), [2; 32]);
    cast(&boss, "work", json!({"name": "good"})).await;
    // A client takes answers of any user, and a method of another class is for everybody.
    for client in [&boss, &intruder, &nobody] {
        assert_eq!(call(client, "echo", json!({"a": 1}), 5).await.unwrap()["a"], 1);
    }
    assert_eq!(worker.log(), ["good"]);
    assert_eq!(server.counters().get("rejected_user"), 3);
    assert_eq!(broker.depth("scheduler"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_copy_of_a_message_does_not_keep_the_real_one_out() {
    let broker = broker();
    let worker: Arc<Worker> = Arc::default();
    let _server = serve_with(&broker, "server", &worker, only_the_boss_may_work()).await;
    let message = sealed(json!({"method": "work", "args": {"name": "good"}, "_unique_id": "known"}));
    for user in ["intruder", "boss"] {
        let transport = broker.connect_as(user, user);
        let destination = Destination::Queue { name: "scheduler".into() };
        let deadline = tokio::time::Instant::now() + SECOND;
        let body = message.clone().into();
        let copy = Outgoing { destination, body, expiration: None, mandatory: true, deadline };
        transport.publish(copy).await.unwrap();
    }
    until(|| worker.log() == ["good"]).await;
}
