//! Copies everything that decisions depend on, so that it can be written out without holding the lock.
//!
//! Left out: the form in which it is written (`novella-fleet-documents`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use novella_filter_scheduler::{Devices, InstanceKind, Row, Snapshot};
use novella_objects::Reserved;
use novella_objects::document::UsedInventory;
use novella_resources::SIZES;
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::policy::file::PolicyFile;
use crate::report::reported::Reported;
use crate::verbs::watch::advance;

/// The map at one instant.
#[derive(Debug, Clone)]
pub struct MapCopy {
    /// The names, amounts, states and zones of the hosts.
    pub table: Snapshot,
    /// What is known of each host in addition, in the order of the table's hosts.
    pub hosts: Vec<HostCopy>,
    /// The long texts of reports, by symbol.
    pub texts: Vec<Option<Box<str>>>,
    /// The kinds of instances, by symbol.
    pub kinds: Vec<Option<InstanceKind>>,
    /// The policy in force.
    pub policy: Arc<PolicyFile>,
    /// How long a host may be silent before it is down.
    pub service_down_time: Duration,
    /// The name of the scheduler whose map this is.
    pub scheduler: String,
}

/// What is known of one host in addition to the table.
#[derive(Debug, Clone)]
pub struct HostCopy {
    /// The identity of its agent. Reporters of 2012 have none.
    pub uuid: Option<Uuid>,
    /// The time since its last report.
    pub age: Duration,
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

/// See [`HostManager::copy`](crate::HostManager::copy).
pub(crate) fn copy(map: &mut HostMap, now: Duration) -> MapCopy {
    advance(map, now);
    let groups: HashMap<_, _> = map.members.iter().map(|(uuid, row, group)| ((uuid, row), group)).collect();
    let group = |uuid, row| groups.get(&(uuid, row)).map(|name| Box::from(*name));
    let host = |row: Row| {
        let record = map.record(row);
        let instances = map.table.instances_on(row);
        HostCopy {
            uuid: record.identity.map(|identity| identity.uuid),
            age: now.saturating_sub(record.hearing.heard),
            reserved: record.reserved,
            reported: record.reported.clone(),
            aggregates: map.table.aggregates_of(row).to_vec(),
            instances: instances.map(|(uuid, kind)| (uuid, kind, group(uuid, row))).collect(),
            resources: used_inventories(map, row),
            devices: map.table.shared_devices(row).cloned(),
        }
    };
    MapCopy {
        table: map.table.snapshot(),
        hosts: map.table.rows().map(host).collect(),
        texts: map.texts.values_by_symbol(),
        kinds: map.table.instance_kinds(),
        policy: Arc::clone(&map.policy),
        service_down_time: map.options.service_down_time,
        scheduler: map.scheduler.clone(),
    }
}

/// The inventories of further resource classes of a host, each with what is used of it. Reservations are included.
pub(crate) fn used_inventories(map: &HostMap, row: Row) -> BTreeMap<String, UsedInventory> {
    let held = map.table.inventories(row).filter(|held| !SIZES.contains(&held.class));
    held.filter_map(|held| Some((held.class.to_owned(), UsedInventory::new(held.inventory?, held.used))))
        .collect()
}
