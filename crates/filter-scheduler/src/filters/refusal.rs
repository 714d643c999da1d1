//! Explains in words why a filter refused a host.
//!
//! What always holds: [`Filter::run`] alone decides, and the text is made afterwards. To name the part of a
//! request that a host does not satisfy, the parts are given one by one to the code that decided.

use std::collections::{BTreeMap, BTreeSet};

use novella_resources::{Amount, MB_PER_GB};

use crate::filters::by_value::{ValueRule, metric};
use crate::filters::group::Group;
use crate::filters::program::{Filter, Program};
use crate::filters::tally::Count;
use crate::filters::{attributes, by_aggregate};
use crate::request::asked::Asked;
use crate::settings::filter_kind::FilterKind;
use crate::settings::options::SchedulerOptions;
use crate::table::aggregates::Facts;
use crate::table::amounts::Exact;
use crate::table::block::Row;
use crate::table::host_table::HostTable;

/// A host that was refused, and everything that the decision depended on.
#[derive(Clone, Copy)]
pub(crate) struct HostContext<'a> {
    pub(crate) table: &'a HostTable,
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) group: Option<&'a Group>,
    pub(crate) options: &'a SchedulerOptions,
    pub(crate) row: Row,
}

impl Filter {
    /// Why this filter refused the host, in words. It must have refused it.
    pub(crate) fn refusal(&self, context: HostContext<'_>) -> String {
        let HostContext { table, asked, row, .. } = context;
        let exact = &table.columns.exact[row.index()];
        match &self.program {
            Program::Serving => format!("it is {}", exact.status.as_str()),
            Program::Zone(..) | Program::ZoneOfSet(..) => context.zone(),
            Program::Room { amount, wanted } => short(exact, *amount, *wanted, None),
            Program::RoomOfSet { amount, wanted, .. } => {
                short(exact, *amount, *wanted, self.ratio(table, row))
            }
            Program::RoomOfPinned(pinned) => {
                let wanted = pinned.of(exact.has_pcpus).unwrap_or(0);
                short(exact, Amount::Vcpus, wanted, self.ratio(table, row))
            }
            Program::Capabilities(questions) => questions.refusal(table, row),
            Program::Together => "no member of the group is on it".to_owned(),
            Program::Apart => context.group.map_or_else(String::new, |group| {
                let members = group.members_on(row.0);
                let most = members.saturating_add(group.room_on(row.0));
                format!("members of the group on it: {members}, at most {most} are allowed")
            }),
            Program::Fewer { count, limit } => count.refusal(exact, *limit),
            Program::FewerOfSet { count, limits } => {
                count.refusal(exact, limits[table.aggregates.set_of(row.index()) as usize])
            }
            Program::Values(values) => match &values.rule {
                ValueRule::Inside(network) => {
                    format!("host_ip is {}, asked {network}", context.attribute("host_ip"))
                }
                ValueRule::Metrics(names) => {
                    let missing = |name: &&String| {
                        let metrics = attributes::get(table, row, "metrics");
                        metrics.is_none_or(|metrics| metric(&metrics, name).is_none())
                    };
                    let missing: Vec<_> = names.iter().filter(missing).map(String::as_str).collect();
                    format!("it does not report the metric {}", missing.join(", "))
                }
            },
            Program::Image(support) => {
                let version = exact.hypervisor_version;
                let supported = context.attribute("supported_instances");
                let bits = support.address_bits_of(table, row.index());
                let bits = bits.map_or_else(String::new, |bits| format!(", addresses have {bits} bits"));
                format!(
                    "supported_instances is {supported}, hypervisor_version {version}{bits}; the image asks {support}"
                )
            }
            Program::Query(_) => {
                let query = asked.spec.scheduler_hints.get("query");
                format!("the query {} does not hold", query.map_or_else(String::new, ToString::to_string))
            }
            Program::Flavor(wanted) => {
                let kinds = table.instances.kinds_on(row.index());
                let flavors: BTreeSet<_> = kinds
                    .map(|kind| kind.and_then(|kind| kind.flavor.as_deref()).unwrap_or("an unknown flavor"))
                    .filter(|flavor| **flavor != **wanted)
                    .collect();
                format!("it has instances of {}, asked only {wanted}", list(flavors))
            }
            Program::Cells(question) => question.refusal(table, row.index()),
            Program::Devices(question) => question.refusal(table, row.index()),
            Program::Sets(_) => context.sets(self.kind),
            Program::Rows(_) => context.rows(self.kind),
            Program::PassAll | Program::Broken(_) => format!("{} refuses it", self.kind),
        }
    }
}

impl HostContext<'_> {
    fn attribute(&self, name: &str) -> String {
        let value = attributes::get(self.table, self.row, name);
        value.map_or_else(|| "not reported".to_owned(), |value| value.text().into_owned())
    }

    fn facts(&self) -> &Facts {
        &self.table.aggregates.facts()[self.table.aggregates.set_of(self.row.index()) as usize]
    }

    fn zone(&self) -> String {
        let asked = self.asked.spec.availability_zone.as_deref().unwrap_or_default();
        let own = self.table.view(self.row).zone().unwrap_or(&self.options.default_availability_zone);
        format!("zone is {own}, asked {asked}")
    }

    /// Why a filter that looks at the metadata of aggregates refused the host.
    fn sets(&self, kind: FilterKind) -> String {
        let (facts, spec) = (self.facts(), self.asked.spec);
        let metadata = |key: &str| match facts.split(key) {
            Some(values) => list(values.iter().map(|value| &**value)),
            None => "not set".to_owned(),
        };
        match kind {
            FilterKind::AggregateInstanceExtraSpecs => {
                let alone = |(key, text): &(&String, &String)| {
                    let spec = BTreeMap::from([((*key).clone(), (*text).clone())]);
                    by_aggregate::extra_specs(facts, &spec) != Ok(true)
                };
                let Some((key, text)) = spec.flavor.extra_specs.iter().find(alone) else {
                    return format!("{kind} refuses it");
                };
                let name = key.strip_prefix("aggregate_instance_extra_specs:").unwrap_or(key);
                format!("extra spec {key}: {name} of its aggregates is {}, asked {text}", metadata(name))
            }
            FilterKind::AggregateImagePropertiesIsolation => {
                let value = |key: &str| self.asked.image.get(key).map(|value| value.text());
                let differing = facts.all().find_map(|(key, values)| {
                    let value = value(key).filter(|value| !values.contains(value.as_str()))?;
                    Some(format!("{key} of its aggregates is {}, the image's is {value}", metadata(key)))
                });
                differing.unwrap_or_else(|| format!("{kind} refuses it"))
            }
            FilterKind::AggregateMultiTenancyIsolation => {
                let tenants = facts.all().filter(|(key, _)| key.starts_with("filter_tenant_id"));
                let tenants = list(tenants.flat_map(|(_, tenants)| tenants).map(|tenant| &**tenant));
                let project = spec.project_id.as_deref().unwrap_or("none");
                format!("its aggregates are for the projects {tenants}, the request is from {project}")
            }
            FilterKind::AggregateTypeAffinity => {
                let name = &spec.flavor.name;
                format!("its aggregates are for the flavors {}, asked {name:?}", metadata("instance_type"))
            }
            other => format!("{other} refuses it"),
        }
    }

    /// Why a filter that has a list of hosts refused this one.
    fn rows(&self, kind: FilterKind) -> String {
        match kind {
            FilterKind::Retry => "it was tried before".to_owned(),
            FilterKind::DifferentHost => "an instance of the hint is on it".to_owned(),
            FilterKind::SameHost => "no instance of the hint is on it".to_owned(),
            FilterKind::IsolatedHosts => {
                let host = self.table.host(self.row);
                match self.options.policy.isolated_hosts.iter().any(|isolated| isolated == host) {
                    true => "it is reserved for other images".to_owned(),
                    false => "the image is reserved for other hosts".to_owned(),
                }
            }
            other => format!("{other} refuses it"),
        }
    }
}

impl Count {
    fn refusal(self, exact: &Exact, limit: i64) -> String {
        let has = self.of(exact);
        match self {
            Self::Instances => format!("instances on it: {has}, with {limit} it is full"),
            Self::IoOps => {
                format!("instances that are building, resizing or the like: {has}, with {limit} it is busy")
            }
        }
    }
}

/// Why an amount does not fit, with the calculation.
fn short(exact: &Exact, amount: Amount, wanted: i32, ratio: Option<f64>) -> String {
    let (capacity, used) = (exact.capacity(), exact.used());
    let (unit, scale, total, own, used) = match amount {
        Amount::Vcpus => ("vCPU", 1.0, capacity.vcpus.unwrap_or(0), capacity.ratios.cpu, used.vcpus),
        Amount::MemoryMb => ("MiB", 1.0, capacity.memory_mb, capacity.ratios.ram, used.memory_mb),
        Amount::DiskMb => ("GiB", MB_PER_GB as f64, capacity.disk_gb, capacity.ratios.disk, used.disk_gb),
    };
    let wanted = f64::from(wanted) / scale;
    if amount == Amount::Vcpus && total == 0 && exact.has_pcpus {
        return format!("asked {wanted} {unit}, but all CPUs of the host are dedicated");
    }
    if wanted > total as f64 {
        return format!("asked {wanted} {unit}, but the host has only {total}");
    }
    let ratio = ratio.unwrap_or(own);
    let left = total as f64 * ratio - used as f64;
    format!(
        "short by {} {unit}: asked {wanted}, left {left} of {total} x {ratio}, {used} in use",
        wanted - left
    )
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}
