//! The filters, by Nova's class names, and what is known about each without a request.
//!
//! Left out: how a filter decides, which the modules in `filters` say.

use std::fmt;
use std::str::FromStr;

use crate::settings::named::{UnknownName, named};

named! {
    /// A filter. Its [name](Self::name) is that of Nova's class.
    FilterKind, "filter" {
        /// The host is up and not disabled.
        Compute = "ComputeFilter",
        /// The host is in the zone asked for.
        AvailabilityZone = "AvailabilityZoneFilter",
        /// Memory fits.
        Ram = "RamFilter",
        /// CPUs fit.
        Core = "CoreFilter",
        /// Disk fits.
        Disk = "DiskFilter",
        /// The host's capabilities satisfy the flavor's extra specs.
        ComputeCapabilities = "ComputeCapabilitiesFilter",
        /// Passes every host.
        AllHosts = "AllHostsFilter",
        /// The host can run what the image is made for.
        ImageProperties = "ImagePropertiesFilter",
        /// The host holds fewer members of the server group than it may.
        ServerGroupAntiAffinity = "ServerGroupAntiAffinityFilter",
        /// The host is one of the server group's hosts. Any host passes while the group has none.
        ServerGroupAffinity = "ServerGroupAffinityFilter",
        /// Isolated images go only to isolated hosts, and other images stay off these hosts unless the settings allow them.
        IsolatedHosts = "IsolatedHostsFilter",
        /// Each image property that is also a metadata key of the host's aggregates has one of the values given there.
        AggregateImagePropertiesIsolation = "AggregateImagePropertiesIsolation",
        /// The metadata of the host's aggregates satisfy the flavor's extra specs.
        AggregateInstanceExtraSpecs = "AggregateInstanceExtraSpecsFilter",
        /// The host's aggregates are for this project or for all.
        AggregateMultiTenancyIsolation = "AggregateMultiTenancyIsolation",
        /// The host's aggregates are for this flavor or for all.
        AggregateTypeAffinity = "AggregateTypeAffinityFilter",
        /// The host has none of the instances of the hint.
        DifferentHost = "DifferentHostFilter",
        /// The host has one of the instances of the hint.
        SameHost = "SameHostFilter",
        /// The host's address is in the network of the hint.
        SimpleCidrAffinity = "SimpleCIDRAffinityFilter",
        /// The host has fewer instances that are building, resizing and the like than the limit.
        IoOps = "IoOpsFilter",
        /// Like [`Self::IoOps`], but aggregates may set their own limits.
        AggregateIoOps = "AggregateIoOpsFilter",
        /// The host has fewer instances than the limit.
        NumInstances = "NumInstancesFilter",
        /// Like [`Self::NumInstances`], but aggregates may set their own limits.
        AggregateNumInstances = "AggregateNumInstancesFilter",
        /// The query of the hint `query` holds for the host.
        Json = "JsonFilter",
        /// The host reports every metric that is weighed.
        Metrics = "MetricsFilter",
        /// Memory fits; aggregates may set their own allocation ratios.
        AggregateRam = "AggregateRamFilter",
        /// CPUs fit; aggregates may set their own allocation ratios.
        AggregateCore = "AggregateCoreFilter",
        /// Disk fits; aggregates may set their own allocation ratios.
        AggregateDisk = "AggregateDiskFilter",
        /// The host was not tried before for this request.
        Retry = "RetryFilter",
        /// All instances on the host are of this flavor.
        TypeAffinity = "TypeAffinityFilter",
        /// The instance's NUMA cells fit onto the host's.
        NumaTopology = "NUMATopologyFilter",
        /// The host has the PCI devices that are asked for.
        PciPassthrough = "PciPassthroughFilter",
    }
}

impl FilterKind {
    /// The filters that run unless configured otherwise, in this order.
    pub const DEFAULT: [Self; 6] =
        [Self::Compute, Self::AvailabilityZone, Self::Ram, Self::Core, Self::Disk, Self::ComputeCapabilities];

    /// The filters that Nova 34 runs unless configured otherwise, in this order.
    pub const NOVA: [Self; 5] = [
        Self::Compute,
        Self::ComputeCapabilities,
        Self::ImageProperties,
        Self::ServerGroupAntiAffinity,
        Self::ServerGroupAffinity,
    ];

    /// Whether one run decides for all instances of a request: placing one changes nothing that the filter reads, or
    /// Nova sets `run_filter_once_per_request` for it.
    pub fn once(self) -> bool {
        let again = matches!(
            self,
            Self::ServerGroupAntiAffinity
                | Self::ServerGroupAffinity
                | Self::IoOps
                | Self::AggregateIoOps
                | Self::NumInstances
                | Self::AggregateNumInstances
                | Self::Json
                | Self::Metrics
                | Self::Retry
                | Self::TypeAffinity
                | Self::NumaTopology
                | Self::PciPassthrough
        );
        !(again | self.judges_room())
    }

    /// Whether the filter judges CPUs, memory or disk. In Nova that is Placement's task, and a forced host must have
    /// room too.
    pub fn judges_room(self) -> bool {
        matches!(
            self,
            Self::Ram
                | Self::Core
                | Self::Disk
                | Self::AggregateRam
                | Self::AggregateCore
                | Self::AggregateDisk
        )
    }

    /// The metadata key with which aggregates may set their own ratio or limit for the filter.
    pub(crate) fn aggregate_key(self) -> Option<&'static str> {
        match self {
            Self::AggregateCore => Some("cpu_allocation_ratio"),
            Self::AggregateRam => Some("ram_allocation_ratio"),
            Self::AggregateDisk => Some("disk_allocation_ratio"),
            Self::AggregateIoOps => Some("max_io_ops_per_host"),
            Self::AggregateNumInstances => Some("max_instances_per_host"),
            _ => None,
        }
    }

    /// Whether the filter runs when an instance is rebuilt on its host (Nova's `RUN_ON_REBUILD`).
    pub fn runs_on_rebuild(self) -> bool {
        matches!(self, Self::ImageProperties | Self::IsolatedHosts | Self::AggregateImagePropertiesIsolation)
    }
}
