//! The host-state map: what the hosts reported, who of them is there, and what is promised on them.
//!
//! Pure and synchronous. `now` is the caller's monotonic time since any origin; it must not run backwards. There is no
//! database behind this: a manager that starts empty is complete again after one round of reports.
//!
//! What always holds:
//! - A report replaces what the same identity said before, never adds to it; whose report counts, `identity` says.
//! - What a host has in use is reserved + Σ its claims + the reservations not yet seen in a report.
//! - A reservation ends exactly once: a report lists the instance or its end, it is let go, or its time is up. A report
//!   that does not know of it changes nothing about it.
//! - A report that is refused changes nothing but counters and warnings.
//! - Everything is bounded: hosts, services, reservations, claims and words per host.
//!
//! Any service may report; only `compute` has hosts that something can be placed on.

mod apply;
mod capacity;
mod check;
mod claims;
mod destinations;
mod devices;
mod explain;
mod identity;
mod liveness;
mod members;
mod options;
mod outcome;
mod packed;
mod place;
mod policy;
mod record;
mod reported;
mod reservations;
mod service_place;
mod services;
mod snapshot;
mod views;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use uuid::Uuid;

pub use destinations::Destination;
pub use options::HostManagerOptions;
pub use outcome::{Applied, BadReport, Counters, Event, Fault};
pub use policy::NewPolicy;
pub use services::{HostListEntry, RollUp};
pub use snapshot::MapSnapshot;
pub use views::Fleet;

use crate::{HostTable, PolicyFile, Row};
use claims::ClaimRow;
use liveness::Outages;
use members::Members;
use record::Record;
use reported::Texts;
use reservations::{Place, Reservation, Reservations};
use service_place::Holds;
use services::Services;

/// The service whose hosts take instances.
pub const COMPUTE: &str = "compute";

/// Events kept until somebody asks; further ones are only counted.
const MAX_EVENTS: usize = 10_000;

/// See the module's text.
#[derive(Debug)]
pub struct HostManager {
    options: HostManagerOptions,
    /// This scheduler, as its peers know it.
    scheduler: String,
    table: HostTable,
    /// One per row of the table.
    records: Vec<Option<Box<Record>>>,
    by_identity: HashMap<Uuid, Row>,
    /// Claims of all hosts together.
    claims: usize,
    members: Members,
    policy: Arc<PolicyFile>,
    policy_hash: String,
    /// While a new policy is being matched: rows whose aggregates were found anew since.
    joined: Option<HashSet<Row>>,
    reservations: Reservations,
    services: Services,
    /// What was placed on services other than compute.
    holds: Holds,
    texts: Texts,
    outages: Outages,
    /// No host's liveness changes by itself before this.
    next_watch: Duration,
    /// Rows whose hosts should publish again.
    ask_again: Vec<Row>,
    /// Seen by calls that have no other way to tell.
    events: Vec<Event>,
    counters: Counters,
}

impl HostManager {
    /// An empty map for the scheduler of this name.
    pub fn new(options: HostManagerOptions, scheduler_name: impl Into<String>) -> Self {
        let policy = Arc::new(PolicyFile::default());
        Self {
            options,
            policy_hash: policy.hash(),
            policy,
            scheduler: scheduler_name.into(),
            joined: None,
            table: HostTable::new(),
            records: Vec::new(),
            by_identity: HashMap::new(),
            claims: 0,
            members: Members::default(),
            reservations: Reservations::default(),
            services: Services::default(),
            holds: Holds::default(),
            texts: Texts::default(),
            outages: Outages::default(),
            next_watch: Duration::MAX,
            ask_again: Vec::new(),
            events: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Its settings.
    pub fn options(&self) -> &HostManagerOptions {
        &self.options
    }

    /// The fleet as the filters see it.
    pub fn table(&self) -> &HostTable {
        &self.table
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True when no host ever reported, or all were forgotten.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many reservations there are.
    pub fn reservations(&self) -> usize {
        self.reservations.len()
    }

    /// How many claims all hosts together list.
    pub fn claims(&self) -> usize {
        self.claims
    }

    /// How often each thing happened.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hosts whose reports were missed since this was last asked. They should publish again.
    pub fn hosts_to_ask_again(&mut self) -> Vec<String> {
        let mut hosts = Vec::new();
        for row in std::mem::take(&mut self.ask_again) {
            if let Some(record) = self.records.get_mut(row.index()).and_then(Option::as_mut)
                && std::mem::take(&mut record.ask_again)
            {
                hosts.push(self.table.host(row).to_owned());
            }
        }
        hosts
    }

    /// Keeps an event for the next [`Self::expire`].
    fn note(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    fn record(&self, row: Row) -> &Record {
        self.records[row.index()].as_deref().expect("every host in the table has a record")
    }

    fn record_mut(&mut self, row: Row) -> &mut Record {
        self.records[row.index()].as_deref_mut().expect("every host in the table has a record")
    }

    /// Who lists this instance among its claims: the first in fleet order.
    fn claimed_on(&self, uuid: Uuid) -> Option<(Row, ClaimRow)> {
        let listed = |at: u32| {
            let rows = self.records.get(at as usize)?.as_deref()?.claims.rows();
            rows.iter().find(|claim| claim.uuid == uuid).map(|claim| (Row(at), *claim))
        };
        self.table.instances.rows_of(uuid).filter_map(listed).min_by_key(|(row, _)| *row)
    }

    /// Notes on its row the instance of a reservation whose amounts are consumed there.
    fn assume(&mut self, uuid: Uuid) {
        let Self { reservations, table, records, members, .. } = self;
        let Some(reservation) = reservations.get(&uuid) else { return };
        let Place::Row(row) = reservation.place else { return };
        let record = records[row.index()].as_deref_mut().expect("every host in the table has a record");
        record.held += 1;
        members.come(table, row, uuid, reservation.more());
    }

    /// Counts a reservation on its row.
    fn hold(&mut self, uuid: Uuid) {
        if let Some(Reservation { place: Place::Row(row), allocation, devices, .. }) =
            self.reservations.get(&uuid)
        {
            self.table.allocate(*row, allocation);
            if let Some(devices) = devices {
                self.table.put_taken_devices(*row, uuid, devices);
            }
            self.assume(uuid);
        }
    }

    /// Undoes [`Self::hold`] for a reservation that has ended.
    fn let_go(&mut self, uuid: Uuid, reservation: &Reservation) {
        if let Place::Row(row) = reservation.place {
            self.table.deallocate(row, &reservation.allocation);
            self.table.give_back_devices(row, uuid);
            self.record_mut(row).held -= 1;
            self.members.go(&mut self.table, row, uuid, reservation.more().group);
        }
    }

    /// Ends the reservation of an instance, if there is one.
    fn end_reservation(&mut self, uuid: &Uuid) -> bool {
        let ended = self.reservations.remove(uuid);
        if let Some(reservation) = &ended {
            self.let_go(*uuid, reservation);
        }
        ended.is_some()
    }

    /// Takes a host out of the map with everything that is known of it.
    fn remove(&mut self, row: Row) {
        let Some(mut record) = self.records[row.index()].take() else { return };
        self.claims -= record.claims.rows().len();
        record.claims.grouped().for_each(|(uuid, group)| self.members.forget(row, uuid, Some(group)));
        record.reported.release(&mut self.texts);
        if let Some(identity) = record.identity {
            self.by_identity.remove(&identity.uuid);
        }
        if record.ask_again {
            self.ask_again.retain(|asked| *asked != row);
        }
        for (uuid, reservation) in self.reservations.drop_row(row) {
            self.members.forget(row, uuid, reservation.more().group);
        }
        self.table.remove(row);
    }
}

#[cfg(test)]
mod tests;
