//! `capacity`: how many more instances of each flavor fit. The eligible hosts of a flavor are copied while the map is
//! locked, and counted on another thread.
//!
//! What always holds: a flavor that cannot be counted does not keep the others from being counted.

use novella_filter_scheduler::{Eligible, Failure, Running};
use novella_messaging::CallError;
use novella_objects::{Capacity, CapacityQuery, Flavor, FlavorCapacity, Grouping, SelectDestinations};

use crate::call_errors::{bad_arguments, internal};
use crate::manager::SchedulerManager;

/// Maximum number of flavors in one question.
const MAX_FLAVORS: usize = 1_000;
/// Maximum number of rows in an answer: flavors times hosts, if each host has a row of its own.
const MAX_ROWS: usize = 200_000;

/// Answers the call.
pub(crate) async fn capacity(
    manager: &SchedulerManager,
    query: CapacityQuery,
) -> Result<Capacity, CallError> {
    let CapacityQuery { mut flavors, names, request_spec, by, reserve } = query;
    let given = flavors.len();
    flavors.extend(flavors_of_policy(manager, names, given == 0)?);
    check(&flavors, by, manager.with_hosts(|hosts, _| hosts.table().len()))?;
    let alone = flavors.len() == 1;
    let mut answer = Capacity { scheduler: manager.options.name.clone(), flavors: Vec::new() };
    for (at, flavor) in flavors.into_iter().enumerate() {
        let of_policy = (at >= given).then(|| flavor.name.clone());
        let mut request = SelectDestinations { request_spec: request_spec.clone(), ..Default::default() };
        request.request_spec.spec.flavor = flavor.clone();
        let counted = match eligible(manager, request, reserve.is_some()) {
            Ok((eligible, running)) => {
                let counted = manager.env.blocking.run(move || eligible.count(by, reserve, &running)).await;
                counted.map_err(internal)?
            }
            Err(failure) => {
                let error = manager.policy_faults.unresolved(&failure, of_policy.as_deref());
                if alone {
                    return Err(error);
                }
                FlavorCapacity::failed(flavor, failure.to_string())
            }
        };
        answer.flavors.push(counted);
    }
    Ok(answer)
}

/// The hosts that a request may be placed on, and what runs on each host, if that is wanted.
fn eligible(
    manager: &SchedulerManager,
    request: SelectDestinations,
    running: bool,
) -> Result<(Eligible, Running), Failure> {
    let (mut guard, now) = manager.ask();
    let core = &mut *guard;
    let request = core.hosts.resolve(request)?;
    let eligible = core.hosts.eligible(&mut core.engine, &request, now)?;
    Ok((eligible, if running { core.hosts.running() } else { Running::default() }))
}

/// The flavors of the policy with these names. All of them, if no flavor was named or given in full.
fn flavors_of_policy(
    manager: &SchedulerManager,
    names: Vec<String>,
    none_given: bool,
) -> Result<Vec<Flavor>, CallError> {
    manager.with_hosts(|hosts, _| {
        let policy = hosts.policy();
        if none_given && names.is_empty() {
            return Ok(policy.flavors.values().cloned().collect());
        }
        let flavor = |name: String| {
            let unknown = || bad_arguments(format!("the current policy has no flavor {name:?}"));
            policy.flavor(&name).cloned().ok_or_else(unknown)
        };
        names.into_iter().map(flavor).collect()
    })
}

fn check(flavors: &[Flavor], by: Option<Grouping>, hosts: usize) -> Result<(), CallError> {
    let asked = flavors.len();
    if asked == 0 {
        return Err(bad_arguments("the current policy defines no flavors; say what is to be counted"));
    }
    if asked > MAX_FLAVORS {
        let reason = format!("{asked} flavors in one question; at most {MAX_FLAVORS} are allowed");
        return Err(bad_arguments(reason));
    }
    if by == Some(Grouping::Host) && asked * hosts > MAX_ROWS {
        return Err(bad_arguments(format!(
            "{asked} flavors on each of {hosts} hosts take more than the {MAX_ROWS} rows that an answer may have. Ask for \
             fewer flavors, or count by zone"
        )));
    }
    Ok(())
}
