//! Names and shapes of exchanges and queues, and how each is declared.
//!
//! Exchanges have exactly the shape that a default oslo.messaging peer declares. A queue is either exclusive to us, or
//! durable and without arguments, because RabbitMQ 4.3 refuses transient queues that are shared. [`Topology::Oslo`] mirrors
//! oslo.messaging's options instead, for a topic that oslo.messaging servers consume too.

use std::fmt;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::transport::{Destination, FanoutLimits, MAX_NAME_BYTES, QueueKind};

/// Which shapes of exchanges and queues are declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Topology {
    /// novella's own shapes, which every RabbitMQ from 3.10 on takes.
    #[default]
    Native,
    /// The shapes that an oslo.messaging server with these options declares.
    Oslo(OsloOptions),
}

/// oslo.messaging's options of the same names. Their defaults are its defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsloOptions {
    /// Whether the control exchange and the queues of topics and servers survive a restart of the broker.
    pub amqp_durable_queues: bool,
    /// Whether the control exchange and the queues of topics and servers vanish with their last consumer.
    pub amqp_auto_delete: bool,
    /// Whether the queues of topics and servers are quorum queues. They and the control exchange are durable then.
    pub rabbit_quorum_queue: bool,
    /// Whether fanout and reply queues are quorum queues. They and the fanout exchange are durable then.
    pub rabbit_transient_quorum_queue: bool,
    /// How long fanout and reply queues outlive their last consumer. Zero means for ever.
    pub rabbit_transient_queues_ttl: Duration,
    /// How often a quorum queue delivers one message at most. Zero leaves it to the broker.
    pub rabbit_quorum_delivery_limit: u32,
    /// How many messages a quorum queue keeps in memory. Zero leaves the argument out. RabbitMQ from 3.10 on ignores it, but
    /// refuses a declaration with another value.
    pub rabbit_quorum_max_memory_length: u32,
    /// How many bytes of messages a quorum queue keeps in memory, under the same rules.
    pub rabbit_quorum_max_memory_bytes: u32,
}

impl Default for OsloOptions {
    fn default() -> Self {
        Self {
            amqp_durable_queues: false,
            amqp_auto_delete: false,
            rabbit_quorum_queue: false,
            rabbit_transient_quorum_queue: false,
            rabbit_transient_queues_ttl: Duration::from_secs(1800),
            rabbit_quorum_delivery_limit: 0,
            rabbit_quorum_max_memory_length: 0,
            rabbit_quorum_max_memory_bytes: 0,
        }
    }
}

/// An exchange in the shape it is declared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExchangeDeclaration {
    pub name: String,
    kind: ExchangeKind,
    durable: bool,
    auto_delete: bool,
}

/// A queue in the shape it is declared, and the exchanges that it is bound to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueueDeclaration {
    pub name: String,
    pub exclusive: bool,
    durable: bool,
    auto_delete: bool,
    arguments: Vec<(&'static str, AMQPValue)>,
    /// Each exchange, with the key of the binding.
    bindings: Vec<(ExchangeDeclaration, String)>,
}

/// A declaration that the broker refused.
#[derive(Debug)]
pub(super) struct RefusedDeclaration {
    /// What was declared, and the shape it should have.
    pub attempted: String,
    pub error: lapin::Error,
}

impl Topology {
    fn control_exchange(&self, name: &str) -> ExchangeDeclaration {
        let (durable, auto_delete) = match self {
            Self::Native => (false, false),
            Self::Oslo(options) => (options.shared_durable(), options.amqp_auto_delete),
        };
        ExchangeDeclaration { name: name.to_owned(), kind: ExchangeKind::Topic, durable, auto_delete }
    }

    fn fanout_exchange(&self, topic: &str) -> ExchangeDeclaration {
        let durable = matches!(self, Self::Oslo(options) if options.rabbit_transient_quorum_queue);
        ExchangeDeclaration {
            name: format!("{topic}_fanout"),
            kind: ExchangeKind::Fanout,
            durable,
            auto_delete: true,
        }
    }

    /// The exchange that a message to `destination` goes through. `None` is the default exchange, which always exists.
    pub(super) fn exchange_of(&self, destination: &Destination) -> Option<ExchangeDeclaration> {
        match destination {
            Destination::Topic { exchange, .. } | Destination::Server { exchange, .. } => {
                Some(self.control_exchange(exchange))
            }
            Destination::Fanout { topic } => Some(self.fanout_exchange(topic)),
            Destination::Queue { .. } => None,
        }
    }

    /// The queue of a subscription. `unique` makes the last part of a fanout queue's name, which no queue had before.
    pub(super) fn queue_of(&self, kind: &QueueKind, unique: impl FnOnce() -> String) -> QueueDeclaration {
        match kind {
            QueueKind::Topic { exchange, topic } => {
                let bindings = vec![(self.control_exchange(exchange), topic.clone())];
                self.shared_queue(topic.clone(), false, bindings)
            }
            QueueKind::Server { exchange, topic, server, fanout } => {
                let name = format!("{topic}.{server}");
                let mut bindings = vec![(self.control_exchange(exchange), name.clone())];
                if *fanout {
                    bindings.push((self.fanout_exchange(topic), topic.clone()));
                }
                self.shared_queue(name, true, bindings)
            }
            QueueKind::Fanout { topic, limits } => {
                let bindings = vec![(self.fanout_exchange(topic), topic.clone())];
                self.own_queue(format!("{topic}_fanout_{}", unique()), Some(limits), bindings)
            }
            QueueKind::Reply { name } => self.own_queue(name.clone(), None, Vec::new()),
        }
    }

    /// A queue that an oslo.messaging server would share with others. Ours is `exclusive` if only one server consumes it.
    fn shared_queue(
        &self,
        name: String,
        exclusive: bool,
        bindings: Vec<(ExchangeDeclaration, String)>,
    ) -> QueueDeclaration {
        let (exclusive, durable, auto_delete, arguments) = match self {
            Self::Native => (exclusive, !exclusive, false, Vec::new()),
            Self::Oslo(options) => {
                let arguments = if options.rabbit_quorum_queue { options.quorum() } else { Vec::new() };
                (false, options.shared_durable(), options.amqp_auto_delete, arguments)
            }
        };
        QueueDeclaration { name, exclusive, durable, auto_delete, arguments, bindings }
    }

    /// A queue that only we declare.
    fn own_queue(
        &self,
        name: String,
        limits: Option<&FanoutLimits>,
        bindings: Vec<(ExchangeDeclaration, String)>,
    ) -> QueueDeclaration {
        let (durable, arguments) = match self {
            Self::Native => (false, limits.map_or_else(Vec::new, limit_arguments)),
            Self::Oslo(options) => {
                let quorum = options.rabbit_transient_quorum_queue;
                let mut arguments = if quorum { options.quorum() } else { Vec::new() };
                let ttl = milliseconds(options.rabbit_transient_queues_ttl);
                if ttl > 0 {
                    arguments.push(("x-expires", AMQPValue::LongInt(ttl)));
                }
                (quorum, arguments)
            }
        };
        let exclusive = *self == Self::Native;
        QueueDeclaration { name, exclusive, durable, auto_delete: false, arguments, bindings }
    }
}

impl OsloOptions {
    fn shared_durable(&self) -> bool {
        self.amqp_durable_queues || self.rabbit_quorum_queue
    }

    /// The arguments of a quorum queue.
    fn quorum(&self) -> Vec<(&'static str, AMQPValue)> {
        let mut arguments = vec![("x-queue-type", AMQPValue::LongString("quorum".into()))];
        for (name, limit) in [
            ("x-delivery-limit", self.rabbit_quorum_delivery_limit),
            ("x-max-in-memory-length", self.rabbit_quorum_max_memory_length),
            ("x-max-in-memory-bytes", self.rabbit_quorum_max_memory_bytes),
        ] {
            if limit > 0 {
                arguments.push((name, AMQPValue::LongInt(i32::try_from(limit).unwrap_or(i32::MAX))));
            }
        }
        arguments
    }
}

fn limit_arguments(limits: &FanoutLimits) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("x-message-ttl", AMQPValue::LongInt(milliseconds(limits.message_ttl))),
        ("x-max-length", AMQPValue::LongInt(i32::try_from(limits.max_length).unwrap_or(i32::MAX))),
        ("x-overflow", AMQPValue::LongString("drop-head".into())),
    ]
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl ExchangeDeclaration {
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), RefusedDeclaration> {
        let options = ExchangeDeclareOptions {
            durable: self.durable,
            auto_delete: self.auto_delete,
            ..ExchangeDeclareOptions::default()
        };
        let declared =
            channel.exchange_declare(short(&self.name), self.kind.clone(), options, FieldTable::default());
        declared.await.map_err(|error| RefusedDeclaration { attempted: format!("declaring {self}"), error })
    }

    /// Fails if there is no exchange of this name. The broker compares neither kind nor shape.
    pub(super) async fn look_for(&self, channel: &Channel) -> Result<(), RefusedDeclaration> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let found =
            channel.exchange_declare(short(&self.name), self.kind.clone(), options, FieldTable::default());
        found.await.map_err(|error| RefusedDeclaration { attempted: format!("looking for {self}"), error })
    }
}

impl QueueDeclaration {
    /// Why this cannot be declared on any broker, if so.
    pub(super) fn invalid_name(&self) -> Option<String> {
        let bound_to = self.bindings.iter().flat_map(|(exchange, key)| [&exchange.name, key]);
        bound_to.chain([&self.name]).find_map(|name| too_long(name))
    }

    /// The exchanges that feed the queue.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = &ExchangeDeclaration> {
        self.bindings.iter().map(|(exchange, _)| exchange)
    }

    /// Declares the queue and its bindings. The exchanges must be there.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), RefusedDeclaration> {
        let options = QueueDeclareOptions {
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            ..QueueDeclareOptions::default()
        };
        let mut arguments = FieldTable::default();
        for (key, value) in &self.arguments {
            arguments.insert((*key).into(), value.clone());
        }
        let declaring = |error| RefusedDeclaration { attempted: format!("declaring {self}"), error };
        channel.queue_declare(short(&self.name), options, arguments).await.map_err(declaring)?;
        self.bind(channel).await
    }

    /// Binds the queue. A binding that is there already stays as it is.
    pub(super) async fn bind(&self, channel: &Channel) -> Result<(), RefusedDeclaration> {
        for (exchange, key) in &self.bindings {
            let attempted = || format!("binding {self} to {exchange}");
            let binding = |error| RefusedDeclaration { attempted: attempted(), error };
            let (queue, from, options) =
                (short(&self.name), short(&exchange.name), QueueBindOptions::default());
            let bound = channel.queue_bind(queue, from, short(key), options, FieldTable::default());
            bound.await.map_err(binding)?;
        }
        Ok(())
    }

    /// Unbinds an exclusive queue, so that mandatory messages to it come back to their senders. A shared queue stays bound:
    /// others serve it, now or later.
    pub(super) async fn unbind(&self, channel: &Channel) -> lapin::Result<()> {
        if !self.exclusive {
            return Ok(());
        }
        for (exchange, key) in &self.bindings {
            let (queue, exchange) = (short(&self.name), short(&exchange.name));
            channel.queue_unbind(queue, exchange, short(key), FieldTable::default()).await?;
        }
        Ok(())
    }
}

/// Why a name is too long for the wire, if it is.
pub(super) fn too_long(name: &str) -> Option<String> {
    (name.len() > MAX_NAME_BYTES)
        .then(|| format!("names in AMQP have at most {MAX_NAME_BYTES} bytes, {name:.40}... has more"))
}

/// A name for the wire. Check it with [`too_long`] first: lapin panics on longer ones.
pub(super) fn short(text: &str) -> ShortString {
    text.into()
}

impl fmt::Display for ExchangeDeclaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survival = if self.durable { "durable" } else { "transient" };
        let end = if self.auto_delete { ", auto-delete" } else { "" };
        let kind = if self.kind == ExchangeKind::Fanout { "fanout" } else { "topic" };
        write!(f, "exchange {:?} (ours: {kind}, {survival}{end})", self.name)
    }
}

impl fmt::Display for QueueDeclaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survival = if self.durable { "durable" } else { "transient" };
        write!(f, "queue {:?} (ours: {survival}", self.name)?;
        for (set, word) in [(self.exclusive, "exclusive"), (self.auto_delete, "auto-delete")] {
            if set {
                write!(f, ", {word}")?;
            }
        }
        for (key, value) in &self.arguments {
            match value {
                AMQPValue::LongInt(number) => write!(f, ", {key}={number}")?,
                AMQPValue::LongString(text) => write!(f, ", {key}={text}")?,
                _ => write!(f, ", {key}")?,
            }
        }
        f.write_str(")")
    }
}

/// Exchange and routing key of a destination.
pub(super) fn address(destination: &Destination) -> (String, String) {
    match destination {
        Destination::Topic { exchange, topic } => (exchange.clone(), topic.clone()),
        Destination::Server { exchange, topic, server } => (exchange.clone(), format!("{topic}.{server}")),
        Destination::Fanout { topic } => (format!("{topic}_fanout"), String::new()),
        Destination::Queue { name } => (String::new(), name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fanout() -> QueueKind {
        let limits = FanoutLimits { message_ttl: Duration::from_secs(30), max_length: 4000 };
        QueueKind::Fanout { topic: "scheduler".into(), limits }
    }

    fn server(fanout: bool) -> QueueKind {
        QueueKind::Server { exchange: "nova".into(), topic: "compute".into(), server: "h.1".into(), fanout }
    }

    fn text(topology: &Topology, kind: &QueueKind) -> String {
        let queue = topology.queue_of(kind, || "u".into());
        let bound_to = queue
            .bindings
            .iter()
            .map(|(exchange, key)| format!(" <- {exchange} {key:?}"))
            .collect::<String>();
        format!("{queue}{bound_to}")
    }

    #[test]
    fn native_shapes_are_those_of_the_design() {
        let native = Topology::Native;
        let topic = QueueKind::Topic { exchange: "nova".into(), topic: "scheduler".into() };
        assert_eq!(
            text(&native, &topic),
            r#"queue "scheduler" (ours: durable) <- exchange "nova" (ours: topic, transient) "scheduler""#
        );
        assert_eq!(
            text(&native, &server(true)),
            "queue \"compute.h.1\" (ours: transient, exclusive) <- exchange \"nova\" (ours: topic, transient) \
             \"compute.h.1\" <- exchange \"compute_fanout\" (ours: fanout, transient, auto-delete) \"compute\""
        );
        assert!(!text(&native, &server(false)).contains("compute_fanout"));
        assert_eq!(
            text(&native, &fanout()),
            "queue \"scheduler_fanout_u\" (ours: transient, exclusive, x-message-ttl=30000, x-max-length=4000, \
             x-overflow=drop-head) <- exchange \"scheduler_fanout\" (ours: fanout, transient, auto-delete) \"scheduler\""
        );
        assert_eq!(
            text(&native, &QueueKind::Reply { name: "reply_x".into() }),
            r#"queue "reply_x" (ours: transient, exclusive)"#
        );
    }

    #[test]
    fn oslo_shapes_follow_its_options() {
        let default = Topology::Oslo(OsloOptions::default());
        assert_eq!(
            text(&default, &server(false)),
            r#"queue "compute.h.1" (ours: transient) <- exchange "nova" (ours: topic, transient) "compute.h.1""#
        );
        assert!(
            text(&default, &fanout())
                .starts_with(r#"queue "scheduler_fanout_u" (ours: transient, x-expires=1800000)"#)
        );
        let quorum = Topology::Oslo(OsloOptions {
            rabbit_quorum_queue: true,
            rabbit_transient_quorum_queue: true,
            ..OsloOptions::default()
        });
        assert_eq!(
            text(&quorum, &server(false)),
            "queue \"compute.h.1\" (ours: durable, x-queue-type=quorum) <- exchange \"nova\" (ours: topic, durable) \
             \"compute.h.1\""
        );
        assert!(text(&quorum, &fanout()).contains("(ours: durable, x-queue-type=quorum, x-expires=1800000)"));
        assert!(
            text(&quorum, &fanout())
                .contains(r#"exchange "scheduler_fanout" (ours: fanout, durable, auto-delete)"#)
        );
        let limited = Topology::Oslo(OsloOptions {
            rabbit_quorum_queue: true,
            rabbit_quorum_delivery_limit: 5,
            rabbit_quorum_max_memory_length: 6,
            rabbit_quorum_max_memory_bytes: 7,
            ..OsloOptions::default()
        });
        assert!(text(&limited, &server(false)).contains(
            "x-queue-type=quorum, x-delivery-limit=5, x-max-in-memory-length=6, x-max-in-memory-bytes=7)"
        ));
        assert!(!text(&limited, &fanout()).contains("x-delivery-limit"), "no quorum queue");
    }
}
