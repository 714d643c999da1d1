//! What is in use and what may be in use, by availability zone, over the hosts that can be chosen.

use std::collections::BTreeMap;

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

/// See [`HostManager::zones`](crate::HostManager::zones).
pub(crate) fn zones(map: &HostMap) -> BTreeMap<String, ZoneUsage> {
    let mut zones: BTreeMap<String, ZoneUsage> = BTreeMap::new();
    let default_zone = map.options.default_availability_zone.as_str();
    for row in map.table.rows() {
        let view = map.table.view(row);
        if !matches!(view.status(), HostStatus::Up | HostStatus::Suspect) {
            continue;
        }
        let (used, limits) = (view.used(), view.limits());
        let zone = view.zone().unwrap_or(default_zone);
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
