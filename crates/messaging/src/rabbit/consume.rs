//! Consumers that outlive connections.
//!
//! A task per consumer declares, binds and consumes its queue on every new session and puts the result, a [`Tap`], into
//! a slot; the consumer takes deliveries from the tap directly, without a task in between. The slot holds the newest
//! tap only. Each tap has its own number, so that a delivery of an older one is never settled on a newer channel.

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
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::explain::{self, RESOURCE_LOCKED};
use super::session::{Core, Session};
use super::topology::{Queue, Topology, short};
use crate::envelope::inflate;
use crate::{
    Consumer, ConsumerState, Delivery, DeliveryTag, QueueKind, Settle, Subscription, TransportError,
};

/// The broker has this long to declare, bind and consume, or to cancel.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds of the wait before a queue is set up once more: it was deleted, or held by another connection.
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(5);
/// The same when only an operator can help. A refusal can take the whole connection with it (541): seldom, then.
const FAILED_BASE: Duration = Duration::from_secs(5);
const FAILED_CAP: Duration = Duration::from_secs(30);
/// One consumer per channel: its tag need not differ from another's.
const CONSUMER_TAG: &str = "novella";

/// A queue being consumed on one channel.
struct Tap {
    number: u64,
    queue: Queue,
    channel: Channel,
    stream: lapin::Consumer,
    /// The whole consumer stops: its queue goes too.
    stop: CancellationToken,
    /// Dropped with the tap; its task then sets up the next one.
    _ended: tokio_util::sync::DropGuard,
}

/// Where the task leaves the newest tap.
#[derive(Default)]
struct Slot {
    tap: Mutex<Option<Tap>>,
    filled: Notify,
}

impl Slot {
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
    slot: Arc<Slot>,
    tap: Option<Tap>,
    state: watch::Receiver<ConsumerState>,
    /// Ends the task.
    stop: CancellationToken,
    cancelled: bool,
    /// Cancelled, and nothing is left to take.
    drained: bool,
}

/// Starts consuming; `stop` ends the consumer from outside.
pub(super) fn start(core: Arc<Core>, subscription: Subscription, stop: CancellationToken) -> RabbitConsumer {
    let slot = Arc::new(Slot::default());
    let (state_sender, state) = watch::channel(ConsumerState::Pending);
    let seed = seed_from(&core);
    let builder = Builder {
        core,
        subscription,
        slot: slot.clone(),
        state: state_sender,
        stop: stop.clone(),
        taps: 0,
        unique: (0, String::new()),
        retry: Backoff::new(RETRY_BASE, RETRY_CAP, seed),
        failed: Backoff::new(FAILED_BASE, FAILED_CAP, seed),
    };
    tokio::spawn(builder.run());
    RabbitConsumer { slot, tap: None, state, stop, cancelled: false, drained: false }
}

/// Declares a queue and what feeds it, on a channel of its own.
pub(super) async fn declare(core: &Core, kind: &QueueKind, deadline: Instant) -> Result<(), TransportError> {
    let started = Instant::now();
    let queue = core.topology.queue_of(kind, || core.ids.hex());
    let refused = |reason| TransportError::Refused { attempted: format!("declaring {queue}"), reason };
    if let Some(reason) = queue.unspeakable() {
        return Err(refused(reason));
    }
    let declared = async {
        let session = core.ready().await?;
        let channel = session.consuming().create_channel().await;
        let channel = channel.map_err(|error| refused(explain::refusal(&error, &core.topology)))?;
        queue.declare(&channel).await.map_err(|refusal| TransportError::Refused {
            reason: explain::refusal(&refusal.error, &core.topology),
            attempted: refusal.attempted,
        })
    };
    match timeout_at(deadline, declared).await {
        Ok(result) => result,
        Err(_) => Err(TransportError::Unreachable {
            broker: core.brokers(),
            waited: started.elapsed(),
            last_error: core.obstacle(),
        }),
    }
}

fn seed_from(core: &Core) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(core.ids.uuid().as_bytes());
    seed
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize {
        if max == 0 || self.drained {
            return 0;
        }
        loop {
            if let Some(tap) = &mut self.tap {
                let taken = tokio::select! {
                    biased;
                    // Closed from outside; our own `cancel` lets what is here be taken.
                    () = self.stop.cancelled(), if !self.cancelled => 0,
                    taken = tap.next_batch(into, max) => taken,
                };
                if taken > 0 {
                    return taken;
                }
                if self.cancelled {
                    // Its channel stays open: what was taken can still be settled.
                    self.drained = true;
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
        // The first poll queues the frame; what is left of the future only waits for the socket. An error means that
        // the channel is gone, and with it the delivery.
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
    /// Waits for a delivery and takes what else is there, `max` at most. Zero: the tap has run dry for good.
    async fn next_batch(&mut self, into: &mut Vec<Delivery>, max: usize) -> usize {
        let number = self.number;
        let mut stream = Pin::new(&mut self.stream);
        let mut taken = 0;
        poll_fn(|cx| {
            while taken < max {
                match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(delivery))) => {
                        into.push(received(delivery, number));
                        taken += 1;
                    }
                    // Errors end the stream; why, the session's supervisor or the next set-up says.
                    Poll::Ready(Some(Err(_)) | None) => break,
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
        redelivered: delivery.redelivered,
        tag: DeliveryTag { generation: number, tag: delivery.delivery_tag },
    }
}

/// Why a set-up did not work.
enum Obstacle {
    /// Another connection holds the queue.
    Held(String),
    /// An operator has to act.
    Refused(String),
    /// The connection is gone or silent; a new session will come.
    Gone(String),
}

/// The task that keeps a consumer's queue declared and consumed.
struct Builder {
    core: Arc<Core>,
    subscription: Subscription,
    slot: Arc<Slot>,
    state: watch::Sender<ConsumerState>,
    stop: CancellationToken,
    taps: u64,
    /// Distinguishes a fanout queue from those of earlier connections.
    unique: (u64, String),
    retry: Backoff,
    failed: Backoff,
}

impl Builder {
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
        let mut sessions = self.core.sessions();
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
                    self.slot.put(tap);
                    self.state.send_replace(ConsumerState::Active { generation: session.generation });
                    // A session that ends takes its taps with it, whether or not someone is looking at them.
                    let session_ended = tokio::select! {
                        biased;
                        _ = sessions.changed() => true,
                        () = ended.cancelled() => false,
                    };
                    self.state.send_replace(ConsumerState::Pending);
                    if !session_ended {
                        // The queue was deleted, or its channel closed; perhaps the connection has gone as well.
                        self.core.suspect();
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
                self.core.suspect();
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
                warn!(?queue, %reason, "cannot consume; trying again seldom")
            }
            _ => debug!(?queue, %reason, "still not consuming"),
        }
        sleep(wait).await;
    }

    async fn set_up(&mut self, session: &Arc<Session>, ended: CancellationToken) -> Result<Tap, Obstacle> {
        if self.unique.0 != session.generation {
            self.unique = (session.generation, self.core.ids.hex());
        }
        let queue = self.core.topology.queue_of(&self.subscription.queue, || self.unique.1.clone());
        if let Some(reason) = queue.unspeakable() {
            return Err(Obstacle::Refused(reason));
        }
        let topology = &self.core.topology;
        let judge = |attempted: String, error| judge(session, topology, &attempted, &error);
        let open = |e| judge("opening a channel".into(), e);
        let channel = session.consuming().create_channel().await.map_err(open)?;
        let prefetch = self.core.prefetch.map_or(self.subscription.prefetch, NonZeroU16::get);
        let qos = BasicQosOptions { global: false };
        channel.basic_qos(prefetch, qos).await.map_err(|e| judge("setting the prefetch".into(), e))?;
        queue.declare(&channel).await.map_err(|refusal| judge(refusal.attempted, refusal.error))?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumed = channel.basic_consume(short(&queue.name), CONSUMER_TAG.into(), options, none).await;
        let stream = consumed.map_err(|e| judge(format!("consuming {queue}"), e))?;
        self.taps += 1;
        Ok(Tap {
            number: self.taps,
            queue,
            channel,
            stream,
            stop: self.stop.clone(),
            _ended: ended.drop_guard(),
        })
    }
}

fn judge(session: &Session, topology: &Topology, attempted: &str, error: &lapin::Error) -> Obstacle {
    let reason = format!("{attempted}: {}", explain::refusal(error, topology));
    match explain::reply_code(error) {
        Some(RESOURCE_LOCKED) => Obstacle::Held(reason),
        // Forced closes and shutdowns are the connection's affair, not this queue's.
        Some(code) if code != CONNECTION_FORCED => Obstacle::Refused(reason),
        _ if session.alive() => Obstacle::Refused(reason),
        _ => Obstacle::Gone(reason),
    }
}

const CONNECTION_FORCED: u16 = 320;

impl Drop for Tap {
    /// An exclusive queue lives as long as its connection, which may be shared: without its consumer it would fill for
    /// ever and keep others out.
    fn drop(&mut self) {
        if !self.queue.exclusive || !self.stop.is_cancelled() || !self.channel.status().connected() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (channel, queue) = (self.channel.clone(), self.queue.name.clone());
        runtime.spawn(async move {
            let delete = async {
                channel.basic_cancel(CONSUMER_TAG.into(), BasicCancelOptions::default()).await?;
                // Not if another consumer of this process has taken the name over.
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
