//! `explain`: explains a past decision or tries a request, inspects one host, and searches for changes that would help.
//!
//! It locks the map for one look or one trial placement at a time, and does not change it.

use std::sync::Arc;

use novella_filter_scheduler::{Failure, NearMisses, search_fixes};
use novella_host_manager::Resolved;
use novella_messaging::CallError;
use novella_objects::{Decision, Explain, Explained, Fixes, PlacementRequest, Refusal, SelectDestinations};

use crate::call_errors::{bad_arguments, internal};
use crate::calls::decide::{self, Asker};
use crate::decisions::Decided;
use crate::manager::{Core, SchedulerManager};

/// Answers the call. `None` if the decision is forgotten.
pub(crate) async fn explain(
    manager: &SchedulerManager,
    args: Explain,
) -> Result<Option<Explained>, CallError> {
    let found = match (args.decision_id, args.request_spec) {
        (Some(id), None) => manager.ask().0.decisions.get(&id).cloned(),
        (None, Some(spec)) => Some(would_decide(manager, spec, args.flavor)?),
        _ => return Err(bad_arguments("name either a decision_id or a request_spec")),
    };
    let Some(Decided { decision, request }) = found else { return Ok(None) };
    let failed = |failure: Failure| manager.policy_faults.call_error(&failure);
    let host = match &args.host {
        None => None,
        Some(host) => {
            let (mut guard, now) = manager.ask();
            let core = &mut *guard;
            core.hosts.inspect(&mut core.engine, &request, host, now).map_err(failed)?
        }
    };
    let refused = matches!(decision.refusal, Some(Refusal::NoValidHost { .. }));
    let misses = if args.fix || (refused && args.host.is_none()) {
        let (mut guard, now) = manager.ask();
        let core = &mut *guard;
        core.hosts.near_misses(&mut core.engine, &request, now).map_err(failed)?
    } else {
        None
    };
    let near = misses.as_ref().map(NearMisses::told).unwrap_or_default();
    let fixes = match misses {
        _ if !args.fix => None,
        None => Some(Fixes { fits: true, ..Fixes::default() }),
        Some(misses) => Some(fixes(manager, Arc::clone(&request), misses).await?),
    };
    // Cloned, because the decision and its request stay remembered.
    let (decision, request_spec) = (Decision::clone(&decision), request.request().request_spec.clone());
    Ok(Some(Explained { decision, request_spec, host, near, fixes }))
}

/// Searches for changes. It locks the map for one trial placement at a time, so that other calls do not wait longer.
async fn fixes(
    manager: &SchedulerManager,
    request: Arc<Resolved>,
    misses: NearMisses,
) -> Result<Fixes, CallError> {
    let shared = manager.shared();
    let search = move || {
        let PlacementRequest { spec, instance_uuids, .. } = &request.request().request_spec;
        search_fixes(spec, instance_uuids.len(), &misses, |changes| {
            let mut core = shared.ask();
            let Core { hosts, engine, .. } = &mut *core;
            hosts.try_changes(engine, &request, changes)
        })
    };
    manager.env.blocking.run(search).await.map_err(internal)
}

/// Decides what a request would get now. The decision is remembered like any other.
fn would_decide(
    manager: &SchedulerManager,
    request_spec: PlacementRequest,
    flavor: Option<String>,
) -> Result<Decided, CallError> {
    let request = SelectDestinations { request_spec, dry_run: true, flavor, ..SelectDestinations::default() };
    decide::check(manager, &request)?;
    let (mut core, now) = manager.ask();
    Ok(decide::decide(manager, &mut core, &Asker::of_question(), request, now)?.0)
}
