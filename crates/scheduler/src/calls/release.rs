//! `release` and `release_claims`: give back what was placed, here, at the peers and on the hosts.
//!
//! What is held is given back at once. What a host has claimed is given back once the host has written that to its disk.
//!
//! Left out: instances that a driver built. They are deleted, not released.

use std::collections::BTreeMap;
use std::sync::Arc;

use novella_host_manager::{NOT_GRANTING, ReportedClaim};
use novella_messaging::{ANONYMOUS, CallError, RequestContext};
use novella_objects::{ClaimRequest, InstanceClaim, Reserve, ReserveEntry};
use novella_rpcapi::{Release, Released, other_command};
use uuid::Uuid;

use crate::call_errors::{bad_arguments, internal};
use crate::calls::claims::{end_claims, tell_ends};
use crate::calls::owner::{check_owner, forbidden, only_of};
use crate::manager::SchedulerManager;

/// How many hosts are searched for claims of a decision before others get the map.
const HOSTS_AT_A_TIME: usize = 64;

/// Answers `release` with how many holds and claims were released. It fails if a host could not be told to end a claim.
pub(crate) async fn release(
    manager: &SchedulerManager,
    context: &RequestContext,
    args: &Release,
) -> Result<u64, CallError> {
    let Released { holds, claims, failed } = release_claims(manager, context, args).await?;
    match failed.iter().next() {
        None => Ok(holds + claims),
        Some((host, reason)) => Err(internal(format!("the claims on {host} are not released: {reason}"))),
    }
}

/// Answers `release_claims`.
pub(crate) async fn release_claims(
    manager: &SchedulerManager,
    context: &RequestContext,
    args: &Release,
) -> Result<Released, CallError> {
    let Release { decision_id, instance_uuids } = args;
    if decision_id.is_empty() && instance_uuids.is_empty() {
        return Err(bad_arguments("name a decision_id or instance_uuids"));
    }
    let user = context.user_id.as_deref().unwrap_or(ANONYMOUS);
    manager.quotas.take(user, None, manager.env.clock.now())?;
    let by = only_of(manager, context);
    let reported = reported(manager, args);
    let owners = reported.iter().filter_map(|claim| claim.user.as_deref());
    check_owner(manager, context, "release", owners)?;
    if let Some(instance) = reported.iter().find(|claim| claim.built) {
        let what = format!("{} on {} is an instance that its host builds", instance.uuid, instance.host);
        return Err(other_command(&what, &format!("delete it: `novella server delete {}`", instance.uuid)));
    }
    let held = manager.with_hosts(|hosts, _| {
        let released = match decision_id.is_empty() {
            true => hosts.release_instances(instance_uuids, by),
            false => hosts.release(decision_id, instance_uuids, by)?.into_iter().collect(),
        };
        // While the map is held, so that peers hear of decisions in order.
        released.iter().for_each(|reserve| manager.tell_peers(reserve.clone()));
        Ok(released)
    });
    let held = held.map_err(|other: Arc<str>| forbidden(manager, context, "release", &other))?;
    end_on_hosts(manager, held, reported).await
}

/// The claims that hosts have reported of what is to be released.
fn reported(manager: &SchedulerManager, args: &Release) -> Vec<ReportedClaim> {
    let Release { decision_id, instance_uuids } = args;
    if !instance_uuids.is_empty() {
        let mut claims = manager.ask().0.hosts.claims_of(instance_uuids);
        claims.retain(|claim| decision_id.is_empty() || claim.decision.as_ref() == Some(decision_id));
        return claims;
    }
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(row) = from {
        let (claims, next) = manager.ask().0.hosts.claims_of_decision(decision_id, row, HOSTS_AT_A_TIME);
        found.extend(claims);
        from = next;
    }
    found
}

/// Tells the hosts what is released there.
async fn end_on_hosts(
    manager: &SchedulerManager,
    held: Vec<Reserve>,
    reported: Vec<ReportedClaim>,
) -> Result<Released, CallError> {
    let mut released = Released::default();
    let mut ends: BTreeMap<(String, String), Vec<Uuid>> = BTreeMap::new();
    for Reserve { decision_id, entries, .. } in held {
        for ReserveEntry { host, uuid, service, .. } in entries {
            released.holds += 1;
            if service.is_none() {
                ends.entry((host, decision_id.clone())).or_default().push(uuid);
            }
        }
    }
    let mut claims: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for ReportedClaim { host, uuid, granted, .. } in reported {
        match granted {
            true => claims.entry(host).or_default().push(uuid),
            false => drop(released.failed.insert(host, NOT_GRANTING.to_owned())),
        }
    }
    let Some(agents) = manager.agents.get() else {
        return Err(internal("this scheduler has no connection to the agents"));
    };
    tell_ends(
        agents,
        ends.into_iter().map(|((host, decision_id), uuids)| end_of_holds(host, decision_id, uuids)),
    )
    .await;
    for (host, ended) in end_claims(agents, claims.into_iter().collect(), None).await {
        match ended {
            Ok(claims) => released.claims += claims,
            Err(reason) => drop(released.failed.insert(host, reason)),
        }
    }
    Ok(released)
}

/// What a host is told when holds of a decision end.
fn end_of_holds(host: String, decision_id: String, uuids: Vec<Uuid>) -> (String, ClaimRequest) {
    let instance = |uuid| ReserveEntry { uuid, host: host.clone(), ..ReserveEntry::default() };
    let instances =
        uuids.into_iter().map(|uuid| InstanceClaim { instance: instance(uuid), ..InstanceClaim::default() });
    let instances = instances.collect();
    (host, ClaimRequest { decision_id, user: None, hold_ms: Some(0), instances })
}
