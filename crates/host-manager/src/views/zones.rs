//! What is in use and what may be in use, by availability zone, over the hosts that can be chosen.

use std::collections::BTreeMap;

use novella_filter_scheduler::Snapshot;
use novella_objects::HostStatus;

use crate::map::host_map::HostMap;

/// The amounts of the hosts of one zone: vCPUs, memory in MiB, disk in GiB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ZoneUsage {
    /// What is in use, reservations and reserved amounts included.
    pub used: [f64; 3],
    /// What may be in use, after overcommit.
    pub total: [f64; 3],
}

/// The amounts of the whole fleet, copied so that they can be added up without holding the lock.
#[derive(Debug, Clone)]
pub struct FleetUsage {
    table: Snapshot,
    default_zone: String,
}

/// See [`HostManager::usage`](crate::HostManager::usage).
pub(crate) fn usage(map: &HostMap) -> FleetUsage {
    FleetUsage { table: map.table.snapshot(), default_zone: map.options.default_availability_zone.clone() }
}

impl FleetUsage {
    /// What is in use and what may be in use, by availability zone, over the hosts that can be chosen.
    pub fn by_zone(&self) -> BTreeMap<String, ZoneUsage> {
        let mut zones: BTreeMap<String, ZoneUsage> = BTreeMap::new();
        for view in self.table.hosts() {
            if !matches!(view.status(), HostStatus::Up | HostStatus::Suspect) {
                continue;
            }
            let (used, limits) = (view.used(), view.limits());
            let zone = view.zone().unwrap_or(&self.default_zone);
            let usage = match zones.get_mut(zone) {
                Some(usage) => usage,
                None => zones.entry(zone.to_owned()).or_default(),
            };
            let used = [used.vcpus as f64, used.memory_mb as f64, used.disk_gb as f64];
            let total = [limits.vcpus, limits.memory_mb, limits.disk_gb];
            for at in 0..3 {
                usage.used[at] += used[at];
                usage.total[at] += total[at];
            }
        }
        zones
    }
}
