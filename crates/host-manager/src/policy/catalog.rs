//! Flavors and server groups, which requests may name instead of spelling them out.
//!
//! What always holds: flavors differ in their names and ids, and a server group's policy is one that the enabled
//! filters or weighers apply.

use std::collections::BTreeMap;

use novella_filter_scheduler::{FilterKind, SchedulerOptions, WeigherKind};
use novella_objects::{Flavor, InstanceGroup, MAX_AMOUNT};
use serde_json::{Value as Json, json};

use crate::policy::read::{Field, Reader};

/// The rule of a server group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// How many members one host may have. It applies to `anti-affinity` only.
    pub max_server_per_host: u32,
}

/// The policies of server groups, each with the filter or weigher that must be enabled for it.
const POLICIES: [(&str, Needs); 4] = [
    ("affinity", Needs::Filter(FilterKind::ServerGroupAffinity)),
    ("anti-affinity", Needs::Filter(FilterKind::ServerGroupAntiAffinity)),
    ("soft-affinity", Needs::Weigher(WeigherKind::SoftAffinity)),
    ("soft-anti-affinity", Needs::Weigher(WeigherKind::SoftAntiAffinity)),
];

/// What must be enabled for a policy of server groups.
#[derive(Clone, Copy)]
enum Needs {
    Filter(FilterKind),
    Weigher(WeigherKind),
}

impl GroupRule {
    /// A request's group with this rule, without members yet.
    pub fn group(&self) -> InstanceGroup {
        let rules = match self.max_server_per_host {
            1 => BTreeMap::new(),
            most => BTreeMap::from([("max_server_per_host".to_owned(), most.to_string())]),
        };
        InstanceGroup { policy: self.policy.clone(), rules, ..InstanceGroup::default() }
    }

    pub(super) fn to_json(&self) -> Json {
        json!({ "policy": self.policy, "max_server_per_host": self.max_server_per_host })
    }
}

/// The name of the filter or weigher that a group's policy needs, if it is not enabled. Nova refuses such a request
/// with this name.
pub fn missing_for_group(policy: &str, options: &SchedulerOptions) -> Option<&'static str> {
    match POLICIES.iter().find(|(known, _)| *known == policy)?.1 {
        Needs::Filter(kind) => (!options.enabled_filters.contains(&kind)).then_some(kind.name()),
        Needs::Weigher(kind) => {
            (!options.weighers.iter().any(|(enabled, _)| *enabled == kind)).then_some(kind.name())
        }
    }
}

const GROUP_KEYS: [&str; 2] = ["policy", "max_server_per_host"];

/// Reads one server group. It is a problem if `options` do not enable what its policy needs.
pub(super) fn read_group(
    section: &Field<'_>,
    options: &SchedulerOptions,
    reader: &mut Reader<'_>,
) -> Option<GroupRule> {
    let (mut policy, mut most, mut most_at) = (None, None, None);
    let before = reader.problems.len();
    for field in reader.fields(&section.key, section.item) {
        match field.name {
            "policy" => policy = field.text(reader).map(|text| (text, field.item.span())),
            "max_server_per_host" => {
                most = field.whole(reader, 1..=1_000_000);
                most_at = field.at.clone();
            }
            _ => reader.unknown_key(&field, "key of a server group", &GROUP_KEYS),
        }
    }
    let Some((policy, at)) = policy else {
        if reader.problems.len() == before {
            let fix = "write for example policy = \"anti-affinity\"";
            reader.problem(&section.at, &section.key, "a server group needs a policy", fix);
        }
        return None;
    };
    let key = format!("{}.policy", section.key);
    let known = POLICIES.iter().map(|(known, _)| *known);
    if !known.clone().any(|known| known == policy) {
        reader.unknown(&at, &key, ("policy", &policy), known);
        return None;
    }
    if let Some(missing) = missing_for_group(&policy, options) {
        let list = if missing.ends_with("Filter") { "enabled_filters" } else { "weight_classes" };
        let what = format!("{missing} is not enabled, so {policy} would have no effect");
        reader.problem(&at, &key, what, format_args!("add {missing} to filter_scheduler.{list}"));
    }
    if most.is_some() && policy != "anti-affinity" {
        let key = format!("{}.max_server_per_host", section.key);
        reader.problem(&most_at, &key, "this applies to anti-affinity only", "remove it");
    }
    Some(GroupRule { policy, max_server_per_host: most.unwrap_or(1) })
}

const FLAVOR_KEYS: [&str; 7] = ["id", "vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap", "extra_specs"];

/// Reads the flavors. It is a problem if two have the same name or id.
pub(super) fn read_flavors(section: &Field<'_>, reader: &mut Reader<'_>) -> BTreeMap<String, Flavor> {
    let mut flavors: BTreeMap<String, Flavor> = BTreeMap::new();
    for field in reader.fields(&section.key, section.item) {
        let Some(flavor) = read_flavor(&field, reader) else { continue };
        let same = |other: &&Flavor| other.identity() == flavor.identity() || other.name == flavor.identity();
        if let Some(other) = flavors.values().find(same) {
            let what = format!("flavor {} has the same id", other.name);
            reader.problem(&field.at, &format!("{}.id", field.key), what, "give each flavor its own id");
        }
        flavors.insert(field.name.to_owned(), flavor);
    }
    flavors
}

fn read_flavor(section: &Field<'_>, reader: &mut Reader<'_>) -> Option<Flavor> {
    let before = reader.problems.len();
    let mut flavor = Flavor { name: section.name.to_owned(), ..Flavor::default() };
    for field in reader.fields(&section.key, section.item) {
        let mut amount = |least: i64| field.whole(reader, least..=MAX_AMOUNT as i64).unwrap_or(1_u64);
        match field.name {
            "vcpus" => flavor.vcpus = amount(1) as u32,
            "memory_mb" => flavor.memory_mb = amount(1),
            "root_gb" => flavor.root_gb = amount(0),
            "ephemeral_gb" => flavor.ephemeral_gb = amount(0),
            "swap" => flavor.swap = amount(0),
            "id" => flavor.id = field.text(reader).unwrap_or_default(),
            "extra_specs" => {
                let specs = field.text_map(reader).into_iter();
                flavor.extra_specs = specs.map(|(key, value, _)| (key, value)).collect();
            }
            _ => reader.unknown_key(&field, "key of a flavor", &FLAVOR_KEYS),
        }
    }
    for (key, missing) in [("vcpus", flavor.vcpus == 0), ("memory_mb", flavor.memory_mb == 0)] {
        if missing && reader.problems.len() == before {
            let fix = format!("write for example {key} = {}", if key == "vcpus" { 2 } else { 4096 });
            reader.problem(&section.at, &section.key, format_args!("a flavor needs {key}"), fix);
        }
    }
    (reader.problems.len() == before).then_some(flavor)
}
