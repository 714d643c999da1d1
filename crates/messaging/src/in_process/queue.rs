//! One queue of the broker in memory: its messages, its bounds, and whose turn it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::transport::FanoutLimits;

/// How many messages a queue without limits holds, because memory is finite. The oldest are dropped.
const MAX_LENGTH: u32 = 1_000_000;

/// A message in a queue.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) body: Bytes,
    pub(super) user: Option<Arc<str>>,
    pub(super) expires: Option<Instant>,
}

/// A queue and what waits in it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The client that an exclusive queue belongs to.
    pub(super) owner: Option<u64>,
    pub(super) limits: Option<FanoutLimits>,
    pub(super) messages: VecDeque<Message>,
    /// Ids of the consumers. The first is served next.
    pub(super) readers: VecDeque<u64>,
}

impl Queue {
    /// Adds a message, and returns how many were dropped to make room.
    pub(super) fn push(&mut self, mut message: Message, expiration: Option<Duration>, now: Instant) -> u64 {
        let ttl = match (self.limits.map(|limits| limits.message_ttl), expiration) {
            (Some(queue), Some(message)) => Some(queue.min(message)),
            (queue, message) => queue.or(message),
        };
        message.expires = ttl.map(|ttl| now + ttl);
        self.messages.push_back(message);
        let max = self.limits.map_or(MAX_LENGTH, |limits| limits.max_length) as usize;
        let excess = self.messages.len().saturating_sub(max);
        self.messages.drain(..excess);
        excess as u64
    }

    /// Puts back at the head what a consumer had and did not settle. It keeps its time of expiry.
    pub(super) fn requeue(&mut self, unsettled: impl DoubleEndedIterator<Item = Message>) {
        for message in unsettled.rev() {
            self.messages.push_front(message);
        }
    }

    /// Drops expired messages at the head, as classic queues do: one behind a message that has not expired stays.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.messages.front().and_then(|m| m.expires).is_some_and(|expires| expires < now) {
            self.messages.pop_front();
        }
    }
}
