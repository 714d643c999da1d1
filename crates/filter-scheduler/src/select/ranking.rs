//! The best candidates, exactly, looking at as few of them as can be proven enough.
//!
//! For each block the ranking keeps the bounds of every weigher's values among its candidates and the largest estimate of
//! a weight in it. Bounds may be too wide and are made tight where that matters; the largest estimate may be one of
//! earlier ranges, from which the largest possible now follows (`Weighing::growth`). A block that cannot hold a
//! host as good as the worst of those kept is passed over.
//!
//! What always holds: a candidate's values lie within its block's bounds; its estimate under the ranges of the block's
//! epoch is not above `most`; hosts kept are in the order of their exact weights, then of the history.
//!
//! Left out: which hosts are candidates (`scan.rs`), what a weight is (`weighers/weigher.rs`).

use std::cmp::Ordering;

use crate::select::history::History;
use crate::table::bitmap::{above_f32, bits, larger, max, max_of_all, min_max, smaller, word_bits};
use crate::table::block::{BLOCK, refill};
use crate::weighers::estimate::{Estimate, EstimateError, MOST};
use crate::weighers::weigher::{Range, Weigher, Weighing};

/// Ranges that largest estimates are remembered from. When there are more, all blocks are estimated anew.
const EPOCHS: usize = 8;

/// Blocks that are visited out of order because they may hold the best.
const PROMISING: usize = 4;

/// How many of the best are tried first in the next round.
const LEADERS: usize = 16;

/// A host with its weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighed {
    pub(crate) row: u32,
    pub(crate) weight: f64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    /// By weigher: the bounds of its raw values among the candidates.
    pub(crate) ranges: Vec<Range>,
    /// The best hosts of a round, best first.
    pub(crate) best: Vec<Weighed>,
    blocks: usize,
    /// By weigher, by block.
    low: Vec<f32>,
    high: Vec<f32>,
    /// By weigher, one bit per block: these bounds are tight; the lower one only where the weigher has no `minval`, because
    /// nothing else is asked of it.
    tight: Vec<u64>,
    /// By block: the largest estimate; infinity if unknown.
    most: Vec<f32>,
    /// By block: the ranges that it was estimated with.
    epoch: Vec<u8>,
    epochs: Vec<Epoch>,
    leaders: Vec<u32>,
    /// Blocks of which nothing but the bounds of values is known.
    changed: Vec<u32>,
    /// Blocks that may hold a host to be kept.
    pending: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Epoch {
    /// As many as there are weighers, then none.
    ranges: [Range; MOST],
    error: EstimateError,
    /// From these ranges to those of now.
    growth: f64,
    /// No host of a block whose largest estimate is not above this can be kept.
    threshold: f32,
}

/// What a round works on.
#[derive(Clone, Copy)]
struct Round<'a> {
    weighing: Weighing<'a>,
    estimate: &'a Estimate<'a>,
    history: &'a History,
    alive: &'a [u64],
    keep: usize,
    current: usize,
}

impl Ranking {
    /// Bytes kept for each block with these weighers.
    pub(crate) fn bytes_per_block(weighers: usize) -> usize {
        weighers * 2 * size_of::<f32>() + size_of::<f32>() + size_of::<u8>()
    }

    /// Starts anew for these weighers.
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

    /// Notes that candidates of these blocks, or their values, are others than before.
    pub(crate) fn changed(&mut self, weighing: Weighing<'_>, alive: &[u64], blocks: &[u32]) {
        for block in blocks {
            if self.most[*block as usize] != f32::INFINITY {
                self.most[*block as usize] = f32::INFINITY;
                self.changed.push(*block);
            }
            self.loosen(weighing, alive, *block as usize);
        }
    }

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

    /// Computes the ranges among the candidates, of which there are two at least.
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
        let minval = weigher.kind.minval();
        let floor = minval.map_or(f32::INFINITY, |minval| minval as f32);
        let (mut least, mut most) = (floor, minval.map_or(f32::NEG_INFINITY, |minval| minval as f32));
        let all = at * self.blocks..(at + 1) * self.blocks;
        let words = self.blocks.div_ceil(BLOCK);
        let tight = &mut self.tight[at * words..(at + 1) * words];
        let (lows, highs) = (&mut self.low[all.clone()], &mut self.high[all.clone()]);
        // Eight blocks at a time: nearly always none of them holds more than is known.
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
                            // How small the smallest is says nothing then.
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
        // Rounding keeps order: the outermost exact values are among those that round to the outermost.
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

    /// The `keep` best candidates, in order. Those in `skip` count for the ranges, and are not kept.
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
        let round = Round { weighing, estimate: &estimate, history, alive, keep, current };
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
                break; // the threshold is as good as it gets
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

    /// Whether a block may hold a host to be kept.
    fn is_pending(&self, block: u32) -> bool {
        let block = block as usize;
        self.most[block] > self.epochs[usize::from(self.epoch[block])].threshold
    }

    /// Finds or adds the epoch of the present ranges, and what has grown since the others.
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

    /// Of these blocks, where the first is that may hold the heaviest host.
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

    /// Bounds the estimates of blocks that changed by the bounds of their values.
    fn cap(&mut self, round: Round<'_>) {
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

    /// Tries every host of a block that may be kept, but for the leaders, which were tried.
    fn visit(&mut self, round: Round<'_>, block: usize, leaders: &[u32]) {
        let worst = self.worst(round);
        // In a fleet of equal hosts all are as good, and lose by their place in the fleet alone.
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
                // Of all candidates, so that it stays below thresholds of later rounds too; where hosts that are none do
                // no harm, of all hosts, which is found sooner.
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

    /// Of some hosts of a block, those that are not surely as good as the worst kept host and behind it.
    fn ahead(&self, round: Round<'_>, block: usize, near: u64) -> u64 {
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

    /// The last of the hosts kept, if there are as many as wanted.
    fn worst(&self, round: Round<'_>) -> Option<u32> {
        self.best.get(round.keep - 1).map(|host| host.row)
    }

    /// Weighs a host, and keeps it if it is among the best; true if so.
    fn try_host(&mut self, round: Round<'_>, row: u32) -> bool {
        let Round { weighing, history, keep, .. } = round;
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

/// The largest of the values whose bit is set, of which there is one.
fn most_of(values: &[f32; BLOCK], bits: u64) -> f32 {
    if bits.count_ones() > 8 {
        return max(values, bits);
    }
    word_bits(bits).fold(f32::NEG_INFINITY, |most, bit| larger(values[bit], most))
}

/// The first of the largest values whose bit is set.
fn heaviest(values: &[f32; BLOCK], bits: u64) -> usize {
    let most = most_of(values, bits);
    word_bits(bits).find(|bit| values[*bit] == most).unwrap_or(bits.trailing_zeros() as usize)
}
