//! What extra specs can ask about a host, as symbols.

use novella_objects::Capabilities;

/// Filled in by the next commit: one column per key.
#[derive(Debug, Default)]
pub(crate) struct CapabilityColumns {
    rows: usize,
}

impl CapabilityColumns {
    pub(crate) fn grow(&mut self, rows: usize) {
        self.rows = rows;
    }

    pub(crate) fn clear(&mut self, row: usize) {
        debug_assert!(row < self.rows);
    }

    pub(crate) fn set(&mut self, row: usize, _capabilities: &Capabilities<'_>) {
        debug_assert!(row < self.rows);
    }
}
