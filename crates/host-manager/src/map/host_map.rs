//! The host-state map itself: what the hosts reported, which of them are there, and what is promised on them.
//!
//! This file has the state and the steps that keep its parts consistent. The changes are in `verbs`, the views in
//! `views`.
//!
//! What always holds:
//! - A host has in use what it reserves for itself, plus its claims, plus the reservations not yet seen in a report.
//! - The members of server groups, the instances in the table, and the claims and reservations of a host agree.
//! - Everything is bounded: hosts, services, reservations, and the claims and words of each host.
//!
//! Left out: when something happens. The caller passes the time.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use novella_filter_scheduler::{HostTable, Row};
use novella_objects::Capabilities;
use novella_resources::{Allocation, Amounts};
use uuid::Uuid;

use crate::map::record::Record;
use crate::options::HostManagerOptions;
use crate::policy::file::PolicyFile;
use crate::promises::holds::Holds;
use crate::promises::members::Members;
use crate::promises::released::Released;
use crate::promises::reservations::{Place, Reservation, Reservations};
use crate::report::claims::FoundClaim;
use crate::report::kept::{Kept, MAP_BYTES_PER_HOST, MAX_HOST_BYTES, MIN_MAP_BYTES};
use crate::report::liveness::Outages;
use crate::report::newcomers::{Answers, Newcomers};
use crate::report::outcome::{BadReport, Counters, Event, Fault};
use crate::report::reported::Texts;
use crate::report::services::Services;

/// When a row changed last: in the table, and in what is kept besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    table: u64,
    record: u64,
}

/// How many events are kept until they are asked for. Further ones are only counted.
const MAX_EVENTS: usize = 10_000;

/// The state of the host manager.
#[derive(Debug, Default)]
pub(crate) struct HostMap {
    pub(crate) options: HostManagerOptions,
    /// The name of this scheduler, by which its peers know it.
    pub(crate) scheduler: String,
    /// The hosts in columns, as the filters read them.
    pub(crate) table: HostTable,
    /// What is kept of each host besides the table, by row. Absent for rows without a host.
    pub(crate) records: Vec<Option<Box<Record>>>,
    /// By row, the number of the last change of its record.
    changed: Vec<u64>,
    /// How many changes of records there were.
    changes: u64,
    /// The row of each identity, by its uuid.
    pub(crate) by_identity: HashMap<Uuid, Row>,
    /// How many claims all hosts together list.
    pub(crate) claims: usize,
    /// How many of these the table does not list, because too many hosts claim the same instance.
    pub(crate) unlisted_claims: usize,
    /// How many bytes are kept of the reports of all hosts, without long texts.
    pub(crate) kept_of_hosts: usize,
    /// The members of server groups, and where they are.
    pub(crate) members: Members,
    /// The policy in force.
    pub(crate) policy: Arc<PolicyFile>,
    /// The hash of the policy in force.
    pub(crate) policy_hash: String,
    /// While a new policy is being matched, the rows whose aggregates were determined again since.
    pub(crate) joined: Option<HashSet<Row>>,
    /// What was promised on compute hosts and is not yet seen in a report.
    pub(crate) reservations: Reservations,
    /// Services other than compute.
    pub(crate) services: Services,
    /// What was placed on services other than compute.
    pub(crate) holds: Holds,
    /// The instances that were released a moment ago.
    pub(crate) released: Released,
    /// The long texts of all reports, each stored once.
    pub(crate) texts: Texts,
    /// When this scheduler could not hear anybody.
    pub(crate) outages: Outages,
    /// The earliest time at which a host's liveness can change without a report.
    pub(crate) next_watch: Duration,
    /// The rows of hosts that should publish again. A row counts only if its record says so, too: the host may be gone.
    pub(crate) ask_again: Vec<Row>,
    /// The rows of hosts whose name or identity another process uses, as their warnings say.
    pub(crate) conflicts: HashSet<Row>,
    /// When conflicts are looked at next, to end those that are over.
    pub(crate) next_end_of_conflicts: Duration,
    /// Hosts and services that nobody knew before.
    pub(crate) newcomers: Newcomers,
    /// When a host was last refused because the map is full.
    pub(crate) refused_at: Option<Duration>,
    /// The rows of hosts that may go if the map is full, the first to go last.
    pub(crate) dispensable: Vec<Row>,
    /// When such hosts are searched for next.
    pub(crate) next_search_for_room: Duration,
    /// What happened since events were last asked for, at most [`MAX_EVENTS`].
    pub(crate) events: Vec<Event>,
    /// How often each event happened since the start.
    pub(crate) counters: Counters,
}

impl HostMap {
    /// An empty map for the scheduler of this name.
    pub(crate) fn new(options: HostManagerOptions, scheduler_name: impl Into<String>) -> Self {
        let policy = Arc::new(PolicyFile::default());
        Self {
            options,
            policy_hash: policy.hash(),
            policy,
            scheduler: scheduler_name.into(),
            next_watch: Duration::MAX,
            ..Self::default()
        }
    }

    /// Returns the hosts of which a report was missed since the last call. They should publish again.
    pub(crate) fn hosts_to_ask_again(&mut self) -> Vec<String> {
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

    /// How many bytes are kept of all reports.
    pub(crate) fn kept(&self) -> usize {
        self.kept_of_hosts + self.services.kept() + self.texts.bytes()
    }

    /// How many bytes are kept of all reports at most.
    pub(crate) fn max_kept(&self) -> usize {
        self.options.max_hosts.saturating_mul(MAP_BYTES_PER_HOST).max(MIN_MAP_BYTES)
    }

    /// Refuses a report of which too much would be kept. Of the host's last report `before` bytes are kept for it alone.
    /// `new_texts` is the report if its long texts differ. What a host takes may always become less.
    pub(crate) fn admit_bytes(
        &self,
        before: usize,
        after: Kept,
        new_texts: Option<&Capabilities<'_>>,
    ) -> Result<(), BadReport> {
        let key = "the report";
        let bytes = after.own() + after.long_texts;
        if bytes > MAX_HOST_BYTES {
            return Err(BadReport { key, fault: Fault::TooMuch { bytes, limit: MAX_HOST_BYTES } });
        }
        let added = new_texts.map_or(0, |caps| self.texts.added_by(caps));
        let (bytes, limit) = (self.kept() - before + after.own() + added, self.max_kept());
        if bytes > limit && bytes > self.kept() {
            return Err(BadReport { key, fault: Fault::MapFull { bytes, limit } });
        }
        Ok(())
    }

    /// Has a host that did not answer asked again now, because it may have been restarted.
    pub(crate) fn expect_again(&mut self, row: Row) {
        if self.record(row).answers == Answers::No {
            self.record_mut(row).answers = Answers::Expected;
            self.newcomers.expect_now(row);
        }
    }

    /// Keeps an event until the events are asked for.
    pub(crate) fn note(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    pub(crate) fn record(&self, row: Row) -> &Record {
        self.records[row.index()].as_deref().expect("every host in the table has a record")
    }

    /// The record of a row, for a change. What changes a record without this must end with [`Self::note_change`].
    pub(crate) fn record_mut(&mut self, row: Row) -> &mut Record {
        self.note_change(row);
        self.records[row.index()].as_deref_mut().expect("every host in the table has a record")
    }

    /// Notes that the record of a row has changed.
    pub(crate) fn note_change(&mut self, row: Row) {
        if self.changed.len() <= row.index() {
            self.changed.resize(row.index() + 1, 0);
        }
        self.changes += 1;
        self.changed[row.index()] = self.changes;
    }

    /// When a row changed last. It is another one after every change of what is known of its host.
    pub(crate) fn revision(&self, row: Row) -> Revision {
        let record = self.changed.get(row.index()).copied().unwrap_or_default();
        Revision { table: self.table.revision(row), record }
    }

    /// For each of these instances that hosts list among their claims, the hosts and the claims, in fleet order. The claims
    /// of a host are read once, however many of the instances it lists.
    pub(crate) fn claimed(&self, instances: &[Uuid]) -> HashMap<Uuid, Vec<(Row, FoundClaim)>> {
        let rows_with = |uuid: Uuid| self.table.rows_with(uuid).map(move |row| (row, uuid));
        let mut places: Vec<(Row, Uuid)> = instances.iter().copied().flat_map(rows_with).collect();
        places.sort_unstable();
        places.dedup();
        let mut claimed: HashMap<_, Vec<_>> = HashMap::new();
        for of_row in places.chunk_by(|(a, _), (b, _)| a == b) {
            let (row, wanted): (_, Vec<Uuid>) = (of_row[0].0, of_row.iter().map(|(_, uuid)| *uuid).collect());
            for claim in self.record(row).claims.find(&wanted) {
                claimed.entry(claim.row.uuid).or_default().push((row, claim));
            }
        }
        claimed
    }

    /// Whether a host is large enough for an instance with these amounts, if it had nothing else on it. An amount that the
    /// host does not report is not known, and so never too large; a resource class that it does not report, it has not.
    pub(crate) fn is_large_enough(&self, row: Row, allocation: &Allocation) -> bool {
        let has = self.table.view(row).reported();
        let Amounts { vcpus, memory_mb, disk_gb, .. } = allocation.amounts;
        let enough =
            [(vcpus, has.vcpus_total), (memory_mb, has.memory_mb_total), (disk_gb, has.disk_gb_total)];
        enough.into_iter().all(|(amount, total)| total == 0 || amount <= total)
            && allocation.resources.iter().all(|(class, amount)| {
                let mut inventories = self.table.inventories(row).filter(|usage| *usage.class == **class);
                inventories.any(|usage| usage.inventory.is_some_and(|inventory| *amount <= inventory.total))
            })
    }

    /// Notes the instance of a reservation on its row, if the reservation's amounts are already consumed there.
    pub(crate) fn assume(&mut self, uuid: Uuid) {
        let Self { reservations, table, records, members, .. } = self;
        let Some(reservation) = reservations.get(&uuid) else { return };
        let Place::Row(row) = reservation.place else { return };
        let record = records[row.index()].as_deref_mut().expect("every host in the table has a record");
        record.held += 1;
        members.come(table, row, uuid, reservation.kind());
    }

    /// Consumes the amounts of a reservation on its row, and notes the instance there.
    pub(crate) fn hold(&mut self, uuid: Uuid) {
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
    pub(crate) fn let_go(&mut self, uuid: Uuid, reservation: &Reservation) {
        if let Place::Row(row) = reservation.place {
            self.table.deallocate(row, &reservation.allocation);
            self.table.give_back_devices(row, uuid);
            self.record_mut(row).held -= 1;
            self.members.go(&mut self.table, row, uuid, reservation.kind().group);
            if reservation.also_claimed {
                self.note_claims(row, &[uuid]);
            }
        }
    }

    /// Notes the instance of a reservation on its row again, if there is one on this row.
    pub(crate) fn note_reservation(&mut self, row: Row, uuid: &Uuid) {
        let Self { reservations, table, members, .. } = self;
        if let Some(reservation) = reservations.get(uuid)
            && reservation.place == Place::Row(row)
        {
            members.come(table, row, *uuid, reservation.kind());
        }
    }

    /// Notes those of these instances again that the host lists among its claims. They must be in order.
    pub(crate) fn note_claims(&mut self, row: Row, instances: &[Uuid]) {
        let Self { table, records, members, .. } = self;
        let record = records[row.index()].as_deref().expect("every host in the table has a record");
        let is_one = |uuid: &Uuid| instances.binary_search(uuid).is_ok();
        if record.claims.rows().iter().any(|row| is_one(&row.uuid)) {
            for (uuid, kind) in record.claims.with_kinds().filter(|(uuid, _)| is_one(uuid)) {
                members.come(table, row, uuid, kind);
            }
        }
    }

    /// Ends the reservation of an instance. Returns whether there was one.
    pub(crate) fn end_reservation(&mut self, uuid: &Uuid) -> bool {
        let ended = self.reservations.remove(uuid);
        if let Some(reservation) = &ended {
            self.let_go(*uuid, reservation);
        }
        ended.is_some()
    }

    /// Removes a host from the map, with everything that is known of it.
    pub(crate) fn remove(&mut self, row: Row) {
        let Some(mut record) = self.records[row.index()].take() else { return };
        self.claims -= record.claims.rows().len();
        self.kept_of_hosts -= record.kept.own();
        self.unlisted_claims -= record.unlisted_claims as usize;
        record.claims.grouped().for_each(|(uuid, group)| self.members.forget(row, uuid, Some(group)));
        record.reported.release(&mut self.texts);
        if let Some(identity) = record.identity {
            self.by_identity.remove(&identity.uuid);
        }
        self.conflicts.remove(&row);
        self.note_change(row);
        for (uuid, reservation) in self.reservations.drop_row(row) {
            self.members.forget(row, uuid, reservation.kind().group);
        }
        self.table.remove(row);
    }
}
