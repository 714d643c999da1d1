//! How fields read absence and null, where serde's own way does not tell them apart or refuses null.

use serde::{Deserialize, Deserializer};

/// Reads a field in which absence and null differ. With `#[serde(default)]`, absence is `None` and null is `Some(None)`.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// Reads null as the default value, because Nova's lists and maps may be unset.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Option::deserialize(d).map(Option::unwrap_or_default)
}
