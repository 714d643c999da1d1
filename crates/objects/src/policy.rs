//! What schedulers say of their policy: what is wrong with a text, what a new one changes, which one is in force.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// Counted from 1; 0 if it is about the text as a whole.
    pub line: usize,
    /// With its sections; empty if it is about the text as a whole.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// The known word that was probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<String>,
    /// What to do about it.
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
    /// With its sections.
    pub key: String,
    /// Absent: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Absent: it is there no more.
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

/// What became of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyReload {
    /// The new policy is in force.
    Applied,
    /// It is the one that was in force.
    Unchanged,
    /// It is wrong; the one before stays in force.
    Refused,
}

impl PolicyReload {
    /// The word in tables, logs and metrics.
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
    /// Whose.
    pub scheduler: String,
    /// Of the policy in force; equal on every scheduler with an equal policy.
    pub hash: String,
    /// The file, or the section of the configuration, that it is from.
    pub source: String,
    /// What became of the reload that was just asked for; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<PolicyReload>,
    /// What that reload changed.
    #[serde(default)]
    pub changes: Vec<PolicyChange>,
    /// Why the last reload was refused; empty if it was not.
    #[serde(default)]
    pub problems: Vec<PolicyProblem>,
    /// The policy in force, keys by section.
    pub policy: Value,
}

/// All schedulers' policies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policies {
    /// Of those that answered, by name.
    pub schedulers: Vec<PolicyStatus>,
    /// What others said instead.
    #[serde(default)]
    pub failures: Vec<String>,
}
