//! The members of a JSON object as text, read in one pass and without building a tree.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::MessageFault;

/// Members of an object in order of appearance. Of equal keys the last counts.
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object. The fault says whether the text is JSON at all.
    pub(super) fn read(text: &'a str) -> Result<Self, MessageFault> {
        serde_json::from_str(text).map_err(|_| match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => MessageFault::NotAnObject,
            Err(_) => MessageFault::NotJson,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|&(_, value)| value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // A cast without request context has at most five members.
                let mut members = Vec::with_capacity(8);
                while let Some((Key(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Self)
    }
}

/// A key that is borrowed unless it holds escapes. serde reads a bare `Cow` as owned in any case.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The string in `raw`. `None` if it is something else, or a string that UTF-8 cannot write.
pub(super) fn text_of(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// Whether Python takes the value for true. Null, false, zero and everything empty are false.
pub(super) fn is_truthy(raw: &RawValue) -> bool {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n' | b'f') => false,
        Some(b'"') => text.len() > 2,
        Some(b'[' | b'{') => !text[1..text.len() - 1].trim_ascii().is_empty(),
        Some(b't') => true,
        _ => text.parse::<f64>().is_ok_and(|number| number != 0.0),
    }
}

/// What a value is, for the text of an error.
pub(super) fn type_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => "a number",
    }
}
