//! What two policies differ in, key by key.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One key that was added, removed or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// With its sections.
    pub key: String,
    /// Absent: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Json>,
    /// Absent: it is there no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Json>,
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

/// Everything that differs, in the order of the keys.
pub(super) fn differences(before: &Json, after: &Json) -> Vec<PolicyChange> {
    let mut changes = Vec::new();
    compare("", Some(before), Some(after), &mut changes);
    changes
}

fn compare(key: &str, before: Option<&Json>, after: Option<&Json>, changes: &mut Vec<PolicyChange>) {
    if let (Some(Json::Object(old)), Some(Json::Object(new))) = (before, after) {
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            compare(&key, old.get(name), new.get(name), changes);
        }
    } else if before != after {
        changes.push(PolicyChange { key: key.to_owned(), before: before.cloned(), after: after.cloned() });
    }
}
