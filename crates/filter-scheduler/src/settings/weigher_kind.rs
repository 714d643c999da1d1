//! The weighers, by Nova's class names, and what is known about each without a request.
//!
//! Left out: how a weigher values a host, which the modules in `weighers` say.

use std::fmt;
use std::str::FromStr;

use novella_resources::MB_PER_GB;

use crate::settings::named::{UnknownName, named};

named! {
    /// A weigher. Its [name](Self::name) is that of Nova's class, and each variant says what the weigher looks at.
    WeigherKind, "weigher" {
        /// Free memory.
        Ram = "RAMWeigher",
        /// Free CPUs, overcommit included.
        Cpu = "CPUWeigher",
        /// Free disk.
        Disk = "DiskWeigher",
        /// Instances on the host that are building, resizing and the like.
        IoOps = "IoOpsWeigher",
        /// The hypervisor's version.
        HypervisorVersion = "HypervisorVersionWeigher",
        /// Instances on the host.
        NumInstances = "NumInstancesWeigher",
        /// Free PCI devices: the fewer, the better.
        Pci = "PCIWeigher",
        /// Members of the server group on the host: the more, the better.
        SoftAffinity = "ServerGroupSoftAffinityWeigher",
        /// Members of the server group on the host: the fewer, the better.
        SoftAntiAffinity = "ServerGroupSoftAntiAffinityWeigher",
        /// Builds that failed in a row. A positive multiplier counts against the host.
        BuildFailure = "BuildFailureWeigher",
        /// Whether the host is in the cell that an instance is moved in.
        CrossCell = "CrossCellWeigher",
        /// Metrics that the host reports.
        Metrics = "MetricsWeigher",
        /// Instances of images with equal properties.
        ImageProperties = "ImagePropertiesWeigher",
    }
}

impl WeigherKind {
    /// The weighers that run unless configured otherwise: as in Nova, all of them. The order is that in which Nova ran
    /// them where the decisions in `tests/oracle` were recorded, which is the one in which its files happened to be
    /// listed.
    pub const DEFAULT: [Self; 13] = [
        Self::CrossCell,
        Self::NumInstances,
        Self::Metrics,
        Self::Cpu,
        Self::BuildFailure,
        Self::SoftAffinity,
        Self::SoftAntiAffinity,
        Self::Ram,
        Self::Disk,
        Self::Pci,
        Self::ImageProperties,
        Self::IoOps,
        Self::HypervisorVersion,
    ];

    /// Nova's default multiplier.
    pub fn default_multiplier(self) -> f64 {
        match self {
            Self::IoOps => -1.0,
            Self::NumInstances | Self::ImageProperties => 0.0,
            Self::BuildFailure | Self::CrossCell => 1_000_000.0,
            _ => 1.0,
        }
    }

    /// The name of Nova's option for the multiplier, which is also the metadata key with which aggregates override it.
    pub fn multiplier_key(self) -> &'static str {
        match self {
            Self::Ram => "ram_weight_multiplier",
            Self::Cpu => "cpu_weight_multiplier",
            Self::Disk => "disk_weight_multiplier",
            Self::IoOps => "io_ops_weight_multiplier",
            Self::HypervisorVersion => "hypervisor_version_weight_multiplier",
            Self::NumInstances => "num_instances_weight_multiplier",
            Self::Pci => "pci_weight_multiplier",
            Self::SoftAffinity => "soft_affinity_weight_multiplier",
            Self::SoftAntiAffinity => "soft_anti_affinity_weight_multiplier",
            Self::BuildFailure => "build_failure_weight_multiplier",
            Self::CrossCell => "cross_cell_move_weight_multiplier",
            Self::Metrics => "metrics_weight_multiplier",
            Self::ImageProperties => "image_props_weight_multiplier",
        }
    }

    /// Whether a negative multiplier is refused in the configuration.
    pub fn never_negative(self) -> bool {
        matches!(self, Self::Pci | Self::SoftAffinity | Self::SoftAntiAffinity)
    }

    /// Nova's `minval`: smaller raw values count as this one, and it is always the lower bound of the range of raw
    /// values.
    pub(crate) fn minval(self) -> Option<f64> {
        matches!(self, Self::Ram | Self::Cpu | Self::Disk | Self::IoOps).then_some(0.0)
    }

    /// A raw value, raised to [`Self::minval`].
    pub(crate) fn clamp(self, raw: f64) -> f64 {
        self.minval().map_or(raw, |minval| if raw > minval { raw } else { minval })
    }

    /// The factor from the column's unit to the unit of Nova's raw value. It is a power of two, so no bit of a
    /// normalised value depends on it.
    pub(crate) fn unit(self) -> f64 {
        if self == Self::Disk { MB_PER_GB as f64 } else { 1.0 }
    }

    /// What a configured multiplier is multiplied by: -1 for BuildFailureWeigher, whose multiplier counts against the
    /// host.
    pub(crate) fn sign(self) -> f64 {
        if self == Self::BuildFailure { -1.0 } else { 1.0 }
    }
}
