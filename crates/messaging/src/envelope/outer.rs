//! The outer object: `{"oslo.version": "2.0", "oslo.message": "<the message as JSON text>"}`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fault::MessageFault;
use super::fields::{Fields, text_of};
use crate::target::Version;
use crate::transport::MAX_BODY_BYTES;

/// The version that is written, and the newest that is read.
const VERSION: Version = Version::new(2, 0);
/// The same as text.
const VERSION_TEXT: &str = "2.0";

/// Reads a body up to the inner text. A failure comes with the text in which the caller's address may be found, if there
/// is one.
pub(super) fn open(body: &[u8]) -> Result<String, (MessageFault, Option<String>)> {
    /// The form that every peer sends. Other forms are read more slowly.
    #[derive(Deserialize)]
    struct Usual<'a> {
        #[serde(rename = "oslo.version")]
        version: &'a str,
        #[serde(rename = "oslo.message")]
        message: String,
    }
    if body.len() > MAX_BODY_BYTES {
        return Err((MessageFault::TooLarge, None));
    }
    let text = std::str::from_utf8(body).map_err(|_| (MessageFault::NotUtf8, None))?;
    if text.is_empty() {
        return Ok("{}".into()); // oslo.messaging reads nothing as an empty object
    }
    // serde would read an array as a struct too.
    if text.starts_with('{')
        && let Ok(Usual { version: VERSION_TEXT, message }) = serde_json::from_str(text)
    {
        return Ok(message);
    }
    let fields = Fields::read(text).map_err(|fault| (fault, Some(text.to_owned())))?;
    let (Some(version), Some(message)) = (fields.get("oslo.version"), fields.get("oslo.message")) else {
        return Ok(text.to_owned()); // the message itself, without an outer object
    };
    let version = text_of(version).and_then(|v| v.parse::<Version>().ok());
    let message = text_of(message);
    if !version.is_some_and(|version| VERSION.serves(version)) {
        return Err((MessageFault::EnvelopeVersion, message));
    }
    message.ok_or((MessageFault::InnerNotText, None))
}

/// Writes a message into its outer object.
pub(super) fn seal(message: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Outer<'a> {
        #[serde(rename = "oslo.version")]
        version: &'a str,
        #[serde(rename = "oslo.message")]
        message: &'a str,
    }
    to_text(&Outer { version: VERSION_TEXT, message: &to_text(message) }).into()
}

/// JSON text of something that can always be written: strings, JSON values and raw JSON under string keys.
pub(super) fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, JSON values and raw JSON under string keys can be written")
}
