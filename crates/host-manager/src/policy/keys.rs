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
    pub(super) options: SchedulerOptions,
    /// The position of `enabled_filters` in the text.
    pub(super) filters_at: Span,
    /// The multipliers read so far, each with its key and position. They are applied when the weighers are known.
    multipliers: Vec<(WeigherKind, f64, &'static str, Span)>,
}

/// The largest number of attempts. An answer has at most 32 alternates.
const MAX_ATTEMPTS: i64 = novella_objects::MAX_ALTERNATES as i64 + 1;

/// Every option, in the order in which they are listed.
pub const POLICY_KEYS: &[PolicyKey] = &[
    option(
        "default_availability_zone",
        "name",
        "Zone of hosts that are in none by their aggregates or their own configuration.",
        |d, f, r| put(&mut d.options.default_availability_zone, f.text(r)),
        |o| json!(o.default_availability_zone),
    ),
    option(
        "scheduler.max_attempts",
        "hosts",
        "Hosts named per instance: one is chosen, the others are its alternates.",
        |d, f, r| put(&mut d.options.max_attempts, f.whole(r, 1..=MAX_ATTEMPTS).map(|n| n as u32)),
        |o| json!(o.max_attempts),
    ),
    option(
        "scheduler.on_filter_error",
        "fail_request or reject_host",
        "What an error inside a filter or weigher means: the request fails, as in Nova, or the host is refused and the \
         error counted.",
        |d, f, r| put(&mut d.options.on_filter_error, on_filter_error(f, r)),
        |o| json!(o.on_filter_error),
    ),
    option(
        "scheduler.runners_up",
        "hosts",
        "Hosts that an explanation ranks besides the winner.",
        |d, f, r| put(&mut d.options.runners_up, f.whole(r, 0..=100).map(|n| n as usize)),
        |o| json!(o.runners_up),
    ),
    option(
        "scheduler.placement",
        "true or false",
        "Whether traits, resource classes and aggregates are asked before the filters, as Nova asks Placement.",
        |d, f, r| put(&mut d.options.placement, f.flag(r)),
        |o| json!(o.placement),
    ),
    option(
        "scheduler.limit_tenants_to_placement_aggregate",
        "true or false",
        "Before the filters: a project goes only to aggregates whose metadata filter_tenant_id* name it, if any does.",
        |d, f, r| put(&mut d.options.policy.limit_tenants_to_placement_aggregate, f.flag(r)),
        |o| json!(o.policy.limit_tenants_to_placement_aggregate),
    ),
    option(
        "scheduler.placement_aggregate_required_for_tenants",
        "true or false",
        "With limit_tenants_to_placement_aggregate: a project that no aggregate names goes nowhere.",
        |d, f, r| put(&mut d.options.policy.placement_aggregate_required_for_tenants, f.flag(r)),
        |o| json!(o.policy.placement_aggregate_required_for_tenants),
    ),
    option(
        "scheduler.query_placement_for_image_type_support",
        "true or false",
        "Before the filters: hosts must have the trait COMPUTE_IMAGE_TYPE_* of the image's format.",
        |d, f, r| put(&mut d.options.policy.query_placement_for_image_type_support, f.flag(r)),
        |o| json!(o.policy.query_placement_for_image_type_support),
    ),
    option(
        "scheduler.enable_isolated_aggregate_filtering",
        "true or false",
        "Before the filters: aggregates with metadata trait:X=required are for requests that require X.",
        |d, f, r| put(&mut d.options.policy.enable_isolated_aggregate_filtering, f.flag(r)),
        |o| json!(o.policy.enable_isolated_aggregate_filtering),
    ),
    option(
        "scheduler.image_metadata_prefilter",
        "true or false",
        "Before the filters: hosts must have the traits of the image's buses, models and architecture.",
        |d, f, r| put(&mut d.options.policy.image_metadata_prefilter, f.flag(r)),
        |o| json!(o.policy.image_metadata_prefilter),
    ),
    option(
        "filter_scheduler.enabled_filters",
        "list of names",
        "Filters, in the order they run.",
        enabled_filters,
        |o| o.enabled_filters.iter().map(|kind| kind.name()).collect(),
    ),
    option(
        "filter_scheduler.weight_classes",
        "list of names",
        "Weighers, in the order they are added up.",
        weight_classes,
        |o| o.weighers.iter().map(|(kind, _)| kind.name()).collect(),
    ),
    option(
        "filter_scheduler.host_subset_size",
        "hosts",
        "Choose at random among this many best hosts.",
        |d, f, r| put(&mut d.options.host_subset_size, f.whole(r, 1..=1_000_000).map(|n| n as usize)),
        |o| json!(o.host_subset_size),
    ),
    option(
        "filter_scheduler.shuffle_best_same_weighed_hosts",
        "true or false",
        "Whether hosts that share the best weight are put in random order.",
        |d, f, r| put(&mut d.options.shuffle_best_same_weighed_hosts, f.flag(r)),
        |o| json!(o.shuffle_best_same_weighed_hosts),
    ),
    multiplier(
        WeigherKind::Ram,
        "filter_scheduler.ram_weight_multiplier",
        "Weight of free memory; negative packs.",
    ),
    multiplier(
        WeigherKind::Cpu,
        "filter_scheduler.cpu_weight_multiplier",
        "Weight of free CPUs; negative packs.",
    ),
    multiplier(
        WeigherKind::Disk,
        "filter_scheduler.disk_weight_multiplier",
        "Weight of free disk; negative packs.",
    ),
    multiplier(
        WeigherKind::IoOps,
        "filter_scheduler.io_ops_weight_multiplier",
        "Weight of instances that build, resize, ...; negative spreads.",
    ),
    multiplier(
        WeigherKind::HypervisorVersion,
        "filter_scheduler.hypervisor_version_weight_multiplier",
        "Weight of the hypervisor's version; negative prefers old ones.",
    ),
    multiplier(
        WeigherKind::NumInstances,
        "filter_scheduler.num_instances_weight_multiplier",
        "Weight of the number of instances; negative spreads.",
    ),
    multiplier(
        WeigherKind::Pci,
        "filter_scheduler.pci_weight_multiplier",
        "Weight of having few PCI devices; not negative.",
    ),
    multiplier(
        WeigherKind::SoftAffinity,
        "filter_scheduler.soft_affinity_weight_multiplier",
        "Weight of members of a soft-affinity group; not negative.",
    ),
    multiplier(
        WeigherKind::SoftAntiAffinity,
        "filter_scheduler.soft_anti_affinity_weight_multiplier",
        "Weight of lacking members of a soft-anti-affinity group; not negative.",
    ),
    multiplier(
        WeigherKind::BuildFailure,
        "filter_scheduler.build_failure_weight_multiplier",
        "How much builds that failed in a row count against a host.",
    ),
    multiplier(
        WeigherKind::CrossCell,
        "filter_scheduler.cross_cell_move_weight_multiplier",
        "Weight of staying in the cell that an instance is moved in.",
    ),
    multiplier(
        WeigherKind::ImageProperties,
        "filter_scheduler.image_props_weight_multiplier",
        "Weight of instances from images with equal properties; negative spreads.",
    ),
    option(
        "filter_scheduler.image_props_weight_setting",
        "list of name=ratio",
        "ImagePropertiesWeigher: properties that count, each with its ratio; empty: all count alike.",
        |d, f, r| put(&mut d.options.policy.image_props_weight_setting, ratios(f, r)),
        |o| json!(o.policy.image_props_weight_setting),
    ),
    option(
        "filter_scheduler.max_io_ops_per_host",
        "instances",
        "IoOpsFilter: a host with this many instances building, resizing, ... is full.",
        |d, f, r| put(&mut d.options.policy.max_io_ops_per_host, f.whole(r, i64::MIN..=i64::MAX)),
        |o| json!(o.policy.max_io_ops_per_host),
    ),
    option(
        "filter_scheduler.max_instances_per_host",
        "instances",
        "NumInstancesFilter: a host with this many instances is full.",
        |d, f, r| put(&mut d.options.policy.max_instances_per_host, f.whole(r, 1..=i64::MAX)),
        |o| json!(o.policy.max_instances_per_host),
    ),
    option(
        "filter_scheduler.isolated_hosts",
        "list of host names",
        "IsolatedHostsFilter: hosts set aside; names exact.",
        |d, f, r| put(&mut d.options.policy.isolated_hosts, words(f, r)),
        |o| json!(o.policy.isolated_hosts),
    ),
    option(
        "filter_scheduler.isolated_images",
        "list of image ids",
        "IsolatedHostsFilter: images that the hosts are set aside for.",
        |d, f, r| put(&mut d.options.policy.isolated_images, words(f, r)),
        |o| json!(o.policy.isolated_images),
    ),
    option(
        "filter_scheduler.restrict_isolated_hosts_to_isolated_images",
        "true or false",
        "IsolatedHostsFilter: whether nothing else may run on these hosts.",
        |d, f, r| put(&mut d.options.policy.restrict_isolated_hosts_to_isolated_images, f.flag(r)),
        |o| json!(o.policy.restrict_isolated_hosts_to_isolated_images),
    ),
    option(
        "filter_scheduler.aggregate_image_properties_isolation_namespace",
        "prefix",
        "AggregateImagePropertiesIsolation: only metadata whose key begins with this and the separator.",
        |d, f, r| {
            put(&mut d.options.policy.aggregate_image_properties_isolation_namespace, f.text(r).map(Some))
        },
        |o| json!(o.policy.aggregate_image_properties_isolation_namespace),
    ),
    option(
        "filter_scheduler.aggregate_image_properties_isolation_separator",
        "text",
        "AggregateImagePropertiesIsolation: what stands between the namespace and the property.",
        |d, f, r| put(&mut d.options.policy.aggregate_image_properties_isolation_separator, f.text(r)),
        |o| json!(o.policy.aggregate_image_properties_isolation_separator),
    ),
    option(
        "filter_scheduler.image_properties_default_architecture",
        "architecture",
        "ImagePropertiesFilter: the architecture of images that name none.",
        architecture,
        |o| json!(o.policy.image_properties_default_architecture),
    ),
    multiplier(WeigherKind::Metrics, "metrics.weight_multiplier", "Weight of the metrics that hosts report."),
    option(
        "metrics.weight_setting",
        "list of name=ratio",
        "MetricsFilter and MetricsWeigher: metrics that count, each with its ratio.",
        |d, f, r| put(&mut d.options.policy.metrics_weight_setting, ratios(f, r)),
        |o| json!(o.policy.metrics_weight_setting),
    ),
    option(
        "metrics.required",
        "true or false",
        "MetricsWeigher: whether a host without a metric is an error.",
        |d, f, r| put(&mut d.options.policy.metrics_required, f.flag(r)),
        |o| json!(o.policy.metrics_required),
    ),
    option(
        "metrics.weight_of_unavailable",
        "number",
        "MetricsWeigher: the raw value of a host without a metric that is not required.",
        |d, f, r| put(&mut d.options.policy.metrics_weight_of_unavailable, factor(f, r, true)),
        |o| json!(o.policy.metrics_weight_of_unavailable),
    ),
    option(
        "compute.packing_host_numa_cells_allocation_strategy",
        "true or false",
        "NUMATopologyFilter: whether full NUMA cells are preferred to empty ones.",
        |d, f, r| put(&mut d.options.policy.packing_host_numa_cells_allocation_strategy, f.flag(r)),
        |o| json!(o.policy.packing_host_numa_cells_allocation_strategy),
    ),
    option(
        "workarounds.disable_fallback_pcpu_query",
        "true or false",
        "Before the filters: whether hw:cpu_policy=dedicated is for hosts with an inventory of PCPU alone.",
        |d, f, r| put(&mut d.options.policy.disable_fallback_pcpu_query, f.flag(r)),
        |o| json!(o.policy.disable_fallback_pcpu_query),
    ),
];

/// Options of Nova that a file may contain but novella does not have, each with the reason.
const ELSEWHERE: [(&str, &str); 5] = [
    ("filter_scheduler.available_filters", "no code is loaded; every filter of this build can be enabled"),
    ("filter_scheduler.track_instance_changes", "every report lists its host's instances"),
    ("filter_scheduler.pci_in_placement", "there is no Placement service; PCI devices come from reports"),
    ("scheduler.max_placement_results", "every host is looked at"),
    ("scheduler.workers", "one scheduler uses one process; start several schedulers instead"),
];

const fn option(
    key: &'static str,
    unit: &'static str,
    doc: &'static str,
    set: fn(&mut OptionsDraft, &Field<'_>, &mut Reader<'_>),
    get: fn(&SchedulerOptions) -> Json,
) -> PolicyKey {
    PolicyKey { key, unit, doc, access: Access::Option { set, get } }
}

const fn multiplier(kind: WeigherKind, key: &'static str, doc: &'static str) -> PolicyKey {
    PolicyKey { key, unit: "factor", doc, access: Access::Multiplier(kind) }
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
                if let Some(value) = factor(field, reader, !kind.never_negative()) {
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

fn words(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    Some(field.texts(reader)?.into_iter().map(|(text, _)| text).collect())
}

fn ratios(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let entries = field.texts(reader)?;
    for (entry, at) in entries.iter().filter(|(entry, _)| ratio(entry).is_none()) {
        reader.problem(
            at,
            &field.key,
            format_args!("{entry:?} is not name=ratio"),
            "write for example cpu.percent=-1.0",
        );
    }
    Some(entries.into_iter().map(|(entry, _)| entry).collect())
}

/// Reads a multiplier of a weigher.
fn factor(field: &Field<'_>, reader: &mut Reader<'_>, may_be_negative: bool) -> Option<f64> {
    let value = field.number(reader)?;
    if is_multiplier(value) && (may_be_negative || value >= 0.0) {
        return Some(value);
    }
    let sign = if may_be_negative { "" } else { " and not negative" };
    let what = format!(
        "{value} cannot be used: it must be 0, or have an absolute value from {MIN_MULTIPLIER} to {MAX_MULTIPLIER}{sign}"
    );
    reader.problem(&field.item.span(), &field.key, what, "1.0 is usual");
    None
}

/// Reads a list of names. It is a problem if one is unknown or repeated.
fn names<T: Copy + PartialEq>(
    field: &Field<'_>,
    reader: &mut Reader<'_>,
    what: &str,
    all: &[T],
    name_of: fn(T) -> &'static str,
) -> Option<Vec<T>> {
    let mut found = Vec::new();
    for (name, at) in field.texts(reader)? {
        match all.iter().find(|kind| name_of(**kind) == name) {
            None => reader.unknown(&at, &field.key, (what, &name), all.iter().map(|kind| name_of(*kind))),
            Some(kind) if found.contains(kind) => {
                reader.problem(
                    &at,
                    &field.key,
                    format_args!("{name} is listed twice"),
                    "remove one of the two",
                );
            }
            Some(kind) => found.push(*kind),
        }
    }
    Some(found)
}

fn enabled_filters(draft: &mut OptionsDraft, field: &Field<'_>, reader: &mut Reader<'_>) {
    draft.filters_at = field.at.clone();
    put(
        &mut draft.options.enabled_filters,
        names(field, reader, "filter", &FilterKind::ALL, FilterKind::name),
    );
}

fn weight_classes(draft: &mut OptionsDraft, field: &Field<'_>, reader: &mut Reader<'_>) {
    let kinds = names(field, reader, "weigher", &WeigherKind::ALL, WeigherKind::name);
    let weighers =
        kinds.map(|kinds| kinds.into_iter().map(|kind| (kind, kind.default_multiplier())).collect());
    put(&mut draft.options.weighers, weighers);
}

fn architecture(draft: &mut OptionsDraft, field: &Field<'_>, reader: &mut Reader<'_>) {
    let Some(name) = field.text(reader) else { return };
    if image_properties::architecture(&name).is_none() {
        reader.problem(
            &field.item.span(),
            &field.key,
            format_args!("{name:?} is not a known architecture"),
            "write for example x86_64",
        );
        return;
    }
    draft.options.policy.image_properties_default_architecture = Some(name);
}

const ON_FILTER_ERROR: [(&str, OnFilterError); 2] =
    [("fail_request", OnFilterError::FailRequest), ("reject_host", OnFilterError::RejectHost)];

fn on_filter_error(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<OnFilterError> {
    let name = field.text(reader)?;
    let choice = ON_FILTER_ERROR.iter().find(|(known, _)| *known == name);
    if choice.is_none() {
        let known = ON_FILTER_ERROR.iter().map(|(known, _)| *known);
        reader.unknown(&field.item.span(), &field.key, ("choice", &name), known);
    }
    choice.map(|(_, choice)| *choice)
}
