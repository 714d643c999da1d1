//! The messages that everything starts from.

use serde_json::{Map, Value};

/// Recorded by `record.py`.
const RECORDED: &str = include_str!("corpus.jsonl");
/// Written by hand: inner messages.
const MADE: &str = include_str!("made.jsonl");

/// Inner messages: requests, reports and replies.
pub fn inner_messages() -> Vec<Map<String, Value>> {
    let object = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        other => panic!("{text}: {other:?}"),
    };
    let recorded = RECORDED.lines().map(|line| {
        let body = object(object(line)["body"].as_str().expect("a body"));
        object(body["oslo.message"].as_str().expect("an inner message"))
    });
    recorded.chain(MADE.lines().map(object)).collect()
}
