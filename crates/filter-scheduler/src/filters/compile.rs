//! Compiles a request into filters: the symbols, thresholds and bitmaps that it stands for in a table.
//!
//! Left out: what a compiled filter does with a block of hosts, which `program.rs` says.

use novella_objects::RequestSpec;
use serde_json::Value;
use uuid::Uuid;

use crate::filters::by_aggregate;
use crate::filters::by_value::{ValueRule, Values};
use crate::filters::compute_capabilities::Questions;
use crate::filters::devices::{CellQuestion, DeviceQuestion};
use crate::filters::group::{Group, ServerGroupPolicy};
use crate::filters::image::Support;
use crate::filters::json_query::Query;
use crate::filters::network::Network;
use crate::filters::pinned::RoomOfPinned;
use crate::filters::program::{Filter, Program};
use crate::filters::ratios::{amount_asked, ratios_of_sets};
use crate::filters::tally::{Count, Passes};
use crate::nova::python;
use crate::request::asked::Asked;
use crate::settings::filter_kind::FilterKind;
use crate::settings::options::{OnFilterError, Policy, SchedulerOptions, ratios};
use crate::table::aggregates::{Facts, ZONE_KEY};
use crate::table::block::{Row, clear, set};
use crate::table::host_table::{HostTable, NO_ZONE};

/// Compiles one filter for one request. The match lists every filter; the functions below it are in the same order.
pub(crate) fn compile(
    kind: FilterKind,
    table: &mut HostTable,
    asked: &Asked<'_>,
    group: Option<&Group>,
    options: &SchedulerOptions,
) -> Filter {
    let (request, policy) = (asked.spec, &options.policy);
    let program = match kind {
        // What the host is.
        FilterKind::AllHosts => Program::PassAll,
        FilterKind::Compute => Program::Serving,
        FilterKind::AvailabilityZone => zone(table, request, options),
        FilterKind::IsolatedHosts => isolated(table, request, policy),
        FilterKind::Retry => not_tried(table, request),

        // Amounts.
        FilterKind::Ram | FilterKind::Core | FilterKind::Disk => room(kind, table, asked),
        FilterKind::AggregateRam | FilterKind::AggregateCore | FilterKind::AggregateDisk => {
            room(kind, table, asked)
        }
        FilterKind::IoOps => Program::Fewer { count: Count::IoOps, limit: policy.max_io_ops_per_host },
        FilterKind::NumInstances => {
            Program::Fewer { count: Count::Instances, limit: policy.max_instances_per_host }
        }
        FilterKind::AggregateIoOps => limits(kind, table, Count::IoOps, policy.max_io_ops_per_host),
        FilterKind::AggregateNumInstances => {
            limits(kind, table, Count::Instances, policy.max_instances_per_host)
        }

        // Metadata of aggregates.
        FilterKind::AggregateImagePropertiesIsolation if request.image.is_none() => Program::PassAll,
        FilterKind::AggregateImagePropertiesIsolation => {
            sets(table, |facts| by_aggregate::image_properties(facts, &asked.image, policy))
        }
        FilterKind::AggregateInstanceExtraSpecs if request.flavor.extra_specs.is_empty() => Program::PassAll,
        FilterKind::AggregateInstanceExtraSpecs => {
            sets(table, |facts| by_aggregate::extra_specs(facts, &request.flavor.extra_specs))
        }
        FilterKind::AggregateMultiTenancyIsolation => {
            sets(table, |facts| by_aggregate::tenancy(facts, request.project_id.as_deref()))
        }
        FilterKind::AggregateTypeAffinity => {
            sets(table, |facts| by_aggregate::flavor(facts, &request.flavor.name))
        }

        // What the host reports about itself.
        FilterKind::ComputeCapabilities if request.flavor.extra_specs.is_empty() => Program::PassAll,
        FilterKind::ComputeCapabilities => {
            Program::Capabilities(Questions::compile(&request.flavor.extra_specs, table))
        }
        FilterKind::ImageProperties => Support::compile(asked, table, policy)
            .map_or(Program::PassAll, |support| Program::Image(Box::new(support))),
        FilterKind::SimpleCidrAffinity => near_address(table, request),
        FilterKind::Metrics => metrics(table, policy),
        FilterKind::Json => {
            let query = Query::of_hint(request.scheduler_hints.get("query"));
            query.map_or(Program::PassAll, Program::Query)
        }

        // Instances on the host, and server groups.
        FilterKind::SameHost => with_instances(table, request, "same_host", true),
        FilterKind::DifferentHost => with_instances(table, request, "different_host", false),
        FilterKind::TypeAffinity => Program::Flavor(request.flavor.identity().into()),
        FilterKind::ServerGroupAffinity => if_policy(group, ServerGroupPolicy::Affinity, Program::Together),
        FilterKind::ServerGroupAntiAffinity => {
            if_policy(group, ServerGroupPolicy::AntiAffinity, Program::Apart)
        }

        // NUMA cells and PCI devices.
        FilterKind::NumaTopology => cells(asked, options),
        FilterKind::PciPassthrough => {
            DeviceQuestion::compile(&asked.wanted).map_or(Program::PassAll, Program::Devices)
        }
    };
    Filter { kind, program }
}

/// AvailabilityZoneFilter. A host's zone is the one that its aggregates' metadata name, or else the one that it
/// reports, or else the default.
fn zone(table: &HostTable, request: &RequestSpec, options: &SchedulerOptions) -> Program {
    let zone = match request.availability_zone.as_deref() {
        None | Some("") => return Program::PassAll,
        Some(zone) => zone,
    };
    // If no host names the zone, this is a symbol that no row holds.
    let named = table.zones.find(zone).unwrap_or(NO_ZONE - 1);
    let unnamed = if zone == options.default_availability_zone { NO_ZONE } else { named };
    let facts = table.aggregates.facts();
    if facts.iter().all(|facts| facts.split(ZONE_KEY).is_none()) {
        return Program::Zone(named, unnamed);
    }
    let sets = facts.iter().map(|facts| facts.split(ZONE_KEY).map(|zones| zones.contains(zone))).collect();
    Program::ZoneOfSet(sets, named, unnamed)
}

/// IsolatedHostsFilter: the isolated hosts for an isolated image, and the others, or all hosts, for another image.
fn isolated(table: &HostTable, request: &RequestSpec, policy: &Policy) -> Program {
    let id = request.image.as_ref().and_then(|image| image.id.as_ref());
    let image = id.is_some_and(|id| policy.isolated_images.contains(id));
    let hosts = || policy.isolated_hosts.iter().filter_map(|host| table.row_of(host));
    let restrict = policy.restrict_isolated_hosts_to_isolated_images;
    match (policy.isolated_images.is_empty(), restrict, image) {
        (true, false, _) | (false, false, false) => Program::PassAll,
        (true, true, _) | (false, true, false) => Program::Rows(bitmap(table, hosts(), false)),
        (false, _, true) => Program::Rows(bitmap(table, hosts(), true)),
    }
}

/// RetryFilter: hosts other than those that were tried before for this request.
fn not_tried(table: &HostTable, request: &RequestSpec) -> Program {
    let tried = request.retry.iter().flat_map(|retry| &retry.hosts);
    let rows =
        tried.filter_map(|(host, node)| table.row_of(host).filter(|row| table.view(*row).nodename() == node));
    Program::Rows(bitmap(table, rows, false))
}

/// The filters of CPUs, memory and disk. Pinned CPUs are asked in their own way.
fn room(kind: FilterKind, table: &HostTable, asked: &Asked<'_>) -> Program {
    if asked.pinning.cpus.is_some() && matches!(kind, FilterKind::Core | FilterKind::AggregateCore) {
        return RoomOfPinned::compile(kind, table, asked)
            .map_or(Program::PassAll, |pinned| Program::RoomOfPinned(Box::new(pinned)));
    }
    let (amount, wanted) = amount_asked(kind, asked.spec);
    let Some(wanted) = wanted else { return Program::PassAll };
    match ratios_of_sets(kind, table) {
        Some(ratios) => Program::RoomOfSet { amount, wanted, ratios },
        None => Program::Room { amount, wanted },
    }
}

/// A filter that counts up to a limit: the smallest that a host's aggregates set, or else the configured one.
fn limits(kind: FilterKind, table: &HostTable, count: Count, configured: i64) -> Program {
    let limit = |facts: &Facts| {
        let own = kind.aggregate_key().and_then(|key| facts.smallest(key, python::int));
        own.map_or(configured, |own| own.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    };
    Program::FewerOfSet { count, limits: table.aggregates.facts().iter().map(limit).collect() }
}

/// A filter that asks the metadata of each set of aggregates.
fn sets(table: &HostTable, passes: impl FnMut(&Facts) -> Passes) -> Program {
    Program::Sets(table.aggregates.facts().iter().map(passes).collect())
}

/// SimpleCIDRAffinityFilter: hosts whose address is in the network hinted at.
fn near_address(table: &mut HostTable, request: &RequestSpec) -> Program {
    let hint = |name| request.scheduler_hints.get(name);
    match Network::of_hints(hint("build_near_host_ip"), hint("cidr")) {
        None => Program::PassAll,
        Some(Ok(network)) => {
            Program::Values(Box::new(Values::compile(ValueRule::Inside(network), "host_ip", table)))
        }
        Some(Err(reason)) => Program::Broken(reason),
    }
}

/// MetricsFilter: hosts that report every metric that is weighed.
fn metrics(table: &mut HostTable, policy: &Policy) -> Program {
    let names: Vec<_> = ratios(&policy.metrics_weight_setting).map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() {
        return Program::PassAll;
    }
    Program::Values(Box::new(Values::compile(ValueRule::Metrics(names), "metrics", table)))
}

/// SameHostFilter and DifferentHostFilter: hosts that have one of the instances hinted at, or that have none of them. A
/// text that is not a uuid names no instance.
fn with_instances(table: &HostTable, request: &RequestSpec, hint: &str, same: bool) -> Program {
    let uuids: Vec<Option<Uuid>> = match request.scheduler_hints.get(hint) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().and_then(|text| text.parse().ok())).collect()
        }
        Some(Value::String(text)) => vec![text.parse().ok()],
        Some(_) => vec![None],
    };
    if uuids.is_empty() {
        return Program::PassAll;
    }
    let rows = uuids.into_iter().flatten().flat_map(|uuid| table.instances.rows_of(uuid)).map(Row);
    Program::Rows(bitmap(table, rows, same))
}

/// The program of a server group's filter, if the group has the policy that the filter is for.
fn if_policy(group: Option<&Group>, policy: ServerGroupPolicy, program: Program) -> Program {
    if group.is_some_and(|group| group.policy == policy) { program } else { Program::PassAll }
}

/// NUMATopologyFilter: hosts whose cells the instance's cells fit onto.
fn cells(asked: &Asked<'_>, options: &SchedulerOptions) -> Program {
    // In Nova's own use a request always has an image, even one that boots from a volume.
    if asked.spec.image.is_none() && options.on_filter_error == OnFilterError::FailRequest {
        return Program::Broken("the request has no image".to_owned());
    }
    CellQuestion::compile(asked, &asked.wanted)
        .map_or(Program::PassAll, |question| Program::Cells(Box::new(question)))
}

/// A bitmap of rows: those in `rows` if `listed`, or else all others.
fn bitmap(table: &HostTable, rows: impl Iterator<Item = Row>, listed: bool) -> Vec<u64> {
    let mut words = vec![if listed { 0 } else { u64::MAX }; table.columns.present.len()];
    let put = if listed { set } else { clear };
    for row in rows {
        put(&mut words, row);
    }
    words
}
