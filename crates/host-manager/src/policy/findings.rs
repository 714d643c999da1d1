//! Finds probable mistakes in a policy that can be read: flavors that no request can use, and parts that nothing looks at.
//!
//! What always holds: findings never refuse a policy, because schedulers can run with it. `novella policy
//! check` and the log of the scheduler name each with its line.
//!
//! Left out: what makes a policy unreadable, which the readers of the sections say; hosts that are in two zones by what
//! they report, which `novella host list` shows.

use std::collections::BTreeMap;

use novella_filter_scheduler::nova::python;
use novella_filter_scheduler::{
    FilterKind, SchedulerOptions, WeigherKind, misspelt, nearest, never_fits, unread_extra_spec,
};
use novella_objects::Flavor;
use novella_objects::document::PciAlias;

use crate::policy::membership::AggregateRule;
use crate::policy::pci_alias::{EXTRA_SPEC, pci_requests};
use crate::policy::read::{Field, Reader, Span};

/// The metadata key that names the zone of an aggregate's hosts.
const ZONE_KEY: &str = "availability_zone";

/// How many host names are compared at most to find hosts in two zones, so that a large policy is read quickly.
const MOST_NAMES: usize = 200_000;

/// Metadata of aggregates, each with the filter that reads it.
const METADATA: [(&str, FilterKind); 7] = [
    ("cpu_allocation_ratio", FilterKind::AggregateCore),
    ("disk_allocation_ratio", FilterKind::AggregateDisk),
    ("filter_tenant_id", FilterKind::AggregateMultiTenancyIsolation),
    ("instance_type", FilterKind::AggregateTypeAffinity),
    ("max_instances_per_host", FilterKind::AggregateNumInstances),
    ("max_io_ops_per_host", FilterKind::AggregateIoOps),
    ("ram_allocation_ratio", FilterKind::AggregateRam),
];

/// Options that only these filters read.
const OPTIONS: [(&str, &[FilterKind]); 8] = [
    ("filter_scheduler.max_io_ops_per_host", &[FilterKind::IoOps, FilterKind::AggregateIoOps]),
    (
        "filter_scheduler.max_instances_per_host",
        &[FilterKind::NumInstances, FilterKind::AggregateNumInstances],
    ),
    ("filter_scheduler.isolated_hosts", &[FilterKind::IsolatedHosts]),
    ("filter_scheduler.isolated_images", &[FilterKind::IsolatedHosts]),
    ("filter_scheduler.restrict_isolated_hosts_to_isolated_images", &[FilterKind::IsolatedHosts]),
    (
        "filter_scheduler.aggregate_image_properties_isolation_namespace",
        &[FilterKind::AggregateImagePropertiesIsolation],
    ),
    (
        "filter_scheduler.aggregate_image_properties_isolation_separator",
        &[FilterKind::AggregateImagePropertiesIsolation],
    ),
    ("filter_scheduler.image_properties_default_architecture", &[FilterKind::ImageProperties]),
];

/// The parts of a policy in which something can be found.
pub(super) struct Contents<'a> {
    pub(super) options: &'a SchedulerOptions,
    pub(super) aggregates: &'a [AggregateRule],
    pub(super) flavors: &'a BTreeMap<String, Flavor>,
    pub(super) pci_aliases: &'a BTreeMap<String, PciAlias>,
}

/// Notes the findings of a policy that was read from these sections.
pub(super) fn note(sections: &[Field<'_>], policy: &Contents<'_>, reader: &mut Reader<'_>) {
    for section in sections {
        match section.name {
            "filter_scheduler" => {
                for option in reader.fields(&section.key, section.item) {
                    note_option(&option, policy.options, reader);
                }
            }
            "flavors" => {
                for flavor in reader.fields(&section.key, section.item) {
                    note_flavor(&flavor, policy, reader);
                }
            }
            "aggregates" => note_aggregates(section, policy, reader),
            _ => {}
        }
    }
}

fn note_option(option: &Field<'_>, options: &SchedulerOptions, reader: &mut Reader<'_>) {
    if option.name == "enabled_filters" && options.enabled_filters.is_empty() {
        let what = "no filter is enabled, so hosts that are down or full are chosen too";
        reader.warning(&option.at, &option.key, what, "remove the key to enable the default filters");
    }
    let Some((_, readers)) = OPTIONS.iter().find(|(key, _)| *key == option.key) else { return };
    if !readers.iter().any(|kind| options.enabled_filters.contains(kind)) {
        let names: Vec<_> = readers.iter().map(|kind| kind.name()).collect();
        let names = names.join(" or ");
        let what = format!("{names} is not enabled, so this option has no effect");
        let fix = format!("add {names} to filter_scheduler.enabled_filters, or remove the option");
        reader.warning(&option.at, &option.key, what, fix);
    }
}

fn note_flavor(section: &Field<'_>, policy: &Contents<'_>, reader: &mut Reader<'_>) {
    let Some(flavor) = policy.flavors.get(section.name) else { return };
    let fields = reader.fields(&section.key, section.item);
    let specs = fields.iter().find(|field| field.name == "extra_specs");
    for (name, value, at) in specs.map(|specs| specs.text_map(reader)).unwrap_or_default() {
        let key = format!("{}.extra_specs.{name:?}", section.key);
        if name == EXTRA_SPEC {
            note_alias(&at, &key, flavor, policy, reader);
        }
        if let Some(unread) = unread_extra_spec(&name, &value, policy.options) {
            let what = format!("{:?} has no effect, because {}", value, unread.reason);
            reader.warning_near(&at, &key, what, "correct or remove it", unread.did_you_mean);
        }
    }
    if let Some(why) = never_fits(flavor, policy.options) {
        let fix = "correct the flavor, or remove it";
        reader.unusable(
            &section.at,
            &section.key,
            format!("every request for this flavor is refused: {why}"),
            fix,
        );
    }
}

/// Notes a flavor whose PCI aliases are not defined, or written wrongly.
fn note_alias(at: &Span, key: &str, flavor: &Flavor, policy: &Contents<'_>, reader: &mut Reader<'_>) {
    if let Err(failure) = pci_requests(policy.pci_aliases, flavor, None, &[]) {
        let what = format!("every request for this flavor is refused: {failure}");
        reader.unusable(at, key, what, "define the alias in [pci], or correct the extra spec");
    }
}

fn note_aggregates(section: &Field<'_>, policy: &Contents<'_>, reader: &mut Reader<'_>) {
    let mut zoned: Vec<(&AggregateRule, &str)> = Vec::new();
    let mut names_left = MOST_NAMES;
    for aggregate in reader.fields(&section.key, section.item) {
        let named = |rule: &&AggregateRule| rule.aggregate.name == aggregate.name;
        let Some(rule) = policy.aggregates.iter().find(named) else { continue };
        let fields = reader.fields(&aggregate.key, aggregate.item);
        let metadata = fields.iter().find(|field| field.name == "metadata");
        for (name, value, at) in metadata.map(|field| field.text_map(reader)).unwrap_or_default() {
            let key = format!("{}.metadata.{name}", aggregate.key);
            note_metadata(&at, &key, (&name, &value), policy.options, reader);
            if name == ZONE_KEY {
                note_two_zones(&at, &key, (rule, &value), &zoned, &mut names_left, reader);
                zoned.extend(rule.aggregate.metadata.get(ZONE_KEY).map(|zone| (rule, zone.as_str())));
            }
        }
    }
}

/// Notes metadata that nothing looks at, and ratios with which nothing fits.
fn note_metadata(
    at: &Span,
    key: &str,
    (name, value): (&str, &str),
    options: &SchedulerOptions,
    reader: &mut Reader<'_>,
) {
    let of_tenant = name.starts_with("filter_tenant_id");
    let known =
        |(known, _): &&(&str, FilterKind)| *known == name || of_tenant && *known == "filter_tenant_id";
    if let Some((_, kind)) = METADATA.iter().find(known) {
        let prefiltered =
            of_tenant && options.placement && options.policy.limit_tenants_to_placement_aggregate;
        if !options.enabled_filters.contains(kind) && !prefiltered {
            let what = format!("{kind} is not enabled, so this has no effect");
            let fix = format!("add {kind} to filter_scheduler.enabled_filters, or remove it");
            reader.warning(at, key, what, fix);
        } else if name.ends_with("_ratio") && python::float(value).is_some_and(|ratio| ratio <= 0.0) {
            let what = format!("with a ratio of {value}, no instance fits on the hosts of this aggregate");
            reader.warning(
                at,
                key,
                what,
                "write a ratio above 0, or set the hosts aside by a zone or a trait",
            );
        }
        return;
    }
    if let Some(kind) = WeigherKind::ALL.into_iter().find(|kind| kind.multiplier_key() == name) {
        if !options.weighers.iter().any(|(enabled, _)| *enabled == kind) {
            let what = format!("{kind} is not enabled, so its multiplier has no effect");
            let fix = format!("add {kind} to filter_scheduler.weight_classes, or remove the multiplier");
            reader.warning(at, key, what, fix);
        }
        return;
    }
    if name.starts_with("trait:") {
        note_isolating_trait(at, key, value, options, reader);
        return;
    }
    let zone_is_read = options.placement || options.enabled_filters.contains(&FilterKind::AvailabilityZone);
    if name == ZONE_KEY && !zone_is_read {
        let what = "AvailabilityZoneFilter is not enabled and scheduler.placement is false, so nothing asks for zones";
        reader.warning(at, key, what, "add AvailabilityZoneFilter to filter_scheduler.enabled_filters");
        return;
    }
    // Other keys may be any, because filters compare them with extra specs and image properties.
    let multipliers = WeigherKind::ALL.into_iter().map(WeigherKind::multiplier_key);
    let known = METADATA.iter().map(|(known, _)| *known).chain([ZONE_KEY]).chain(multipliers);
    if let Some(near) = misspelt(name, known) {
        let what = "no filter or weigher reads metadata of this name";
        reader.warning_near(at, key, what, "correct or remove it", Some(near.to_owned()));
    }
}

/// Notes a trait with which an aggregate is to be set aside, if that has no effect.
fn note_isolating_trait(
    at: &Span,
    key: &str,
    value: &str,
    options: &SchedulerOptions,
    reader: &mut Reader<'_>,
) {
    if !(options.placement && options.policy.enable_isolated_aggregate_filtering) {
        let what = "scheduler.enable_isolated_aggregate_filtering is false, so this sets no host aside";
        reader.warning(
            at,
            key,
            what,
            "set scheduler.enable_isolated_aggregate_filtering = true, or remove it",
        );
    } else if value != "required" {
        let what = format!("{value:?} has no effect, because its value is not required");
        let near = nearest(value, ["required"].into_iter()).map(str::to_owned);
        reader.warning_near(at, key, what, "write \"required\", or remove it", near);
    }
}

/// Notes a host that two aggregates put into different zones. Nova refuses such aggregates. `others` are the aggregates
/// before this one that name a zone.
fn note_two_zones(
    at: &Span,
    key: &str,
    (rule, zone): (&AggregateRule, &str),
    others: &[(&AggregateRule, &str)],
    names_left: &mut usize,
    reader: &mut Reader<'_>,
) {
    const FIX: &str = "give each host one zone: take it out of one of the aggregates";
    if zone.contains(',') {
        reader.warning(at, key, "this names several zones, and a host is in one zone only", FIX);
    }
    for (other, other_zone) in others.iter().filter(|(_, other_zone)| *other_zone != zone) {
        let pairs = rule.hosts.iter().flat_map(|a| other.hosts.iter().map(move |b| (a, b)));
        if let Some(host) = pairs.filter_map(|(a, b)| a.common_name(b, names_left)).next() {
            let other = &other.aggregate.name;
            let what = format!(
                "host {host} is in two zones: in {zone} by this aggregate, and in {other_zone} by aggregates.{other}"
            );
            reader.warning(at, key, what, FIX);
        }
    }
}
