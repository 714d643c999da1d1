//! What one host has and uses, exactly, and the bounds within which columns can hold it.
//!
//! Left out: how amounts become columns, which `host_table.rs` says.

use novella_objects::{AllocationRatios, HostStatus, MAX_AMOUNT};
use novella_resources::{Amounts, Capacity};

/// The smallest allocation ratio. Ratios from it to [`MAX_RATIO`] keep every weighed value well inside the range of
/// `f32`.
pub const MIN_RATIO: f64 = 1.0e-3;

/// The largest allocation ratio.
pub const MAX_RATIO: f64 = 1.0e6;

/// The amounts that a host reports. A new report replaces all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resources {
    /// The number of CPUs that instances share. Zero means unknown, or none if the host has an inventory of `PCPU` (see
    /// `HostTable::has_pcpus`).
    pub vcpus_total: u64,
    /// The number of CPUs that are reserved or claimed.
    pub vcpus_used: u64,
    /// The memory of the host in MiB.
    pub memory_mb_total: u64,
    /// The memory in MiB that is reserved or claimed.
    pub memory_mb_used: u64,
    /// The disk of the host in GiB.
    pub disk_gb_total: u64,
    /// The disk in GiB that is reserved or claimed.
    pub disk_gb_used: u64,
    /// The allocation ratios (overcommit), each from [`MIN_RATIO`] to [`MAX_RATIO`].
    pub ratios: AllocationRatios,
    /// The number of instances on the host.
    pub num_instances: u32,
    /// The number of instances that are building, resizing and the like (Nova's `io_workload`).
    pub num_io_ops: u32,
    /// The number of builds that failed in a row.
    pub failed_builds: u32,
}

impl Resources {
    /// Checks that a row can hold these amounts.
    pub fn check(&self) -> Result<(), Unusable> {
        for (field, value) in [
            ("vcpus_total", self.vcpus_total),
            ("vcpus_used", self.vcpus_used),
            ("memory_mb_total", self.memory_mb_total),
            ("memory_mb_used", self.memory_mb_used),
            ("disk_gb_total", self.disk_gb_total),
            ("disk_gb_used", self.disk_gb_used),
        ] {
            if value > MAX_AMOUNT {
                return Err(Unusable::TooLarge { field, value });
            }
        }
        for (field, value) in [
            ("cpu_allocation_ratio", self.ratios.cpu),
            ("ram_allocation_ratio", self.ratios.ram),
            ("disk_allocation_ratio", self.ratios.disk),
        ] {
            if !(MIN_RATIO..=MAX_RATIO).contains(&value) {
                return Err(Unusable::Ratio { field, value });
            }
        }
        Ok(())
    }
}

/// Why a row cannot hold the resources of a report. The row keeps its old ones.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// An amount is larger than a row can hold.
    #[error("{field} is {value}, more than the largest amount this scheduler can hold, {MAX_AMOUNT}")]
    TooLarge {
        /// The name of the field of [`Resources`].
        field: &'static str,
        /// The amount as it was given.
        value: u64,
    },
    /// A ratio is out of bounds, or not a number.
    #[error("{field} is {value}, but must be a number from {MIN_RATIO} to {MAX_RATIO}")]
    Ratio {
        /// The name of the ratio in the configuration.
        field: &'static str,
        /// The ratio as it was given.
        value: f64,
    },
}

/// PCIWeigher does not distinguish hosts with this many devices or more.
const MANY_PCI_DEVICES: u32 = 99;

/// The exact amounts and states of one row, from which its columns are derived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact {
    /// The amounts of the host's last report.
    pub(crate) reported: Resources,
    /// The amounts that placements took on top of the report.
    pub(crate) consumed: Amounts,
    pub(crate) status: HostStatus,
    /// The hypervisor's version as Nova's number. Zero if the host does not report it.
    pub(crate) hypervisor_version: i64,
    /// The number of free PCI devices.
    pub(crate) pci_devices: u32,
    /// How many of the consumed instances do not count as building, because their devices could not be taken.
    pub(crate) not_building: u32,
    /// Whether the host has an inventory of `PCPU`. The VCPUs are then those that are left to share, if any.
    pub(crate) has_pcpus: bool,
}

impl Exact {
    pub(super) fn empty() -> Self {
        let ratios = AllocationRatios { cpu: 1.0, ram: 1.0, disk: 1.0 };
        Self {
            reported: Resources { ratios, ..Resources::default() },
            consumed: Amounts::default(),
            status: HostStatus::Down,
            hypervisor_version: 0,
            pci_devices: 0,
            not_building: 0,
            has_pcpus: false,
        }
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let Resources { vcpus_total, .. } = self.reported;
        Capacity {
            vcpus: (vcpus_total > 0 || self.has_pcpus).then_some(vcpus_total),
            memory_mb: self.reported.memory_mb_total,
            disk_gb: self.reported.disk_gb_total,
            ratios: self.reported.ratios,
        }
    }

    pub(crate) fn used(&self) -> Amounts {
        Amounts {
            vcpus: self.reported.vcpus_used,
            memory_mb: self.reported.memory_mb_used,
            disk_gb: self.reported.disk_gb_used,
            instances: self.reported.num_instances,
        }
        .plus(self.consumed)
    }

    /// CPUWeigher's value: `vcpus_total × cpu_allocation_ratio - vcpus_used`.
    pub(crate) fn free_vcpus(&self) -> f64 {
        self.reported.vcpus_total as f64 * self.reported.ratios.cpu - self.used().vcpus as f64
    }

    /// RAMWeigher's value in MiB. Negative on an overfull host.
    pub(crate) fn free_memory_mb(&self) -> f64 {
        self.reported.memory_mb_total as f64 - self.used().memory_mb as f64
    }

    /// The free disk in GiB. Negative on an overfull host.
    pub(crate) fn free_disk_gb(&self) -> f64 {
        self.reported.disk_gb_total as f64 - self.used().disk_gb as f64
    }

    /// The number of building and otherwise busy instances, reported and consumed. Nova counts each instance that it
    /// places as building.
    pub(crate) fn num_io_ops(&self) -> u64 {
        let building = self.consumed.instances - self.not_building.min(self.consumed.instances);
        u64::from(self.reported.num_io_ops) + u64::from(building)
    }

    /// PCIWeigher's value, which is larger the fewer devices a host has.
    pub(crate) fn few_pci_devices(&self) -> u32 {
        MANY_PCI_DEVICES + 1 - self.pci_devices.min(MANY_PCI_DEVICES)
    }
}
