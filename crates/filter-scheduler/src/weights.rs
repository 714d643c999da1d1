//! Weighers: raw columns, Nova's normalisation, and a fast estimate of the result.
//!
//! The weight of a host is Σ multiplier × normalised, computed in `f64` in the order of the weighers, to the last bit as
//! Nova computes it. Doing so for every host would cost a division per host and weigher, so a scan first estimates
//! weights in `f32` with a known error, and only hosts that may be among the best are weighed exactly.
//!
//! Most weighers read a column of the table. What depends on the request (members of a group, metrics, cells) is computed
//! into a column of the request, and only where it can tell hosts apart. A multiplier is one number, unless an aggregate
//! overrides it; then it is a column too.
//!
//! To add one: a variant in `WeigherKind`, its column and exact value here, a rule in `tests/reference.rs`.

use multiversion::multiversion;
use novella_resources::MB_PER_GB;

use crate::aggregates::Multipliers;
use crate::bitmap::{either, equal_f32, larger};
use crate::columns::RawColumn;
use crate::host_table::{BLOCK, Columns, Exact, HostTable};
use crate::options::WeigherKind;

/// The bounds of one weigher's raw values among the candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Range {
    /// 0 … 1; zero where all candidates are equal and nothing is to be told apart.
    pub(crate) fn normalise(self, raw: f64) -> f64 {
        if self.max == self.min { 0.0 } else { (raw - self.min) / (self.max - self.min) }
    }
}

/// One weigher, compiled for one request.
#[derive(Debug)]
pub(crate) struct Weigher {
    pub(crate) kind: WeigherKind,
    /// Where no aggregate overrides it.
    multiplier: f64,
    overridden: bool,
    raw: Raw,
}

#[derive(Debug)]
enum Raw {
    /// A column of the table.
    Column,
    /// The request gives it nothing to tell hosts apart by.
    Zero,
    /// A column of the request.
    Computed(Box<Computed>),
}

/// Raw values of one request, by row.
#[derive(Debug, Default)]
pub(crate) struct Computed {
    column: RawColumn,
    /// Empty if the column is exact.
    exact: Vec<f64>,
}

impl Computed {
    /// All zero, for whole numbers.
    pub(crate) fn zeros(rows: usize) -> Self {
        let mut column = RawColumn::default();
        column.grow(rows);
        Self { column, exact: Vec::new() }
    }

    pub(crate) fn set_whole(&mut self, row: usize, value: i32) {
        self.column.set(row, f64::from(value));
        debug_assert_eq!(self.column.changed, 0, "instances of a group on one host are fewer than 2^24");
    }

    pub(crate) fn set(&mut self, row: usize, value: f64) {
        if self.exact.is_empty() {
            self.exact.resize(self.column.rounded.len(), 0.0);
        }
        self.exact[row] = value;
        self.column.set(row, value);
    }
}

impl WeigherKind {
    /// The column of the table, for those that read one.
    fn column(self, columns: &Columns) -> Option<&RawColumn> {
        Some(match self {
            Self::Ram => &columns.free_memory_mb,
            Self::Cpu => &columns.free_vcpus,
            Self::Disk => &columns.free_disk_gb,
            Self::IoOps => &columns.num_io_ops,
            Self::HypervisorVersion => &columns.hypervisor_version,
            Self::NumInstances => &columns.num_instances,
            Self::Pci => &columns.few_pci_devices,
            Self::BuildFailure => &columns.failed_builds,
            Self::SoftAffinity
            | Self::SoftAntiAffinity
            | Self::CrossCell
            | Self::Metrics
            | Self::ImageProperties => return None,
        })
    }

    /// The exact value behind the column.
    fn exact(self, exact: &Exact) -> f64 {
        match self {
            Self::Ram => exact.free_memory_mb(),
            Self::Cpu => exact.free_vcpus(),
            Self::Disk => exact.free_disk_gb(),
            Self::IoOps => exact.num_io_ops() as f64,
            Self::HypervisorVersion => exact.hypervisor_version as f64,
            Self::NumInstances => f64::from(exact.used().instances),
            Self::Pci => f64::from(exact.few_pci_devices()),
            Self::BuildFailure => f64::from(exact.reported.failed_builds),
            Self::SoftAffinity
            | Self::SoftAntiAffinity
            | Self::CrossCell
            | Self::Metrics
            | Self::ImageProperties => 0.0,
        }
    }

    /// Nova's `minval`: smaller raw values count as this one, which is always the range's lower bound.
    pub(crate) fn minval(self) -> Option<f64> {
        matches!(self, Self::Ram | Self::Cpu | Self::Disk | Self::IoOps).then_some(0.0)
    }

    /// A raw value, raised to [`Self::minval`].
    pub(crate) fn clamp(self, raw: f64) -> f64 {
        self.minval().map_or(raw, |minval| larger(raw, minval))
    }

    /// From the column's unit to that of Nova's raw value. A power of two, so no normalised bit depends on it.
    pub(crate) fn unit(self) -> f64 {
        if self == Self::Disk { MB_PER_GB as f64 } else { 1.0 }
    }
}

impl Weigher {
    /// Looks up what aggregates override.
    pub(crate) fn compile(kind: WeigherKind, multiplier: f64, table: &mut HostTable) -> Self {
        table.aggregates.prepare_multipliers(kind, multiplier);
        let raw = if kind.column(&table.columns).is_some() { Raw::Column } else { Raw::Zero };
        let overridden = table.aggregates.multipliers(kind).is_some();
        Self { kind, multiplier: multiplier * kind.sign(), overridden, raw }
    }

    /// Makes sure that the table still has what [`Self::compile`] looked up: another scheduler may have asked for other
    /// multipliers.
    pub(crate) fn prepare(&self, table: &mut HostTable) {
        table.aggregates.prepare_multipliers(self.kind, self.multiplier * self.kind.sign());
    }

    /// Gives it a column of the request.
    pub(crate) fn set_computed(&mut self, computed: Computed) {
        self.raw = Raw::Computed(Box::new(computed));
    }

    /// What the request has computed, if it has.
    pub(crate) fn computed(&mut self) -> Option<&mut Computed> {
        match &mut self.raw {
            Raw::Computed(computed) => Some(computed),
            Raw::Column | Raw::Zero => None,
        }
    }

    /// What this host's share is multiplied by.
    pub(crate) fn multiplier(&self, table: &HostTable, row: u32) -> f64 {
        match self.own(table) {
            Some(own) => own.by_set[table.aggregates.set_of(row as usize) as usize],
            None => self.multiplier,
        }
    }

    /// The multipliers of aggregates, where they override.
    fn own<'t>(&self, table: &'t HostTable) -> Option<&'t Multipliers> {
        if self.overridden { table.aggregates.multipliers(self.kind) } else { None }
    }

    /// The smallest and the largest multiplier of any host.
    fn extremes(&self, table: &HostTable) -> (f64, f64) {
        self.own(table).map_or((self.multiplier, self.multiplier), |own| own.extremes)
    }

    /// Whether it reads a column of the request, which is computed anew for each.
    pub(crate) fn is_computed(&self) -> bool {
        matches!(self.raw, Raw::Computed(_))
    }

    pub(crate) fn column<'t>(&'t self, columns: &'t Columns) -> Option<&'t RawColumn> {
        match &self.raw {
            Raw::Column => self.kind.column(columns),
            Raw::Zero => None,
            Raw::Computed(computed) => Some(&computed.column),
        }
    }

    pub(crate) fn exact(&self, columns: &Columns, row: usize) -> f64 {
        match &self.raw {
            Raw::Column => self.kind.exact(&columns.exact[row]),
            Raw::Zero => 0.0,
            Raw::Computed(computed) => computed.exact[row],
        }
    }

    /// One host's raw value, exactly, in the column's unit.
    pub(crate) fn raw(&self, columns: &Columns, row: u32) -> f64 {
        match self.column(columns) {
            None => 0.0,
            Some(column) if column.changed == 0 => f64::from(column.rounded[row as usize]),
            Some(_) => self.exact(columns, row as usize),
        }
    }

    /// The same, raised to Nova's `minval`.
    pub(crate) fn clamped(&self, columns: &Columns, row: u32) -> f64 {
        self.kind.clamp(self.raw(columns, row))
    }
}

/// The weighers of a request and the table that they weigh.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighing<'a> {
    pub(crate) weighers: &'a [Weigher],
    pub(crate) table: &'a HostTable,
}

impl Weighing<'_> {
    /// The weight of a host, exactly.
    pub(crate) fn weight(self, ranges: &[Range], row: u32) -> f64 {
        self.weighers.iter().zip(ranges).fold(0.0, |sum, (weigher, range)| {
            if range.max == range.min {
                return sum; // a share of zero, whatever it is multiplied by
            }
            let multiplier = weigher.multiplier(self.table, row);
            sum + multiplier * range.normalise(weigher.clamped(&self.table.columns, row))
        })
    }

    /// Whether two hosts are equal to all weighers that have a say, whatever the ranges are.
    pub(crate) fn same_raw(self, a: u32, b: u32) -> bool {
        self.weighers.iter().all(|weigher| {
            let multiplier = |row| weigher.multiplier(self.table, row);
            let clamped = |row| weigher.clamped(&self.table.columns, row);
            multiplier(a) == multiplier(b) && (multiplier(a) == 0.0 || clamped(a) == clamped(b))
        })
    }
}

/// Most weighers of a request.
pub(crate) const MOST: usize = WeigherKind::ALL.len();

/// Estimates weights of whole blocks.
#[derive(Debug)]
pub(crate) struct Estimate<'t> {
    terms: [Term<'t>; MOST],
    count: usize,
    /// By row: the symbol of its set of aggregates.
    sets: &'t [[u32; BLOCK]],
    pub(crate) error: Error,
    /// Equal values in all terms are equal weights.
    exact: bool,
}

/// How far an estimate may lie below the weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Error {
    /// The largest sum of shares that count for a host.
    largest: f64,
    /// Share of a weight's parts that all roundings together may take.
    relative: f64,
    /// What roundings may take beyond that.
    absolute: f64,
}

/// A weigher that tells hosts apart.
#[derive(Debug, Clone, Copy, Default)]
struct Term<'t> {
    /// Which weigher.
    at: usize,
    values: &'t [[f32; BLOCK]],
    /// These are the raw values themselves.
    lossless: bool,
    /// Smaller raw values count as this one; minus infinity: none do.
    minval: f64,
    floor: f32,
    min: f32,
    /// Multiplier by width of the range; with `multipliers`, the width's inverse.
    factor: f32,
    /// By row, where an aggregate overrides.
    multipliers: Option<&'t [[f32; BLOCK]]>,
    /// The smallest and the largest of these.
    extremes: (f32, f32),
}

impl<'t> Estimate<'t> {
    pub(crate) fn new(weighing: Weighing<'t>, ranges: &[Range]) -> Self {
        let Weighing { weighers, table } = weighing;
        let mut estimate = Self {
            terms: [Term::default(); MOST],
            count: 0,
            sets: table.aggregates.rows().as_chunks::<BLOCK>().0,
            error: Error::default(),
            exact: true,
        };
        for (at, (weigher, range)) in weighers.iter().zip(ranges).enumerate() {
            if let Some(column) = weigher.column(&table.columns) {
                estimate.add(at, weigher, column, *range, table);
            }
        }
        // A term is rounded in its value, its factor and their product; some also in the bound, the difference from it,
        // the multiplier and another product; then each sum once more. Twice that leaves room for the exact weight's own.
        let plain = estimate.terms().iter().all(|term| term.min == 0.0 && term.multipliers.is_none());
        let roundings = 2 * (if plain { 3 } else { 7 } + estimate.count);
        estimate.error.relative = roundings as f64 * f64::from(f32::EPSILON);
        estimate
    }

    fn terms(&self) -> &[Term<'t>] {
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
        let minval = weigher.kind.minval().unwrap_or(f64::NEG_INFINITY);
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
        self.terms[self.count] = Term {
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

    /// Of these hosts of a block, those that surely weigh the same as `row`, to the last bit.
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

    /// Whether all hosts of a block surely weigh the same as `row`. `bounds` gives those of a weigher's values there.
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

    /// [`Weighing::weight`] with what that looks up for each weigher at hand; a ranking weighs a dozen hosts.
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

    /// No host of a block whose values lie within `bounds` has a larger estimate. Each step is that of [`Self::sums`] and
    /// rounds alike, and rounding keeps order.
    pub(crate) fn most(&self, bounds: impl Fn(usize) -> (f32, f32)) -> f32 {
        self.terms().iter().fold(0.0, |sum, term| {
            let (low, high) = bounds(term.at);
            sum + term.most(low, high)
        })
    }

    /// The same for all blocks, into `most`.
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

impl Error {
    /// The threshold below which no estimate belongs to a host of at least `weight`.
    ///
    /// Roundings take a part of the sum of all shares' sizes. Of a host of that weight, shares that count for it are at
    /// most `largest` together, so those that count against it are at most `largest - weight`: a host with a million
    /// against it does not blur the comparison of those without.
    pub(crate) fn threshold(self, weight: f64) -> f32 {
        let error = (2.0 * self.largest - weight).max(0.0) * self.relative + self.absolute;
        ((weight - error) as f32).next_down()
    }
}

impl Weighing<'_> {
    /// No candidate's weight has grown by more since the ranges were `before`, its raw values being the same; of
    /// candidates now within `ranges`.
    pub(crate) fn growth(self, before: &[Range], ranges: &[Range]) -> f64 {
        if before == ranges {
            return 0.0;
        }
        let mut growth = 0.0;
        for (weigher, (before, now)) in self.weighers.iter().zip(before.iter().zip(ranges)) {
            if before == now {
                continue;
            }
            // A share changes by a linear function of the raw value, so most at one end.
            let change = |raw: f64| (now.normalise(raw) - before.normalise(raw), before.normalise(raw).abs());
            let (least, most) = weigher.extremes(self.table);
            let ends = [change(now.min), change(now.max)];
            let largest = ends.iter().fold(f64::NEG_INFINITY, |largest, (change, size)| {
                // What the difference itself may have lost to rounding.
                let slack = 1e-12 * least.abs().max(most.abs()) * (1.0 + size);
                largest.max((least * change).max(most * change) + slack)
            });
            growth += largest;
        }
        growth
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn sums<'t>(terms: &[Term<'t>], block: usize) -> [f32; BLOCK] {
    let mut sums = [0.0; BLOCK];
    for term in terms {
        term.add_to(&mut sums, block);
    }
    sums
}

impl Term<'_> {
    /// The largest share of values between these.
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
