//! What schedulers say about their policy: what is wrong with a policy file, what a reload changes, which policy is in
//! force.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// Line of the policy file, from 1. 0 if the problem is not on one line.
    pub line: usize,
    /// The key with its sections. Empty if the problem is not about one key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// The known word that was probably meant, if one is similar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<String>,
    /// What the operator can do about it.
    pub fix: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.did_you_mean {
            Some(near) => write!(f, "; did you mean {near}?"),
            None => write!(f, "\n    fix: {}", self.fix),
        }
    }
}

/// One key of a policy that was added, removed or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// The key with its sections.
    pub key: String,
    /// The value before. Absent if the key is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value now. Absent if the key was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "+ {} = {after}", self.key),
            (Some(before), None) => write!(f, "- {} = {before}", self.key),
            (Some(before), Some(after)) => write!(f, "~ {}: {before} -> {after}", self.key),
            (None, None) => Ok(()),
        }
    }
}

/// The outcome of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyReload {
    /// The new policy is in force.
    Applied,
    /// The policy is the same as before.
    Unchanged,
    /// The new policy is wrong. The one before stays in force.
    Refused,
}

impl PolicyReload {
    /// The word for the outcome in tables, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// One scheduler's policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Name of the scheduler.
    pub scheduler: String,
    /// Hash of the policy in force. Schedulers with equal policies have equal hashes.
    pub hash: String,
    /// The file or the section of the configuration that the policy is from.
    pub source: String,
    /// The outcome of the reload that was just asked for. Absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<PolicyReload>,
    /// The keys that this reload changed.
    #[serde(default)]
    pub changes: Vec<PolicyChange>,
    /// What is wrong with the last policy file that was refused. Empty if the last reload was not refused.
    #[serde(default)]
    pub problems: Vec<PolicyProblem>,
    /// The policy in force, as an object of sections.
    pub policy: Value,
}

/// All schedulers' policies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policies {
    /// The policies of the schedulers that answered, sorted by name.
    pub schedulers: Vec<PolicyStatus>,
    /// What went wrong with other schedulers, for people.
    #[serde(default)]
    pub failures: Vec<String>,
}
