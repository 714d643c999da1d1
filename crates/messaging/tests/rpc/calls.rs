//! Calls and casts, from the caller's side.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::{CallOptions, RpcError, Target, TransportError, Version};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn results_arrive_as_they_were_given() {
    let Rig { server, client, .. } = Rig::new().await;
    for value in [json!({"x": null}), json!({"é": [1, "\u{1f980}", {"a": -0.5}]}), json!({})] {
        assert_eq!(call(&client, "echo", value.clone(), 5).await.unwrap(), value);
    }
    assert_eq!(call(&client, "work", json!({}), 5).await.unwrap(), Value::Null, "null is a result");
    assert_eq!(server.counters().get("replies"), 4);
}

#[tokio::test(start_paused = true)]
async fn remote_errors_are_typed() {
    let Rig { server, client, .. } = Rig::new().await;
    let of = async |target: Target, method: &str, args: Value| match client
        .call::<Value>(&target, method, &args, CallOptions::default())
        .await
    {
        Err(RpcError::Remote { source, .. }) => *source,
        other => panic!("{method}: {other:?}"),
    };
    let refused = of(target(), "refuse", json!({})).await;
    assert_eq!((&*refused.class, &*refused.module), ("NoValidHost", "nova.exception"));
    assert_eq!(refused.kwargs["code"], 500);
    for (target, method, args, class, counter) in [
        (target(), "fly", json!({}), "NoSuchMethod", "no_such_method"),
        (
            target().version(Version::new(1, 4)),
            "echo",
            json!({}),
            "UnsupportedVersion",
            "unsupported_version",
        ),
        (target().namespace("other"), "echo", json!({}), "UnsupportedVersion", "unsupported_version"),
        (target(), "work", json!({"seconds": "two"}), "TypeError", "bad_arguments"),
        (target(), "panic", json!({}), "InternalError", "panics"),
    ] {
        let before = server.counters().get(counter);
        assert_eq!(of(target, method, args).await.class, class, "{method}");
        assert_eq!(server.counters().get(counter), before + 1, "{counter}");
    }
    assert_eq!(call(&client, "echo", json!({"still": "here"}), 5).await.unwrap()["still"], "here");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_answer_ends_at_its_timeout() {
    let Rig { broker, worker, server, client } = Rig::new().await;
    assert!(server.shutdown(Instant::now() + SECOND).await);
    drop(server);
    let started = Instant::now();
    let error = call(&client, "work", json!({"name": "expired"}), 2).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { .. }), "{error}");
    assert_eq!(started.elapsed(), 2 * SECOND);
    tokio::time::advance(SECOND).await;
    let _server = serve(&broker, "server", &worker).await;
    cast(&client, "work", json!({"name": "after"})).await;
    until(|| !worker.log().is_empty()).await;
    assert_eq!(worker.log(), ["after"], "the request expired with its call");
}

#[tokio::test(start_paused = true)]
async fn a_mandatory_call_fails_at_once_if_nobody_listens() {
    let broker = broker();
    let client = client(&broker, "client");
    let started = Instant::now();
    let options = CallOptions { mandatory: true, ..CallOptions::default() };
    let error = client.call::<Value>(&target().server("h"), "echo", &json!({}), options).await.unwrap_err();
    assert!(matches!(error, RpcError::Send { source: TransportError::Unroutable { .. }, .. }), "{error}");
    assert_eq!(error.to_string(), "could not send echo to scheduler.h");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_refused_here_is_not_sent() {
    let broker = broker();
    let client = client(&broker, "client");
    let fanout = client.call::<Value>(&target().fanout(), "echo", &json!({}), CallOptions::default()).await;
    assert!(
        matches!(fanout, Err(RpcError::Send { source: TransportError::Refused { .. }, .. })),
        "{fanout:?}"
    );
    let list = client.cast(&target(), "echo", &[1, 2], SECOND).await;
    assert!(matches!(list, Err(RpcError::Malformed { what: "an argument", .. })), "{list:?}");
    let large = client.cast(&target(), "echo", &json!({"x": "y".repeat(17 << 20)}), SECOND).await;
    assert!(matches!(large, Err(RpcError::Send { source: TransportError::Refused { .. }, .. })));
    client.cast(&target(), "echo", &(), SECOND).await.expect("no arguments are an empty object");
    client.cast(&target().fanout(), "echo", &(), SECOND).await.expect("no one needs to listen");
    assert!(broker.queues().is_empty(), "no call, no reply queue");
}

#[tokio::test(start_paused = true)]
async fn late_answers_are_dropped() {
    let Rig { broker, server: _server, client, .. } = Rig::new().await;
    let error = call(&client, "work", json!({"seconds": 5}), 2).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { .. }));
    tokio::time::sleep(4 * SECOND).await;
    let queue = broker.queues().into_iter().find(|name| name.starts_with("reply_")).expect("a reply queue");
    assert_eq!(broker.depth(&queue), Some(0), "the late answer was taken");
    assert_eq!(call(&client, "echo", json!({"a": 1}), 2).await.unwrap()["a"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_monitored_call_lives_while_its_server_does() {
    let Rig { broker, server, client, .. } = Rig::new().await;
    let monitored = |timeout| CallOptions { timeout, monitor: Some(2 * SECOND), mandatory: false };
    let five = json!({"seconds": 5});
    let result = client.call::<Value>(&target(), "work", &five, monitored(20 * SECOND)).await;
    assert_eq!(result.unwrap(), Value::Null);
    assert_eq!(server.counters().get("heartbeats"), 4, "one each second, none after the answer");

    let started = Instant::now();
    let error = client.call::<Value>(&target(), "work", &five, monitored(3 * SECOND)).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { waited, .. } if waited == 3 * SECOND), "{error}");
    assert_eq!(started.elapsed(), 3 * SECOND, "heartbeats do not extend the whole");

    let started = Instant::now();
    let broken = async {
        client.call::<Value>(&target(), "work", &json!({"seconds": 500}), monitored(900 * SECOND)).await
    };
    let killer = async {
        tokio::time::sleep(10 * SECOND).await;
        broker.kill("server");
    };
    let (broken, ()) = tokio::join!(broken, killer);
    assert!(matches!(broken, Err(RpcError::Timeout { waited, .. }) if waited == 2 * SECOND), "{broken:?}");
    assert!(started.elapsed() <= 13 * SECOND, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_monitor_there_are_no_heartbeats() {
    let Rig { server, client, .. } = Rig::new().await;
    call(&client, "work", json!({"seconds": 50}), 60).await.unwrap();
    assert_eq!(server.counters().get("heartbeats"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_its_connection_and_says_so_in_the_end() {
    let Rig { broker, server: _server, client, .. } = Rig::new().await;
    broker.partition("client", true);
    let error = call(&client, "echo", json!({}), 3).await.unwrap_err();
    let RpcError::Send { source: TransportError::Unreachable { last_error, .. }, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(last_error, "memory: partitioned");
    let heal = async {
        tokio::time::sleep(SECOND).await;
        broker.partition("client", false);
    };
    let (result, ()) = tokio::join!(call(&client, "echo", json!({"a": 1}), 3), heal);
    assert_eq!(result.unwrap()["a"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_survives_its_connection() {
    let Rig { broker, worker, server, client } = Rig::new().await;
    let breaks = async {
        tokio::time::sleep(SECOND).await;
        broker.partition("client", true);
        tokio::time::sleep(10 * SECOND).await;
        broker.partition("client", false);
    };
    // The answer comes while the caller is away, and the server tries until the queue exists again.
    let (result, ()) = tokio::join!(call(&client, "work", json!({"seconds": 3}), 30), breaks);
    assert_eq!(result.unwrap(), Value::Null);
    assert_eq!((worker.log().len(), server.counters().get("replies")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_result_of_another_type_is_malformed() {
    let Rig { server: _server, client, .. } = Rig::new().await;
    let a_map = json!({"a": 1});
    let error = client.call::<u32>(&target(), "echo", &a_map, CallOptions::default()).await.unwrap_err();
    assert!(matches!(error, RpcError::Malformed { what: "the result", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_question_to_all_collects_every_answer_and_ends_when_it_is_quiet() {
    let broker = broker();
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        let server = serve(&broker, name, &Arc::default()).await;
        active(server.listen(fanout_queue()).await.unwrap()).await;
        servers.push(server);
    }
    let client = client(&broker, "client");
    let ask = async |method: &str, args: Value| {
        client.gather::<Value>(&target(), method, &args, CallOptions::new(10 * SECOND), SECOND).await
    };
    let began = Instant::now();
    let answers = ask("echo", json!({"x": 1})).await.unwrap();
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), vec![json!({"x": 1}); 3]);
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    let refused = ask("refuse", json!({})).await.unwrap();
    assert_eq!(refused.iter().filter(|a| matches!(a, Err(RpcError::Remote { .. }))).count(), 3);

    // Slow servers are waited for as long as none has answered.
    let slow = ask("work", json!({"seconds": 4.0})).await.unwrap();
    assert_eq!(slow.len(), 3);
    let began = Instant::now();
    let silent = ask("work", json!({"seconds": 60.0})).await;
    assert!(matches!(silent, Err(RpcError::Timeout { .. })), "{silent:?}");
    assert_eq!(began.elapsed(), 10 * SECOND);
}
