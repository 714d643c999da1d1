//! Reading hosts: one row, or all rows as they were at one instant.

use std::sync::Arc;

use novella_objects::HostState as Status;
use novella_resources::{Amounts, Limits, MB_PER_GB, Room};

use crate::table::amounts::{Exact, Resources};
use crate::table::block::Row;
use crate::table::names::Names;

/// Many rows at one instant; see [`HostTable::snapshot`].
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) names: Arc<Vec<Option<Names>>>,
    pub(super) exact: Vec<Exact>,
    pub(super) zone: Vec<u32>,
    pub(super) zones: Vec<Option<Box<str>>>,
    pub(super) set: Vec<u32>,
    /// By set of aggregates.
    pub(super) zone_of_set: Vec<Option<Box<str>>>,
}

impl Snapshot {
    /// All hosts, in fleet order.
    pub fn hosts(&self) -> impl Iterator<Item = HostState<'_>> {
        self.names.iter().zip(&self.exact).zip(self.zone.iter().zip(&self.set)).enumerate().filter_map(
            |(at, ((names, exact), (&zone, &set)))| {
                let own = self.zones.get(zone as usize).and_then(|z| z.as_deref());
                let zone = self.zone_of_set[set as usize].as_deref().or(own);
                names.as_ref().map(|names| HostState { row: Row(at as u32), names, exact, zone })
            },
        )
    }
}

/// A read view of one row: Nova's HostState.
#[derive(Debug, Clone, Copy)]
pub struct HostState<'a> {
    pub(super) row: Row,
    pub(super) names: &'a Names,
    pub(super) exact: &'a Exact,
    pub(super) zone: Option<&'a str>,
}

impl<'a> HostState<'a> {
    /// Its row.
    pub fn row(&self) -> Row {
        self.row
    }

    /// Its amounts.
    pub(crate) fn exact(&self) -> &'a Exact {
        self.exact
    }

    /// Service host name.
    pub fn host(&self) -> &'a str {
        self.names.host()
    }

    /// Compute node name.
    pub fn nodename(&self) -> &'a str {
        self.names.nodename()
    }

    /// Whether it may be given work.
    pub fn status(&self) -> Status {
        self.exact.status
    }

    /// Its zone: that of its aggregates' metadata (several are joined by commas), or else its own, if it names one.
    pub fn zone(&self) -> Option<&'a str> {
        self.zone
    }

    /// What it reported last.
    pub fn reported(&self) -> &'a Resources {
        &self.exact.reported
    }

    /// What is consumed on top of that.
    pub fn consumed(&self) -> Amounts {
        self.exact.consumed
    }

    /// Reported and consumed together.
    pub fn used(&self) -> Amounts {
        self.exact.used()
    }

    /// Instances that build, resize or move, those consumed among them.
    pub fn num_io_ops(&self) -> u64 {
        self.exact.num_io_ops()
    }

    /// The largest single instance that still fits.
    pub fn room(&self) -> Room {
        self.exact.capacity().room(&self.exact.used())
    }

    /// Total × ratio.
    pub fn limits(&self) -> Limits {
        self.exact.capacity().limits()
    }

    /// CPUWeigher's raw value.
    pub fn free_vcpus(&self) -> f64 {
        self.exact.free_vcpus()
    }

    /// RAMWeigher's raw value.
    pub fn free_memory_mb(&self) -> f64 {
        self.exact.free_memory_mb()
    }

    /// DiskWeigher's raw value.
    pub fn free_disk_mb(&self) -> f64 {
        self.exact.free_disk_gb() * MB_PER_GB as f64
    }
}
