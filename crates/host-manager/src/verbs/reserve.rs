//! The messages between schedulers: reservations made here, reservations of peers, and releases.
//!
//! What always holds: a peer's reservation counts like our own, until a report settles it or its time is up. A peer
//! cannot move or end what another decision reserved, and cannot reserve more than a host has.
//!
//! Left out: sending and receiving.

use std::sync::Arc;
use std::time::Duration;

use novella_objects::{Decision, Reserve, ReserveEntry, is_host_name};
use novella_resources::{Allocation, DeviceUsage};
use uuid::Uuid;

use crate::holder::Holder;
use crate::map::host_map::HostMap;
use crate::promises::entry::{entry, is_sane};
use crate::promises::holds::Hold;
use crate::promises::reservations::{MAX_RESERVED_BYTES, Place, Reservation, ReservationKind};
use crate::report::check::{MAX_DECISION_ID, MAX_USER};
use crate::verbs::place_on_service::UNLIMITED_GB;
use crate::verbs::watch::advance;

/// The message that tells peers what a decision reserved. `None` if it reserved nothing.
pub(crate) fn to_reserve(map: &HostMap, decision: &Decision, now: Duration) -> Option<Reserve> {
    let mut left = Duration::ZERO;
    let mut entries = Vec::new();
    let mut user = None;
    for selection in &decision.selections {
        let uuid = selection.instance_uuid;
        if let Some((entry, expires)) = map.holds.entry(&uuid, &decision.decision_id) {
            left = left.max(expires.saturating_sub(now));
            entries.push(entry);
            user = user_of(map, &uuid, &decision.decision_id);
        }
        let Some(reservation) = map.reservations.get(&uuid) else { continue };
        if *reservation.decision_id == *decision.decision_id {
            left = left.max(reservation.expires.saturating_sub(now));
            entries.push(entry(uuid, &selection.host, reservation));
            user.clone_from(&reservation.user);
        }
    }
    let ttl_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let user = user.as_deref().map(str::to_owned);
    (ttl_ms > 0).then(|| Reserve { user, ..reserve_message(map, &decision.decision_id, ttl_ms, entries) })
}

fn reserve_message(map: &HostMap, decision_id: &str, ttl_ms: u64, entries: Vec<ReserveEntry>) -> Reserve {
    let (decision_id, scheduler) = (decision_id.to_owned(), map.scheduler.clone());
    Reserve { decision_id, scheduler, ttl_ms, entries, user: None }
}

/// The broker user who placed an instance by this decision.
fn user_of(map: &HostMap, uuid: &Uuid, decision_id: &str) -> Option<Arc<str>> {
    let reserved = map.reservations.get(uuid).filter(|reservation| *reservation.decision_id == *decision_id);
    let held = map.holds.get(uuid).filter(|hold| *hold.decision_id == *decision_id);
    reserved
        .and_then(|reservation| reservation.user.clone())
        .or_else(|| held.and_then(|hold| hold.user.clone()))
}

/// Takes over a peer's decision. Its amounts are subtracted like our own, until a report settles it or its time is up.
/// A time of zero ends it. Messages of this scheduler itself are ignored, and so are instances that the host
/// already claims. Returns how many entries changed the map.
pub(crate) fn reserve(map: &mut HostMap, reserve: &Reserve, now: Duration) -> usize {
    advance(map, now);
    if reserve.scheduler == map.scheduler {
        return 0;
    }
    if reserve.ttl_ms == 0 {
        let uuids: Vec<_> = reserve.entries.iter().map(|entry| entry.uuid).collect();
        return end_decision(map, &reserve.decision_id, &uuids).len();
    }
    let decision_id: Arc<str> = reserve.decision_id.as_str().into();
    let user: Option<Arc<str>> = reserve.user.as_deref().map(Into::into);
    // A peer has checked its own quotas. What it tells counts when the same user asks here.
    let holder = Holder { user: user.clone(), project: None };
    let hold = Duration::from_millis(reserve.ttl_ms).min(map.options.max_hold);
    let expires = now.saturating_add(hold);
    let mut taken = 0;
    let uuids: Vec<_> = reserve.entries.iter().map(|entry| entry.uuid).collect();
    let claimed = map.claimed(&uuids);
    for entry in &reserve.entries {
        if entry.service.is_some() {
            taken += hold_for_peer(map, entry, &decision_id, user.as_ref(), expires);
            continue;
        }
        let (row, allocation) = (map.table.row_of(&entry.host), Allocation::of_entry(entry));
        let claims = claimed.get(&entry.uuid).into_iter().flatten();
        let own = claims.filter(|(at, _)| Some(*at) == row).map(|(_, claim)| claim).next();
        if own.is_some_and(|claim| claim.covers(&allocation)) || is_same(map, entry, &decision_id) {
            continue;
        }
        let devices = DeviceUsage::read(&entry.numa_topology, &entry.pci);
        if map.reservations.get(&entry.uuid).is_some()
            || map.reservations.len() >= map.options.max_reservations
            || map.reservations.bytes() >= MAX_RESERVED_BYTES
            || decision_id.len() > MAX_DECISION_ID
            || user.as_ref().is_some_and(|user| user.len() > MAX_USER)
            || !is_sane(entry)
            || devices.is_err()
            || row.is_some_and(|row| !map.is_large_enough(row, &allocation))
        {
            map.counters.peer_refused += 1;
            continue;
        }
        let devices = devices.map(|usage| DeviceUsage { failed: entry.not_building, ..usage });
        let devices = devices.ok().filter(|usage| *usage != DeviceUsage::default()).map(Box::new);
        let reservation = Reservation {
            place: row.map_or_else(|| Place::Awaited(entry.host.as_str().into()), Place::Row),
            allocation,
            devices,
            spec_hash: entry.spec_hash,
            expires,
            decision_id: Arc::clone(&decision_id),
            user: user.clone(),
            holder: holder.clone(),
            weight: 0.0,
            alternates: Arc::default(),
            kind: ReservationKind {
                group: entry.group.as_deref().map(Into::into),
                flavor: entry.flavor.as_deref().map(Into::into),
                image: None,
            }
            .shared(),
            also_claimed: own.is_some(),
        };
        map.reservations.add(entry.uuid, reservation);
        map.hold(entry.uuid);
        map.counters.peer_reserved += 1;
        taken += 1;
    }
    taken
}

/// Whether the entry is already known, because the message was delivered again.
fn is_same(map: &HostMap, entry: &ReserveEntry, decision_id: &Arc<str>) -> bool {
    map.reservations.get(&entry.uuid).is_some_and(|known| known.decision_id == *decision_id)
}

/// Releases the reservations of a decision before their time is up: of these instances, or of all if `uuids` is empty.
/// Returns the message for the peers, if anything was held. If it is released `by` a user and another one placed any of it,
/// nothing is released, and the other user is the error.
pub(crate) fn release(
    map: &mut HostMap,
    decision_id: &str,
    uuids: &[Uuid],
    by: Option<&str>,
) -> Result<Option<Reserve>, Arc<str>> {
    let mut all = Vec::new();
    if uuids.is_empty() {
        all = map.reservations.of_decision(decision_id);
        all.extend(map.holds.of_decision(decision_id));
    }
    let uuids = if uuids.is_empty() { &all } else { uuids };
    if let Some(by) = by {
        let mut users = uuids.iter().filter_map(|uuid| user_of(map, uuid, decision_id));
        if let Some(other) = users.find(|user| **user != *by) {
            return Err(other);
        }
    }
    let ended = end_decision(map, decision_id, uuids);
    Ok((!ended.is_empty()).then(|| reserve_message(map, decision_id, 0, ended)))
}

fn end_decision(map: &mut HostMap, decision_id: &str, uuids: &[Uuid]) -> Vec<ReserveEntry> {
    let mut ended = Vec::new();
    for uuid in uuids {
        if let Some((entry, _)) = map.holds.entry(uuid, decision_id) {
            map.holds.end(uuid);
            ended.push(entry);
            map.counters.released += 1;
        }
        let Some(reservation) = map.reservations.get(uuid) else { continue };
        if *reservation.decision_id != *decision_id {
            continue;
        }
        let host = match &reservation.place {
            Place::Row(row) => map.table.host(*row),
            Place::Awaited(host) => host,
        };
        ended.push(entry(*uuid, host, reservation));
        map.end_reservation(uuid);
        map.released.note(*uuid);
        map.counters.released += 1;
    }
    ended
}

/// Takes over a peer's placement on a service. Returns 1 if that changed the map, and 0 if not.
pub(crate) fn hold_for_peer(
    map: &mut HostMap,
    entry: &ReserveEntry,
    decision_id: &Arc<str>,
    user: Option<&Arc<str>>,
    expires: Duration,
) -> usize {
    let Some(service) = &entry.service else { return 0 };
    let named = is_host_name(service) && is_host_name(&entry.host);
    let full = map.holds.len() + map.reservations.len() >= map.options.max_reservations;
    let too_large = map.services.iter().any(|(host, state)| {
        *state.service == **service
            && *host == *entry.host
            && state.total_gb().is_some_and(|gb| entry.disk_gb as f64 > gb)
    });
    let known = map.holds.get(&entry.uuid);
    if known.is_some_and(|known| known.decision_id == *decision_id) {
        return 0;
    }
    if !named || full || too_large || known.is_some() || decision_id.len() > MAX_DECISION_ID {
        map.counters.peer_refused += 1;
        return 0;
    }
    let hold = Hold {
        service: service.as_str().into(),
        host: entry.host.as_str().into(),
        gb: entry.disk_gb.min(UNLIMITED_GB as u64),
        spec_hash: entry.spec_hash,
        decision_id: Arc::clone(decision_id),
        user: user.cloned(),
        holder: Holder { user: user.cloned(), project: None },
        expires,
    };
    map.holds.add(entry.uuid, hold);
    map.counters.peer_reserved += 1;
    1
}

/// Releases the reservations of these instances, whichever decisions made them, but not what others than `by` placed.
/// Returns the messages for the peers.
pub(crate) fn release_instances(map: &mut HostMap, uuids: &[Uuid], by: Option<&str>) -> Vec<Reserve> {
    let mut told = Vec::new();
    for uuid in uuids {
        let Some(decision_id) = map.reservations.get(uuid).map(|known| known.decision_id.clone()) else {
            continue;
        };
        told.extend(release(map, &decision_id, std::slice::from_ref(uuid), by).ok().flatten());
    }
    told
}
