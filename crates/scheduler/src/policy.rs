//! The policy of this scheduler: where it is read from, and how a new one comes into force.
//!
//! Always holds: a policy is taken as a whole or refused as a whole; a refused one leaves the one before in force and is
//! loud: in the log, in `/metrics`, in the detail of `/readyz`, in `novella policy show`. Filters, weighers and the map
//! change under one lock, so that a decision is made by one policy.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use novella_filter_scheduler::{FilterScheduler, SchedulerOptions};
use novella_host_manager::{BadPolicy, NewPolicy, PolicyFile};
use novella_messaging::{CallError, CallOptions};
use novella_objects::{Policies, PolicyProblem, PolicyReload, PolicyStatus};
use novella_rpcapi::{OwnPolicy, SchedulerApi};
use novella_service::exit::chain;
use novella_service::health::Condition;
use tracing::{error, info, warn};

use crate::call_errors::internal;
use crate::config::SchedulerConfig;
use crate::manager::SchedulerManager;

/// A file that takes longer to read is on a file system that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest policy; a larger file is another one.
const MAX_BYTES: u64 = 16 << 20;
/// How long all schedulers together may take to answer, and how long after the last answer no other is expected.
const GATHER_TIMEOUT: Duration = Duration::from_secs(7);
const GATHER_QUIET: Duration = Duration::from_secs(1);

/// Hosts matched with a new policy's aggregates before others get the map: about as long as a few placements take.
pub const MATCHED_AT_A_TIME: usize = 64;

/// Where the policy is read from.
#[derive(Debug, Clone, Default)]
pub struct PolicySource {
    /// The file; without one, these options are the policy.
    file: Option<PathBuf>,
    options: SchedulerOptions,
}

impl PolicySource {
    /// As the configuration says.
    pub fn of(config: &SchedulerConfig) -> Self {
        let file = (!config.policy_file.is_empty()).then(|| PathBuf::from(&config.policy_file));
        Self { file, options: config.filter_scheduler.options() }
    }

    /// For people.
    pub fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "[filter_scheduler]".to_owned(), |file| file.display().to_string())
    }

    /// Reads and checks it. Blocks.
    pub fn read(&self) -> Result<PolicyFile, BadPolicy> {
        match &self.file {
            None => Ok(PolicyFile { options: self.options.clone(), ..PolicyFile::default() }),
            Some(file) => PolicyFile::parse(&read_file(file).map_err(|error| {
                let what = format!("cannot read {}: {error}", file.display());
                refusal(
                    what,
                    "check policy_file in the scheduler's configuration, and that its user may read it",
                )
            })?),
        }
    }
}

fn read_file(file: &PathBuf) -> std::io::Result<String> {
    let size = std::fs::metadata(file)?.len();
    if size > MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "it has {size} bytes, and a policy has {MAX_BYTES} at most"
        )));
    }
    std::fs::read_to_string(file)
}

fn refusal(what: String, fix: &str) -> BadPolicy {
    let (key, fix) = (String::new(), fix.to_owned());
    BadPolicy { problems: vec![PolicyProblem { line: 0, key, what, did_you_mean: None, fix }] }
}

/// What the manager keeps of its policy beside the policy itself.
pub(crate) struct PolicyState {
    source: PolicySource,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Why the last reload was refused; empty if it was not.
    problems: Mutex<Vec<PolicyProblem>>,
    condition: Condition,
    /// All schedulers, once there is a way to them.
    peers: OnceLock<SchedulerApi>,
    pub(crate) counters: PolicyCounters,
}

/// Reloads by what became of them.
#[derive(Debug, Default)]
pub(crate) struct PolicyCounters([AtomicU64; 3]);

impl PolicyCounters {
    fn count(&self, outcome: PolicyReload) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, outcome: PolicyReload) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }
}

impl PolicyState {
    pub(crate) fn new(source: PolicySource, condition: Condition) -> Self {
        condition.set(true, format!("from {}", source.name()));
        Self {
            source,
            reloading: tokio::sync::Mutex::default(),
            problems: Mutex::default(),
            condition,
            peers: OnceLock::new(),
            counters: PolicyCounters::default(),
        }
    }

    fn problems(&self) -> Vec<PolicyProblem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last reload was refused, as one line.
    pub(crate) fn refused(&self) -> Option<String> {
        let problems = self.problems();
        let first = problems.first()?;
        let more = problems.len() - 1;
        let others = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(format!("{}: {}{others}", self.source.name(), first.to_string().replace("\n    ", "; ")))
    }

    fn refuse(&self, problems: Vec<PolicyProblem>) {
        for problem in &problems {
            let problem = problem.to_string().replace("\n    ", "; ");
            error!(
                source = self.source.name(),
                "the new policy is refused, the old one stays in force: {problem}"
            );
        }
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
        // The scheduler works as before, so it stays ready; the detail says what must be looked at.
        let reason = format!(
            "the last reload was refused, the policy before it is in force: {}",
            self.refused().unwrap_or_default()
        );
        self.condition.set(true, reason);
    }

    fn accept(&self) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.condition.set(true, format!("from {}", self.source.name()));
    }
}

impl SchedulerManager {
    /// Puts a policy into force. False, and nothing changes, if it is the one that is in force. Placements wait for no more
    /// than a few hosts being matched, and for the moment in which all change over.
    pub(crate) async fn enforce(&self, policy: PolicyFile) -> Result<bool, BadPolicy> {
        let engine = FilterScheduler::new(policy.options.clone())
            .map_err(|bad| refusal(bad.to_string(), "correct the option that it names"))?;
        let mut new = NewPolicy::new(Arc::new(policy));
        {
            let (mut core, _) = self.core();
            if core.hosts.policy_hash() == new.hash() && **core.hosts.policy() == *new.policy() {
                return Ok(false);
            }
            core.hosts.begin_policy(&mut new);
        }
        while !self.core().0.hosts.match_hosts(&mut new, MATCHED_AT_A_TIME) {
            tokio::task::yield_now().await;
        }
        // What was in force is freed without the lock.
        let _before = {
            let (mut guard, _) = self.core();
            let core = &mut *guard;
            (std::mem::replace(&mut core.engine, engine), core.hosts.finish_policy(new))
        };
        self.policy_faults.forget();
        Ok(true)
    }

    /// Reads the policy anew, and puts it into force if it is right. Tells what became of it.
    pub async fn reload_own_policy(&self) -> PolicyStatus {
        let _one_at_a_time = self.policy.reloading.lock().await;
        let before = self.with_hosts(|hosts, _| hosts.policy().clone());
        let source = self.policy.source.clone();
        let read = tokio::time::timeout(READ_TIMEOUT, self.env.blocking.run(move || source.read())).await;
        let read = match read {
            Ok(Ok(read)) => read,
            Ok(Err(panicked)) => Err(refusal(panicked.to_string(), "report this with the file")),
            Err(_) => {
                let what = format!("{} could not be read within {READ_TIMEOUT:?}", self.policy.source.name());
                Err(refusal(what, "look at the file system that it is on"))
            }
        };
        let warnings = read.as_ref().map(|policy| policy.warnings.clone()).unwrap_or_default();
        let enforced = match read {
            Ok(policy) => self.enforce(policy).await,
            Err(bad) => Err(bad),
        };
        let outcome = match enforced {
            Ok(true) => PolicyReload::Applied,
            Ok(false) => PolicyReload::Unchanged,
            Err(BadPolicy { problems }) => {
                self.policy.refuse(problems);
                PolicyReload::Refused
            }
        };
        self.policy.counters.count(outcome);
        warnings.iter().for_each(|warning| warn!("policy: {}", warning.to_string().replace("\n    ", "; ")));
        if outcome != PolicyReload::Refused {
            self.policy.accept();
        }
        let mut status = self.policy_status();
        if outcome == PolicyReload::Applied {
            status.changes = before.differences(&self.with_hosts(|hosts, _| hosts.policy().clone()));
        }
        let (hash, changes) = (&status.hash, status.changes.len());
        info!(source = status.source, hash, changes, outcome = outcome.as_str(), "policy reloaded");
        status.changes.iter().for_each(|change| info!("policy: {change}"));
        status.reload = Some(outcome);
        status
    }

    /// The policy in force.
    pub(crate) fn policy_status(&self) -> PolicyStatus {
        let (policy, hash) =
            self.with_hosts(|hosts, _| (hosts.policy().clone(), hosts.policy_hash().to_owned()));
        PolicyStatus {
            scheduler: self.options.name.clone(),
            hash,
            source: self.policy.source.name(),
            reload: None,
            changes: Vec::new(),
            problems: self.policy.problems(),
            policy: policy.to_json(),
        }
    }

    /// Says how all schedulers are reached.
    pub(crate) fn set_peers(&self, peers: SchedulerApi) {
        if self.policy.peers.set(peers).is_err() {
            warn!("the way to the other schedulers was set before");
        }
    }

    /// Asks all schedulers for their policies; this one is among them, as it hears its own question.
    pub(crate) async fn all_policies(&self, reload: bool) -> Result<Policies, CallError> {
        let args = OwnPolicy { reload };
        let Some(peers) = self.policy.peers.get() else {
            let own = if reload { self.reload_own_policy().await } else { self.policy_status() };
            return Ok(Policies { schedulers: vec![own], failures: Vec::new() });
        };
        let answers = peers.own_policies(&args, CallOptions::new(GATHER_TIMEOUT), GATHER_QUIET).await;
        let answers = answers
            .map_err(|error| internal(format!("the schedulers could not be asked: {}", chain(&error))))?;
        let mut policies = Policies::default();
        for answer in answers {
            match answer {
                Ok(status) => policies.schedulers.push(status),
                Err(error) => policies.failures.push(chain(&error)),
            }
        }
        policies.schedulers.sort_by(|a, b| a.scheduler.cmp(&b.scheduler));
        policies.failures.sort();
        Ok(policies)
    }
}
