//! Publishes answers and heartbeats.
//!
//! A reply queue may be missing for a moment, while its owner reconnects. An answer to a missing queue is therefore tried
//! again for a while, without the permit that its request held. A queue that stayed missing is remembered, and further
//! answers to it are dropped at once: a caller that died with many calls open must not cost a retry period for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::counters::{ServerCounters, count};
use crate::envelope::{ReplyAddress, write_reply};
use crate::error::{CallError, RemoteError, TransportError};
use crate::ids::Ids;
use crate::transport::{Destination, MAX_BODY_BYTES, Outgoing, Transport};

/// How long to wait before an answer is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How many answers may wait to be tried again. Further ones are dropped after their first try.
const MAX_RETRYING: usize = 1024;
/// How many missing queues are remembered.
const MAX_MISSING: usize = 200;
/// How long a missing queue is remembered.
const MISSING_FOR: Duration = Duration::from_secs(60);

/// The result of a method, or the error for the caller.
pub(super) type MethodResult = Result<Box<RawValue>, Box<RemoteError>>;

/// Publishes answers and heartbeats.
pub(super) struct Replier {
    transport: Arc<dyn Transport>,
    counters: Arc<ServerCounters>,
    ids: Ids,
    /// How long an answer is tried again.
    retry: Duration,
    retrying: Semaphore,
    /// Queues that were missing, and until when that is remembered.
    missing: Mutex<BTreeMap<String, Instant>>,
}

impl Replier {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        seed: [u8; 32],
        retry: Duration,
        counters: Arc<ServerCounters>,
    ) -> Self {
        Self {
            transport,
            counters,
            ids: Ids::new(seed),
            retry,
            retrying: Semaphore::new(MAX_RETRYING),
            missing: Mutex::default(),
        }
    }

    /// Sends the [body](Self::body) of an answer. `slot` is what the request occupied. It is given back as soon as the answer
    /// has to wait.
    pub(super) async fn send(&self, to: &ReplyAddress, mut body: Bytes, slot: impl Send) {
        let mut slot = Some(slot);
        let Some(queue) = &to.queue else {
            count(&self.counters.replies_without_queue);
            return;
        };
        if self.is_missing(queue) {
            count(&self.counters.replies_unroutable);
            return;
        }
        let give_up = Instant::now() + self.retry;
        let mut replaced = body.len() > MAX_BODY_BYTES;
        if replaced {
            body = self.refusal(to, "it is too large");
        }
        let mut waiting = None;
        loop {
            match self.publish(queue, body.clone(), give_up).await {
                Ok(()) => return count(&self.counters.replies),
                Err(TransportError::Refused { .. }) if !replaced => {
                    replaced = true;
                    body = self.refusal(to, "the broker refused it");
                    continue;
                }
                Err(error @ (TransportError::Refused { .. } | TransportError::Closed)) => {
                    return self.count_lost(queue, &error);
                }
                Err(error) if Instant::now() + RETRY_INTERVAL > give_up => {
                    if matches!(error, TransportError::Unroutable { .. }) {
                        self.remember_missing(queue);
                    }
                    return self.count_lost(queue, &error);
                }
                Err(error) => {
                    if waiting.is_none() {
                        waiting = self.retrying.try_acquire().ok();
                        drop(slot.take());
                        if waiting.is_none() {
                            return self.count_lost(queue, &error);
                        }
                    }
                }
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
            if self.is_missing(queue) {
                // Another answer to this queue has been given up meanwhile.
                return count(&self.counters.replies_unroutable);
            }
        }
    }

    /// Sends heartbeats to a caller that asked for them, until dropped.
    pub(super) async fn heartbeats(&self, to: Option<&ReplyAddress>) {
        if let Some(to) = to
            && let (Some(queue), Some(interval)) = (&to.queue, to.heartbeat)
        {
            let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let now = ticks.tick().await;
                let body = write_reply(&to.msg_id, &self.ids.hex(), Ok(RawValue::NULL), false);
                match self.publish(queue, body, now + interval).await {
                    Ok(()) => count(&self.counters.heartbeats),
                    Err(TransportError::Unroutable { .. } | TransportError::Closed) => break,
                    Err(error) => tracing::debug!(%error, "could not publish a heartbeat"),
                }
            }
        }
        std::future::pending().await
    }

    async fn publish(&self, queue: &str, body: Bytes, deadline: Instant) -> Result<(), TransportError> {
        let destination = Destination::Queue { name: queue.to_owned() };
        self.transport
            .publish(Outgoing { destination, body, expiration: None, mandatory: true, deadline })
            .await
    }

    /// The message that answers a call.
    pub(super) fn body(&self, to: &ReplyAddress, result: &MethodResult) -> Bytes {
        write_reply(&to.msg_id, &self.ids.hex(), result.as_deref().map_err(|error| &**error), true)
    }

    fn refusal(&self, to: &ReplyAddress, why: &str) -> Bytes {
        let error = CallError::Internal { message: format!("the answer could not be sent: {why}") };
        self.body(to, &Err(Box::new(error.into_remote("", ""))))
    }

    fn count_lost(&self, queue: &str, error: &TransportError) {
        match error {
            TransportError::Unroutable { .. } => count(&self.counters.replies_unroutable),
            _ => count(&self.counters.replies_failed),
        }
        tracing::debug!(queue, %error, "gave up sending an answer");
    }

    fn is_missing(&self, queue: &str) -> bool {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.get(queue).is_some_and(|until| *until > Instant::now())
    }

    /// Remembers a missing queue, if there is room.
    fn remember_missing(&self, queue: &str) {
        let now = Instant::now();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.len() >= MAX_MISSING {
            missing.retain(|_, until| *until > now);
        }
        if missing.len() < MAX_MISSING {
            missing.insert(queue.to_owned(), now + MISSING_FOR);
        }
    }
}
