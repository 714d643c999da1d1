//! A broker that misbehaves, and seeded runs that are equal each time.

use std::sync::Arc;
use std::time::Duration;

use novella_messaging::in_process::{InProcessBroker, InProcessOptions};
use novella_messaging::{RpcClient, RpcError, RpcServer, ServerOptions, TransportError};
use serde_json::json;
use tokio::time::Instant;

use crate::rig::*;

fn faulty(loss: f64, duplicate: f64, seed: u8) -> Arc<InProcessBroker> {
    let (min_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(80));
    InProcessBroker::new(InProcessOptions { seed: [seed; 32], min_delay, max_delay, loss, duplicate })
}

/// What happened in a run of four callers against two servers over a bad broker.
async fn story(seed: u8) -> Vec<String> {
    let broker = faulty(0.1, 0.2, seed);
    let workers: [Arc<Worker>; 2] = Default::default();
    let _one = serve(&broker, "one", &workers[0]).await;
    let _two = serve(&broker, "two", &workers[1]).await;
    let started = Instant::now();
    let callers = (0..4_u8).map(|caller| {
        let client = RpcClient::new(broker.connect(&caller.to_string()), [caller; 32]);
        async move {
            let mut log = Vec::new();
            for n in 0..25 {
                let outcome = call(&client, "work", json!({"name": format!("{caller}/{n}")}), 2).await;
                log.push(format!("{:?} {caller}/{n} {outcome:?}", started.elapsed()));
            }
            log
        }
    });
    let cuts = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            broker.partition("one", true);
            broker.partition("2", true);
            tokio::time::sleep(Duration::from_millis(300)).await;
            broker.partition("one", false);
            broker.partition("2", false);
        }
    };
    let (told, ()) = tokio::join!(futures_util::future::join_all(callers), cuts);
    let mut story = told.concat();
    story.extend(workers.iter().flat_map(|worker| worker.log()));
    story
}

#[test]
fn one_seed_tells_one_story() {
    let tell = |seed| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(story(seed))
    };
    let first = tell(3);
    assert!(first.iter().any(|line| line.contains("Timeout")), "faults show: {first:?}");
    assert!(first.iter().any(|line| line.contains("Ok(")));
    assert_eq!(first, tell(3));
    assert_ne!(first, tell(4));
}

#[tokio::test(start_paused = true)]
async fn doubled_messages_are_executed_once() {
    let Rig { worker, server, client, .. } = Rig::on(faulty(0.0, 1.0, 1)).await;
    for n in 0..20 {
        call(&client, "work", json!({"name": n.to_string()}), 5).await.unwrap();
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!((worker.log().len(), server.counters().get("duplicates")), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn lost_messages_are_a_timeout_or_an_error_never_a_hang() {
    let Rig { worker, server: _server, client, .. } = Rig::on(faulty(1.0, 0.0, 1)).await;
    let (mut unconfirmed, started) = (0, Instant::now());
    for _ in 0..20 {
        match client.cast(&target(), "work", &json!({}), SECOND).await {
            Ok(()) => {}
            Err(RpcError::Send { source: TransportError::Unconfirmed { .. }, .. }) => unconfirmed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..20).contains(&unconfirmed), "{unconfirmed}");
    assert!(started.elapsed() <= 21 * SECOND);
    let error = call(&client, "work", json!({}), 3).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { .. }), "{error}");
    assert!(worker.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_is_sent_again_when_its_connection_broke_before_the_confirm() {
    let (min_delay, max_delay) = (2 * SECOND, 2 * SECOND);
    let broker = InProcessBroker::new(InProcessOptions { min_delay, max_delay, ..Default::default() });
    let Rig { broker, worker, server, client } = Rig::on(broker).await;
    let cut = async {
        tokio::time::sleep(SECOND).await;
        broker.partition("client", true);
        tokio::time::sleep(3 * SECOND).await;
        broker.partition("client", false);
    };
    let (result, ()) = tokio::join!(call(&client, "work", json!({"name": "once"}), 30), cut);
    result.unwrap();
    assert_eq!(worker.log(), ["once"]);
    assert_eq!(server.counters().get("duplicates"), 0);

    let cut = async {
        tokio::time::sleep(SECOND).await;
        broker.partition("client", true);
        broker.partition("client", false);
    };
    let cast = async { client.cast(&target(), "work", &json!({}), 30 * SECOND).await };
    let (cast, ()) = tokio::join!(cast, cut);
    assert!(
        matches!(cast, Err(RpcError::Send { source: TransportError::Unconfirmed { .. }, .. })),
        "{cast:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn everyone_is_back_after_a_broker_restart() {
    let Rig { broker, server: _server, client, .. } = Rig::new().await;
    call(&client, "echo", json!({}), 5).await.unwrap();
    let queues = broker.queues();
    let restart = async {
        tokio::time::sleep(SECOND).await;
        broker.stop();
        tokio::time::sleep(3 * SECOND).await;
        broker.start();
    };
    let (in_flight, ()) = tokio::join!(call(&client, "work", json!({"seconds": 2}), 30), restart);
    in_flight.expect("answered when both are back");
    assert_eq!(broker.queues(), queues, "the reply queue has its name again");
    call(&client, "echo", json!({}), 5).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_blocked_broker_is_waited_for() {
    let Rig { broker, worker, server: _server, .. } = Rig::new().await;
    let transport = broker.connect("client");
    let client = RpcClient::new(transport.clone(), [1; 32]);
    broker.block(Some("low on memory"));
    let said = transport.state().borrow().to_string();
    assert_eq!(said, "the broker memory accepts no messages: low on memory");
    let error = client.cast(&target(), "work", &json!({}), SECOND).await.unwrap_err();
    assert!(
        matches!(&error, RpcError::Send { source: TransportError::Blocked { reason, .. }, .. }
        if reason == "low on memory"),
        "{error:?}"
    );
    let call = call(&client, "echo", json!({}), 1).await.unwrap_err();
    assert!(
        matches!(&call, RpcError::Send { source: TransportError::Blocked { .. }, .. }),
        "no plain timeout: {call:?}"
    );
    let unblock = async {
        tokio::time::sleep(SECOND).await;
        broker.block(None);
    };
    let later = json!({"name": "later"});
    let (cast, ()) =
        tokio::join!(async { client.cast(&target(), "work", &later, 5 * SECOND).await }, unblock);
    cast.unwrap();
    until(|| worker.log() == ["later"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_queue_is_declared_anew() {
    let Rig { broker, worker, server: _server, client } = Rig::new().await;
    broker.delete_queue("scheduler");
    assert_eq!(broker.depth("scheduler"), Some(0));
    cast(&client, "work", json!({"name": "x"})).await;
    until(|| worker.log() == ["x"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_agents_queue_is_free_and_its_callers_are_told() {
    let broker = broker();
    let worker: Arc<Worker> = Arc::default();
    let server = RpcServer::new(broker.connect("agent"), ServerOptions::new([7; 32])).endpoint(worker);
    active(server.listen(agent_queue()).await.unwrap()).await;
    broker.kill("agent");
    assert_eq!(broker.depth("compute.h"), None);
    let error = server.listen(topic()).await.unwrap_err();
    assert!(matches!(error, TransportError::Closed));
}
