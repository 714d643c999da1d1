//! The server groups, by the rules of the policy and the members that the map knows.
//!
//! What always holds: a group that the policy defines is listed although it has no members, and a group with members
//! although the policy does not define it.

use std::collections::BTreeSet;

use novella_objects::{GroupMember, ServerGroupSummary};

use crate::map::host_map::HostMap;

/// All groups in the order of their names, without members.
pub(crate) fn all(map: &HostMap) -> Vec<ServerGroupSummary> {
    let defined = map.policy.server_groups.keys().map(String::as_str);
    let names: BTreeSet<&str> = defined.chain(map.members.groups()).collect();
    names.into_iter().map(|name| summary(map, name)).collect()
}

/// The group of this name with its members, in the order of their hosts.
pub(crate) fn one(map: &HostMap, name: &str) -> Option<ServerGroupSummary> {
    let group = summary(map, name);
    if group.instances == 0 && !map.policy.server_groups.contains_key(name) {
        return None;
    }
    let member = |(uuid, row)| GroupMember {
        instance_uuid: uuid,
        host: map.table.host(row).to_owned(),
        held: map.reservations.get(&uuid).is_some(),
    };
    let mut members: Vec<_> = map.members.of(name).map(member).collect();
    members.sort_by(|a, b| (&a.host, a.instance_uuid).cmp(&(&b.host, b.instance_uuid)));
    Some(ServerGroupSummary { members, ..group })
}

fn summary(map: &HostMap, name: &str) -> ServerGroupSummary {
    let rule = map.policy.server_group(name);
    let limited = rule.filter(|rule| rule.policy == "anti-affinity");
    ServerGroupSummary {
        name: name.to_owned(),
        policy: rule.map(|rule| rule.policy.clone()),
        max_server_per_host: limited.map(|rule| rule.max_server_per_host),
        instances: map.members.of(name).count() as u64,
        members: Vec::new(),
    }
}
