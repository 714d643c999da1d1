//! Takes requests off queues, has endpoints perform them, and answers.
//!
//! ```text
//! delivery ─ whose? ─ readable? ─ seen before? ─┬─ report: handled with its neighbours, one ack for all
//!                                               └─ request: permit ─ ack ─ task: dispatch ─ answer
//! ```
//! - Nothing that a peer sends stops a listener. What can never be processed is rejected without requeue, and a caller
//!   that can be found hears why.
//! - A request is acknowledged before it is dispatched: it runs at most once, and a crash loses it.
//! - At most `concurrency` requests are in work; what waits beyond them waits in the queue, bounded by the prefetch.
//! - After [`RpcServer::shutdown`] began nothing new starts; what was delivered and not started stays with the broker.
//! - Dropping the server ends all its tasks at once, as a crash would.

mod counters;
mod listener;
mod replier;
mod seen;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatcher::Dispatcher;
use crate::notices::Notices;
use crate::{ConsumerState, Endpoint, QueueKind, Request, Subscription, Transport, TransportError, Version};
pub use counters::ServerCounters;
use listener::Listener;
use replier::Replier;

/// Answers published at once to requests that were never in work. Beyond them a caller has its timeout.
const MAX_ASIDE: usize = 256;

/// How a server works.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Requests in work at once.
    pub concurrency: usize,
    /// Unacknowledged deliveries per queue of requests.
    pub prefetch: u16,
    /// Reports handled (and acknowledged) together at most. A fanout queue's prefetch is twice that.
    pub report_batch: usize,
    /// Messages remembered per listener, to suppress copies. oslo.messaging remembers 16.
    pub remembered: usize,
    /// If set, requests of users other than these (as checked by the broker) are dropped and counted.
    pub accept_commands_from: Option<Vec<String>>,
    /// How long an answer is tried again while its queue is missing or the broker away.
    pub reply_retry: Duration,
    /// Seeds message ids.
    pub seed: [u8; 32],
}

impl ServerOptions {
    /// The defaults, with message ids from `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            concurrency: 64,
            prefetch: 128,
            report_batch: 256,
            remembered: 1024,
            accept_commands_from: None,
            reply_retry: Duration::from_secs(60),
            seed,
        }
    }
}

/// Handles all consecutive requests of one method at once: reports, where a lock and an acknowledgement for each would
/// cost more than the work. A caller among the senders is answered null.
pub trait BatchHandler: Send + Sync {
    /// The method it takes, in the null namespace.
    fn method(&self) -> &str;

    /// The newest version it takes. Anything else of this name goes to the endpoints.
    fn version(&self) -> Version {
        Version::new(1, u32::MAX)
    }

    /// Handles them, in order of arrival. Must not block. After a panic it is given the same ones again, one by one.
    fn handle(&self, requests: &[Request]);
}

/// Serves endpoints on any number of queues.
pub struct RpcServer {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    batches: Vec<Arc<dyn BatchHandler>>,
}

/// What all listeners of a server share.
struct Shared {
    transport: Arc<dyn Transport>,
    options: ServerOptions,
    counters: Arc<ServerCounters>,
    notices: Notices,
    replier: Replier,
    permits: Arc<Semaphore>,
    /// Answers beside the requests in work: to malformed calls, and to calls among reports.
    aside: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Nothing new starts.
    stop: CancellationToken,
    /// Everything ends.
    abort: CancellationToken,
}

impl Shared {
    /// Runs a task until it is done or the server is dropped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.abort.clone().run_until_cancelled_owned(work));
    }
}

impl RpcServer {
    /// A server without endpoints.
    pub fn new(transport: Arc<dyn Transport>, options: ServerOptions) -> Self {
        let counters = Arc::new(ServerCounters::default());
        let shared = Shared {
            replier: Replier::new(transport.clone(), options.seed, options.reply_retry, counters.clone()),
            permits: Arc::new(Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            aside: Arc::new(Semaphore::new(MAX_ASIDE)),
            notices: Notices::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            transport,
            options,
            counters,
        };
        Self { shared: Arc::new(shared), dispatcher: Dispatcher::default(), batches: Vec::new() }
    }

    /// Serves an endpoint too, on queues listened to from now on. The first that fits a request serves it.
    pub fn endpoint(mut self, endpoint: Arc<dyn Endpoint>) -> Self {
        self.dispatcher.add(endpoint);
        self
    }

    /// Has a method's requests handled in batches, on queues listened to from now on.
    pub fn batch(mut self, handler: Arc<dyn BatchHandler>) -> Self {
        self.batches.push(handler);
        self
    }

    /// Starts serving a queue, and yields the queue's state. Returns before the queue is consumed.
    pub async fn listen(&self, queue: QueueKind) -> Result<watch::Receiver<ConsumerState>, TransportError> {
        let options = &self.shared.options;
        let prefetch = match queue {
            QueueKind::Fanout { .. } => {
                u16::try_from(options.report_batch.saturating_mul(2)).unwrap_or(u16::MAX)
            }
            _ => options.prefetch,
        };
        // An unbounded prefetch (zero) would move a whole queue into memory.
        let subscription = Subscription { queue, prefetch: prefetch.max(1) };
        let consumer = self.shared.transport.consume(subscription).await?;
        let state = consumer.state();
        let remembered = NonZeroUsize::new(options.remembered).unwrap_or(NonZeroUsize::MIN);
        let listener = Listener::new(
            self.shared.clone(),
            self.dispatcher.clone(),
            self.batches.clone(),
            consumer,
            remembered,
        );
        self.shared.spawn(listener.run());
        Ok(state)
    }

    /// Makes sure of a queue before it is served, so that requests sent meanwhile wait in it.
    pub async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        self.shared.transport.declare(queue, deadline).await
    }

    /// What happened so far.
    pub fn counters(&self) -> Arc<ServerCounters> {
        self.shared.counters.clone()
    }

    /// Stops taking requests and lets those in work finish and be answered; what is not done by `deadline` is cut off.
    /// True if everything was done.
    pub async fn shutdown(&self, deadline: Instant) -> bool {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let done = tokio::time::timeout_at(deadline, self.shared.tasks.wait()).await.is_ok();
        if !done {
            tracing::warn!(
                tasks = self.shared.tasks.len(),
                "requests still in work at the deadline are cut off"
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
