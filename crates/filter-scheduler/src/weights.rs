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

use novella_resources::MB_PER_GB;

use crate::bitmap::{above_f32, either, equal_f32, max_or_zero, min_max, word_bits};
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
    Computed(Computed),
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
    fn minval(self) -> Option<f64> {
        matches!(self, Self::Ram | Self::Cpu | Self::Disk | Self::IoOps).then_some(0.0)
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

    /// Gives it a column of the request.
    pub(crate) fn set_computed(&mut self, computed: Computed) {
        self.raw = Raw::Computed(computed);
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
        let own = || table.aggregates.multipliers(self.kind);
        match if self.overridden { own() } else { None } {
            Some(own) => own.by_set[table.aggregates.set_of(row as usize) as usize],
            None => self.multiplier,
        }
    }

    fn column<'t>(&'t self, columns: &'t Columns) -> Option<&'t RawColumn> {
        match &self.raw {
            Raw::Column => self.kind.column(columns),
            Raw::Zero => None,
            Raw::Computed(computed) => Some(&computed.column),
        }
    }

    fn exact(&self, columns: &Columns, row: usize) -> f64 {
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
        let raw = self.raw(columns, row);
        self.kind.minval().map_or(raw, |minval| raw.max(minval))
    }

    /// The bounds among the rows whose bit is set in `alive`, of which there is one.
    pub(crate) fn range(&self, columns: &Columns, alive: &[u64]) -> Range {
        let Some(column) = self.column(columns) else { return Range::default() };
        match self.kind.minval() {
            Some(min) => Range { min, max: self.largest(column, columns, alive) },
            None => self.bounds(column, columns, alive),
        }
    }

    /// The largest value, or zero.
    fn largest(&self, column: &RawColumn, columns: &Columns, alive: &[u64]) -> f64 {
        let blocks = column.rounded.as_chunks::<BLOCK>().0;
        let mut largest = 0.0f32;
        for (values, &alive) in blocks.iter().zip(alive) {
            if alive != 0 {
                largest = largest.max(max_or_zero(values, alive));
            }
        }
        if column.changed == 0 || largest == 0.0 {
            return f64::from(largest);
        }
        // Rounding keeps order: the largest exact value is among those that round to the largest.
        let mut max = 0.0f64;
        for (block, (values, &alive)) in blocks.iter().zip(alive).enumerate() {
            if alive != 0 {
                for bit in word_bits(alive & above_f32(values, largest.next_down())) {
                    max = self.exact(columns, block * BLOCK + bit).max(max);
                }
            }
        }
        max
    }

    fn bounds(&self, column: &RawColumn, columns: &Columns, alive: &[u64]) -> Range {
        let blocks = column.rounded.as_chunks::<BLOCK>().0;
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for (values, &alive) in blocks.iter().zip(alive) {
            if alive != 0 {
                let (low, high) = min_max(values, alive);
                (least, most) = (least.min(low), most.max(high));
            }
        }
        let rounded = Range { min: f64::from(least), max: f64::from(most) };
        if column.changed == 0 {
            return rounded;
        }
        let exact = crate::bitmap::bits(alive).map(|row| self.exact(columns, row));
        exact.fold(Range { min: f64::INFINITY, max: f64::NEG_INFINITY }, |range, raw| Range {
            min: range.min.min(raw),
            max: range.max.max(raw),
        })
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

/// Estimates weights of whole blocks.
#[derive(Debug)]
pub(crate) struct Estimate<'t> {
    terms: Vec<Term<'t>>,
    /// By row: the symbol of its set of aggregates.
    sets: &'t [[u32; BLOCK]],
    /// The largest sum of shares that count for a host.
    largest: f64,
    /// Share of a weight's parts that all roundings together may take.
    relative: f64,
    /// What roundings may take beyond that.
    absolute: f64,
    /// Equal values in all terms are equal weights.
    exact: bool,
}

/// A weigher that tells hosts apart.
#[derive(Debug)]
struct Term<'t> {
    values: &'t [[f32; BLOCK]],
    floor: f32,
    min: f32,
    /// Multiplier by width of the range; with `multipliers`, the width's inverse.
    factor: f32,
    /// By row, where an aggregate overrides.
    multipliers: Option<&'t [[f32; BLOCK]]>,
}

impl<'t> Estimate<'t> {
    pub(crate) fn new(weighing: Weighing<'t>, ranges: &[Range]) -> Self {
        let Weighing { weighers, table } = weighing;
        let mut estimate = Self {
            terms: Vec::with_capacity(weighers.len()),
            sets: table.aggregates.rows().as_chunks::<BLOCK>().0,
            largest: 0.0,
            relative: 0.0,
            absolute: 0.0,
            exact: true,
        };
        for (weigher, range) in weighers.iter().zip(ranges) {
            if let Some(column) = weigher.column(&table.columns) {
                estimate.add(weigher, column, *range, table);
            }
        }
        // A term is rounded in its value, its factor and their product; some also in the bound, the difference from it,
        // the multiplier and another product; then each sum once more. Twice that leaves room for the exact weight's own.
        let plain = estimate.terms.iter().all(|term| term.min == 0.0 && term.multipliers.is_none());
        let roundings = 2 * (if plain { 3 } else { 7 } + estimate.terms.len());
        estimate.relative = roundings as f64 * f64::from(f32::EPSILON);
        estimate
    }

    fn add(&mut self, weigher: &'t Weigher, column: &'t RawColumn, range: Range, table: &'t HostTable) {
        let own = if weigher.overridden { table.aggregates.multipliers(weigher.kind) } else { None };
        let width = range.max - range.min;
        if width == 0.0 || (own.is_none() && weigher.multiplier == 0.0) {
            return;
        }
        let (mut most, mut size) = (weigher.multiplier.max(0.0), weigher.multiplier.abs());
        for multiplier in own.iter().flat_map(|own| &own.by_set) {
            (most, size) = (most.max(*multiplier), size.max(multiplier.abs()));
        }
        self.largest += most;
        if column.changed > 0 {
            self.exact = false;
            if range.min != 0.0 {
                // The difference of two rounded numbers may be far smaller than either.
                let magnitude = range.min.abs().max(range.max.abs()) / width;
                self.absolute += size * magnitude * 4.0 * f64::from(f32::EPSILON);
            }
        }
        self.terms.push(Term {
            values: column.rounded.as_chunks::<BLOCK>().0,
            floor: weigher.kind.minval().map_or(f32::NEG_INFINITY, |minval| minval as f32),
            min: range.min as f32,
            factor: if own.is_some() { 1.0 / width } else { weigher.multiplier / width } as f32,
            multipliers: own.map(|own| own.rounded.as_chunks::<BLOCK>().0),
        });
    }

    /// The hosts of a block that surely weigh the same as `row`, to the last bit.
    pub(crate) fn twins(&self, block: usize, row: u32) -> u64 {
        if !self.exact {
            return 0;
        }
        let (at, lane) = (row as usize / BLOCK, row as usize % BLOCK);
        let set = self.sets[at][lane];
        self.terms.iter().fold(u64::MAX, |twins, term| {
            let own = term.multipliers.map_or(u64::MAX, |_| either(&self.sets[block], set, set));
            twins & own & equal_f32(&term.values[block], term.values[at][lane])
        })
    }

    /// The hosts of a block whose estimate lies above `than`.
    pub(crate) fn above(&self, block: usize, than: f32) -> u64 {
        let mut sums = [0.0f32; BLOCK];
        for term in &self.terms {
            term.add_to(&mut sums, block);
        }
        above_f32(&sums, than)
    }

    /// The threshold below which no estimate belongs to a host of at least `weight`.
    ///
    /// Roundings take a part of the sum of all shares' sizes. Of a host of that weight, shares that count for it are at
    /// most `largest` together, so those that count against it are at most `largest - weight`: a host with a million
    /// against it does not blur the comparison of those without.
    pub(crate) fn threshold(&self, weight: f64) -> f32 {
        let error = (2.0 * self.largest - weight).max(0.0) * self.relative + self.absolute;
        ((weight - error) as f32).next_down()
    }
}

impl Term<'_> {
    fn add_to(&self, sums: &mut [f32; BLOCK], block: usize) {
        let values = sums.iter_mut().zip(&self.values[block]);
        let raised = |value: f32| if value > self.floor { value } else { self.floor };
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
