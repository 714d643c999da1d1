//! Why a document cannot be worked with.

/// Why a document cannot be worked with: what, where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadDocument {
    /// A path, such as `hosts[3].free_ram_mb`; a host's or request's own name stands behind it in parentheses.
    pub place: String,
    /// What is wrong, and what would do.
    pub reason: String,
}

impl BadDocument {
    pub(crate) fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }

    /// The same, at its place in something larger.
    pub(crate) fn within(self, outer: &str) -> Self {
        Self { place: format!("{outer}.{}", self.place), reason: self.reason }
    }
}
