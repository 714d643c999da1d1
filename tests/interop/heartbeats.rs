//! Call monitors: signs of life while a method runs, in both directions.

use std::time::Duration;

use novella_messaging::{CallOptions, RpcError, Version};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bed;
use crate::raw::Raw;
use crate::support::{eventually, log};

/// Answers to no call in progress that were dropped so far, by any client of this process.
fn strays() -> usize {
    log().0.text().matches("dropped an answer, because no call waits for it").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_monitor_hears_from_a_slow_method_of_ours() {
    let Some(bed) = bed::shared("monitor in").await else { return };
    let ours = bed.serve("s1").await;
    let more = json!({"call_monitor_timeout": 2, "timeout": 20});
    let slow = json!({"seconds": 4.6, "value": "done"});
    assert_eq!(bed.call("slow", slow, more).await.expect("a result"), json!("done"));
    assert!((4..=5).contains(&ours.count("heartbeats")), "{}", ours.count("heartbeats"));
    // A caller that did not ask for them would stumble over one.
    let slow = json!({"seconds": 2.5, "value": "done"});
    assert_eq!(bed.call("slow", slow, json!({})).await.expect("a result"), json!("done"));
    assert!(ours.count("heartbeats") <= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_timeout_in_a_message_gets_its_answer() {
    let Some(bed) = bed::shared("odd timeouts").await else { return };
    let ours = bed.serve("s1").await;
    let mut raw = Raw::new(&bed).await;
    let slow = json!({"seconds": 2.4, "value": 7});
    // Heartbeats come every int(_timeout) / 2 seconds, if that is a second or more.
    for (timeout, heartbeats) in [
        (json!(1), 0),
        (json!(-5), 0),
        (json!("abc"), 0),
        (json!("4"), 1),
        (json!(3.9), 1),
        (json!(2.9), 2),
        (json!([1]), 0),
        (json!({}), 0),
        (Value::Null, 0),
    ] {
        let request = raw.call("slow", slow.clone(), json!({"_timeout": timeout}));
        raw.publish(&bed, &request.to_string()).await;
        let id = request["_msg_id"].clone();
        raw.expect(&id, heartbeats, &timeout.to_string());
    }
    raw.expected().await;
    ours.counted("replies", 9).await;
    assert_eq!(ours.count("heartbeats"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_monitor_hears_from_a_slow_python_method() {
    let Some(bed) = bed::shared("monitor out").await else { return };
    let theirs = bed.python_serves("p1", json!({})).await;
    let client = bed.client().await;
    let monitored = CallOptions { monitor: Some(Duration::from_secs(2)), ..bed::patient() };
    let slow = json!({"seconds": 4, "value": "done"});
    let result: Value = client.call(&bed.target(), "slow", &slow, monitored.clone()).await.expect("a result");
    assert_eq!(result, "done");

    // oslo.messaging goes on sending signs of life for a method that it does not have.
    let error = client.call::<Value>(&bed.target(), "fly", &json!({}), monitored).await.expect_err("refused");
    assert!(matches!(&error, RpcError::Remote { source, .. } if source.class == "NoSuchMethod"), "{error:?}");
    let before = strays();
    eventually("a stray sign of life comes", async || strays() > before).await;
    let value: Value =
        client.call(&bed.target(), "value", &json!({"value": 1}), bed::patient()).await.expect("a result");
    assert_eq!(value, 1);
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_monitor_gives_up_on_silence_and_our_call_on_time() {
    let Some(bed) = bed::shared("silence").await else { return };
    let client = bed.client().await;
    let theirs = bed.python_serves("p1", json!({})).await;
    let slow = json!({"seconds": 3, "value": "late"});
    let (before, began) = (strays(), Instant::now());
    let options = CallOptions::new(Duration::from_secs(1));
    let error = client.call::<Value>(&bed.target(), "slow", &slow, options).await.expect_err("too slow");
    assert!(matches!(error, RpcError::Timeout { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_millis(2900), "{:?}", began.elapsed());
    // The late answer belongs to nobody any more.
    eventually("it comes", async || strays() > before).await;
    // Nobody serves this at all.
    let nobody = novella_messaging::Target { topic: format!("{}-none", bed.topic), ..bed.target() };
    let options =
        CallOptions { monitor: Some(Duration::from_secs(2)), ..CallOptions::new(Duration::from_secs(9)) };
    let began = Instant::now();
    let error = client.call::<Value>(&nobody, "slow", &slow, options).await.expect_err("nobody is there");
    assert!(matches!(error, RpcError::Timeout { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(7), "the monitor, not the call's own time");
    let options = CallOptions { mandatory: true, ..bed::patient() };
    let error = client.call::<Value>(&nobody, "slow", &slow, options).await.expect_err("nobody is there");
    assert!(error.to_string().contains("could not send"), "{error:?}");
    let versioned = bed.target().version(Version::new(1, 3));
    let value: Value =
        client.call(&versioned, "value", &json!({"value": []}), bed::patient()).await.expect("served");
    assert_eq!(value, json!([]));
    theirs.stop().await;
}
