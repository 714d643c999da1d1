//! The message as bytes: a JSON object whose one string holds the JSON of the message itself.
//!
//! Reading copies the inner text once (to unescape it) and borrows from then on; arguments and context stay text. What
//! cannot be read is told apart by [`Fault`], and carries the address of the caller whenever that can be found, so that
//! the caller hears of it. Nothing a peer sends panics, recurses or allocates beyond a small multiple of its size.
//! Acknowledging, answering and counting are the server's and the client's.

mod fields;
mod inflate;
mod salvage;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{CallError, RemoteError, Request, RequestContext, Version};
use fields::{Fields, is_null, is_truthy, text_of};
pub use inflate::inflate;

/// The only content type of the protocol, to the letter.
pub const CONTENT_TYPE: &str = "application/json";

/// Larger bodies are not read. RabbitMQ 4 refuses them by default, and nothing of ours comes near.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// AMQP's limit for a queue name.
const MAX_QUEUE_NAME: usize = 255;

/// Longest `_timeout` taken at its word: a year.
const MAX_MONITOR_S: f64 = 366.0 * 86_400.0;

const ENVELOPE_VERSION: Version = Version::new(2, 0);

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    TooLarge,
    ContentType,
    NotUtf8,
    NotJson,
    NotAnObject,
    EnvelopeVersion,
    InnerNotText,
    InnerNotJson,
    InnerNotAnObject,
    /// A method that is absent, null or not a string.
    Method,
    /// Arguments that are not an object.
    Arguments,
    /// A version that is null, not a string or not of the form major.minor.
    Version,
    /// A namespace that is not a string.
    Namespace,
}

impl Fault {
    /// Short name for logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too large",
            Self::ContentType => "content type is not application/json",
            Self::NotUtf8 => "not UTF-8",
            Self::NotJson => "not JSON",
            Self::NotAnObject => "not a JSON object",
            Self::EnvelopeVersion => "unsupported envelope version",
            Self::InnerNotText => "oslo.message is not a string",
            Self::InnerNotJson => "oslo.message is not JSON",
            Self::InnerNotAnObject => "oslo.message is not a JSON object",
            Self::Method => "no usable method",
            Self::Arguments => "args is not an object",
            Self::Version => "unusable version",
            Self::Namespace => "unusable namespace",
        }
    }

    /// Whether the broker is told that the message can never be processed. The rest is acknowledged: it was a request,
    /// and its answer is a failure.
    pub(crate) fn rejects(self) -> bool {
        !matches!(self, Self::Method | Self::Arguments | Self::Version | Self::Namespace)
    }
}

/// Where the answer to a call goes.
#[derive(Debug, Clone)]
pub(crate) struct ReplyAddress {
    /// `_msg_id`, echoed as it came.
    pub(crate) msg_id: Box<RawValue>,
    /// `_reply_q`, if it can be a queue's name.
    pub(crate) queue: Option<String>,
    /// Half the caller's monitor timeout, if it asked for heartbeats and at least one a second suffices.
    pub(crate) heartbeat: Option<Duration>,
}

/// A request as received.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) reply: Option<ReplyAddress>,
}

/// A message that is no request we could dispatch.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) fault: Fault,
    /// The caller, if found.
    pub(crate) reply: Option<ReplyAddress>,
    /// What it is told.
    pub(crate) error: Box<RemoteError>,
}

impl Unreadable {
    fn malformed(fault: Fault, reply: Option<ReplyAddress>) -> Box<Self> {
        let error =
            RemoteError::new("builtins", "ValueError", format!("malformed request: {}", fault.name()));
        Box::new(Self { fault, reply, error: Box::new(error) })
    }

    /// A delivery whose content type is not the protocol's: its body is not looked at.
    pub(crate) fn content_type() -> Box<Self> {
        Self::malformed(Fault::ContentType, None)
    }
}

/// Reads a request. Who sent it is not in the body.
pub(crate) fn read_request(body: &[u8]) -> Result<Incoming, Box<Unreadable>> {
    let text = open(body).map_err(|(fault, text)| {
        Unreadable::malformed(fault, text.as_deref().and_then(salvage::reply_address))
    })?;
    let fields = match Fields::read(&text) {
        Ok(fields) => fields,
        Err(fault) => return Err(Unreadable::malformed(inner(fault), salvage::reply_address(&text))),
    };
    let reply = reply_address(&fields);
    match head(&fields) {
        Ok(Head { method, version, namespace }) => {
            let args = match fields.get("args") {
                None => 0..0,
                Some(raw) if raw.get().starts_with('{') => span(&text, raw.get()),
                Some(raw) => {
                    let told = format!("args of {method} is {}, not an object", kind_of(raw));
                    let error = Box::new(RemoteError::new("builtins", "AttributeError", told));
                    return Err(Box::new(Unreadable { fault: Fault::Arguments, reply, error }));
                }
            };
            let unique_id = fields.get("_unique_id").and_then(text_of);
            let context = RequestContext { user_id: None, unique_id };
            drop(fields);
            Ok(Incoming { request: Request { context, namespace, version, method, text, args }, reply })
        }
        Err((fault, error)) => Err(Box::new(Unreadable { fault, reply, error })),
    }
}

/// The inner text of a body; on failure also the text, if there is one, in which a caller's address may stand.
fn open(body: &[u8]) -> Result<String, (Fault, Option<String>)> {
    /// The form that every peer sends. Anything else is looked at slowly.
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "oslo.version")]
        version: &'a str,
        #[serde(rename = "oslo.message")]
        message: String,
    }
    if body.len() > MAX_BODY_BYTES {
        return Err((Fault::TooLarge, None));
    }
    let text = std::str::from_utf8(body).map_err(|_| (Fault::NotUtf8, None))?;
    if text.is_empty() {
        return Ok("{}".into()); // oslo.messaging reads nothing as an empty object
    }
    // serde would read an array as a struct too.
    if text.starts_with('{')
        && let Ok(Envelope { version: "2.0", message }) = serde_json::from_str(text)
    {
        return Ok(message);
    }
    let fields = Fields::read(text).map_err(|fault| (fault, Some(text.to_owned())))?;
    let (Some(version), Some(message)) = (fields.get("oslo.version"), fields.get("oslo.message")) else {
        return Ok(text.to_owned()); // the form without envelope
    };
    let version = text_of(version).and_then(|v| v.parse::<Version>().ok());
    let message = text_of(message);
    if !version.is_some_and(|version| ENVELOPE_VERSION.serves(version)) {
        return Err((Fault::EnvelopeVersion, message));
    }
    let message = message.ok_or((Fault::InnerNotText, None))?;
    Ok(message)
}

/// Names the faults of an inner message that the text of `Fields` cannot know.
fn inner(fault: Fault) -> Fault {
    match fault {
        Fault::NotJson => Fault::InnerNotJson,
        Fault::NotAnObject => Fault::InnerNotAnObject,
        other => other,
    }
}

/// What a request is dispatched by.
struct Head {
    method: String,
    version: Version,
    namespace: Option<String>,
}

/// Reads the head, or tells the failure that oslo.messaging's server would answer with.
fn head(fields: &Fields<'_>) -> Result<Head, (Fault, Box<RemoteError>)> {
    let builtin =
        |fault, class: &str, message: String| (fault, Box::new(RemoteError::new("builtins", class, message)));
    let method = fields.get("method").and_then(text_of).ok_or_else(|| {
        builtin(Fault::Method, "TypeError", "the request has no method, or one that is not a string".into())
    })?;
    let version = match fields.get("version") {
        None => Version::new(1, 0),
        Some(raw) if is_null(raw) => {
            return Err((
                Fault::Version,
                Box::new(CallError::UnsupportedVersion.into_remote(&method, "None")),
            ));
        }
        Some(raw) => {
            let text = text_of(raw).ok_or_else(|| {
                let told = format!("version of {method} is {}, not a string", kind_of(raw));
                builtin(Fault::Version, "AttributeError", told)
            })?;
            text.parse().map_err(|error: crate::target::BadVersion| {
                let class = if text.parse::<u32>().is_ok() { "IndexError" } else { "ValueError" };
                builtin(Fault::Version, class, error.to_string())
            })?
        }
    };
    let namespace = match fields.get("namespace") {
        Some(raw) if !is_null(raw) => Some(text_of(raw).ok_or_else(|| {
            (
                Fault::Namespace,
                Box::new(CallError::UnsupportedVersion.into_remote(&method, &version.to_string())),
            )
        })?),
        _ => None,
    };
    Ok(Head { method, version, namespace })
}

fn reply_address(fields: &Fields<'_>) -> Option<ReplyAddress> {
    let msg_id = fields.get("_msg_id").filter(|raw| is_truthy(raw))?;
    Some(ReplyAddress {
        msg_id: msg_id.to_owned(),
        queue: fields
            .get("_reply_q")
            .and_then(text_of)
            .filter(|q| !q.is_empty() && q.len() <= MAX_QUEUE_NAME),
        heartbeat: fields.get("_timeout").and_then(heartbeat),
    })
}

/// Half of `_timeout` as oslo.messaging computes it: `int(_timeout) / 2`, and off below one second.
fn heartbeat(timeout: &RawValue) -> Option<Duration> {
    let seconds = match text_of(timeout) {
        Some(text) => text.trim().parse::<i64>().ok()? as f64,
        None => serde_json::from_str::<f64>(timeout.get()).ok()?.trunc(),
    };
    (seconds >= 2.0).then(|| Duration::from_secs_f64(seconds.min(MAX_MONITOR_S) / 2.0))
}

/// Where `part`, a slice of `whole`, stands in it.
fn span(whole: &str, part: &str) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

fn kind_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// An answer as received.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) msg_id: String,
    /// No more messages follow for this call.
    pub(crate) ending: bool,
    /// Absent if null: the message may be a heartbeat, or the end of an answer in two messages.
    pub(crate) result: Option<Box<RawValue>>,
    pub(crate) failure: Option<Box<RemoteError>>,
}

/// Reads a reply. A malformed one yields the call it would have answered, if that can be found.
pub(crate) fn read_reply(body: &[u8]) -> Result<Reply, (Fault, Option<String>)> {
    let text = open(body).map_err(|(fault, text)| (fault, text.as_deref().and_then(salvage::msg_id)))?;
    let fields = Fields::read(&text).map_err(|fault| (inner(fault), salvage::msg_id(&text)))?;
    let msg_id = fields.get("_msg_id").and_then(text_of).ok_or((Fault::InnerNotAnObject, None))?;
    let failure = match fields.get("failure").filter(|raw| is_truthy(raw)) {
        None => None,
        Some(raw) => match text_of(raw).and_then(|text| read_failure(&text)) {
            Some(failure) => Some(Box::new(failure)),
            None => return Err((Fault::InnerNotJson, Some(msg_id))),
        },
    };
    let result = fields.get("result").filter(|raw| !is_null(raw)).map(ToOwned::to_owned);
    Ok(Reply { msg_id, ending: fields.get("ending").is_some_and(is_truthy), result, failure })
}

/// Reads the body of an answer as a client does: its result (none if null), or the failure. None if it answers nobody.
pub fn read_answer(body: &[u8]) -> Option<Result<Option<Box<RawValue>>, Box<RemoteError>>> {
    let Reply { result, failure, .. } = read_reply(body).ok()?;
    Some(failure.map_or(Ok(result), Err))
}

/// The third level of JSON. Every key may be missing or of a wrong type; a name's `_Remote` is a re-raised error's.
fn read_failure(text: &str) -> Option<RemoteError> {
    let fields = Fields::read(text).ok()?;
    let string = |name| fields.get(name).and_then(text_of).unwrap_or_default();
    let bare = |name: String| name.strip_suffix("_Remote").map(str::to_owned).unwrap_or(name);
    let read = |name| fields.get(name).map(|raw: &RawValue| raw.get()).unwrap_or("null");
    let module = match bare(string("module")) {
        python2 if python2 == "exceptions" => "builtins".into(),
        module => module,
    };
    let class = match bare(string("class")) {
        none if none.is_empty() => "RemoteError".into(),
        class => class,
    };
    Some(RemoteError {
        class,
        module,
        message: string("message"),
        traceback: serde_json::from_str(read("tb")).unwrap_or_default(),
        args: serde_json::from_str(read("args")).unwrap_or_default(),
        kwargs: serde_json::from_str(read("kwargs")).unwrap_or_default(),
    })
}

/// A request to be written.
pub(crate) struct OutgoingRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) args: &'a RawValue,
    pub(crate) version: Version,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) unique_id: &'a str,
    pub(crate) call: Option<OutgoingCall<'a>>,
}

/// What a call has beyond a cast.
pub(crate) struct OutgoingCall<'a> {
    pub(crate) msg_id: &'a str,
    pub(crate) reply_queue: &'a str,
    pub(crate) monitor: Option<Duration>,
    /// `_context_request_id`: Nova's services write it into their logs.
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
            // Whole seconds: peers truncate.
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

/// Writes one message of an answer.
pub(crate) fn write_reply(
    msg_id: &RawValue,
    unique_id: &str,
    outcome: Result<&RawValue, &RemoteError>,
    ending: bool,
) -> Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        result: &'a RawValue,
        failure: Option<String>,
        ending: bool,
        _msg_id: &'a RawValue,
        _unique_id: &'a str,
    }
    let (result, failure) = match outcome {
        Ok(result) => (result, None),
        Err(error) => (RawValue::NULL, Some(write_failure(error))),
    };
    seal(&Out { result, failure, ending, _msg_id: msg_id, _unique_id: unique_id })
}

fn write_failure(error: &RemoteError) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        class: &'a str,
        module: &'a str,
        message: &'a str,
        tb: &'a [String],
        args: &'a [serde_json::Value],
        kwargs: &'a serde_json::Map<String, serde_json::Value>,
    }
    to_text(&Out {
        class: &error.class,
        module: &error.module,
        message: &error.message,
        tb: &error.traceback,
        args: &error.args,
        kwargs: &error.kwargs,
    })
}

/// The envelope around a message.
fn seal(message: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Envelope<'a> {
        #[serde(rename = "oslo.version")]
        version: &'a str,
        #[serde(rename = "oslo.message")]
        message: &'a str,
    }
    to_text(&Envelope { version: "2.0", message: &to_text(message) }).into()
}

fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .expect("strings, JSON values and raw JSON under string keys can always be written")
}
