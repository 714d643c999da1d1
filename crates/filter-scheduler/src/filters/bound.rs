//! How often a filter that counts would pass the same request on one host.

use novella_resources::{Amount, Amounts, Demand};

use crate::filters::devices::DeviceBound;
use crate::filters::program::{Filter, Program};
use crate::filters::ratios::set_ratio;
use crate::filters::tally::Count;
use crate::table::amounts::Exact;

/// What a filter counts, copied out of a compiled filter so that it outlives the table's lock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bound {
    /// The filter asks for room. `ratios` are those of aggregates, by the symbol of a set. `None`, or a set beyond the
    /// end, leaves the host its own ratio.
    Room { amount: Amount, ratios: Vec<Option<f64>> },
    /// The filter asks for less than a limit. `limits` are by the symbol of a set of aggregates; a set beyond the end
    /// has the first one.
    Fewer { count: Count, limits: Vec<i64> },
}

impl Filter {
    /// What this filter counts. `None` if it does not count.
    pub(crate) fn bound(&self) -> Option<Bound> {
        Some(match &self.program {
            Program::Room { amount, .. } => Bound::Room { amount: *amount, ratios: Vec::new() },
            Program::RoomOfSet { amount, ratios, .. } => {
                Bound::Room { amount: *amount, ratios: ratios.clone() }
            }
            Program::RoomOfPinned(asked) => {
                Bound::Room { amount: Amount::Vcpus, ratios: asked.ratios.clone() }
            }
            Program::Fewer { count, limit } => Bound::Fewer { count: *count, limits: vec![*limit] },
            Program::FewerOfSet { count, limits } => Bound::Fewer { count: *count, limits: limits.clone() },
            _ => return None,
        })
    }

    /// Takes out what this filter asks of NUMA cells or PCI devices, after which it passes every host. `None`, without
    /// any change, if it asks nothing of them.
    pub(crate) fn take_device_bound(&mut self) -> Option<DeviceBound> {
        match std::mem::replace(&mut self.program, Program::PassAll) {
            Program::Cells(question) => Some(DeviceBound::Cells(question)),
            Program::Devices(question) => Some(DeviceBound::Devices(question.requests)),
            program => {
                self.program = program;
                None
            }
        }
    }
}

impl Bound {
    /// How many instances the filter passes one after another on a host of this set of aggregates. `None` if there is
    /// no end.
    pub(crate) fn times(&self, exact: &Exact, set: usize, wanted: &Demand, taken: &Amounts) -> Option<u64> {
        match self {
            Self::Room { amount, ratios } => {
                let mut capacity = exact.capacity();
                if let Some(ratio) = ratios.get(set).copied().flatten() {
                    set_ratio(&mut capacity, *amount, ratio);
                }
                capacity.times(*amount, &exact.used(), wanted, taken)
            }
            Self::Fewer { count, limits } => {
                let limit = *limits.get(set).or(limits.first())?;
                let room = (i128::from(limit) - count.of(exact)).max(0);
                Some(u64::try_from(room).unwrap_or(u64::MAX))
            }
        }
    }

    /// The name of what is counted, as results show it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Room { amount: Amount::Vcpus, .. } => "vcpus",
            Self::Room { amount: Amount::MemoryMb, .. } => "memory_mb",
            Self::Room { amount: Amount::DiskMb, .. } => "disk_gb",
            Self::Fewer { count: Count::Instances, .. } => "instances",
            Self::Fewer { count: Count::IoOps, .. } => "io_ops",
        }
    }
}
