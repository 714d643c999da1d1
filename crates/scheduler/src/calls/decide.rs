//! Decides requests: checks a request, decides it while the map is locked, reserves the room, and tells the peers.
//!
//! `select_destinations`, claims, Nova's requests and `explain` decide by these functions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use novella_host_manager::{COMPUTE, HostClaims, Placed, SelectedRows};
use novella_messaging::{ANONYMOUS, CallError, RequestContext};
use novella_objects::{
    Decision, Flavor, MAX_ALTERNATES, MAX_AMOUNT, MAX_INSTANCES, PlacementRequest, SelectDestinations,
};
use tracing::info;

use crate::call_errors::bad_arguments;
use crate::calls::owner::owner;
use crate::decisions::Decided;
use crate::manager::{Core, SchedulerManager};

/// How long the id of a project may be, in bytes, as in Nova's database.
const MAX_PROJECT_ID: usize = 255;

/// Who asks for a placement.
pub(crate) struct Asker<'c> {
    /// The broker user, for quotas.
    user: &'c str,
    /// The broker user to whom the placement will belong. `None` if it belongs to everybody.
    owner: Option<&'c str>,
}

impl<'c> Asker<'c> {
    /// The sender of a request.
    pub(crate) fn of(manager: &SchedulerManager, context: &'c RequestContext) -> Self {
        let user = context.user_id.as_deref().unwrap_or(ANONYMOUS);
        Self { user, owner: owner(manager, context) }
    }

    /// Somebody who asks what would be decided, and holds nothing.
    pub(crate) fn of_question() -> Self {
        Self { user: ANONYMOUS, owner: None }
    }
}

/// Counts a request towards the requests that its user and its project may make.
pub(crate) fn take(
    manager: &SchedulerManager,
    asker: &Asker<'_>,
    request: &SelectDestinations,
) -> Result<(), CallError> {
    let project = request.request_spec.spec.project_id.as_deref();
    manager.quotas.take(asker.user, project, manager.env.clock.now())
}

/// Refuses a request that is wrong regardless of the map.
pub(crate) fn check(manager: &SchedulerManager, request: &SelectDestinations) -> Result<(), CallError> {
    let PlacementRequest { instance_uuids, spec, .. } = &request.request_spec;
    let instances = instance_uuids.len();
    if instances == 0 {
        return Err(bad_arguments("request_spec.instance_uuids is empty: give each instance a uuid"));
    }
    if instances > MAX_INSTANCES {
        let reason = format!("{instances} instances in one request; at most {MAX_INSTANCES} are allowed");
        return Err(bad_arguments(reason));
    }
    let mut uuids = instance_uuids.clone();
    uuids.sort_unstable();
    if let Some(twice) = uuids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(bad_arguments(format!("instance {} is named twice", twice[0])));
    }
    if let Some(bytes) = spec.project_id.as_ref().map(String::len).filter(|bytes| *bytes > MAX_PROJECT_ID) {
        let reason = format!("project_id has {bytes} bytes; at most {MAX_PROJECT_ID} are allowed");
        return Err(bad_arguments(reason));
    }
    let Flavor { memory_mb, root_gb, ephemeral_gb, .. } = spec.flavor;
    for (name, value) in [("memory_mb", memory_mb), ("root_gb", root_gb), ("ephemeral_gb", ephemeral_gb)] {
        if value > MAX_AMOUNT {
            return Err(bad_arguments(format!("flavor.{name} is {value}; at most {MAX_AMOUNT} is allowed")));
        }
    }
    if let Some(alternates) = request.alternates.filter(|wanted| *wanted > MAX_ALTERNATES) {
        let reason = format!("alternates is {alternates}; at most {MAX_ALTERNATES} are allowed");
        return Err(bad_arguments(reason));
    }
    let max_hold = manager.options.max_hold.as_secs();
    if let Some(hold) = request.hold_s.filter(|hold| *hold > max_hold) {
        return Err(bad_arguments(format!("hold_s is {hold}; at most {max_hold} (max_hold) is allowed")));
    }
    Ok(())
}

/// Decides a [checked](check) request while the caller holds the lock. Also returns the rows of the chosen hosts.
pub(crate) fn decide(
    manager: &SchedulerManager,
    core: &mut Core,
    asker: &Asker<'_>,
    request: SelectDestinations,
    now: Duration,
) -> Result<(Decided, Vec<SelectedRows>), CallError> {
    decide_again(manager, core, asker, request, manager.new_decision_id(), &[], now)
}

/// Decides a request that these hosts have refused, under the id of the first decision.
pub(crate) fn decide_again(
    manager: &SchedulerManager,
    core: &mut Core,
    asker: &Asker<'_>,
    request: SelectDestinations,
    id: String,
    refused_by: &[String],
    now: Duration,
) -> Result<(Decided, Vec<SelectedRows>), CallError> {
    let flavor = request.flavor.clone();
    let request = core
        .hosts
        .resolve(request)
        .map_err(|failure| manager.policy_faults.unresolved(&failure, flavor.as_deref()))?
        .asked_by(asker.owner)
        .held_for(asker.user)
        .refused_by(refused_by);
    if let Some(over) = core.hosts.over_quota(&request, now) {
        return Err(manager.quotas.refuse(over));
    }
    let other_service = request.request().service.as_deref().filter(|service| *service != COMPUTE);
    let Placed { decision, rows } = match other_service {
        None => {
            let (engine, seed) = (&mut core.engine, manager.new_seed());
            let placed = core.hosts.select_destinations(engine, &request, id.clone(), seed, now);
            placed.map_err(|failure| manager.policy_faults.call_error(&failure))?
        }
        Some(service) => core.hosts.select_service(service, &request, id.clone(), now).into(),
    };
    if !decision.dry_run
        && let Some(reserve) = core.hosts.to_reserve(&decision, now)
    {
        manager.tell_peers(reserve);
    }
    // A repeated answer has the id of an earlier decision and lacks its explanation. Other services are not explained.
    let explainable = decision.decision_id == id && other_service.is_none();
    let decided = Decided { decision: Arc::new(decision), request: Arc::new(request) };
    if explainable {
        core.decisions.push(decided.clone(), manager.env.clock.wall());
    }
    Ok((decided, rows))
}

/// What the hosts of a decision are told of it.
pub(crate) fn holds(core: &Core, decided: &Decided, now: Duration) -> HostClaims {
    let Decided { decision, request } = decided;
    let held = !decision.dry_run && request.request().service.as_deref().is_none_or(|name| name == COMPUTE);
    match held {
        true => core.hosts.host_claims(decision, request, None, now),
        false => HostClaims::default(),
    }
}

/// Counts and logs a decision that was started at `began`.
pub(crate) fn log(manager: &SchedulerManager, decision: &Decision, began: Duration) {
    manager.requests.decisions.fetch_add(1, Ordering::Relaxed);
    if decision.refusal.is_some() {
        manager.requests.refusals.fetch_add(1, Ordering::Relaxed);
    }
    let elapsed = manager.env.clock.now().saturating_sub(began);
    manager.request_metrics.record(decision, elapsed);
    let hosts_left = decision.explanation.filters.last().map_or(0, |filter| filter.hosts_out);
    let chosen = decision.selections.first().map_or("-", |selection| selection.host.as_str());
    info!(
        decision_id = decision.decision_id,
        host = chosen,
        instances = decision.selections.len(),
        refused = decision.refusal.is_some(),
        hosts_seen = decision.explanation.hosts,
        hosts_left,
        dry_run = decision.dry_run,
        repeated = decision.repeated,
        seed = decision.seed,
        elapsed_us = elapsed.as_micros() as u64,
        "decided"
    );
}
