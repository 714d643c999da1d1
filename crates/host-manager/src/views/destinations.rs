//! What a caller that is not one of ours must be told of a decision's hosts beside their names.

use novella_filter_scheduler::{Failure, FilterScheduler, PickLimits};
use novella_objects::RequestSpec;
use uuid::Uuid;

use crate::map::host_map::HostMap;

/// A host that was chosen, or that could be.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Service host name.
    pub host: String,
    /// Its compute node.
    pub nodename: String,
    /// Identity; none for reporters that have none.
    pub uuid: Option<Uuid>,
    /// Its zone, or the default one.
    pub availability_zone: String,
    /// What the request's filters hold it against.
    pub limits: PickLimits,
}

/// Tells of hosts by name; those that have left the map are left out. An error is a request that cannot be answered.
pub(crate) fn destinations(
    map: &mut HostMap,
    scheduler: &FilterScheduler,
    spec: &RequestSpec,
    hosts: &[&str],
) -> Result<Vec<Destination>, Failure> {
    let rows: Vec<_> = hosts.iter().filter_map(|host| map.table.row_of(host)).collect();
    let limits = novella_filter_scheduler::limits(scheduler, &mut map.table, spec, &rows)?;
    let default_zone = &map.options.default_availability_zone;
    let destination = |(row, limits)| {
        let view = map.table.view(row);
        Destination {
            host: view.host().to_owned(),
            nodename: view.nodename().to_owned(),
            uuid: map.record(row).identity.map(|identity| identity.uuid),
            availability_zone: view.zone().unwrap_or(default_zone).to_owned(),
            limits,
        }
    };
    Ok(rows.into_iter().zip(limits).map(destination).collect())
}
