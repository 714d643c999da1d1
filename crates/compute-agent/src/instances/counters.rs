//! How often builds were started, and how they ended.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct InstanceCounters {
    pub started: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    /// Attempts to destroy a guest that have failed and are repeated.
    pub destroy_retries: AtomicU64,
}

impl InstanceCounters {
    /// The builds, by what became of them.
    pub fn builds(&self) -> [(&'static str, u64); 3] {
        [
            ("started", count(&self.started)),
            ("succeeded", count(&self.succeeded)),
            ("failed", count(&self.failed)),
        ]
    }

    /// How often the destruction of a guest was repeated.
    pub fn destroy_retries(&self) -> u64 {
        count(&self.destroy_retries)
    }
}

/// Raises a counter by one.
pub(crate) fn raise(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
