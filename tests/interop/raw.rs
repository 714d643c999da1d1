//! A peer that speaks AMQP and says what it likes: messages that oslo.messaging itself would never send.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{Bed, merge};
use crate::support::PATIENCE;

/// A channel that publishes, and a reply queue that only it consumes.
pub struct Raw {
    channel: Channel,
    replies: Consumer,
    pub reply_queue: String,
    sent: u64,
    expected: HashMap<String, (u64, String)>,
}

impl Raw {
    pub async fn new(bed: &Bed) -> Self {
        let channel = bed.broker.bare().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let reply_queue = bed.broker.unique("raw_reply");
        declare(&channel, &reply_queue).await;
        let options = BasicConsumeOptions::default();
        let replies = channel
            .basic_consume(reply_queue.as_str().into(), "raw".into(), options, FieldTable::default())
            .await
            .expect("it is consumed");
        Self { channel, replies, reply_queue, sent: 0, expected: HashMap::new() }
    }

    /// An inner message that calls; `more` adds keys and overrides them.
    pub fn call(&mut self, method: &str, args: Value, more: Value) -> Value {
        self.sent += 1;
        let (id, unique) = (format!("call-{}", self.sent), format!("unique-{}", self.sent));
        let mut message = json!({
            "method": method, "args": args, "version": "1.0", "_msg_id": id, "_reply_q": self.reply_queue,
            "_timeout": null, "_unique_id": unique,
        });
        merge(&mut message, more);
        message
    }

    /// Publishes an inner message, in its envelope, to the test's topic.
    pub async fn publish(&self, bed: &Bed, inner: &str) {
        let body = envelope(inner);
        self.send(&bed.topic, body.as_bytes(), json_properties()).await;
    }

    /// Publishes straight to a queue, whatever it is.
    pub async fn send(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish("".into(), queue.into(), options, body, properties).await;
        let confirmed = sent.expect("it is sent").await.expect("the broker takes it");
        assert!(matches!(confirmed, lapin::Confirmation::Ack(None)), "the queue is there: {confirmed:?}");
    }

    /// The next reply's inner message.
    pub async fn reply(&mut self) -> Value {
        let delivery = timeout(PATIENCE, self.replies.next()).await.expect("a reply in time");
        let delivery = delivery.expect("the channel lives").expect("the channel lives");
        delivery.acker.ack(BasicAckOptions::default()).await.expect("the channel lives");
        inner_of(&delivery.data)
    }

    /// Notes that a call will be answered, after so many signs of life.
    pub fn expect(&mut self, id: &Value, heartbeats: u64, what: &str) {
        self.expected.insert(id.as_str().expect("text").to_owned(), (heartbeats, what.to_owned()));
    }

    /// Waits for all that was noted.
    pub async fn expected(&mut self) {
        let mut heard: HashMap<String, u64> = HashMap::new();
        while !self.expected.is_empty() {
            let reply = self.reply().await;
            let id = reply["_msg_id"].as_str().expect("as sent").to_owned();
            assert!(reply.get("failure").is_some(), "a client looks for it: {reply}");
            if reply["ending"] == false {
                assert!(reply["result"].is_null() && reply["failure"].is_null(), "{reply}");
                *heard.entry(id).or_default() += 1;
                continue;
            }
            let (wanted, what) = self.expected.remove(&id).expect("answered once");
            assert_eq!(heard.get(&id).copied().unwrap_or_default(), wanted, "{what}");
        }
    }
}

/// Declares a queue of this connection.
pub async fn declare(channel: &Channel, queue: &str) {
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), exclusive, FieldTable::default()).await.expect("declared");
}

/// The inner message of what comes next to a queue that nobody consumes.
pub async fn take_from(channel: &Channel, queue: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await;
        if let Some(message) = got.expect("the queue is there") {
            return inner_of(&message.data);
        }
        assert!(Instant::now() < deadline, "nothing came to {queue}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The envelope around an inner message.
pub fn envelope(inner: &str) -> String {
    json!({"oslo.version": "2.0", "oslo.message": inner}).to_string()
}

/// The inner message of a body.
pub fn inner_of(body: &[u8]) -> Value {
    let outer: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(outer["oslo.version"], "2.0");
    serde_json::from_str(outer["oslo.message"].as_str().expect("text")).expect("JSON")
}

/// What a message of the protocol must have, and no more.
pub fn json_properties() -> BasicProperties {
    BasicProperties::default().with_content_type("application/json".into())
}

/// The failure in a reply: the third level of JSON.
pub fn failure_of(reply: &Value) -> Value {
    serde_json::from_str(reply["failure"].as_str().expect("a failure")).expect("JSON")
}
