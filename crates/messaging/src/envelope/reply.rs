//! Replies: read from the body of a delivery, and written.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::fault::MessageFault;
use super::fields::{Fields, is_null, is_truthy, text_of};
use super::outer::{open, seal, to_text};
use super::salvage;
use crate::error::{BUILTINS, RemoteError};

/// One message of an answer, as received.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) msg_id: String,
    /// Whether this is the last message for the call.
    pub(crate) ending: bool,
    /// `None` if null: the message may be a heartbeat, or the end of an answer in two messages.
    pub(crate) result: Option<Box<RawValue>>,
    pub(crate) failure: Option<Box<RemoteError>>,
}

/// Reads a reply. The fault of a malformed one comes with the id of its call, if that can be found.
pub(crate) fn read_reply(body: &[u8]) -> Result<Reply, (MessageFault, Option<String>)> {
    let text = open(body).map_err(|(fault, text)| (fault, text.as_deref().and_then(salvage::msg_id)))?;
    let fields = Fields::read(&text).map_err(|fault| (fault.of_inner(), salvage::msg_id(&text)))?;
    let msg_id = fields.get("_msg_id").and_then(text_of).ok_or((MessageFault::InnerNotAnObject, None))?;
    let failure = match fields.get("failure").filter(|raw| is_truthy(raw)) {
        None => None,
        Some(raw) => match text_of(raw).and_then(|text| read_failure(&text)) {
            Some(failure) => Some(Box::new(failure)),
            None => return Err((MessageFault::InnerNotJson, Some(msg_id))),
        },
    };
    let result = fields.get("result").filter(|raw| !is_null(raw)).map(ToOwned::to_owned);
    Ok(Reply { msg_id, ending: fields.get("ending").is_some_and(is_truthy), result, failure })
}

/// Reads the body of a reply as a client does: the result, which is `None` if null, or the failure. `None` if the body is
/// not a reply.
pub fn read_answer(body: &[u8]) -> Option<Result<Option<Box<RawValue>>, Box<RemoteError>>> {
    let Reply { result, failure, .. } = read_reply(body).ok()?;
    Some(failure.map_or(Ok(result), Err))
}

/// Reads a failure, which is JSON text in a string of the message. Any key may be missing or of a wrong type.
fn read_failure(text: &str) -> Option<RemoteError> {
    let fields = Fields::read(text).ok()?;
    let string = |name| fields.get(name).and_then(text_of).unwrap_or_default();
    // oslo.messaging marks an error that a client raised again.
    let bare = |name: String| name.strip_suffix("_Remote").map(str::to_owned).unwrap_or(name);
    let read = |name| fields.get(name).map(|raw: &RawValue| raw.get()).unwrap_or("null");
    let module = match bare(string("module")) {
        python2 if python2 == "exceptions" => BUILTINS.into(),
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

/// Writes one message of an answer.
pub(crate) fn write_reply(
    msg_id: &RawValue,
    unique_id: &str,
    outcome: Result<&RawValue, &RemoteError>,
    ending: bool,
) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        result: &'a RawValue,
        failure: Option<String>,
        ending: bool,
        _msg_id: &'a RawValue,
        _unique_id: &'a str,
    }
    let (result, failure) = match outcome {
        Ok(result) => (result, None),
        Err(error) => (RawValue::NULL, Some(to_text(error))),
    };
    seal(&Body { result, failure, ending, _msg_id: msg_id, _unique_id: unique_id })
}
