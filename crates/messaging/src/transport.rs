//! The interface between the protocol and what carries it.
//!
//! A transport publishes bytes to a [`Destination`] and yields deliveries of a [`QueueKind`]. It knows names, shapes of
//! queues, acknowledgements and the state of its connection, and nothing of JSON. Every implementation promises:
//! - `publish` returns as soon as it is known whether the broker has the message, and never after its deadline;
//! - a consumer outlives connections: after a failure its queue is declared, bound and consumed again, and settling a
//!   delivery of the old connection does nothing;
//! - a dropped consumer stops consuming.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::TransportError;

/// The content type of every message, compared letter by letter as oslo.messaging does.
pub(crate) const CONTENT_TYPE: &str = "application/json";

/// Longest body that is sent or read, in bytes. RabbitMQ 4 refuses longer ones by default.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Longest arguments of a request, in bytes of JSON text. The largest request that is allowed, 10,000 instances, takes
/// less than half of it.
pub const MAX_ARGUMENT_BYTES: usize = 1024 * 1024;

/// How many bytes of bodies are taken from a queue at a time, unless one body alone has more. A compressed body counts with
/// its length when inflated.
pub(crate) const MAX_BATCH_BYTES: usize = MAX_BODY_BYTES;

/// Longest name of an exchange or queue and longest routing key, in bytes: the limit of AMQP's short strings.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Where a message is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The control exchange, with the key `<topic>`.
    Topic {
        /// Name of the control exchange.
        exchange: String,
        /// The routing key.
        topic: String,
    },
    /// The control exchange, with the key `<topic>.<server>`.
    Server {
        /// Name of the control exchange.
        exchange: String,
        /// First part of the key.
        topic: String,
        /// Second part of the key. It may hold dots.
        server: String,
    },
    /// The exchange `<topic>_fanout`, with an empty key.
    Fanout {
        /// The topic whose servers all get the message.
        topic: String,
    },
    /// The default exchange, which leads straight to a queue. Replies go there.
    Queue {
        /// Name of the queue.
        name: String,
    },
}

impl fmt::Display for Destination {
    /// The name that operators see on the broker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic { topic, .. } => f.write_str(topic),
            Self::Server { topic, server, .. } => write!(f, "{topic}.{server}"),
            Self::Fanout { topic } => write!(f, "{topic}_fanout"),
            Self::Queue { name } => f.write_str(name),
        }
    }
}

/// One message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub destination: Destination,
    /// The message as JSON text.
    pub body: Bytes,
    /// How long it may wait in a queue before the broker drops it. `None` sets no limit.
    pub expiration: Option<Duration>,
    /// Whether `publish` fails with [`TransportError::Unroutable`] if no queue takes the message.
    pub mandatory: bool,
    /// When `publish` gives up, whatever the broker does.
    pub deadline: Instant,
}

/// A queue that a server or a client consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueKind {
    /// `<topic>`, shared by all servers of the topic.
    Topic {
        /// The control exchange that the queue is bound to.
        exchange: String,
        /// Name of the queue, and the key it is bound with.
        topic: String,
    },
    /// `<topic>.<server>`, exclusive to one connection.
    Server {
        /// The control exchange that the queue is bound to.
        exchange: String,
        /// First part of the name.
        topic: String,
        /// Second part of the name.
        server: String,
        /// Whether the topic's fanout casts go into this queue too. An agent has this one queue for both.
        fanout: bool,
    },
    /// `<topic>_fanout_<uuid>`, exclusive, with a new name for each connection.
    Fanout {
        /// The topic whose fanout casts it takes.
        topic: String,
        /// Bounds of the queue.
        limits: FanoutLimits,
    },
    /// `reply_<uuid>`, exclusive. Its name stays the same as long as its consumer lives.
    Reply {
        /// The whole name.
        name: String,
    },
}

/// Bounds of a fanout queue. The broker keeps them by dropping the oldest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutLimits {
    /// How long a message waits before it is dropped (`x-message-ttl`).
    pub message_ttl: Duration,
    /// How many messages the queue holds (`x-max-length`, with overflow `drop-head`).
    pub max_length: u32,
}

/// A queue to consume, and how many deliveries of it to take in advance.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The queue.
    pub queue: QueueKind,
    /// How many deliveries may be unsettled at a time.
    pub prefetch: u16,
}

/// One message that was received.
#[derive(Debug)]
pub struct Delivery {
    /// The body. It has been decompressed if its header asked for that.
    pub body: Bytes,
    /// AMQP content type. The protocol's is exactly `application/json`.
    pub content_type: Option<String>,
    /// The AMQP user who published it. The broker has checked that.
    pub user_id: Option<String>,
    /// Settles this delivery on its consumer.
    pub tag: DeliveryTag,
}

/// Identifies a delivery to the consumer that yielded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryTag {
    /// Counts the times the queue was set up. A tag of an earlier time settles nothing.
    pub generation: u64,
    /// AMQP delivery tag.
    pub tag: u64,
}

/// How a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Acknowledges this one.
    Ack,
    /// Acknowledges this one and all before it.
    AckThrough,
    /// Rejects this one for good, because it can never be processed.
    Reject,
}

/// State of the connection. It never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// There is no connection, and the transport tries to get one.
    Connecting {
        /// The brokers that are tried, each as `host:port/vhost`.
        brokers: String,
        /// Attempts since the last connection.
        attempt: u32,
        /// Why the last attempt failed or the last connection was lost, with the broker's address.
        last_error: Option<String>,
    },
    /// There is a connection.
    Connected {
        /// Raised with every new connection.
        generation: u64,
        /// The broker as `host:port/vhost`.
        broker: String,
    },
    /// There is a connection, but the broker accepts no messages (`connection.blocked`).
    Blocked {
        /// The broker as `host:port/vhost`.
        broker: String,
        /// The broker's words.
        reason: String,
    },
    /// This process has closed the transport.
    Closed,
}

impl ConnectionState {
    /// Whether there is a connection, even if the broker accepts no messages on it.
    pub fn has_connection(&self) -> bool {
        self.is_blocked() || self.takes_messages()
    }

    /// Whether there is a connection on which the broker takes messages.
    pub fn takes_messages(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Whether there is a connection on which the broker accepts no messages.
    pub fn is_blocked(&self) -> bool {
        self.block_reason().is_some()
    }

    /// Why the broker accepts no messages; `None` if it accepts them, or if there is no connection.
    pub fn block_reason(&self) -> Option<&str> {
        match self {
            Self::Blocked { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// Whether messages can be sent, and the state for people.
    pub fn readiness(&self) -> (bool, String) {
        (self.takes_messages(), self.to_string())
    }

    /// The number of the connection; `None` if it is not known in this state.
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::Connected { generation, .. } => Some(*generation),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectionState {
    /// The state for people: which broker it is about, and the cause if there is no connection.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting { brokers, last_error: None, .. } => write!(f, "connecting to {brokers}"),
            Self::Connecting { attempt: 0, last_error: Some(error), .. } => {
                write!(f, "the connection is lost: {error}")
            }
            Self::Connecting { attempt, last_error: Some(error), .. } => {
                let times = if *attempt == 1 { "attempt" } else { "attempts" };
                write!(f, "not connected after {attempt} {times}: {error}")
            }
            Self::Connected { broker, .. } => write!(f, "connected to {broker}"),
            Self::Blocked { broker, reason } => {
                write!(f, "the broker {broker} accepts no messages: {reason}")
            }
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// State of one consumer's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerState {
    /// The queue is not consumed. It is being set up, for the first time or again.
    Pending,
    /// The queue is consumed.
    Active {
        /// The connection's generation, as in [`ConnectionState::Connected`].
        generation: u64,
    },
    /// Another connection holds this exclusive queue (405). It is tried again after a while.
    Held,
    /// The queue cannot be consumed until an operator acts. It is tried again occasionally.
    Failed {
        /// The broker's words, and what to do.
        reason: String,
    },
}

/// What carries messages.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Publishes one message and waits for the broker's confirm.
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError>;

    /// Declares and binds a queue without consuming it: what is sent to it from now on waits there.
    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError>;

    /// Declares the exchange that messages to this destination go through, if it is missing. Returns whether it was missing.
    async fn keep_exchange(&self, of: &Destination, deadline: Instant) -> Result<bool, TransportError>;

    /// Binds all consumed queues again at once. Call it after a message did not arrive that should have: its binding may be
    /// lost. Bindings are also made again periodically.
    fn rebind(&self);

    /// Starts consuming a queue. Returns at once: [`Consumer::state`] shows when the queue is active.
    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError>;

    /// Follows the state of the connection.
    fn state(&self) -> watch::Receiver<ConnectionState>;

    /// The AMQP users that its messages may come from. There are several only if the URL names brokers with different ones.
    fn users(&self) -> Vec<String>;

    /// Closes the transport. Publications under way have until `deadline` to be confirmed, then consumers end.
    async fn close(&self, deadline: Instant);
}

/// A queue being consumed.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for deliveries and appends those that are there, `max` at most. Zero appended means that the consumer has
    /// ended. Cancel safe: a delivery is either appended or comes later.
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize;

    /// Settles a delivery without waiting for the broker. A tag of an older connection is ignored.
    fn settle(&mut self, tag: DeliveryTag, how: Settle);

    /// Follows the state of the queue.
    fn state(&self) -> watch::Receiver<ConsumerState>;

    /// Stops new deliveries, and waits until the broker has done so. Those already here can still be taken and settled.
    async fn cancel(&mut self);
}
