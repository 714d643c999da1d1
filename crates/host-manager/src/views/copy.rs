//! Copies everything that decisions depend on, so that it can be written out without holding the lock. The copy itself takes
//! several steps, between which others have the map.
//!
//! Left out: the form in which it is written (`novella-fleet-documents`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use novella_filter_scheduler::{InstanceKind, Row, Snapshot};
use novella_objects::Reserved;
use novella_objects::document::UsedInventory;
use novella_resources::{Devices, SIZES};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::policy::file::PolicyFile;
use crate::promises::reservations::Place;
use crate::report::reported::Reported;
use crate::verbs::watch::advance;
use crate::views::gathering::Gathering;

/// The hosts that were copied so far. It takes several steps, so that the map is never locked for long.
#[derive(Debug, Default)]
pub struct CopyInProgress(Gathering<HostCopy>);

/// The map at one instant.
#[derive(Debug, Clone)]
pub struct MapCopy {
    /// The names, amounts, states and zones of the hosts.
    pub table: Snapshot,
    /// What is known of each host in addition.
    hosts: Gathering<HostCopy>,
    /// The long texts of reports, by symbol.
    pub texts: Vec<Option<Arc<str>>>,
    /// The kinds of instances, by symbol.
    pub kinds: Vec<Option<InstanceKind>>,
    /// The policy in force.
    pub policy: Arc<PolicyFile>,
    /// How long a host may be silent before it is down.
    pub service_down_time: Duration,
    /// The name of the scheduler whose map this is.
    pub scheduler: String,
    /// The time of the copy.
    pub now: Duration,
}

impl MapCopy {
    /// Takes out what is known of each host in addition, in the order of the table's hosts.
    pub fn take_hosts(&mut self) -> Vec<HostCopy> {
        std::mem::take(&mut self.hosts).into_values().collect()
    }
}

/// What is known of one host in addition to the table.
#[derive(Debug, Clone)]
pub struct HostCopy {
    /// The identity of its agent. Reporters of 2012 have none.
    pub uuid: Option<Uuid>,
    /// When its last report came.
    pub heard: Duration,
    /// What it holds back for itself.
    pub reserved: Reserved,
    /// What it reported.
    pub reported: Reported,
    /// The ids of the aggregates that it is in.
    pub aggregates: Vec<u32>,
    /// Its instances, each with the symbol of its kind and with its server group, if they are known.
    pub instances: Vec<(Uuid, Option<u32>, Option<Box<str>>)>,
    /// Its inventories of further resource classes, each with what is used of it.
    pub resources: BTreeMap<String, UsedInventory>,
    /// The NUMA cells and PCI devices that are left.
    pub devices: Option<Arc<Devices>>,
}

/// See [`HostManager::copy_some`](crate::HostManager::copy_some).
pub(crate) fn copy_some(map: &HostMap, copying: &mut CopyInProgress) -> bool {
    copying.0.step(map, host)
}

/// See [`HostManager::finish_copy`](crate::HostManager::finish_copy).
pub(crate) fn finish_copy(map: &mut HostMap, copying: CopyInProgress, now: Duration) -> MapCopy {
    advance(map, now);
    let CopyInProgress(mut hosts) = copying;
    hosts.finish(map, host);
    MapCopy {
        table: map.table.snapshot(),
        hosts,
        texts: map.texts.values_by_symbol(),
        kinds: map.table.instance_kinds(),
        policy: Arc::clone(&map.policy),
        service_down_time: map.options.service_down_time,
        scheduler: map.scheduler.clone(),
        now,
    }
}

fn host(map: &HostMap, row: Row) -> HostCopy {
    let record = map.record(row);
    let groups: HashMap<Uuid, &str> = record.claims.grouped().collect();
    let group = |uuid: &Uuid| match groups.get(uuid) {
        Some(group) => Some(*group),
        None if record.held == 0 => None,
        None => map.reservations.get(uuid).filter(|known| known.place == Place::Row(row))?.kind().group,
    };
    let instances = map.table.instances_on(row);
    HostCopy {
        uuid: record.identity.map(|identity| identity.uuid),
        heard: record.hearing.heard,
        reserved: record.reserved,
        reported: record.reported.clone(),
        aggregates: map.table.aggregates_of(row).to_vec(),
        instances: instances.map(|(uuid, kind)| (uuid, kind, group(&uuid).map(Into::into))).collect(),
        resources: used_inventories(map, row),
        devices: map.table.shared_devices(row).cloned(),
    }
}

/// The inventories of further resource classes of a host, each with what is used of it. Reservations are included.
pub(crate) fn used_inventories(map: &HostMap, row: Row) -> BTreeMap<String, UsedInventory> {
    let held = map.table.inventories(row).filter(|held| !SIZES.contains(&held.class));
    held.filter_map(|held| Some((held.class.to_owned(), UsedInventory::new(held.inventory?, held.used))))
        .collect()
}
