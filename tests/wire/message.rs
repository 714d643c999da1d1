//! One message as a fixture keeps it: a line of JSON that can be reviewed, and the very bytes that were sent.
//!
//! Always: [`Message::bytes`] is the body as it was published. The inner message stands in the line as it is, so that
//! only the envelope around it is put together again.

use novella_messaging::Destination;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::log::Event;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request that is answered.
    Call,
    /// A request that nobody answers.
    Cast,
    /// The result of a call.
    Answer,
    /// The error of a call.
    Failure,
    /// A sign that a call is still being worked on.
    Heartbeat,
}

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What happens in the step of the scenario that the message belongs to.
    pub name: String,
    pub kind: Kind,
    /// The connection that sent it, such as `host-1`.
    pub from: String,
    /// AMQP exchange; empty for a reply.
    pub exchange: String,
    /// AMQP routing key; empty for a fanout exchange.
    pub key: String,
    /// How long the broker keeps it in a queue, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_ms: Option<u64>,
    /// Whether the sender hears of it if nobody listens.
    pub mandatory: bool,
    /// The inner message, which the envelope has as text.
    pub message: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "oslo.version")]
    version: String,
    #[serde(rename = "oslo.message")]
    message: String,
}

/// The body of a message whose inner one is this text.
pub fn body(inner: &str) -> Vec<u8> {
    let envelope = Envelope { version: "2.0".to_owned(), message: inner.to_owned() };
    serde_json::to_vec(&envelope).expect("two texts can be written")
}

impl Message {
    pub fn new(name: &str, event: &Event) -> Self {
        let envelope: Envelope = serde_json::from_str(&event.body).expect("all have an envelope");
        let message = RawValue::from_string(envelope.message).expect("the inner message is JSON");
        let inner: Value = serde_json::from_str(message.get()).expect("the inner message is JSON");
        let kind = match (inner.get("method"), inner.get("_msg_id")) {
            (Some(_), Some(_)) => Kind::Call,
            (Some(_), None) => Kind::Cast,
            (None, _) if !inner["failure"].is_null() => Kind::Failure,
            (None, _) if inner["ending"] == false => Kind::Heartbeat,
            (None, _) => Kind::Answer,
        };
        let (exchange, key) = match event.destination.clone() {
            Destination::Topic { exchange, topic } => (exchange, topic),
            Destination::Server { exchange, topic, server } => (exchange, format!("{topic}.{server}")),
            Destination::Fanout { topic } => (format!("{topic}_fanout"), String::new()),
            Destination::Queue { name } => (String::new(), name),
        };
        let expiration_ms = event.expiration.map(|time| time.as_millis() as u64);
        let (name, from, mandatory) = (name.to_owned(), event.connection.clone(), event.mandatory);
        let kept = Self { name, kind, from, exchange, key, expiration_ms, mandatory, message };
        assert_eq!(kept.bytes(), event.body.as_bytes(), "the envelope is as it was");
        kept
    }

    pub fn read(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The body.
    pub fn bytes(&self) -> Vec<u8> {
        body(self.message.get())
    }

    pub fn inner(&self) -> Value {
        serde_json::from_str(self.message.get()).expect("a fixture is JSON")
    }

    pub fn destination(&self) -> Destination {
        let (exchange, key) = (self.exchange.clone(), self.key.clone());
        match (exchange.strip_suffix("_fanout"), key.split_once('.')) {
            (Some(topic), _) => Destination::Fanout { topic: topic.to_owned() },
            _ if exchange.is_empty() => Destination::Queue { name: key },
            (_, Some((topic, server))) => {
                Destination::Server { exchange, topic: topic.to_owned(), server: server.to_owned() }
            }
            _ => Destination::Topic { exchange, topic: key },
        }
    }

    /// Where the answer to a call goes.
    pub fn reply_queue(&self) -> Option<String> {
        let queue = self.inner().get("_reply_q")?.as_str()?.to_owned();
        (self.kind == Kind::Call).then_some(queue)
    }

    /// Whether this is an answer, a failure or a heartbeat of that call.
    pub fn answers(&self, call: &Self) -> bool {
        self.inner().get("method").is_none() && self.inner()["_msg_id"] == call.inner()["_msg_id"]
    }
}
