//! The order in which equal weights stand.
//!
//! Nova sorts, for each instance of a request, the list that the previous instance left, with a stable sort, and puts
//! the chosen host first. So equal weights keep the order of the round before, which is that of the weights then, and so
//! on back to the fleet order. Nothing is sorted here to know it: what two hosts' order was follows from which of them
//! was chosen last and from the ranges that weights were normalised with since.
//!
//! What always holds: since the last round that chose one of two hosts, neither host's raw values changed. So their
//! order is decided by the newest earlier ranges that tell them apart, else by that choice, else by the start.

use std::cmp::Ordering;

use crate::table::block::BLOCK;
use crate::weighers::weigher::{Range, Weighing};

/// What happened in the rounds before, as far as later rounds depend on it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Ranges that were in force for one round or several, one after the other.
    ranges: Vec<Range>,
    /// For each of these the number of rounds up to their last.
    epochs: Vec<u32>,
    rounds: u32,
    /// By row: one more than the last round that chose it. Reset through `chosen`, so that it is zeroed only once.
    last_chosen: Vec<u32>,
    chosen: Vec<u32>,
    /// One bit per row that is in `chosen`.
    touched: Vec<u64>,
    /// By row: its place in the list that the history starts from; empty for fleet order.
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

    /// A round weighed its hosts within `ranges` and put `row` first.
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

    /// Rows of a block of which this holds: equal raw values make them stand behind any row before them in fleet order.
    pub(crate) fn untouched(&self, block: usize) -> u64 {
        if self.start.is_empty() { !self.touched[block] } else { 0 }
    }

    /// Starts again from this list. Rows that are not in it must not be asked about any more.
    pub(crate) fn restart(&mut self, list: impl Iterator<Item = u32>) {
        let mut start = std::mem::take(&mut self.start);
        self.reset(self.last_chosen.len());
        start.resize(self.last_chosen.len(), 0);
        for (place, row) in (0..).zip(list) {
            start[row as usize] = place;
        }
        self.start = start;
    }

    /// Which of two hosts of equal weight stood first when the last round ended.
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
