//! The filters, by Nova's class names, and what is known about each without a request.
//!
//! Left out: how a filter decides, which the modules in `filters` say.

use std::fmt;
use std::str::FromStr;

use crate::settings::named::{UnknownName, named};

/// A filter. Its [name](Self::name) is that of Nova's class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterKind {
    /// The host is up and not disabled.
    Compute,
    /// The host is in the zone asked for.
    AvailabilityZone,
    /// Memory fits.
    Ram,
    /// CPUs fit.
    Core,
    /// Disk fits.
    Disk,
    /// The host's capabilities satisfy the flavor's extra specs.
    ComputeCapabilities,
    /// Passes every host.
    AllHosts,
    /// The host can run what the image is made for.
    ImageProperties,
    /// The host holds fewer members of the server group than it may.
    ServerGroupAntiAffinity,
    /// The host is one of the server group's hosts. Any host passes while the group has none.
    ServerGroupAffinity,
    /// Isolated images go only to isolated hosts, and other images stay off these hosts unless the settings allow them.
    IsolatedHosts,
    /// Each image property that is also a metadata key of the host's aggregates has one of the values given there.
    AggregateImagePropertiesIsolation,
    /// The metadata of the host's aggregates satisfy the flavor's extra specs.
    AggregateInstanceExtraSpecs,
    /// The host's aggregates are for this project or for all.
    AggregateMultiTenancyIsolation,
    /// The host's aggregates are for this flavor or for all.
    AggregateTypeAffinity,
    /// The host has none of the instances hinted at.
    DifferentHost,
    /// The host has one of the instances hinted at.
    SameHost,
    /// The host's address is in the network hinted at.
    SimpleCidrAffinity,
    /// The host has fewer instances that are building, resizing and the like than the limit.
    IoOps,
    /// Like [`Self::IoOps`], but aggregates may set their own limits.
    AggregateIoOps,
    /// The host has fewer instances than the limit.
    NumInstances,
    /// Like [`Self::NumInstances`], but aggregates may set their own limits.
    AggregateNumInstances,
    /// The query of the hint `query` holds for the host.
    Json,
    /// The host reports every metric that is weighed.
    Metrics,
    /// Memory fits; aggregates may set their own allocation ratios.
    AggregateRam,
    /// CPUs fit; aggregates may set their own allocation ratios.
    AggregateCore,
    /// Disk fits; aggregates may set their own allocation ratios.
    AggregateDisk,
    /// The host was not tried before for this request.
    Retry,
    /// All instances on the host are of this flavor.
    TypeAffinity,
    /// The instance's NUMA cells fit onto the host's.
    NumaTopology,
    /// The host has the PCI devices that are asked for.
    PciPassthrough,
}

impl FilterKind {
    /// All filters.
    pub const ALL: [Self; 31] = [
        Self::Compute,
        Self::AvailabilityZone,
        Self::Ram,
        Self::Core,
        Self::Disk,
        Self::ComputeCapabilities,
        Self::AllHosts,
        Self::ImageProperties,
        Self::ServerGroupAntiAffinity,
        Self::ServerGroupAffinity,
        Self::IsolatedHosts,
        Self::AggregateImagePropertiesIsolation,
        Self::AggregateInstanceExtraSpecs,
        Self::AggregateMultiTenancyIsolation,
        Self::AggregateTypeAffinity,
        Self::DifferentHost,
        Self::SameHost,
        Self::SimpleCidrAffinity,
        Self::IoOps,
        Self::AggregateIoOps,
        Self::NumInstances,
        Self::AggregateNumInstances,
        Self::Json,
        Self::Metrics,
        Self::AggregateRam,
        Self::AggregateCore,
        Self::AggregateDisk,
        Self::Retry,
        Self::TypeAffinity,
        Self::NumaTopology,
        Self::PciPassthrough,
    ];

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

    /// Nova's class name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "ComputeFilter",
            Self::AvailabilityZone => "AvailabilityZoneFilter",
            Self::Ram => "RamFilter",
            Self::Core => "CoreFilter",
            Self::Disk => "DiskFilter",
            Self::ComputeCapabilities => "ComputeCapabilitiesFilter",
            Self::AllHosts => "AllHostsFilter",
            Self::ImageProperties => "ImagePropertiesFilter",
            Self::ServerGroupAntiAffinity => "ServerGroupAntiAffinityFilter",
            Self::ServerGroupAffinity => "ServerGroupAffinityFilter",
            Self::IsolatedHosts => "IsolatedHostsFilter",
            Self::AggregateImagePropertiesIsolation => "AggregateImagePropertiesIsolation",
            Self::AggregateInstanceExtraSpecs => "AggregateInstanceExtraSpecsFilter",
            Self::AggregateMultiTenancyIsolation => "AggregateMultiTenancyIsolation",
            Self::AggregateTypeAffinity => "AggregateTypeAffinityFilter",
            Self::DifferentHost => "DifferentHostFilter",
            Self::SameHost => "SameHostFilter",
            Self::SimpleCidrAffinity => "SimpleCIDRAffinityFilter",
            Self::IoOps => "IoOpsFilter",
            Self::AggregateIoOps => "AggregateIoOpsFilter",
            Self::NumInstances => "NumInstancesFilter",
            Self::AggregateNumInstances => "AggregateNumInstancesFilter",
            Self::Json => "JsonFilter",
            Self::Metrics => "MetricsFilter",
            Self::AggregateRam => "AggregateRamFilter",
            Self::AggregateCore => "AggregateCoreFilter",
            Self::AggregateDisk => "AggregateDiskFilter",
            Self::Retry => "RetryFilter",
            Self::TypeAffinity => "TypeAffinityFilter",
            Self::NumaTopology => "NUMATopologyFilter",
            Self::PciPassthrough => "PciPassthroughFilter",
        }
    }

    /// Whether one run decides for all instances of a request: placing one changes nothing that the filter reads, or
    /// Nova sets `run_filter_once_per_request` for it.
    pub fn once(self) -> bool {
        !matches!(
            self,
            Self::Ram
                | Self::Core
                | Self::Disk
                | Self::ServerGroupAntiAffinity
                | Self::ServerGroupAffinity
                | Self::IoOps
                | Self::AggregateIoOps
                | Self::NumInstances
                | Self::AggregateNumInstances
                | Self::Json
                | Self::Metrics
                | Self::AggregateRam
                | Self::AggregateCore
                | Self::AggregateDisk
                | Self::Retry
                | Self::TypeAffinity
                | Self::NumaTopology
                | Self::PciPassthrough
        )
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

    /// Whether the filter runs when an instance is rebuilt on its host (Nova's `RUN_ON_REBUILD`).
    pub fn runs_on_rebuild(self) -> bool {
        matches!(self, Self::ImageProperties | Self::IsolatedHosts | Self::AggregateImagePropertiesIsolation)
    }
}

named!(FilterKind, "filter");
