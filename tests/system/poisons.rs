//! Messages that no honest peer sends, for the suites `system` and `rabbit`.
//!
//! Left out: messages larger than a broker takes, which depend on the broker.

use serde_json::{Value, json};

/// An envelope around a message.
pub fn envelope(message: &Value) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string().into_bytes()
}

/// A request like a real one.
pub fn request(method: &str, version: &str, args: Value) -> Vec<u8> {
    envelope(
        &json!({"method": method, "version": version, "args": args, "_unique_id": "", "namespace": null}),
    )
}

/// A host's report.
pub fn report(host: Value, capabilities: Value) -> Vec<u8> {
    let args = json!({"service_name": "compute", "host": host, "capabilities": capabilities});
    request("update_service_capabilities", "1.0", args)
}

/// A report with a number of CPUs that JSON writers would not write.
fn report_of(host: &str, number: &str) -> Vec<u8> {
    let text = String::from_utf8(report(json!(host), json!({"vcpus": "@"}))).expect("JSON is text");
    text.replace(r#"\"@\""#, number).into_bytes()
}

/// Messages by what is wrong with them.
pub fn poisons() -> Vec<(&'static str, Vec<u8>)> {
    let select = |memory: Value| {
        let flavor = json!({"vcpus": 1, "memory_mb": memory});
        let spec = json!({"instance_uuids": ["00000000-0000-4000-8000-000000000001"], "flavor": flavor});
        request("select_destinations", "1.1", json!({"request_spec": spec}))
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        ("nothing", Vec::new()),
        ("not JSON", b"\x00\xff not json".to_vec()),
        ("not UTF-8", b"{\"oslo.version\": \"\xff\xfe\"}".to_vec()),
        ("an array", b"[]".to_vec()),
        ("neither envelope nor message", br#"{"hello": "world"}"#.to_vec()),
        ("an unknown envelope version", br#"{"oslo.version": "9.0", "oslo.message": "{}"}"#.to_vec()),
        ("a message that is not text", br#"{"oslo.version": "2.0", "oslo.message": {}}"#.to_vec()),
        ("a message that is cut off", br#"{"oslo.version": "2.0", "oslo.message": "{\"me"}"#.to_vec()),
        ("an unknown method", request("fly", "1.0", json!({}))),
        ("an unknown version", request("status", "7.3", json!({}))),
        ("a version that is none", request("status", "one", json!({}))),
        ("a method that is no text", envelope(&json!({"method": 3, "version": "1.0", "args": {}}))),
        ("a wrong type", report(json!("wrong"), json!({"vcpus": "sixteen"}))),
        ("a host that is no text", report(json!(7), json!({"vcpus": 1}))),
        ("an empty host name", report(json!(""), json!({"vcpus": 1}))),
        ("a control character", report(json!("a\u{0}b"), json!({"vcpus": 1}))),
        ("a negative size of a host", report(json!("negative"), json!({"vcpus": -4}))),
        ("an absurd size of a host", report(json!("absurd"), json!({"host_memory_total": i64::MAX}))),
        ("NaN", report_of("nan", "NaN")),
        ("a huge number", report_of("huge", "1e999")),
        ("a negative size of an instance", select(json!(-512))),
        ("an absurd size of an instance", select(json!(u64::MAX))),
        ("deep nesting", deep.clone().into_bytes()),
        ("a deep report", report_of("deep", &deep)),
    ]
}
