//! Reading hosts: one row, or a copy of all rows at one instant.
//!
//! Left out: traits and instances, for which the table has functions of its own.

use std::sync::Arc;

use novella_objects::HostStatus;
use novella_resources::{Amounts, Limits, MB_PER_GB};

use crate::table::amounts::{Exact, Resources};
use crate::table::block::Row;
use crate::table::names::Names;

/// All rows at one instant; see `HostTable::snapshot`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) names: Arc<Vec<Option<Names>>>,
    pub(super) exact: Vec<Exact>,
    pub(super) zone: Vec<u32>,
    pub(super) zones: Vec<Option<Box<str>>>,
    pub(super) set: Vec<u32>,
    /// The zone that each set of aggregates names, if it names one.
    pub(super) zone_of_set: Vec<Option<Box<str>>>,
}

impl Snapshot {
    /// All hosts, in fleet order.
    pub fn hosts(&self) -> impl Iterator<Item = HostState<'_>> {
        self.names.iter().zip(&self.exact).zip(self.zone.iter().zip(&self.set)).enumerate().filter_map(
            |(at, ((names, exact), (&zone, &set)))| {
                let own = self.zones.get(zone as usize).and_then(|z| z.as_deref());
                let of_set = self.zone_of_set[set as usize].as_deref();
                let zone = of_set.or(own);
                names.as_ref().map(|names| HostState { row: Row(at as u32), names, exact, of_set, zone })
            },
        )
    }
}

/// A view of one row, with what Nova's HostState has.
#[derive(Debug, Clone, Copy)]
pub struct HostState<'a> {
    pub(super) row: Row,
    pub(super) names: &'a Names,
    pub(super) exact: &'a Exact,
    /// The zones that the host's aggregates name, joined by commas.
    pub(super) of_set: Option<&'a str>,
    pub(super) zone: Option<&'a str>,
}

impl<'a> HostState<'a> {
    /// The host's row.
    pub fn row(&self) -> Row {
        self.row
    }

    pub(crate) fn exact(&self) -> &'a Exact {
        self.exact
    }

    /// The same host with other amounts.
    pub(crate) fn with_amounts<'b>(&self, exact: &'b Exact) -> HostState<'b>
    where
        'a: 'b,
    {
        HostState { exact, ..*self }
    }

    /// The name of the service host.
    pub fn host(&self) -> &'a str {
        self.names.host()
    }

    /// The name of the compute node.
    pub fn nodename(&self) -> &'a str {
        self.names.nodename()
    }

    /// The host's status, which says whether instances may be placed on it.
    pub fn status(&self) -> HostStatus {
        self.exact.status
    }

    /// The host's availability zone: the one that its aggregates' metadata name (several are joined by commas), or else
    /// the one that it names itself. `None` if neither is there.
    pub fn zone(&self) -> Option<&'a str> {
        self.zone
    }

    /// The zones that the host's aggregates name, if they name more than one.
    pub fn conflicting_zones(&self) -> impl Iterator<Item = &'a str> {
        self.of_set.filter(|zones| zones.contains(',')).into_iter().flat_map(|zones| zones.split(','))
    }

    /// The amounts that the host reported last.
    pub fn reported(&self) -> &'a Resources {
        &self.exact.reported
    }

    /// The amounts that are consumed on top of the reported ones.
    pub fn consumed(&self) -> Amounts {
        self.exact.consumed
    }

    /// The amounts that are used, reported and consumed together.
    pub fn used(&self) -> Amounts {
        self.exact.used()
    }

    /// The number of instances that are building, resizing and the like. Consumed ones count as building.
    pub fn num_io_ops(&self) -> u64 {
        self.exact.num_io_ops()
    }

    /// The most that may be used of each amount: its total times its allocation ratio.
    pub fn limits(&self) -> Limits {
        self.exact.capacity().limits()
    }

    /// RAMWeigher's raw value: the free memory in MiB.
    pub fn free_memory_mb(&self) -> f64 {
        self.exact.free_memory_mb()
    }

    /// DiskWeigher's raw value: the free disk in MiB.
    pub fn free_disk_mb(&self) -> f64 {
        self.exact.free_disk_gb() * MB_PER_GB as f64
    }
}
