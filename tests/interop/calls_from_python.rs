//! A Python client calls our server: results, errors as exceptions of the right type, versions and namespaces.

use serde_json::{Value, json};

use crate::bed::{self, Bed};
use crate::python::Raised;

/// How `method` at `target` is refused.
async fn refused(bed: &Bed, method: &str, target: Value) -> Raised {
    let answer = bed.call(method, json!({}), json!({"target": target})).await;
    answer.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_back_as_they_were_sent() {
    let Some(bed) = bed::shared("results").await else { return };
    let ours = bed.serve("s1").await;
    let args = json!({
        "text": "größer, 漢字, \u{1f600}, \"quoted\\\" and a\ttab", "nothing": null, "yes": true, "zero": 0,
        "empty": "", "list": [1, [2, {"three": [null]}]], "big": 9_007_199_254_740_993_u64, "real": 0.1,
        "negative": -0.0, "tiny": 1e-300, "nested": {"a": {"b": {"c": []}}}, "\u{e9}": "a key",
    });
    let context = json!({"user": "u1", "is_admin": true, "roles": ["admin"], "request_id": "req-1"});
    assert_eq!(bed.call("echo", args.clone(), json!({"context": context})).await.expect("a result"), args);
    ours.counted("replies", 1).await;
    assert_eq!(ours.count("dispatched"), 1);
    // One server of the topic, by name.
    let at = json!({"target": {"server": "s1"}});
    assert_eq!(bed.call("echo", json!({}), at).await.expect("a result"), json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_nova_is_caught_as_novas() {
    let Some(bed) = bed::shared("nova's error").await else { return };
    let _ours = bed.serve("s1").await;
    let args = json!({
        "module": "nova.exception", "class": "NoValidHost", "args_": [],
        "message": "No valid host was found. There are not enough hosts available.",
        "kwargs": {"reason": "There are not enough hosts available.", "code": 500},
    });
    let allowed = json!({"allowed": ["nova.exception"]});
    let raised = bed.call("fail", args.clone(), allowed).await.expect_err("raised");
    assert_eq!((&*raised.class, &*raised.module), ("NoValidHost_Remote", "nova.exception_Remote"));
    assert!(raised.bases.iter().any(|base| base == "NoValidHost"), "{raised:?}");
    assert!(raised.text.contains("There are not enough hosts available."), "{raised:?}");
    assert!(raised.text.contains("the other side's traceback"), "{raised:?}");
    let raised = bed.call("fail", args, json!({})).await.expect_err("raised");
    assert_eq!((&*raised.class, raised.exc_type.as_deref()), ("RemoteError", Some("NoValidHost")));
    assert!(raised.value.expect("a message").starts_with("No valid host was found."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_pythons_own_is_raised_as_such() {
    let Some(bed) = bed::shared("builtin error").await else { return };
    let _ours = bed.serve("s1").await;
    let builtin = |kwargs: Value| json!({"module": "builtins", "class": "ValueError", "message": "größer", "kwargs": kwargs});
    let raised = bed.call("fail", builtin(json!({})), json!({})).await.expect_err("raised");
    assert_eq!((&*raised.class, &*raised.module), ("ValueError", "builtins"));
    assert!(raised.text.starts_with("größer"), "{raised:?}");
    let raised = bed.call("fail", builtin(json!({"a": 1})), json!({})).await.expect_err("raised");
    assert_eq!((&*raised.class, raised.exc_type.as_deref()), ("RemoteError", Some("ValueError")));
    let unknown = json!({"module": "no.such.module", "class": "Odd", "message": "strange"});
    let raised = bed.call("fail", unknown, json!({"allowed": ["nova.exception"]})).await.expect_err("raised");
    assert_eq!((&*raised.class, raised.exc_type.as_deref()), ("RemoteError", Some("Odd")));
    assert_eq!(raised.value.as_deref(), Some("strange"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_wrong_arguments_are_answered() {
    let Some(bed) = bed::shared("panic").await else { return };
    let ours = bed.serve("s1").await;
    let raised = bed.call("panic", json!({}), json!({})).await.expect_err("raised");
    assert_eq!((&*raised.class, raised.exc_type.as_deref()), ("RemoteError", Some("InternalError")));
    assert_eq!(ours.count("panics"), 1);
    assert_eq!(bed.call("echo", json!({"a": 1}), json!({})).await.expect("it serves on"), json!({"a": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_served_as_oslo_serves_them() {
    let Some(bed) = bed::shared("versions").await else { return };
    let ours = bed.serve("s1").await;
    for version in ["1.0", "1.3", "1.3.0", "1.2.99"] {
        let target = json!({"target": {"version": version}});
        assert_eq!(bed.call("echo", json!({}), target).await.expect(version), json!({}));
    }
    // No version at all is 1.0.
    let mut command = bed.command(json!({"method": "echo"}));
    command["target"].as_object_mut().expect("an object").remove("version");
    assert_eq!(bed.python.ask("call", command).await.expect("1.0 is meant"), json!({}));
    for version in ["1.4", "1.3.1", "2.0", "0.9"] {
        let raised = refused(&bed, "echo", json!({"version": version})).await;
        assert_eq!(raised.exc_type.as_deref(), Some("UnsupportedVersion"), "{version}");
        let says = format!("Endpoint does not support RPC version {version}. Attempted method: echo");
        assert_eq!(raised.value.as_deref(), Some(&*says));
    }
    assert_eq!(ours.count("unsupported_version"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_methods_and_namespaces_are_refused() {
    let Some(bed) = bed::shared("unknown methods").await else { return };
    let ours = bed.serve("s1").await;
    for method in ["fly", "_private"] {
        let raised = refused(&bed, method, json!({})).await;
        assert_eq!(raised.exc_type.as_deref(), Some("NoSuchMethod"), "{method}");
        let says = format!("Endpoint does not support RPC method {method}");
        assert_eq!(raised.value.as_deref(), Some(&*says));
    }
    let raised = refused(&bed, "echo", json!({"namespace": "other"})).await;
    assert_eq!(raised.exc_type.as_deref(), Some("UnsupportedVersion"));
    let raised = refused(&bed, "slow", json!({"namespace": "named"})).await;
    assert_eq!(raised.exc_type.as_deref(), Some("NoSuchMethod"));
    let named = json!({"target": {"namespace": "named"}});
    assert_eq!(bed.call("echo", json!({"a": 1}), named).await.expect("a result"), json!({"a": 1}));
    assert_eq!((ours.count("no_such_method"), ours.count("unsupported_version")), (3, 1));
}
