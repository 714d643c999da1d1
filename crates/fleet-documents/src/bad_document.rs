//! The error of this crate: why a document cannot be used.

/// Why a document cannot be used: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadDocument {
    /// The path of the value, such as `hosts[3].free_ram_mb`. The name of a host or request follows its index in
    /// parentheses.
    pub place: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl BadDocument {
    pub(crate) fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }

    /// The same error, with `outer` in front of its path.
    pub(crate) fn within(self, outer: &str) -> Self {
        Self { place: format!("{outer}.{}", self.place), reason: self.reason }
    }
}
