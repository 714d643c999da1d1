//! Reads the hosts of a fleet into a host table, as Nova's HostState reads a compute node.
//!
//! As in Nova:
//! - A node without `free_disk_gb` has never reported, and nothing that it says counts.
//! - Of the two amounts of free disk, the smaller counts.
//! - Free amounts may be negative.
//! - Counts that the document does not give are read from `stats`.
//! - A service is up until `service_down_time` after it was heard, including that second.
//!
//! What always holds: the row of a host is its position in the document.
//!
//! Left out: aggregates' rules. A document says which aggregates a host is in.

use std::borrow::Cow;
use std::collections::BTreeSet;

use novella_filter_scheduler::nova::python;
use novella_filter_scheduler::{HostTable, Instance, Resources, Row};
use novella_objects::document::{Aggregate, Host, HostInstance, UsedInventory};
use novella_objects::{
    AllocationRatios, Capabilities, Entries, HostStatus, Image, Inventory, Json, NovellaReport,
};
use novella_resources::{Devices, SIZES};
use serde_json::value::RawValue;

use crate::bad_document::BadDocument;

/// Makes a table of these aggregates and hosts. Rows are in the order of `hosts`, so the index of a row is the position
/// of its host. Fails at the first host or aggregate that cannot be used.
pub fn host_table(
    aggregates: &[Aggregate],
    hosts: &[Host<'_>],
    service_down_time_s: f64,
) -> Result<HostTable, BadDocument> {
    let mut table = HostTable::new();
    let mut ids = BTreeSet::new();
    for (at, aggregate) in aggregates.iter().enumerate() {
        if !ids.insert(aggregate.id) {
            let place = format!("aggregates[{at}].id");
            return Err(BadDocument::new(place, format!("{} is the id of another aggregate", aggregate.id)));
        }
    }
    table.set_aggregates(aggregates.iter().cloned());
    for (at, host) in hosts.iter().enumerate() {
        let name = &*host.host;
        let place = || format!("hosts[{at}]({name})");
        if table.row_of(name).is_some() {
            let reason = "another host has this name; each host is listed once, with one node";
            return Err(BadDocument::new(format!("{}.host", place()), reason));
        }
        let row = table.insert(name, host.node.as_deref().unwrap_or(name));
        fill(&mut table, row, host, service_down_time_s).map_err(|bad| bad.within(&place()))?;
    }
    Ok(table)
}

fn fill(table: &mut HostTable, row: Row, host: &Host<'_>, down_time: f64) -> Result<(), BadDocument> {
    if let Some(class) = SIZES.iter().find(|class| host.resources.contains_key(**class)) {
        let reason = "the host's total and used amounts are used for this class; leave it out";
        return Err(BadDocument::new(format!("resources.{class}"), reason));
    }
    table.set_status(row, status(host, down_time));
    table.set_zone(row, host.availability_zone.as_deref());
    table.set_cell(row, host.cell.as_deref());
    table.set_host_aggregates(row, &host.aggregates);
    for (at, instance) in host.instances.iter().enumerate() {
        let (uuid, flavor, image) = match instance {
            HostInstance::Uuid(uuid) => (*uuid, None, None),
            HostInstance::Known { uuid, flavor, image, group: _ } => {
                (*uuid, flavor.as_deref(), image.as_ref())
            }
        };
        let image = image.map(|properties| Image { properties: properties.clone(), ..Image::default() });
        table
            .add_instance(row, &Instance { uuid, flavor, image: image.as_ref() })
            .map_err(|bad| BadDocument::new(format!("instances[{at}].image"), bad.to_string()))?;
    }
    if host.free_disk_gb == Some(None) {
        return Ok(()); // the host has never reported
    }
    let resources = resources(host)?;
    table.set_resources(row, &resources).map_err(|bad| BadDocument::new("amounts", bad.to_string()))?;
    let devices = Devices::read(host.numa_topology.as_ref(), &host.pci_pools);
    table.set_devices(row, &devices.map_err(|bad| BadDocument::new("devices", bad.to_string()))?);
    table.set_capabilities(row, &capabilities(host)?);
    table.set_traits(row, host.traits.iter().map(|name| &**name));
    table.set_inventories(
        row,
        host.resources.iter().map(|(class, held)| (class.as_str(), inventory(held), held.used)),
    );
    Ok(())
}

fn inventory(held: &UsedInventory) -> Inventory {
    let UsedInventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio, used: _ } = *held;
    Inventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio }
}

fn status(host: &Host<'_>, down_time: f64) -> HostStatus {
    let heard = host.last_seen_age_s.abs() <= down_time;
    match host {
        _ if host.disabled => HostStatus::Disabled,
        _ if host.forced_down => HostStatus::Down,
        _ if host.suspect => HostStatus::Suspect,
        _ if heard => HostStatus::Up,
        _ => HostStatus::Down,
    }
}

fn resources(host: &Host<'_>) -> Result<Resources, BadDocument> {
    let default = AllocationRatios::default();
    let (memory_mb, local_gb) = (host.memory_mb, host.local_gb);
    let free_gb = host.free_disk_gb.flatten();
    let (disk_field, free_gb) = match (free_gb, host.disk_available_least) {
        (Some(free), Some(least)) if least < free => ("disk_available_least", Some(least)),
        (None, Some(least)) if i128::from(least) < i128::from(local_gb) - i128::from(host.local_gb_used) => {
            ("disk_available_least", Some(least))
        }
        (free, _) => ("free_disk_gb", free),
    };
    Ok(Resources {
        vcpus_total: host.vcpus,
        vcpus_used: host.vcpus_used,
        memory_mb_total: memory_mb,
        memory_mb_used: used(
            ("free_ram_mb", host.free_ram_mb),
            ("memory_mb", memory_mb),
            host.memory_mb_used,
        )?,
        disk_gb_total: local_gb,
        disk_gb_used: used((disk_field, free_gb), ("local_gb", local_gb), host.local_gb_used)?,
        ratios: AllocationRatios {
            cpu: host.cpu_allocation_ratio.unwrap_or(default.cpu),
            ram: host.ram_allocation_ratio.unwrap_or(default.ram),
            disk: host.disk_allocation_ratio.unwrap_or(default.disk),
        },
        num_instances: count(host, host.num_instances, "num_instances")?,
        num_io_ops: count(host, host.num_io_ops, "io_workload")?,
        failed_builds: count(host, host.failed_builds, "failed_builds")?,
    })
}

/// How much of an amount is used, if this much of it is free; `told` if the document does not say what is free.
fn used(free: (&str, Option<i64>), total: (&str, u64), told: u64) -> Result<u64, BadDocument> {
    let (Some(amount), (field, of)) = (free.1, total) else { return Ok(told) };
    let used = i128::from(of) - i128::from(amount);
    u64::try_from(used).map_err(|_| {
        BadDocument::new(free.0, format!("{amount} is more than {field}, {of}, and cannot be free"))
    })
}

/// A count that the document gives, or else the text in `stats`, read as Nova reads it.
fn count(host: &Host<'_>, told: Option<u32>, key: &str) -> Result<u32, BadDocument> {
    if let Some(count) = told {
        return Ok(count);
    }
    let Some(raw) = host.stats.get(key) else { return Ok(0) };
    let text: Cow<'_, str> = match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => text.into(),
        Err(_) => raw.get().into(),
    };
    python::int(&text).and_then(|count| u32::try_from(count).ok()).ok_or_else(|| {
        BadDocument::new(
            format!("stats.{key}"),
            format!("{} is not a whole number from 0 to {}", raw.get(), u32::MAX),
        )
    })
}

/// What extra specs and queries can ask about, in the form of a report.
fn capabilities<'a>(host: &'a Host<'_>) -> Result<Capabilities<'a>, BadDocument> {
    let mut report = Capabilities {
        cpu_info: host.cpu_info.as_ref().map(|json| Cow::Borrowed(&**json)),
        hypervisor_type: host.hypervisor_type.as_deref().map(Cow::Borrowed),
        hypervisor_version: host.hypervisor_version,
        ..Capabilities::default()
    };
    let of_nova = host.capabilities.is_none();
    let mut attribute = |name: &'static str, value: Option<Json<'a>>| {
        report.extra.extend(value.map(|json| (Cow::Borrowed(name), json.0)));
    };
    let text = |text: &str| Json::of(text).expect("any text can be written as JSON");
    attribute("uuid", host.uuid.filter(|_| of_nova).map(|uuid| text(&uuid.to_string())));
    let told: Vec<&str> = [
        ("uuid", host.uuid.is_some()),
        ("host_ip", host.host_ip.is_some()),
        ("supported_instances", host.supported_instances.is_some()),
        ("metrics", host.metrics.is_some()),
        ("cpu_info", true),
        ("hypervisor_type", true),
        ("hypervisor_version", true),
    ]
    .into_iter()
    .filter_map(|(name, told)| told.then_some(name))
    .collect();
    let mut names = BTreeSet::new();
    for (name, value) in host.capabilities.iter().flat_map(Entries::iter) {
        let number = match name {
            "vcpus" => &mut report.vcpus,
            "vcpus_used" => &mut report.vcpus_used,
            "disk_total" => &mut report.disk_total,
            "disk_used" => &mut report.disk_used,
            "disk_available" => &mut report.disk_available,
            "host_memory_total" => &mut report.host_memory_total,
            "host_memory_free" => &mut report.host_memory_free,
            _ => {
                if told.contains(&name) || !names.insert(name) {
                    let reason = "the host has this value in a field of its own; give it once";
                    return Err(BadDocument::new(format!("capabilities.{name}"), reason));
                }
                report.extra.push((Cow::Borrowed(name), borrowed(value).0));
                continue;
            }
        };
        *number = Some(serde_json::from_str(value.get()).map_err(|_| {
            let reason = format!("{} is not a whole number", value.get());
            BadDocument::new(format!("capabilities.{name}"), reason)
        })?);
    }
    let mut facts = Entries::default();
    for (name, value) in host.stats.iter().chain(host.facts.iter()) {
        facts.0.push((Cow::Borrowed(name), borrowed(value)));
    }
    if let Some((twice, _)) = host.facts.iter().find(|(name, _)| host.stats.get(name).is_some()) {
        return Err(BadDocument::new(format!("facts.{twice}"), "this fact is in stats too; give it once"));
    }
    let list = |list: &'a Option<Json<'_>>| {
        let empty = of_nova.then(|| Json::of::<[u8; 0]>(&[]).expect("an empty list is JSON"));
        list.as_ref().map(borrowed).or(empty)
    };
    report.novella = Some(Box::new(NovellaReport {
        facts,
        host_ip: host.host_ip.as_deref().map(Cow::Borrowed),
        supported_instances: list(&host.supported_instances),
        metrics: list(&host.metrics),
        ..NovellaReport::default()
    }));
    Ok(report)
}

fn borrowed<'a>(json: &'a Json<'_>) -> Json<'a> {
    Json(Cow::<RawValue>::Borrowed(json))
}
