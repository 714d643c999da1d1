//! Weighers: columns of raw values, and Nova's normalisation of them.
//!
//! The weight of a host is the sum of multiplier × normalised value over all weighers, computed in `f64` in the order
//! of the weighers, so that it equals Nova's to the last bit. Doing so for every host would cost a division per host
//! and weigher. So a scan first estimates weights in `f32` (`estimate.rs`), and only hosts that may be among the best
//! are weighed exactly.
//!
//! Most weighers read a column of the table. Values that depend on the request (members of a group, metrics, cells) are
//! computed into a column of the request, and only if they can tell hosts apart. A multiplier is one number, unless an
//! aggregate overrides it; then it is a column too.
//!
//! To add a weigher: a variant in `WeigherKind`, its column and exact value here, and a rule in `tests/reference.rs`.
//!
//! While a host is suspect, novella's own [`SUSPECT_WEIGHER`] follows Nova's weighers. It takes more from a suspect host
//! than all others together can give, so any host that is up comes before any suspect one.

use novella_objects::HostStatus;

use crate::settings::weigher_kind::WeigherKind;
use crate::table::aggregates::Multipliers;
use crate::table::amounts::Exact;
use crate::table::columns::RawColumn;
use crate::table::host_table::{Columns, HostTable};

/// The smallest and the largest raw value of one weigher among the candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Range {
    /// Normalises a raw value to a number from 0 to 1. It is 0 if all candidates are equal.
    pub(crate) fn normalise(self, raw: f64) -> f64 {
        if self.max == self.min { 0.0 } else { (raw - self.min) / (self.max - self.min) }
    }
}

/// The name of the weigher that puts suspect hosts last. It cannot be configured.
pub const SUSPECT_WEIGHER: &str = "SuspectWeigher";

/// The multiplier of [`SUSPECT_WEIGHER`]. `largest` is the sum of the largest sizes of all other multipliers. The sums of
/// their shares lie within twice that of each other, and the factor leaves room for roundings.
pub fn suspect_multiplier(largest: f64) -> f64 {
    -(1.0 + 4.0 * largest)
}

/// Which weigher it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeigherRule {
    /// One of Nova's, which the settings list.
    Configured(WeigherKind),
    /// The one that puts suspect hosts last.
    Suspect,
}

impl WeigherRule {
    /// The name in explanations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Configured(kind) => kind.name(),
            Self::Suspect => SUSPECT_WEIGHER,
        }
    }

    /// The factor from the column's unit to the unit that is shown.
    pub(crate) fn unit(self) -> f64 {
        match self {
            Self::Configured(kind) => kind.unit(),
            Self::Suspect => 1.0,
        }
    }

    /// See [`WeigherKind::minval`].
    pub(crate) fn minval(self) -> Option<f64> {
        match self {
            Self::Configured(kind) => kind.minval(),
            Self::Suspect => None,
        }
    }

    /// See [`WeigherKind::clamp`].
    pub(crate) fn clamp(self, raw: f64) -> f64 {
        match self {
            Self::Configured(kind) => kind.clamp(raw),
            Self::Suspect => raw,
        }
    }
}

/// One weigher, compiled for one request.
#[derive(Debug)]
pub(crate) struct Weigher {
    pub(crate) rule: WeigherRule,
    /// The signed multiplier of hosts for which no aggregate overrides it.
    pub(super) multiplier: f64,
    /// Whether an aggregate overrides the multiplier.
    overridden: bool,
    /// Where its raw values come from.
    raw: Raw,
}

/// Where the raw values of a weigher come from.
#[derive(Debug)]
enum Raw {
    /// From a column of the table.
    Column,
    /// All values are zero, because the request gives the weigher nothing to tell hosts apart by.
    Zero,
    /// From a column that was computed for the request.
    Computed(Box<Computed>),
}

/// The raw values of one weigher that were computed for one request, by row.
#[derive(Debug, Default)]
pub(crate) struct Computed {
    /// The values, rounded to `f32`.
    column: RawColumn,
    /// The exact values. Empty if `column` is exact.
    exact: Vec<f64>,
}

impl Computed {
    /// A column of zeros, to be filled with whole numbers.
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

impl Weigher {
    /// Prepares a weigher, and looks up whether an aggregate overrides its multiplier.
    pub(crate) fn compile(kind: WeigherKind, multiplier: f64, table: &mut HostTable) -> Self {
        table.aggregates.prepare_multipliers(kind, multiplier);
        let rule = WeigherRule::Configured(kind);
        let raw = if table_column(rule, &table.columns).is_some() { Raw::Column } else { Raw::Zero };
        let overridden = table.aggregates.multipliers(kind).is_some();
        Self { rule, multiplier: multiplier * kind.sign(), overridden, raw }
    }

    /// The weigher that puts suspect hosts last, behind these others with their configured multipliers.
    pub(crate) fn suspect(others: &[(WeigherKind, f64)], table: &HostTable) -> Self {
        let sizes = others.iter().map(|&(kind, own)| table.aggregates.largest_multiplier(kind, own));
        let multiplier = suspect_multiplier(sizes.sum());
        Self { rule: WeigherRule::Suspect, multiplier, overridden: false, raw: Raw::Column }
    }

    /// Makes sure that the table still has the multipliers that [`Self::compile`] looked up. Another scheduler may have
    /// asked for others since.
    pub(crate) fn prepare(&self, table: &mut HostTable) {
        if let WeigherRule::Configured(kind) = self.rule {
            table.aggregates.prepare_multipliers(kind, self.multiplier * kind.sign());
        }
    }

    /// Replaces the raw values by a column of the request.
    pub(crate) fn set_computed(&mut self, computed: Computed) {
        self.raw = Raw::Computed(Box::new(computed));
    }

    /// The column of the request, if the weigher has one.
    pub(crate) fn computed(&mut self) -> Option<&mut Computed> {
        match &mut self.raw {
            Raw::Computed(computed) => Some(computed),
            Raw::Column | Raw::Zero => None,
        }
    }

    /// The multiplier of a host's share.
    pub(crate) fn multiplier(&self, table: &HostTable, row: u32) -> f64 {
        match self.own(table) {
            Some(own) => own.by_set[table.aggregates.set_of(row as usize) as usize],
            None => self.multiplier,
        }
    }

    /// The multipliers that aggregates give, if one overrides the configured multiplier.
    pub(super) fn own<'t>(&self, table: &'t HostTable) -> Option<&'t Multipliers> {
        match self.rule {
            WeigherRule::Configured(kind) if self.overridden => table.aggregates.multipliers(kind),
            _ => None,
        }
    }

    /// The smallest and the largest multiplier of any host.
    pub(super) fn extremes(&self, table: &HostTable) -> (f64, f64) {
        self.own(table).map_or((self.multiplier, self.multiplier), |own| own.extremes)
    }

    /// Whether the weigher reads a column of the request, which is computed again for each request.
    pub(crate) fn is_computed(&self) -> bool {
        matches!(self.raw, Raw::Computed(_))
    }

    pub(crate) fn column<'t>(&'t self, columns: &'t Columns) -> Option<&'t RawColumn> {
        match &self.raw {
            Raw::Column => table_column(self.rule, columns),
            Raw::Zero => None,
            Raw::Computed(computed) => Some(&computed.column),
        }
    }

    pub(crate) fn exact(&self, columns: &Columns, row: usize) -> f64 {
        match &self.raw {
            Raw::Column => exact_value(self.rule, &columns.exact[row]),
            Raw::Zero => 0.0,
            Raw::Computed(computed) => computed.exact[row],
        }
    }

    /// The exact raw value of a host, in the column's unit.
    pub(crate) fn raw(&self, columns: &Columns, row: u32) -> f64 {
        match self.column(columns) {
            None => 0.0,
            Some(column) if column.changed == 0 => f64::from(column.rounded[row as usize]),
            Some(_) => self.exact(columns, row as usize),
        }
    }

    /// The exact raw value of a host, raised to Nova's `minval`.
    pub(crate) fn clamped(&self, columns: &Columns, row: u32) -> f64 {
        self.rule.clamp(self.raw(columns, row))
    }
}

/// The weighers of a request and the table that they weigh.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighing<'a> {
    pub(crate) weighers: &'a [Weigher],
    pub(crate) table: &'a HostTable,
}

impl Weighing<'_> {
    /// The exact weight of a host.
    pub(crate) fn weight(self, ranges: &[Range], row: u32) -> f64 {
        self.weighers.iter().zip(ranges).fold(0.0, |sum, (weigher, range)| {
            if range.max == range.min {
                return sum; // the share is zero, whatever the multiplier
            }
            let multiplier = weigher.multiplier(self.table, row);
            sum + multiplier * range.normalise(weigher.clamped(&self.table.columns, row))
        })
    }

    /// Whether two hosts have the same share for every weigher, whatever the ranges are.
    pub(crate) fn same_raw(self, a: u32, b: u32) -> bool {
        self.weighers.iter().all(|weigher| {
            let multiplier = |row| weigher.multiplier(self.table, row);
            let clamped = |row| weigher.clamped(&self.table.columns, row);
            multiplier(a) == multiplier(b) && (multiplier(a) == 0.0 || clamped(a) == clamped(b))
        })
    }

    /// An upper bound of how much a candidate's weight has grown since the ranges were `before`, if its raw values are
    /// the same and lie within `ranges` now.
    pub(crate) fn growth(self, before: &[Range], ranges: &[Range]) -> f64 {
        if before == ranges {
            return 0.0;
        }
        let mut growth = 0.0;
        for (weigher, (before, now)) in self.weighers.iter().zip(before.iter().zip(ranges)) {
            if before == now {
                continue;
            }
            // The change of a share is linear in the raw value, so it is largest at one end of the range.
            let change = |raw: f64| (now.normalise(raw) - before.normalise(raw), before.normalise(raw).abs());
            let (least, most) = weigher.extremes(self.table);
            let ends = [change(now.min), change(now.max)];
            let largest = ends.iter().fold(f64::NEG_INFINITY, |largest, (change, size)| {
                // The slack covers what rounding may have taken from the difference.
                let slack = 1e-12 * least.abs().max(most.abs()) * (1.0 + size);
                largest.max((least * change).max(most * change) + slack)
            });
            growth += largest;
        }
        growth
    }
}

/// The column of the table that a weigher reads, if it reads one.
fn table_column(rule: WeigherRule, columns: &Columns) -> Option<&RawColumn> {
    let WeigherRule::Configured(kind) = rule else { return Some(&columns.suspect) };
    Some(match kind {
        WeigherKind::Ram => &columns.free_memory_mb,
        WeigherKind::Cpu => &columns.free_vcpus,
        WeigherKind::Disk => &columns.free_disk_gb,
        WeigherKind::IoOps => &columns.num_io_ops,
        WeigherKind::HypervisorVersion => &columns.hypervisor_version,
        WeigherKind::NumInstances => &columns.num_instances,
        WeigherKind::Pci => &columns.few_pci_devices,
        WeigherKind::BuildFailure => &columns.failed_builds,
        WeigherKind::SoftAffinity
        | WeigherKind::SoftAntiAffinity
        | WeigherKind::CrossCell
        | WeigherKind::Metrics
        | WeigherKind::ImageProperties => return None,
    })
}

/// The exact value that the column holds rounded.
fn exact_value(rule: WeigherRule, exact: &Exact) -> f64 {
    let WeigherRule::Configured(kind) = rule else {
        return f64::from(u8::from(exact.status == HostStatus::Suspect));
    };
    match kind {
        WeigherKind::Ram => exact.free_memory_mb(),
        WeigherKind::Cpu => exact.free_vcpus(),
        WeigherKind::Disk => exact.free_disk_gb(),
        WeigherKind::IoOps => exact.num_io_ops() as f64,
        WeigherKind::HypervisorVersion => exact.hypervisor_version as f64,
        WeigherKind::NumInstances => f64::from(exact.used().instances),
        WeigherKind::Pci => f64::from(exact.few_pci_devices()),
        WeigherKind::BuildFailure => f64::from(exact.reported.failed_builds),
        WeigherKind::SoftAffinity
        | WeigherKind::SoftAntiAffinity
        | WeigherKind::CrossCell
        | WeigherKind::Metrics
        | WeigherKind::ImageProperties => 0.0,
    }
}
