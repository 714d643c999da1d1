//! Instances that exist: listing, finding, stopping, starting and deleting them; and the list of the last decisions.
//!
//! What always holds: lists say what hosts reported last. What is done to an instance is done by its host, and the caller is
//! answered once the host has noted it. Only the owner of an instance and administrators do anything to it, by the rule of
//! `release`.
//!
//! Left out: claims without a build, which are released (`release`).

use std::time::Duration;

use futures_util::future::join_all;
use novella_host_manager::InstancesInProgress;
use novella_messaging::{ANONYMOUS, CallError, CallOptions, RequestContext, RpcError};
use novella_objects::{DecisionSummary, InstanceSummary, Refusal};
use novella_rpcapi::{
    ComputeApi, DecisionList, DecisionListQuery, FindInstance, FoundInstance, InstanceList,
    InstanceListQuery, host_failed, instance_not_found, other_command,
};
use uuid::Uuid;

use crate::calls::claims::{agents, end_claims, why};
use crate::calls::owner::check_owner;
use crate::decisions::Decided;
use crate::manager::SchedulerManager;

/// How many instances one answer lists at most. An entry takes about 400 bytes.
const MOST_LISTED: usize = 20_000;
/// How many instances one answer shows with their events at most.
const MOST_SHOWN: usize = 50;
/// How long a host may take to tell the events of an instance.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a host may take to note that an instance is to be stopped or started.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many decisions are listed if the caller does not say, and at most.
const DECISIONS: (u32, u32) = (20, 1000);

/// Answers `list_instances`.
pub(crate) fn list(manager: &SchedulerManager, query: InstanceListQuery) -> InstanceList {
    let InstanceListQuery { host, name, all } = query;
    let listing = manager.ask_in_steps(
        InstancesInProgress::new(host, all),
        |hosts, listing, _| hosts.instances_some(listing),
        |core, listing, now| core.hosts.finish_instances(listing, now),
    );
    let wanted = |summary: &InstanceSummary| name.as_deref().is_none_or(|name| is_named(summary, name));
    let mut found = listing.summaries().filter(wanted);
    let instances = found.by_ref().take(MOST_LISTED).collect();
    InstanceList { scheduler: manager.options.name.clone(), instances, left_out: found.count() as u64 }
}

fn is_named(summary: &InstanceSummary, name: &str) -> bool {
    summary.instance.as_ref().is_some_and(|instance| instance.build.name == name)
}

/// Answers `get_instance`. A uuid finds claims and holds too, a name only instances.
pub(crate) async fn get(
    manager: &SchedulerManager,
    query: FindInstance,
) -> Result<Vec<FoundInstance>, CallError> {
    let mut found = match query.instance.parse() {
        Ok(uuid) => find(manager, uuid),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        let by_name = InstanceListQuery { name: Some(query.instance), ..InstanceListQuery::default() };
        found = list(manager, by_name).instances;
    }
    found.truncate(MOST_SHOWN);
    let agents = agents(manager)?;
    Ok(join_all(found.into_iter().map(|summary| with_events(agents, summary))).await)
}

/// What is known of an instance by its uuid.
fn find(manager: &SchedulerManager, uuid: Uuid) -> Vec<InstanceSummary> {
    let (core, now) = manager.ask();
    core.hosts.find_instance(uuid, now)
}

/// Asks the host of an instance for its events. Claims and holds have none.
async fn with_events(agents: &ComputeApi, summary: InstanceSummary) -> FoundInstance {
    if summary.instance.is_none() {
        return FoundInstance { summary, ..FoundInstance::default() };
    }
    let options = CallOptions { mandatory: true, ..CallOptions::new(EVENTS_TIMEOUT) };
    match agents.instance_events(&summary.host, summary.uuid, options).await {
        Ok(events) => FoundInstance { summary, events, events_missing: None },
        Err(error) => {
            let missing =
                format!("host {} did not tell the events: {}", summary.host, why(&summary.host, &error));
            FoundInstance { summary, events: Vec::new(), events_missing: Some(missing) }
        }
    }
}

/// Answers `stop_instance`.
pub(crate) async fn stop(
    manager: &SchedulerManager,
    context: &RequestContext,
    uuid: Uuid,
) -> Result<(), CallError> {
    let agents = agents(manager)?;
    for host in hosts_of(manager, context, "stop", uuid).await? {
        let stopped = agents.stop_instance(&host, uuid, note_options()).await;
        stopped.map_err(|error| not_done("stop", uuid, &host, &error))?;
    }
    Ok(())
}

/// Answers `start_instance`.
pub(crate) async fn start(
    manager: &SchedulerManager,
    context: &RequestContext,
    uuid: Uuid,
) -> Result<(), CallError> {
    let agents = agents(manager)?;
    for host in hosts_of(manager, context, "start", uuid).await? {
        let started = agents.start_instance(&host, uuid, note_options()).await;
        started.map_err(|error| not_done("start", uuid, &host, &error))?;
    }
    Ok(())
}

/// Answers `terminate_instance`.
pub(crate) async fn terminate(
    manager: &SchedulerManager,
    context: &RequestContext,
    uuid: Uuid,
) -> Result<(), CallError> {
    let agents = agents(manager)?;
    let hosts = hosts_of(manager, context, "delete", uuid).await?;
    let claims = hosts.into_iter().map(|host| (host, vec![uuid])).collect();
    for (host, ended) in end_claims(agents, claims, None).await {
        if let Err(reason) = ended {
            let message = format!("host {host} was not told to delete instance {uuid}: {reason}");
            return Err(host_failed(&host, false, message));
        }
    }
    // If no host has reported the instance yet, its room is only held here.
    manager.with_hosts(|hosts, _| {
        hosts.release_instances(&[uuid], None).into_iter().for_each(|told| manager.tell_peers(told));
    });
    Ok(())
}

fn note_options() -> CallOptions {
    CallOptions { mandatory: true, ..CallOptions::new(NOTE_TIMEOUT) }
}

fn not_done(verb: &str, uuid: Uuid, host: &str, error: &RpcError) -> CallError {
    match error {
        RpcError::Remote { source, .. } => {
            let message = format!("host {host} did not {verb} instance {uuid}: {}", source.message);
            host_failed(host, true, message)
        }
        error => {
            let message = format!("host {host} was not told to {verb} instance {uuid}: {}", why(host, error));
            host_failed(host, false, message)
        }
    }
}

/// The hosts that build this instance: one, or several if it is there twice by mistake. What is done to it is done on all.
async fn hosts_of(
    manager: &SchedulerManager,
    context: &RequestContext,
    verb: &str,
    uuid: Uuid,
) -> Result<Vec<String>, CallError> {
    let user = context.user_id.as_deref().unwrap_or(ANONYMOUS);
    manager.quotas.take(user, None, manager.env.clock.now())?;
    let found = find(manager, uuid);
    if found.is_empty() {
        return Err(instance_not_found(uuid));
    }
    check_owner(manager, context, verb, found.iter().filter_map(|summary| summary.user.as_deref()))?;
    let mut hosts = Vec::new();
    for summary in found {
        if summary.instance.is_some() || builds_already(manager, &summary).await? {
            hosts.push(summary.host);
            continue;
        }
        let InstanceSummary { host, hold_ms, .. } = summary;
        let what = if hold_ms.is_some() { "a hold" } else { "a claim" };
        let what = format!("{uuid} on {host} is {what} without an instance");
        return Err(other_command(&what, &format!("give it back: `novella release --instance {uuid}`")));
    }
    Ok(hosts)
}

/// Whether a host builds an instance that it has not reported yet. Only the host knows, because what is held for an instance here
/// looks like any other hold.
async fn builds_already(manager: &SchedulerManager, summary: &InstanceSummary) -> Result<bool, CallError> {
    if summary.hold_ms.is_none() {
        return Ok(false);
    }
    match agents(manager)?.instance_events(&summary.host, summary.uuid, note_options()).await {
        Ok(events) => Ok(!events.is_empty()),
        Err(RpcError::Remote { .. }) => Ok(false),
        Err(error) => Err(not_done("tell of", summary.uuid, &summary.host, &error)),
    }
}

/// Answers `list_decisions`.
pub(crate) fn decisions(manager: &SchedulerManager, query: DecisionListQuery) -> DecisionList {
    let (usual, most) = DECISIONS;
    let limit = query.limit.unwrap_or(usual).min(most) as usize;
    // The decisions are shared, so that they are written down without the lock.
    let last = manager.ask().0.decisions.last(limit);
    let decisions = last.into_iter().map(|(decided, at)| {
        let at = humantime::format_rfc3339_millis(at).to_string();
        DecisionSummary { at, ..summary_of(&decided) }
    });
    DecisionList { scheduler: manager.options.name.clone(), decisions: decisions.collect() }
}

fn summary_of(Decided { decision, request }: &Decided) -> DecisionSummary {
    let outcome = match &decision.refusal {
        Some(Refusal::Conflict { .. }) => "conflict",
        Some(_) => "refused",
        None if decision.claimed => "claimed",
        None if decision.dry_run => "dry_run",
        None => "held",
    };
    let mut hosts: Vec<String> = decision.selections.iter().map(|selection| selection.host.clone()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let count = |list: usize| u32::try_from(list).unwrap_or(u32::MAX);
    DecisionSummary {
        decision_id: decision.decision_id.clone(),
        at: String::new(),
        outcome: outcome.to_owned(),
        instances: count(request.request().request_spec.instance_uuids.len()),
        hosts,
        refused_by: count(decision.refused_by.len()),
        user: request.owner().map(str::to_owned),
    }
}
