//! Requests: read from the body of a delivery, and written.

use std::time::Duration;

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::fault::MessageFault;
use super::fields::{Fields, is_null, text_of, type_of};
use super::outer::{open, seal};
use super::reply_address::ReplyAddress;
use super::salvage;
use crate::error::{BUILTINS, CallError, RemoteError};
use crate::request::{RequestContext, RpcRequest};
use crate::target::{BadVersion, Version};

/// A request as received.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: RpcRequest,
    /// Where the answer goes. `None` if the request is a cast.
    pub(crate) reply: Option<ReplyAddress>,
}

/// A message that cannot be dispatched as a request.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) fault: MessageFault,
    /// Where the caller waits for its answer, if that was found.
    pub(crate) reply: Option<ReplyAddress>,
    /// The error for the caller.
    pub(crate) error: Box<RemoteError>,
}

impl Unreadable {
    fn malformed(fault: MessageFault, reply: Option<ReplyAddress>) -> Box<Self> {
        let error = RemoteError::new(BUILTINS, "ValueError", format!("malformed request: {}", fault.name()));
        Box::new(Self { fault, reply, error: Box::new(error) })
    }

    /// A delivery whose content type is not the protocol's. Its body is not looked at.
    pub(crate) fn content_type() -> Box<Self> {
        Self::malformed(MessageFault::ContentType, None)
    }
}

/// Reads the body of a message as a server does. `None` if it cannot be dispatched as a request.
pub fn read_request(body: &[u8]) -> Option<RpcRequest> {
    read_incoming(body).ok().map(|incoming| incoming.request)
}

/// Reads a request. The body does not say who sent it, so `user_id` stays empty.
pub(crate) fn read_incoming(body: &[u8]) -> Result<Incoming, Box<Unreadable>> {
    let text = open(body).map_err(|(fault, text)| {
        Unreadable::malformed(fault, text.as_deref().and_then(salvage::reply_address))
    })?;
    let fields = match Fields::read(&text) {
        Ok(fields) => fields,
        Err(fault) => return Err(Unreadable::malformed(fault.of_inner(), salvage::reply_address(&text))),
    };
    let reply = ReplyAddress::of(&fields);
    match head(&fields) {
        Ok(Head { method, version, namespace }) => {
            let args = match fields.get("args") {
                None => 0..0,
                Some(raw) if raw.get().starts_with('{') => span(&text, raw.get()),
                Some(raw) => {
                    let told = format!("args of {method} is {}, not an object", type_of(raw));
                    let error = Box::new(RemoteError::new(BUILTINS, "AttributeError", told));
                    return Err(Box::new(Unreadable { fault: MessageFault::Arguments, reply, error }));
                }
            };
            let unique_id = fields.get("_unique_id").and_then(text_of);
            let context = RequestContext { user_id: None, unique_id };
            drop(fields);
            Ok(Incoming { request: RpcRequest { context, namespace, version, method, text, args }, reply })
        }
        Err((fault, error)) => Err(Box::new(Unreadable { fault, reply, error })),
    }
}

/// What decides which endpoint gets a request.
struct Head {
    method: String,
    version: Version,
    namespace: Option<String>,
}

/// Reads the head. A failure is the one that oslo.messaging's server would answer with.
fn head(fields: &Fields<'_>) -> Result<Head, (MessageFault, Box<RemoteError>)> {
    let builtin =
        |fault, class: &str, message: String| (fault, Box::new(RemoteError::new(BUILTINS, class, message)));
    let method = fields.get("method").and_then(text_of).ok_or_else(|| {
        let told = "the request has no method, or one that is not a string";
        builtin(MessageFault::Method, "TypeError", told.into())
    })?;
    let unsupported =
        |fault, version: &str| (fault, Box::new(CallError::UnsupportedVersion.into_remote(&method, version)));
    let version = match fields.get("version") {
        None => Version::new(1, 0),
        Some(raw) if is_null(raw) => return Err(unsupported(MessageFault::Version, "None")),
        Some(raw) => {
            let text = text_of(raw).ok_or_else(|| {
                let told = format!("version of {method} is {}, not a string", type_of(raw));
                builtin(MessageFault::Version, "AttributeError", told)
            })?;
            text.parse().map_err(|error: BadVersion| {
                let class = if text.parse::<u32>().is_ok() { "IndexError" } else { "ValueError" };
                builtin(MessageFault::Version, class, error.to_string())
            })?
        }
    };
    let namespace = match fields.get("namespace") {
        Some(raw) if !is_null(raw) => {
            Some(text_of(raw).ok_or_else(|| unsupported(MessageFault::Namespace, &version.to_string()))?)
        }
        _ => None,
    };
    Ok(Head { method, version, namespace })
}

/// Where `part`, a slice of `whole`, begins and ends in it.
fn span(whole: &str, part: &str) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// A request to be written.
pub(crate) struct OutgoingRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) args: &'a RawValue,
    pub(crate) version: Version,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) unique_id: &'a str,
    /// `None` for a cast.
    pub(crate) call: Option<OutgoingCall<'a>>,
}

/// What a call has beyond a cast.
pub(crate) struct OutgoingCall<'a> {
    pub(crate) msg_id: &'a str,
    pub(crate) reply_queue: &'a str,
    /// The monitor timeout: the server sends heartbeats every half of it. Whole seconds.
    pub(crate) monitor: Option<Duration>,
    /// `_context_request_id`, which Nova's services write into their logs.
    pub(crate) request_id: &'a str,
}

impl Serialize for OutgoingRequest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("method", self.method)?;
        map.serialize_entry("args", self.args)?;
        map.serialize_entry("version", &format_args!("{}", self.version))?;
        if let Some(namespace) = self.namespace {
            map.serialize_entry("namespace", namespace)?;
        }
        if let Some(call) = &self.call {
            map.serialize_entry("_msg_id", call.msg_id)?;
            map.serialize_entry("_reply_q", call.reply_queue)?;
            // Peers truncate it to whole seconds.
            map.serialize_entry("_timeout", &call.monitor.map(|monitor| monitor.as_secs()))?;
            map.serialize_entry("_context_request_id", call.request_id)?;
        }
        map.serialize_entry("_unique_id", self.unique_id)?;
        map.end()
    }
}

/// Writes a request.
pub(crate) fn write_request(request: &OutgoingRequest<'_>) -> Bytes {
    seal(request)
}
