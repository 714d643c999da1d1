//! HostState's attributes by name, as far as the table knows them.

use novella_resources::MB_PER_GB;

use crate::nova::json::Json;
use crate::table::block::Row;
use crate::table::capabilities::{CapabilityKind, INTEGERS};
use crate::table::host_table::HostTable;
use crate::table::view::HostState;

/// How to compute an attribute from the table's own columns. `None` if it is not one of these.
pub(super) fn computed(name: &str) -> Option<fn(&HostState<'_>) -> Json> {
    Some(match name {
        "host" => |h| Json::Text(h.host().into()),
        "nodename" | "hypervisor_hostname" => |h| Json::Text(h.nodename().into()),
        "total_usable_ram_mb" => |h| Json::Int(h.reported().memory_mb_total.into()),
        "free_ram_mb" => |h| whole(h.free_memory_mb()),
        "total_usable_disk_gb" => |h| Json::Int(h.reported().disk_gb_total.into()),
        "disk_mb_used" => |h| Json::Int((h.reported().disk_gb_used * MB_PER_GB).into()),
        "free_disk_mb" => |h| whole(h.free_disk_mb()),
        "vcpus_total" => |h| Json::Int(h.reported().vcpus_total.into()),
        "vcpus_used" => |h| Json::Int(h.used().vcpus.into()),
        "num_instances" => |h| Json::Int(h.used().instances.into()),
        "num_io_ops" => |h| Json::Int(h.num_io_ops().into()),
        "failed_builds" => |h| Json::Int(h.reported().failed_builds.into()),
        "cpu_allocation_ratio" => |h| Json::Float(h.reported().ratios.cpu),
        "ram_allocation_ratio" => |h| Json::Float(h.reported().ratios.ram),
        "disk_allocation_ratio" => |h| Json::Float(h.reported().ratios.disk),
        "limits" => |_| Json::Map(Vec::new()), // nothing is written there before the filters ran
        _ => return None,
    })
}

/// A whole number that is kept in a double.
fn whole(value: f64) -> Json {
    Json::Int(value as i128)
}

/// One attribute of one host. `None` where Nova has no such attribute, or where its value is None.
pub(super) fn get(table: &HostTable, row: Row, name: &str) -> Option<Json> {
    if let Some(attribute) = computed(name) {
        return Some(attribute(&table.view(row)));
    }
    let capabilities = &table.capabilities;
    if let Some(which) = INTEGERS.iter().position(|integer| *integer == name) {
        return capabilities.integer(row.index(), which).map(|value| Json::Int(value.into()));
    }
    reported(table, row, CapabilityKind::Attribute, name)
}

/// All of the host's facts, which are Nova's `stats`. `None` if it reported none.
pub(super) fn facts(table: &HostTable, row: Row) -> Option<Json> {
    let facts = table.capabilities.facts(row.index());
    let map: Vec<_> = facts.map(|(name, value)| (name.into(), value.clone())).collect();
    if map.is_empty() { None } else { Some(Json::Map(map)) }
}

/// One value that the host reported. `None` if it did not report the key, or as null.
pub(super) fn reported(table: &HostTable, row: Row, kind: CapabilityKind, name: &str) -> Option<Json> {
    let capabilities = &table.capabilities;
    let symbol = capabilities.symbols(capabilities.key(kind, name)).at(row.index())?;
    Some(capabilities.value(symbol).value.clone()).filter(|value| *value != Json::Null)
}
