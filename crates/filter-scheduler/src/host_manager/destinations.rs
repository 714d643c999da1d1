//! What a caller that is not one of ours must be told of a decision's hosts beside their names.

use novella_objects::{RequestSpec, Reserve, Selection};
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
    /// Describes the hosts of a decision that was just made: for each instance its host, and then its alternates. The
    /// request is compiled at most once, however many instances it has.
    pub fn destinations(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        selections: &[Selection],
    ) -> Result<Vec<Vec<Destination>>, Failure> {
        let rows = |selection: &Selection| -> Vec<_> {
            let hosts = std::iter::once(&selection.host).chain(&selection.alternates);
            hosts.filter_map(|host| self.table.row_of(host)).collect()
        };
        let rows: Vec<_> = selections.iter().map(rows).collect();
        let mut limits = scheduler.limits(&mut self.table, spec, &rows.concat())?.into_iter();
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
        Ok(rows
            .into_iter()
            .map(|rows| rows.into_iter().zip(&mut limits).map(destination).collect())
            .collect())
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
