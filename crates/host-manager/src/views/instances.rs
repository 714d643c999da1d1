//! The instances, claims and holds on hosts, as people see them.
//!
//! What always holds: whoever lists the fleet holds the lock only to copy, in steps between which others have the map. States of
//! instances are copied as JSON text and read without the lock.
//!
//! Left out: claims of hosts that are not in the map, and what is held on services other than compute.

use std::time::Duration;

use novella_filter_scheduler::Row;
use novella_objects::{InstanceState, InstanceSummary, VmState};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::promises::reservations::{Place, Reservation};
use crate::views::gathering::Gathering;

/// The instances that were copied so far for a listing. It takes several steps, so that the map is never locked for long.
#[derive(Debug, Default)]
pub struct InstancesInProgress {
    hosts: Gathering<Vec<Copied>>,
    /// The only host that is wanted.
    host: Option<String>,
    /// Whether claims and holds are listed too.
    all: bool,
}

impl InstancesInProgress {
    /// A listing of one host or of all, with claims and holds if `all` is true.
    pub fn new(host: Option<String>, all: bool) -> Self {
        Self { host, all, ..Self::default() }
    }
}

/// What was copied of one instance, claim or hold.
#[derive(Debug, Clone)]
struct Copied {
    /// The row without its instance and its age.
    summary: InstanceSummary,
    /// The instance as JSON text.
    instance: Option<Box<str>>,
    /// When its host was last heard.
    heard: Duration,
    /// When it ends, if it is a hold.
    expires: Option<Duration>,
}

impl Copied {
    /// The row as it is listed at `now`.
    fn listed(self, now: Duration) -> InstanceSummary {
        let left =
            |expires: Duration| u64::try_from(expires.saturating_sub(now).as_millis()).unwrap_or(u64::MAX);
        InstanceSummary {
            instance: self.instance.map(|text| state(&text)),
            hold_ms: self.expires.map(left),
            age_s: now.saturating_sub(self.heard).as_secs_f64(),
            ..self.summary
        }
    }
}

/// The state that a host reports as this text. A text that is none is shown as an error, because something runs there.
fn state(text: &str) -> InstanceState {
    serde_json::from_str(text).unwrap_or_else(|error| InstanceState {
        vm_state: VmState::Error,
        fault: Some(format!("its host reports a state that cannot be read: {error}")),
        ..InstanceState::default()
    })
}

/// A listing of instances at one instant.
#[derive(Debug)]
pub struct InstanceListing {
    hosts: Vec<Vec<Copied>>,
    now: Duration,
}

impl InstanceListing {
    /// The instances in fleet order, by host in the order of its report; holds come last. They are read as they are asked for.
    pub fn summaries(self) -> impl Iterator<Item = InstanceSummary> {
        let now = self.now;
        self.hosts.into_iter().flatten().map(move |copied| copied.listed(now))
    }
}

/// See [`HostManager::instances_some`](crate::HostManager::instances_some).
pub(crate) fn instances_some(map: &HostMap, listing: &mut InstancesInProgress) -> bool {
    let InstancesInProgress { hosts, host, all } = listing;
    // One host is read at the end, so no row need be walked over.
    host.is_some() || hosts.step(map, |map, row| on_row(map, row, *all))
}

/// See [`HostManager::finish_instances`](crate::HostManager::finish_instances).
pub(crate) fn finish_instances(
    map: &HostMap,
    listing: InstancesInProgress,
    now: Duration,
) -> InstanceListing {
    let InstancesInProgress { mut hosts, host, all } = listing;
    let hosts = match host {
        Some(host) => map.table.row_of(&host).map(|row| on_row(map, row, all)).into_iter().collect(),
        None => {
            hosts.finish(map, |map, row| on_row(map, row, all));
            hosts.into_values().collect()
        }
    };
    InstanceListing { hosts, now }
}

fn on_row(map: &HostMap, row: Row, all: bool) -> Vec<Copied> {
    let record = map.record(row);
    let has_instances = || record.grants.iter().any(|(_, grant)| grant.instance.is_some());
    let mut found: Vec<Copied> = Vec::new();
    if all || has_instances() {
        let mut grants = record.grants.iter().peekable();
        for (at, claim) in record.claims.list().into_iter().enumerate() {
            let grant = grants.next_if(|(of, _)| *of == at).map(|(_, grant)| grant);
            let instance = grant.and_then(|grant| grant.instance);
            if !all && instance.is_none() {
                continue;
            }
            let summary = InstanceSummary {
                uuid: claim.uuid,
                host: map.table.host(row).to_owned(),
                vcpus: claim.vcpus,
                memory_mb: claim.memory_mb,
                disk_gb: claim.disk_gb,
                flavor: claim.flavor.map(Into::into),
                group: claim.group.map(Into::into),
                decision: grant.and_then(|grant| grant.decision).map(str::to_owned),
                user: grant.and_then(|grant| grant.user).map(str::to_owned),
                ..InstanceSummary::default()
            };
            let (instance, heard) = (instance.map(Into::into), record.hearing.heard);
            found.push(Copied { summary, instance, heard, expires: None });
        }
    }
    if all {
        let held = map.reservations.on_row(row).into_iter();
        found.extend(held.filter_map(|uuid| Some(hold(map, row, uuid, map.reservations.get(&uuid)?))));
    }
    found
}

fn hold(map: &HostMap, row: Row, uuid: Uuid, reservation: &Reservation) -> Copied {
    let (amounts, kind) = (&reservation.allocation.amounts, reservation.kind());
    let summary = InstanceSummary {
        uuid,
        host: map.table.host(row).to_owned(),
        vcpus: u32::try_from(amounts.vcpus).unwrap_or(u32::MAX),
        memory_mb: amounts.memory_mb,
        disk_gb: amounts.disk_gb,
        flavor: kind.flavor.map(str::to_owned),
        group: kind.group.map(str::to_owned),
        decision: Some(reservation.decision_id.as_ref().to_owned()),
        user: reservation.user.as_deref().map(str::to_owned),
        ..InstanceSummary::default()
    };
    let heard = map.record(row).hearing.heard;
    Copied { summary, instance: None, heard, expires: Some(reservation.expires) }
}

/// What hosts have reported of this instance: on one host, or on several if something is wrong. A hold is the answer if no
/// host has.
pub(crate) fn find_instance(map: &HostMap, uuid: Uuid, now: Duration) -> Vec<InstanceSummary> {
    let claimed = map.claimed(&[uuid]).remove(&uuid).unwrap_or_default();
    let of_row = |row| on_row(map, row, true).into_iter().find(|copied| copied.summary.uuid == uuid);
    let mut found: Vec<Copied> = claimed.into_iter().filter_map(|(row, _)| of_row(row)).collect();
    if found.is_empty()
        && let Some(reservation) = map.reservations.get(&uuid)
        && let Place::Row(row) = reservation.place
    {
        found.push(hold(map, row, uuid, reservation));
    }
    found.into_iter().map(|copied| copied.listed(now)).collect()
}
