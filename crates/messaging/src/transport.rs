//! The seam between the protocol and what carries it.
//!
//! A transport publishes bytes to a [`Destination`] and yields deliveries of a [`QueueKind`]. It knows names, shapes,
//! acknowledgements and the connection's state, and nothing of JSON. Every implementation keeps these promises:
//! - `publish` returns when the broker has the message (or it is known not to), never later than its deadline;
//! - a consumer outlives connections: after a failure its queue is declared, bound and consumed anew, and deliveries of
//!   the old connection can still be settled, to no effect;
//! - a dropped consumer stops consuming.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::TransportError;

/// Where a message is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Control exchange, key `<topic>`.
    Topic {
        /// Control exchange.
        exchange: String,
        /// Routing key.
        topic: String,
    },
    /// Control exchange, key `<topic>.<server>`.
    Server {
        /// Control exchange.
        exchange: String,
        /// First part of the key.
        topic: String,
        /// Second part; may hold dots.
        server: String,
    },
    /// Exchange `<topic>_fanout`, empty key.
    Fanout {
        /// Topic.
        topic: String,
    },
    /// Default exchange, straight to a queue: replies.
    Queue {
        /// Its name.
        name: String,
    },
}

/// One message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub destination: Destination,
    /// JSON text.
    pub body: Bytes,
    /// The broker drops the message when it waited this long in a queue.
    pub expiration: Option<Duration>,
    /// Report `TransportError::Unroutable` if no queue takes it.
    pub mandatory: bool,
    /// Give up then, whatever the broker does.
    pub deadline: Instant,
}

/// A queue that a server or a client consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueKind {
    /// `<topic>`: shared by all servers of the topic.
    Topic {
        /// Control exchange it is bound to.
        exchange: String,
        /// Its name and key.
        topic: String,
    },
    /// `<topic>.<server>`: exclusive; also bound to `<topic>_fanout` if `fanout`.
    Server {
        /// Control exchange it is bound to.
        exchange: String,
        /// Topic.
        topic: String,
        /// Server.
        server: String,
        /// Take the topic's fanout casts into this queue too (the agents' one queue).
        fanout: bool,
    },
    /// `<topic>_fanout_<uuid>`: exclusive, a new name per connection.
    Fanout {
        /// Topic.
        topic: String,
        /// Bounds of the queue.
        limits: FanoutLimits,
    },
    /// `reply_<uuid>`: exclusive, the same name as long as the consumer lives.
    Reply {
        /// Whole queue name.
        name: String,
    },
}

/// Bounds of a fanout queue, kept by the broker: oldest messages are dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutLimits {
    /// `x-message-ttl`.
    pub message_ttl: Duration,
    /// `x-max-length`, with overflow `drop-head`.
    pub max_length: u32,
}

/// What to consume and how.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The queue.
    pub queue: QueueKind,
    /// Unacknowledged deliveries at most.
    pub prefetch: u16,
}

/// One message received.
#[derive(Debug)]
pub struct Delivery {
    /// The body, decompressed if its header said so.
    pub body: Bytes,
    /// AMQP content type; the protocol's is exactly `application/json`.
    pub content_type: Option<String>,
    /// Who published it, as checked by the broker.
    pub user_id: Option<String>,
    /// Given once before.
    pub redelivered: bool,
    /// Settles this delivery on its consumer: connection generation and delivery tag.
    pub tag: DeliveryTag,
}

/// Identifies a delivery to the consumer that yielded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryTag {
    /// Raised with every new connection; tags of an older one settle to no effect.
    pub generation: u64,
    /// AMQP delivery tag.
    pub tag: u64,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Acknowledge this one.
    Ack,
    /// Acknowledge this one and all before it.
    AckThrough,
    /// Reject without requeue: it can never be processed.
    Reject,
}

/// The connection as others may see it. Never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not connected; trying.
    Connecting {
        /// Attempts since the last connection.
        attempt: u32,
        /// Why the last one failed.
        last_error: Option<String>,
    },
    /// Connected.
    Connected {
        /// Raised with every new connection.
        generation: u64,
        /// `host:port/vhost`.
        broker: String,
    },
    /// Connected, but the broker takes no messages (`connection.blocked`).
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// Closed by us.
    Closed,
}

/// One consumer's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerState {
    /// Not (or no longer) consuming; being set up.
    Pending,
    /// Consuming since this connection generation.
    Active {
        /// See [`ConnectionState::Connected`].
        generation: u64,
    },
    /// Another connection holds this exclusive queue (405); tried again under back-off.
    Held,
    /// Cannot work without an operator: the broker's words and what to do.
    Failed {
        /// For people.
        reason: String,
    },
}

/// What carries messages.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Publishes one message and waits for the broker's confirm.
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError>;

    /// Declares and binds a queue without consuming it: what is sent to it waits there from now on.
    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError>;

    /// Starts consuming a queue. Returns at once: [`Consumer::state`] tells when it is active.
    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError>;

    /// The connection's state, now and as it changes.
    fn state(&self) -> watch::Receiver<ConnectionState>;

    /// Closes: what was published is confirmed or lost by `deadline`, consumers end.
    async fn close(&self, deadline: Instant);
}

/// A queue being consumed.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for deliveries and appends at most `max` that are there. Zero appended means the consumer has ended.
    /// Cancel safe: a delivery is either appended or still to come.
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize;

    /// Settles a delivery. Does not wait for the broker; a tag of an older connection is ignored.
    fn settle(&mut self, tag: DeliveryTag, how: Settle);

    /// The queue's state, now and as it changes.
    fn state(&self) -> watch::Receiver<ConsumerState>;

    /// Stops new deliveries (basic.cancel, awaited); those already here can still be taken and settled.
    async fn cancel(&mut self);
}
