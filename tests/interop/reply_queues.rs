//! Reply queues that are missing, late, orphaned or unnamed, and queues deleted under their consumers.

use std::process::{Command, Stdio};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use novella_messaging::ServerOptions;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::bed::{self, Bed};
use crate::raw::{Raw, declare, take_from};
use crate::support::{eventually, variable};

fn impatient() -> ServerOptions {
    ServerOptions { reply_retry: Duration::from_secs(2), ..ServerOptions::new([0; 32]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_waits_for_its_queue_to_come_back() {
    let Some(bed) = bed::shared("missing reply queue").await else { return };
    let ours = bed.serve_as(&bed.our_url(), "s1", ServerOptions::new([0; 32])).await;
    let (mut raw, channel) = (Raw::new(&bed).await, bed.broker.bare().await);
    let queue = bed.broker.unique("late_reply");
    let request = raw.call("echo", json!({"n": 1}), json!({"_reply_q": queue}));
    raw.publish(&bed, &request.to_string()).await;
    ours.counted("dispatched", 1).await;
    sleep(Duration::from_millis(600)).await;
    assert_eq!(ours.count("replies"), 0);
    declare(&channel, &queue).await;
    assert_eq!(take_from(&channel, &queue).await["result"], json!({"n": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_a_queue_that_stays_away_are_given_up() {
    let Some(bed) = bed::shared("dead reply queue").await else { return };
    let ours = bed.serve_as(&bed.our_url(), "s1", impatient()).await;
    let mut raw = Raw::new(&bed).await;
    let queue = bed.broker.unique("dead_reply");
    let mut send = async |more: Value| {
        let request = raw.call("echo", json!({}), more);
        raw.publish(&bed, &request.to_string()).await;
    };
    send(json!({"_reply_q": queue})).await;
    ours.counted("replies_unroutable", 1).await;
    // From now on it is known to be missing.
    let began = Instant::now();
    for _ in 0..20 {
        send(json!({"_reply_q": queue})).await;
    }
    ours.counted("replies_unroutable", 21).await;
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    // No queue at all, or what cannot be one.
    for unusable in [json!(null), json!(""), json!(7), json!("q".repeat(256))] {
        send(json!({"_reply_q": unusable})).await;
    }
    ours.counted("replies_without_queue", 4).await;
    assert_eq!(bed.call("echo", json!({}), json!({})).await.expect("it serves on"), json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_late_for_python_troubles_nobody() {
    let Some(bed) = bed::shared("late answer").await else { return };
    let ours = bed.serve("s1").await;
    let more = json!({"timeout": 1});
    let raised = bed.call("slow", json!({"seconds": 1.5}), more).await.expect_err("too slow");
    assert_eq!(raised.class, "MessagingTimeout");
    ours.counted("replies", 1).await;
    assert_eq!(ours.count("replies_unroutable") + ours.count("replies_failed"), 0);
    assert_eq!(bed.call("echo", json!({"n": 1}), json!({})).await.expect("a result"), json!({"n": 1}));
}

async fn delete(bed: &Bed, queue: &str) {
    let channel = bed.broker.bare().await;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_deleted_under_us_is_back_soon() {
    let Some(bed) = bed::shared("deleted queue").await else { return };
    let _ours = bed.serve("s1").await;
    assert_eq!(bed.call("echo", json!({}), json!({})).await.expect("a result"), json!({}));
    delete(&bed, &bed.topic).await;
    let back = async || bed.broker.depth(&bed.topic).await.is_some();
    let began = Instant::now();
    eventually("the queue is declared anew", back).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // A queue that exists may not be bound yet, and a call in between is lost: Python does not send it as mandatory.
    let served = async || {
        bed.call("echo", json!({"n": 2}), json!({"timeout": 2})).await.is_ok_and(|n| n == json!({"n": 2}))
    };
    eventually("it serves again", served).await;
}

/// A Python client that says when it calls, and then waits.
const CALLER: &str = r#"
import sys, oslo_messaging
from oslo_config import cfg
cfg.CONF([], project="caller", default_config_files=[])
transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=sys.argv[1])
target = oslo_messaging.Target(exchange=sys.argv[2], topic=sys.argv[3], version="1.0")
oslo_messaging.get_rpc_client(transport, target, timeout=60).call({}, "slow", seconds=2)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_client_that_was_killed_finds_its_queue_until_that_expires() {
    let Some(bed) = bed::shared("killed client").await else { return };
    let interpreter = variable("killed client", "NOVELLA_TEST_PYTHON").expect("the bed has it too");
    let ours = bed.serve("s1").await;
    // Its queue outlives it by so many seconds, which nobody else asks for.
    let url = bed.python_url();
    let mark = if url.contains('?') { '&' } else { '?' };
    let ttl = 7;
    let mut command = Command::new(interpreter);
    command.args(["-W", "ignore", "-c", CALLER, &format!("{url}{mark}rabbit_transient_queues_ttl={ttl}")]);
    command.args([&bed.exchange, &bed.topic]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut client = command.spawn().expect("it starts");
    ours.counted("dispatched", 1).await;
    client.kill().expect("it waits for its answer");
    client.wait().expect("a child can be waited for");
    ours.counted("replies", 1).await;
    assert_eq!(ours.count("replies_unroutable") + ours.count("replies_failed"), 0);
    let lives = || {
        let list = bed.broker.ctl(&["ctl", "list_queues", "name", "messages", "arguments", "--silent"]);
        let own = format!("{}", ttl * 1000);
        list.lines().any(|line| line.starts_with("reply_") && line.contains(&own))
    };
    eventually("its queue expires", async || !lives()).await;
    assert_eq!(bed.call("echo", json!({}), json!({})).await.expect("it serves on"), json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_the_keys_of_the_protocol_and_no_others() {
    let Some(bed) = bed::shared("keys of an answer").await else { return };
    let _ours = bed.serve("s1").await;
    let mut raw = Raw::new(&bed).await;
    for (method, args) in [("echo", json!({})), ("fail", json!({"module": "m", "class": "C"}))] {
        let request = raw.call(method, args, json!({}));
        raw.publish(&bed, &request.to_string()).await;
        let reply = raw.reply().await;
        let keys: Vec<&str> = reply.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["_msg_id", "_unique_id", "ending", "failure", "result"]);
        assert_eq!((&reply["ending"], &reply["_msg_id"]), (&json!(true), &request["_msg_id"]));
        assert_ne!(reply["_unique_id"], request["_unique_id"]);
    }
}
