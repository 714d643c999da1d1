//! PCI aliases: what the extra spec `pci_passthrough:alias` of a flavor stands for, as in Nova's `[pci] alias`.
//!
//! Entries with the same name are alternatives. Nova's API turns the extra spec into PCI requests before it asks the
//! scheduler.
//!
//! What always holds: a request that already has PCI requests from aliases is left as it is.

use std::collections::BTreeMap;

use novella_filter_scheduler::{Failure, FilterKind, SchedulerOptions};
use novella_objects::document::{PciAlias, PciRequest};
use novella_objects::{Flavor, Image};
use novella_resources::BadDevices;
use serde_json::Value as Json;
use toml_edit::TableLike;

use crate::policy::read::{Field, Reader, Span, fields};

/// The extra spec that names aliases.
pub(super) const EXTRA_SPEC: &str = "pci_passthrough:alias";

/// The extra spec that says how near to the CPUs devices must be. It overrules the alias.
const FLAVOR_POLICY: &str = "hw:pci_numa_affinity_policy";
/// The image property that says how near to the CPUs devices must be. It overrules the alias.
const IMAGE_POLICY: &str = "hw_pci_numa_affinity_policy";

/// How near to the CPUs devices must be if nothing says so.
const NUMA_POLICY: &str = "legacy";

/// The PCI requests `given`, together with those that the flavor's aliases stand for. `None` if the flavor names no
/// alias, or if `given` already has requests from aliases. Fails if an alias is unknown or written wrongly.
pub fn pci_requests(
    aliases: &BTreeMap<String, PciAlias>,
    flavor: &Flavor,
    image: Option<&Image>,
    given: &[PciRequest],
) -> Result<Option<Vec<PciRequest>>, Failure> {
    let Some(asked) = flavor.extra_specs.get(EXTRA_SPEC) else { return Ok(None) };
    if given.iter().any(|request| request.alias_name.is_some()) {
        return Ok(None);
    }
    let of_image = image.and_then(|image| image.properties.get(IMAGE_POLICY)).and_then(Json::as_str);
    let of_flavor = flavor.extra_specs.get(FLAVOR_POLICY).map(String::as_str);
    let overruled = [of_flavor, of_image].into_iter().flatten().any(|policy| !policy.is_empty());
    let mut requests = Vec::new();
    for part in asked.split(',') {
        let (name, count) = part.split_once(':').unwrap_or((part, ""));
        let (name, count) = (name.trim(), count.trim().parse().ok().filter(|count| *count > 0));
        let Some(count) = count else {
            let what =
                format!("{EXTRA_SPEC} is {asked:?}; it must be NAME:COUNT, or several with commas between");
            return Err(Failure::Devices(BadDevices(what)));
        };
        let alias = aliases.get(name).ok_or_else(|| {
            let known: Vec<_> = aliases.keys().map(String::as_str).collect();
            Failure::Unknown { what: "PCI alias", name: name.to_owned(), known: known.join(", ") }
        })?;
        let numa_policy = || alias.numa_policy.clone().unwrap_or_else(|| NUMA_POLICY.to_owned());
        requests.push(PciRequest {
            count,
            spec: alias.specs.clone(),
            numa_policy: (!overruled).then(numa_policy),
            alias_name: Some(name.to_owned()),
        });
    }
    requests.extend_from_slice(given);
    Ok(Some(requests))
}

const KEYS: [&str; 6] = ["name", "vendor_id", "product_id", "device_type", "numa_policy", "live_migratable"];

/// vDPA devices cannot be had by alias; Nova says so too.
const DEVICE_TYPES: [&str; 3] = ["type-PCI", "type-PF", "type-VF"];

const NUMA_POLICIES: [&str; 4] = ["required", "legacy", "preferred", "socket"];

const EXAMPLE: &str =
    "write for example alias = [{ name = \"gpu\", vendor_id = \"10de\", product_id = \"1eb8\" }]";

/// Reads the section `[pci]`; `options` must enable the filter that looks at devices.
pub(super) fn read(
    section: &Field<'_>,
    options: &SchedulerOptions,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, PciAlias> {
    let mut aliases = BTreeMap::new();
    for field in reader.fields(&section.key, section.item) {
        if field.name != "alias" {
            reader.unknown_key(&field, "key of pci", &["alias"]);
            continue;
        }
        for table in tables(&field, reader) {
            read_alias(&field.key, table, &field.at, &mut aliases, reader);
        }
    }
    let enabled = options.enabled_filters.contains(&FilterKind::PciPassthrough);
    if !aliases.is_empty() && !enabled {
        let what = "PciPassthroughFilter is not enabled, so aliases would have no effect";
        let fix = "add PciPassthroughFilter to filter_scheduler.enabled_filters";
        reader.problem(&section.at, &section.key, what, fix);
    }
    aliases
}

/// Reads a list of tables, in either of TOML's two notations.
fn tables<'a>(field: &Field<'a>, reader: &mut Reader<'_>) -> Vec<&'a dyn TableLike> {
    if let Some(tables) = field.item.as_array_of_tables() {
        return tables.iter().map(|table| table as &dyn TableLike).collect();
    }
    let inline = field.item.as_array().map(|list| {
        list.iter().map(|value| value.as_inline_table().map(|table| table as &dyn TableLike)).collect()
    });
    inline.flatten().unwrap_or_else(|| {
        reader.problem(&field.at, &field.key, "expected a list of tables", EXAMPLE);
        Vec::new()
    })
}

fn read_alias(
    key: &str,
    table: &dyn TableLike,
    list_at: &Span,
    aliases: &mut BTreeMap<String, PciAlias>,
    reader: &mut Reader<'_>,
) {
    let before = reader.problems.len();
    let (mut name, mut numa_policy, mut spec) = (String::new(), NUMA_POLICY.to_owned(), BTreeMap::new());
    let mut at = list_at.clone();
    for field in fields(key, table) {
        match field.name {
            "name" => {
                at = field.at.clone();
                name = field.text(reader).unwrap_or_default().trim().to_owned();
            }
            "vendor_id" | "product_id" => {
                let text = field.text(reader).unwrap_or_default();
                if text.len() != 4 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    let what = format!("{text:?} is not four hexadecimal digits");
                    reader.problem(&field.at, &field.key, what, "write for example \"8086\"");
                }
                spec.insert(field.name.to_owned(), text.into());
            }
            "device_type" => {
                spec.extend(
                    one_of(&field, &DEVICE_TYPES, reader).map(|kind| ("dev_type".to_owned(), kind.into())),
                );
            }
            "numa_policy" => numa_policy = one_of(&field, &NUMA_POLICIES, reader).unwrap_or_default(),
            "live_migratable" => {
                let flag = field.flag(reader).unwrap_or_default();
                spec.insert("live_migratable".to_owned(), flag.to_string().into());
            }
            _ => reader.unknown_key(&field, "key of an alias", &KEYS),
        }
    }
    let missing = |key: &&str| if *key == "name" { name.is_empty() } else { !spec.contains_key(*key) };
    if let Some(missing) = ["name", "vendor_id", "product_id"].iter().find(|key| missing(key)) {
        if reader.problems.len() == before {
            reader.problem(&at, key, format_args!("an alias needs {missing}"), EXAMPLE);
        }
        return;
    }
    let alias = aliases
        .entry(name.clone())
        .or_insert(PciAlias { numa_policy: Some(numa_policy.clone()), specs: Vec::new() });
    let alike = alias.specs.first().is_none_or(|first| first.get("dev_type") == spec.get("dev_type"));
    if alias.numa_policy.as_ref() != Some(&numa_policy) || !alike {
        let what = format!("the entries of {name:?} differ in numa_policy or device_type");
        reader.problem(&at, key, what, "make these settings equal, or give the entries different names");
    }
    alias.specs.push(spec);
}

fn one_of(field: &Field<'_>, known: &[&'static str], reader: &mut Reader<'_>) -> Option<String> {
    let text = field.text(reader)?;
    if !known.contains(&text.as_str()) {
        reader.unknown(&field.at, &field.key, (field.name, &text), known.iter().copied());
        return None;
    }
    Some(text)
}
