//! A policy that is being put into force.
//!
//! Left out: how hosts are matched (`verbs/enforce_policy.rs`).

use std::sync::Arc;

use crate::policy::file::PolicyFile;

/// A policy that is being put into force, with the aggregates that it gives to hosts.
#[derive(Debug)]
pub struct NewPolicy {
    pub(crate) policy: Arc<PolicyFile>,
    pub(crate) hash: String,
    /// The ids of each row's aggregates, for the rows matched so far.
    pub(crate) matched: Vec<Vec<u32>>,
}

impl NewPolicy {
    /// A policy that is not matched to any host yet.
    pub fn new(policy: Arc<PolicyFile>) -> Self {
        Self { hash: policy.hash(), policy, matched: Vec::new() }
    }

    /// The policy.
    pub fn policy(&self) -> &PolicyFile {
        &self.policy
    }

    /// The hash of the policy; see [`PolicyFile::hash`].
    pub fn hash(&self) -> &str {
        &self.hash
    }
}
