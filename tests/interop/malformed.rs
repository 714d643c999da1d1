//! What no honest peer sends, to our server and to our client: counted by kind, said once per kind and peer, settled as
//! the protocol says and never given again, and served past.

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use novella_messaging::{CallOptions, RpcError};
use serde_json::{Value, json};

use crate::bed::{self, Bed};
use crate::raw::{Raw, declare, envelope, failure_of, json_properties, take_from};
use crate::support::{eventually, log};

/// Bodies that are rejected, with what counts them.
fn rejected() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let inner = |text: &str| envelope(text).into_bytes();
    let version = |version: Value| {
        json!({"oslo.version": version, "oslo.message": "{\"method\": \"echo\"}"}).to_string().into_bytes()
    };
    vec![
        ("no JSON", b"not JSON".to_vec(), "malformed_json"),
        ("text after it", b"{} {}".to_vec(), "malformed_json"),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec(), "malformed_json"),
        ("no UTF-8", b"{\"a\": \"\xff\"}".to_vec(), "malformed_json"),
        ("an array", b"[1]".to_vec(), "malformed_envelope"),
        ("a string", b"\"a\"".to_vec(), "malformed_envelope"),
        ("null", b"null".to_vec(), "malformed_envelope"),
        ("version 3.0", version(json!("3.0")), "malformed_envelope"),
        ("version 2.1", version(json!("2.1")), "malformed_envelope"),
        ("version 1.0", version(json!("1.0")), "malformed_envelope"),
        ("version 2", version(json!("2")), "malformed_envelope"),
        ("version 2.0 as a number", version(json!(2.0)), "malformed_envelope"),
        (
            "a message that is an object",
            br#"{"oslo.version": "2.0", "oslo.message": {}}"#.to_vec(),
            "malformed_envelope",
        ),
        ("a message that is no JSON", inner("{"), "malformed_json"),
        ("a message that is an array", inner("[]"), "malformed_envelope"),
        ("an array 100,000 deep", [vec![b'['; 100_000], vec![b']'; 100_000]].concat(), "malformed_envelope"),
        ("a message 100,000 deep", inner(&format!("{{\"args\": {}", "[".repeat(100_000))), "malformed_json"),
    ]
}

/// Sees to it that what is rejected comes to another queue, and declares that.
async fn catch_rejected(bed: &Bed, channel: &lapin::Channel, queue: &str) -> String {
    let dead = bed.broker.unique("dead");
    declare(channel, &dead).await;
    let policy = json!({"dead-letter-exchange": "", "dead-letter-routing-key": dead}).to_string();
    let pattern = format!("^{queue}$");
    bed.broker.ctl(&["ctl", "set_policy", "--apply-to", "queues", &dead, &pattern, &policy]);
    dead
}

async fn depth(channel: &lapin::Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    found.expect("it is there").message_count()
}

/// How often the log of this process says this of a message of `start`.
fn said(what: &str, fault: &str, start: &str) -> usize {
    let about = |line: &&str| line.contains(what) && line.contains(fault) && line.contains(start);
    log().0.text().lines().filter(about).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_rejected_counted_and_said_once() {
    let Some(bed) = bed::shared("malformed").await else { return };
    let ours = bed.serve("s1").await;
    let (raw, channel) = (Raw::new(&bed).await, bed.broker.bare().await);
    let dead = catch_rejected(&bed, &channel, &bed.topic).await;
    let mut total = 0;
    for (what, body, counter) in rejected() {
        let before = ours.count(counter);
        raw.send(&bed.topic, &body, json_properties()).await;
        eventually(what, async || ours.count(counter) == before + 1).await;
        total += 1;
        eventually(what, async || depth(&channel, &dead).await == total).await;
    }
    // The content type must be the protocol's, to the letter.
    let good = envelope(r#"{"method": "echo", "args": {}}"#);
    for odd in ["text/plain", "Application/JSON", "application/json; charset=utf-8"] {
        let properties = BasicProperties::default().with_content_type(odd.into());
        raw.send(&bed.topic, good.as_bytes(), properties).await;
        total += 1;
    }
    raw.send(&bed.topic, good.as_bytes(), BasicProperties::default()).await;
    let deflated = json_properties();
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), lapin::types::AMQPValue::LongString("application/x-gzip".into()));
    // gzip's frame is not the one that the name stands for.
    raw.send(&bed.topic, b"\x1f\x8b\x08\x00", deflated.with_headers(headers)).await;
    total += 2;
    ours.counted("malformed_content_type", 4).await;
    eventually("all are rejected", async || depth(&channel, &dead).await == total).await;
    // Again and again: counted each time, said once.
    for _ in 0..50 {
        raw.send(&bed.topic, b"rubbish of one kind", json_properties()).await;
    }
    total += 50;
    eventually("all are rejected", async || depth(&channel, &dead).await == total).await;
    assert_eq!(said("a malformed request", "not JSON", "rubbish of one kind"), 0, "said before, of another");
    assert_eq!(depth(&channel, &bed.topic).await, 0);
    assert_eq!(ours.count("received"), u64::from(total), "nothing came twice");
    assert_eq!(bed.call("echo", json!({"a": 1}), json!({})).await.expect("it serves on"), json!({"a": 1}));
    bed.broker.ctl(&["ctl", "clear_policy", &dead]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_usable_request_is_answered_with_a_failure() {
    let Some(bed) = bed::shared("unusable requests").await else { return };
    let ours = bed.serve("s1").await;
    let mut raw = Raw::new(&bed).await;
    let odd = |key: &str, value: Value| json!({key: value});
    for (more, class) in [
        (odd("method", Value::Null), "TypeError"),
        (odd("method", json!(7)), "TypeError"),
        (odd("args", Value::Null), "AttributeError"),
        (odd("args", json!([1])), "AttributeError"),
        (odd("version", json!("x")), "ValueError"),
        (odd("version", json!("1")), "IndexError"),
        (odd("version", json!(1.0)), "AttributeError"),
        (odd("namespace", json!(7)), "UnsupportedVersion"),
    ] {
        let request = raw.call("echo", json!({}), more.clone());
        raw.publish(&bed, &request.to_string()).await;
        let reply = raw.reply().await;
        assert_eq!(reply["_msg_id"], request["_msg_id"]);
        assert_eq!(failure_of(&reply)["class"], class, "{more}");
    }
    assert_eq!(ours.count("malformed_request"), 8);
    // Empty requests fail, and nobody can be told.
    for body in ["", "{}", r#"{"oslo.version": "2.0"}"#] {
        raw.send(&bed.topic, body.as_bytes(), json_properties()).await;
    }
    ours.counted("malformed_request", 11).await;
    // What Python can write and we do not read; the caller is found all the same.
    let usual = raw.call("echo", json!({"n": "@"}), json!({}));
    for text in [
        "NaN",
        "-Infinity",
        "1e999",
        "\"\\ud800\"",
        &"7".repeat(5000),
        &format!("{}{}", "[".repeat(3000), "]".repeat(3000)),
    ] {
        let request = usual.to_string().replace("\"@\"", text);
        raw.publish(&bed, &request.replace("\"_unique_id\"", "\"_no_id\"")).await;
        let reply = raw.reply().await;
        assert_eq!(reply["_msg_id"], usual["_msg_id"], "{text:.20}");
        assert!(reply["failure"].is_string(), "{text:.20}");
    }
    // An integer beyond 64 bits becomes the nearest number of floating point.
    let request = usual.to_string().replace("\"@\"", "1180591620717411303424");
    raw.publish(&bed, &request.replace("\"_unique_id\"", "\"_no_id\"")).await;
    let near = raw.reply().await["result"]["n"].as_f64().expect("a number");
    assert!((near / 2_f64.powi(70) - 1.0).abs() < 1e-15, "{near}");
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let request = raw.call("echo", json!({"n": "@"}), json!({})).to_string().replace("\"@\"", &deep);
    raw.publish(&bed, &request).await;
    assert!(raw.reply().await["failure"].is_null(), "a depth of 100 is read");
    assert_eq!(ours.count("panics"), 0);
    let empty = async || bed.broker.depth(&bed.topic).await == Some(0);
    eventually("all are settled", empty).await;
}

/// A server that answers with what it is given: takes one call, and returns its reply queue and id.
async fn take_call(channel: &lapin::Channel, queue: &str) -> (String, Value) {
    let call = take_from(channel, queue).await;
    (call["_reply_q"].as_str().expect("a call").to_owned(), call["_msg_id"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_fails_its_call_only() {
    let Some(bed) = bed::shared("malformed replies").await else { return };
    let before = bed.serve("s1").await;
    before.rpc.shutdown(bed::soon()).await;
    let (client, raw, channel) = (bed.client().await, Raw::new(&bed).await, bed.broker.bare().await);
    let call = async |timeout: u64| {
        let options = CallOptions::new(std::time::Duration::from_secs(timeout));
        client.call::<Value>(&bed.target(), "echo", &json!({}), options).await
    };
    // Replies that name their call fail it at once; the others leave it waiting.
    let deep = format!("\"result\": {}1{}", "[".repeat(5000), "]".repeat(5000));
    let wrongs = [
        r#""result": null, "failure": {"a": 1}"#,
        r#""result": null, "failure": "not JSON""#,
        r#""result": NaN, "failure": null"#,
        &deep,
    ];
    for (at, wrong) in wrongs.iter().enumerate() {
        let (answer, ()) = tokio::join!(call(60), async {
            let (queue, id) = take_call(&channel, &bed.topic).await;
            let reply = format!("{{{wrong}, \"ending\": true, \"_msg_id\": {id}}}");
            raw.send(&queue, envelope(&reply).as_bytes(), json_properties()).await;
        });
        assert!(matches!(answer, Err(RpcError::Malformed { .. })), "{at}: {answer:?}");
    }
    let (answer, queue) = tokio::join!(call(60), async {
        let (queue, id) = take_call(&channel, &bed.topic).await;
        for (_, body, _) in rejected() {
            raw.send(&queue, &body, json_properties()).await;
        }
        for _ in 0..50 {
            raw.send(&queue, b"rubbish of one kind", json_properties()).await;
        }
        raw.send(&queue, b"{}", BasicProperties::default()).await;
        raw.send(&queue, envelope(r#"{"result": 1, "ending": true}"#).as_bytes(), json_properties()).await;
        let stray = r#"{"result": 1, "failure": null, "ending": true, "_msg_id": "nobody's"}"#;
        raw.send(&queue, envelope(stray).as_bytes(), json_properties()).await;
        // The old protocol: the result, and its end in another message. Without envelope, too.
        let result = json!({"result": "at last", "failure": null, "_msg_id": id}).to_string();
        raw.send(&queue, result.as_bytes(), json_properties()).await;
        let end = json!({"ending": true, "_msg_id": id}).to_string();
        raw.send(&queue, envelope(&end).as_bytes(), json_properties()).await;
        queue
    });
    assert_eq!(answer.expect("the real answer"), "at last");
    assert_eq!(said("consuming", &queue, "generation="), 1, "no reply cost the channel, so none came twice");
    assert!(said("a malformed reply", "not JSON", "not JSON") <= 2, "once per kind and peer");
    assert_eq!(said("a malformed reply", "not JSON", "rubbish of one kind"), 0, "said before, of another");
}
