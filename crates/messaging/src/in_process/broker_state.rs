//! The broker's state: who is connected, which queues exist, and who consumes them.
//!
//! All of it is synchronous, and the time is only read where messages expire. After every method:
//! - the queue of an active consumer exists and lists the consumer as a reader;
//! - the owner of an exclusive queue is connected;
//! - no message waits in a queue of which a reader has credit left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::faults::{Fate, InProcessOptions};
use super::queue::{Message, Queue};
use crate::error::TransportError;
use crate::transport::{
    CONTENT_TYPE, ConnectionState, ConsumerState, Delivery, DeliveryTag, Destination, FanoutLimits,
    MAX_BODY_BYTES, Outgoing, QueueKind, Settle, Subscription,
};

/// What the connection state calls the broker.
pub(super) const BROKER: &str = "memory";

/// Where a published message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routed {
    Taken,
    Nowhere,
    /// The connection broke before the confirm.
    Disconnected,
}

/// A binding that leads to queues.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    Key { exchange: String, key: String },
    Fanout(String),
}

/// One connection.
struct Client {
    /// The name by which faults reach the connection.
    name: String,
    /// The AMQP user of its messages. `None` if they say none.
    user: Option<Arc<str>>,
    /// Raised each time the connection comes back.
    generation: u64,
    /// Whether a partition keeps the connection from coming back.
    cut: bool,
    state: watch::Sender<ConnectionState>,
}

/// One consumer.
struct Reader {
    client: u64,
    kind: QueueKind,
    prefetch: usize,
    /// Name of the queue that it consumes now.
    queue: Option<String>,
    /// The connection's generation when it was attached to the queue. Zero if it is not attached.
    generation: u64,
    last_tag: u64,
    unsettled: BTreeMap<u64, Message>,
    /// Tags of deliveries that the consumer has not taken yet.
    ready: VecDeque<u64>,
    /// Whether there are no further deliveries: it was cancelled, or its connection was closed.
    ended: bool,
    arrived: Arc<Notify>,
    state: watch::Sender<ConsumerState>,
}

/// The state of the broker.
pub(super) struct BrokerState {
    options: InProcessOptions,
    rng: ChaCha8Rng,
    up: bool,
    /// Why the broker accepts no messages. `None` if it accepts them.
    blocked: Option<String>,
    queues: BTreeMap<String, Queue>,
    routes: BTreeMap<Route, BTreeSet<String>>,
    clients: BTreeMap<u64, Client>,
    readers: BTreeMap<u64, Reader>,
    last_id: u64,
    /// Longest body that is accepted, in bytes.
    pub(super) max_message: usize,
    /// How many messages were dropped by bounds of queues.
    pub(super) dropped: u64,
}

impl BrokerState {
    pub(super) fn new(options: InProcessOptions) -> Self {
        Self {
            rng: ChaCha8Rng::from_seed(options.seed),
            options,
            up: true,
            blocked: None,
            queues: BTreeMap::new(),
            routes: BTreeMap::new(),
            clients: BTreeMap::new(),
            readers: BTreeMap::new(),
            last_id: 0,
            max_message: MAX_BODY_BYTES,
            dropped: 0,
        }
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    // Connections.

    pub(super) fn connect(
        &mut self,
        name: &str,
        user: Option<&str>,
    ) -> (u64, watch::Receiver<ConnectionState>) {
        let id = self.id();
        let (state, receiver) = watch::channel(disconnected("not connected yet"));
        let user = user.map(Into::into);
        self.clients.insert(id, Client { name: name.into(), user, generation: 0, cut: false, state });
        self.restore(id);
        (id, receiver)
    }

    /// The AMQP user of a connection's messages.
    pub(super) fn user(&self, client: u64) -> Option<String> {
        self.clients.get(&client)?.user.as_deref().map(str::to_owned)
    }

    pub(super) fn partition(&mut self, name: &str, cut: bool) {
        for id in self.named(name) {
            if let Some(client) = self.clients.get_mut(&id) {
                client.cut = cut;
            }
            if cut {
                self.break_connection(id, "partitioned");
            } else {
                self.restore(id);
            }
        }
        self.reconcile();
    }

    pub(super) fn kill(&mut self, name: &str) {
        for id in self.named(name) {
            self.close(id);
        }
    }

    /// Ends a connection for good.
    pub(super) fn close(&mut self, id: u64) {
        self.break_connection(id, "closed");
        let Some(client) = self.clients.remove(&id) else { return };
        client.state.send_replace(ConnectionState::Closed);
        for reader in self.readers.values_mut().filter(|reader| reader.client == id) {
            reader.ended = true;
            reader.arrived.notify_one();
        }
        self.reconcile();
    }

    pub(super) fn stop(&mut self) {
        self.up = false;
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.break_connection(id, "the broker is down");
        }
        for queue in self.queues.values_mut() {
            queue.messages.clear();
        }
    }

    pub(super) fn start(&mut self) {
        self.up = true;
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.restore(id);
        }
        self.reconcile();
    }

    pub(super) fn block(&mut self, reason: Option<&str>) {
        self.blocked = reason.map(Into::into);
        for client in self.clients.values().filter(|client| is_up(client)) {
            client.state.send_replace(connected(client.generation, self.blocked.as_deref()));
        }
    }

    fn named(&self, name: &str) -> Vec<u64> {
        self.clients.iter().filter(|(_, client)| client.name == name).map(|(&id, _)| id).collect()
    }

    fn restore(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if self.up && !client.cut && !is_up(client) {
            client.generation += 1;
            client.state.send_replace(connected(client.generation, self.blocked.as_deref()));
        }
    }

    /// Takes a connection away. Its exclusive queues go with it, and what it had not settled goes back to the shared queues.
    fn break_connection(&mut self, id: u64, why: &str) {
        let Some(client) = self.clients.get(&id) else { return };
        if is_up(client) {
            client.state.send_replace(disconnected(why));
        }
        let of_client: Vec<u64> =
            self.readers.iter().filter(|(_, reader)| reader.client == id).map(|(&id, _)| id).collect();
        for reader in of_client {
            self.detach(reader, ConsumerState::Pending);
        }
        let owned: Vec<String> =
            self.queues.iter().filter(|(_, q)| q.owner == Some(id)).map(|(name, _)| name.clone()).collect();
        for name in owned {
            self.remove_queue(&name);
        }
    }

    // Publishing.

    /// The fate and delay of the next message.
    pub(super) fn draw(&mut self) -> (Fate, Duration) {
        self.options.draw(&mut self.rng)
    }

    pub(super) fn publish(
        &mut self,
        client: u64,
        generation: u64,
        message: &Outgoing,
        fate: Fate,
    ) -> Result<Routed, TransportError> {
        let Some(client) = self.clients.get(&client) else { return Err(TransportError::Closed) };
        if !is_up(client) || client.generation != generation {
            return Ok(Routed::Disconnected);
        }
        if message.body.len() > self.max_message {
            let attempted = format!("a message of {} bytes", message.body.len());
            let reason = format!("it takes at most {}", self.max_message);
            return Err(TransportError::Refused { attempted, reason });
        }
        let user = client.user.clone();
        let queues: Vec<String> = match route_of(&message.destination) {
            Ok(route) => self.routes.get(&route).into_iter().flatten().cloned().collect(),
            Err(name) => self.queues.contains_key(name).then(|| name.to_owned()).into_iter().collect(),
        };
        if queues.is_empty() {
            return Ok(Routed::Nowhere);
        }
        let copies = match fate {
            Fate::Arrives => 1,
            Fate::ArrivesTwice => 2,
            Fate::LostConfirmed | Fate::LostUnconfirmed => 0,
        };
        for name in &queues {
            for _ in 0..copies {
                let copy = Message { body: message.body.clone(), user: user.clone(), expires: None };
                if let Some(queue) = self.queues.get_mut(name) {
                    self.dropped += queue.push(copy, message.expiration, Instant::now());
                }
                self.pump(name);
            }
        }
        Ok(Routed::Taken)
    }

    // Consuming.

    #[allow(clippy::type_complexity, reason = "the parts of an InProcessConsumer")]
    pub(super) fn consume(
        &mut self,
        client: u64,
        subscription: Subscription,
    ) -> Result<(u64, watch::Receiver<ConsumerState>, Arc<Notify>), TransportError> {
        if !self.clients.contains_key(&client) {
            return Err(TransportError::Closed);
        }
        let id = self.id();
        let (state, receiver) = watch::channel(ConsumerState::Pending);
        let arrived = Arc::new(Notify::new());
        let prefetch = match subscription.prefetch {
            0 => usize::MAX,
            some => usize::from(some),
        };
        let reader = Reader {
            client,
            kind: subscription.queue,
            prefetch,
            queue: None,
            generation: 0,
            last_tag: 0,
            unsettled: BTreeMap::new(),
            ready: VecDeque::new(),
            ended: false,
            arrived: arrived.clone(),
            state,
        };
        self.readers.insert(id, reader);
        self.attach(id);
        Ok((id, receiver, arrived))
    }

    /// Moves what has arrived to the consumer, and returns how much. `None` if nothing has arrived, zero if it has ended.
    pub(super) fn take(&mut self, id: u64, into: &mut Vec<Delivery>, max: usize) -> Option<usize> {
        let reader = self.readers.get_mut(&id)?;
        let taken = reader.ready.len().min(max);
        for tag in reader.ready.drain(..taken) {
            let message = &reader.unsettled[&tag];
            into.push(Delivery {
                body: message.body.clone(),
                content_type: Some(CONTENT_TYPE.into()),
                user_id: message.user.as_deref().map(str::to_owned),
                tag: DeliveryTag { generation: reader.generation, tag },
            });
        }
        (taken > 0 || reader.ended).then_some(taken)
    }

    pub(super) fn settle(&mut self, id: u64, tag: DeliveryTag, how: Settle) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        if tag.generation != reader.generation {
            return;
        }
        match how {
            Settle::Ack | Settle::Reject => {
                reader.unsettled.remove(&tag.tag);
            }
            Settle::AckThrough => reader.unsettled = reader.unsettled.split_off(&(tag.tag + 1)),
        }
        let unsettled = &reader.unsettled;
        reader.ready.retain(|tag| unsettled.contains_key(tag));
        if let Some(queue) = reader.queue.clone() {
            self.pump(&queue);
        }
    }

    pub(super) fn cancel(&mut self, id: u64) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        reader.ended = true;
        reader.arrived.notify_one();
        if let Some(queue) = reader.queue.as_ref().and_then(|name| self.queues.get_mut(name)) {
            queue.readers.retain(|&other| other != id);
        }
    }

    /// Removes a consumer, and its queue if nobody else may read it.
    pub(super) fn drop_consumer(&mut self, id: u64) {
        let queue = self.readers.get(&id).and_then(|reader| reader.queue.clone());
        self.detach(id, ConsumerState::Pending);
        self.readers.remove(&id);
        let Some(name) = queue else { return };
        if self.queues.get(&name).is_some_and(|queue| queue.owner.is_some() && queue.readers.is_empty()) {
            self.remove_queue(&name);
            self.reconcile();
        }
    }

    /// Lets all consumers without a queue try to get one.
    fn reconcile(&mut self) {
        for id in self.readers.keys().copied().collect::<Vec<_>>() {
            self.attach(id);
        }
    }

    /// Declares, binds and consumes a reader's queue, if its connection is up and the queue is free.
    fn attach(&mut self, id: u64) {
        let Some(reader) = self.readers.get(&id) else { return };
        let Some(client) = self.clients.get(&reader.client) else { return };
        if reader.queue.is_some() || reader.ended || !is_up(client) {
            return;
        }
        let (owner, generation, kind) = (reader.client, client.generation, reader.kind.clone());
        let declared = self.declare(owner, kind);
        let Some(reader) = self.readers.get_mut(&id) else { return };
        let Some(name) = declared else {
            reader.state.send_replace(ConsumerState::Held);
            return;
        };
        reader.queue = Some(name.clone());
        reader.generation = generation;
        reader.state.send_replace(ConsumerState::Active { generation });
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.readers.push_back(id);
        }
        self.pump(&name);
    }

    /// Declares a queue and its bindings, and returns its name. `None` if another connection holds the queue.
    pub(super) fn declare(&mut self, client: u64, kind: QueueKind) -> Option<String> {
        let QueueShape { name, exclusive, routes, limits } = self.shape_of(kind);
        let queue = self.queues.entry(name.clone()).or_insert_with(|| Queue {
            owner: exclusive.then_some(client),
            limits,
            ..Queue::default()
        });
        if queue.owner.is_some_and(|other| other != client) {
            return None;
        }
        for route in routes {
            self.routes.entry(route).or_default().insert(name.clone());
        }
        Some(name)
    }

    /// Takes a reader off its queue, and gives back to the queue what it had not settled.
    fn detach(&mut self, id: u64, state: ConsumerState) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        let unsettled = std::mem::take(&mut reader.unsettled);
        reader.ready.clear();
        reader.state.send_replace(state);
        // No tag of this connection settles anything from now on.
        reader.generation = 0;
        let Some(name) = reader.queue.take() else { return };
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.readers.retain(|&other| other != id);
            queue.requeue(unsettled.into_values());
        }
        self.pump(&name);
    }

    // Queues.

    pub(super) fn delete_queue(&mut self, name: &str) {
        let readers: Vec<u64> = self
            .readers
            .iter()
            .filter(|(_, reader)| reader.queue.as_deref() == Some(name))
            .map(|(&id, _)| id)
            .collect();
        self.remove_queue(name);
        for id in readers {
            self.detach(id, ConsumerState::Pending);
        }
        self.reconcile();
    }

    fn remove_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.lose_bindings(name);
    }

    pub(super) fn lose_bindings(&mut self, name: &str) {
        self.routes.retain(|_, queues| {
            queues.remove(name);
            !queues.is_empty()
        });
    }

    pub(super) fn depth(&mut self, name: &str) -> Option<usize> {
        let queue = self.queues.get_mut(name)?;
        queue.expire(Instant::now());
        Some(queue.messages.len())
    }

    pub(super) fn queue_names(&self) -> Vec<String> {
        self.queues.keys().cloned().collect()
    }

    /// Hands waiting messages to the readers in turn, as far as their credit goes.
    fn pump(&mut self, name: &str) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        let now = Instant::now();
        queue.expire(now);
        while !queue.messages.is_empty() {
            let readers = &self.readers;
            let free = |id: &u64| readers.get(id).is_some_and(|r| r.unsettled.len() < r.prefetch);
            let Some(turn) = queue.readers.iter().position(free) else { return };
            queue.readers.rotate_left(turn);
            let (Some(id), Some(message)) = (queue.readers.front().copied(), queue.messages.pop_front())
            else {
                return;
            };
            queue.readers.rotate_left(1);
            if let Some(reader) = self.readers.get_mut(&id) {
                reader.last_tag += 1;
                reader.unsettled.insert(reader.last_tag, message);
                reader.ready.push_back(reader.last_tag);
                reader.arrived.notify_one();
            }
            queue.expire(now);
        }
    }

    fn shape_of(&mut self, kind: QueueKind) -> QueueShape {
        match kind {
            QueueKind::Topic { exchange, topic } => QueueShape {
                routes: vec![Route::Key { exchange, key: topic.clone() }],
                name: topic,
                exclusive: false,
                limits: None,
            },
            QueueKind::Server { exchange, topic, server, fanout } => {
                let name = format!("{topic}.{server}");
                let mut routes = vec![Route::Key { exchange, key: name.clone() }];
                routes.extend(fanout.then_some(Route::Fanout(topic)));
                QueueShape { name, exclusive: true, routes, limits: None }
            }
            QueueKind::Fanout { topic, limits } => QueueShape {
                name: format!("{topic}_fanout_{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64()),
                exclusive: true,
                routes: vec![Route::Fanout(topic)],
                limits: Some(limits),
            },
            QueueKind::Reply { name } => {
                QueueShape { name, exclusive: true, routes: Vec::new(), limits: None }
            }
        }
    }
}

/// Name, bindings and bounds of a queue.
struct QueueShape {
    name: String,
    exclusive: bool,
    routes: Vec<Route>,
    limits: Option<FanoutLimits>,
}

/// The binding that a destination means, or the name of the queue that it means.
fn route_of(destination: &Destination) -> Result<Route, &str> {
    match destination {
        Destination::Topic { exchange, topic } => {
            Ok(Route::Key { exchange: exchange.clone(), key: topic.clone() })
        }
        Destination::Server { exchange, topic, server } => {
            Ok(Route::Key { exchange: exchange.clone(), key: format!("{topic}.{server}") })
        }
        Destination::Fanout { topic } => Ok(Route::Fanout(topic.clone())),
        Destination::Queue { name } => Err(name),
    }
}

fn is_up(client: &Client) -> bool {
    client.state.borrow().has_connection()
}

fn connected(generation: u64, blocked: Option<&str>) -> ConnectionState {
    match blocked {
        Some(reason) => ConnectionState::Blocked { broker: BROKER.into(), reason: reason.into() },
        None => ConnectionState::Connected { generation, broker: BROKER.into() },
    }
}

fn disconnected(why: &str) -> ConnectionState {
    let last_error = Some(format!("{BROKER}: {why}"));
    ConnectionState::Connecting { brokers: BROKER.into(), attempt: 1, last_error }
}
