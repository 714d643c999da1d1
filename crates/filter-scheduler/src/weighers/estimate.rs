//! Estimates of weights in `f32`, for whole blocks of hosts, with a known error.
//!
//! Computing every weight exactly would cost a division per host and weigher. So a ranking first estimates weights, and
//! weighs exactly only the hosts that may be among the best.
//!
//! What always holds: an estimate lies at most as far below the weight as [`EstimateError`] says.
//!
//! Left out: which hosts are weighed exactly (`select/ranking.rs`).

use multiversion::multiversion;

use crate::settings::weigher_kind::WeigherKind;
use crate::table::bitmap::{either, equal_f32, larger};
use crate::table::block::BLOCK;
use crate::table::columns::RawColumn;
use crate::table::host_table::HostTable;
use crate::weighers::weigher::{Range, Weigher, Weighing};

/// How many weighers a request has at most: Nova's, and the one that puts suspect hosts last.
pub(crate) const MOST: usize = WeigherKind::ALL.len() + 1;

/// Estimates the weights of whole blocks, for one request and its ranges.
#[derive(Debug)]
pub(crate) struct Estimate<'t> {
    /// The weighers that tell hosts apart. Entries from `count` on are not used.
    terms: [EstimateTerm<'t>; MOST],
    /// How many of `terms` are used.
    count: usize,
    /// For each row, the symbol of its set of aggregates.
    sets: &'t [[u32; BLOCK]],
    /// How far an estimate may lie below the weight.
    pub(crate) error: EstimateError,
    /// Whether hosts with equal values in all terms surely have equal weights.
    exact: bool,
}

/// How far an estimate may lie below the weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct EstimateError {
    /// The largest possible sum of the positive shares of a host.
    largest: f64,
    /// The error as a fraction of the sum of all shares' sizes.
    relative: f64,
    /// The error that comes on top of that.
    absolute: f64,
}

/// A weigher that tells hosts apart: its values, range and multiplier.
#[derive(Debug, Clone, Copy, Default)]
struct EstimateTerm<'t> {
    /// The position of the weigher among all weighers of the request.
    at: usize,
    /// For each block, the hosts' raw values, rounded to `f32`.
    values: &'t [[f32; BLOCK]],
    /// Whether `values` are exact, because no value was changed by rounding.
    lossless: bool,
    /// Nova's `minval`: smaller raw values count as this one. It is minus infinity if there is none.
    minval: f64,
    /// `minval` as `f32`.
    floor: f32,
    /// The lower end of the range as `f32`.
    min: f32,
    /// The multiplier divided by the width of the range. If there are `multipliers`, 1 divided by the width.
    factor: f32,
    /// For each block, the hosts' multipliers, if an aggregate overrides the configured one.
    multipliers: Option<&'t [[f32; BLOCK]]>,
    /// The smallest and the largest multiplier.
    extremes: (f32, f32),
}

impl<'t> Estimate<'t> {
    /// Prepares the estimate of weights within these ranges.
    pub(crate) fn new(weighing: Weighing<'t>, ranges: &[Range]) -> Self {
        let Weighing { weighers, table } = weighing;
        let mut estimate = Self {
            terms: [EstimateTerm::default(); MOST],
            count: 0,
            sets: table.aggregates.rows().as_chunks::<BLOCK>().0,
            error: EstimateError::default(),
            exact: true,
        };
        for (at, (weigher, range)) in weighers.iter().zip(ranges).enumerate() {
            if let Some(column) = weigher.column(&table.columns) {
                estimate.add(at, weigher, column, *range, table);
            }
        }
        // A term is rounded up to seven times: in its value, its factor and their product, and sometimes also in the
        // bound, the difference from the bound, the multiplier and another product. Each sum is rounded once more.
        // Twice that number leaves room for the roundings of the exact weight.
        let plain = estimate.terms().iter().all(|term| term.min == 0.0 && term.multipliers.is_none());
        let roundings = 2 * (if plain { 3 } else { 7 } + estimate.count);
        estimate.error.relative = roundings as f64 * f64::from(f32::EPSILON);
        estimate
    }

    fn terms(&self) -> &[EstimateTerm<'t>] {
        &self.terms[..self.count]
    }

    fn add(
        &mut self,
        at: usize,
        weigher: &'t Weigher,
        column: &'t RawColumn,
        range: Range,
        table: &'t HostTable,
    ) {
        let own = weigher.own(table);
        let width = range.max - range.min;
        if width == 0.0 || (own.is_none() && weigher.multiplier == 0.0) {
            return;
        }
        let minval = weigher.rule.minval().unwrap_or(f64::NEG_INFINITY);
        let (least, most) = weigher.extremes(table);
        self.error.largest += most.max(0.0);
        if column.changed > 0 {
            self.exact = false;
            if range.min != 0.0 {
                // The difference of two rounded numbers may be far smaller than either.
                let magnitude = range.min.abs().max(range.max.abs()) / width;
                self.error.absolute +=
                    least.abs().max(most.abs()) * magnitude * 4.0 * f64::from(f32::EPSILON);
            }
        }
        self.terms[self.count] = EstimateTerm {
            at,
            values: column.rounded.as_chunks::<BLOCK>().0,
            lossless: column.changed == 0,
            minval,
            floor: minval as f32,
            min: range.min as f32,
            factor: if own.is_some() { 1.0 / width } else { weigher.multiplier / width } as f32,
            multipliers: own.map(|own| own.rounded.as_chunks::<BLOCK>().0),
            extremes: (least as f32, most as f32),
        };
        self.count += 1;
    }

    /// Returns the hosts in `of` that surely weigh the same as `row`, to the last bit.
    pub(crate) fn twins(&self, block: usize, of: u64, row: u32) -> u64 {
        if !self.exact {
            return 0;
        }
        let (at, lane) = (row as usize / BLOCK, row as usize % BLOCK);
        let set = self.sets[at][lane];
        let mut twins = of;
        for term in self.terms() {
            twins &= equal_f32(&term.values[block], term.values[at][lane]);
            if term.multipliers.is_some() {
                twins &= either(&self.sets[block], set, set);
            }
            if twins == 0 {
                break;
            }
        }
        twins
    }

    /// Whether all hosts of a block surely weigh the same as `row`. `bounds` gives the bounds of a weigher's values in
    /// the block.
    pub(crate) fn all_twins(&self, row: u32, bounds: impl Fn(usize) -> (f32, f32)) -> bool {
        let (at, lane) = (row as usize / BLOCK, row as usize % BLOCK);
        self.exact
            && self.terms().iter().all(|term| {
                let value = term.values[at][lane];
                term.multipliers.is_none() && bounds(term.at) == (value, value)
            })
    }

    /// The estimates of a block's hosts.
    pub(crate) fn sums(&self, block: usize) -> [f32; BLOCK] {
        sums(self.terms(), block)
    }

    /// The exact weight of a host, as [`Weighing::weight`] computes it. It is faster, because the columns are already
    /// looked up.
    pub(crate) fn weight(&self, weighing: Weighing<'_>, ranges: &[Range], row: u32) -> f64 {
        let (block, lane) = (row as usize / BLOCK, row as usize % BLOCK);
        self.terms().iter().fold(0.0, |sum, term| {
            let weigher = &weighing.weighers[term.at];
            let raw = match term.lossless {
                true => f64::from(term.values[block][lane]),
                false => weigher.exact(&weighing.table.columns, row as usize),
            };
            let multiplier = match term.multipliers {
                Some(_) => weigher.multiplier(weighing.table, row),
                None => weigher.multiplier,
            };
            sum + multiplier * ranges[term.at].normalise(larger(raw, term.minval))
        })
    }

    /// An upper bound of the estimates of hosts whose values lie within `bounds`. It takes the same steps as
    /// [`Self::sums`] and rounds in the same way, and rounding keeps the order of values.
    pub(crate) fn most(&self, bounds: impl Fn(usize) -> (f32, f32)) -> f32 {
        self.terms().iter().fold(0.0, |sum, term| {
            let (low, high) = bounds(term.at);
            sum + term.most(low, high)
        })
    }

    /// Computes [`Self::most`] for all blocks and writes it into `most`.
    pub(crate) fn most_of_all<'b>(&self, bounds: impl Fn(usize) -> (&'b [f32], &'b [f32]), most: &mut [f32]) {
        most.fill(0.0);
        for term in self.terms() {
            let (low, high) = bounds(term.at);
            for (most, (low, high)) in most.iter_mut().zip(low.iter().zip(high)) {
                *most += term.most(*low, *high);
            }
        }
    }
}

impl EstimateError {
    /// The threshold that the estimate of every host of at least `weight` reaches.
    ///
    /// Roundings take a fraction of the sum of all shares' sizes. For a host of that weight, the positive shares are at
    /// most `largest` together, so the negative ones are at most `largest - weight`. So a host with a very large
    /// negative share does not blur the comparison of the others.
    pub(crate) fn threshold(self, weight: f64) -> f32 {
        let error = (2.0 * self.largest - weight).max(0.0) * self.relative + self.absolute;
        ((weight - error) as f32).next_down()
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn sums<'t>(terms: &[EstimateTerm<'t>], block: usize) -> [f32; BLOCK] {
    let mut sums = [0.0; BLOCK];
    for term in terms {
        term.add_to(&mut sums, block);
    }
    sums
}

impl EstimateTerm<'_> {
    /// The largest share that values between `low` and `high` can have.
    fn most(&self, low: f32, high: f32) -> f32 {
        let share = |value: f32| self.factor * (larger(value, self.floor) - self.min);
        let (low, high) = (share(low), share(high));
        match self.multipliers {
            None => larger(low, high),
            Some(_) => {
                let (least, most) = self.extremes;
                larger(larger(least * low, least * high), larger(most * low, most * high))
            }
        }
    }

    #[inline(always)]
    fn add_to(&self, sums: &mut [f32; BLOCK], block: usize) {
        let values = sums.iter_mut().zip(&self.values[block]);
        let raised = |value: f32| larger(value, self.floor);
        match self.multipliers {
            None if self.min == 0.0 => {
                for (sum, value) in values {
                    *sum += self.factor * raised(*value);
                }
            }
            None => {
                for (sum, value) in values {
                    *sum += self.factor * (raised(*value) - self.min);
                }
            }
            Some(multipliers) => {
                for ((sum, value), multiplier) in values.zip(&multipliers[block]) {
                    *sum += multiplier * (self.factor * (raised(*value) - self.min));
                }
            }
        }
    }
}
