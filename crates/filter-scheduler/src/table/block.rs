//! Rows and blocks: the position of a host in the columns, and how columns grow.

/// The number of rows in a block. Scans go block by block, with one bit of a word for each row.
pub(crate) const BLOCK: usize = 64;

/// Where a host is in the table. Stable while the host is present; a later host may get the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub(crate) u32);

impl Row {
    /// The row at this index.
    pub fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("a table of 2^32 hosts exceeds any memory"))
    }

    /// The index of the row, for arrays kept beside the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Sets the bit of a row in a bitmap of rows.
pub(crate) fn set(words: &mut [u64], row: Row) {
    words[row.index() / BLOCK] |= 1 << (row.index() % BLOCK);
}

/// Clears the bit of a row in a bitmap of rows.
pub(crate) fn clear(words: &mut [u64], row: Row) {
    words[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
}

/// Lengthens a column, with room for a sixteenth more: doubling would leave half of a large fleet's memory unused.
pub(crate) fn grow_to<T: Clone>(column: &mut Vec<T>, rows: usize, empty: T) {
    if rows > column.capacity() {
        column.reserve_exact(rows - column.len() + column.len() / 16);
    }
    column.resize(rows, empty);
}

/// Clamps a value to the 32 bits of a column. That changes no decision, because requests above
/// [`MAX_AMOUNT`](novella_objects::MAX_AMOUNT) are refused before any comparison.
pub(crate) fn lane(value: i64) -> i32 {
    value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// Replaces the contents of a list with `len` equal values, and keeps its memory.
pub(crate) fn refill<T: Clone>(values: &mut Vec<T>, len: usize, value: T) {
    values.clear();
    values.resize(len, value);
}
