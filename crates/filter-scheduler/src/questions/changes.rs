//! Changes of a request, a host or an aggregate, applied for one trial.
//!
//! What always holds: after a trial the table is as it was, to the last bit.
//!
//! Left out: which changes are worth a trial (`fix.rs`).

use std::ops::Sub;

use novella_objects::{Change, HostStatus, Inventory, Part, Quantity, RequestSpec};
use uuid::Uuid;

use crate::prefilters::COMPUTE_STATUS_DISABLED;
use crate::select::answer::Terms;
use crate::select::select::FilterScheduler;
use crate::table::aggregates::Aggregate;
use crate::table::amounts::{Exact, Resources};
use crate::table::block::Row;
use crate::table::host_table::HostTable;
use crate::table::inventories::Held;

/// Returns the host that the first instance of a request would get after these changes. `None` if the request does not
/// fit, or if a change concerns a host or an aggregate that no longer exists. Nothing is consumed.
pub fn try_changes(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instances: &[Uuid],
    changes: &[Change],
) -> Option<String> {
    let (mut spec, mut instances) = (spec.clone(), instances);
    let mut before = Vec::new();
    let mut known = true;
    for change in changes {
        match change_fleet(table, change) {
            Ok(undo) => before.push(undo),
            Err(Unchanged::OfRequest) => change_request(&mut spec, &mut instances, change),
            Err(Unchanged::Gone) => known = false,
        }
    }
    let selected =
        known.then(|| engine.select(table, &spec, instances, &Terms { dry_run: true, ..Terms::default() }));
    before.into_iter().rev().for_each(|undo| undo.apply(table));
    let selected = selected.filter(|selected| selected.failure.is_none())?;
    selected.picks.first().map(|pick| table.host(pick.row).to_owned())
}

/// The state before a change of the fleet, to undo it.
enum Undo {
    Host(Row, Box<Exact>),
    /// The status and the traits of a host that was enabled.
    Enabled(Row, Box<Exact>, Vec<String>),
    Class(Row, Held),
    Aggregates(Vec<Aggregate>),
}

impl Undo {
    fn apply(self, table: &mut HostTable) {
        match self {
            Self::Host(row, exact) => table.set_exact(row, *exact),
            Self::Enabled(row, exact, traits) => {
                table.set_exact(row, *exact);
                table.set_traits(row, traits.iter().map(String::as_str));
            }
            Self::Class(row, held) => table.inventories.put(row.index(), held),
            Self::Aggregates(aggregates) => table.set_aggregates(aggregates),
        }
    }
}

/// Why a change does not change the fleet.
enum Unchanged {
    /// It changes the request.
    OfRequest,
    /// The host or aggregate that it changes no longer exists.
    Gone,
}

fn change_fleet(table: &mut HostTable, change: &Change) -> Result<Undo, Unchanged> {
    match change {
        Change::Free { host, amount: Quantity::Class(class), by } => {
            change_class(table, host, class, |held| free(&mut held.used, &mut held.consumed, *by))
        }
        Change::Free { host, amount, by } => {
            change_host(table, host, |exact| free_amount(exact, amount, *by))
        }
        Change::RaiseRatio { host, amount: Quantity::Class(class), to, .. } => {
            change_class(table, host, class, |held| {
                held.inventory = held.inventory.map(|found| Inventory { allocation_ratio: *to, ..found });
            })
        }
        Change::RaiseRatio { host, amount, to, .. } => {
            change_host(table, host, |Exact { reported: Resources { ratios, .. }, .. }| match amount {
                Quantity::Vcpus => ratios.cpu = *to,
                Quantity::MemoryMb => ratios.ram = *to,
                Quantity::DiskGb => ratios.disk = *to,
                Quantity::Instances | Quantity::Class(_) => {}
            })
        }
        Change::Enable { host, .. } => enable(table, host),
        Change::SetMetadata { id, key, to, .. } => {
            let before: Vec<Aggregate> = table.aggregates.defined().cloned().collect();
            let mut after = before.clone();
            let value = after.iter_mut().find(|aggregate| aggregate.id == *id);
            let value = value.and_then(|aggregate| aggregate.metadata.get_mut(key)).ok_or(Unchanged::Gone)?;
            value.clone_from(to);
            table.set_aggregates(after);
            Ok(Undo::Aggregates(before))
        }
        Change::Ask { .. } | Change::Drop { .. } | Change::RaiseGroupLimit { .. } => {
            Err(Unchanged::OfRequest)
        }
    }
}

fn change_class(
    table: &mut HostTable,
    host: &str,
    class: &str,
    change: impl FnOnce(&mut Held),
) -> Result<Undo, Unchanged> {
    let row = table.row_of(host).ok_or(Unchanged::Gone)?;
    let before = table.inventories.held(row.index(), class).ok_or(Unchanged::Gone)?;
    let mut held = before;
    change(&mut held);
    table.inventories.put(row.index(), held);
    Ok(Undo::Class(row, before))
}

/// Makes a host up, without the trait of disabled hosts.
fn enable(table: &mut HostTable, host: &str) -> Result<Undo, Unchanged> {
    let row = table.row_of(host).ok_or(Unchanged::Gone)?;
    let before = table.columns.exact[row.index()];
    let traits: Vec<String> = table.traits(row).map(str::to_owned).collect();
    table.set_exact(row, Exact { status: HostStatus::Up, ..before });
    table.set_traits(row, traits.iter().map(String::as_str).filter(|name| *name != COMPUTE_STATUS_DISABLED));
    Ok(Undo::Enabled(row, Box::new(before), traits))
}

fn change_host(
    table: &mut HostTable,
    host: &str,
    change: impl FnOnce(&mut Exact),
) -> Result<Undo, Unchanged> {
    let row = table.row_of(host).ok_or(Unchanged::Gone)?;
    let before = table.columns.exact[row.index()];
    let mut exact = before;
    change(&mut exact);
    table.set_exact(row, exact);
    Ok(Undo::Host(row, Box::new(before)))
}

fn free_amount(Exact { reported, consumed, .. }: &mut Exact, amount: &Quantity, by: u64) {
    match amount {
        Quantity::Vcpus => free(&mut reported.vcpus_used, &mut consumed.vcpus, by),
        Quantity::MemoryMb => free(&mut reported.memory_mb_used, &mut consumed.memory_mb, by),
        Quantity::DiskGb => free(&mut reported.disk_gb_used, &mut consumed.disk_gb, by),
        Quantity::Instances => {
            let by = u32::try_from(by).unwrap_or(u32::MAX);
            free(&mut reported.num_instances, &mut consumed.instances, by);
        }
        Quantity::Class(_) => {}
    }
}

/// Reduces the reported use first, and then what was placed since the report.
fn free<N: Copy + Ord + Sub<Output = N>>(reported: &mut N, consumed: &mut N, by: N) {
    let first = by.min(*reported);
    *reported = *reported - first;
    *consumed = *consumed - (by - first).min(*consumed);
}

/// Applies a change to a request. A change of the fleet is ignored.
pub fn change_request(spec: &mut RequestSpec, instances: &mut &[Uuid], change: &Change) {
    match change {
        Change::Ask { amount, to, .. } => match amount {
            Quantity::Vcpus => spec.flavor.vcpus = u32::try_from(*to).unwrap_or(u32::MAX),
            Quantity::MemoryMb => spec.flavor.memory_mb = *to,
            Quantity::DiskGb => {
                // The root disk is what instances start from, so the ephemeral one gives way first.
                let root_gb = spec.local_flavor().root_gb.min(*to);
                spec.flavor.ephemeral_gb = to - root_gb;
                if !spec.is_bfv {
                    spec.flavor.root_gb = root_gb;
                }
            }
            Quantity::Instances => {
                let first = usize::try_from(*to).unwrap_or(usize::MAX);
                *instances = &instances[..first.min(instances.len())];
            }
            Quantity::Class(class) => {
                let specs = spec.flavor.extra_specs.iter_mut();
                let of_class = specs.filter(|(key, _)| asks_class(key, class));
                of_class.for_each(|(_, text)| *text = to.to_string());
            }
        },
        Change::Drop { part } => match part {
            Part::AvailabilityZone(_) => spec.availability_zone = None,
            Part::ExtraSpec(key) => {
                spec.flavor.extra_specs.remove(key);
                if key == PCI_ALIAS {
                    spec.pci_requests.retain(|request| request.alias_name.is_none());
                }
            }
            Part::Hint(key) => drop(spec.scheduler_hints.remove(key)),
            Part::ImageProperty(key) => {
                if let Some(image) = &mut spec.image {
                    image.properties.remove(key);
                }
            }
            Part::ServerGroup(_) => spec.instance_group = None,
            Part::TargetHost(_) => {
                (spec.target_host, spec.target_node) = (None, None);
                spec.force_hosts.clear();
                spec.force_nodes.clear();
            }
            Part::IgnoreHosts => spec.ignore_hosts.clear(),
            Part::Retry => spec.retry = None,
        },
        Change::RaiseGroupLimit { to, .. } => {
            if let Some(group) = &mut spec.instance_group {
                group.rules.insert("max_server_per_host".to_owned(), to.to_string());
            }
        }
        Change::Free { .. }
        | Change::RaiseRatio { .. }
        | Change::SetMetadata { .. }
        | Change::Enable { .. } => {}
    }
}

/// Whether an extra spec asks for an amount of a class: `resources:CLASS`, with or without a suffix of its group.
pub(crate) fn asks_class(key: &str, class: &str) -> bool {
    key.starts_with("resources") && key.split_once(':').is_some_and(|(_, of)| of == class)
}

/// The extra spec that asks for devices by aliases, which the request already has as PCI requests.
const PCI_ALIAS: &str = "pci_passthrough:alias";

/// The parts of a request that can be left out. A forced host counts as a target host.
pub(crate) fn parts(spec: &RequestSpec) -> Vec<Part> {
    let zone = spec.availability_zone.iter().filter(|zone| !zone.is_empty()).cloned();
    let specs = spec.flavor.extra_specs.keys().cloned();
    let hints = spec.scheduler_hints.keys().filter(|key| !key.starts_with("_nova")).cloned();
    let image = spec.image.iter().flat_map(|image| image.properties.keys().cloned());
    let group = spec.instance_group.iter().map(|group| group.policy.clone());
    let target = spec.target_host.iter().chain(&spec.force_hosts).chain(&spec.force_nodes).next();
    zone.map(Part::AvailabilityZone)
        .chain(specs.map(Part::ExtraSpec))
        .chain(hints.map(Part::Hint))
        .chain(image.map(Part::ImageProperty))
        .chain(group.map(Part::ServerGroup))
        .chain(target.cloned().map(Part::TargetHost))
        .chain((!spec.ignore_hosts.is_empty()).then_some(Part::IgnoreHosts))
        .chain(spec.retry.is_some().then_some(Part::Retry))
        .collect()
}
