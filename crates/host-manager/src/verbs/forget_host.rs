//! Removes a host because somebody asks for it, so that it can be reported by another process, identity or broker user.
//!
//! What always holds: reservations on the host stay. They wait for the host's next report, as those of a peer do.

use crate::map::host_map::HostMap;

/// Removes a host, and the services of this name. Returns whether either was known.
pub(crate) fn forget_host(map: &mut HostMap, host: &str) -> bool {
    let HostMap { services, texts, .. } = map;
    let served = services.forget_host(texts, host);
    let Some(row) = map.table.row_of(host) else { return served };
    for uuid in map.reservations.await_again(row, host) {
        let group = map.reservations.get(&uuid).and_then(|reservation| reservation.kind().group);
        map.members.forget(row, uuid, group);
    }
    map.counters.forgotten += 1;
    map.remove(row);
    true
}
