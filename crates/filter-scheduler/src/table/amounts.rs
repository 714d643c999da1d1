//! What one host has and uses, exactly, and the bounds within which columns can hold it.

use novella_objects::{AllocationRatios, HostState as Status, MAX_AMOUNT};
use novella_resources::{Amounts, Capacity};

/// Smallest allocation ratio. Ratios within these bounds keep every weighed value well inside the range of `f32`.
pub const MIN_RATIO: f64 = 1.0e-3;

/// Largest allocation ratio.
pub const MAX_RATIO: f64 = 1.0e6;

/// What a host says it has and uses; replaces what it said before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resources {
    /// CPUs to share; zero if unknown, or if the host sets them apart ([`HostTable::has_pcpus`]) none.
    pub vcpus_total: u64,
    /// Reserved and claimed CPUs.
    pub vcpus_used: u64,
    /// MiB.
    pub memory_mb_total: u64,
    /// Reserved and claimed MiB.
    pub memory_mb_used: u64,
    /// GiB.
    pub disk_gb_total: u64,
    /// Reserved and claimed GiB.
    pub disk_gb_used: u64,
    /// Overcommit; each within [`MIN_RATIO`] and [`MAX_RATIO`].
    pub ratios: AllocationRatios,
    /// Instances on the host.
    pub num_instances: u32,
    /// Nova's `io_workload`: instances that build, resize, ...
    pub num_io_ops: u32,
    /// Builds that failed in a row.
    pub failed_builds: u32,
}

impl Resources {
    /// Whether a row can hold these.
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

/// Why a row keeps its old resources.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// An amount beyond what a row holds.
    #[error("{field} is {value}, more than the largest amount this scheduler can hold, {MAX_AMOUNT}")]
    TooLarge {
        /// Of [`Resources`].
        field: &'static str,
        /// As given.
        value: u64,
    },
    /// A ratio that no fit can be computed with.
    #[error("{field} is {value}, but must be a number from {MIN_RATIO} to {MAX_RATIO}")]
    Ratio {
        /// As in configuration.
        field: &'static str,
        /// As given.
        value: f64,
    },
}

/// PCIWeigher does not tell more devices than this apart.
const MANY_PCI_DEVICES: u32 = 99;

/// What one row holds exactly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exact {
    pub(crate) reported: Resources,
    pub(crate) consumed: Amounts,
    pub(crate) status: Status,
    /// Zero if it does not say.
    pub(crate) hypervisor_version: i64,
    /// PCI devices to give away.
    pub(crate) pci_devices: u32,
    /// Of the consumed instances, those that do not count as building: their devices could not be taken.
    pub(crate) not_building: u32,
    /// It has an inventory of `PCPU`, so that its VCPUs are those that are left to share, if any.
    pub(crate) has_pcpus: bool,
}

impl Exact {
    pub(super) const EMPTY: Self = Self {
        reported: Resources {
            vcpus_total: 0,
            vcpus_used: 0,
            memory_mb_total: 0,
            memory_mb_used: 0,
            disk_gb_total: 0,
            disk_gb_used: 0,
            ratios: AllocationRatios { cpu: 1.0, ram: 1.0, disk: 1.0 },
            num_instances: 0,
            num_io_ops: 0,
            failed_builds: 0,
        },
        consumed: Amounts { vcpus: 0, memory_mb: 0, disk_gb: 0, instances: 0 },
        status: Status::Down,
        hypervisor_version: 0,
        pci_devices: 0,
        not_building: 0,
        has_pcpus: false,
    };

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

    /// CPUWeigher: `vcpus_total × cpu_allocation_ratio - vcpus_used`.
    pub(crate) fn free_vcpus(&self) -> f64 {
        self.reported.vcpus_total as f64 * self.reported.ratios.cpu - self.used().vcpus as f64
    }

    /// RAMWeigher's value, MiB. Negative on an overfull host.
    pub(crate) fn free_memory_mb(&self) -> f64 {
        self.reported.memory_mb_total as f64 - self.used().memory_mb as f64
    }

    /// GiB. Negative on an overfull host.
    pub(crate) fn free_disk_gb(&self) -> f64 {
        self.reported.disk_gb_total as f64 - self.used().disk_gb as f64
    }

    /// Reported and consumed: Nova counts each instance that it places as one that builds.
    pub(crate) fn num_io_ops(&self) -> u64 {
        let building = self.consumed.instances - self.not_building.min(self.consumed.instances);
        u64::from(self.reported.num_io_ops) + u64::from(building)
    }

    /// PCIWeigher's value: the fewer devices a host has, the better.
    pub(crate) fn few_pci_devices(&self) -> u32 {
        MANY_PCI_DEVICES + 1 - self.pci_devices.min(MANY_PCI_DEVICES)
    }
}
