//! Sends requests, and waits for the answers to calls.
//!
//! - One deadline covers a whole call: connecting, publishing and waiting. The request expires in its queue at the same
//!   time.
//! - A call is sent only while the reply queue is being consumed, so that its answer finds its queue.
//! - Every copy of one message carries the same `_unique_id`. A call is sent again if the connection broke before its
//!   confirm, because its caller would repeat it anyway. A cast is not: its caller decides what to do.
//! - An answer to a call that is over, or that was never made, is dropped.

mod replies;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::envelope::{OutgoingCall, OutgoingRequest, write_request};
use crate::error::{RpcError, TransportError};
use crate::ids::Ids;
use crate::target::Target;
use crate::transport::{Destination, MAX_BODY_BYTES, Outgoing, Transport};
use replies::{CallEnd, Replies};

/// How long to wait before a call is sent again.
const RESEND_INTERVAL: Duration = Duration::from_millis(250);

/// How a call is made.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// The call fails after this time, whatever it waits for.
    pub timeout: Duration,
    /// If set, the server sends a heartbeat every half of this time, and the call fails when none came for this long.
    /// In whole seconds, and at least two.
    pub monitor: Option<Duration>,
    /// Whether the call fails at once if nobody listens at the target.
    pub mandatory: bool,
}

impl CallOptions {
    /// A call with this timeout, without monitor, which waits if nobody listens yet.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, monitor: None, mandatory: false }
    }
}

impl Default for CallOptions {
    /// A timeout of one minute, the default of oslo.messaging's `rpc_response_timeout`.
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}

/// Makes calls and casts. Clones share one reply queue, which the first call creates.
#[derive(Clone)]
pub struct RpcClient {
    transport: Arc<dyn Transport>,
    ids: Arc<Ids>,
    replies: Arc<Replies>,
}

impl RpcClient {
    /// A client whose message ids and reply queue name come from `seed`. Each client needs a seed of its own.
    pub fn new(transport: Arc<dyn Transport>, seed: [u8; 32]) -> Self {
        let ids = Arc::new(Ids::new(seed));
        let replies = Arc::new(Replies::new(transport.clone(), format!("reply_{}", ids.hex())));
        Self { transport, ids, replies }
    }

    /// Has `target` perform a method, and waits for its result.
    pub async fn call<T: DeserializeOwned>(
        &self,
        target: &Target,
        method: &str,
        args: &impl Serialize,
        options: CallOptions,
    ) -> Result<T, RpcError> {
        result(self.end_of_call(target, method, &to_args(method, args)?, &options).await?, method, target)
    }

    /// Has `target` perform a method, and waits until the broker has the request. There is no answer.
    pub async fn cast(
        &self,
        target: &Target,
        method: &str,
        args: &impl Serialize,
        timeout: Duration,
    ) -> Result<(), RpcError> {
        self.publish_cast(target, method, args, timeout, false).await
    }

    /// Does what [`Self::cast`] does, and returns whether any queue took the request.
    pub async fn cast_heard(
        &self,
        target: &Target,
        method: &str,
        args: &impl Serialize,
        timeout: Duration,
    ) -> Result<bool, RpcError> {
        match self.publish_cast(target, method, args, timeout, true).await {
            Ok(()) => Ok(true),
            Err(RpcError::Send { source: TransportError::Unroutable { .. }, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn publish_cast(
        &self,
        target: &Target,
        method: &str,
        args: &impl Serialize,
        timeout: Duration,
        mandatory: bool,
    ) -> Result<(), RpcError> {
        let args = to_args(method, args)?;
        let unique_id = self.ids.hex();
        let body = write_request(&OutgoingRequest {
            method,
            args: &args,
            version: target.version,
            namespace: target.namespace.as_deref(),
            unique_id: &unique_id,
            call: None,
        });
        let message = Outgoing {
            destination: destination(target),
            body: within_limit(body).map_err(|source| not_sent(method, target, source))?,
            expiration: None,
            mandatory,
            deadline: Instant::now() + timeout,
        };
        self.transport.publish(message).await.map_err(|source| not_sent(method, target, source))
    }

    /// Has every server of the target's topic perform a method, and collects their results. Nobody knows how many servers
    /// there are, so it ends when no further answer came for `quiet`, or none at all within the options' timeout.
    pub async fn gather<T: DeserializeOwned>(
        &self,
        target: &Target,
        method: &str,
        args: &impl Serialize,
        options: CallOptions,
        quiet: Duration,
    ) -> Result<Vec<Result<T, RpcError>>, RpcError> {
        let target = target.clone().fanout();
        let deadline = Instant::now() + options.timeout;
        let msg_id = self.ids.hex();
        let body = self.call_body(&target, method, &to_args(method, args)?, &msg_id, None)?;
        let mut waiter = self.replies.expect_many(&msg_id);
        self.send_call(&target, body, &options, deadline)
            .await
            .map_err(|source| not_sent(method, &target, source))?;
        let mut answers = Vec::new();
        let mut over = deadline;
        while let Ok(Some(answer)) = tokio::time::timeout_at(over, waiter.next_of_many()).await {
            over = deadline.min(Instant::now() + quiet);
            answers.push(result(answer, method, &target));
        }
        if answers.is_empty() {
            let (method, target) = (method.to_owned(), target.to_string());
            return Err(RpcError::Timeout { method, target, waited: options.timeout });
        }
        Ok(answers)
    }

    /// Makes a call to one server, and waits until it has ended.
    async fn end_of_call(
        &self,
        target: &Target,
        method: &str,
        args: &RawValue,
        options: &CallOptions,
    ) -> Result<CallEnd, RpcError> {
        if target.fanout {
            let attempted = "a call to all servers of a topic".to_owned();
            let reason = "a call has one answer: cast to all servers, or call one of them".to_owned();
            return Err(not_sent(method, target, TransportError::Refused { attempted, reason }));
        }
        let deadline = Instant::now() + options.timeout;
        let msg_id = self.ids.hex();
        let body = self.call_body(target, method, args, &msg_id, options.monitor)?;
        let mut waiter = self.replies.expect(&msg_id);
        let sent = self.send_call(target, body, options, deadline);
        // An answer may overtake the confirm of its request.
        tokio::select! {
            biased;
            end = waiter.wait(None) => Ok(end),
            sent = sent => match sent {
                Ok(()) => Ok(tokio::time::timeout_at(deadline, waiter.wait(options.monitor))
                    .await
                    .unwrap_or(CallEnd::Silence { waited: options.timeout })),
                Err(source) => Err(not_sent(method, target, source)),
            },
        }
    }

    fn call_body(
        &self,
        target: &Target,
        method: &str,
        args: &RawValue,
        msg_id: &str,
        monitor: Option<Duration>,
    ) -> Result<Bytes, RpcError> {
        let body = write_request(&OutgoingRequest {
            method,
            args,
            version: target.version,
            namespace: target.namespace.as_deref(),
            unique_id: &self.ids.hex(),
            call: Some(OutgoingCall {
                msg_id,
                reply_queue: self.replies.queue(),
                monitor,
                request_id: &format!("req-{}", self.ids.uuid()),
            }),
        });
        within_limit(body).map_err(|source| not_sent(method, target, source))
    }

    /// Publishes a call as soon as its reply queue is consumed. Publishes it again if it was not confirmed.
    async fn send_call(
        &self,
        target: &Target,
        body: Bytes,
        options: &CallOptions,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        loop {
            self.replies.ready(options.timeout, deadline).await?;
            let message = Outgoing {
                destination: destination(target),
                body: body.clone(),
                expiration: Some(deadline.saturating_duration_since(Instant::now())),
                mandatory: options.mandatory,
                deadline,
            };
            match self.transport.publish(message).await {
                Err(TransportError::Unconfirmed { .. }) if Instant::now() + RESEND_INTERVAL < deadline => {
                    tokio::time::sleep(RESEND_INTERVAL).await;
                }
                // It may have arrived, so the call waits for its answer until the deadline.
                Err(TransportError::Unconfirmed { .. }) => return Ok(()),
                other => return other,
            }
        }
    }
}

/// Turns the end of a call into what its caller gets.
fn result<T: DeserializeOwned>(end: CallEnd, method: &str, target: &Target) -> Result<T, RpcError> {
    let (method, target) = (method.to_owned(), target.to_string());
    match end {
        CallEnd::Result(result) => serde_json::from_str(result.get())
            .map_err(|error| malformed("the result", &method, error.to_string())),
        CallEnd::Failure(source) => Err(RpcError::Remote { method, target, source }),
        CallEnd::Unreadable(reason) => Err(malformed("the answer", &method, reason)),
        CallEnd::Silence { waited } => Err(RpcError::Timeout { method, target, waited }),
        CallEnd::Closed => Err(RpcError::Send { method, target, source: TransportError::Closed }),
    }
}

/// Arguments as the text of an object, which is empty if there are none.
fn to_args(method: &str, args: &impl Serialize) -> Result<Box<RawValue>, RpcError> {
    let bad = |reason: String| malformed("an argument", method, reason);
    let raw = serde_json::value::to_raw_value(args).map_err(|error| bad(error.to_string()))?;
    match raw.get().as_bytes().first() {
        Some(b'{') => Ok(raw),
        Some(b'n') => Ok(RawValue::from_string("{}".into()).expect("an empty object is JSON")),
        _ => Err(bad("arguments must have names: give a struct or a map".into())),
    }
}

fn destination(target: &Target) -> Destination {
    let (exchange, topic) = (target.exchange.clone(), target.topic.clone());
    match &target.server {
        _ if target.fanout => Destination::Fanout { topic },
        Some(server) => Destination::Server { exchange, topic, server: server.clone() },
        None => Destination::Topic { exchange, topic },
    }
}

fn within_limit(body: Bytes) -> Result<Bytes, TransportError> {
    if body.len() <= MAX_BODY_BYTES {
        return Ok(body);
    }
    let reason = format!("brokers accept at most {MAX_BODY_BYTES} bytes by default");
    Err(TransportError::Refused { attempted: format!("a message of {} bytes", body.len()), reason })
}

fn not_sent(method: &str, target: &Target, source: TransportError) -> RpcError {
    RpcError::Send { method: method.to_owned(), target: target.to_string(), source }
}

fn malformed(what: &'static str, method: &str, reason: String) -> RpcError {
    RpcError::Malformed { what, method: method.to_owned(), reason }
}
