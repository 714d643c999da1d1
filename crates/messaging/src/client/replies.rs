//! The reply queue of a client, and who waits for what on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::envelope::{CONTENT_TYPE, Fault, Reply, read_reply};
use crate::notices::{NOBODY, Notices, start_of};
use crate::{
    ConnectionState, Consumer, ConsumerState, Delivery, QueueKind, RemoteError, Settle, Subscription,
    Transport, TransportError,
};

/// Unacknowledged answers. They are taken off at once, so this only bounds a burst.
const PREFETCH: u16 = 256;

/// How a call ended.
#[derive(Debug)]
pub(super) enum Answer {
    Result(Box<RawValue>),
    Failure(Box<RemoteError>),
    Unreadable(String),
    Silence { waited: Duration },
    Closed,
}

/// What has arrived for one call.
#[derive(Debug, Default)]
struct Arrived {
    /// Messages so far: each one restarts the caller's monitor.
    messages: u64,
    /// Result of a message that was not the last: the old protocol in two messages.
    stored: Option<Box<RawValue>>,
    answer: Option<Answer>,
    /// Answers of several servers, if several are expected.
    many: Option<Vec<Answer>>,
}

type Waiters = Mutex<HashMap<String, watch::Sender<Arrived>>>;

/// Shared by all calls of a client.
pub(super) struct Replies {
    transport: Arc<dyn Transport>,
    queue: String,
    inbox: Arc<Inbox>,
    /// The queue's state, and what ends its task together with the client.
    consuming: OnceCell<(watch::Receiver<ConsumerState>, DropGuard)>,
}

#[derive(Default)]
struct Inbox {
    waiters: Waiters,
    notices: Notices,
}

impl Replies {
    pub(super) fn new(transport: Arc<dyn Transport>, queue: String) -> Self {
        Self { transport, queue, inbox: Arc::default(), consuming: OnceCell::new() }
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits until the queue is consumed; the first caller has it created.
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
            ConnectionState::Connecting { last_error, .. } => {
                ("the broker".to_owned(), last_error.clone().unwrap_or_else(|| "none yet".into()))
            }
            ConnectionState::Connected { broker, .. } => {
                (broker.clone(), "the reply queue is not consumed yet".into())
            }
            ConnectionState::Blocked { reason } => {
                ("the broker".to_owned(), format!("it takes no messages: {reason}"))
            }
            ConnectionState::Closed => return TransportError::Closed,
        };
        TransportError::Unreachable { broker, waited, last_error }
    }

    /// Announces a call. It is forgotten when the waiter is dropped.
    pub(super) fn expect(&self, msg_id: &str) -> Waiter {
        self.wait_for(msg_id, Arrived::default())
    }

    /// The same for a call that several servers answer.
    pub(super) fn expect_many(&self, msg_id: &str) -> Waiter {
        self.wait_for(msg_id, Arrived { many: Some(Vec::new()), ..Arrived::default() })
    }

    fn wait_for(&self, msg_id: &str, arrived: Arrived) -> Waiter {
        let (sender, arrived) = watch::channel(arrived);
        self.inbox.waiters().insert(msg_id.to_owned(), sender);
        Waiter { inbox: self.inbox.clone(), msg_id: msg_id.to_owned(), arrived }
    }
}

impl Inbox {
    fn waiters(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Sender<Arrived>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes answers until the transport ends the queue; then nobody needs to wait any longer.
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
            // Not through a rejected one: to settle that twice would cost the channel, and bring everything again.
            if let Some(last) = last {
                consumer.settle(last, Settle::AckThrough);
            }
        }
        for (_, waiter) in self.waiters().drain() {
            waiter.send_modify(|arrived| {
                arrived.answer.get_or_insert(Answer::Closed);
            });
        }
    }

    fn complain(&self, fault: Fault, delivery: &Delivery) {
        let peer = delivery.user_id.as_deref().unwrap_or(NOBODY);
        if let Some(suppressed) = self.notices.due(fault.name(), peer) {
            let (size, start) = (delivery.body.len(), start_of(&delivery.body));
            tracing::warn!(user = peer, size, fault = fault.name(), ?start, suppressed, "a malformed reply");
        }
    }

    fn take(&self, delivery: &Delivery) -> Result<(), Fault> {
        if delivery.content_type.as_deref() != Some(CONTENT_TYPE) {
            return Err(Fault::ContentType);
        }
        match read_reply(&delivery.body) {
            Ok(reply) => {
                let Reply { msg_id, ending, result, failure } = reply;
                self.deliver(&msg_id, |arrived| {
                    if let Some(failure) = failure {
                        arrived.answer = Some(Answer::Failure(failure));
                    } else if ending {
                        let result = result.or_else(|| arrived.stored.take());
                        arrived.answer =
                            Some(Answer::Result(result.unwrap_or_else(|| RawValue::NULL.to_owned())));
                    } else if result.is_some() {
                        arrived.stored = result;
                    }
                });
                Ok(())
            }
            Err((fault, msg_id)) => {
                if let Some(msg_id) = msg_id {
                    self.deliver(&msg_id, |arrived| {
                        arrived.answer = Some(Answer::Unreadable(fault.name().into()))
                    });
                }
                Err(fault)
            }
        }
    }

    /// Only the first answer counts, unless several are expected.
    fn deliver(&self, msg_id: &str, change: impl FnOnce(&mut Arrived)) {
        match self.waiters().get(msg_id) {
            Some(waiter) => waiter.send_modify(|arrived| {
                arrived.messages += 1;
                if arrived.answer.is_none() {
                    change(arrived);
                }
                if let Some(many) = &mut arrived.many {
                    many.extend(arrived.answer.take());
                }
            }),
            None => tracing::debug!(msg_id, "an answer to no call in progress"),
        }
    }
}

/// One call's claim to its answer.
pub(super) struct Waiter {
    inbox: Arc<Inbox>,
    msg_id: String,
    arrived: watch::Receiver<Arrived>,
}

impl Waiter {
    /// Waits for the answer; with a monitor, only as long as messages keep coming.
    pub(super) async fn answer(&mut self, monitor: Option<Duration>) -> Answer {
        loop {
            let changed = async {
                match monitor {
                    Some(monitor) => tokio::time::timeout(monitor, self.arrived.changed()).await,
                    None => Ok(self.arrived.changed().await),
                }
            };
            match changed.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Answer::Closed,
                Err(_) => return Answer::Silence { waited: monitor.unwrap_or_default() },
            }
            let answered = self.arrived.borrow_and_update().answer.is_some();
            if answered && let Some(answer) = self.inbox.finish(&self.msg_id) {
                return answer;
            }
        }
    }
}

impl Waiter {
    /// The next of several answers; `None` when no more can come.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        loop {
            self.arrived.borrow_and_update();
            if let Some(answer) = self.inbox.next_of_many(&self.msg_id) {
                return Some(answer);
            }
            self.arrived.changed().await.ok()?;
        }
    }
}

impl Inbox {
    /// Takes the oldest of several answers that nobody has taken yet.
    fn next_of_many(&self, msg_id: &str) -> Option<Answer> {
        let waiters = self.waiters();
        let mut next = None;
        waiters.get(msg_id)?.send_if_modified(|arrived| {
            next = arrived.many.as_mut().filter(|many| !many.is_empty()).map(|many| many.remove(0));
            false
        });
        next
    }

    /// Takes a call's answer and forgets the call.
    fn finish(&self, msg_id: &str) -> Option<Answer> {
        let waiter = self.waiters().remove(msg_id)?;
        let mut answer = None;
        waiter.send_modify(|arrived| answer = arrived.answer.take());
        answer
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.inbox.waiters().remove(&self.msg_id);
    }
}
