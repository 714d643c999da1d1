//! How often a filter that counts would pass the same request on one host.

use hashbrown::HashMap;
use novella_resources::{Amount, Amounts, Demand, MB_PER_GB};

use crate::filters::devices::DeviceBound;
use crate::filters::group::Group;
use crate::filters::program::{Filter, Program};
use crate::filters::ratios::set_ratio;
use crate::filters::tally::Count;
use crate::table::view::HostState;

/// What a filter counts, copied out of a compiled filter so that it outlives the table's lock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bound {
    /// The filter asks for room. `ratios` are those of aggregates, by the symbol of a set. `None`, or a set beyond the
    /// end, leaves the host its own ratio.
    Room { amount: Amount, ratios: Vec<Option<f64>> },
    /// The filter asks for less than a limit. `limits` are by the symbol of a set of aggregates; a set beyond the end
    /// has the first one.
    Fewer { count: Count, limits: Vec<i64> },
    /// The filter allows `most` members of a server group on a host. `members` has the rows with members, each with
    /// their number.
    Members { most: u64, members: HashMap<u32, i32> },
}

impl Filter {
    /// What this filter counts. `None` if it does not count. `group` is the server group of the request.
    pub(crate) fn bound(&self, group: Option<&Group>) -> Option<Bound> {
        Some(match &self.program {
            Program::Apart => Bound::Members { most: group?.most()?, members: group?.rows().collect() },
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

    /// Removes what this filter asks of NUMA cells or PCI devices, after which it passes every host. `None`, without
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
    /// How many instances the filter passes, one after another, on a host of this set of aggregates. `None` if there is
    /// no limit.
    pub(crate) fn times(
        &self,
        host: &HostState<'_>,
        set: usize,
        wanted: &Demand,
        taken: &Amounts,
    ) -> Option<u64> {
        let exact = host.exact();
        match self {
            Self::Members { most, members } => {
                let here = members.get(&host.row().0).copied().unwrap_or_default();
                Some(most.saturating_sub(here.unsigned_abs().into()))
            }
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

    /// Whether the filter passes an instance of another request that takes these amounts. A server group is that of the
    /// counted request, so it is not asked.
    pub(crate) fn passes_other(&self, host: &HostState<'_>, set: usize, size: &Amounts) -> bool {
        let wanted = Demand {
            vcpus: Some(size.vcpus),
            memory_mb: Some(size.memory_mb),
            disk_mb: Some(size.disk_gb.saturating_mul(MB_PER_GB)),
        };
        matches!(self, Self::Members { .. }) || self.times(host, set, &wanted, size) != Some(0)
    }

    /// The name of what is counted, as results show it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Room { amount: Amount::Vcpus, .. } => "vcpus",
            Self::Room { amount: Amount::MemoryMb, .. } => "memory_mb",
            Self::Room { amount: Amount::DiskMb, .. } => "disk_gb",
            Self::Fewer { count: Count::Instances, .. } => "instances",
            Self::Fewer { count: Count::IoOps, .. } => "io_ops",
            Self::Members { .. } => "members",
        }
    }
}
