//! What all listeners of a server share: limits, counters, the replier, and the signals to stop.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::{ServerCounters, count};
use super::lanes::Lanes;
use super::options::ServerOptions;
use super::replier::{MethodResult, Replier};
use crate::envelope::ReplyAddress;
use crate::notices::Notices;
use crate::transport::Transport;

/// How many answers to requests that were never in progress are published at once. Beyond that, callers time out.
const MAX_ASIDE: usize = 256;

/// What all listeners of a server share.
pub(super) struct Shared {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) options: ServerOptions,
    pub(super) counters: Arc<ServerCounters>,
    pub(super) notices: Notices,
    pub(super) replier: Replier,
    /// One permit for each request that may be in progress.
    pub(super) permits: Arc<Semaphore>,
    /// Where questions wait and are answered.
    pub(super) lanes: Lanes,
    /// One permit for each answer to a request that is not in progress: a malformed call, or a call among reports.
    aside: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    /// When cancelled, nothing new starts.
    pub(super) stop: CancellationToken,
    /// When cancelled, everything ends.
    pub(super) abort: CancellationToken,
}

impl Shared {
    pub(super) fn new(transport: Arc<dyn Transport>, options: ServerOptions) -> Self {
        let counters = Arc::new(ServerCounters::default());
        Self {
            replier: Replier::new(transport.clone(), options.seed, options.reply_retry, counters.clone()),
            permits: Arc::new(Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            lanes: Lanes::default(),
            aside: Arc::new(Semaphore::new(MAX_ASIDE)),
            notices: Notices::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            transport,
            options,
            counters,
        }
    }

    /// Runs a task until it is done or the server is dropped.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.abort.clone().run_until_cancelled_owned(work));
    }

    /// Answers a call that holds no permit for a request. Such answers have their own limit.
    pub(super) fn answer_aside(self: &Arc<Self>, reply: ReplyAddress, result: MethodResult) {
        let shared = self.clone();
        match self.aside.clone().try_acquire_owned() {
            Ok(slot) => {
                self.spawn(async move {
                    let body = shared.replier.body(&reply, &result);
                    shared.replier.send(&reply, body, slot).await;
                });
            }
            Err(_) => count(&self.counters.replies_failed),
        }
    }
}
