//! What Nova must know about the hosts of a decision, in addition to their names.
//!
//! Left out: the form on the wire.

use novella_filter_scheduler::{Failure, FilterLimits, FilterScheduler};
use novella_objects::RequestSpec;
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::verbs::place::SelectedRows;

/// A host that was chosen for an instance, or an alternate.
#[derive(Debug, Clone, PartialEq)]
pub struct NovaDestination {
    /// The name of the host.
    pub host: String,
    /// The name of its compute node.
    pub nodename: String,
    /// The identity of the host's agent; `None` for reporters without one.
    pub uuid: Option<Uuid>,
    /// The zone of the host, or the default zone.
    pub availability_zone: String,
    /// The limits that the request's filters hold the host against.
    pub limits: FilterLimits,
}

/// See [`HostManager::destinations`](crate::HostManager::destinations).
pub(crate) fn destinations(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    spec: &RequestSpec,
    selected: &[SelectedRows],
) -> Result<Vec<Vec<NovaDestination>>, Failure> {
    if selected.is_empty() {
        return Ok(Vec::new());
    }
    let rows =
        |of: &SelectedRows| of.chosen.into_iter().chain(of.alternates.iter().copied()).collect::<Vec<_>>();
    let rows: Vec<_> = selected.iter().map(rows).collect();
    let mut limits = scheduler.limits(&mut map.table, spec, &rows.concat())?.into_iter();
    let default_zone = &map.options.default_availability_zone;
    let destination = |(row, limits)| {
        let view = map.table.view(row);
        NovaDestination {
            host: view.host().to_owned(),
            nodename: view.nodename().to_owned(),
            uuid: map.record(row).identity.map(|identity| identity.uuid),
            availability_zone: view.zone().unwrap_or(default_zone).to_owned(),
            limits,
        }
    };
    Ok(rows.into_iter().map(|rows| rows.into_iter().zip(&mut limits).map(destination).collect()).collect())
}
