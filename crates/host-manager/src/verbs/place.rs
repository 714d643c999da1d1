//! Places requests on compute hosts, and remembers what was answered.
//!
//! A caller does not know whether its request arrived until it has the answer, so it may repeat the request, here or at
//! a peer. An instance that a report lists, or that is reserved, is answered with that host if the same was asked. If
//! something else was asked, it is a conflict. If some instances of a request are known, only the others are decided.
//!
//! What always holds: a decision is made, and its reservations are noted, for all instances of a request or for none.
//!
//! Left out: messages between schedulers (`reserve.rs`).

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use novella_filter_scheduler::{Failure, FilterScheduler, HostTable, Pick, Selected, Terms, charges};
use novella_objects::{
    Decision, Explanation, HostStatus, PlacementRequest, Refusal, RequestSpec, SelectDestinations, Selection,
};
use novella_resources::{Allocation, Amounts};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::policy::resolved::Resolved;
use crate::promises::entry::{by_class, kind};
use crate::promises::reservations::{Place, Reservation};
use crate::promises::spec_hash::spec_hash;
use crate::verbs::enforce_policy::with_members;
use crate::verbs::watch::advance;

/// What is known of one instance of a request.
enum Known {
    Nothing,
    /// The instance was placed before with the same specification. `decision` is the earlier decision and the time that
    /// it still holds, if the instance is reserved.
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
    /// The instances that are not yet placed.
    rest: Vec<Uuid>,
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
) -> Result<Decision, Failure> {
    let request = request.request();
    let terms = Terms { seed, dry_run: request.dry_run, alternates: request.alternates, unexplained: false };
    let mut asked = false;
    let decision = decide(map, request, decision_id, now, |table, spec, instances| {
        asked = true;
        scheduler.select(table, spec, instances, &terms)
    });
    Ok(Decision { seed: asked.then_some(seed), ..decision? })
}

/// Decides with `engine`, which consumes in the table what it picks, unless it fails or the request is a dry run.
pub(crate) fn decide(
    map: &mut HostMap,
    request: &SelectDestinations,
    decision_id: String,
    now: Duration,
    engine: impl FnOnce(&mut HostTable, &RequestSpec, &[Uuid]) -> Selected,
) -> Result<Decision, Failure> {
    advance(map, now);
    let PlacementRequest { instance_uuids, spec, .. } = &request.request_spec;
    let hash = spec_hash(spec);
    let mut answered = Answered::default();
    let mut seen = HashSet::with_capacity(instance_uuids.len());
    for &uuid in instance_uuids {
        if !seen.insert(uuid) {
            return Ok(conflict(map, decision_id, request, uuid, None));
        }
        match known(map, uuid, spec, hash, now) {
            Known::Nothing => answered.rest.push(uuid),
            Known::Same { selection, decision } => {
                answered.decision = answered.decision.or(decision);
                answered.selections.push(selection);
            }
            Known::Other { host } => return Ok(conflict(map, decision_id, request, uuid, Some(host))),
        }
    }
    let Answered { selections: earlier, rest, decision } = answered;
    if !earlier.is_empty() && rest.is_empty() {
        return Ok(repeat(map, decision_id, request, earlier, decision));
    }
    if !request.dry_run && map.reservations.len() + rest.len() > map.options.max_reservations {
        let refusal = Refusal::NoValidHost { reason: full(map), placeable: 0 };
        return Ok(refuse(map, decision_id, request, refusal));
    }
    // Members come and go, so what was asked is hashed without those that only the map knows.
    let asked = with_members(map, spec, instance_uuids)?;
    let selected = engine(&mut map.table, &asked, &rest);
    let (mut decision, picks) = to_decision(map, decision_id, request, &rest, selected)?;
    if decision.refusal.is_none() && !request.dry_run {
        reserve_decision(map, &mut decision, &picks, request, hash, now);
    }
    if decision.refusal.is_none() {
        merge(&mut decision.selections, earlier, instance_uuids);
    }
    Ok(decision)
}

pub(crate) fn full(map: &HostMap) -> String {
    format!(
        "No valid host was found. This scheduler holds {} reservations and may hold {}; ask again when some have \
         been confirmed or have run out.",
        map.reservations.len(),
        map.options.max_reservations
    )
}

/// The engine's answer in the words of the wire, and the pick of each of its selections.
fn to_decision(
    map: &mut HostMap,
    decision_id: String,
    request: &SelectDestinations,
    uuids: &[Uuid],
    selected: Selected,
) -> Result<(Decision, Vec<Pick>), Failure> {
    let Selected { picks, alternates, explanation, filter_errors, weigher_errors, failure } = selected;
    map.counters.filter_errors += filter_errors.iter().map(|(hosts, _)| u64::from(*hosts)).sum::<u64>();
    for (hosts, error) in &filter_errors {
        tracing::debug!(decision_id, hosts, %error, "a filter could not decide about some hosts");
    }
    map.counters.filter_errors += weigher_errors.iter().map(|(hosts, _)| u64::from(*hosts)).sum::<u64>();
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
    let alternates: Vec<_> = alternates.iter().map(|row| map.table.host(*row).to_owned()).collect();
    let selection = |(uuid, pick): (&Uuid, &Pick)| {
        let view = map.table.view(pick.row);
        Selection {
            instance_uuid: *uuid,
            host: view.host().to_owned(),
            nodename: view.nodename().to_owned(),
            weight: pick.weight,
            alternates: alternates.clone(),
        }
    };
    let decision = Decision {
        decision_id,
        selections: uuids.iter().zip(&picks).map(selection).collect(),
        refusal,
        explanation,
        dry_run: request.dry_run,
        hold_s: 0,
        repeated: false,
        policy_hash: map.policy_hash.clone(),
        seed: None,
    };
    Ok((decision, picks))
}

fn known(map: &HostMap, uuid: Uuid, spec: &RequestSpec, hash: u64, now: Duration) -> Known {
    let selection = |host: &str, nodename: &str| Selection {
        instance_uuid: uuid,
        host: host.to_owned(),
        nodename: nodename.to_owned(),
        weight: 0.0,
        alternates: Vec::new(),
    };
    if let Some((row, claim)) = map.claimed_on(uuid) {
        let view = map.table.view(row);
        let claimed = Allocation {
            amounts: Amounts {
                vcpus: claim.vcpus.into(),
                memory_mb: claim.memory_mb.into(),
                disk_gb: claim.disk_gb.into(),
                instances: 1,
            },
            resources: by_class(map.record(row).claims.resources_of(uuid)),
        };
        return if charges(spec).allow(&claimed) {
            let selection = selection(view.host(), view.nodename());
            Known::Same { selection, decision: None }
        } else {
            Known::Other { host: view.host().to_owned() }
        };
    }
    let Some(reservation) = map.reservations.get(&uuid) else { return Known::Nothing };
    let (host, nodename) = match &reservation.place {
        Place::Row(row) => (map.table.view(*row).host(), map.table.view(*row).nodename()),
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

/// For how long the request's placement is held.
pub(crate) fn hold(map: &HostMap, request: &SelectDestinations) -> Duration {
    let asked = request.hold_s.map_or(map.options.reservation_ttl, Duration::from_secs);
    asked.min(map.options.max_hold)
}

/// Makes reservations for what the engine has consumed.
fn reserve_decision(
    map: &mut HostMap,
    decision: &mut Decision,
    picks: &[Pick],
    request: &SelectDestinations,
    spec_hash: u64,
    now: Duration,
) {
    let hold = hold(map, request);
    decision.hold_s = hold.as_secs();
    let decision_id: Arc<str> = decision.decision_id.as_str().into();
    let spec = &request.request_spec.spec;
    let charges = charges(spec);
    let kind = kind(spec).shared();
    for (selection, &Pick { row, .. }) in decision.selections.iter().zip(picks) {
        let devices = map.table.taken_devices(row, selection.instance_uuid).cloned().map(Box::new);
        let reservation = Reservation {
            place: Place::Row(row),
            allocation: charges.on(|| map.table.has_pcpus(row)).clone(),
            devices,
            spec_hash,
            expires: now.saturating_add(hold),
            decision_id: Arc::clone(&decision_id),
            selection: Some(Box::new(selection.clone())),
            kind: kind.clone(),
        };
        map.reservations.add(selection.instance_uuid, reservation);
        map.assume(selection.instance_uuid);
        map.counters.reserved += 1;
    }
}

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
    Decision {
        decision_id,
        selections,
        refusal: None,
        explanation: no_explanation(map),
        dry_run: request.dry_run,
        hold_s: left.as_secs_f64().ceil() as u64,
        repeated: true,
        policy_hash: map.policy_hash.clone(),
        seed: None,
    }
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
        None => format!("instance {instance_uuid} is asked for twice in one request"),
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
    Decision {
        decision_id,
        selections: Vec::new(),
        refusal: Some(refusal),
        explanation: no_explanation(map),
        dry_run: request.dry_run,
        hold_s: 0,
        repeated: false,
        policy_hash: map.policy_hash.clone(),
        seed: None,
    }
}

/// The explanation of an answer for which no filter ran.
fn no_explanation(map: &HostMap) -> Explanation {
    Explanation {
        hosts: u32::try_from(map.table.len()).unwrap_or(u32::MAX),
        suspect_hosts: map.table.count(HostStatus::Suspect),
        ..Explanation::default()
    }
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
