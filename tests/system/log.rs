//! What happened on the bus, as text that two runs can be compared by.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{
    ConnectionState, Consumer, Destination, Outgoing, QueueKind, Subscription, Transport, TransportError,
};
use novella_service::Env;
use tokio::sync::watch;
use tokio::time::Instant;

/// Every message published, in order.
#[derive(Clone, Default)]
pub struct EventLog {
    events: Arc<Mutex<Vec<Event>>>,
}

/// One message published.
#[derive(Clone)]
pub struct Event {
    pub at_ms: u128,
    pub connection: String,
    pub destination: Destination,
    pub expiration: Option<Duration>,
    pub mandatory: bool,
    pub body: String,
}

impl EventLog {
    /// Messages so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bodies that a connection published and that contain a text.
    pub fn bodies(&self, connection: &str, containing: &str) -> Vec<String> {
        let events = self.events();
        let of_it = events.into_iter().filter(|event| event.connection == connection);
        of_it.map(|event| event.body).filter(|body| body.contains(containing)).collect()
    }

    /// One line per message: when, who, where to, and what (its first words and a hash of all of it).
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Event { at_ms, connection, destination, expiration, mandatory, body } in self.events() {
            let mut hash = DefaultHasher::new();
            body.hash(&mut hash);
            let hash = hash.finish();
            let properties = format!("{expiration:?} {mandatory}");
            writeln!(
                text,
                "{at_ms:>8} {connection} -> {destination:?} {properties} {} {hash:016x}",
                body.len()
            )
            .expect("a string takes all");
        }
        text
    }
}

/// A transport whose publications are written down.
pub struct Recorded {
    pub inner: Arc<dyn Transport>,
    pub connection: String,
    pub env: Env,
    pub log: EventLog,
}

#[async_trait]
impl Transport for Recorded {
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let event = Event {
            at_ms: self.env.clock.now().as_millis(),
            connection: self.connection.clone(),
            destination: message.destination.clone(),
            expiration: message.expiration,
            mandatory: message.mandatory,
            body: String::from_utf8_lossy(&message.body).into_owned(),
        };
        self.log.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.inner.publish(message).await
    }

    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        self.inner.declare(queue, deadline).await
    }

    async fn keep_exchange(&self, of: &Destination, deadline: Instant) -> Result<bool, TransportError> {
        self.inner.keep_exchange(of, deadline).await
    }

    fn rebind(&self) {
        self.inner.rebind();
    }

    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        self.inner.consume(subscription).await
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    fn users(&self) -> Vec<String> {
        self.inner.users()
    }

    async fn close(&self, deadline: Instant) {
        self.inner.close(deadline).await;
    }
}
