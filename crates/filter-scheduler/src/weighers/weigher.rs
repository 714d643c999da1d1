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

use crate::settings::weigher_kind::WeigherKind;
use crate::table::aggregates::Multipliers;
use crate::table::amounts::Exact;
use crate::table::columns::RawColumn;
use crate::table::host_table::{Columns, HostTable};

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
    pub(super) multiplier: f64,
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

impl Weigher {
    /// Looks up what aggregates override.
    pub(crate) fn compile(kind: WeigherKind, multiplier: f64, table: &mut HostTable) -> Self {
        table.aggregates.prepare_multipliers(kind, multiplier);
        let raw = if table_column(kind, &table.columns).is_some() { Raw::Column } else { Raw::Zero };
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
    pub(super) fn own<'t>(&self, table: &'t HostTable) -> Option<&'t Multipliers> {
        if self.overridden { table.aggregates.multipliers(self.kind) } else { None }
    }

    /// The smallest and the largest multiplier of any host.
    pub(super) fn extremes(&self, table: &HostTable) -> (f64, f64) {
        self.own(table).map_or((self.multiplier, self.multiplier), |own| own.extremes)
    }

    /// Whether it reads a column of the request, which is computed anew for each.
    pub(crate) fn is_computed(&self) -> bool {
        matches!(self.raw, Raw::Computed(_))
    }

    pub(crate) fn column<'t>(&'t self, columns: &'t Columns) -> Option<&'t RawColumn> {
        match &self.raw {
            Raw::Column => table_column(self.kind, columns),
            Raw::Zero => None,
            Raw::Computed(computed) => Some(&computed.column),
        }
    }

    pub(crate) fn exact(&self, columns: &Columns, row: usize) -> f64 {
        match &self.raw {
            Raw::Column => exact_value(self.kind, &columns.exact[row]),
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

/// The column of the table, for those that read one.
fn table_column(kind: WeigherKind, columns: &Columns) -> Option<&RawColumn> {
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

/// The exact value behind the column.
fn exact_value(kind: WeigherKind, exact: &Exact) -> f64 {
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
