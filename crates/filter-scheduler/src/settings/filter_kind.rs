//! The filters, by Nova's class names, and what is known of each without a request.

use std::fmt;
use std::str::FromStr;

use crate::settings::named::{UnknownName, named};

/// A filter, by Nova's class name.
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
    /// The host holds fewer members of the group than it may.
    ServerGroupAntiAffinity,
    /// The host is one of the group's.
    ServerGroupAffinity,
    /// Hosts set aside are for images set aside.
    IsolatedHosts,
    /// The image's properties are among those of the host's aggregates.
    AggregateImagePropertiesIsolation,
    /// Metadata of the host's aggregates satisfy the flavor's extra specs.
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
    /// The host is not busy with too many instances.
    IoOps,
    /// The same, with limits of aggregates.
    AggregateIoOps,
    /// The host has not too many instances.
    NumInstances,
    /// The same, with limits of aggregates.
    AggregateNumInstances,
    /// The query hinted at holds for the host.
    Json,
    /// The host reports every metric that is weighed.
    Metrics,
    /// Memory fits, with ratios of aggregates.
    AggregateRam,
    /// CPUs fit, with ratios of aggregates.
    AggregateCore,
    /// Disk fits, with ratios of aggregates.
    AggregateDisk,
    /// The host was not tried before.
    Retry,
    /// All instances on the host are of this flavor.
    TypeAffinity,
    /// The instance's NUMA cells fit onto the host's.
    NumaTopology,
    /// The host has the PCI devices.
    PciPassthrough,
}

impl FilterKind {
    /// All there are.
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

    /// Those that run unless configured otherwise, in their order.
    pub const DEFAULT: [Self; 6] =
        [Self::Compute, Self::AvailabilityZone, Self::Ram, Self::Core, Self::Disk, Self::ComputeCapabilities];

    /// Those that Nova 34 runs unless configured otherwise, in their order.
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

    /// Whether one run decides for all instances of a request, because placing one changes nothing the filter reads, or
    /// because Nova has it so.
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

    /// Whether it judges the amounts that every host has, as Placement does in Nova's place. A forced host too must have
    /// room.
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

    /// Whether it has a say when an instance is rebuilt where it is.
    pub fn runs_on_rebuild(self) -> bool {
        matches!(self, Self::ImageProperties | Self::IsolatedHosts | Self::AggregateImagePropertiesIsolation)
    }
}

named!(FilterKind, "filter");
