//! Columns of numbers that know the bounds of each block of 64 rows. With them, a scan can often decide about a block
//! without looking at its rows.
//!
//! What always holds: `low[b]` and `high[b]` are the smallest and the largest value of block `b`, rows without a host
//! included.

use crate::table::bitmap::{larger, reduce, smaller};
use crate::table::block::{BLOCK, grow_to};

/// How much of one amount still fits on each row.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoomColumn {
    /// The room of each row, clamped to 32 bits. Negative on an overfull host.
    pub(crate) rooms: Vec<i32>,
    /// The smallest room of each block.
    pub(crate) low: Vec<i32>,
    /// The largest room of each block.
    pub(crate) high: Vec<i32>,
}

impl RoomColumn {
    /// Lengthens the column. A row without a host has room for nothing.
    pub(crate) fn grow(&mut self, rows: usize) {
        grow_to(&mut self.rooms, rows, -1);
        grow_to(&mut self.low, rows / BLOCK, -1);
        grow_to(&mut self.high, rows / BLOCK, -1);
    }

    pub(crate) fn set(&mut self, row: usize, room: i32) {
        let before = std::mem::replace(&mut self.rooms[row], room);
        let block = row / BLOCK;
        let (low, high) = (&mut self.low[block], &mut self.high[block]);
        if (before == *low && room > before) || (before == *high && room < before) {
            let rooms = &self.rooms.as_chunks::<BLOCK>().0[block];
            (*low, *high) = rooms
                .iter()
                .fold((i32::MAX, i32::MIN), |(low, high), &room| (smaller(room, low), larger(room, high)));
        } else {
            (*low, *high) = (room.min(*low), room.max(*high));
        }
    }
}

/// A weigher's raw values rounded to `f32`, and how many of them the rounding changed.
///
/// Rounding keeps order, so the largest value is among those with the largest rounded value. If rounding changed no
/// value, the column is exact. It changes no whole number below 2^24, and no half or quarter of smaller ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawColumn {
    pub(crate) rounded: Vec<f32>,
    /// The smallest rounded value of each block.
    pub(crate) low: Vec<f32>,
    /// The largest rounded value of each block.
    pub(crate) high: Vec<f32>,
    /// How many values the rounding changed.
    pub(crate) changed: u32,
    /// One bit per row: the rounding changed its value.
    changed_rows: Vec<u64>,
}

impl RawColumn {
    pub(crate) fn grow(&mut self, rows: usize) {
        grow_to(&mut self.rounded, rows, 0.0);
        grow_to(&mut self.low, rows / BLOCK, 0.0);
        grow_to(&mut self.high, rows / BLOCK, 0.0);
        grow_to(&mut self.changed_rows, rows / BLOCK, 0);
    }

    pub(crate) fn set(&mut self, row: usize, value: f64) {
        let rounded = value as f32;
        let block = row / BLOCK;
        let before = std::mem::replace(&mut self.rounded[row], rounded);
        let (low, high) = (&mut self.low[block], &mut self.high[block]);
        if (before == *low && rounded > before) || (before == *high && rounded < before) {
            (*low, *high) = bounds(&self.rounded.as_chunks::<BLOCK>().0[block]);
        } else {
            (*low, *high) = (smaller(rounded, *low), larger(rounded, *high));
        }
        let (word, bit) = (&mut self.changed_rows[block], 1 << (row % BLOCK));
        let (before, now) = (*word & bit != 0, f64::from(rounded) != value);
        if before != now {
            *word ^= bit;
            self.changed = if now { self.changed + 1 } else { self.changed - 1 };
        }
    }
}

fn bounds(values: &[f32; BLOCK]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for values in values.as_chunks::<8>().0 {
        for at in 0..8 {
            low[at] = smaller(values[at], low[at]);
            high[at] = larger(values[at], high[at]);
        }
    }
    (reduce(low, smaller), reduce(high, larger))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_follow_every_change(changes in prop::collection::vec((0..2 * BLOCK, -3i32..4), 1..300)) {
            let (mut rooms, mut raw) = (RoomColumn::default(), RawColumn::default());
            rooms.grow(2 * BLOCK);
            raw.grow(2 * BLOCK);
            for (row, value) in changes {
                rooms.set(row, value);
                raw.set(row, f64::from(value));
                for block in 0..2 {
                    let rows = &rooms.rooms[block * BLOCK..(block + 1) * BLOCK];
                    let (low, high) = (*rows.iter().min().unwrap(), *rows.iter().max().unwrap());
                    prop_assert_eq!((rooms.low[block], rooms.high[block]), (low, high));
                    let rows = raw.rounded[block * BLOCK..(block + 1) * BLOCK].iter().map(|v| *v as i32);
                    let (low, high) = (rows.clone().min().unwrap(), rows.max().unwrap());
                    prop_assert_eq!((raw.low[block] as i32, raw.high[block] as i32), (low, high));
                }
            }
        }
    }
}
