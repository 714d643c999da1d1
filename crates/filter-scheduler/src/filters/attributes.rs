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
        "limits" => |_| Json::Map(Vec::new()), // empty before the filters have run
        _ => return None,
    })
}

/// How to write an attribute that is an object in Nova: a list, a map, an object of a class, a method. `None` if there is no
/// such attribute. Python prints such objects at length, so what stands between brackets here is not what it prints. It
/// begins as in Python, it is not a number, and no extra spec equals it, except where the object is empty.
pub(super) fn object(name: &str) -> Option<fn(&HostTable, Row) -> Option<String>> {
    const METHODS: [&str; 4] =
        ["_locked_consume_from_request", "_update_from_compute_node", "consume_from_request", "update"];
    Some(match name {
        "_lock_name" => |table, row| {
            let host = table.view(row);
            Some(format!("{}-{}", host.host(), host.nodename()))
        },
        "aggregates" => {
            |table, row| Some(list(table.aggregates.ids(row.index()).is_empty(), "[Aggregate(...)]"))
        }
        "allocation_candidates" => |_, _| Some("[{...}]".to_owned()),
        "cell_uuid" => |table, row| Some(table.cell(row).unwrap_or("...").to_owned()),
        "instances" => |table, row| {
            let none = table.instances.on(row.index()).next().is_none();
            Some(if none { "{}" } else { "{...: Instance(...)}" }.to_owned())
        },
        "metrics" => |_, _| Some("MonitorMetricList(...)".to_owned()),
        "numa_topology" => |table, row| {
            let (devices, _) = table.devices.at(row.index())?;
            devices.cells().map(|_| "NUMATopology(...)".to_owned())
        },
        "pci_stats" => |_, _| Some("<nova.pci.stats.PciDeviceStats object>".to_owned()),
        "service" => |_, _| Some("{...}".to_owned()),
        "stats" => |table, row| {
            Some(facts(table, row).map_or_else(|| "{}".to_owned(), |facts| facts.text().into_owned()))
        },
        "__module__" => |_, _| Some("nova.scheduler.host_manager".to_owned()),
        "__weakref__" => |_, _| None,
        name if METHODS.contains(&name) => |_, _| Some("<bound method HostState...>".to_owned()),
        name if OF_EVERY_OBJECT.contains(&name) => |_, _| Some("<...>".to_owned()),
        _ => return None,
    })
}

/// The attributes that every object has in Python 3.11.
const OF_EVERY_OBJECT: [&str; 25] = [
    "__class__",
    "__delattr__",
    "__dict__",
    "__dir__",
    "__doc__",
    "__eq__",
    "__format__",
    "__ge__",
    "__getattribute__",
    "__getstate__",
    "__gt__",
    "__hash__",
    "__init__",
    "__init_subclass__",
    "__le__",
    "__lt__",
    "__ne__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__repr__",
    "__setattr__",
    "__sizeof__",
    "__str__",
    "__subclasshook__",
];

fn list(empty: bool, otherwise: &str) -> String {
    if empty { "[]" } else { otherwise }.to_owned()
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
