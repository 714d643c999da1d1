//! A JSON value kept as the text in which it was received.

use std::borrow::Cow;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// JSON text: borrowed from the message that it was read from, or owned by the code that writes a message.
#[derive(Debug, Clone)]
pub struct Json<'a>(pub Cow<'a, RawValue>);

impl Json<'_> {
    /// The JSON text of a value.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Json<'static>, serde_json::Error> {
        Ok(Json(Cow::Owned(serde_json::value::to_raw_value(value)?)))
    }
}

impl Deref for Json<'_> {
    type Target = RawValue;
    fn deref(&self) -> &RawValue {
        &self.0
    }
}

impl PartialEq for Json<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de RawValue>::deserialize(deserializer).map(|raw| Json(Cow::Borrowed(raw)))
    }
}
