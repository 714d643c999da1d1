//! Acknowledgements, copies, batches, bounds and the end of a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use novella_messaging::{BUSY, CallOptions, Destination, Driver, RpcError, RpcServer, ServerOptions, Target};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn a_request_is_acknowledged_before_its_work() {
    let broker = broker();
    let (first, second): (Arc<Worker>, Arc<Worker>) = Default::default();
    let server = serve(&broker, "first", &first).await;
    let client = client(&broker, "client");
    cast(&client, "work", json!({"name": "lost", "seconds": 5})).await;
    until(|| !first.log().is_empty()).await;
    broker.kill("first");
    drop(server);
    let _server = serve(&broker, "second", &second).await;
    cast(&client, "work", json!({"name": "next"})).await;
    until(|| !second.log().is_empty()).await;
    assert_eq!(second.log(), ["next"], "a request never runs twice");
}

#[tokio::test(start_paused = true)]
async fn copies_are_suppressed() {
    let broker = broker();
    let worker: Arc<Worker> = Arc::default();
    let options = ServerOptions { remembered: 16, ..ServerOptions::new([7; 32]) };
    let server = serve_with(&broker, "server", &worker, options).await;
    let peer = Peer::new(&broker).await;
    let send = async |id: &str| peer.cast("work", json!({"_unique_id": id, "args": {"name": id}})).await;
    send("a").await;
    send("a").await;
    for n in 0..15 {
        send(&n.to_string()).await;
    }
    send("a").await;
    until(|| worker.log().len() == 16).await;
    assert_eq!(server.counters().get("duplicates"), 2);
    send("15").await;
    send("a").await;
    until(|| worker.log().len() == 18).await;
    assert_eq!(worker.log()[17], "a", "sixteen others made it forgotten");
    peer.cast("work", json!({})).await;
    peer.cast("work", json!({})).await;
    until(|| worker.log().len() == 20).await;
}

#[tokio::test(start_paused = true)]
async fn work_at_once_is_bounded_and_the_rest_waits_in_the_queue() {
    let broker = broker();
    let worker: Arc<Worker> = Arc::default();
    let options = ServerOptions { concurrency: 3, prefetch: 5, ..ServerOptions::new([7; 32]) };
    let _server = serve_with(&broker, "server", &worker, options).await;
    let client = client(&broker, "client");
    for _ in 0..20 {
        cast(&client, "work", json!({"seconds": 1})).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(worker.log().len(), 3);
    assert!(broker.depth("scheduler").unwrap() >= 12, "{:?}", broker.depth("scheduler"));
    until(|| worker.log().len() == 20).await;
    assert_eq!(worker.most_at_once.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_few_long_questions_are_answered_at_a_time_and_the_others_wait_their_turn() {
    let (broker, worker) = (broker(), Arc::default());
    let _server = serve(&broker, "server", &worker).await;
    let client = client(&broker, "client");
    let began = Instant::now();
    let asked = (0..20).map(|n| call(&client, "ponder", json!({"name": n.to_string(), "seconds": 1}), 60));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(worker.most_at_once.load(Ordering::SeqCst), 2);
    assert_eq!(began.elapsed().as_secs(), 10);
    let in_order: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(worker.log(), in_order);
}

#[tokio::test(start_paused = true)]
async fn no_number_of_questions_delays_another_request() {
    for question in ["ponder", "wait"] {
        let (broker, worker): (_, Arc<Worker>) = (broker(), Arc::default());
        let options = ServerOptions { concurrency: 1, ..ServerOptions::new([7; 32]) };
        let server = serve_with(&broker, "server", &worker, options).await;
        let client = client(&broker, "client");
        for _ in 0..200 {
            cast(&client, question, json!({"seconds": 600})).await;
        }
        let began = Instant::now();
        call(&client, "work", json!({"name": "placement"}), 60).await.expect("it is worked on at once");
        assert!(began.elapsed() < Duration::from_secs(1), "{question}: {:?}", began.elapsed());
        assert_eq!(broker.depth("scheduler"), Some(0), "no question stays in the queue before others");
        assert_eq!(server.counters().get("busy"), 200 - 64, "{question}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_too_many_is_refused_with_the_limit() {
    let (broker, worker) = (broker(), Arc::default());
    let server = serve(&broker, "server", &worker).await;
    let client = client(&broker, "client");
    for _ in 0..64 {
        cast(&client, "ponder", json!({"seconds": 1})).await;
    }
    let Err(RpcError::Remote { source, .. }) = call(&client, "ponder", json!({}), 60).await else {
        panic!("it is refused")
    };
    assert_eq!((&*source.module, &*source.class), ("novella", BUSY));
    assert_eq!(Value::Object(source.kwargs), json!({"limit": 64}));
    assert!(source.message.starts_with("64 questions wait or are being answered"), "{}", source.message);
    assert_eq!(server.counters().get("busy"), 1);
    // Places come free again.
    until(|| worker.log().len() == 64).await;
    tokio::time::sleep(2 * SECOND).await;
    call(&client, "ponder", json!({}), 60).await.expect("there is a place");
}

#[tokio::test(start_paused = true)]
async fn long_questions_are_driven_by_the_driver_and_others_are_not() {
    let (broker, worker) = (broker(), Arc::default());
    let driven = Arc::new(AtomicUsize::new(0));
    let counted = driven.clone();
    let driver = Driver::new(move |work| {
        counted.fetch_add(1, Ordering::SeqCst);
        work
    });
    let options = ServerOptions { driver, ..ServerOptions::new([7; 32]) };
    let _server = serve_with(&broker, "server", &worker, options).await;
    let client = client(&broker, "client");
    for method in ["ponder", "wait", "work", "echo"] {
        call(&client, method, json!({}), 60).await.expect("an answer");
    }
    assert_eq!(driven.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn reports_are_handled_in_order_and_together() {
    let broker = broker();
    let (worker, reports): (Arc<Worker>, Arc<Reports>) = Default::default();
    let server = RpcServer::new(
        broker.connect("server"),
        ServerOptions { report_batch: 8, ..ServerOptions::new([7; 32]) },
    )
    .endpoint(worker.clone())
    .batch(reports.clone());
    let queue = server.listen(fanout_queue()).await.unwrap();
    active(queue.clone()).await;
    let mut peer = Peer::new(&broker).await;
    let fanout = || Destination::Fanout { topic: "scheduler".into() };
    let report = |name: &str| json!({"method": "report", "args": {"name": name}, "version": "1.9"});
    for n in 0..20 {
        peer.send_to(fanout(), sealed(report(&n.to_string()))).await.unwrap();
    }
    peer.send_to(fanout(), sealed(json!({"method": "work", "args": {"name": "between"}}))).await.unwrap();
    let mut asked = report("asked");
    asked["_msg_id"] = json!("m1");
    asked["_reply_q"] = json!("reply_peer");
    peer.send_to(fanout(), sealed(asked.clone())).await.unwrap();
    assert_eq!(peer.answer().await["result"], Value::Null, "a caller among the reports is answered");
    let mut expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    expected.push("asked".into());
    assert_eq!(reports.all(), expected);
    let sizes: Vec<_> = reports.batches.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [8, 8, 4, 1]);
    assert_eq!(worker.log(), ["between"]);

    asked["version"] = json!("2.0");
    peer.send_to(fanout(), sealed(asked)).await.unwrap();
    assert_eq!(peer.failure().await["class"], "UnsupportedVersion");
    peer.send_to(fanout(), sealed(report("poison"))).await.unwrap();
    peer.send_to(fanout(), sealed(report("after"))).await.unwrap();
    until(|| reports.all().last().is_some_and(|last| last == "after")).await;
    assert!(server.counters().get("panics") >= 1, "its neighbours in the batch are handled all the same");
    assert_eq!(server.counters().get("batched"), 23);
    broker.partition("server", true);
    broker.partition("server", false);
    active(queue).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_finishes_what_is_in_work_and_leaves_the_rest() {
    let broker = broker();
    let (first, second): (Arc<Worker>, Arc<Worker>) = Default::default();
    let options = ServerOptions { concurrency: 2, prefetch: 10, ..ServerOptions::new([7; 32]) };
    let server = serve_with(&broker, "first", &first, options).await;
    let (caller, sender) = (client(&broker, "caller"), client(&broker, "sender"));
    let answered = tokio::spawn(async move {
        let slow = json!({"name": "called", "seconds": 5});
        caller.call::<Value>(&target(), "work", &slow, CallOptions::default()).await
    });
    until(|| !first.log().is_empty()).await;
    for n in 0..30 {
        cast(&sender, "work", json!({"name": n.to_string(), "seconds": 1})).await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let started = Instant::now();
    assert!(server.shutdown(Instant::now() + 60 * SECOND).await);
    assert!(started.elapsed() <= 4 * SECOND, "{:?}", started.elapsed());
    assert_eq!(answered.await.unwrap().unwrap(), Value::Null, "with its answer");
    let _second = serve(&broker, "second", &second).await;
    until(|| first.log().len() + second.log().len() == 31).await;
    let mut all = [first.log(), second.log()].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 31, "each once: done here, or left in the queue");
    assert!(second.log().len() >= 25, "{}", second.log().len());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_at_its_deadline() {
    let Rig { broker, worker, server, client } = Rig::new().await;
    cast(&client, "work", json!({"seconds": 1000})).await;
    until(|| !worker.log().is_empty()).await;
    let started = Instant::now();
    assert!(!server.shutdown(started + 5 * SECOND).await);
    assert_eq!(started.elapsed(), 5 * SECOND);
    assert!(broker.connect("late").state().borrow().clone() != novella_messaging::ConnectionState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_server_is_gone_at_once() {
    let Rig { broker, worker, server, client } = Rig::new().await;
    cast(&client, "work", json!({"seconds": 10})).await;
    until(|| !worker.log().is_empty()).await;
    drop(server);
    tokio::time::sleep(SECOND).await;
    cast(&client, "work", json!({})).await;
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!((broker.depth("scheduler"), worker.log().len()), (Some(1), 1));
}

#[tokio::test(start_paused = true)]
async fn one_queue_of_an_agent_takes_its_own_and_everyones() {
    let broker = broker();
    let worker: Arc<Worker> = Arc::default();
    let server =
        RpcServer::new(broker.connect("agent"), ServerOptions::new([7; 32])).endpoint(worker.clone());
    active(server.listen(agent_queue()).await.unwrap()).await;
    let client = client(&broker, "client");
    let compute = Target::topic("compute");
    client.cast(&compute.clone().server("h"), "work", &json!({"name": "own"}), SECOND).await.unwrap();
    client.cast(&compute.clone().fanout(), "work", &json!({"name": "all"}), SECOND).await.unwrap();
    client.cast(&compute.clone().server("other"), "work", &json!({"name": "not"}), SECOND).await.unwrap();
    until(|| worker.log().len() == 2).await;
    assert_eq!(worker.log(), ["own", "all"]);
    let twin = RpcServer::new(broker.connect("twin"), ServerOptions::new([7; 32])).endpoint(worker.clone());
    let held = twin.listen(agent_queue()).await.unwrap();
    assert_eq!(*held.borrow(), novella_messaging::ConsumerState::Held);
}
