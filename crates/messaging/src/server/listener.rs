//! One queue's deliveries, from the transport to endpoints and batch handlers.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::counters::count;
use super::dispatcher::Dispatcher;
use super::lanes::PLACES;
use super::replier::MethodResult;
use super::seen::Seen;
use super::shared::Shared;
use crate::authority::{ANONYMOUS, MethodClass};
use crate::endpoint::{BatchHandler, Endpoint, Method};
use crate::envelope::{Incoming, ReplyAddress, Unreadable, read_incoming};
use crate::error::{CallError, RemoteError};
use crate::notices::{NOBODY, shown_method, start_of};
use crate::request::RpcRequest;
use crate::transport::{CONTENT_TYPE, Consumer, Delivery, DeliveryTag, Settle};

pub(super) struct Listener {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    batches: Vec<Arc<dyn BatchHandler>>,
    consumer: Box<dyn Consumer>,
    seen: Seen,
}

/// What serves a request.
enum Server {
    /// The batch handler of this index.
    Batch(usize),
    /// This method of an endpoint, or none for the reason given.
    Endpoint(Result<(Arc<dyn Endpoint>, Method), CallError>),
}

/// What a request occupies until it is answered: a permit or a place, and perhaps a lane.
struct Slot {
    _place: OwnedSemaphorePermit,
    _lane: Option<OwnedSemaphorePermit>,
}

/// Consecutive reports for one handler.
#[derive(Default)]
struct Reports {
    /// Index of the handler.
    handler: usize,
    requests: Vec<RpcRequest>,
    /// For each request, where its caller waits if it is a call.
    replies: Vec<Option<ReplyAddress>>,
    /// The tag of the newest delivery.
    last: Option<DeliveryTag>,
}

impl Listener {
    pub(super) fn new(
        shared: Arc<Shared>,
        dispatcher: Dispatcher,
        batches: Vec<Arc<dyn BatchHandler>>,
        consumer: Box<dyn Consumer>,
    ) -> Self {
        let remembered = NonZeroUsize::new(shared.options.remembered).unwrap_or(NonZeroUsize::MIN);
        Self { shared, dispatcher, batches, consumer, seen: Seen::new(remembered) }
    }

    pub(super) async fn run(mut self) {
        let max = self.shared.options.report_batch.max(1);
        let (mut batch, mut reports) = (Vec::with_capacity(max), Reports::default());
        let stop = self.shared.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                taken = self.consumer.next_batch(&mut batch, max) => {
                    if taken == 0 {
                        return tracing::info!("a queue is no longer served, because its transport was closed");
                    }
                    self.take(&mut batch, &mut reports).await;
                }
            }
        }
        self.consumer.cancel().await;
    }

    /// Takes a batch in order. If the server stops, the rest of the batch is not settled and stays with the broker.
    async fn take(&mut self, batch: &mut Vec<Delivery>, reports: &mut Reports) {
        for delivery in batch.drain(..) {
            count(&self.shared.counters.received);
            let tag = delivery.tag;
            let Some((incoming, server)) = self.admit(delivery) else { continue };
            match server {
                Server::Batch(handler) => {
                    if handler != reports.handler {
                        self.handle(reports);
                    }
                    reports.handler = handler;
                    reports.requests.push(incoming.request);
                    reports.replies.push(incoming.reply);
                    reports.last = Some(tag);
                }
                Server::Endpoint(endpoint) => {
                    self.handle(reports);
                    if !self.start(incoming, endpoint, tag).await {
                        return;
                    }
                }
            }
        }
        self.handle(reports);
    }

    /// Reads a delivery. Settles it and returns `None` if it is not to be processed.
    fn admit(&mut self, delivery: Delivery) -> Option<(Incoming, Server)> {
        let Delivery { body, content_type, user_id, tag, .. } = delivery;
        let shared = &self.shared;
        let read = match content_type.as_deref() {
            Some(CONTENT_TYPE) => read_incoming(&body),
            _ => Err(Unreadable::content_type()),
        };
        match read {
            Ok(mut incoming) => {
                incoming.request.context.user_id = user_id;
                let (server, class) = self.server(&incoming.request);
                if let Some(class) = class
                    && !shared.options.authority.permits(incoming.request.context.user_id.as_deref(), class)
                {
                    self.forbid(incoming, class, tag);
                    return None;
                }
                if incoming.request.context.unique_id.as_deref().is_some_and(|id| !self.seen.remember(id)) {
                    count(&shared.counters.duplicates);
                    tracing::debug!(
                        method = &*shown_method(&incoming.request.method),
                        "dropped a copy of a message that was already taken"
                    );
                    self.consumer.settle(tag, Settle::Ack);
                    return None;
                }
                Some((incoming, server))
            }
            Err(unreadable) => {
                shared.counters.count_fault(unreadable.fault);
                let peer = user_id.as_deref().unwrap_or(NOBODY);
                if let Some(suppressed) = shared.notices.take_turn(unreadable.fault.name(), peer) {
                    let (size, start, fault) = (body.len(), start_of(&body), unreadable.fault.name());
                    tracing::warn!(
                        user = peer,
                        size,
                        fault,
                        ?start,
                        suppressed,
                        "received a malformed request"
                    );
                }
                let how = if unreadable.fault.rejects() { Settle::Reject } else { Settle::Ack };
                self.consumer.settle(tag, how);
                if let Some(reply) = unreadable.reply {
                    shared.answer_aside(reply, Err(unreadable.error));
                }
                None
            }
        }
    }

    /// What serves this request, and the class of its method. There is no class if nothing serves it.
    fn server(&self, request: &RpcRequest) -> (Server, Option<MethodClass>) {
        let batch = self.batches.iter().position(|handler| {
            handler.method() == request.method
                && request.namespace.is_none()
                && handler.version().serves(request.version)
        });
        if let Some(handler) = batch {
            return (Server::Batch(handler), Some(self.batches[handler].class()));
        }
        match self.dispatcher.resolve(request) {
            Ok((endpoint, method)) => {
                (Server::Endpoint(Ok((Arc::clone(endpoint), method))), Some(method.class))
            }
            Err(error) => (Server::Endpoint(Err(error)), None),
        }
    }

    /// Settles a request whose user may not make it, and tells the caller if it is a call.
    fn forbid(&mut self, Incoming { request, reply }: Incoming, class: MethodClass, tag: DeliveryTag) {
        let shared = &self.shared;
        count(&shared.counters.rejected_user);
        let user = request.context.user_id.as_deref();
        let error = shared.options.authority.forbids(user, class, format!("call {}", request.method));
        if let Some(suppressed) = shared.notices.take_turn(class.name(), user.unwrap_or(ANONYMOUS)) {
            tracing::warn!(suppressed, "refused a request: {error}");
        }
        self.consumer.settle(tag, Settle::Ack);
        if let Some(reply) = reply {
            let told = error.into_remote(&request.method, &request.version.to_string());
            shared.answer_aside(reply, Err(Box::new(told)));
        }
    }

    /// Hands over the reports collected so far, and acknowledges all of them at once.
    fn handle(&mut self, reports: &mut Reports) {
        let Some(last) = reports.last.take() else { return };
        let counters = &self.shared.counters;
        counters.batched.fetch_add(reports.requests.len() as u64, Ordering::Relaxed);
        count(&counters.batches);
        let whole = self.handle_caught(reports.handler, &reports.requests);
        for (request, reply) in reports.requests.iter().zip(reports.replies.drain(..)) {
            // After a panic each report is handled alone, so that a bad one does not affect its neighbours.
            let alone = (whole.is_err() && reports.requests.len() > 1)
                .then(|| self.handle_caught(reports.handler, std::slice::from_ref(request)));
            if let Some(reply) = reply {
                self.shared.answer_aside(reply, alone.unwrap_or_else(|| whole.clone()));
            }
        }
        // Everything that was delivered before the reports is settled already.
        self.consumer.settle(last, Settle::AckThrough);
        reports.requests.clear();
    }

    fn handle_caught(&self, handler: usize, requests: &[RpcRequest]) -> MethodResult {
        let handler = &self.batches[handler];
        match std::panic::catch_unwind(AssertUnwindSafe(|| handler.handle(requests))) {
            Ok(()) => Ok(RawValue::NULL.to_owned()),
            Err(_) => {
                count(&self.shared.counters.panics);
                tracing::error!(
                    method = handler.method(),
                    reports = requests.len(),
                    "a batch handler panicked; its reports are handled one by one"
                );
                Err(Box::new(panicked(handler.method())))
            }
        }
    }

    /// Starts work on a request as soon as there is a permit. A question needs none: it is refused if it finds no place, so
    /// that it never makes others wait. False if the server stopped first.
    async fn start(
        &mut self,
        incoming: Incoming,
        served: Result<(Arc<dyn Endpoint>, Method), CallError>,
        tag: DeliveryTag,
    ) -> bool {
        let shared = self.shared.clone();
        let is_question = served.as_ref().is_ok_and(|(_, method)| method.class == MethodClass::Read);
        let place = if is_question {
            let Some(place) = shared.lanes.place() else {
                self.refuse(incoming, CallError::Busy { limit: PLACES }, tag);
                return true;
            };
            place
        } else {
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return false,
                permit = shared.permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            }
        };
        self.consumer.settle(tag, Settle::Ack);
        shared.spawn(perform(shared.clone(), served, incoming, place));
        true
    }

    /// Settles a request that is not started, and tells the caller if it is a call.
    fn refuse(&mut self, Incoming { request, reply }: Incoming, error: CallError, tag: DeliveryTag) {
        self.consumer.settle(tag, Settle::Ack);
        let told = error_for_caller(&self.shared, &request, error);
        if let Some(reply) = reply {
            self.shared.answer_aside(reply, Err(told));
        }
    }
}

/// Performs one request and answers it.
async fn perform(
    shared: Arc<Shared>,
    served: Result<(Arc<dyn Endpoint>, Method), CallError>,
    incoming: Incoming,
    place: OwnedSemaphorePermit,
) {
    let incoming = Arc::new(incoming);
    let is_long = served.as_ref().is_ok_and(|(_, method)| method.long);
    let work = work(shared.clone(), served, incoming.clone());
    let work = async {
        if !is_long {
            return (work.await, None);
        }
        let lane = shared.lanes.lane().await;
        let work = shared.abort.clone().run_until_cancelled_owned(work);
        (shared.options.driver.run(work).await.flatten().flatten(), Some(lane))
    };
    let (body, lane) = tokio::select! {
        biased;
        done = work => done,
        () = shared.replier.heartbeats(incoming.reply.as_ref()) => unreachable!("heartbeats never end by themselves"),
    };
    if let (Some(reply), Some(body)) = (&incoming.reply, body) {
        shared.replier.send(reply, body, Slot { _place: place, _lane: lane }).await;
    }
}

/// Has an endpoint perform a request, and writes the answer. `None` if nobody waits for one.
async fn work(
    shared: Arc<Shared>,
    served: Result<(Arc<dyn Endpoint>, Method), CallError>,
    incoming: Arc<Incoming>,
) -> Option<Bytes> {
    let Incoming { request, reply } = &*incoming;
    let result = match served {
        Ok((endpoint, _)) => {
            count(&shared.counters.dispatched);
            let work = AssertUnwindSafe(endpoint.dispatch(request)).catch_unwind();
            work.await.unwrap_or_else(|_| {
                count(&shared.counters.panics);
                tracing::error!(
                    method = &*shown_method(&request.method),
                    "a method panicked; its caller gets an error"
                );
                Err(CallError::Failed(Box::new(panicked(&request.method))))
            })
        }
        Err(error) => Err(error),
    };
    let result = result.map_err(|error| error_for_caller(&shared, request, error));
    reply.as_ref().map(|reply| shared.replier.body(reply, &result))
}

/// Counts and logs why a request failed. Returns what its caller is told.
fn error_for_caller(shared: &Shared, request: &RpcRequest, error: CallError) -> Box<RemoteError> {
    shared.counters.count_error(&error);
    let peer = request.context.user_id.as_deref().unwrap_or(NOBODY);
    if !matches!(error, CallError::Failed(_))
        && let Some(suppressed) = shared.notices.take_turn(error.kind(), peer)
    {
        let (method, version) = (&*shown_method(&request.method), request.version);
        tracing::warn!(user = peer, method, %version, %error, suppressed, "a request failed");
    }
    Box::new(error.into_remote(&shown_method(&request.method), &request.version.to_string()))
}

fn panicked(method: &str) -> RemoteError {
    CallError::Internal { message: format!("{method} panicked; the log of its service says where") }
        .into_remote(method, "")
}
