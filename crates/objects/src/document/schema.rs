//! The version of documents.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The version that this code writes, and the only one that it reads.
const SCHEMA: u32 = 1;

/// The version of a document. Reading any version but the known one is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schema;

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(SCHEMA)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            version if version == u64::from(SCHEMA) => Ok(Self),
            version => Err(de::Error::custom(format_args!(
                "this is version {version} of the schema; only version {SCHEMA} is known"
            ))),
        }
    }
}
