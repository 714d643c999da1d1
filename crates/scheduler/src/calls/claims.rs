//! What hosts are told and asked of a decision: holds, claims, and their ends.
//!
//! A placement without a claim is *told* to its hosts: the caller is answered once the broker has taken the messages, and
//! each host lists the hold in its reports, so that it outlives this scheduler. A claim is *asked* of the hosts: the caller is
//! answered once each host has written it to its disk. A host that refuses, that nobody listens for, or that does not answer
//! in time is left out, and the rest of the request is decided again, at most `scheduler.max_attempts` times in all.
//!
//! What always holds: a caller hears of a claim only after the host has granted it. What this request claimed elsewhere before it
//! failed is given back.
//!
//! Left out: whether the room is there, which the map decides here and the host there.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use novella_host_manager::{HostClaims, NOT_GRANTING};
use novella_messaging::{CallError, CallOptions, RequestContext, RpcError, TransportError};
use novella_objects::{
    BuildRequest, ClaimAnswer, ClaimRequest, Decision, HostRefusal, Rank, Refusal, SelectDestinations,
    TerminateInstance, Terminated,
};
use novella_rpcapi::ComputeApi;
use novella_service::exit::chain;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::call_errors::{bad_arguments, internal};
use crate::calls::decide::{self, Asker};
use crate::decisions::Decided;
use crate::manager::SchedulerManager;

/// How long the broker may take to confirm that a host is told.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a host may take to grant or refuse.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
/// How many hosts are told or asked at the same time for one request.
const AT_A_TIME: usize = 32;

/// Does this for each host, a few at a time and in their order. Yields what came of it in the same order.
async fn for_each_host<A, T, F: Future<Output = T>>(
    asked: impl IntoIterator<Item = (String, A)>,
    ask: impl Fn(String, A) -> F,
) -> Vec<T> {
    iter(asked).map(|(host, what)| ask(host, what)).buffered(AT_A_TIME).collect().await
}

/// The client for the agents.
pub(crate) fn agents(manager: &SchedulerManager) -> Result<&ComputeApi, CallError> {
    manager.agents.get().ok_or_else(|| internal("this scheduler has no connection to the agents"))
}

/// Why a host did not do what it was asked, in few words.
pub(crate) fn why(host: &str, error: &RpcError) -> String {
    match error {
        RpcError::Send { source: TransportError::Unroutable { .. }, .. } => nobody_listens(host),
        RpcError::Timeout { waited, .. } => format!("its agent did not answer within {} s", waited.as_secs()),
        error => chain(error),
    }
}

fn nobody_listens(host: &str) -> String {
    format!("no agent listens as host {host}")
}

/// Tells the hosts of a decision what is held on them. Returns the decision with the hosts that could not be told.
pub(crate) async fn tell(
    manager: &SchedulerManager,
    decision: Arc<Decision>,
    holds: HostClaims,
) -> Result<Arc<Decision>, CallError> {
    if holds.asked.is_empty() {
        return Ok(decision);
    }
    let agents = agents(manager)?;
    let told = for_each_host(holds.asked, |host, request: ClaimRequest| async move {
        let reason = match agents.tell_hold(&host, &request, TELL_TIMEOUT).await {
            Ok(true) => return None,
            Ok(false) => nobody_listens(&host),
            Err(error) => why(&host, &error),
        };
        Some((host, reason))
    });
    let untold: BTreeMap<String, String> = told.await.into_iter().flatten().collect();
    Ok(with_untold(decision, untold))
}

/// The decision with further hosts that do not keep the room themselves.
fn with_untold(decision: Arc<Decision>, untold: BTreeMap<String, String>) -> Arc<Decision> {
    if untold.is_empty() {
        return decision;
    }
    warn!(decision_id = decision.decision_id, ?untold, "hosts could not be told what is held on them");
    let mut decision = Arc::unwrap_or_clone(decision);
    decision.not_granted.extend(untold);
    Arc::new(decision)
}

/// Answers a request for claims, and for what hosts build if `builds` has a build for each instance. Without builds, only room
/// is claimed.
pub(crate) async fn claim(
    manager: &SchedulerManager,
    context: &RequestContext,
    request: SelectDestinations,
    builds: BTreeMap<Uuid, BuildRequest>,
) -> Result<Arc<Decision>, CallError> {
    if request.dry_run || request.hold_s.is_some() {
        return Err(bad_arguments("a claim is neither a dry run nor held for a time"));
    }
    let asker = Asker::of(manager, context);
    let decision_id = manager.new_decision_id();
    let attempt = request.request_spec.attempt.max(1);
    let (agents, refused, granted) = (agents(manager)?, Vec::new(), BTreeMap::new());
    let mut claiming = Claiming { manager, agents, builds, refused, granted };
    let mut try_number = 1;
    loop {
        let rank = Rank { attempt, try_number };
        let hosts = claiming.refused_by();
        let (decided, claims, began, tries) = {
            let (mut guard, now) = manager.core();
            let core = &mut *guard;
            let (decided, _) = decide::decide_again(
                manager,
                core,
                &asker,
                request.clone(),
                decision_id.clone(),
                &hosts,
                now,
            )?;
            let claims = core.hosts.host_claims(&decided.decision, &decided.request, Some(rank), now);
            (decided, claims, now, core.engine.options().max_attempts)
        };
        decide::log(manager, &decided.decision, began);
        let decision = Decision::clone(&decided.decision);
        if decision.refusal.is_some() {
            return Ok(claiming.give_up(decided, rank, decision).await);
        }
        let refused_before = claiming.refused.len();
        let conflict = claiming.ask(&decision, claims, rank).await;
        if conflict.is_some() {
            let refused = Decision { refusal: conflict, selections: Vec::new(), ..decision };
            return Ok(claiming.give_up(decided, rank, refused).await);
        }
        if claiming.refused.len() == refused_before {
            let decision = Decision { claimed: true, hold_s: 0, refused_by: claiming.refused, ..decision };
            return Ok(manager.remember(Decided { decision: Arc::new(decision), ..decided }));
        }
        if try_number >= tries {
            let hosts = claiming.refused_by().len();
            let reason = format!("Exceeded maximum number of retries. {hosts} hosts were asked and refused.");
            let refusal = Some(Refusal::NoValidHost { reason, placeable: 0 });
            let refused = Decision { refusal, selections: Vec::new(), ..decision };
            return Ok(claiming.give_up(decided, rank, refused).await);
        }
        try_number += 1;
    }
}

/// A request for claims under way.
struct Claiming<'m> {
    manager: &'m SchedulerManager,
    agents: &'m ComputeApi,
    /// What the hosts build for each instance. Empty if only room is claimed.
    builds: BTreeMap<Uuid, BuildRequest>,
    /// The hosts that refused, in the order in which they were asked.
    refused: Vec<HostRefusal>,
    /// The host of each instance that is granted.
    granted: BTreeMap<Uuid, String>,
}

impl Claiming<'_> {
    /// The hosts that are not asked again.
    fn refused_by(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.refused.iter().map(|refusal| refusal.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// Asks the hosts of a decision, and takes note of what they answer. What they refuse is no longer held here. Returns why
    /// no other host may be asked either, if a host has such a reason.
    async fn ask(&mut self, decision: &Decision, mut claims: HostClaims, rank: Rank) -> Option<Refusal> {
        for request in claims.asked.values_mut() {
            request.instances.retain(|wanted| !self.granted.contains_key(&wanted.instance.uuid));
            for wanted in &mut request.instances {
                wanted.build = self.builds.get(&wanted.instance.uuid).cloned();
            }
        }
        claims.asked.retain(|_, request| !request.instances.is_empty());
        let on_others =
            decision.selections.iter().filter(|selection| claims.not_granting.contains(&selection.host));
        let mut refused: Vec<HostRefusal> = on_others
            .map(|selection| failed(&selection.host, selection.instance_uuid, NOT_GRANTING.to_owned()))
            .collect();
        let (agents, builds) = (self.agents, !self.builds.is_empty());
        let answers = for_each_host(claims.asked, |host, request: ClaimRequest| async move {
            let options = CallOptions { mandatory: true, ..CallOptions::new(CLAIM_TIMEOUT) };
            let answers = match builds {
                true => agents.build_and_run_instance(&host, &request, options).await,
                false => agents.claim(&host, &request, options).await,
            };
            let uuids: Vec<Uuid> = request.instances.iter().map(|wanted| wanted.instance.uuid).collect();
            (host, uuids, answers)
        });
        let (mut unknown, mut conflict) = (Vec::new(), None);
        for (host, uuids, answers) in answers.await {
            match answers {
                Ok(answers) if answers.len() == uuids.len() => {
                    for (uuid, answer) in uuids.into_iter().zip(answers) {
                        match answer {
                            ClaimAnswer::Granted { .. } => drop(self.granted.insert(uuid, host.clone())),
                            answer => {
                                conflict = conflict.or_else(|| conflict_of(&host, uuid, &answer));
                                refused.push(refusal(&host, uuid, answer));
                            }
                        }
                    }
                }
                Ok(answers) => {
                    let reason =
                        format!("its agent answered {} times for {} instances", answers.len(), uuids.len());
                    refused.extend(uuids.iter().map(|uuid| failed(&host, *uuid, reason.clone())));
                    unknown.push((host, uuids));
                }
                Err(error) => {
                    let reason = why(&host, &error);
                    refused.extend(uuids.iter().map(|uuid| failed(&host, *uuid, reason.clone())));
                    unknown.push((host, uuids));
                }
            }
        }
        // Whether these hosts granted the claims is not known, so they must not keep them.
        end_claims(self.agents, unknown, Some(rank)).await;
        for HostRefusal { host, instance_uuid, reason, .. } in &refused {
            info!(host, instance = ?instance_uuid, reason, "a host refused a claim");
        }
        let uuids: Vec<Uuid> = refused.iter().filter_map(|refusal| refusal.instance_uuid).collect();
        self.no_longer_hold(&uuids);
        self.refused.extend(refused);
        conflict
    }

    /// Ends what is held here for these instances.
    fn no_longer_hold(&self, uuids: &[Uuid]) {
        self.manager.with_hosts(|map, _| {
            map.release_instances(uuids, None).into_iter().for_each(|told| self.manager.tell_peers(told));
        });
    }

    /// The answer to a request that cannot be claimed as a whole. What was claimed is given back.
    async fn give_up(self, decided: Decided, rank: Rank, decision: Decision) -> Arc<Decision> {
        let mut by_host: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
        for (uuid, host) in &self.granted {
            by_host.entry(host.clone()).or_default().push(*uuid);
        }
        let uuids: Vec<Uuid> = by_host.values().flatten().copied().collect();
        end_claims(self.agents, by_host.into_iter().collect(), Some(rank)).await;
        self.no_longer_hold(&uuids);
        let decision = Decision { refused_by: self.refused, ..decision };
        self.manager.remember(Decided { decision: Arc::new(decision), ..decided })
    }
}

/// Tells hosts that holds ended. One that cannot be told keeps them until their time is up.
pub(crate) async fn tell_ends(agents: &ComputeApi, ends: impl IntoIterator<Item = (String, ClaimRequest)>) {
    for_each_host(ends, |host, request: ClaimRequest| async move {
        let reason = match agents.tell_hold(&host, &request, TELL_TIMEOUT).await {
            Ok(true) => return,
            Ok(false) => nobody_listens(&host),
            Err(error) => why(&host, &error),
        };
        debug!(host, reason, "a host could not be told that holds ended");
    })
    .await;
}

/// Ends claims on hosts. A host that cannot be reached keeps its claims, which is logged.
pub(crate) async fn end_claims(
    agents: &ComputeApi,
    claims: Vec<(String, Vec<Uuid>)>,
    up_to_rank: Option<Rank>,
) -> Vec<(String, Result<u64, String>)> {
    for_each_host(claims, |host, instance_uuids: Vec<Uuid>| async move {
        let request = TerminateInstance { instance_uuids, up_to_rank };
        let options = CallOptions { mandatory: true, ..CallOptions::new(CLAIM_TIMEOUT) };
        let ended = match agents.terminate_instance(&host, &request, options).await {
            Ok(answers) => {
                let ended = answers.iter().filter(|answer| **answer == Terminated::Ended);
                Ok(ended.count() as u64)
            }
            Err(error) => {
                let reason = why(&host, &error);
                warn!(host, reason, instances = ?request.instance_uuids, "a host could not be told that claims ended");
                Err(reason)
            }
        };
        (host, ended)
    })
    .await
}

fn failed(host: &str, uuid: Uuid, reason: String) -> HostRefusal {
    HostRefusal { host: host.to_owned(), instance_uuid: Some(uuid), reason, lacks: Vec::new() }
}

/// Why the instance may be placed nowhere, if that is what the answer says: the uuid is somebody else's, or it was deleted.
fn conflict_of(host: &str, instance_uuid: Uuid, answer: &ClaimAnswer) -> Option<Refusal> {
    match answer {
        ClaimAnswer::Conflict { reason } | ClaimAnswer::Ended { reason, deleted: true } => {
            let (reason, host) = (format!("{host}: {reason}"), host.to_owned());
            Some(Refusal::Conflict { reason, instance_uuid, host })
        }
        _ => None,
    }
}

fn refusal(host: &str, uuid: Uuid, answer: ClaimAnswer) -> HostRefusal {
    let reason = answer.refusal().unwrap_or_default();
    let lacks = match answer {
        ClaimAnswer::Refused { lacks } => lacks,
        _ => Vec::new(),
    };
    HostRefusal { host: host.to_owned(), instance_uuid: Some(uuid), reason, lacks }
}
