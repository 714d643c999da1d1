//! A broker in memory: a whole fleet in one process, for demonstrations and simulation.
//!
//! It follows RabbitMQ's rules as far as [`Transport`] shows them. Shared queues serve their consumers in turn, exclusive
//! ones belong to a connection and go with it, messages expire, a full queue drops its oldest, and what was not
//! acknowledged is delivered again. It also breaks on request, from a seed: messages are late, lost or doubled, connections
//! are cut, the broker restarts. With one thread and paused time a run repeats itself exactly.
//!
//! It leaves out what the trait does not show: permissions, durability (a restart keeps the names of shared queues and no
//! message), and the time that a broker takes to notice a dead connection.
//!
//! From the bottom up: `faults` what goes wrong · `queue` one queue · `broker_state` connections, queues and consumers.

mod broker_state;
mod faults;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::broker_state::{BROKER, BrokerState, Routed};
use self::faults::Fate;
pub use self::faults::InProcessOptions;
use crate::error::TransportError;
use crate::transport::{
    ConnectionState, Consumer, ConsumerState, Delivery, DeliveryTag, Destination, Outgoing, QueueKind,
    Settle, Subscription, Transport,
};

/// A broker in memory.
pub struct InProcessBroker {
    broker: Arc<Mutex<BrokerState>>,
}

impl InProcessBroker {
    /// A running broker without queues.
    pub fn new(options: InProcessOptions) -> Arc<Self> {
        Arc::new(Self { broker: Arc::new(Mutex::new(BrokerState::new(options))) })
    }

    /// A connection of the AMQP user `name`. It ends when it is dropped.
    pub fn connect(self: &Arc<Self>, name: &str) -> Arc<dyn Transport> {
        self.connect_as(name, name)
    }

    /// A connection of an AMQP user. Faults reach it by `name`.
    pub fn connect_as(self: &Arc<Self>, name: &str, user: &str) -> Arc<dyn Transport> {
        self.connection(name, Some(user))
    }

    /// A connection whose messages do not say which AMQP user sent them.
    pub fn connect_anonymously(self: &Arc<Self>, name: &str) -> Arc<dyn Transport> {
        self.connection(name, None)
    }

    fn connection(self: &Arc<Self>, name: &str, user: Option<&str>) -> Arc<dyn Transport> {
        let (client, state) = self.state().connect(name, user);
        Arc::new(InProcessTransport { broker: self.broker.clone(), client, state })
    }

    /// Cuts off every connection called `name`, or lets it connect again.
    pub fn partition(&self, name: &str, cut: bool) {
        self.state().partition(name, cut);
    }

    /// Ends every connection called `name` for good, as when its process dies.
    pub fn kill(&self, name: &str) {
        self.state().kill(name);
    }

    /// Takes the broker down. Connections break, and messages and exclusive queues are lost.
    pub fn stop(&self) {
        self.state().stop();
    }

    /// Brings the broker back. All connections that are not cut off connect again.
    pub fn start(&self) {
        self.state().start();
    }

    /// Makes the broker accept no messages, with a reason such as a memory alarm, or accept them again. Deliveries go on.
    pub fn block(&self, reason: Option<&str>) {
        self.state().block(reason);
    }

    /// Deletes a queue and what waits in it. Its consumers declare it again.
    pub fn delete_queue(&self, name: &str) {
        self.state().delete_queue(name);
    }

    /// Loses the bindings of a queue, as RabbitMQ can. The queue stays and is consumed, but only messages to it by name
    /// arrive, until it is declared again.
    pub fn lose_bindings(&self, queue: &str) {
        self.state().lose_bindings(queue);
    }

    /// Makes the broker refuse longer bodies from now on.
    pub fn limit_message_size(&self, bytes: usize) {
        self.state().max_message = bytes;
    }

    /// How many messages wait in a queue for a consumer. `None` if there is no such queue.
    pub fn depth(&self, queue: &str) -> Option<usize> {
        self.state().depth(queue)
    }

    /// How many messages were dropped by bounds of queues since the start.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Names of all queues.
    pub fn queues(&self) -> Vec<String> {
        self.state().queue_names()
    }

    fn state(&self) -> MutexGuard<'_, BrokerState> {
        lock(&self.broker)
    }
}

fn lock(broker: &Mutex<BrokerState>) -> MutexGuard<'_, BrokerState> {
    broker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection to the broker.
struct InProcessTransport {
    broker: Arc<Mutex<BrokerState>>,
    client: u64,
    state: watch::Receiver<ConnectionState>,
}

impl InProcessTransport {
    /// Waits as [`Self::writable`] does, until the deadline.
    async fn writable_by(&self, deadline: Instant) -> Result<u64, TransportError> {
        let started = Instant::now();
        tokio::time::timeout_at(deadline, self.writable()).await.unwrap_or_else(|_| {
            let last_error = self.state.borrow().to_string();
            let waited = started.elapsed();
            Err(TransportError::Unreachable { broker: BROKER.into(), waited, last_error })
        })
    }

    /// The error of a message that has waited since then, if the broker blocks publishers.
    fn blocked(&self, destination: &str, since: Instant) -> Option<TransportError> {
        let reason = self.state.borrow().block_reason()?.to_owned();
        let (destination, waited) = (destination.to_owned(), since.elapsed());
        Some(TransportError::Blocked { destination, reason, waited })
    }

    /// Waits until the broker accepts messages from this connection, and returns the connection's generation.
    async fn writable(&self) -> Result<u64, TransportError> {
        let mut state = self.state.clone();
        let ready =
            |state: &ConnectionState| state.takes_messages() || matches!(state, ConnectionState::Closed);
        match state.wait_for(ready).await.as_deref() {
            Ok(ConnectionState::Connected { generation, .. }) => Ok(*generation),
            _ => Err(TransportError::Closed),
        }
    }
}

#[async_trait]
impl Transport for InProcessTransport {
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let (started, deadline) = (Instant::now(), message.deadline);
        let destination = message.destination.to_string();
        let generation = match self.writable_by(deadline).await {
            Ok(generation) => generation,
            Err(error) => return Err(self.blocked(&destination, started).unwrap_or(error)),
        };
        let unconfirmed =
            || TransportError::Unconfirmed { destination: destination.clone(), waited: started.elapsed() };
        let (fate, delay) = lock(&self.broker).draw();
        if !delay.is_zero() && tokio::time::timeout_at(deadline, tokio::time::sleep(delay)).await.is_err() {
            return Err(unconfirmed());
        }
        if fate == Fate::LostUnconfirmed {
            tokio::time::sleep_until(deadline).await;
            return Err(unconfirmed());
        }
        let routed = lock(&self.broker).publish(self.client, generation, &message, fate)?;
        match routed {
            Routed::Taken => Ok(()),
            Routed::Nowhere if message.mandatory => Err(TransportError::Unroutable { destination }),
            Routed::Nowhere => Ok(()),
            Routed::Disconnected => Err(unconfirmed()),
        }
    }

    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        self.writable_by(deadline).await?;
        let attempted = format!("declaring {queue:?}");
        let declared = lock(&self.broker).declare(self.client, queue);
        let reason = || "another connection holds it".to_owned();
        declared.map(drop).ok_or_else(|| TransportError::Refused { attempted, reason: reason() })
    }

    async fn keep_exchange(&self, _of: &Destination, deadline: Instant) -> Result<bool, TransportError> {
        // Here an exchange is no more than the bindings of its queues, which are never lost.
        self.writable_by(deadline).await.map(|_| false)
    }

    fn rebind(&self) {}

    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let (id, state, arrived) = lock(&self.broker).consume(self.client, subscription)?;
        Ok(Box::new(InProcessConsumer { broker: self.broker.clone(), id, state, arrived }))
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    fn users(&self) -> Vec<String> {
        lock(&self.broker).user(self.client).into_iter().collect()
    }

    async fn close(&self, _deadline: Instant) {
        lock(&self.broker).close(self.client);
    }
}

impl Drop for InProcessTransport {
    fn drop(&mut self) {
        lock(&self.broker).close(self.client);
    }
}

/// A queue being consumed.
struct InProcessConsumer {
    broker: Arc<Mutex<BrokerState>>,
    id: u64,
    state: watch::Receiver<ConsumerState>,
    arrived: Arc<Notify>,
}

#[async_trait]
impl Consumer for InProcessConsumer {
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize {
        // Lets other tasks run even if the queue is never empty.
        tokio::task::coop::consume_budget().await;
        loop {
            let arrived = self.arrived.clone();
            let arrived = arrived.notified();
            if let Some(taken) = lock(&self.broker).take(self.id, into, max) {
                return taken;
            }
            arrived.await;
        }
    }

    fn settle(&mut self, tag: DeliveryTag, how: Settle) {
        lock(&self.broker).settle(self.id, tag, how);
    }

    fn state(&self) -> watch::Receiver<ConsumerState> {
        self.state.clone()
    }

    async fn cancel(&mut self) {
        lock(&self.broker).cancel(self.id);
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        lock(&self.broker).drop_consumer(self.id);
    }
}
