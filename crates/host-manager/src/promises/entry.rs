//! Reservations in the form in which schedulers send them to each other.
//!
//! What always holds: an entry of a peer is checked ([`is_sane`]) before it becomes a reservation.

use novella_filter_scheduler::server_group;
use novella_objects::{RequestSpec, ReserveEntry, is_host_name};
use novella_resources::{Allocation, Amounts, DeviceUsage};
use uuid::Uuid;

use crate::promises::reservations::{Reservation, ReservationKind};
use crate::report::check;

/// The entry for peers about a reservation on `host`.
pub(crate) fn entry(uuid: Uuid, host: &str, reservation: &Reservation) -> ReserveEntry {
    let Amounts { vcpus, memory_mb, disk_gb, .. } = reservation.allocation.amounts;
    let resources = reservation.allocation.resources.iter();
    let (numa_topology, pci) = reservation.devices.as_deref().map(DeviceUsage::write).unwrap_or_default();
    ReserveEntry {
        uuid,
        host: host.to_owned(),
        vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX),
        memory_mb,
        disk_gb,
        resources: resources.map(|(class, amount)| (class.to_string(), *amount)).collect(),
        spec_hash: reservation.spec_hash,
        group: reservation.kind().group.map(Into::into),
        flavor: reservation.kind().flavor.map(Into::into),
        numa_topology,
        pci,
        not_building: reservation.devices.as_ref().is_some_and(|usage| usage.failed),
        service: None,
    }
}

/// The kind of a request's instances.
pub(crate) fn kind(spec: &RequestSpec) -> ReservationKind {
    let flavor = Some(spec.flavor.identity()).filter(|name| !name.is_empty());
    ReservationKind {
        group: server_group::name(spec).filter(|name| !name.is_empty()).map(Into::into),
        flavor: flavor.map(Into::into),
        image: spec.image.as_ref().and_then(|image| Some(serde_json::to_string(image).ok()?.into())),
    }
}

/// Whether the names and amounts of a peer's entry are within the limits of a report.
pub(crate) fn is_sane(entry: &ReserveEntry) -> bool {
    let is_name =
        |name: &Option<String>| name.as_deref().is_none_or(|name| check::name("name", name).is_ok());
    is_host_name(&entry.host)
        && is_name(&entry.group)
        && is_name(&entry.flavor)
        && check::amounts(&Allocation::of_entry(entry).amounts).is_ok()
        && check::classes("resources", entry.resources.len(), entry.resources.keys().map(String::as_str))
            .is_ok()
}
