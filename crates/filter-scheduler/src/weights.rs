//! Weighers: raw columns, Nova's normalisation, and a fast estimate of the result.
//!
//! The weight of a host is Σ multiplier × normalised, computed in `f64` in the order of the weighers, to the last bit as
//! Nova computes it. Doing so for every host would cost a division per host and weigher, so a scan first estimates
//! weights in `f32` with a known error, and only hosts that may be among the best are weighed exactly.
//!
//! To add one: a variant in `WeigherKind`, its column and exact value here, a rule in `tests/reference.rs`.

use novella_resources::MB_PER_GB;

use crate::bitmap::{above_f32, equal_f32, max_or_zero, word_bits};
use crate::host_table::{BLOCK, Columns, Exact, RawColumn};
use crate::options::WeigherKind;

/// All weighers there are now have Nova's `minval` of zero: smaller raw values count as zero.
const MINVAL: f64 = 0.0;

/// The bounds of one weigher's raw values among the candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Range {
    /// 0 … 1; zero where all candidates are equal and nothing is to be told apart.
    pub(crate) fn normalise(self, raw: f64) -> f64 {
        if self.max == self.min { 0.0 } else { (raw.max(MINVAL) - self.min) / (self.max - self.min) }
    }
}

impl WeigherKind {
    fn column(self, columns: &Columns) -> &RawColumn {
        match self {
            Self::Ram => &columns.free_memory_mb,
            Self::Cpu => &columns.free_vcpus,
            Self::Disk => &columns.free_disk_gb,
        }
    }

    fn exact(self, exact: &Exact) -> f64 {
        match self {
            Self::Ram => exact.free_memory_mb(),
            Self::Cpu => exact.free_vcpus(),
            Self::Disk => exact.free_disk_gb(),
        }
    }

    /// From the column's unit to that of Nova's raw value. A power of two, so no normalised bit depends on it.
    pub(crate) fn unit(self) -> f64 {
        match self {
            Self::Ram | Self::Cpu => 1.0,
            Self::Disk => MB_PER_GB as f64,
        }
    }

    /// One host's raw value, exactly, in the column's unit.
    pub(crate) fn raw(self, columns: &Columns, row: u32) -> f64 {
        let column = self.column(columns);
        if column.changed == 0 {
            return f64::from(column.rounded[row as usize]);
        }
        self.exact(&columns.exact[row as usize])
    }

    /// The bounds among the rows whose bit is set in `alive`.
    pub(crate) fn range(self, columns: &Columns, alive: &[u64]) -> Range {
        let column = self.column(columns);
        let blocks = column.rounded.as_chunks::<BLOCK>().0;
        let mut largest = 0.0f32;
        for (values, &alive) in blocks.iter().zip(alive) {
            if alive != 0 {
                largest = largest.max(max_or_zero(values, alive));
            }
        }
        if column.changed == 0 || largest == 0.0 {
            return Range { min: MINVAL, max: f64::from(largest) };
        }
        // Rounding keeps order: the largest exact value is among those that round to the largest.
        let mut max = MINVAL;
        for (block, (values, &alive)) in blocks.iter().zip(alive).enumerate() {
            if alive != 0 {
                for bit in word_bits(alive & above_f32(values, largest.next_down())) {
                    max = self.exact(&columns.exact[block * BLOCK + bit]).max(max);
                }
            }
        }
        Range { min: MINVAL, max }
    }
}

/// The weight of a host, exactly.
pub(crate) fn weight(weighers: &[(WeigherKind, f64)], ranges: &[Range], columns: &Columns, row: u32) -> f64 {
    weighers.iter().zip(ranges).fold(0.0, |sum, (&(kind, multiplier), range)| {
        sum + multiplier * range.normalise(kind.raw(columns, row))
    })
}

/// Whether two hosts are equal to all weighers that have a say, whatever the ranges are.
pub(crate) fn same_raw(weighers: &[(WeigherKind, f64)], columns: &Columns, a: u32, b: u32) -> bool {
    weighers.iter().all(|&(kind, multiplier)| {
        multiplier == 0.0 || kind.raw(columns, a).max(MINVAL) == kind.raw(columns, b).max(MINVAL)
    })
}

/// Estimates weights of whole blocks.
#[derive(Debug)]
pub(crate) struct Estimate<'t> {
    /// Values and the factor of each weigher that tells hosts apart.
    terms: Vec<(&'t [[f32; BLOCK]], f32)>,
    /// No estimate is further than this from the exact weight.
    error: f64,
    /// Equal values in all terms are equal weights.
    exact: bool,
}

impl<'t> Estimate<'t> {
    pub(crate) fn new(weighers: &[(WeigherKind, f64)], ranges: &[Range], columns: &'t Columns) -> Self {
        let mut terms = Vec::new();
        let mut magnitude = 0.0;
        let mut exact = true;
        for (&(kind, multiplier), range) in weighers.iter().zip(ranges) {
            // min is zero for every weigher there is, so an estimated term is a plain product.
            if multiplier != 0.0 && range.max != range.min {
                let factor = (multiplier / range.max) as f32;
                let column = kind.column(columns);
                exact &= column.changed == 0;
                terms.push((column.rounded.as_chunks::<BLOCK>().0, factor));
                magnitude += multiplier.abs();
            }
        }
        // Each term is at most its multiplier and rounded three times (value, factor, product); each of the sums once
        // more. Twice that leaves room for the exact weight's own rounding.
        let roundings = 2 * (3 + terms.len());
        Self { terms, error: magnitude * roundings as f64 * f64::from(f32::EPSILON), exact }
    }

    /// The hosts of a block that surely weigh the same as `row`, to the last bit.
    pub(crate) fn twins(&self, block: usize, row: u32) -> u64 {
        if !self.exact {
            return 0;
        }
        let (at, lane) = (row as usize / BLOCK, row as usize % BLOCK);
        self.terms
            .iter()
            .fold(u64::MAX, |twins, (blocks, _)| twins & equal_f32(&blocks[block], blocks[at][lane]))
    }

    /// The hosts of a block whose estimate lies above `than`.
    pub(crate) fn above(&self, block: usize, than: f32) -> u64 {
        let mut sums = [0.0f32; BLOCK];
        for (blocks, factor) in &self.terms {
            for (sum, value) in sums.iter_mut().zip(&blocks[block]) {
                *sum += factor * if *value > 0.0 { *value } else { 0.0 };
            }
        }
        above_f32(&sums, than)
    }

    /// The threshold below which no estimate belongs to a host of at least `weight`.
    pub(crate) fn threshold(&self, weight: f64) -> f32 {
        ((weight - self.error) as f32).next_down()
    }
}
