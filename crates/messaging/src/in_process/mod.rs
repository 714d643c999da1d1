//! A broker in memory: the whole of a fleet in one process, for demonstrations and simulation.
//!
//! It keeps RabbitMQ's rules as far as the [`Transport`] shows them: shared queues deal to their consumers in turn,
//! exclusive ones belong to a connection and die with it, messages expire, a full queue drops its oldest, what was not
//! acknowledged is given again. And it breaks on request, from a seed: messages are late, lost or doubled, connections
//! are cut, the broker restarts. Under one thread and paused time a run repeats itself exactly.
//!
//! It leaves out what the trait does not show: permissions, durability (nothing survives a restart but the names of
//! shared queues), and the time that a broker takes to notice a dead connection.

mod bus;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::{
    ConnectionState, Consumer, ConsumerState, Delivery, DeliveryTag, Outgoing, QueueKind, Settle,
    Subscription, Transport, TransportError,
};
use bus::{Bus, Fate, Routed};

/// How the broker misbehaves.
#[derive(Debug, Clone, Default)]
pub struct InProcessOptions {
    /// Decides every fate below.
    pub seed: [u8; 32],
    /// A message takes at least this long.
    pub min_delay: Duration,
    /// And at most this long. Messages of one sender overtake each other only if it does not await them in turn.
    pub max_delay: Duration,
    /// Share of messages that vanish: half of them before, half of them after their confirm.
    pub loss: f64,
    /// Share of messages that arrive twice, as when a sender repeats what was not confirmed.
    pub duplicate: f64,
}

/// The broker.
pub struct InProcessBroker {
    bus: Arc<Mutex<Bus>>,
    delays: (Duration, Duration),
}

impl InProcessBroker {
    /// A running broker without queues.
    pub fn new(options: InProcessOptions) -> Arc<Self> {
        let delays = (options.min_delay, options.max_delay.max(options.min_delay));
        Arc::new(Self { bus: Arc::new(Mutex::new(Bus::new(&options))), delays })
    }

    /// A connection of user `name`. It ends with its last holder.
    pub fn connect(self: &Arc<Self>, name: &str) -> Arc<dyn Transport> {
        self.connect_as(name, name)
    }

    /// A connection by which faults reach it (`name`), of an AMQP user.
    pub fn connect_as(self: &Arc<Self>, name: &str, user: &str) -> Arc<dyn Transport> {
        let (client, state) = self.bus().connect(name, user);
        Arc::new(InProcessTransport { bus: self.bus.clone(), delays: self.delays, client, state })
    }

    /// Cuts off every connection called `name`, or lets it connect again.
    pub fn partition(&self, name: &str, cut: bool) {
        self.bus().partition(name, cut);
    }

    /// Ends every connection called `name` for good, as when its process dies.
    pub fn kill(&self, name: &str) {
        self.bus().kill(name);
    }

    /// The broker goes down: connections break, messages are gone, exclusive queues too.
    pub fn stop(&self) {
        self.bus().stop();
    }

    /// The broker is back: whoever is not cut off connects again.
    pub fn start(&self) {
        self.bus().start();
    }

    /// Takes no messages for this reason (a memory alarm), or takes them again. Deliveries go on.
    pub fn block(&self, reason: Option<&str>) {
        self.bus().block(reason);
    }

    /// Drops what waits in a queue, and the queue: its consumers declare it anew.
    pub fn delete_queue(&self, name: &str) {
        self.bus().delete_queue(name);
    }

    /// Refuses larger messages from now on.
    pub fn limit_message_size(&self, bytes: usize) {
        self.bus().max_message = bytes;
    }

    /// Messages that wait in a queue for a consumer; none if there is no such queue.
    pub fn depth(&self, queue: &str) -> Option<usize> {
        self.bus().depth(queue)
    }

    /// Messages that were dropped by a queue's bounds, in all queues since the start.
    pub fn dropped(&self) -> u64 {
        self.bus().dropped
    }

    /// Names of all queues.
    pub fn queues(&self) -> Vec<String> {
        self.bus().queue_names()
    }

    fn bus(&self) -> MutexGuard<'_, Bus> {
        lock(&self.bus)
    }
}

fn lock(bus: &Mutex<Bus>) -> MutexGuard<'_, Bus> {
    bus.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection.
struct InProcessTransport {
    bus: Arc<Mutex<Bus>>,
    delays: (Duration, Duration),
    client: u64,
    state: watch::Receiver<ConnectionState>,
}

impl InProcessTransport {
    /// [`Self::writable`], or that it was not until the deadline.
    async fn writable_by(&self, deadline: Instant) -> Result<u64, TransportError> {
        let started = Instant::now();
        tokio::time::timeout_at(deadline, self.writable()).await.unwrap_or_else(|_| {
            let last_error = format!("{:?}", *self.state.borrow());
            let waited = started.elapsed();
            Err(TransportError::Unreachable { broker: bus::BROKER.into(), waited, last_error })
        })
    }

    /// Waits until the broker takes messages from us; yields the connection's generation.
    async fn writable(&self) -> Result<u64, TransportError> {
        let mut state = self.state.clone();
        let ready = |state: &ConnectionState| {
            matches!(state, ConnectionState::Connected { .. } | ConnectionState::Closed)
        };
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
        let destination = bus::name_of(&message.destination);
        let generation = self.writable_by(deadline).await?;
        let unconfirmed =
            || TransportError::Unconfirmed { destination: destination.clone(), waited: started.elapsed() };
        let (fate, delay) = lock(&self.bus).draw(self.delays);
        if !delay.is_zero() && tokio::time::timeout_at(deadline, tokio::time::sleep(delay)).await.is_err() {
            return Err(unconfirmed());
        }
        if fate == Fate::LostUnconfirmed {
            tokio::time::sleep_until(deadline).await;
            return Err(unconfirmed());
        }
        let routed = lock(&self.bus).publish(self.client, generation, &message, fate)?;
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
        let declared = lock(&self.bus).declare(self.client, queue);
        let reason = || "another connection holds it".to_owned();
        declared.map(drop).ok_or_else(|| TransportError::Refused { attempted, reason: reason() })
    }

    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let (id, state, arrived) = lock(&self.bus).consume(self.client, subscription)?;
        Ok(Box::new(InProcessConsumer { bus: self.bus.clone(), id, state, arrived }))
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    async fn close(&self, _deadline: Instant) {
        lock(&self.bus).close(self.client);
    }
}

impl Drop for InProcessTransport {
    fn drop(&mut self) {
        lock(&self.bus).close(self.client);
    }
}

struct InProcessConsumer {
    bus: Arc<Mutex<Bus>>,
    id: u64,
    state: watch::Receiver<ConsumerState>,
    arrived: Arc<Notify>,
}

#[async_trait]
impl Consumer for InProcessConsumer {
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize {
        // A queue that is never empty must not keep the thread.
        tokio::task::coop::consume_budget().await;
        loop {
            let arrived = self.arrived.clone();
            let arrived = arrived.notified();
            if let Some(taken) = lock(&self.bus).take(self.id, into, max) {
                return taken;
            }
            arrived.await;
        }
    }

    fn settle(&mut self, tag: DeliveryTag, how: Settle) {
        lock(&self.bus).settle(self.id, tag, how);
    }

    fn state(&self) -> watch::Receiver<ConsumerState> {
        self.state.clone()
    }

    async fn cancel(&mut self) {
        lock(&self.bus).cancel(self.id);
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        lock(&self.bus).drop_consumer(self.id);
    }
}
