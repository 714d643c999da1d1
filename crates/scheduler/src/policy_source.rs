//! Where this scheduler's policy comes from, and the result of the last reload.
//!
//! What always holds: a policy is read as a whole or refused as a whole. A refused reload is shown in the log, in
//! `/metrics`, in the detail of `/readyz` and by `novella policy show`, until a reload succeeds.
//!
//! Left out: the current policy, which the map has, and how a new one is put into force (`calls/policy.rs`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use novella_filter_scheduler::SchedulerOptions;
use novella_host_manager::{BadPolicy, PolicyFile};
use novella_objects::{PolicyProblem, PolicyReload};
use novella_service::health::Condition;
use tracing::error;

use crate::config::SchedulerConfig;
use crate::policy_file;

/// Where the policy is read from.
#[derive(Debug, Clone, Default)]
pub struct PolicySource {
    /// The policy file. Without one, `options` are the policy.
    file: Option<PathBuf>,
    /// The section `[filter_scheduler]` of the configuration.
    options: SchedulerOptions,
}

impl PolicySource {
    /// The source that the configuration names.
    pub fn of(config: &SchedulerConfig) -> Self {
        let file = (!config.policy_file.is_empty()).then(|| PathBuf::from(&config.policy_file));
        Self { file, options: config.filter_scheduler.options() }
    }

    /// The path of the file or the name of the section, for people.
    pub fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "[filter_scheduler]".to_owned(), |file| file.display().to_string())
    }

    /// Reads and checks the policy. Blocks.
    pub fn read(&self) -> Result<PolicyFile, BadPolicy> {
        match &self.file {
            None => Ok(PolicyFile { options: self.options.clone(), ..PolicyFile::default() }),
            Some(file) => policy_file::read(file),
        }
    }
}

/// The result of the last reload.
pub(crate) struct PolicyState {
    pub(crate) source: PolicySource,
    /// Held during a reload, so that there is only one at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    /// Why the last reload was refused. Empty if it was not.
    problems: Mutex<Vec<PolicyProblem>>,
    condition: Condition,
    pub(crate) counters: PolicyCounters,
}

/// How many reloads had each outcome.
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
            counters: PolicyCounters::default(),
        }
    }

    /// Why the last reload was refused. Empty if it was not.
    pub(crate) fn problems(&self) -> Vec<PolicyProblem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last reload was refused, as one line.
    pub(crate) fn refused(&self) -> Option<String> {
        let problems = self.problems();
        let first = problems.first()?;
        let more = problems.len() - 1;
        let others = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(format!("{}: {}{others}", self.source.name(), one_line(first)))
    }

    /// Notes a reload whose policy was refused.
    pub(crate) fn refuse(&self, problems: Vec<PolicyProblem>) {
        self.counters.count(PolicyReload::Refused);
        for problem in &problems {
            let source = self.source.name();
            error!(source, "policy reload refused; the old policy stays in force: {}", one_line(problem));
        }
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
        // The scheduler works as before, so it stays ready. The detail says what must be corrected.
        let reason = format!(
            "the last reload was refused; the previous policy stays in force: {}",
            self.refused().unwrap_or_default()
        );
        self.condition.set(true, reason);
    }

    /// Notes a reload whose policy was accepted, whether it changed anything or not.
    pub(crate) fn accept(&self, outcome: PolicyReload) {
        self.counters.count(outcome);
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.condition.set(true, format!("from {}", self.source.name()));
    }
}

/// A problem without its line breaks, for the log.
pub(crate) fn one_line(problem: &PolicyProblem) -> String {
    problem.to_string().replace("\n    ", "; ")
}
