//! The order of hosts that have equal weights.
//!
//! For each instance of a request, Nova sorts the list that the previous instance left. The sort is stable, and Nova
//! puts the chosen host first. So hosts of equal weight keep the order of the round before, which was the order of the
//! weights then, and so on back to the fleet order. This module sorts nothing to know that order. The order of two
//! hosts follows from which of them was chosen last, and from the ranges that weights were normalised with since.
//!
//! What always holds: since the last round that chose one of two hosts, the raw values of neither host changed. So
//! their order is decided by the newest ranges since then that tell them apart; if there are none, by that choice; and
//! if neither was chosen, by the order at the start.
//!
//! Left out: what a weight is (`weighers/weigher.rs`), and which hosts are candidates (`scan.rs`).

use std::cmp::Ordering;

use crate::table::block::BLOCK;
use crate::weighers::weigher::{Range, Weighing};

/// The earlier rounds of a request, as far as later rounds depend on them. A round is the placement of one instance.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The ranges of all weighers for each epoch, one epoch after another. An epoch is a run of rounds with equal
    /// ranges.
    ranges: Vec<Range>,
    /// For each epoch, the number of rounds up to its end.
    epochs: Vec<u32>,
    /// The number of rounds so far.
    rounds: u32,
    /// For each row, the number of the last round that chose it, counted from 1; 0 if no round chose it. Only the rows
    /// in `chosen` are reset, because zeroing all rows for every request would be slow.
    last_chosen: Vec<u32>,
    /// The rows that rounds chose, in order.
    chosen: Vec<u32>,
    /// One bit per row, set if the row is in `chosen`.
    touched: Vec<u64>,
    /// For each row, its position in the list that the history starts from. Empty if it starts from the fleet order.
    start: Vec<u32>,
}

impl History {
    /// Forgets everything, for a table of `rows` rows.
    pub(crate) fn reset(&mut self, rows: usize) {
        for row in self.chosen.drain(..) {
            if let Some(last) = self.last_chosen.get_mut(row as usize) {
                *last = 0;
            }
        }
        self.touched.clear();
        self.touched.resize(rows / BLOCK, 0);
        self.last_chosen.resize(rows, 0);
        self.start.clear();
        self.ranges.clear();
        self.epochs.clear();
        self.rounds = 0;
    }

    /// Notes that a round weighed its hosts within `ranges` and chose `row`.
    pub(crate) fn round(&mut self, ranges: &[Range], row: u32) {
        self.rounds += 1;
        match self.epochs.last_mut() {
            Some(rounds) if self.ranges.ends_with(ranges) => *rounds = self.rounds,
            _ => {
                self.ranges.extend_from_slice(ranges);
                self.epochs.push(self.rounds);
            }
        }
        self.last_chosen[row as usize] = self.rounds;
        self.chosen.push(row);
        self.touched[row as usize / BLOCK] |= 1 << (row as usize % BLOCK);
    }

    /// The rows of a block, one bit each, that come after every earlier row of the fleet that has equal raw values.
    /// These are the rows that no round chose, and none if the history does not start from the fleet order.
    pub(crate) fn untouched(&self, block: usize) -> u64 {
        if self.start.is_empty() { !self.touched[block] } else { 0 }
    }

    /// Starts again from this list. The caller must not ask about rows that are not in it.
    pub(crate) fn restart(&mut self, list: impl Iterator<Item = u32>) {
        let mut start = std::mem::take(&mut self.start);
        self.reset(self.last_chosen.len());
        start.resize(self.last_chosen.len(), 0);
        for (place, row) in (0..).zip(list) {
            start[row as usize] = place;
        }
        self.start = start;
    }

    /// Compares the positions that two hosts of equal weight had at the end of the last round.
    pub(crate) fn order(&self, weighing: Weighing<'_>, a: u32, b: u32) -> Ordering {
        let last = |row: u32| self.last_chosen[row as usize];
        let chosen = last(a).max(last(b));
        if !self.epochs.is_empty() && !weighing.same_raw(a, b) {
            let each = self.ranges.len() / self.epochs.len();
            for at in (0..self.epochs.len()).rev().take_while(|at| self.epochs[*at] > chosen) {
                let ranges = &self.ranges[at * each..(at + 1) * each];
                let order = weighing.weight(ranges, b).total_cmp(&weighing.weight(ranges, a));
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
        let place = |row: u32| self.start.get(row as usize).copied().unwrap_or(row);
        last(b).cmp(&last(a)).then_with(|| place(a).cmp(&place(b)))
    }
}
