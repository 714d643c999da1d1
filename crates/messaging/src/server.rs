//! Takes requests off queues, has endpoints perform them, and answers.
//!
//! ```text
//! delivery ─ readable? ─ permitted? ─ seen before? ─┬─ report: handled with its neighbours, one ack for all
//!                                                   └─ request: permit ─ ack ─ task: dispatch ─ answer
//! ```
//! - Nothing that a peer sends stops a listener. A message that can never be processed is rejected without requeue, and
//!   its caller is told why if it can be found.
//! - A request is acknowledged before it is dispatched: it runs at most once, and a crash loses it.
//! - At most `concurrency` requests are in progress. Further ones wait in the queue, except for as many as the prefetch.
//! - Questions (methods of class read) never make other requests wait. They have places of their own, a few of the long ones
//!   are answered at a time, and a question that finds no place is refused.
//! - Nothing new starts once [`RpcServer::shutdown`] has begun. What was delivered but not started stays with the broker.
//! - Dropping the server ends all its tasks at once, as a crash would.
//!
//! From the bottom up: `counters` what is counted · `seen` messages remembered to suppress copies · `dispatcher` which
//! endpoint gets a request · `driver` where long questions are answered · `lanes` how many of them · `options` options of a
//! server · `replier` sends answers and heartbeats · `shared` what
//! listeners share · `listener` one queue's deliveries.

mod counters;
mod dispatcher;
mod driver;
mod lanes;
mod listener;
mod options;
mod replier;
mod seen;
mod shared;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::{BatchHandler, Endpoint};
use crate::error::TransportError;
use crate::transport::{ConsumerState, QueueKind, Subscription, Transport};
pub use counters::{CounterFamily, ServerCounters};
use dispatcher::Dispatcher;
pub use driver::Driver;
use listener::Listener;
pub use options::ServerOptions;
use shared::Shared;

/// Serves endpoints on any number of queues.
pub struct RpcServer {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    batches: Vec<Arc<dyn BatchHandler>>,
}

impl RpcServer {
    /// A server without endpoints.
    pub fn new(transport: Arc<dyn Transport>, options: ServerOptions) -> Self {
        let shared = Arc::new(Shared::new(transport, options));
        Self { shared, dispatcher: Dispatcher::default(), batches: Vec::new() }
    }

    /// Adds an endpoint for queues that are listened to from now on. The first endpoint that fits a request serves it.
    pub fn endpoint(mut self, endpoint: Arc<dyn Endpoint>) -> Self {
        self.dispatcher.add(endpoint);
        self
    }

    /// Has a method's requests handled in batches, for queues that are listened to from now on.
    pub fn batch(mut self, handler: Arc<dyn BatchHandler>) -> Self {
        self.batches.push(handler);
        self
    }

    /// Starts serving a queue, and returns the queue's state before the queue is consumed.
    pub async fn listen(&self, queue: QueueKind) -> Result<watch::Receiver<ConsumerState>, TransportError> {
        let options = &self.shared.options;
        let prefetch = match queue {
            QueueKind::Fanout { .. } => {
                u16::try_from(options.report_batch.saturating_mul(2)).unwrap_or(u16::MAX)
            }
            _ => options.prefetch,
        };
        // To AMQP zero means no bound, which would move a whole queue into memory.
        let subscription = Subscription { queue, prefetch: prefetch.max(1) };
        let consumer = self.shared.transport.consume(subscription).await?;
        let state = consumer.state();
        let listener =
            Listener::new(self.shared.clone(), self.dispatcher.clone(), self.batches.clone(), consumer);
        self.shared.spawn(listener.run());
        Ok(state)
    }

    /// Declares a queue before it is served, so that requests sent meanwhile wait in it.
    pub async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        self.shared.transport.declare(queue, deadline).await
    }

    /// What happened to messages since the server was made.
    pub fn counters(&self) -> Arc<ServerCounters> {
        self.shared.counters.clone()
    }

    /// Stops taking requests, and lets those in progress finish and be answered until `deadline`. True if all were done; the
    /// others are aborted.
    pub async fn shutdown(&self, deadline: Instant) -> bool {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let done = tokio::time::timeout_at(deadline, self.shared.tasks.wait()).await.is_ok();
        if !done {
            tracing::warn!(
                tasks = self.shared.tasks.len(),
                "aborting requests that are still in progress at the deadline"
            );
            self.shared.abort.cancel();
            self.shared.tasks.wait().await;
        }
        done
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        self.shared.abort.cancel();
    }
}
