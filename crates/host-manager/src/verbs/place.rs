//! Places requests on compute hosts, and recognises repeated requests.
//!
//! A caller does not know whether its request arrived until it has the answer, so it may repeat the request, here or at
//! a peer. An instance that a report lists, or that is reserved, is answered with that host if the same was asked. If
//! something else was asked, it is a conflict. If some instances of a request are known, only the others are decided.
//!
//! What always holds: a decision is made, and its reservations are noted, for all instances of a request or for none. A
//! host of the answer that is not up is marked, whether it was chosen now or before.
//!
//! Left out: messages between schedulers (`reserve.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use novella_filter_scheduler::{
    Failure, FilterScheduler, HostTable, Pick, Row, SchedulerOptions, Selected, Terms, charges, unread,
};
use novella_objects::{
    Decision, Explanation, HostStatus, PlacementRequest, Refusal, RequestSpec, SelectDestinations, Selection,
};
use novella_resources::{Allocation, by_class};
use uuid::Uuid;

use crate::holder::By;
use crate::map::host_map::HostMap;
use crate::policy::resolved::Resolved;
use crate::promises::entry::kind;
use crate::promises::reservations::{MAX_RESERVED_BYTES, Place, Reservation};
use crate::promises::spec_hash::spec_hash;
use crate::report::claims::FoundClaim;
use crate::verbs::enforce_policy::with_members;
use crate::verbs::watch::advance;

/// A decision that was just made, with the rows of the hosts that it names. While the map is locked, these hosts can be
/// described without looking up their names.
#[derive(Debug)]
pub struct Placed {
    /// The answer.
    pub decision: Decision,
    /// The rows of the decision's selections, in their order.
    pub rows: Vec<SelectedRows>,
}

/// The rows of the hosts of one selection.
#[derive(Debug)]
pub struct SelectedRows {
    /// The chosen host. `None` if a peer reserved a host from which no report has come yet.
    pub chosen: Option<Row>,
    /// The alternates, best first. There are none if the instance was placed before.
    pub alternates: Arc<[Row]>,
}

impl From<Decision> for Placed {
    /// A decision that names no host.
    fn from(decision: Decision) -> Self {
        Self { decision, rows: Vec::new() }
    }
}

/// What is known of one instance of a request.
enum Known {
    Nothing,
    /// The instance was placed before with the same specification. `decision` is the earlier decision and the time that
    /// it still holds, if the instance is reserved.
    Same {
        selection: Selection,
        row: Option<Row>,
        decision: Option<(Arc<str>, Duration)>,
    },
    Other {
        host: String,
    },
}

/// Nova's `select_destinations`: decides, and reserves what it decided unless it is a dry run. An error is a request
/// that cannot be answered at all; that no host fits is an answer.
pub(crate) fn select_destinations(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    request: &Resolved,
    decision_id: String,
    seed: u64,
    now: Duration,
) -> Result<Placed, Failure> {
    let (resolved, by, request) = (request, request.by(), request.request());
    let terms = Terms { seed, dry_run: request.dry_run, alternates: request.alternates, unexplained: false };
    let mut asked = false;
    let mut placed = decide(map, request, by, decision_id, now, |table, spec, instances| {
        asked = true;
        scheduler.select(table, &resolved.for_engine(spec), instances, &terms)
    })?;
    placed.decision.seed = asked.then_some(seed);
    placed.decision.notes = notes(&request.request_spec.spec, scheduler.options());
    placed.decision.not_up = not_up(map, &placed);
    if !request.dry_run {
        placed.decision.not_granted = not_granted(map, &placed);
    }
    Ok(placed)
}

/// The parts of the request that nothing looks at.
fn notes(spec: &RequestSpec, options: &SchedulerOptions) -> Vec<String> {
    let told = unread(spec, options).into_iter();
    told.map(|unread| format!("the placement does not consider {unread}")).collect()
}

/// Why a host does not keep the room of a placement itself.
pub const NOT_GRANTING: &str =
    "its agent does not grant claims: it is older than claims, or not one of novella's";

/// The chosen hosts of an answer that do not keep the room themselves.
fn not_granted(map: &HostMap, placed: &Placed) -> BTreeMap<String, String> {
    let rows = placed.rows.iter().filter_map(|rows| rows.chosen);
    let others = rows.filter(|row| !map.record(*row).grants_claims);
    others.map(|row| (map.table.host(row).to_owned(), NOT_GRANTING.to_owned())).collect()
}

/// The hosts of an answer that are not up.
fn not_up(map: &HostMap, placed: &Placed) -> BTreeMap<String, HostStatus> {
    let mut found = BTreeMap::new();
    if map.table.count(HostStatus::Up) as usize == map.table.len() {
        return found;
    }
    let mut look = |row: Row| {
        let view = map.table.view(row);
        if view.status() != HostStatus::Up {
            found.insert(view.host().to_owned(), view.status());
        }
    };
    let mut last: Option<&Arc<[String]>> = None;
    for (selection, rows) in placed.decision.selections.iter().zip(&placed.rows) {
        rows.chosen.into_iter().for_each(&mut look);
        // Instances that are decided together share their alternates. An instance that was placed before has their
        // names only.
        let alternates = &selection.alternates;
        if last.replace(alternates).is_none_or(|last| !Arc::ptr_eq(last, alternates)) {
            alternates.iter().filter_map(|host| map.table.row_of(host)).for_each(&mut look);
        }
    }
    found
}

/// Decides with `engine`, which consumes in the table what it picks, unless it fails or the request is a dry run.
pub(crate) fn decide(
    map: &mut HostMap,
    request: &SelectDestinations,
    by: &By,
    decision_id: String,
    now: Duration,
    engine: impl FnOnce(&mut HostTable, &RequestSpec, &[Uuid]) -> Selected,
) -> Result<Placed, Failure> {
    advance(map, now);
    let PlacementRequest { instance_uuids, spec, .. } = &request.request_spec;
    let hash = spec_hash(spec);
    let mut earlier = Vec::with_capacity(instance_uuids.len());
    let mut earlier_decision = None;
    let mut rest = Vec::with_capacity(instance_uuids.len());
    let mut seen = HashSet::with_capacity(instance_uuids.len());
    let claimed = map.claimed(instance_uuids);
    for &uuid in instance_uuids {
        if !seen.insert(uuid) {
            return Ok(conflict(map, decision_id, request, uuid, None).into());
        }
        earlier.push(match known(map, uuid, claimed.get(&uuid), spec, hash, now) {
            Known::Nothing => {
                rest.push(uuid);
                None
            }
            Known::Same { selection, row, decision } => {
                earlier_decision = earlier_decision.or(decision);
                Some((selection, SelectedRows { chosen: row, alternates: Arc::default() }))
            }
            Known::Other { host } => return Ok(conflict(map, decision_id, request, uuid, Some(host)).into()),
        });
    }
    if rest.is_empty() && !earlier.is_empty() {
        let (selections, rows) = earlier.into_iter().flatten().unzip();
        return Ok(Placed {
            decision: repeat(map, decision_id, request, selections, earlier_decision),
            rows,
        });
    }
    if !request.dry_run && map.reservations.len() + rest.len() > map.options.max_reservations {
        let refusal = Refusal::NoValidHost { reason: full(map), placeable: 0 };
        return Ok(refuse(map, decision_id, request, refusal).into());
    }
    if !request.dry_run && map.reservations.bytes() + new_bytes(spec, by, rest.len()) > MAX_RESERVED_BYTES {
        let refusal = Refusal::NoValidHost {
            reason: full_of_bytes(map, new_bytes(spec, by, rest.len())),
            placeable: 0,
        };
        return Ok(refuse(map, decision_id, request, refusal).into());
    }
    // Members come and go, so what was asked is hashed without those that only the map knows.
    let asked = with_members(map, spec, instance_uuids)?;
    let selected = engine(&mut map.table, &asked, &rest);
    note_errors(map, &decision_id, &selected);
    let refusal = match selected.failure {
        None => None,
        Some(ref no_host @ Failure::NoValidHost { placeable, .. }) => {
            Some(Refusal::NoValidHost { reason: no_host.to_string(), placeable })
        }
        Some(failure) => return Err(failure),
    };
    let answer = Decision { explanation: selected.explanation, refusal, ..answer(map, decision_id, request) };
    if answer.refusal.is_some() {
        return Ok(answer.into());
    }
    let names: Arc<[String]> =
        selected.alternates.iter().map(|row| map.table.host(*row).to_owned()).collect();
    let hold = hold(map, request);
    if !request.dry_run {
        let promise = Promise {
            spec,
            spec_hash: hash,
            expires: now.saturating_add(hold),
            decision_id: answer.decision_id.as_str().into(),
            by,
            alternates: Arc::clone(&names),
        };
        promise.reserve(map, &rest, &selected.picks);
    }
    let rows: Arc<[Row]> = selected.alternates.into();
    let mut new = rest.iter().zip(&selected.picks).map(|(uuid, pick)| {
        let selection = selection(map, *uuid, pick.row, pick.weight, &names);
        (selection, SelectedRows { chosen: Some(pick.row), alternates: Arc::clone(&rows) })
    });
    let in_order = earlier.into_iter().filter_map(|earlier| earlier.or_else(|| new.next()));
    let (selections, rows) = in_order.unzip();
    let hold_s = if request.dry_run { 0 } else { hold.as_secs() };
    Ok(Placed { decision: Decision { selections, hold_s, ..answer }, rows })
}

pub(crate) fn full(map: &HostMap) -> String {
    format!(
        "No valid host was found. This scheduler holds {} reservations and may hold {}; try again when some have \
         been confirmed or have run out.",
        map.reservations.len(),
        map.options.max_reservations
    )
}

/// About how many bytes the reservations of so many instances add. Each takes the resource classes that the flavor names.
fn new_bytes(spec: &RequestSpec, by: &By, instances: usize) -> usize {
    let named: usize = spec.flavor.extra_specs.keys().map(|key| 64 + key.len()).sum();
    (named + by.holder.bytes()).saturating_mul(instances)
}

fn full_of_bytes(map: &HostMap, added: usize) -> String {
    format!(
        "No valid host was found. The reservations of this scheduler take {} bytes, this request would add {added}, and \
         {MAX_RESERVED_BYTES} are allowed; ask again when some have been confirmed or have run out.",
        map.reservations.bytes()
    )
}

/// Counts and logs what filters and weighers could not judge.
fn note_errors(map: &mut HostMap, decision_id: &str, selected: &Selected) {
    for (hosts, error) in &selected.filter_errors {
        map.counters.filter_errors += u64::from(*hosts);
        tracing::debug!(decision_id, hosts, %error, "a filter could not decide about some hosts");
    }
    for (hosts, error) in &selected.weigher_errors {
        map.counters.filter_errors += u64::from(*hosts);
        tracing::debug!(decision_id, hosts, %error, "a weigher could not value some hosts");
    }
}

fn selection(map: &HostMap, uuid: Uuid, row: Row, weight: f64, alternates: &Arc<[String]>) -> Selection {
    let view = map.table.view(row);
    Selection {
        instance_uuid: uuid,
        host: view.host().to_owned(),
        nodename: view.nodename().to_owned(),
        weight,
        alternates: Arc::clone(alternates),
    }
}

fn known(
    map: &HostMap,
    uuid: Uuid,
    claimed: Option<&Vec<(Row, FoundClaim)>>,
    spec: &RequestSpec,
    hash: u64,
    now: Duration,
) -> Known {
    if let Some(known) = reserved(map, uuid, hash, now) {
        return known;
    }
    if let Some((row, claim)) = claimed.and_then(|claims| claims.first()) {
        let grant = map.record(*row).grants.at(claim.position);
        let same = match grant.and_then(|grant| grant.spec_hash) {
            Some(known) => known == hash,
            None => {
                let (amounts, resources) = (claim.row.amounts(), by_class(claim.resources.clone()));
                charges(spec).allow(&Allocation { amounts, resources })
            }
        };
        return if same {
            let selection = selection(map, uuid, *row, 0.0, &Arc::default());
            let decision = grant.and_then(|grant| Some((grant.decision?.into(), Duration::ZERO)));
            Known::Same { selection, row: Some(*row), decision }
        } else {
            Known::Other { host: map.table.host(*row).to_owned() }
        };
    }
    Known::Nothing
}

/// What a reservation says of an instance. It counts before claims, because a claim on its own host ends it, and a claim on
/// another host is a move that has not ended or a fault.
fn reserved(map: &HostMap, uuid: Uuid, hash: u64, now: Duration) -> Option<Known> {
    let reservation = map.reservations.get(&uuid)?;
    let Reservation { weight, alternates, .. } = reservation;
    let (row, selection) = match &reservation.place {
        Place::Row(row) => (Some(*row), selection(map, uuid, *row, *weight, alternates)),
        Place::Awaited(host) => (None, selection_by_name(uuid, host, *weight)),
    };
    if reservation.spec_hash != hash {
        return Some(Known::Other { host: selection.host });
    }
    let decision = (Arc::clone(&reservation.decision_id), reservation.expires.saturating_sub(now));
    Some(Known::Same { selection, row, decision: Some(decision) })
}

/// The selection of a host that is known by its name only.
pub(crate) fn selection_by_name(instance_uuid: Uuid, host: &str, weight: f64) -> Selection {
    let (host, nodename) = (host.to_owned(), host.to_owned());
    Selection { instance_uuid, host, nodename, weight, alternates: Arc::default() }
}

/// For how long the request's placement is held.
pub(crate) fn hold(map: &HostMap, request: &SelectDestinations) -> Duration {
    let asked = request.hold_s.map_or(map.options.reservation_ttl, Duration::from_secs);
    asked.min(map.options.max_hold)
}

/// What the reservations of one decision have in common.
struct Promise<'a> {
    spec: &'a RequestSpec,
    spec_hash: u64,
    expires: Duration,
    decision_id: Arc<str>,
    by: &'a By,
    alternates: Arc<[String]>,
}

impl Promise<'_> {
    /// Makes reservations for what the engine has consumed.
    fn reserve(self, map: &mut HostMap, uuids: &[Uuid], picks: &[Pick]) {
        let Self { spec, spec_hash, expires, decision_id, by, alternates } = self;
        let charges = charges(spec);
        let kind = kind(spec).shared();
        for (&uuid, &Pick { row, weight, .. }) in uuids.iter().zip(picks) {
            let devices = map.table.taken_devices(row, uuid).cloned().map(Box::new);
            let reservation = Reservation {
                place: Place::Row(row),
                allocation: charges.on(|| map.table.has_pcpus(row)).clone(),
                devices,
                spec_hash,
                expires,
                decision_id: Arc::clone(&decision_id),
                user: by.owner.clone(),
                holder: by.holder.clone(),
                weight,
                alternates: Arc::clone(&alternates),
                kind: kind.clone(),
                also_claimed: false,
            };
            map.reservations.add(uuid, reservation);
            map.assume(uuid);
            map.counters.reserved += 1;
        }
    }
}

/// The answer to a request that the earlier decision already placed.
pub(crate) fn repeat(
    map: &mut HostMap,
    decision_id: String,
    request: &SelectDestinations,
    selections: Vec<Selection>,
    earlier: Option<(Arc<str>, Duration)>,
) -> Decision {
    map.counters.repeated += 1;
    let (decision_id, left) = match earlier {
        Some((earlier, left)) => (earlier.to_string(), left),
        None => (decision_id, Duration::ZERO),
    };
    let hold_s = left.as_secs_f64().ceil() as u64;
    Decision { selections, hold_s, repeated: true, ..answer(map, decision_id, request) }
}

pub(crate) fn conflict(
    map: &mut HostMap,
    decision_id: String,
    request: &SelectDestinations,
    instance_uuid: Uuid,
    host: Option<String>,
) -> Decision {
    map.counters.conflict += 1;
    let reason = match &host {
        Some(host) => format!("instance {instance_uuid} is already on {host} with another specification"),
        None => format!("instance {instance_uuid} is requested twice in one request"),
    };
    let refusal = Refusal::Conflict { reason, instance_uuid, host: host.unwrap_or_default() };
    refuse(map, decision_id, request, refusal)
}

pub(crate) fn refuse(
    map: &HostMap,
    decision_id: String,
    request: &SelectDestinations,
    refusal: Refusal,
) -> Decision {
    Decision { refusal: Some(refusal), ..answer(map, decision_id, request) }
}

/// An empty answer: it selects and refuses nothing, and no filter ran for it.
pub(crate) fn answer(map: &HostMap, decision_id: String, request: &SelectDestinations) -> Decision {
    Decision {
        decision_id,
        selections: Vec::new(),
        refusal: None,
        explanation: Explanation {
            hosts: u32::try_from(map.table.len()).unwrap_or(u32::MAX),
            suspect_hosts: map.table.count(HostStatus::Suspect),
            ..Explanation::default()
        },
        dry_run: request.dry_run,
        hold_s: 0,
        repeated: false,
        not_up: BTreeMap::new(),
        policy_hash: map.policy_hash.clone(),
        seed: None,
        claimed: false,
        not_granted: BTreeMap::new(),
        refused_by: Vec::new(),
        notes: Vec::new(),
    }
}
