//! The options of a policy: those of every filter and weigher, with Nova's names and in Nova's sections. Each is
//! declared here once.
//!
//! What always holds: reading, showing, comparing and hashing use this table, and so does the test of the shipped file.

use novella_filter_scheduler::nova::image_properties;
use novella_filter_scheduler::{
    FilterKind, MAX_MULTIPLIER, MIN_MULTIPLIER, OnFilterError, SchedulerOptions, WeigherKind, is_multiplier,
    ratio,
};
use serde_json::{Value as Json, json};

use crate::policy::read::{Field, Reader, Span};

/// One option.
pub struct PolicyKey {
    /// The key with its section, such as `filter_scheduler.host_subset_size`.
    pub key: &'static str,
    /// The unit or type of the value.
    pub unit: &'static str,
    /// What the option does, in a sentence.
    pub doc: &'static str,
    /// How the option is read and shown.
    access: Access,
}

/// How an option is set from a field and read from the options.
enum Access {
    Option { set: fn(&mut OptionsDraft, &Field<'_>, &mut Reader<'_>), get: fn(&SchedulerOptions) -> Json },
    Multiplier(WeigherKind),
}

/// The options read so far.
#[derive(Default)]
pub(super) struct OptionsDraft {
    options: SchedulerOptions,
    /// The multipliers read so far, each with its key and position. They are applied when the weighers are known.
    multipliers: Vec<(WeigherKind, f64, &'static str, Span)>,
}

/// The largest number of attempts. An answer has at most 32 alternates.
const MAX_ATTEMPTS: i64 = novella_objects::MAX_ALTERNATES as i64 + 1;

/// The access to an option that has a field of its own: the field, and how its value is read.
macro_rules! field {
    ($($name:ident).+ = $read:ident($($limit:expr)?)) => {
        Access::Option {
            set: |draft, field, reader| put(&mut draft.options.$($name).+, field.$read(reader $(, $limit)?)),
            get: |options| json!(options.$($name).+),
        }
    };
}

/// Every option, in the order in which they are listed.
pub const POLICY_KEYS: &[PolicyKey] = &[
    option(
        "default_availability_zone",
        "name",
        "Availability zone of hosts for which neither an aggregate nor their own configuration names one.",
        field!(default_availability_zone = text()),
    ),
    option(
        "scheduler.max_attempts",
        "hosts",
        "Number of hosts in the answer for each instance: the chosen host and its alternates.",
        field!(max_attempts = whole(1..=MAX_ATTEMPTS)),
    ),
    option(
        "scheduler.on_filter_error",
        "fail_request or reject_host",
        "What to do if a filter or weigher fails for a host: fail the request, as in Nova, or refuse the host and count \
         the error.",
        field!(on_filter_error = on_filter_error()),
    ),
    option(
        "scheduler.runners_up",
        "hosts",
        "Number of hosts that an explanation ranks below the winner.",
        field!(runners_up = whole(0..=100)),
    ),
    flag(
        "scheduler.placement",
        "Whether traits, resource classes and aggregates are checked before the filters, as Nova does with Placement.",
        field!(placement = flag()),
    ),
    flag(
        "scheduler.limit_tenants_to_placement_aggregate",
        "Before the filters: if the metadata filter_tenant_id* of any aggregate names a project, that project gets only hosts of such aggregates.",
        field!(policy.limit_tenants_to_placement_aggregate = flag()),
    ),
    flag(
        "scheduler.placement_aggregate_required_for_tenants",
        "With limit_tenants_to_placement_aggregate: whether a project that no aggregate names gets no host at all.",
        field!(policy.placement_aggregate_required_for_tenants = flag()),
    ),
    flag(
        "scheduler.query_placement_for_image_type_support",
        "Before the filters: whether hosts must have the trait COMPUTE_IMAGE_TYPE_* of the image's format.",
        field!(policy.query_placement_for_image_type_support = flag()),
    ),
    flag(
        "scheduler.enable_isolated_aggregate_filtering",
        "Before the filters: whether aggregates with metadata trait:X=required take only requests that require X.",
        field!(policy.enable_isolated_aggregate_filtering = flag()),
    ),
    flag(
        "scheduler.image_metadata_prefilter",
        "Before the filters: whether hosts must have the traits of the image's buses, models and architecture.",
        field!(policy.image_metadata_prefilter = flag()),
    ),
    option(
        "filter_scheduler.enabled_filters",
        "list of names",
        "Filters, in the order in which they run.",
        Access::Option {
            set: enabled_filters,
            get: |o| o.enabled_filters.iter().map(|kind| kind.name()).collect(),
        },
    ),
    option(
        "filter_scheduler.weight_classes",
        "list of names",
        "Weighers, in the order in which they are added up.",
        Access::Option {
            set: weight_classes,
            get: |o| o.weighers.iter().map(|(kind, _)| kind.name()).collect(),
        },
    ),
    option(
        "filter_scheduler.host_subset_size",
        "hosts",
        "The host is chosen at random among this many best hosts. 1 always takes the best.",
        field!(host_subset_size = whole(1..=1_000_000)),
    ),
    flag(
        "filter_scheduler.shuffle_best_same_weighed_hosts",
        "Whether hosts with the same best weight are put in random order.",
        field!(shuffle_best_same_weighed_hosts = flag()),
    ),
    multiplier(
        WeigherKind::Ram,
        "filter_scheduler.ram_weight_multiplier",
        "Weight of free memory. A positive weight spreads instances over hosts; a negative one packs them onto few hosts.",
    ),
    multiplier(
        WeigherKind::Cpu,
        "filter_scheduler.cpu_weight_multiplier",
        "Weight of free CPUs. A positive weight spreads instances over hosts; a negative one packs them onto few hosts.",
    ),
    multiplier(
        WeigherKind::Disk,
        "filter_scheduler.disk_weight_multiplier",
        "Weight of free disk. A positive weight spreads instances over hosts; a negative one packs them onto few hosts.",
    ),
    multiplier(
        WeigherKind::IoOps,
        "filter_scheduler.io_ops_weight_multiplier",
        "Weight of instances that are building, resizing and the like. A negative weight avoids hosts that have many.",
    ),
    multiplier(
        WeigherKind::HypervisorVersion,
        "filter_scheduler.hypervisor_version_weight_multiplier",
        "Weight of the hypervisor's version. A positive weight prefers new versions; a negative one prefers old versions.",
    ),
    multiplier(
        WeigherKind::NumInstances,
        "filter_scheduler.num_instances_weight_multiplier",
        "Weight of the number of instances. A positive weight packs instances; a negative one spreads them.",
    ),
    multiplier(
        WeigherKind::Pci,
        "filter_scheduler.pci_weight_multiplier",
        "Weight of having few free PCI devices. A higher weight keeps hosts with many devices free. Must be 0 or more.",
    ),
    multiplier(
        WeigherKind::SoftAffinity,
        "filter_scheduler.soft_affinity_weight_multiplier",
        "Weight for packing a soft-affinity group. A higher weight prefers hosts with more members. Must be 0 or more.",
    ),
    multiplier(
        WeigherKind::SoftAntiAffinity,
        "filter_scheduler.soft_anti_affinity_weight_multiplier",
        "Weight for spreading a soft-anti-affinity group. A higher weight prefers hosts with fewer members. Must be 0 or more.",
    ),
    multiplier(
        WeigherKind::BuildFailure,
        "filter_scheduler.build_failure_weight_multiplier",
        "Weight of consecutive failed builds. A positive weight counts against the host.",
    ),
    multiplier(
        WeigherKind::CrossCell,
        "filter_scheduler.cross_cell_move_weight_multiplier",
        "Weight of staying in its cell when an instance is moved.",
    ),
    multiplier(
        WeigherKind::ImageProperties,
        "filter_scheduler.image_props_weight_multiplier",
        "Weight of instances whose images have the same properties as the requested one. A negative weight spreads such instances.",
    ),
    option(
        "filter_scheduler.image_props_weight_setting",
        "list of name=ratio",
        "ImagePropertiesWeigher: the properties that count, each with its ratio. If empty, all count equally.",
        field!(policy.image_props_weight_setting = ratios()),
    ),
    option(
        "filter_scheduler.max_io_ops_per_host",
        "instances",
        "IoOpsFilter: a host with this many instances that are building, resizing and the like is full.",
        field!(policy.max_io_ops_per_host = whole(i64::MIN..=i64::MAX)),
    ),
    option(
        "filter_scheduler.max_instances_per_host",
        "instances",
        "NumInstancesFilter: a host with this many instances is full.",
        field!(policy.max_instances_per_host = whole(1..=i64::MAX)),
    ),
    option(
        "filter_scheduler.isolated_hosts",
        "list of host names",
        "IsolatedHostsFilter: names of the isolated hosts, which are compared exactly.",
        field!(policy.isolated_hosts = words()),
    ),
    option(
        "filter_scheduler.isolated_images",
        "list of image ids",
        "IsolatedHostsFilter: ids of the images that run only on isolated hosts.",
        field!(policy.isolated_images = words()),
    ),
    flag(
        "filter_scheduler.restrict_isolated_hosts_to_isolated_images",
        "IsolatedHostsFilter: whether other images are kept off the isolated hosts.",
        field!(policy.restrict_isolated_hosts_to_isolated_images = flag()),
    ),
    option(
        "filter_scheduler.aggregate_image_properties_isolation_namespace",
        "prefix",
        "AggregateImagePropertiesIsolation: only metadata keys that begin with this and the separator are compared.",
        field!(policy.aggregate_image_properties_isolation_namespace = optional_text()),
    ),
    option(
        "filter_scheduler.aggregate_image_properties_isolation_separator",
        "text",
        "AggregateImagePropertiesIsolation: the separator between the namespace and the property in a metadata key.",
        field!(policy.aggregate_image_properties_isolation_separator = text()),
    ),
    option(
        "filter_scheduler.image_properties_default_architecture",
        "architecture",
        "ImagePropertiesFilter: the architecture of images that do not name one.",
        field!(policy.image_properties_default_architecture = architecture()),
    ),
    multiplier(WeigherKind::Metrics, "metrics.weight_multiplier", "Weight of the metrics that hosts report."),
    option(
        "metrics.weight_setting",
        "list of name=ratio",
        "MetricsFilter and MetricsWeigher: the metrics that count, each with its ratio.",
        field!(policy.metrics_weight_setting = ratios()),
    ),
    flag(
        "metrics.required",
        "MetricsWeigher: whether it is an error if a host does not report one of these metrics.",
        field!(policy.metrics_required = flag()),
    ),
    option(
        "metrics.weight_of_unavailable",
        "number",
        "MetricsWeigher: the raw value of a host that does not report one of these metrics, if they are not required.",
        field!(policy.metrics_weight_of_unavailable = factor(true)),
    ),
    flag(
        "compute.packing_host_numa_cells_allocation_strategy",
        "NUMATopologyFilter: whether full NUMA cells are preferred to empty ones.",
        field!(policy.packing_host_numa_cells_allocation_strategy = flag()),
    ),
    flag(
        "workarounds.disable_fallback_pcpu_query",
        "Before the filters: whether hw:cpu_policy=dedicated takes only hosts with an inventory of PCPU.",
        field!(policy.disable_fallback_pcpu_query = flag()),
    ),
];

/// Options of Nova that a file may contain but novella does not have, each with the reason.
const ELSEWHERE: [(&str, &str); 5] = [
    (
        "filter_scheduler.available_filters",
        "novella does not load code; every filter of this build can be enabled",
    ),
    ("filter_scheduler.track_instance_changes", "every report lists its host's instances"),
    ("filter_scheduler.pci_in_placement", "there is no Placement service; PCI devices come from reports"),
    ("scheduler.max_placement_results", "every host is looked at"),
    ("scheduler.workers", "one scheduler uses one process; start several schedulers instead"),
];

const fn option(key: &'static str, unit: &'static str, doc: &'static str, access: Access) -> PolicyKey {
    PolicyKey { key, unit, doc, access }
}

const fn flag(key: &'static str, doc: &'static str, access: Access) -> PolicyKey {
    option(key, "true or false", doc, access)
}

const fn multiplier(kind: WeigherKind, key: &'static str, doc: &'static str) -> PolicyKey {
    option(key, "factor", doc, Access::Multiplier(kind))
}

impl PolicyKey {
    /// The value of the option. It is null if the option is not set, or if it is the multiplier of a weigher that is
    /// not enabled.
    pub fn value(&self, options: &SchedulerOptions) -> Json {
        match self.access {
            Access::Option { get, .. } => get(options),
            Access::Multiplier(kind) => options
                .weighers
                .iter()
                .find(|(enabled, _)| *enabled == kind)
                .map_or(Json::Null, |(_, m)| json!(m)),
        }
    }

    /// The default value.
    pub fn default_value(&self) -> Json {
        match self.access {
            Access::Option { get, .. } => get(&SchedulerOptions::default()),
            Access::Multiplier(kind) => json!(kind.default_multiplier()),
        }
    }
}

impl OptionsDraft {
    /// Reads one option. It is a problem if there is no option of this name.
    pub(super) fn set(&mut self, field: &Field<'_>, reader: &mut Reader<'_>) {
        let Some(key) = POLICY_KEYS.iter().find(|known| known.key == field.key) else {
            match ELSEWHERE.iter().find(|(key, _)| *key == field.key) {
                Some((_, why)) => {
                    let what = format_args!("novella does not have this option of Nova: {why}");
                    reader.problem(&field.at, &field.key, what, "remove it");
                }
                None => reader.unknown(
                    &field.at,
                    &field.key,
                    ("option", &field.key),
                    POLICY_KEYS.iter().map(|known| known.key),
                ),
            }
            return;
        };
        match key.access {
            Access::Option { set, .. } => set(self, field, reader),
            Access::Multiplier(kind) => {
                if let Some(value) = field.factor(reader, !kind.never_negative()) {
                    self.multipliers.push((kind, value, key.key, field.at.clone()));
                }
            }
        }
    }

    /// Gives the weighers their multipliers and returns the options.
    pub(super) fn finish(mut self, reader: &mut Reader<'_>) -> SchedulerOptions {
        for (kind, value, key, at) in &self.multipliers {
            match self.options.weighers.iter_mut().find(|(enabled, _)| enabled == kind) {
                Some((_, multiplier)) => *multiplier = *value,
                None => reader.warning(
                    at,
                    key,
                    format_args!("{kind} is not enabled, so its multiplier has no effect"),
                    format_args!("add {kind} to filter_scheduler.weight_classes, or remove the multiplier"),
                ),
            }
        }
        self.options
    }
}

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

impl Field<'_> {
    fn optional_text(&self, reader: &mut Reader<'_>) -> Option<Option<String>> {
        self.text(reader).map(Some)
    }

    fn words(&self, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        Some(self.texts(reader)?.into_iter().map(|(text, _)| text).collect())
    }

    fn ratios(&self, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        let entries = self.texts(reader)?;
        for (entry, at) in entries.iter().filter(|(entry, _)| ratio(entry).is_none()) {
            let what = format_args!("{entry:?} is not name=ratio");
            reader.problem(at, &self.key, what, "write for example cpu.percent=-1.0");
        }
        Some(entries.into_iter().map(|(entry, _)| entry).collect())
    }

    /// Reads a multiplier of a weigher.
    fn factor(&self, reader: &mut Reader<'_>, may_be_negative: bool) -> Option<f64> {
        let value = self.number(reader)?;
        if is_multiplier(value) && (may_be_negative || value >= 0.0) {
            return Some(value);
        }
        let sign = if may_be_negative { "" } else { " and not negative" };
        let what = format!(
            "{value} cannot be used: it must be 0, or have an absolute value from {MIN_MULTIPLIER} to \
             {MAX_MULTIPLIER}{sign}"
        );
        self.wrong_value(reader, what, "1.0 is usual")
    }

    /// Reads a list of names. It is a problem if one is unknown or repeated.
    fn names<T: Copy + PartialEq>(
        &self,
        reader: &mut Reader<'_>,
        what: &str,
        all: &[T],
        name_of: fn(T) -> &'static str,
    ) -> Option<Vec<T>> {
        let mut found = Vec::new();
        for (name, at) in self.texts(reader)? {
            match all.iter().find(|kind| name_of(**kind) == name) {
                None => reader.unknown(&at, &self.key, (what, &name), all.iter().map(|kind| name_of(*kind))),
                Some(kind) if found.contains(kind) => {
                    let what = format_args!("{name} is listed twice");
                    reader.problem(&at, &self.key, what, "remove one of the two");
                }
                Some(kind) => found.push(*kind),
            }
        }
        Some(found)
    }

    fn architecture(&self, reader: &mut Reader<'_>) -> Option<Option<String>> {
        let name = self.text(reader)?;
        if image_properties::architecture(&name).is_some() {
            return Some(Some(name));
        }
        let what = format_args!("{name:?} is not a known architecture");
        self.wrong_value(reader, what, "write for example x86_64")
    }

    fn on_filter_error(&self, reader: &mut Reader<'_>) -> Option<OnFilterError> {
        let name = self.text(reader)?;
        let choice = ON_FILTER_ERROR.iter().find(|(known, _)| *known == name);
        if choice.is_none() {
            let known = ON_FILTER_ERROR.iter().map(|(known, _)| *known);
            reader.unknown(&self.item.span(), &self.key, ("choice", &name), known);
        }
        choice.map(|(_, choice)| *choice)
    }
}

const ON_FILTER_ERROR: [(&str, OnFilterError); 2] =
    [("fail_request", OnFilterError::FailRequest), ("reject_host", OnFilterError::RejectHost)];

fn enabled_filters(draft: &mut OptionsDraft, field: &Field<'_>, reader: &mut Reader<'_>) {
    let kinds = field.names(reader, "filter", &FilterKind::ALL, FilterKind::name);
    put(&mut draft.options.enabled_filters, kinds);
}

fn weight_classes(draft: &mut OptionsDraft, field: &Field<'_>, reader: &mut Reader<'_>) {
    let kinds = field.names(reader, "weigher", &WeigherKind::ALL, WeigherKind::name);
    let weighers =
        kinds.map(|kinds| kinds.into_iter().map(|kind| (kind, kind.default_multiplier())).collect());
    put(&mut draft.options.weighers, weighers);
}
