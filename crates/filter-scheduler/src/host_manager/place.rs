//! Placements as the map remembers them: what was answered before, what is reserved, and what peers tell.
//!
//! The caller owns a request until it has its answer, so it may repeat it, here or at a peer. An instance that a report
//! lists or that is reserved is answered with that host if the same was asked, and is a conflict if not. Of a request
//! that is known in part only the rest is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use novella_objects::{
    Decision, Explanation, Refusal, RequestSpec, Reserve, ReserveEntry, SelectDestinations, Selection,
};
use uuid::Uuid;

use super::reservations::{Kind, Place, Reservation};
use super::{HostManager, check};
use crate::devices::DeviceUsage;
use crate::fnv::Fnv;
use crate::group;
use crate::pinning::charges;
use crate::{
    Allocation, Amounts, ClassAmounts, Failure, FilterScheduler, HostTable, Pick, Selected, Status, Terms,
};

/// Longest decision id that a peer may send.
pub(super) const MAX_DECISION_ID: usize = 1024;

/// What is known of one instance of a request.
enum Known {
    Nothing,
    /// Answered before; with the decision, and how long it still holds, if it is a reservation.
    Same {
        selection: Selection,
        decision: Option<(Arc<str>, Duration)>,
    },
    Other {
        host: String,
    },
}

/// What is known of a request's instances.
#[derive(Default)]
struct Answered {
    selections: Vec<Selection>,
    /// The first earlier decision among them.
    decision: Option<(Arc<str>, Duration)>,
    /// Instances not yet decided.
    rest: Vec<Uuid>,
}

impl HostManager {
    /// Nova's `select_destinations`: decides, and reserves what it decided unless it is a dry run. An error is a request
    /// that cannot be answered at all; that no host fits is an answer.
    pub fn select_destinations(
        &mut self,
        scheduler: &mut FilterScheduler,
        request: &SelectDestinations,
        decision_id: String,
        seed: u64,
        now: Duration,
    ) -> Result<Decision, Failure> {
        let terms =
            Terms { seed, dry_run: request.dry_run, alternates: request.alternates, unexplained: false };
        let named = self.with_names(request)?;
        let request = named.as_ref().unwrap_or(request);
        let mut asked = false;
        let decision = self.decide(request, decision_id, now, |table, spec| {
            asked = true;
            scheduler.select(table, spec, &terms)
        });
        Ok(Decision { seed: asked.then_some(seed), ..decision? })
    }

    /// Decides by `engine`, which leaves in the table what it picked, unless it failed or the request is a dry run.
    pub(super) fn decide(
        &mut self,
        request: &SelectDestinations,
        decision_id: String,
        now: Duration,
        engine: impl FnOnce(&mut HostTable, &RequestSpec) -> Selected,
    ) -> Result<Decision, Failure> {
        self.advance(now);
        let spec = &request.request_spec;
        let hash = spec_hash(spec);
        let mut answered = Answered::default();
        let mut seen = HashSet::with_capacity(spec.instance_uuids.len());
        for &uuid in &spec.instance_uuids {
            if !seen.insert(uuid) {
                return Ok(self.conflict(decision_id, request, uuid, None));
            }
            match self.known(uuid, spec, hash, now) {
                Known::Nothing => answered.rest.push(uuid),
                Known::Same { selection, decision } => {
                    answered.decision = answered.decision.or(decision);
                    answered.selections.push(selection);
                }
                Known::Other { host } => return Ok(self.conflict(decision_id, request, uuid, Some(host))),
            }
        }
        let Answered { selections: earlier, rest, decision } = answered;
        if !earlier.is_empty() && rest.is_empty() {
            return Ok(self.repeat(decision_id, request, earlier, decision));
        }
        if !request.dry_run && self.reservations.len() + rest.len() > self.options.max_reservations {
            let refusal = Refusal::NoValidHost { reason: self.full(), placeable: 0 };
            return Ok(self.refuse(decision_id, request, refusal));
        }
        // Members come and go, so what was asked is hashed without those that only the map knows.
        let group = self.with_members(spec)?;
        let selected = if earlier.is_empty() && group.is_none() {
            engine(&mut self.table, spec)
        } else {
            let instance_group = group.or_else(|| spec.instance_group.clone());
            let rest = RequestSpec { instance_uuids: rest.clone(), instance_group, ..spec.clone() };
            engine(&mut self.table, &rest)
        };
        let mut decision = self.decision(decision_id, request, &rest, selected)?;
        if decision.refusal.is_none() && !request.dry_run {
            self.reserve_decision(&mut decision, request, hash, now);
        }
        if decision.refusal.is_none() {
            merge(&mut decision.selections, earlier, &spec.instance_uuids);
        }
        Ok(decision)
    }

    pub(super) fn full(&self) -> String {
        format!(
            "No valid host was found. This scheduler holds {} reservations and may hold {}; ask again when some have \
             been confirmed or have run out.",
            self.reservations.len(),
            self.options.max_reservations
        )
    }

    /// The engine's answer in the words of the wire.
    fn decision(
        &mut self,
        decision_id: String,
        request: &SelectDestinations,
        uuids: &[Uuid],
        selected: Selected,
    ) -> Result<Decision, Failure> {
        let Selected { picks, alternates, explanation, filter_errors, weigher_errors, failure } = selected;
        self.counters.filter_errors += filter_errors.iter().map(|(hosts, _)| u64::from(*hosts)).sum::<u64>();
        for (hosts, error) in &filter_errors {
            tracing::debug!(decision_id, hosts, %error, "a filter could not decide about some hosts");
        }
        self.counters.filter_errors += weigher_errors.iter().map(|(hosts, _)| u64::from(*hosts)).sum::<u64>();
        for (hosts, error) in &weigher_errors {
            tracing::debug!(decision_id, hosts, %error, "a weigher could not value some hosts");
        }
        let refusal = match failure {
            None => None,
            Some(ref no_host @ Failure::NoValidHost { placeable, .. }) => {
                Some(Refusal::NoValidHost { reason: no_host.to_string(), placeable })
            }
            Some(failure) => return Err(failure),
        };
        let alternates: Vec<_> = alternates.iter().map(|row| self.table.host(*row).to_owned()).collect();
        let selection = |(uuid, pick): (&Uuid, &Pick)| {
            let view = self.table.view(pick.row);
            Selection {
                instance_uuid: *uuid,
                host: view.host().to_owned(),
                nodename: view.nodename().to_owned(),
                weight: pick.weight,
                alternates: alternates.clone(),
            }
        };
        Ok(Decision {
            decision_id,
            selections: uuids.iter().zip(&picks).map(selection).collect(),
            refusal,
            explanation,
            dry_run: request.dry_run,
            hold_s: 0,
            repeated: false,
            policy_hash: self.policy_hash.clone(),
            seed: None,
        })
    }

    fn known(&self, uuid: Uuid, spec: &RequestSpec, hash: u64, now: Duration) -> Known {
        let selection = |host: &str, nodename: &str| Selection {
            instance_uuid: uuid,
            host: host.to_owned(),
            nodename: nodename.to_owned(),
            weight: 0.0,
            alternates: Vec::new(),
        };
        if let Some((row, claim)) = self.claimed_on(uuid) {
            let view = self.table.view(row);
            let claimed = Allocation {
                amounts: Amounts {
                    vcpus: claim.vcpus.into(),
                    memory_mb: claim.memory_mb.into(),
                    disk_gb: claim.disk_gb.into(),
                    instances: 1,
                },
                resources: by_class(self.record(row).claims.resources_of(uuid)),
            };
            return if charges(spec).allow(&claimed) {
                let selection = selection(view.host(), view.nodename());
                Known::Same { selection, decision: None }
            } else {
                Known::Other { host: view.host().to_owned() }
            };
        }
        let Some(reservation) = self.reservations.get(&uuid) else { return Known::Nothing };
        let (host, nodename) = match &reservation.place {
            Place::Row(row) => (self.table.view(*row).host(), self.table.view(*row).nodename()),
            Place::Awaited(host) => (&**host, &**host),
        };
        if reservation.spec_hash != hash {
            return Known::Other { host: host.to_owned() };
        }
        Known::Same {
            selection: reservation.selection.as_deref().cloned().unwrap_or_else(|| selection(host, nodename)),
            decision: Some((Arc::clone(&reservation.decision_id), reservation.expires.saturating_sub(now))),
        }
    }

    /// Makes reservations of what the engine has consumed.
    fn reserve_decision(
        &mut self,
        decision: &mut Decision,
        request: &SelectDestinations,
        spec_hash: u64,
        now: Duration,
    ) {
        let hold = request.hold_s.map_or(self.options.reservation_ttl, Duration::from_secs);
        let hold = hold.min(self.options.max_hold);
        decision.hold_s = hold.as_secs();
        let decision_id: Arc<str> = decision.decision_id.as_str().into();
        let spec = &request.request_spec;
        let charges = charges(spec);
        let kind = kind(spec).shared();
        for selection in &decision.selections {
            let row = self.table.row_of(&selection.host).expect("the engine picks hosts of the table");
            let devices = self.table.taken_devices(row, selection.instance_uuid).cloned().map(Box::new);
            let reservation = Reservation {
                place: Place::Row(row),
                allocation: charges.on(|| self.table.has_pcpus(row)).clone(),
                devices,
                spec_hash,
                expires: now.saturating_add(hold),
                decision_id: Arc::clone(&decision_id),
                selection: Some(Box::new(selection.clone())),
                kind: kind.clone(),
            };
            self.reservations.add(selection.instance_uuid, reservation);
            self.assume(selection.instance_uuid);
            self.counters.reserved += 1;
        }
    }

    pub(super) fn repeat(
        &mut self,
        decision_id: String,
        request: &SelectDestinations,
        selections: Vec<Selection>,
        earlier: Option<(Arc<str>, Duration)>,
    ) -> Decision {
        self.counters.repeated += 1;
        let (decision_id, left) = match earlier {
            Some((earlier, left)) => (earlier.to_string(), left),
            None => (decision_id, Duration::ZERO),
        };
        Decision {
            decision_id,
            selections,
            refusal: None,
            explanation: self.no_explanation(),
            dry_run: request.dry_run,
            hold_s: left.as_secs_f64().ceil() as u64,
            repeated: true,
            policy_hash: self.policy_hash.clone(),
            seed: None,
        }
    }

    pub(super) fn conflict(
        &mut self,
        decision_id: String,
        request: &SelectDestinations,
        instance_uuid: Uuid,
        host: Option<String>,
    ) -> Decision {
        self.counters.conflict += 1;
        let reason = match &host {
            Some(host) => format!("instance {instance_uuid} is already on {host} with another specification"),
            None => format!("instance {instance_uuid} is asked for twice in one request"),
        };
        let refusal = Refusal::Conflict { reason, instance_uuid, host: host.unwrap_or_default() };
        self.refuse(decision_id, request, refusal)
    }

    pub(super) fn refuse(
        &self,
        decision_id: String,
        request: &SelectDestinations,
        refusal: Refusal,
    ) -> Decision {
        Decision {
            decision_id,
            selections: Vec::new(),
            refusal: Some(refusal),
            explanation: self.no_explanation(),
            dry_run: request.dry_run,
            hold_s: 0,
            repeated: false,
            policy_hash: self.policy_hash.clone(),
            seed: None,
        }
    }

    /// No filter ran.
    fn no_explanation(&self) -> Explanation {
        Explanation {
            hosts: u32::try_from(self.table.len()).unwrap_or(u32::MAX),
            suspect_hosts: self.table.count(Status::Suspect),
            ..Explanation::default()
        }
    }

    /// What to tell the peers of a decision made here. `None` if it reserved nothing.
    pub fn to_reserve(&self, decision: &Decision, now: Duration) -> Option<Reserve> {
        let mut left = Duration::ZERO;
        let mut entries = Vec::new();
        for selection in &decision.selections {
            let uuid = selection.instance_uuid;
            if let Some((entry, expires)) = self.holds.entry(&uuid, &decision.decision_id) {
                left = left.max(expires.saturating_sub(now));
                entries.push(entry);
            }
            let Some(reservation) = self.reservations.get(&uuid) else { continue };
            if *reservation.decision_id == *decision.decision_id {
                left = left.max(reservation.expires.saturating_sub(now));
                entries.push(entry(uuid, &selection.host, reservation));
            }
        }
        let ttl_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        (ttl_ms > 0).then(|| self.reserve_message(&decision.decision_id, ttl_ms, entries))
    }

    fn reserve_message(&self, decision_id: &str, ttl_ms: u64, entries: Vec<ReserveEntry>) -> Reserve {
        Reserve { decision_id: decision_id.to_owned(), scheduler: self.scheduler.clone(), ttl_ms, entries }
    }

    /// A peer's decision: subtracted as if it were ours, until a report settles it or its time is up; a time of zero
    /// lets go. What we told ourselves is ignored, and so is what a report has settled already. Returns how many
    /// entries changed the map.
    pub fn reserve(&mut self, reserve: &Reserve, now: Duration) -> usize {
        self.advance(now);
        if reserve.scheduler == self.scheduler {
            return 0;
        }
        if reserve.ttl_ms == 0 {
            let uuids: Vec<_> = reserve.entries.iter().map(|entry| entry.uuid).collect();
            return self.end_decision(&reserve.decision_id, &uuids).len();
        }
        let decision_id: Arc<str> = reserve.decision_id.as_str().into();
        let hold = Duration::from_millis(reserve.ttl_ms).min(self.options.max_hold);
        let expires = now.saturating_add(hold);
        let mut taken = 0;
        for entry in &reserve.entries {
            if entry.service.is_some() {
                taken += self.hold_for_peer(entry, &decision_id, expires);
                continue;
            }
            if self.claimed_on(entry.uuid).is_some() || self.is_same(entry, &decision_id) {
                continue;
            }
            let devices = DeviceUsage::read(&entry.numa_topology, &entry.pci);
            if self.reservations.get(&entry.uuid).is_some()
                || self.reservations.len() >= self.options.max_reservations
                || decision_id.len() > MAX_DECISION_ID
                || !is_sane(entry)
                || devices.is_err()
            {
                self.counters.peer_refused += 1;
                continue;
            }
            let devices = devices.map(|usage| DeviceUsage { failed: entry.not_building, ..usage });
            let devices = devices.ok().filter(|usage| *usage != DeviceUsage::default()).map(Box::new);
            let row = self.table.row_of(&entry.host);
            let reservation = Reservation {
                place: row.map_or_else(|| Place::Awaited(entry.host.as_str().into()), Place::Row),
                allocation: allocation(entry),
                devices,
                spec_hash: entry.spec_hash,
                expires,
                decision_id: Arc::clone(&decision_id),
                selection: None,
                kind: Kind {
                    group: entry.group.as_deref().map(Into::into),
                    flavor: entry.flavor.as_deref().map(Into::into),
                    image: None,
                }
                .shared(),
            };
            self.reservations.add(entry.uuid, reservation);
            self.hold(entry.uuid);
            self.counters.peer_reserved += 1;
            taken += 1;
        }
        taken
    }

    /// True when a redelivered message tells what is known.
    fn is_same(&self, entry: &ReserveEntry, decision_id: &Arc<str>) -> bool {
        self.reservations.get(&entry.uuid).is_some_and(|known| known.decision_id == *decision_id)
    }

    /// Lets go of a decision's reservations before their time: of these instances, or of all when none is named. Returns
    /// what to tell the peers, if anything was held.
    pub fn release(&mut self, decision_id: &str, uuids: &[Uuid]) -> Option<Reserve> {
        let ended = if uuids.is_empty() {
            let mut all = self.reservations.of_decision(decision_id);
            all.extend(self.holds.of_decision(decision_id));
            self.end_decision(decision_id, &all)
        } else {
            self.end_decision(decision_id, uuids)
        };
        (!ended.is_empty()).then(|| self.reserve_message(decision_id, 0, ended))
    }

    fn end_decision(&mut self, decision_id: &str, uuids: &[Uuid]) -> Vec<ReserveEntry> {
        let mut ended = Vec::new();
        for uuid in uuids {
            if let Some((entry, _)) = self.holds.entry(uuid, decision_id) {
                self.holds.end(uuid);
                ended.push(entry);
                self.counters.released += 1;
            }
            let Some(reservation) = self.reservations.get(uuid) else { continue };
            if *reservation.decision_id != *decision_id {
                continue;
            }
            let host = match &reservation.place {
                Place::Row(row) => self.table.host(*row),
                Place::Awaited(host) => host,
            };
            ended.push(entry(*uuid, host, reservation));
            self.end_reservation(uuid);
            self.counters.released += 1;
        }
        ended
    }
}

fn entry(uuid: Uuid, host: &str, reservation: &Reservation) -> ReserveEntry {
    let Amounts { vcpus, memory_mb, disk_gb, .. } = reservation.allocation.amounts;
    let resources = reservation.allocation.resources.iter();
    let (numa_topology, pci) = reservation.devices.as_deref().map(DeviceUsage::write).unwrap_or_default();
    ReserveEntry {
        uuid,
        host: host.to_owned(),
        vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX),
        memory_mb,
        disk_gb,
        resources: resources.map(|(class, amount)| (class.to_string(), *amount)).collect(),
        spec_hash: reservation.spec_hash,
        group: reservation.more().group.map(Into::into),
        flavor: reservation.more().flavor.map(Into::into),
        numa_topology,
        pci,
        not_building: reservation.devices.as_ref().is_some_and(|usage| usage.failed),
        service: None,
    }
}

/// What others' placement depends on, of a request's instances.
fn kind(spec: &RequestSpec) -> Kind {
    let flavor = Some(spec.flavor.identity()).filter(|name| !name.is_empty());
    Kind {
        group: group::name(spec).filter(|name| !name.is_empty()).map(Into::into),
        flavor: flavor.map(Into::into),
        image: spec.image.as_ref().and_then(|image| Some(serde_json::to_string(image).ok()?.into())),
    }
}

fn allocation(entry: &ReserveEntry) -> Allocation {
    let ReserveEntry { vcpus, memory_mb, disk_gb, .. } = *entry;
    Allocation {
        amounts: Amounts { vcpus: vcpus.into(), memory_mb, disk_gb, instances: 1 },
        resources: by_class(entry.resources.iter().map(|(class, amount)| (class.clone(), *amount))),
    }
}

/// In the form of an allocation's: by name, each once, none with zero.
fn by_class(resources: impl IntoIterator<Item = (String, u64)>) -> ClassAmounts {
    let by_class: BTreeMap<String, u64> = resources.into_iter().collect();
    let some = by_class.into_iter().filter(|(_, amount)| *amount > 0);
    some.map(|(class, amount)| (class.into(), amount)).collect()
}

fn is_sane(entry: &ReserveEntry) -> bool {
    let is_name =
        |name: &Option<String>| name.as_deref().is_none_or(|name| check::name("name", name).is_ok());
    check::name("host", &entry.host).is_ok()
        && is_name(&entry.group)
        && is_name(&entry.flavor)
        && check::amounts(&allocation(entry).amounts).is_ok()
        && check::classes("resources", entry.resources.len(), entry.resources.keys().map(String::as_str))
            .is_ok()
}

/// Puts the answers of an earlier decision among the new ones, in the order of the request.
fn merge(selections: &mut Vec<Selection>, earlier: Vec<Selection>, order: &[Uuid]) {
    if earlier.is_empty() {
        return;
    }
    let position = |uuid: &Uuid| order.iter().position(|at| at == uuid);
    selections.extend(earlier);
    selections.sort_by_key(|selection| position(&selection.instance_uuid));
}

/// A hash of what is asked, equal on every scheduler: everything but the instances and the attempt.
pub(super) fn spec_hash(spec: &RequestSpec) -> u64 {
    let asked = RequestSpec { instance_uuids: Vec::new(), attempt: 0, ..spec.clone() };
    let mut hash = Fnv::new();
    serde_json::to_writer(&mut hash, &asked).expect("a request has only text keys, and hashing cannot fail");
    hash.finish()
}
