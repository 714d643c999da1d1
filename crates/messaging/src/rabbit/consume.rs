//! Consumers that outlive connections.
//!
//! For each consumer a task declares, binds and consumes the queue on every new session. It puts the result, a [`Tap`],
//! into a slot, which holds the newest tap only. The consumer takes deliveries from the tap directly, without a task in
//! between. Taps are numbered, so that a delivery of an old one is never settled on a newer channel.

use std::convert::Infallible;
use std::future::poll_fn;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use lapin::Channel;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::declare;
use super::explain::{self, CONNECTION_FORCED, RESOURCE_LOCKED};
use super::inflate::inflate;
use super::session::Session;
use super::supervisor::Supervisor;
use super::topology::{QueueDeclaration, Topology, short};
use crate::error::TransportError;
use crate::transport::{
    Consumer, ConsumerState, Delivery, DeliveryTag, MAX_BATCH_BYTES, QueueKind, Settle, Subscription,
};

/// How long the broker may take to declare, bind and consume a queue, or to cancel a consumer.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds of the wait before a queue is set up again that was deleted, or held by another connection.
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(5);
/// Bounds of that wait if only an operator can help. They are longer, because some refusals (541) cost the connection.
const FAILED_BASE: Duration = Duration::from_secs(5);
const FAILED_CAP: Duration = Duration::from_secs(30);
/// How often a consumed queue is bound again. A binding can be lost while queue and consumer stay: somebody deletes the
/// exchange, or the broker loses it. Then nothing arrives, and nothing says so.
const REBIND_EVERY: Duration = Duration::from_secs(10);
/// The same for the queues of hosts, of which there are many. At 20,000 hosts these are some 700 bindings a second.
const REBIND_HOST_EVERY: Duration = Duration::from_secs(60);
/// There is one consumer per channel, so all can have the same tag.
const CONSUMER_TAG: &str = "novella";

/// A queue being consumed on one channel.
struct Tap {
    number: u64,
    queue: QueueDeclaration,
    channel: Channel,
    stream: lapin::Consumer,
    /// The stream has ended. It says so once, perhaps in the batch of its last deliveries, and is pending ever after.
    finished: bool,
    /// Cancelled if the whole consumer stops, whose queue then goes too.
    stop: CancellationToken,
    /// Tells the task, when the tap is dropped, to set up the next one.
    _ended: tokio_util::sync::DropGuard,
}

/// Where the task leaves the newest tap.
#[derive(Default)]
struct TapSlot {
    tap: Mutex<Option<Tap>>,
    filled: Notify,
}

impl TapSlot {
    fn put(&self, tap: Tap) {
        let old = self.tap.lock().unwrap_or_else(PoisonError::into_inner).replace(tap);
        self.filled.notify_one();
        drop(old);
    }

    fn take(&self) -> Option<Tap> {
        self.tap.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A consumer of one queue on RabbitMQ.
pub(super) struct RabbitConsumer {
    slot: Arc<TapSlot>,
    tap: Option<Tap>,
    state: watch::Receiver<ConsumerState>,
    /// Ends the task.
    stop: CancellationToken,
    /// Whether `cancel` was called. What has arrived can still be taken.
    cancelled: bool,
}

/// Starts consuming. `stop` ends the consumer from outside.
pub(super) fn start(
    supervisor: Arc<Supervisor>,
    subscription: Subscription,
    stop: CancellationToken,
) -> RabbitConsumer {
    let slot = Arc::new(TapSlot::default());
    let (state_sender, state) = watch::channel(ConsumerState::Pending);
    let seed = seed_from(&supervisor);
    let task = ConsumeTask {
        supervisor,
        subscription,
        slot: slot.clone(),
        state: state_sender,
        stop: stop.clone(),
        taps: 0,
        unique: (0, String::new()),
        retry: Backoff::new(RETRY_BASE, RETRY_CAP, seed),
        failed: Backoff::new(FAILED_BASE, FAILED_CAP, seed),
    };
    tokio::spawn(task.run());
    RabbitConsumer { slot, tap: None, state, stop, cancelled: false }
}

/// Declares a queue and its bindings, on a channel of its own.
pub(super) async fn declare(
    supervisor: &Supervisor,
    kind: &QueueKind,
    deadline: Instant,
) -> Result<(), TransportError> {
    let started = Instant::now();
    let topology = &supervisor.settings.topology;
    let queue = topology.queue_of(kind, || supervisor.settings.ids.hex());
    let refused = |reason| TransportError::Refused { attempted: format!("declaring {queue}"), reason };
    if let Some(reason) = queue.invalid_name() {
        return Err(refused(reason));
    }
    let declared = async {
        let session = supervisor.ready().await?;
        let declared =
            declare::queue(&queue, session.consuming(), supervisor.settings.declare_exchanges).await;
        declared.map(drop).map_err(|refused| explain::declaration(refused, topology))
    };
    match timeout_at(deadline, declared).await {
        Ok(result) => result,
        Err(_) => Err(supervisor.unreachable(started.elapsed())),
    }
}

fn seed_from(supervisor: &Supervisor) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(supervisor.settings.ids.uuid().as_bytes());
    seed
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        loop {
            if let Some(tap) = &mut self.tap {
                let taken = tokio::select! {
                    biased;
                    // Ended from outside. After `cancel` what is here can still be taken.
                    () = self.stop.cancelled(), if !self.cancelled => 0,
                    taken = tap.next_batch(into, max) => taken,
                };
                if taken > 0 {
                    return taken;
                }
                if self.cancelled {
                    // The channel stays open, so that what was taken can be settled.
                    return 0;
                }
                self.tap = None;
            }
            if self.stop.is_cancelled() {
                return 0;
            }
            self.tap = self.slot.take();
            if self.tap.is_none() {
                tokio::select! {
                    biased;
                    () = self.slot.filled.notified() => {}
                    () = self.stop.cancelled() => return 0,
                }
            }
        }
    }

    fn settle(&mut self, tag: DeliveryTag, how: Settle) {
        let Some(tap) = self.tap.as_ref().filter(|tap| tap.number == tag.generation) else { return };
        // The first poll queues the frame; the rest of the future only waits for the socket. An error means that the
        // channel is gone, and the delivery with it.
        match how {
            Settle::Ack | Settle::AckThrough => {
                let options = BasicAckOptions { multiple: how == Settle::AckThrough };
                drop(tap.channel.basic_ack(tag.tag, options).now_or_never());
            }
            Settle::Reject => {
                drop(tap.channel.basic_reject(tag.tag, BasicRejectOptions { requeue: false }).now_or_never());
            }
        }
    }

    fn state(&self) -> watch::Receiver<ConsumerState> {
        self.state.clone()
    }

    async fn cancel(&mut self) {
        self.cancelled = true;
        self.stop.cancel();
        if self.tap.is_none() {
            self.tap = self.slot.take();
        }
        let Some(tap) = &self.tap else { return };
        let quiet = async {
            tap.queue.unbind(&tap.channel).await?;
            tap.channel.basic_cancel(CONSUMER_TAG.into(), BasicCancelOptions::default()).await
        };
        match timeout(SETUP_TIMEOUT, quiet).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(queue = %tap.queue.name, %error, "could not cancel: the channel is gone")
            }
            Err(_) => {
                warn!(queue = %tap.queue.name, "the broker did not answer basic.cancel; giving up the channel")
            }
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Tap {
    /// Waits for deliveries and takes those that are there, `max` at most. Zero means that no more will come.
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize {
        let number = self.number;
        let mut stream = Pin::new(&mut self.stream);
        let finished = &mut self.finished;
        let (mut taken, mut bytes) = (0, 0);
        poll_fn(|cx| {
            while taken < max && bytes < MAX_BATCH_BYTES && !*finished {
                match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(delivery))) => {
                        let received = received(delivery, number);
                        bytes += received.body.len();
                        into.push(received);
                        taken += 1;
                    }
                    // An error ends the stream. The supervisor or the next set-up logs the reason.
                    Poll::Ready(Some(Err(_)) | None) => *finished = true,
                    Poll::Pending if taken == 0 => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(taken)
        })
        .await
    }
}

fn received(delivery: lapin::message::Delivery, number: u64) -> Delivery {
    let properties = &delivery.properties;
    let text = |field: &Option<lapin::types::ShortString>| field.as_ref().map(ToString::to_string);
    let (content_type, user_id) = (text(properties.content_type()), text(properties.user_id()));
    let compression = properties.headers().as_ref().and_then(|headers| headers.inner().get("compression"));
    let compression = match compression {
        Some(AMQPValue::LongString(codec)) => Some(codec.to_string()),
        _ => None,
    };
    Delivery {
        body: inflate(Bytes::from(delivery.data), compression.as_deref()),
        content_type,
        user_id,
        tag: DeliveryTag { generation: number, tag: delivery.delivery_tag },
    }
}

/// Why a set-up did not work.
enum Obstacle {
    /// Another connection holds the queue.
    Held(String),
    /// An operator has to act.
    Refused(String),
    /// The connection is gone or silent. A new session will come.
    Gone(String),
}

/// The task that keeps a consumer's queue declared and consumed.
struct ConsumeTask {
    supervisor: Arc<Supervisor>,
    subscription: Subscription,
    slot: Arc<TapSlot>,
    state: watch::Sender<ConsumerState>,
    stop: CancellationToken,
    /// How many taps there were.
    taps: u64,
    /// The last part of a fanout queue's name, and the session's generation that it was made for.
    unique: (u64, String),
    retry: Backoff,
    failed: Backoff,
}

impl ConsumeTask {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.keep_consuming() => {}
        }
        self.state.send_replace(ConsumerState::Pending);
    }

    async fn keep_consuming(&mut self) {
        let mut sessions = self.supervisor.sessions();
        loop {
            let session = sessions.borrow_and_update().clone();
            let Some(session) = session else {
                if sessions.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let ended = CancellationToken::new();
            match timeout(SETUP_TIMEOUT, self.set_up(&session, ended.clone())).await {
                Ok(Ok(tap)) => {
                    info!(queue = %tap.queue.name, generation = session.generation, "consuming");
                    self.retry.reset();
                    self.failed.reset();
                    let (queue, channel) = (tap.queue.clone(), tap.channel.clone());
                    self.slot.put(tap);
                    self.state.send_replace(ConsumerState::Active { generation: session.generation });
                    // The end of a session is noticed here even if nobody takes deliveries from the tap.
                    let session_ended = tokio::select! {
                        biased;
                        _ = sessions.changed() => true,
                        () = ended.cancelled() => false,
                        never = self.keep_bound(&queue, channel) => match never {},
                    };
                    self.state.send_replace(ConsumerState::Pending);
                    if !session_ended {
                        // The queue was deleted or its channel closed. Perhaps the connection is gone as well.
                        self.supervisor.suspect();
                        sleep(self.retry.next()).await;
                    }
                }
                Ok(Err(obstacle)) => self.wait_out(obstacle).await,
                Err(_) => self.wait_out(Obstacle::Gone(format!("no answer within {SETUP_TIMEOUT:?}"))).await,
            }
        }
    }

    async fn wait_out(&mut self, obstacle: Obstacle) {
        let (state, reason, wait) = match obstacle {
            Obstacle::Held(reason) => (ConsumerState::Held, reason, self.retry.next()),
            Obstacle::Refused(reason) => {
                (ConsumerState::Failed { reason: reason.clone() }, reason, self.failed.next())
            }
            Obstacle::Gone(reason) => {
                self.supervisor.suspect();
                (ConsumerState::Pending, reason, self.retry.next())
            }
        };
        let changed = self.state.send_if_modified(|now| {
            let change = *now != state;
            now.clone_from(&state);
            change
        });
        let queue = &self.subscription.queue;
        match state {
            ConsumerState::Held if changed => {
                warn!(?queue, %reason, "another connection holds the queue; waiting for it")
            }
            ConsumerState::Failed { .. } if changed => {
                warn!(?queue, %reason, "cannot consume the queue; trying again within {FAILED_CAP:?}")
            }
            _ => debug!(?queue, %reason, "still not consuming"),
        }
        sleep(wait).await;
    }

    async fn set_up(&mut self, session: &Arc<Session>, ended: CancellationToken) -> Result<Tap, Obstacle> {
        if self.unique.0 != session.generation {
            self.unique = (session.generation, self.supervisor.settings.ids.hex());
        }
        let queue =
            self.supervisor.settings.topology.queue_of(&self.subscription.queue, || self.unique.1.clone());
        if let Some(reason) = queue.invalid_name() {
            return Err(Obstacle::Refused(reason));
        }
        let topology = &self.supervisor.settings.topology;
        let obstacle = |attempted: String, error| obstacle(session, topology, &attempted, &error);
        let exchanges_first = self.supervisor.settings.declare_exchanges;
        let declared = declare::queue(&queue, session.consuming(), exchanges_first).await;
        let channel = declared.map_err(|refused| obstacle(refused.attempted, refused.error))?;
        let prefetch = self.supervisor.settings.prefetch.map_or(self.subscription.prefetch, NonZeroU16::get);
        let qos = BasicQosOptions { global: false };
        channel.basic_qos(prefetch, qos).await.map_err(|e| obstacle("setting the prefetch".into(), e))?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumed = channel.basic_consume(short(&queue.name), CONSUMER_TAG.into(), options, none).await;
        let stream = consumed.map_err(|e| obstacle(format!("consuming {queue}"), e))?;
        self.taps += 1;
        Ok(Tap {
            number: self.taps,
            queue,
            channel,
            stream,
            finished: false,
            stop: self.stop.clone(),
            _ended: ended.drop_guard(),
        })
    }

    /// Binds a queue again and again. A refusal closes the channel, and so the queue is set up anew.
    async fn keep_bound(&self, queue: &QueueDeclaration, channel: Channel) -> Infallible {
        let every = match self.subscription.queue {
            QueueKind::Server { fanout: true, .. } => REBIND_HOST_EVERY,
            _ => REBIND_EVERY,
        };
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signs = self.supervisor.rebinds();
        loop {
            tokio::select! {
                biased;
                // The sender lives as long as the supervisor, which `self` keeps.
                Ok(()) = signs.changed() => {}
                _ = ticks.tick() => {}
            }
            if let Err(refused) = queue.bind(&channel).await {
                warn!(queue = %queue.name, error = %refused.error, "a binding is lost; the queue is set up again");
                std::future::pending::<()>().await;
            }
        }
    }
}

fn obstacle(session: &Session, topology: &Topology, attempted: &str, error: &lapin::Error) -> Obstacle {
    let reason = format!("{attempted}: {}", explain::refusal(error, topology));
    match explain::reply_code(error) {
        Some(RESOURCE_LOCKED) => Obstacle::Held(reason),
        // A forced close or a shutdown is no fault of this queue.
        Some(code) if code != CONNECTION_FORCED => Obstacle::Refused(reason),
        _ if session.alive() => Obstacle::Refused(reason),
        _ => Obstacle::Gone(reason),
    }
}

impl Drop for Tap {
    /// Deletes an exclusive queue whose consumer has stopped. It lives as long as its connection, which may be shared, and
    /// would fill and keep others out until then.
    fn drop(&mut self) {
        if !self.queue.exclusive || !self.stop.is_cancelled() || !self.channel.status().connected() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (channel, queue) = (self.channel.clone(), self.queue.name.clone());
        runtime.spawn(async move {
            let delete = async {
                channel.basic_cancel(CONSUMER_TAG.into(), BasicCancelOptions::default()).await?;
                // `if_unused`: another consumer of this process may have taken over the name.
                let options = QueueDeleteOptions { if_unused: true, ..QueueDeleteOptions::default() };
                channel.queue_delete(short(&queue), options).await
            };
            match timeout(SETUP_TIMEOUT, delete).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    debug!(%queue, %error, "queue not deleted: its connection is gone, or it is in use")
                }
                Err(_) => warn!(%queue, "the broker did not answer queue.delete"),
            }
        });
    }
}
