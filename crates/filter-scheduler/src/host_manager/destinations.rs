//! What a caller that is not one of ours must be told of a decision's hosts beside their names.

use novella_objects::{RequestSpec, Reserve};
use uuid::Uuid;

use super::HostManager;
use crate::{Failure, FilterScheduler, PickLimits};

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

impl HostManager {
    /// Tells of hosts by name; those that have left the map are left out. An error is a request that cannot be answered.
    pub fn destinations(
        &mut self,
        scheduler: &FilterScheduler,
        spec: &RequestSpec,
        hosts: &[&str],
    ) -> Result<Vec<Destination>, Failure> {
        let rows: Vec<_> = hosts.iter().filter_map(|host| self.table.row_of(host)).collect();
        let limits = scheduler.limits(&mut self.table, spec, &rows)?;
        let default_zone = &self.options.default_availability_zone;
        let destination = |(row, limits)| {
            let view = self.table.view(row);
            Destination {
                host: view.host().to_owned(),
                nodename: view.nodename().to_owned(),
                uuid: self.record(row).identity.map(|identity| identity.uuid),
                availability_zone: view.zone().unwrap_or(default_zone).to_owned(),
                limits,
            }
        };
        Ok(rows.into_iter().zip(limits).map(destination).collect())
    }

    /// Lets go of these instances' reservations, whichever decisions made them. Returns what to tell the peers.
    pub fn release_instances(&mut self, uuids: &[Uuid]) -> Vec<Reserve> {
        let mut told = Vec::new();
        for uuid in uuids {
            let Some(decision_id) = self.reservations.get(uuid).map(|known| known.decision_id.clone()) else {
                continue;
            };
            told.extend(self.release(&decision_id, std::slice::from_ref(uuid)));
        }
        told
    }
}
