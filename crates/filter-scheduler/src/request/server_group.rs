//! The server group of a request: its name, and its members.
//!
//! Left out: which hosts the group's policy leaves, which `filters/group.rs` says.

use novella_objects::{InstanceGroup, RequestSpec};
use serde_json::Value;
use uuid::Uuid;

/// The name of the server group that the instances of a request belong to: the one of its `instance_group`, or else of
/// the hint `group`.
pub fn name(request: &RequestSpec) -> Option<&str> {
    let named = request.instance_group.as_ref().map(|group| group.name.as_str());
    named.filter(|name| !name.is_empty()).or_else(|| match request.scheduler_hints.get("group")? {
        Value::Array(items) => items.first()?.as_str(),
        hint => hint.as_str(),
    })
}

/// Adds members with their hosts to a group, and the instances that are about to become members. Members and hosts end
/// up sorted, each once.
pub fn join<'h>(
    group: &mut InstanceGroup,
    members: impl Iterator<Item = (Uuid, &'h str)>,
    instances: &[Uuid],
) {
    for (uuid, host) in members {
        group.members.push(uuid);
        group.hosts.push(host.to_owned());
    }
    group.members.extend(instances);
    group.members.sort_unstable();
    group.members.dedup();
    group.hosts.sort_unstable();
    group.hosts.dedup();
}
