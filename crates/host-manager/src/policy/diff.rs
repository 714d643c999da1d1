//! The differences between two policies, key by key.

use std::collections::BTreeSet;

use novella_objects::PolicyChange;
use serde_json::Value as Json;

/// All differences, in the order of the keys.
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
