//! `own_policy`, `get_policies` and `reload_policy`: show the current policy, and put a new one into force.
//!
//! What always holds: filters, weighers and the map change under one lock, so that each decision is made by one policy. A
//! policy that is refused leaves the previous one in force.

use std::sync::Arc;
use std::time::Duration;

use novella_filter_scheduler::FilterScheduler;
use novella_host_manager::{BadPolicy, NewPolicy, PolicyFile};
use novella_messaging::CallError;
use novella_objects::{Policies, PolicyReload, PolicyStatus};
use novella_rpcapi::OwnPolicy;
use tracing::{info, warn};

use crate::calls::gather;
use crate::manager::SchedulerManager;
use crate::policy_file::unusable;
use crate::policy_source::one_line;

/// How long reading the file may take. A file that takes longer is on a file system that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How many hosts are matched with the aggregates of a new policy before the lock is released for others. It takes about
/// as long as a few placements.
const MATCHED_AT_A_TIME: usize = 64;

/// Answers `own_policy`: the policy of this scheduler, which is read again first if the caller asks for that.
pub(crate) async fn own_policy(manager: &SchedulerManager, args: &OwnPolicy) -> PolicyStatus {
    if args.reload { reload(manager).await } else { in_force(manager) }
}

/// Answers `get_policies` and `reload_policy`: asks all schedulers for their policies. This scheduler is one of them and
/// receives its own question.
pub(crate) async fn all_policies(manager: &SchedulerManager, reload: bool) -> Result<Policies, CallError> {
    let args = OwnPolicy { reload };
    let Some(peers) = manager.peers.get() else {
        return Ok(Policies { schedulers: vec![own_policy(manager, &args).await], failures: Vec::new() });
    };
    let gathered = peers.own_policies(&args, gather::options(), gather::QUIET).await;
    let (mut schedulers, failures) = gather::answers(gathered)?;
    schedulers.sort_by(|a, b| a.scheduler.cmp(&b.scheduler));
    Ok(Policies { schedulers, failures })
}

/// Puts a policy into force. Returns false, and changes nothing, if it is in force already. Placements never wait longer
/// than it takes to match a few hosts, or to exchange the policies.
pub(crate) async fn enforce(manager: &SchedulerManager, policy: PolicyFile) -> Result<bool, BadPolicy> {
    let engine = FilterScheduler::new(policy.options.clone())
        .map_err(|bad| unusable(bad.to_string(), "correct this option"))?;
    let policy = Arc::new(policy);
    let mut new = NewPolicy::new(Arc::clone(&policy));
    {
        let (mut core, _) = manager.core();
        if core.hosts.policy_hash() == new.hash() && **core.hosts.policy() == *new.policy() {
            return Ok(false);
        }
        core.hosts.begin_policy(&mut new);
    }
    while !manager.core().0.hosts.match_hosts(&mut new, MATCHED_AT_A_TIME) {
        tokio::task::yield_now().await;
        manager.let_others_in();
    }
    // Dropped only after the lock is released, because freeing a large policy takes time.
    let _before = {
        let (mut guard, _) = manager.core();
        let core = &mut *guard;
        (std::mem::replace(&mut core.engine, engine), core.hosts.finish_policy(new))
    };
    manager.policy_faults.forget();
    policy.findings().for_each(|finding| warn!("policy: {}", one_line(finding)));
    Ok(true)
}

/// Reads the policy again, and puts it into force if it is valid.
async fn reload(manager: &SchedulerManager) -> PolicyStatus {
    let state = &manager.policy;
    let _one_at_a_time = state.reloading.lock().await;
    let before = manager.with_hosts(|hosts, _| hosts.policy().clone());
    let source = state.source.clone();
    let read = tokio::time::timeout(READ_TIMEOUT, manager.env.blocking.run(move || source.read())).await;
    let read = match read {
        Ok(Ok(read)) => read,
        Ok(Err(panicked)) => {
            Err(unusable(panicked.to_string(), "this is a defect: please report it together with the file"))
        }
        Err(_) => Err(unusable(
            format!("{} could not be read within {READ_TIMEOUT:?}", state.source.name()),
            "check the file system of this file",
        )),
    };
    let enforced = match read {
        Ok(policy) => enforce(manager, policy).await,
        Err(bad) => Err(bad),
    };
    let outcome = match enforced {
        Ok(true) => PolicyReload::Applied,
        Ok(false) => PolicyReload::Unchanged,
        Err(BadPolicy { problems }) => {
            state.refuse(problems);
            return PolicyStatus { reload: Some(PolicyReload::Refused), ..in_force(manager) };
        }
    };
    state.accept(outcome);
    let mut status = PolicyStatus { reload: Some(outcome), ..in_force(manager) };
    if outcome == PolicyReload::Applied {
        status.changes = before.differences(&manager.with_hosts(|hosts, _| hosts.policy().clone()));
    }
    let (hash, changes) = (&status.hash, status.changes.len());
    info!(source = status.source, hash, changes, outcome = outcome.as_str(), "policy reloaded");
    status.changes.iter().for_each(|change| info!("policy: {change}"));
    status
}

/// The current policy.
fn in_force(manager: &SchedulerManager) -> PolicyStatus {
    let (policy, hash) =
        manager.with_hosts(|hosts, _| (hosts.policy().clone(), hosts.policy_hash().to_owned()));
    PolicyStatus {
        scheduler: manager.options.name.clone(),
        hash,
        source: manager.policy.source.name(),
        reload: None,
        changes: Vec::new(),
        problems: manager.policy.problems(),
        policy: policy.to_json(),
    }
}
