//! One queue's deliveries, from the transport to endpoints and batch handlers.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::counters::count;
use super::replier::Outcome;
use super::seen::Seen;
use super::{BatchHandler, Shared};
use crate::dispatcher::Dispatcher;
use crate::envelope::{CONTENT_TYPE, Incoming, ReplyAddress, Unreadable, read_request};
use crate::notices::{NOBODY, start_of};
use crate::{CallError, Consumer, Delivery, DeliveryTag, Endpoint, Request, Settle};

pub(super) struct Listener {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    batches: Vec<Arc<dyn BatchHandler>>,
    consumer: Box<dyn Consumer>,
    seen: Seen,
}

/// Reports collected for one handler.
#[derive(Default)]
struct Run {
    handler: usize,
    requests: Vec<Request>,
    /// Who waits for the answer of each, if anyone does.
    replies: Vec<Option<ReplyAddress>>,
    tags: Vec<DeliveryTag>,
}

impl Listener {
    pub(super) fn new(
        shared: Arc<Shared>,
        dispatcher: Dispatcher,
        batches: Vec<Arc<dyn BatchHandler>>,
        consumer: Box<dyn Consumer>,
        remembered: NonZeroUsize,
    ) -> Self {
        Self { shared, dispatcher, batches, consumer, seen: Seen::new(remembered) }
    }

    pub(super) async fn run(mut self) {
        let max = self.shared.options.report_batch.max(1);
        let (mut batch, mut run) = (Vec::with_capacity(max), Run::default());
        let stop = self.shared.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                taken = self.consumer.next_batch(&mut batch, max) => {
                    if taken == 0 {
                        return tracing::info!("the transport ended a listener");
                    }
                    self.take(&mut batch, &mut run).await;
                }
            }
        }
        self.consumer.cancel().await;
    }

    /// Takes a batch in order. What is left when the server stops is not settled: it stays with the broker.
    async fn take(&mut self, batch: &mut Vec<Delivery>, run: &mut Run) {
        for delivery in batch.drain(..) {
            count(&self.shared.counters.received);
            let tag = delivery.tag;
            let Some(incoming) = self.admit(delivery) else { continue };
            match self.batch_handler(&incoming.request) {
                Some(handler) => {
                    if handler != run.handler {
                        self.handle(run);
                    }
                    run.handler = handler;
                    run.requests.push(incoming.request);
                    run.replies.push(incoming.reply);
                    run.tags.push(tag);
                }
                None => {
                    self.handle(run);
                    if !self.start(incoming, tag).await {
                        return;
                    }
                }
            }
        }
        self.handle(run);
    }

    /// Reads a delivery; settles it if it ends here.
    fn admit(&mut self, delivery: Delivery) -> Option<Incoming> {
        let Delivery { body, content_type, user_id, tag, .. } = delivery;
        let shared = &self.shared;
        if let Some(accepted) = &shared.options.accept_commands_from
            && !user_id.as_ref().is_some_and(|user| accepted.contains(user))
        {
            count(&shared.counters.rejected_user);
            let peer = user_id.as_deref().unwrap_or(NOBODY);
            if let Some(suppressed) = shared.notices.due("user", peer) {
                tracing::warn!(
                    user = peer,
                    suppressed,
                    "dropped a command of a user who may not command this server"
                );
            }
            self.consumer.settle(tag, Settle::Ack);
            return None;
        }
        let read = match content_type.as_deref() {
            Some(CONTENT_TYPE) => read_request(&body),
            _ => Err(Unreadable::content_type()),
        };
        match read {
            Ok(mut incoming) => {
                incoming.request.context.user_id = user_id;
                if incoming.request.context.unique_id.as_deref().is_some_and(|id| !self.seen.first_time(id)) {
                    count(&shared.counters.duplicates);
                    tracing::debug!(method = incoming.request.method, "suppressed a copy of a message");
                    self.consumer.settle(tag, Settle::Ack);
                    return None;
                }
                Some(incoming)
            }
            Err(unreadable) => {
                shared.counters.fault(unreadable.fault);
                let peer = user_id.as_deref().unwrap_or(NOBODY);
                if let Some(suppressed) = shared.notices.due(unreadable.fault.name(), peer) {
                    let (size, start, fault) = (body.len(), start_of(&body), unreadable.fault.name());
                    tracing::warn!(user = peer, size, fault, ?start, suppressed, "a malformed request");
                }
                let how = if unreadable.fault.rejects() { Settle::Reject } else { Settle::Ack };
                self.consumer.settle(tag, how);
                if let Some(reply) = unreadable.reply {
                    self.answer_later(reply, Err(unreadable.error));
                }
                None
            }
        }
    }

    /// Which handler takes this request, if any does.
    fn batch_handler(&self, request: &Request) -> Option<usize> {
        self.batches.iter().position(|handler| {
            handler.method() == request.method
                && request.namespace.is_none()
                && handler.version().serves(request.version)
        })
    }

    /// Hands over the reports collected, and settles them with as few acknowledgements as possible.
    fn handle(&mut self, run: &mut Run) {
        let Some(&last) = run.tags.last() else { return };
        let counters = &self.shared.counters;
        counters.batched.fetch_add(run.requests.len() as u64, std::sync::atomic::Ordering::Relaxed);
        count(&counters.batches);
        let whole = self.handle_caught(run.handler, &run.requests);
        for (request, reply) in run.requests.iter().zip(run.replies.drain(..)) {
            // One bad report must not take its neighbours along: after a panic each is handled alone.
            let alone = (whole.is_err() && run.tags.len() > 1)
                .then(|| self.handle_caught(run.handler, std::slice::from_ref(request)));
            if let Some(reply) = reply {
                self.answer_later(reply, alone.unwrap_or_else(|| whole.clone()));
            }
        }
        // Whatever was delivered before it is settled already.
        self.consumer.settle(last, Settle::AckThrough);
        run.requests.clear();
        run.tags.clear();
    }

    fn handle_caught(&self, handler: usize, requests: &[Request]) -> Outcome {
        let handler = &self.batches[handler];
        match std::panic::catch_unwind(AssertUnwindSafe(|| handler.handle(requests))) {
            Ok(()) => Ok(RawValue::NULL.to_owned()),
            Err(_) => {
                count(&self.shared.counters.panics);
                tracing::error!(
                    method = handler.method(),
                    reports = requests.len(),
                    "a batch handler panicked"
                );
                Err(Box::new(panicked(handler.method())))
            }
        }
    }

    /// Starts work on a request as soon as there is a permit. False if the server stopped first.
    async fn start(&mut self, incoming: Incoming, tag: DeliveryTag) -> bool {
        let shared = self.shared.clone();
        let permit = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return false,
            permit = shared.permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        self.consumer.settle(tag, Settle::Ack);
        let endpoint = self.dispatcher.resolve(&incoming.request).cloned();
        shared.spawn(perform(shared.clone(), endpoint, incoming, permit));
        true
    }

    /// Answers beside the listener. These hold no work permit, and must not want for a bound all the same.
    fn answer_later(&self, reply: ReplyAddress, outcome: Outcome) {
        let shared = self.shared.clone();
        match shared.aside.clone().try_acquire_owned() {
            Ok(slot) => {
                self.shared.spawn(async move { shared.replier.answer(&reply, &outcome, Some(slot)).await })
            }
            Err(_) => count(&shared.counters.replies_failed),
        }
    }
}

/// One request, from dispatch to answer.
async fn perform(
    shared: Arc<Shared>,
    endpoint: Result<Arc<dyn Endpoint>, CallError>,
    Incoming { request, reply }: Incoming,
    permit: OwnedSemaphorePermit,
) {
    let outcome = match endpoint {
        Ok(endpoint) => {
            count(&shared.counters.dispatched);
            let work = AssertUnwindSafe(endpoint.dispatch(&request)).catch_unwind();
            tokio::select! {
                biased;
                outcome = work => outcome.unwrap_or_else(|_| {
                    count(&shared.counters.panics);
                    tracing::error!(method = request.method, "a method panicked");
                    Err(CallError::Failed(Box::new(panicked(&request.method))))
                }),
                () = shared.replier.heartbeats(reply.as_ref()) => unreachable!("heartbeats never end by themselves"),
            }
        }
        Err(error) => Err(error),
    };
    let outcome = outcome.map_err(|error| {
        shared.counters.error(&error);
        let peer = request.context.user_id.as_deref().unwrap_or(NOBODY);
        if !matches!(error, CallError::Failed(_))
            && let Some(suppressed) = shared.notices.due(error.kind(), peer)
        {
            let (method, version) = (&request.method, request.version);
            tracing::warn!(user = peer, method, %version, %error, suppressed, "a request failed");
        }
        Box::new(error.into_remote(&request.method, &request.version.to_string()))
    });
    if let Some(reply) = reply {
        shared.replier.answer(&reply, &outcome, Some(permit)).await;
    }
}

fn panicked(method: &str) -> crate::RemoteError {
    CallError::Internal { message: format!("{method} panicked; the log of its service says where") }
        .into_remote(method, "")
}
