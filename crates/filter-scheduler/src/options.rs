//! What an operator sets: which filters, which weighers, and how one is picked.

use std::fmt;
use std::str::FromStr;

use crate::{image, python};

/// The scheduler's settings. Names and defaults are Nova's where Nova has them.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerOptions {
    /// In the order they run.
    pub enabled_filters: Vec<FilterKind>,
    /// In the order they are added up, each with its multiplier; order matters to the last bit of a weight.
    pub weighers: Vec<(WeigherKind, f64)>,
    /// One of this many best hosts is picked at random.
    pub host_subset_size: usize,
    /// Whether hosts of exactly the best weight are put in random order.
    pub shuffle_best_same_weighed_hosts: bool,
    /// A request is given one host and `max_attempts - 1` alternates.
    pub max_attempts: u32,
    /// The zone of hosts that name none.
    pub default_availability_zone: String,
    /// What an error inside a filter means.
    pub on_filter_error: OnFilterError,
    /// How many hosts besides the winner an explanation ranks.
    pub runners_up: usize,
    /// Whether traits, resource classes and aggregates are asked before the filters, as Nova asks the Placement service.
    /// Off, a request is judged by the filters alone.
    pub placement: bool,
    /// What single filters and weighers are set to.
    pub policy: Policy,
}

/// Settings of single filters and weighers. Names and defaults are Nova's.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// IoOpsFilter: a host with this many instances building, resizing, ... is full.
    pub max_io_ops_per_host: i64,
    /// NumInstancesFilter: a host with this many instances is full.
    pub max_instances_per_host: i64,
    /// IsolatedHostsFilter: hosts set aside, names exact.
    pub isolated_hosts: Vec<String>,
    /// IsolatedHostsFilter: ids of the images they are set aside for.
    pub isolated_images: Vec<String>,
    /// IsolatedHostsFilter: whether nothing else may run there.
    pub restrict_isolated_hosts_to_isolated_images: bool,
    /// AggregateImagePropertiesIsolation: only metadata that begin with this and the separator.
    pub aggregate_image_properties_isolation_namespace: Option<String>,
    /// AggregateImagePropertiesIsolation.
    pub aggregate_image_properties_isolation_separator: String,
    /// ImagePropertiesFilter: the architecture of images that name none.
    pub image_properties_default_architecture: Option<String>,
    /// MetricsFilter and MetricsWeigher: `name=ratio`.
    pub metrics_weight_setting: Vec<String>,
    /// MetricsWeigher: whether a host without a metric is an error.
    pub metrics_required: bool,
    /// MetricsWeigher: the raw value of a host without a metric that is not required.
    pub metrics_weight_of_unavailable: f64,
    /// ImagePropertiesWeigher: `name=ratio`; empty: all properties count alike.
    pub image_props_weight_setting: Vec<String>,
    /// Before the filters: a project goes only to aggregates whose metadata `filter_tenant_id*` name it, if any does.
    pub limit_tenants_to_placement_aggregate: bool,
    /// With `limit_tenants_to_placement_aggregate`: a project that no aggregate names goes nowhere.
    pub placement_aggregate_required_for_tenants: bool,
    /// Before the filters: hosts must have the trait `COMPUTE_IMAGE_TYPE_*` of the image's format.
    pub query_placement_for_image_type_support: bool,
    /// Before the filters: aggregates with metadata `trait:X=required` are for requests that require X.
    pub enable_isolated_aggregate_filtering: bool,
    /// Before the filters: hosts must have the traits of the image's buses, models and architecture.
    pub image_metadata_prefilter: bool,
    /// Before the filters: whether `hw:cpu_policy=dedicated` is for hosts with an inventory of `PCPU` alone.
    pub disable_fallback_pcpu_query: bool,
    /// NUMATopologyFilter: whether full NUMA cells are preferred to empty ones.
    pub packing_host_numa_cells_allocation_strategy: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_io_ops_per_host: 8,
            max_instances_per_host: 50,
            isolated_hosts: Vec::new(),
            isolated_images: Vec::new(),
            restrict_isolated_hosts_to_isolated_images: true,
            aggregate_image_properties_isolation_namespace: None,
            aggregate_image_properties_isolation_separator: ".".to_owned(),
            image_properties_default_architecture: None,
            metrics_weight_setting: Vec::new(),
            metrics_required: true,
            metrics_weight_of_unavailable: -10_000.0,
            image_props_weight_setting: Vec::new(),
            limit_tenants_to_placement_aggregate: false,
            placement_aggregate_required_for_tenants: false,
            query_placement_for_image_type_support: false,
            enable_isolated_aggregate_filtering: false,
            image_metadata_prefilter: false,
            disable_fallback_pcpu_query: false,
            packing_host_numa_cells_allocation_strategy: false,
        }
    }
}

/// Reads a setting of the form `name=ratio`.
pub(crate) fn ratio(entry: &str) -> Option<(&str, f64)> {
    let (name, ratio) = python::strip(entry).split_once('=').filter(|(name, _)| !name.is_empty())?;
    Some((name, python::float(ratio)?)).filter(|(_, ratio)| is_multiplier(*ratio))
}

/// Reads settings of the form `name=ratio`, leaving out, with a warning, what has another.
pub(crate) fn ratios(setting: &[String]) -> impl Iterator<Item = (&str, f64)> {
    setting.iter().filter_map(|entry| {
        let ratio = ratio(entry);
        if ratio.is_none() {
            tracing::warn!(entry, "a weight setting must be name=ratio and is left out");
        }
        ratio
    })
}

/// Whether weights can be computed with this multiplier.
pub(crate) fn is_multiplier(value: f64) -> bool {
    value == 0.0 || (MIN_MULTIPLIER..=MAX_MULTIPLIER).contains(&value.abs())
}

/// What becomes of a request when a filter cannot decide about a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFilterError {
    /// As Nova: the request fails with the error.
    FailRequest,
    /// The host is refused, and the error counted.
    #[default]
    RejectHost,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            enabled_filters: FilterKind::DEFAULT.to_vec(),
            weighers: WeigherKind::DEFAULT.map(|kind| (kind, kind.default_multiplier())).to_vec(),
            host_subset_size: 1,
            shuffle_best_same_weighed_hosts: false,
            max_attempts: 3,
            default_availability_zone: "nova".to_owned(),
            on_filter_error: OnFilterError::default(),
            runners_up: 3,
            placement: true,
            policy: Policy::default(),
        }
    }
}

/// Largest size of a multiplier. Within these bounds no weight leaves the range of its arithmetic.
pub const MAX_MULTIPLIER: f64 = 1.0e12;

/// Smallest size of a multiplier that is not zero.
pub const MIN_MULTIPLIER: f64 = 1.0e-12;

/// Most weighers; one is listed once at most.
const MAX_WEIGHERS: usize = WeigherKind::ALL.len();

/// What is wrong with [`SchedulerOptions`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadOptions {
    /// No such filter or weigher.
    #[error("there is no {what} {name:?}; known are {known}")]
    UnknownName {
        /// `filter` or `weigher`.
        what: &'static str,
        /// As given.
        name: String,
        /// All names.
        known: String,
    },
    /// The same one twice.
    #[error("{name} is listed more than once")]
    Twice {
        /// Of the filter or weigher.
        name: &'static str,
    },
    /// A multiplier that weights cannot be computed with.
    #[error(
        "the multiplier of {weigher} is {value}; it must be 0 or of a size from {MIN_MULTIPLIER} to {MAX_MULTIPLIER}{}",
        if weigher.never_negative() { ", and not negative" } else { "" }
    )]
    Multiplier {
        /// Whose.
        weigher: WeigherKind,
        /// As given.
        value: f64,
    },
    /// An architecture that Nova does not know.
    #[error("image_properties_default_architecture is {0:?}, which is no known architecture")]
    Architecture(String),
    /// A raw value that weights cannot be computed with.
    #[error("metrics_weight_of_unavailable is {0}; its size must be at most {MAX_MULTIPLIER}")]
    Unavailable(f64),
    /// A size that must not be zero.
    #[error("{setting} must be at least 1")]
    Zero {
        /// Which setting.
        setting: &'static str,
    },
}

impl SchedulerOptions {
    /// Whether a scheduler can work with these.
    pub fn check(&self) -> Result<(), BadOptions> {
        for (at, kind) in self.enabled_filters.iter().enumerate() {
            if self.enabled_filters[..at].contains(kind) {
                return Err(BadOptions::Twice { name: kind.name() });
            }
        }
        for (at, &(weigher, value)) in self.weighers.iter().enumerate() {
            if self.weighers[..at].iter().any(|(other, _)| *other == weigher) {
                return Err(BadOptions::Twice { name: weigher.name() });
            }
            if !is_multiplier(value) || (value < 0.0 && weigher.never_negative()) {
                return Err(BadOptions::Multiplier { weigher, value });
            }
        }
        debug_assert!(self.weighers.len() <= MAX_WEIGHERS);
        let default = self.policy.image_properties_default_architecture.as_ref();
        if let Some(name) = default.filter(|name| image::architecture(name).is_none()) {
            return Err(BadOptions::Architecture(name.clone()));
        }
        let unavailable = self.policy.metrics_weight_of_unavailable;
        if !is_multiplier(unavailable) {
            return Err(BadOptions::Unavailable(unavailable));
        }
        if self.host_subset_size == 0 {
            return Err(BadOptions::Zero { setting: "host_subset_size" });
        }
        if self.max_attempts == 0 {
            return Err(BadOptions::Zero { setting: "max_attempts" });
        }
        Ok(())
    }
}

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

/// A weigher, by Nova's class name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeigherKind {
    /// Free memory.
    Ram,
    /// Free CPUs, overcommit included.
    Cpu,
    /// Free disk.
    Disk,
    /// Instances that build, resize, ...
    IoOps,
    /// The hypervisor's version.
    HypervisorVersion,
    /// Instances on the host.
    NumInstances,
    /// The fewer PCI devices, the better.
    Pci,
    /// Members of the group on the host.
    SoftAffinity,
    /// The same, the fewer the better.
    SoftAntiAffinity,
    /// Builds that failed in a row; its multiplier counts against the host.
    BuildFailure,
    /// Whether the host is in the cell that an instance is moved in.
    CrossCell,
    /// Metrics that the host reports.
    Metrics,
    /// Instances of images with equal properties.
    ImageProperties,
}

impl WeigherKind {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::Ram,
        Self::Cpu,
        Self::Disk,
        Self::IoOps,
        Self::HypervisorVersion,
        Self::NumInstances,
        Self::Pci,
        Self::SoftAffinity,
        Self::SoftAntiAffinity,
        Self::BuildFailure,
        Self::CrossCell,
        Self::Metrics,
        Self::ImageProperties,
    ];

    /// Those that weigh unless configured otherwise, in their order.
    pub const DEFAULT: [Self; 3] = [Self::Ram, Self::Cpu, Self::Disk];

    /// Nova weighs with all of them, in the order in which its files happen to be listed: this one where the decisions
    /// in `tests/oracle` were recorded.
    pub const NOVA: [Self; 13] = [
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

    /// Nova's class name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ram => "RAMWeigher",
            Self::Cpu => "CPUWeigher",
            Self::Disk => "DiskWeigher",
            Self::IoOps => "IoOpsWeigher",
            Self::HypervisorVersion => "HypervisorVersionWeigher",
            Self::NumInstances => "NumInstancesWeigher",
            Self::Pci => "PCIWeigher",
            Self::SoftAffinity => "ServerGroupSoftAffinityWeigher",
            Self::SoftAntiAffinity => "ServerGroupSoftAntiAffinityWeigher",
            Self::BuildFailure => "BuildFailureWeigher",
            Self::CrossCell => "CrossCellWeigher",
            Self::Metrics => "MetricsWeigher",
            Self::ImageProperties => "ImagePropertiesWeigher",
        }
    }

    /// Nova's default multiplier.
    pub fn default_multiplier(self) -> f64 {
        match self {
            Self::Ram => 1.0,
            Self::Cpu => 1.0,
            Self::Disk => 1.0,
            Self::IoOps => -1.0,
            Self::HypervisorVersion => 1.0,
            Self::NumInstances => 0.0,
            Self::Pci => 1.0,
            Self::SoftAffinity => 1.0,
            Self::SoftAntiAffinity => 1.0,
            Self::BuildFailure => 1_000_000.0,
            Self::CrossCell => 1_000_000.0,
            Self::Metrics => 1.0,
            Self::ImageProperties => 0.0,
        }
    }

    /// Nova's option, and the key of aggregates' metadata that overrides it.
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

    /// Whether its configured multiplier may not be negative.
    pub(crate) fn never_negative(self) -> bool {
        matches!(self, Self::Pci | Self::SoftAffinity | Self::SoftAntiAffinity)
    }

    /// What a configured multiplier is multiplied by.
    pub(crate) fn sign(self) -> f64 {
        if self == Self::BuildFailure { -1.0 } else { 1.0 }
    }
}

macro_rules! named {
    ($type:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = BadOptions;

            fn from_str(name: &str) -> Result<Self, BadOptions> {
                Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                    BadOptions::UnknownName {
                        what: $what,
                        name: name.to_owned(),
                        known: Self::ALL.map(Self::name).join(", "),
                    }
                })
            }
        }
    };
}

named!(FilterKind, "filter");
named!(WeigherKind, "weigher");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        assert_eq!("RamFilter".parse(), Ok(FilterKind::Ram));
        let error = "RamFiler".parse::<FilterKind>().unwrap_err().to_string();
        assert!(error.starts_with("there is no filter \"RamFiler\"; known are ComputeFilter, "), "{error}");
        assert!(
            "ramweigher"
                .parse::<WeigherKind>()
                .unwrap_err()
                .to_string()
                .contains("RAMWeigher, CPUWeigher, DiskWeigher, ")
        );
    }

    #[test]
    fn settings_that_cannot_be_worked_with_are_refused() {
        assert_eq!(SchedulerOptions::default().check(), Ok(()));
        let options = |change: fn(&mut SchedulerOptions)| {
            let mut options = SchedulerOptions::default();
            change(&mut options);
            options.check()
        };
        for value in [f64::NAN, f64::INFINITY, 1e-13, -1e13] {
            let mut options = SchedulerOptions::default();
            options.weighers[0].1 = value;
            assert!(matches!(options.check(), Err(BadOptions::Multiplier { .. })), "{value}");
        }
        assert!(options(|o| o.weighers[0].1 = 0.0).is_ok());
        assert!(options(|o| o.weighers[0].1 = -1.0).is_ok());
        assert_eq!(
            options(|o| o.host_subset_size = 0),
            Err(BadOptions::Zero { setting: "host_subset_size" })
        );
        assert!(matches!(
            options(|o| o.policy.image_properties_default_architecture = Some("z80".into())),
            Err(BadOptions::Architecture(_))
        ));
        assert!(options(|o| o.policy.metrics_weight_of_unavailable = f64::NAN).is_err());
        assert!(options(|o| o.weighers.push((WeigherKind::Pci, -1.0))).is_err());
        assert!(options(|o| o.weighers.push((WeigherKind::IoOps, -1.0))).is_ok());
        assert_eq!(options(|o| o.max_attempts = 0), Err(BadOptions::Zero { setting: "max_attempts" }));
        assert_eq!(
            options(|o| o.enabled_filters.push(FilterKind::Ram)),
            Err(BadOptions::Twice { name: "RamFilter" })
        );
        assert_eq!(
            options(|o| o.weighers.push((WeigherKind::Ram, 1.0))),
            Err(BadOptions::Twice { name: "RAMWeigher" })
        );
    }
}
