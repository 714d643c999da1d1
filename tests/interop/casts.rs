//! Casts and fanout casts, both ways: executed once by each that they are for, and by nobody else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::bed::{self, Ours};
use crate::support::eventually;

fn numbers(ours: &Ours) -> Vec<u64> {
    ours.service.executed().iter().map(|(_, args)| args["number"].as_u64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_cast_is_executed_once_by_one_of_our_servers() {
    let Some(bed) = bed::shared("casts").await else { return };
    let (one, two) = (bed.serve("s1").await, bed.serve("s2").await);
    bed.cast("echo", json!({}), json!({"times": 40})).await;
    eventually("all are executed", async || numbers(&one).len() + numbers(&two).len() >= 40).await;
    let (first, second) = (numbers(&one), numbers(&two));
    assert!(!first.is_empty() && !second.is_empty(), "{first:?} {second:?}");
    let all: BTreeSet<u64> = first.iter().chain(&second).copied().collect();
    assert_eq!((all.len(), first.len() + second.len()), (40, 40), "each exactly once");
    assert_eq!(one.count("replies") + two.count("replies"), 0, "nobody waits for an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_cast_to_a_server_reaches_that_one_only() {
    let Some(bed) = bed::shared("casts to a server").await else { return };
    let (one, two) = (bed.serve("s1.example.org").await, bed.serve("s2").await);
    bed.cast("echo", json!({}), json!({"times": 10, "target": {"server": "s1.example.org"}})).await;
    one.counted("dispatched", 10).await;
    assert_eq!((one.count("dispatched"), two.count("received")), (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_fanout_is_executed_once_by_all() {
    let Some(bed) = bed::shared("fanout in").await else { return };
    // An oslo server shares the topic: its shapes are ours then.
    let options = novella_messaging::ServerOptions::new([0; 32]);
    let ours = bed.serve_as(&bed.our_oslo_url(), "s1", options).await;
    let theirs = bed.python_serves("p1", json!({})).await;
    bed.cast("echo", json!({"text": "é"}), json!({"target": {"fanout": true}})).await;
    let executed = theirs.executed(1).await;
    ours.counted("dispatched", 1).await;
    assert_eq!(executed[0]["args"], json!({"text": "é"}));
    assert_eq!(ours.service.executed(), [("echo".to_owned(), json!({"text": "é"}))]);
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_casts_are_executed_by_python_servers() {
    let Some(bed) = bed::shared("casts out").await else { return };
    let (one, two) = (bed.python_serves("p1", json!({})).await, bed.python_serves("p2", json!({})).await);
    let client = bed.client().await;
    let target = bed.target();
    let args = json!({"text": "größer, 漢字, \u{1f600}", "nested": {"a": [null, 1.5]}});
    let long = crate::support::PATIENCE;
    client.cast(&target.clone().server("p1"), "echo", &args, long).await.expect("sent");
    client.cast(&target.clone().fanout(), "echo", &json!({"to": "all"}), long).await.expect("sent");
    let (first, second) = (one.executed(2).await, two.executed(1).await);
    let sorted = |executed: Vec<Value>| {
        let mut args: Vec<String> = executed.iter().map(|call| call["args"].to_string()).collect();
        args.sort();
        args
    };
    let all = json!({"to": "all"}).to_string();
    assert_eq!(sorted(first), [args.to_string(), all.clone()]);
    assert_eq!(sorted(second), [all]);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_only_casts_has_no_reply_queue() {
    let Some(bed) = bed::shared("casts alone").await else { return };
    // In a virtual host of its own, where every queue is accounted for.
    let house = bed.house().await;
    let theirs = bed.python_serves("p1", json!({"url": bed.python_at(&house)})).await;
    let client = novella_messaging::RpcClient::new(house.transport("client").await, [5; 32]);
    let queues = || house.broker.ctl(&["ctl", "list_queues", "-p", &house.vhost, "name", "--silent"]);
    client.cast(&bed.target(), "echo", &json!({}), crate::support::PATIENCE).await.expect("sent");
    theirs.executed(1).await;
    assert!(!queues().contains("reply_"), "{}", queues());
    client.call::<Value>(&bed.target(), "echo", &json!({}), bed::patient()).await.expect("a result");
    assert!(queues().contains("reply_"), "the first call has it made: {}", queues());
    theirs.stop().await;
}
