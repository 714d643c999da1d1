//! Connections closed, the broker stopped and short of memory, with oslo.messaging at one end and us at the other.

use std::time::Duration;

use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{CallOptions, ConnectionState, RpcClient, RpcError, Transport};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{self, Bed};
use crate::support::*;

/// Queues of the Python server outlive the broker: what is cast while it is away from them waits there.
const LASTING: &str = "amqp_durable_queues=true";
/// Longer than the commands that bring a fault take on a loaded machine.
const WORK_S: f64 = 6.0;

/// Where both sides find the broker, with queues that outlive it.
fn lasting(bed: &Bed) -> (String, String) {
    let url = &bed.broker.url;
    let more = if bed.denies { "&rabbit_transient_quorum_queue=true" } else { "" };
    (format!("{url}?topology=oslo&{LASTING}{more}"), format!("{url}?{LASTING}{more}"))
}

/// Names of the reply queues that somebody consumes.
fn reply_queues(bed: &Bed) -> Vec<String> {
    let list = bed.broker.ctl(&["ctl", "list_queues", "name", "consumers", "--silent"]);
    let rows = list.lines().filter_map(|line| line.split_once('\t'));
    let consumed = rows.filter(|(name, consumers)| name.starts_with("reply_") && *consumers != "0");
    consumed.map(|(name, _)| name.to_owned()).collect()
}

/// A call each way is in work while `fault` happens; both are answered, on reply queues of the same names.
async fn survive(bed: &mut Bed, what: &str, fault: impl Fn(&Bed)) {
    let (our_url, python_url) = lasting(bed);
    (bed.topic, bed.exchange) = (bed.broker.unique(&format!("in-{what}")), bed.broker.unique("e"));
    let ours = bed.serve_as(&our_url, "s1", novella_messaging::ServerOptions::new([0; 32])).await;
    let more = json!({"url": python_url, "timeout": 80});
    let slow = |value: &str| json!({"seconds": WORK_S, "value": value});
    let from_python = bed.call("slow", slow("ours"), more);
    let topic = bed.broker.unique(&format!("out-{what}"));
    let serve = json!({"url": python_url, "target": {"topic": topic}});
    let theirs = bed.python_serves("p1", serve).await;
    let client = RpcClient::new(bed.transport(&our_url, "client").await, [what.len() as u8; 32]);
    let target = novella_messaging::Target { topic: topic.clone(), ..bed.target() };
    let args = slow("theirs");
    let to_python = client.call::<Value>(&target, "slow", &args, CallOptions::new(Duration::from_secs(80)));
    let disturb = async {
        ours.counted("dispatched", 1).await;
        theirs.executed(1).await;
        // On a busy machine the broker may list a queue only a moment after it is consumed.
        let mut before = Vec::new();
        let consumed = async || {
            before = reply_queues(bed);
            before.len() >= 2
        };
        eventually("both callers consume their reply queues", consumed).await;
        fault(bed);
        before
    };
    let (from_python, to_python, before) = tokio::join!(from_python, to_python, disturb);
    assert_eq!(from_python.expect(what), "ours");
    assert_eq!(to_python.expect(what), "theirs");
    let back = async || {
        let now = reply_queues(bed);
        before.iter().all(|name| now.contains(name))
    };
    eventually("reply queues have their names again", back).await;
    assert_eq!((ours.count("dispatched"), theirs.executed(1).await.len()), (1, 1), "{what}: once each");
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_work_outlive_closed_connections_and_a_restart() {
    let Some(mut bed) = bed::alone("faults in calls").await else { return };
    survive(&mut bed, "closed", |bed| {
        bed.broker.ctl(&["ctl", "close_all_connections", "test"]);
    })
    .await;
    survive(&mut bed, "restart", |bed| {
        bed.broker.ctl(&["stop"]);
        bed.broker.ctl(&["start"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cast_while_the_broker_is_down_is_late_or_an_error_in_time() {
    let Some(bed) = bed::alone("broker down").await else { return };
    let (our_url, python_url) = lasting(&bed);
    let theirs = bed.python_serves("p1", json!({"url": python_url})).await;
    let client = RpcClient::new(bed.transport(&our_url, "client").await, [3; 32]);
    let target = bed.target();
    let cast = async |name: &str, patience: Duration| {
        let args = json!({"name": name});
        client.cast(&target, "echo", &args, patience).await
    };
    cast("before", PATIENCE).await.expect("sent");
    theirs.executed(1).await;
    bed.broker.ctl(&["stop"]);
    for wait in [Duration::ZERO, Duration::from_secs(2)] {
        let began = Instant::now();
        let error = cast("lost", wait).await.expect_err("nothing takes it");
        assert!(matches!(error, RpcError::Send { .. }), "{error:?}");
        assert!(began.elapsed() < wait + Duration::from_secs(1), "{:?}", began.elapsed());
    }
    let (sent, ()) = tokio::join!(cast("late", 2 * PATIENCE), async {
        sleep(Duration::from_secs(3)).await;
        bed.broker.ctl(&["start"]);
    });
    sent.expect("sent once the broker is back");
    cast("after", PATIENCE).await.expect("sent");
    let executed = theirs.executed(3).await;
    let mut names: Vec<&str> =
        executed.iter().map(|call| call["args"]["name"].as_str().expect("text")).collect();
    names.sort_unstable();
    assert_eq!(names, ["after", "before", "late"], "each once, and none that was an error");
    theirs.stop().await;
}

/// The broker takes nothing more from whoever publishes.
fn alarm(bed: &Bed) {
    bed.broker.ctl(&["ctl", "set_vm_memory_high_watermark", "absolute", "1MB"]);
}

fn no_alarm(bed: &Bed) {
    bed.broker.ctl(&["ctl", "set_vm_memory_high_watermark", "0.4"]);
}

async fn blocked(transport: &RabbitTransport) {
    let mut states = transport.state();
    let blocked = states.wait_for(|state| matches!(state, ConnectionState::Blocked { .. }));
    timeout(PATIENCE, blocked).await.expect("shown").expect("the transport lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_send_under_an_alarm_arrives_once_after_it() {
    let Some(bed) = bed::alone("alarm, our casts").await else { return };
    let theirs = bed.python_serves("p1", json!({})).await;
    let transport = bed.transport(&bed.our_url(), "client").await;
    let client = RpcClient::new(transport.clone(), [4; 32]);
    let target = bed.target();
    client.call::<Value>(&target, "value", &json!({"value": 0}), bed::patient()).await.expect("a result");
    let generation = connected(&transport).await;
    alarm(&bed);
    let args: Vec<Value> = (0..5).map(|number| json!({"number": number})).collect();
    let casts = args.iter().map(|args| client.cast(&target, "echo", args, PATIENCE));
    let casts = futures_util::future::join_all(casts);
    let value = json!({"value": "after"});
    let call = client.call::<Value>(&target, "value", &value, bed::patient());
    let (casts, result, ()) = tokio::join!(casts, call, async {
        blocked(&transport).await;
        sleep(Duration::from_secs(5)).await;
        no_alarm(&bed);
    });
    assert!(casts.iter().all(Result::is_ok), "{casts:?}");
    assert_eq!(result.expect("a result"), "after");
    assert_eq!(connected(&transport).await, generation, "no new connection because of an alarm");
    // A copy would be suppressed by the server; that there is none shows in what it was given.
    let executed = theirs.executed(5).await;
    let mut numbers: Vec<u64> = executed.iter().filter_map(|call| call["args"]["number"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copies_that_python_sends_under_an_alarm_are_executed_once() {
    let Some(bed) = bed::alone("alarm, copies").await else { return };
    let ours = bed.serve("s1").await;
    // It gives a publication up after the call's timeout, which has not begun yet, and sends it again on a new connection.
    let options = json!({"timeout": 5});
    assert_eq!(bed.call("echo", json!({"n": 0}), options.clone()).await.expect("a result"), json!({"n": 0}));
    alarm(&bed);
    let call = bed.call("echo", json!({"n": 1}), options);
    let (result, ()) = tokio::join!(call, async {
        sleep(Duration::from_secs(14)).await;
        no_alarm(&bed);
    });
    assert_eq!(result.expect("a result"), json!({"n": 1}));
    ours.counted("duplicates", 1).await;
    assert_eq!(ours.service.executed().len(), 2, "the call before the alarm, and this one once");
}
