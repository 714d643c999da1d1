//! The scheduler's options: which filters and weighers run, and how one host is picked.
//!
//! What always holds: a scheduler works only with options that passed [`SchedulerOptions::check`].

pub use novella_objects::document::OnFilterError;

use crate::nova::{image_properties, python};
use crate::settings::filter_kind::FilterKind;
use crate::settings::weigher_kind::WeigherKind;

/// The scheduler's settings. Names and defaults are Nova's where Nova has them.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerOptions {
    /// The filters, in the order in which they run. None is listed twice.
    pub enabled_filters: Vec<FilterKind>,
    /// The weighers with their multipliers, in the order in which they are added up: the order matters to the last bit
    /// of a weight. None is listed twice.
    pub weighers: Vec<(WeigherKind, f64)>,
    /// One of this many best hosts is picked at random. At least 1.
    pub host_subset_size: usize,
    /// Whether hosts that share exactly the best weight are put in random order.
    pub shuffle_best_same_weighed_hosts: bool,
    /// An instance gets one host and `max_attempts - 1` alternates. At least 1.
    pub max_attempts: u32,
    /// The availability zone of hosts that name none.
    pub default_availability_zone: String,
    /// What happens when a filter cannot decide about a host.
    pub on_filter_error: OnFilterError,
    /// How many hosts besides the winner an explanation ranks.
    pub runners_up: usize,
    /// Whether traits, resource classes and aggregates are asked before the filters, as Nova asks the Placement
    /// service. If false, the filters alone judge a request.
    pub placement: bool,
    /// The settings of single filters and weighers.
    pub policy: Policy,
}

/// Settings of single filters and weighers. Names and defaults are Nova's.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// IoOpsFilter: a host with this many instances that are building, resizing and the like is full.
    pub max_io_ops_per_host: i64,
    /// NumInstancesFilter: a host with this many instances is full.
    pub max_instances_per_host: i64,
    /// IsolatedHostsFilter: the names of the isolated hosts, compared exactly.
    pub isolated_hosts: Vec<String>,
    /// IsolatedHostsFilter: the ids of the images that go only to isolated hosts.
    pub isolated_images: Vec<String>,
    /// IsolatedHostsFilter: whether other images must stay off the isolated hosts.
    pub restrict_isolated_hosts_to_isolated_images: bool,
    /// AggregateImagePropertiesIsolation: only metadata keys that begin with this and the separator are compared.
    /// `None` compares all keys.
    pub aggregate_image_properties_isolation_namespace: Option<String>,
    /// AggregateImagePropertiesIsolation: what follows the namespace in a metadata key.
    pub aggregate_image_properties_isolation_separator: String,
    /// ImagePropertiesFilter: the architecture of images that do not name one.
    pub image_properties_default_architecture: Option<String>,
    /// MetricsFilter and MetricsWeigher: the metrics with their weights, each as `name=ratio`.
    pub metrics_weight_setting: Vec<String>,
    /// MetricsWeigher: whether it is an error if a host does not report one of these metrics.
    pub metrics_required: bool,
    /// MetricsWeigher: the raw value of a host that does not report one of these metrics, if they are not required.
    pub metrics_weight_of_unavailable: f64,
    /// ImagePropertiesWeigher: the properties with their weights, each as `name=ratio`. If empty, all properties count
    /// equally.
    pub image_props_weight_setting: Vec<String>,
    /// Before the filters: whether a project goes only to aggregates that name it in metadata `filter_tenant_id*`, if
    /// any aggregate does.
    pub limit_tenants_to_placement_aggregate: bool,
    /// With `limit_tenants_to_placement_aggregate`: whether a project that no aggregate names gets no host.
    pub placement_aggregate_required_for_tenants: bool,
    /// Before the filters: whether hosts must have the trait `COMPUTE_IMAGE_TYPE_*` of the image's format.
    pub query_placement_for_image_type_support: bool,
    /// Before the filters: whether aggregates with metadata `trait:X=required` take only requests that require X.
    pub enable_isolated_aggregate_filtering: bool,
    /// Before the filters: whether hosts must have the traits of the image's buses, models and architecture.
    pub image_metadata_prefilter: bool,
    /// Before the filters: whether hosts without an inventory of `PCPU` are refused for `hw:cpu_policy=dedicated`.
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

/// Reads a setting of the form `name=ratio`. `None` if it has another form, or if weights cannot be computed with the
/// ratio.
pub fn ratio(entry: &str) -> Option<(&str, f64)> {
    let (name, ratio) = python::strip(entry).split_once('=').filter(|(name, _)| !name.is_empty())?;
    Some((name, python::float(ratio)?)).filter(|(_, ratio)| is_multiplier(*ratio))
}

/// Reads settings of the form `name=ratio`. One that [`ratio`] cannot read is left out with a warning.
pub(crate) fn ratios(setting: &[String]) -> impl Iterator<Item = (&str, f64)> {
    setting.iter().filter_map(|entry| {
        let ratio = ratio(entry);
        if ratio.is_none() {
            tracing::warn!(entry, "a weight setting must be name=ratio and is left out");
        }
        ratio
    })
}

/// Whether weights can be computed with this multiplier: it is 0, or its size is from [`MIN_MULTIPLIER`] to
/// [`MAX_MULTIPLIER`].
pub fn is_multiplier(value: f64) -> bool {
    value == 0.0 || (MIN_MULTIPLIER..=MAX_MULTIPLIER).contains(&value.abs())
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
            on_filter_error: OnFilterError::RejectHost,
            runners_up: 3,
            placement: true,
            policy: Policy::default(),
        }
    }
}

/// The largest size of a multiplier. Up to it, and from [`MIN_MULTIPLIER`], no weight leaves the range of its
/// arithmetic.
pub const MAX_MULTIPLIER: f64 = 1.0e12;

/// The smallest size of a multiplier that is not zero.
pub const MIN_MULTIPLIER: f64 = 1.0e-12;

/// The most weighers that can be listed, because each may be listed once.
const MAX_WEIGHERS: usize = WeigherKind::ALL.len();

/// What is wrong with [`SchedulerOptions`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadOptions {
    /// A filter or a weigher is listed twice.
    #[error("{name} is listed more than once")]
    Twice {
        /// The class name of the filter or weigher.
        name: &'static str,
    },
    /// Weights cannot be computed with a multiplier.
    #[error(
        "the multiplier of {weigher} is {value}; it must be 0 or of a size from {MIN_MULTIPLIER} to {MAX_MULTIPLIER}{}",
        if weigher.never_negative() { ", and not negative" } else { "" }
    )]
    Multiplier {
        /// The weigher that the multiplier is set for.
        weigher: WeigherKind,
        /// The multiplier as it was given.
        value: f64,
    },
    /// Nova does not know the default architecture.
    #[error("image_properties_default_architecture is {0:?}, which is not a known architecture")]
    Architecture(String),
    /// Weights cannot be computed with `metrics_weight_of_unavailable`.
    #[error("metrics_weight_of_unavailable is {0}; its size must be at most {MAX_MULTIPLIER}")]
    Unavailable(f64),
    /// A setting that must be at least 1 is zero.
    #[error("{setting} must be at least 1")]
    Zero {
        /// The name of the setting.
        setting: &'static str,
    },
}

impl SchedulerOptions {
    /// Checks that a scheduler can work with these options.
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
        if let Some(name) = default.filter(|name| image_properties::architecture(name).is_none()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        assert_eq!("RamFilter".parse(), Ok(FilterKind::Ram));
        let error = "RamFiler".parse::<FilterKind>().unwrap_err().to_string();
        assert!(
            error.starts_with("there is no filter \"RamFiler\"; choose one of ComputeFilter, "),
            "{error}"
        );
        let error = "ramweigher".parse::<WeigherKind>().unwrap_err().to_string();
        assert!(error.contains("RAMWeigher, CPUWeigher, DiskWeigher, "), "{error}");
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
        assert!(options(|o| o.weighers = vec![(WeigherKind::Pci, -1.0)]).is_err());
        assert!(options(|o| o.weighers = vec![(WeigherKind::IoOps, -1.0)]).is_ok());
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
