//! The options of a server.

use std::sync::Arc;
use std::time::Duration;

use super::driver::Driver;
use crate::authority::Authority;

/// The options of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// How many requests may be in progress at once. Questions do not count: they have a limit of their own.
    pub concurrency: usize,
    /// Where long questions are answered.
    pub driver: Driver,
    /// How many deliveries of a queue of requests may be unacknowledged.
    pub prefetch: u16,
    /// How many reports are handled and acknowledged together at most. The prefetch of a fanout queue is twice that.
    pub report_batch: usize,
    /// How many messages each listener remembers to suppress copies. oslo.messaging remembers 16.
    pub remembered: usize,
    /// Which AMQP users may call what. Calls of others are answered with an error, and their casts are dropped. Both are
    /// counted.
    pub authority: Arc<Authority>,
    /// How long an answer is tried again while its queue is missing or the broker is away.
    pub reply_retry: Duration,
    /// Seed of the message ids. Each server needs its own.
    pub seed: [u8; 32],
}

impl ServerOptions {
    /// The defaults, with message ids from `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            concurrency: 64,
            driver: Driver::default(),
            prefetch: 128,
            report_batch: 256,
            remembered: 1024,
            authority: Arc::default(),
            reply_retry: Duration::from_secs(60),
            seed,
        }
    }
}
