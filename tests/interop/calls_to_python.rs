//! Our client calls a Python server: results as they are, errors with all that they say.

use novella_messaging::{RemoteError, RpcError, Version};
use serde_json::{Value, json};

use crate::bed;

fn remote(error: RpcError) -> RemoteError {
    match error {
        RpcError::Remote { source, .. } => *source,
        other => panic!("not of the other side: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_results_arrive_as_they_are() {
    let Some(bed) = bed::shared("results out").await else { return };
    let theirs = bed.python_serves("p1", json!({})).await;
    let client = bed.client().await;
    for value in [
        json!(null),
        json!(false),
        json!(0),
        json!(""),
        json!([]),
        json!({}),
        json!("größer, 漢字, \u{1f600}\u{0}\u{7f}"),
        json!({"ending": false, "failure": "no", "_msg_id": "x"}),
        json!([1e-7, 1e16, -0.0, 18_446_744_073_709_551_615_u64, i64::MIN]),
        json!("x".repeat(3_000_000)),
    ] {
        let args = json!({"value": value});
        let result = client.call::<Value>(&bed.target(), "value", &args, bed::patient()).await;
        assert!(result.expect("a result") == value, "{:.80}", value.to_string());
    }
    let to = bed.target().server("p1").version(Version::new(1, 3));
    let echoed = client.call::<Value>(&to, "echo", &json!({"é": 1}), bed::patient()).await.expect("a result");
    assert_eq!(echoed, json!({"é": 1}));
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_errors_say_class_module_message_and_traceback() {
    let Some(bed) = bed::shared("errors out").await else { return };
    let theirs = bed.python_serves("p1", json!({})).await;
    let client = bed.client().await;
    for (kind, module) in [("ValueError", "builtins"), ("Custom", "__main__")] {
        let error = client.call::<Value>(&bed.target(), "fail", &json!({"kind": kind}), bed::patient()).await;
        let error = remote(error.expect_err("raised"));
        assert_eq!((&*error.class, &*error.module), (kind, module));
        assert_eq!(error.message, format!("{kind} as asked: größer, 漢字"));
        assert!(error.traceback.concat().contains("peer.py"), "{error:?}");
        assert_eq!(error.args, [&*error.message]);
    }
    for (target, method, class) in [
        (bed.target(), "fly", "NoSuchMethod"),
        (bed.target(), "_note", "NoSuchMethod"),
        (bed.target().version(Version::new(1, 4)), "echo", "UnsupportedVersion"),
        (bed.target().version(Version::new(2, 0)), "echo", "UnsupportedVersion"),
        (bed.target().namespace("other"), "echo", "UnsupportedVersion"),
    ] {
        let error = client.call::<Value>(&target, method, &json!({}), bed::patient()).await;
        let error = remote(error.expect_err("refused"));
        assert_eq!(
            (&*error.module, &*error.class),
            ("oslo_messaging.rpc.dispatcher", class),
            "{target} {method}"
        );
    }
    let error = client.call::<Value>(&bed.target(), "value", &json!({"valeu": 1}), bed::patient()).await;
    let error = remote(error.expect_err("refused"));
    assert_eq!((&*error.module, &*error.class), ("builtins", "TypeError"), "{error:?}");
    theirs.stop().await;
}
