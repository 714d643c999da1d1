//! A policy on its way into force.

use std::sync::Arc;

use crate::policy::file::PolicyFile;

/// A policy on its way into force, and the aggregates that hosts belong to by it.
#[derive(Debug)]
pub struct NewPolicy {
    pub(crate) policy: Arc<PolicyFile>,
    pub(crate) hash: String,
    /// By row, as far as rows were matched.
    pub(crate) matched: Vec<Vec<u32>>,
}

impl NewPolicy {
    /// Nothing is matched yet.
    pub fn new(policy: Arc<PolicyFile>) -> Self {
        Self { hash: policy.hash(), policy, matched: Vec::new() }
    }

    /// The policy.
    pub fn policy(&self) -> &PolicyFile {
        &self.policy
    }

    /// See [`PolicyFile::hash`].
    pub fn hash(&self) -> &str {
        &self.hash
    }
}
