//! The reply queue of a client, and the calls that wait for an answer from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::envelope::{MessageFault, Reply, read_reply};
use crate::error::{RemoteError, TransportError};
use crate::notices::{NOBODY, Notices, start_of};
use crate::transport::{
    CONTENT_TYPE, ConnectionState, Consumer, ConsumerState, Delivery, QueueKind, Settle, Subscription,
    Transport,
};

/// How many answers may be unacknowledged. They are taken from the queue at once, so this only bounds a burst.
const PREFETCH: u16 = 256;

/// How a call ended.
#[derive(Debug)]
pub(super) enum CallEnd {
    Result(Box<RawValue>),
    Failure(Box<RemoteError>),
    /// The answer was malformed. This is the name of the fault.
    Unreadable(String),
    /// Neither an answer nor a heartbeat came for this long.
    Silence {
        waited: Duration,
    },
    /// The transport was closed.
    Closed,
}

/// What has arrived for one call.
#[derive(Debug, Default)]
struct Arrived {
    /// The result in a message that was not the last. Old peers send the result and its end in two messages.
    stored: Option<Box<RawValue>>,
    end: Option<CallEnd>,
    /// The answers of several servers, if several are expected.
    many: Option<Vec<CallEnd>>,
}

/// The calls in progress by message id.
type Waiters = HashMap<String, watch::Sender<Arrived>>;

/// The reply queue, shared by all calls of a client.
pub(super) struct Replies {
    transport: Arc<dyn Transport>,
    queue: String,
    inbox: Arc<Inbox>,
    /// The queue's state, and the guard that ends the queue's task when the client is dropped.
    consuming: OnceCell<(watch::Receiver<ConsumerState>, DropGuard)>,
}

#[derive(Default)]
struct Inbox {
    waiters: Mutex<Waiters>,
    notices: Notices,
}

impl Replies {
    pub(super) fn new(transport: Arc<dyn Transport>, queue: String) -> Self {
        Self { transport, queue, inbox: Arc::default(), consuming: OnceCell::new() }
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits until the queue is consumed. The first caller has it created.
    pub(super) async fn ready(&self, timeout: Duration, deadline: Instant) -> Result<(), TransportError> {
        let (state, _) = self.consuming.get_or_try_init(|| self.consume()).await?;
        let mut state = state.clone();
        let settled = |state: &ConsumerState| {
            matches!(state, ConsumerState::Active { .. } | ConsumerState::Failed { .. })
        };
        match tokio::time::timeout_at(deadline, state.wait_for(settled)).await {
            Ok(Ok(reached)) => match &*reached {
                ConsumerState::Failed { reason } => Err(TransportError::Refused {
                    attempted: format!("reply queue {}", self.queue),
                    reason: reason.clone(),
                }),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(TransportError::Closed),
            Err(_) => Err(self.unreachable(timeout)),
        }
    }

    async fn consume(&self) -> Result<(watch::Receiver<ConsumerState>, DropGuard), TransportError> {
        let queue = QueueKind::Reply { name: self.queue.clone() };
        let consumer = self.transport.consume(Subscription { queue, prefetch: PREFETCH }).await?;
        let state = consumer.state();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(self.inbox.clone().receive(consumer)));
        Ok((state, stop.drop_guard()))
    }

    fn unreachable(&self, waited: Duration) -> TransportError {
        let state = self.transport.state();
        let (broker, last_error) = match &*state.borrow() {
            ConnectionState::Connecting { brokers, last_error, .. } => {
                (brokers.clone(), last_error.clone().unwrap_or_else(|| "none yet".into()))
            }
            ConnectionState::Connected { broker, .. } => {
                (broker.clone(), "the reply queue is not consumed yet".into())
            }
            ConnectionState::Blocked { broker, reason } => {
                (broker.clone(), format!("it accepts no messages: {reason}"))
            }
            ConnectionState::Closed => return TransportError::Closed,
        };
        TransportError::Unreachable { broker, waited, last_error }
    }

    /// Registers a call, so that its answer is kept until the waiter is dropped.
    pub(super) fn expect(&self, msg_id: &str) -> Waiter {
        self.register(msg_id, Arrived::default())
    }

    /// Registers a call that several servers answer.
    pub(super) fn expect_many(&self, msg_id: &str) -> Waiter {
        self.register(msg_id, Arrived { many: Some(Vec::new()), ..Arrived::default() })
    }

    fn register(&self, msg_id: &str, arrived: Arrived) -> Waiter {
        let (sender, arrived) = watch::channel(arrived);
        self.inbox.waiters().insert(msg_id.to_owned(), sender);
        Waiter { inbox: self.inbox.clone(), msg_id: msg_id.to_owned(), arrived }
    }
}

impl Inbox {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes answers until the transport ends the queue, and then ends all calls that still wait.
    async fn receive(self: Arc<Self>, mut consumer: Box<dyn Consumer>) {
        let mut batch = Vec::with_capacity(usize::from(PREFETCH));
        while consumer.next_batch(&mut batch, usize::from(PREFETCH)).await > 0 {
            let mut last = None;
            for delivery in batch.drain(..) {
                match self.take(&delivery) {
                    Ok(()) => last = Some(delivery.tag),
                    Err(fault) => {
                        self.complain(fault, &delivery);
                        consumer.settle(delivery.tag, Settle::Reject);
                    }
                }
            }
            // `last` is never a rejected delivery: the broker closes a channel that settles one twice, and then
            // delivers everything again.
            if let Some(last) = last {
                consumer.settle(last, Settle::AckThrough);
            }
        }
        for (_, waiter) in self.waiters().drain() {
            waiter.send_modify(|arrived| {
                arrived.end.get_or_insert(CallEnd::Closed);
            });
        }
    }

    fn complain(&self, fault: MessageFault, delivery: &Delivery) {
        let peer = delivery.user_id.as_deref().unwrap_or(NOBODY);
        if let Some(suppressed) = self.notices.take_turn(fault.name(), peer) {
            let (size, start) = (delivery.body.len(), start_of(&delivery.body));
            tracing::warn!(
                user = peer,
                size,
                fault = fault.name(),
                ?start,
                suppressed,
                "dropped a malformed reply"
            );
        }
    }

    fn take(&self, delivery: &Delivery) -> Result<(), MessageFault> {
        if delivery.content_type.as_deref() != Some(CONTENT_TYPE) {
            return Err(MessageFault::ContentType);
        }
        match read_reply(&delivery.body) {
            Ok(reply) => {
                let Reply { msg_id, ending, result, failure } = reply;
                self.deliver(&msg_id, |arrived| {
                    if let Some(failure) = failure {
                        arrived.end = Some(CallEnd::Failure(failure));
                    } else if ending {
                        let result = result.or_else(|| arrived.stored.take());
                        arrived.end =
                            Some(CallEnd::Result(result.unwrap_or_else(|| RawValue::NULL.to_owned())));
                    } else if result.is_some() {
                        arrived.stored = result;
                    }
                });
                Ok(())
            }
            Err((fault, msg_id)) => {
                if let Some(msg_id) = msg_id {
                    self.deliver(&msg_id, |arrived| {
                        arrived.end = Some(CallEnd::Unreadable(fault.name().into()))
                    });
                }
                Err(fault)
            }
        }
    }

    /// Hands a message to the call that waits for it, and so restarts the caller's monitor. Only the first answer counts,
    /// unless several are expected.
    fn deliver(&self, msg_id: &str, change: impl FnOnce(&mut Arrived)) {
        match self.waiters().get(msg_id) {
            Some(waiter) => waiter.send_modify(|arrived| {
                if arrived.end.is_none() {
                    change(arrived);
                }
                if let Some(many) = &mut arrived.many {
                    many.extend(arrived.end.take());
                }
            }),
            None => tracing::debug!(msg_id, "dropped an answer, because no call waits for it"),
        }
    }

    /// Takes the oldest of several answers that nobody has taken yet.
    fn take_next(&self, msg_id: &str) -> Option<CallEnd> {
        let waiters = self.waiters();
        let mut next = None;
        waiters.get(msg_id)?.send_if_modified(|arrived| {
            next = arrived.many.as_mut().filter(|many| !many.is_empty()).map(|many| many.remove(0));
            false
        });
        next
    }

    /// Takes how a call ended, and forgets the call.
    fn take_end(&self, msg_id: &str) -> Option<CallEnd> {
        let waiter = self.waiters().remove(msg_id)?;
        let mut end = None;
        waiter.send_modify(|arrived| end = arrived.end.take());
        end
    }
}

/// Waits for the answer to one call.
pub(super) struct Waiter {
    inbox: Arc<Inbox>,
    msg_id: String,
    arrived: watch::Receiver<Arrived>,
}

impl Waiter {
    /// Waits until the call has ended. With a monitor, waits only as long as messages keep coming.
    pub(super) async fn wait(&mut self, monitor: Option<Duration>) -> CallEnd {
        loop {
            let changed = async {
                match monitor {
                    Some(monitor) => tokio::time::timeout(monitor, self.arrived.changed()).await,
                    None => Ok(self.arrived.changed().await),
                }
            };
            match changed.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return CallEnd::Closed,
                Err(_) => return CallEnd::Silence { waited: monitor.unwrap_or_default() },
            }
            let ended = self.arrived.borrow_and_update().end.is_some();
            if ended && let Some(end) = self.inbox.take_end(&self.msg_id) {
                return end;
            }
        }
    }

    /// The next of several answers. `None` when no more can come.
    pub(super) async fn next_of_many(&mut self) -> Option<CallEnd> {
        loop {
            self.arrived.borrow_and_update();
            if let Some(answer) = self.inbox.take_next(&self.msg_id) {
                return Some(answer);
            }
            self.arrived.changed().await.ok()?;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.inbox.waiters().remove(&self.msg_id);
    }
}
