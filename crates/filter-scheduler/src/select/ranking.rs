//! Finds the best candidates exactly, and weighs as few hosts as possible to do so.
//!
//! For each block of hosts the ranking keeps the bounds of every weigher's values among the candidates of the block,
//! and the largest estimate of a weight in the block. Bounds may be too wide; they are made tight where that matters.
//! The largest estimate may have been computed with earlier ranges; `Weighing::growth` says how much larger it can be
//! with the present ranges. A block is skipped if no host in it can be as good as the worst host that is kept.
//!
//! What always holds:
//! - The values of a candidate lie within the bounds of its block.
//! - The estimate of a candidate with the ranges of its block's epoch is at most `most`.
//! - The hosts that are kept are ordered by their exact weights, and those of equal weight by the history.
//!
//! Left out: which hosts are candidates (`scan.rs`), and what a weight is (`weighers/weigher.rs`).

use std::cmp::Ordering;

use crate::select::history::History;
use crate::table::bitmap::{above_f32, bits, larger, max, max_of_all, min_max, smaller, word_bits};
use crate::table::block::{BLOCK, refill};
use crate::weighers::estimate::{Estimate, EstimateError, MOST};
use crate::weighers::weigher::{Range, Weigher, Weighing};

/// How many sets of ranges are remembered for estimates. When there are more, all blocks are estimated again.
const EPOCHS: usize = 8;

/// How many blocks are visited first because they may hold the best host.
const PROMISING: usize = 4;

/// How many of the best hosts are weighed first in the next round.
const LEADERS: usize = 16;

/// A host with its exact weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighed {
    pub(crate) row: u32,
    pub(crate) weight: f64,
}

/// The bounds of weights in each block, and the best hosts of the last round.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    /// For each weigher, the range of its raw values among the candidates.
    pub(crate) ranges: Vec<Range>,
    /// The best hosts of the last round, best first.
    pub(crate) best: Vec<Weighed>,
    /// How many blocks the fleet has.
    blocks: usize,
    /// For each weigher and each block, a lower bound of the candidates' values, as `f32`.
    low: Vec<f32>,
    /// For each weigher and each block, an upper bound of the candidates' values, as `f32`.
    high: Vec<f32>,
    /// For each weigher, one bit per block, set if the bounds of the block are tight. If the weigher has a `minval`,
    /// only the upper bound is tight, because the lower one is not needed.
    tight: Vec<u64>,
    /// For each block, an upper bound of its candidates' estimates; infinity if none is known.
    most: Vec<f32>,
    /// For each block, the index in `epochs` of the ranges that `most` was estimated with.
    epoch: Vec<u8>,
    /// The sets of ranges that estimates are remembered for, at most [`EPOCHS`].
    epochs: Vec<Epoch>,
    /// The rows of the best hosts of the last round. They are weighed first, so that the threshold is high early.
    leaders: Vec<u32>,
    /// The blocks that have no estimate yet. Only the bounds of their values are known.
    changed: Vec<u32>,
    /// The blocks that may hold a host that must be kept. It is used within one round only, and stored to keep its
    /// memory.
    pending: Vec<u32>,
}

/// One set of ranges that blocks were estimated with.
#[derive(Debug, Clone)]
struct Epoch {
    /// The range of each weigher. Entries beyond the number of weighers are not used.
    ranges: [Range; MOST],
    /// How far estimates with these ranges may lie below the weight.
    error: EstimateError,
    /// By how much a weight can have grown from these ranges to the present ones.
    growth: f64,
    /// If the largest estimate of a block is not above this, no host of the block can be kept.
    threshold: f32,
}

/// The inputs of one call of [`Ranking::rank`], which its steps share.
#[derive(Clone, Copy)]
struct RankingRound<'a> {
    weighing: Weighing<'a>,
    estimate: &'a Estimate<'a>,
    history: &'a History,
    /// The candidates, one bit per row.
    alive: &'a [u64],
    /// How many hosts are kept.
    keep: usize,
    /// The index in `epochs` of the present ranges.
    current: usize,
}

impl Ranking {
    /// How many bytes are kept for each block with this many weighers.
    pub(crate) fn bytes_per_block(weighers: usize) -> usize {
        weighers * 2 * size_of::<f32>() + size_of::<f32>() + size_of::<u8>()
    }

    /// Forgets everything and starts again with these weighers.
    pub(crate) fn start(&mut self, weighing: Weighing<'_>, alive: &[u64]) {
        let weighers = weighing.weighers.len();
        self.blocks = alive.len();
        refill(&mut self.low, weighers * self.blocks, f32::INFINITY);
        refill(&mut self.high, weighers * self.blocks, f32::NEG_INFINITY);
        refill(&mut self.tight, weighers * self.blocks.div_ceil(BLOCK), 0);
        refill(&mut self.most, self.blocks, f32::INFINITY);
        refill(&mut self.epoch, self.blocks, 0);
        self.epochs.clear();
        self.epochs.reserve(EPOCHS);
        self.leaders.clear();
        self.changed.clear();
        self.changed.extend(0..self.blocks as u32);
        for (at, weigher) in weighing.weighers.iter().enumerate() {
            let Some(column) = weigher.column(&weighing.table.columns) else { continue };
            let of = at * self.blocks..(at + 1) * self.blocks;
            self.low[of.clone()].copy_from_slice(&column.low);
            self.high[of].copy_from_slice(&column.high);
        }
        for block in (0..self.blocks).filter(|block| alive[*block] == 0) {
            self.loosen(weighing, alive, block);
        }
    }

    /// Notes that the candidates of these blocks have changed, or their values.
    pub(crate) fn changed(&mut self, weighing: Weighing<'_>, alive: &[u64], blocks: &[u32]) {
        for block in blocks {
            if self.most[*block as usize] != f32::INFINITY {
                self.most[*block as usize] = f32::INFINITY;
                self.changed.push(*block);
            }
            self.loosen(weighing, alive, *block as usize);
        }
    }

    /// Sets the bounds of a block to those of all its hosts, which are known but may not be tight.
    fn loosen(&mut self, weighing: Weighing<'_>, alive: &[u64], block: usize) {
        for (at, weigher) in weighing.weighers.iter().enumerate() {
            let Some(column) = weigher.column(&weighing.table.columns) else { continue };
            let (low, high) = match alive[block] {
                0 => (f32::INFINITY, f32::NEG_INFINITY),
                _ => (column.low[block], column.high[block]),
            };
            (self.low[at * self.blocks + block], self.high[at * self.blocks + block]) = (low, high);
            let (word, bit) = self.tight_bit(at, block);
            self.tight[word] &= !bit;
        }
    }

    fn tight_bit(&self, weigher: usize, block: usize) -> (usize, u64) {
        (weigher * self.blocks.div_ceil(BLOCK) + block / BLOCK, 1 << (block % BLOCK))
    }

    /// Computes the range of each weigher among the candidates. There must be at least two candidates.
    pub(crate) fn measure(&mut self, weighing: Weighing<'_>, alive: &[u64]) {
        self.ranges.clear();
        for (at, weigher) in weighing.weighers.iter().enumerate() {
            let range = self.range(weighing, at, weigher, alive);
            self.ranges.push(range);
        }
    }

    fn range(&mut self, weighing: Weighing<'_>, at: usize, weigher: &Weigher, alive: &[u64]) -> Range {
        let columns = &weighing.table.columns;
        let Some(column) = weigher.column(columns) else { return Range::default() };
        let values = column.rounded.as_chunks::<BLOCK>().0;
        let minval = weigher.rule.minval();
        let floor = minval.map_or(f32::INFINITY, |minval| minval as f32);
        let (mut least, mut most) = (floor, minval.map_or(f32::NEG_INFINITY, |minval| minval as f32));
        let all = at * self.blocks..(at + 1) * self.blocks;
        let words = self.blocks.div_ceil(BLOCK);
        let tight = &mut self.tight[at * words..(at + 1) * words];
        let (lows, highs) = (&mut self.low[all.clone()], &mut self.high[all.clone()]);
        // Eight blocks are compared at a time, because nearly always none of them widens the range.
        for (chunk, (lows, highs)) in lows.chunks_mut(8).zip(highs.chunks_mut(8)).enumerate() {
            let more = highs.iter().fold(false, |more, high| more | (*high > most));
            let less = lows.iter().fold(false, |less, low| less | (*low < least));
            if !more && (minval.is_some() || !less) {
                continue;
            }
            for (block, (low, high)) in (chunk * 8..).zip(lows.iter_mut().zip(highs)) {
                if *high <= most && (minval.is_some() || *low >= least) {
                    continue;
                }
                let (word, bit) = (&mut tight[block / BLOCK], 1 << (block % BLOCK));
                if *word & bit == 0 {
                    if *low < *high && alive[block] != u64::MAX {
                        match minval {
                            // The range begins at `minval`, so the smallest value does not matter.
                            Some(_) => *high = max(&values[block], alive[block]),
                            None => (*low, *high) = min_max(&values[block], alive[block]),
                        }
                    }
                    *word |= bit;
                }
                (least, most) = (smaller(*low, least), larger(*high, most));
            }
        }
        let rounded = match minval {
            Some(minval) => Range { min: minval, max: f64::from(most) },
            None => Range { min: f64::from(least), max: f64::from(most) },
        };
        if column.changed == 0 {
            return rounded;
        }
        // Rounding keeps the order of values. So the exact bounds are among the values that round to the rounded
        // bounds.
        let mut exact =
            Range { min: minval.unwrap_or(f64::INFINITY), max: minval.unwrap_or(f64::NEG_INFINITY) };
        for block in 0..self.blocks {
            let (low, high) = (self.low[all.start + block], self.high[all.start + block]);
            if high < most && (minval.is_some() || low > least) {
                continue;
            }
            for bit in word_bits(alive[block]) {
                let value = values[block][bit];
                if value == most || (minval.is_none() && value == least) {
                    let raw = weigher.exact(columns, block * BLOCK + bit);
                    exact.max = exact.max.max(raw);
                    if minval.is_none() {
                        exact.min = exact.min.min(raw);
                    }
                }
            }
        }
        exact
    }

    /// Fills `best` with the `keep` best candidates, in order. The ranges must have been measured.
    pub(crate) fn rank(&mut self, weighing: Weighing<'_>, alive: &[u64], history: &History, keep: usize) {
        self.best.clear();
        if keep >= alive.len() * BLOCK / 2 {
            let all = bits(alive).map(|row| row as u32);
            let ranges = &self.ranges;
            self.best.extend(all.map(|row| Weighed { row, weight: weighing.weight(ranges, row) }));
            self.best.sort_unstable_by(|a, b| order(weighing, history, a, b));
            self.best.truncate(keep);
            return;
        }
        let estimate = Estimate::new(weighing, &self.ranges);
        let current = self.enter(weighing, &estimate);
        let round = RankingRound { weighing, estimate: &estimate, history, alive, keep, current };
        self.cap(round);
        let mut leaders = std::mem::take(&mut self.leaders);
        leaders.retain(|row| alive[*row as usize / BLOCK] >> (row % BLOCK as u32) & 1 == 1);
        leaders.truncate(keep.max(1));
        for row in &leaders {
            self.try_host(round, *row);
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.clear();
        pending.extend((0..self.blocks as u32).filter(|block| self.is_pending(*block)));
        for _ in 0..PROMISING {
            let Some(at) = self.promising(&pending) else { break };
            let block = pending.remove(at);
            let kept = self.best.last().map(|host| host.row);
            self.visit(round, block as usize, &leaders);
            if self.best.len() == keep && self.best.last().map(|host| host.row) == kept {
                break; // visiting promising blocks early no longer raises the threshold
            }
        }
        for block in &pending {
            if self.is_pending(*block) {
                self.visit(round, *block as usize, &leaders);
            }
        }
        self.pending = pending;
        leaders.clear();
        leaders.extend(self.best.iter().take(LEADERS).map(|host| host.row));
        self.leaders = leaders;
    }

    /// Whether a block may hold a host that must be kept.
    fn is_pending(&self, block: u32) -> bool {
        let block = block as usize;
        self.most[block] > self.epochs[usize::from(self.epoch[block])].threshold
    }

    /// Finds or adds the epoch of the present ranges, and computes the growth since every other epoch. Returns the
    /// index of the present one.
    fn enter(&mut self, weighing: Weighing<'_>, estimate: &Estimate<'_>) -> usize {
        let count = self.ranges.len();
        let known = self.epochs.iter().position(|epoch| epoch.ranges[..count] == *self.ranges);
        let current = known.unwrap_or_else(|| {
            if self.epochs.len() == EPOCHS {
                self.epochs.clear();
                self.most.fill(f32::INFINITY);
                self.epoch.fill(0);
                self.changed.clear();
                self.changed.extend(0..self.blocks as u32);
            }
            let mut ranges = [Range::default(); MOST];
            ranges[..count].copy_from_slice(&self.ranges);
            let error = estimate.error;
            self.epochs.push(Epoch { ranges, error, growth: 0.0, threshold: f32::NEG_INFINITY });
            self.epochs.len() - 1
        });
        for epoch in &mut self.epochs {
            epoch.growth = weighing.growth(&epoch.ranges[..count], &self.ranges);
            epoch.threshold = f32::NEG_INFINITY;
        }
        current
    }

    /// The position in `blocks` of the block with the largest possible weight; of equal ones, the first.
    fn promising(&self, blocks: &[u32]) -> Option<usize> {
        let mut found: Option<(f64, usize)> = None;
        for (at, block) in blocks.iter().enumerate() {
            let block = *block as usize;
            let possible = f64::from(self.most[block]) + self.epochs[usize::from(self.epoch[block])].growth;
            if found.is_none_or(|(most, _)| possible > most) {
                found = Some((possible, at));
            }
        }
        found.map(|(_, at)| at)
    }

    /// Bounds the estimates of the changed blocks, using the bounds of their values.
    fn cap(&mut self, round: RankingRound<'_>) {
        let Self { low, high, most, epoch, blocks, changed, .. } = self;
        if changed.len() >= *blocks {
            let bounds =
                |at: usize| (&low[at * *blocks..(at + 1) * *blocks], &high[at * *blocks..(at + 1) * *blocks]);
            round.estimate.most_of_all(bounds, most);
            epoch.fill(round.current as u8);
        } else {
            for block in changed.iter().map(|block| *block as usize) {
                most[block] =
                    round.estimate.most(|at| (low[at * *blocks + block], high[at * *blocks + block]));
                epoch[block] = round.current as u8;
            }
        }
        for block in changed.drain(..) {
            if round.alive[block as usize] == 0 {
                most[block as usize] = f32::NEG_INFINITY;
            }
        }
    }

    fn bounds(&self, weigher: usize, block: usize) -> (f32, f32) {
        (self.low[weigher * self.blocks + block], self.high[weigher * self.blocks + block])
    }

    /// Weighs every host of a block that may have to be kept. Leaders are skipped, because they were weighed before.
    fn visit(&mut self, round: RankingRound<'_>, block: usize, leaders: &[u32]) {
        let worst = self.worst(round);
        // In a fleet of equal hosts, every host of a later block has the weight of the worst kept host and comes after
        // it, so the block need not be estimated.
        if worst.is_some_and(|worst| {
            worst as usize / BLOCK < block
                && round.alive[block] & !round.history.untouched(block) == 0
                && round.estimate.all_twins(worst, |at| self.bounds(at, block))
        }) {
            return;
        }
        let sums = round.estimate.sums(block);
        let mut near = round.alive[block];
        self.epoch[block] = round.current as u8;
        if worst.is_some() {
            let threshold = self.epochs[round.current].threshold;
            let above = above_f32(&sums, threshold);
            near &= above;
            if near == 0 {
                // `most` must bound all candidates of the block, so that it can be compared with thresholds of later
                // rounds. If no host at all is above the threshold, the bound over all hosts is good enough and faster
                // to find.
                self.most[block] =
                    if above == 0 { max_of_all(&sums) } else { max(&sums, round.alive[block]) };
                return;
            }
        }
        self.most[block] = most_of(&sums, near);
        for row in leaders.iter().filter(|row| **row as usize / BLOCK == block) {
            near &= !(1 << (row % BLOCK as u32));
        }
        if worst.is_some() {
            near = self.ahead(round, block, near);
        }
        while near != 0 {
            let bit = heaviest(&sums, near);
            near &= !(1 << bit);
            if self.try_host(round, (block * BLOCK + bit) as u32) && near != 0 && self.worst(round).is_some()
            {
                near &= above_f32(&sums, self.epochs[round.current].threshold);
                near = self.ahead(round, block, near);
            }
        }
    }

    /// Returns the hosts in `near` except those that surely have the weight of the worst kept host and come after it.
    fn ahead(&self, round: RankingRound<'_>, block: usize, near: u64) -> u64 {
        let Some(worst) = self.worst(round) else { return near };
        let (at, lane) = (worst as usize / BLOCK, worst % BLOCK as u32);
        let later = match at.cmp(&block) {
            Ordering::Less => u64::MAX,
            Ordering::Equal => !(u64::MAX >> (BLOCK as u32 - 1 - lane)),
            Ordering::Greater => 0,
        };
        let behind = near & later & round.history.untouched(block);
        if behind == 0 { near } else { near & !round.estimate.twins(block, behind, worst) }
    }

    /// The row of the worst kept host, if as many are kept as are wanted.
    fn worst(&self, round: RankingRound<'_>) -> Option<u32> {
        self.best.get(round.keep - 1).map(|host| host.row)
    }

    /// Weighs a host exactly, and keeps it if it is among the best. Returns whether it was kept.
    fn try_host(&mut self, round: RankingRound<'_>, row: u32) -> bool {
        let RankingRound { weighing, history, keep, .. } = round;
        let host = Weighed { row, weight: round.estimate.weight(weighing, &self.ranges, row) };
        if self.best.len() == keep {
            if order(weighing, history, &host, &self.best[keep - 1]) != Ordering::Less {
                return false;
            }
            self.best.pop();
        }
        let place = self.best.partition_point(|kept| order(weighing, history, kept, &host) == Ordering::Less);
        self.best.insert(place, host);
        if self.best.len() == keep {
            let worst = self.best[keep - 1].weight;
            for epoch in &mut self.epochs {
                let threshold = epoch.error.threshold(worst - epoch.growth);
                epoch.threshold = if threshold.is_nan() { f32::NEG_INFINITY } else { threshold };
            }
        }
        true
    }
}

fn order(weighing: Weighing<'_>, history: &History, a: &Weighed, b: &Weighed) -> Ordering {
    match b.weight.total_cmp(&a.weight) {
        Ordering::Equal => history.order(weighing, a.row, b.row),
        unequal => unequal,
    }
}

/// The largest of the values whose bit is set. At least one bit must be set.
fn most_of(values: &[f32; BLOCK], bits: u64) -> f32 {
    if bits.count_ones() > 8 {
        return max(values, bits);
    }
    word_bits(bits).fold(f32::NEG_INFINITY, |most, bit| larger(values[bit], most))
}

/// The position of the largest value whose bit is set; of equal values, the first.
fn heaviest(values: &[f32; BLOCK], bits: u64) -> usize {
    let most = most_of(values, bits);
    word_bits(bits).find(|bit| values[*bit] == most).unwrap_or(bits.trailing_zeros() as usize)
}
