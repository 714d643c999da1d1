//! Bodies other than the usual: compressed, large, old, and sent twice.

use std::time::Duration;

use novella_messaging::{RpcError, ServerOptions};
use serde_json::{Value, json};

use crate::bed;
use crate::raw::{Raw, envelope, failure_of, json_properties};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_calls_are_read() {
    let Some(bed) = bed::shared("compressed").await else { return };
    let ours = bed.serve("s1").await;
    let args = json!({"text": "größer, 漢字".repeat(1000)});
    let gzip = json!({"options": {"kombu_compression": "gzip"}});
    assert_eq!(bed.call("echo", args.clone(), gzip).await.expect("a result"), args);
    assert_eq!((ours.count("dispatched"), ours.count("malformed_json")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_calls_and_answers_get_through() {
    let Some(bed) = bed::shared("large").await else { return };
    let ours = bed.serve("s1").await;
    let args = json!({"text": "x\"".repeat(300_000)});
    assert!(bed.call("echo", args.clone(), json!({})).await.expect("a result") == args);
    // Arguments have a limit of their own, and the caller is told.
    let beyond = json!({"text": "x\"".repeat(1_500_000)});
    let error = bed.call("echo", beyond, json!({})).await.expect_err("too large");
    assert!(format!("{error:?}").contains("1048576"), "{error:?}");
    // What no broker takes by default is replaced, and the caller need not wait for its timeout.
    let raised = bed.call("large", json!({"bytes": 17 << 20}), json!({})).await.expect_err("too large");
    assert_eq!(raised.exc_type.as_deref(), Some("InternalError"));
    assert!(raised.value.expect("a message").contains("too large"));
    ours.counted("replies", 2).await;
    let client = bed.client().await;
    let huge = json!({"text": "x".repeat(17 << 20)});
    let error =
        client.call::<Value>(&bed.target(), "echo", &huge, bed::patient()).await.expect_err("too large");
    assert!(matches!(error, RpcError::Send { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_message_is_executed_once() {
    let Some(bed) = bed::shared("copies").await else { return };
    let ours = bed.serve("s1").await;
    let mut raw = Raw::new(&bed).await;
    let first = raw.call("echo", json!({"n": 0}), json!({"_unique_id": "same"}));
    raw.publish(&bed, &first.to_string()).await;
    raw.publish(&bed, &first.to_string()).await;
    assert_eq!(raw.reply().await["result"], json!({"n": 0}));
    for n in 1..=16 {
        let other = raw.call("echo", json!({"n": n}), json!({}));
        raw.publish(&bed, &other.to_string()).await;
        assert_eq!(raw.reply().await["result"], json!({"n": n}));
    }
    // oslo.messaging would have forgotten it by now.
    raw.publish(&bed, &first.to_string()).await;
    ours.counted("received", 19).await;
    assert_eq!((ours.count("duplicates"), ours.count("dispatched")), (2, 17));
    // Without an id there is nothing to know a copy by.
    for _ in 0..2 {
        let nameless = raw.call("echo", json!({}), json!({"_unique_id": null}));
        raw.publish(&bed, &nameless.to_string()).await;
        assert_eq!(raw.reply().await["result"], json!({}));
    }
    let empty = async || bed.broker.depth(&bed.topic).await == Some(0);
    eventually("copies are acknowledged", empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_requests_are_accepted() {
    let Some(bed) = bed::shared("unusual requests").await else { return };
    let ours = bed.serve("s1").await;
    let mut raw = Raw::new(&bed).await;
    let send = async |raw: &mut Raw, body: String| {
        raw.send(&bed.topic, body.as_bytes(), json_properties()).await;
        raw.reply().await
    };
    let request = raw.call("echo", json!({"text": "é"}), json!({"unknown_key": [1]})).to_string();
    // Without envelope, as before 2013.
    assert_eq!(send(&mut raw, request.clone()).await["result"], json!({"text": "é"}));
    let more = json!({"oslo.version": "2.0.0", "oslo.message": raw.call("echo", json!({}), json!({})).to_string(), "x": 1});
    assert_eq!(send(&mut raw, more.to_string()).await["result"], json!({}));
    // Of equal keys the last counts.
    let twice = raw.call("echo", json!({"n": 2}), json!({})).to_string();
    let twice = format!("{{\"method\": \"fly\", \"args\": 1, {}", &twice[1..]);
    assert_eq!(send(&mut raw, envelope(&twice)).await["result"], json!({"n": 2}));
    // Neither version nor args: 1.0 and none.
    let mut bare = raw.call("echo", json!({}), json!({}));
    for key in ["version", "args"] {
        bare.as_object_mut().expect("an object").remove(key);
    }
    assert_eq!(send(&mut raw, envelope(&bare.to_string())).await["result"], json!({}));
    // An id of any kind is echoed.
    let odd = raw.call("echo", json!({}), json!({"_msg_id": {"a": [1]}}));
    assert_eq!(send(&mut raw, envelope(&odd.to_string())).await["_msg_id"], json!({"a": [1]}));
    let null = raw.call("echo", json!({}), json!({"version": null}));
    let reply = send(&mut raw, envelope(&null.to_string())).await;
    assert_eq!(failure_of(&reply)["class"], "UnsupportedVersion");
    let properties = json_properties()
        .with_content_encoding("latin-1".into())
        .with_reply_to("nowhere".into())
        .with_correlation_id("17".into())
        .with_message_id("m".into());
    let request = raw.call("echo", json!({"text": "é"}), json!({})).to_string();
    raw.send(&bed.topic, envelope(&request).as_bytes(), properties).await;
    assert_eq!(raw.reply().await["result"], json!({"text": "é"}));
    assert_eq!(ours.count("dispatched"), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waited_too_long_is_never_executed() {
    let Some(bed) = bed::shared("expired").await else { return };
    // Declares the topic's queue and leaves.
    let before = bed.serve("s1").await;
    before.rpc.shutdown(bed::soon()).await;
    let raised = bed.call("echo", json!({}), json!({"timeout": 1})).await.expect_err("nobody answers");
    assert_eq!(raised.class, "MessagingTimeout");
    bed.cast("echo", json!({"a": "cast"}), json!({})).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = bed.serve("s2").await;
    after.counted("dispatched", 1).await;
    assert_eq!(after.service.executed(), [("echo".to_owned(), json!({"a": "cast"}))]);
    assert_eq!(after.count("received"), 1, "the broker dropped the call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_loses_none_of_pythons_casts() {
    let Some(bed) = bed::shared("stopping").await else { return };
    let options = || ServerOptions { prefetch: 8, concurrency: 4, ..ServerOptions::new([0; 32]) };
    let before = bed.serve_as(&bed.our_url(), "s1", options()).await;
    let casts = bed.command(json!({"method": "echo", "times": 400}));
    let casts = bed.python.ask("cast", casts);
    before.counted("dispatched", 50).await;
    assert!(before.rpc.shutdown(bed::soon()).await, "what is in work is finished");
    casts.await.expect("sent");
    let early = before.service.executed().len() as u64;
    assert!(early < 400, "it stopped in the middle");
    drop(before);
    let after = bed.serve_as(&bed.our_url(), "s2", options()).await;
    after.counted("dispatched", 400 - early).await;
    assert_eq!(after.service.executed().len() as u64, 400 - early, "each exactly once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_ours_that_waited_too_long_is_never_executed() {
    let Some(bed) = bed::shared("expired, ours").await else { return };
    // Declares the topic's queue and leaves.
    bed.python_serves("p1", json!({})).await.stop().await;
    let client = bed.client().await;
    let short = novella_messaging::CallOptions::new(Duration::from_secs(1));
    let error =
        client.call::<Value>(&bed.target(), "echo", &json!({"a": "call"}), short).await.expect_err("nobody");
    assert!(matches!(error, RpcError::Timeout { .. }), "{error:?}");
    let patience = crate::support::PATIENCE;
    client.cast(&bed.target(), "echo", &json!({"a": "cast"}), patience).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let theirs = bed.python_serves("p2", json!({})).await;
    let executed = theirs.executed(1).await;
    assert_eq!(executed.iter().map(|call| &call["args"]).collect::<Vec<_>>(), [&json!({"a": "cast"})]);
    theirs.stop().await;
}
