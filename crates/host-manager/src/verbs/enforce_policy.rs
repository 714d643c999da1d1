//! The policy in force: which aggregates each host is in, and what a request means by the server group that it names.
//!
//! A host's aggregates are determined again when it appears, is renamed, or reports other words than before. Those of
//! all hosts are determined again when the policy changes. A report that repeats the last one costs nothing here.
//!
//! Matching a whole fleet takes too long to lock the map for it. So a [`NewPolicy`] is matched to some hosts at a time,
//! and then put into force at once.
//!
//! What always holds: after that, every host is in the aggregates that its last report and the new policy give it.
//! Hosts whose aggregates were determined again since they were matched are matched once more.
//!
//! Left out: reading and checking a policy (`policy/`).

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashSet;
use novella_filter_scheduler::{Failure, Row, server_group};
use novella_objects::{InstanceGroup, RequestSpec};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::policy::catalog::missing_for_group;
use crate::policy::file::PolicyFile;
use crate::policy::membership::HostFacts;
use crate::policy::new_policy::NewPolicy;

/// Starts to match `new`. From now on the map notes which hosts change, so that it can be used while `new` is matched.
/// What was matched before, for this policy or another, no longer counts.
pub(crate) fn begin_policy(map: &mut HostMap, new: &mut NewPolicy) {
    map.joined = Some(HashSet::new());
    new.matched.clear();
}

/// Matches at most `most` further hosts. Returns true if no host is left.
pub(crate) fn match_hosts(map: &HostMap, new: &mut NewPolicy, most: usize) -> bool {
    if new.policy.aggregates.is_empty() {
        return true;
    }
    let last = new.matched.len().saturating_add(most).min(map.records.len());
    for at in new.matched.len()..last {
        let ids = map.records[at].as_ref().map(|_| ids_by(map, &new.policy, Row::at(at)));
        new.matched.push(ids.unwrap_or_default());
    }
    last == map.records.len()
}

/// Puts a policy into force that was matched to all hosts. Returns the previous policy.
pub(crate) fn finish_policy(map: &mut HostMap, new: NewPolicy) -> Arc<PolicyFile> {
    let NewPolicy { policy, hash, matched } = new;
    map.options.default_availability_zone.clone_from(&policy.options.default_availability_zone);
    map.policy_hash = hash;
    let before = std::mem::replace(&mut map.policy, policy);
    let joined = map.joined.take().unwrap_or_default();
    map.table.set_aggregates(map.policy.aggregates.iter().map(|rule| rule.aggregate.clone()));
    for at in 0..map.records.len() {
        let row = Row::at(at);
        match matched.get(at) {
            _ if map.records[at].is_none() => {}
            Some(ids) if !joined.contains(&row) => {
                if map.table.aggregates_of(row) != &**ids {
                    map.table.set_host_aggregates(row, ids);
                }
            }
            _ => join_aggregates(map, row),
        }
    }
    before
}

/// Puts a host into the aggregates that it belongs to by its last report.
pub(crate) fn join_aggregates(map: &mut HostMap, row: Row) {
    let ids = ids_by(map, &map.policy, row);
    map.table.set_host_aggregates(row, &ids);
    map.joined.iter_mut().for_each(|joined| _ = joined.insert(row));
}

/// The ids of the aggregates that a policy gives to a host, sorted.
fn ids_by(map: &HostMap, policy: &PolicyFile, row: Row) -> Vec<u32> {
    if policy.aggregates.is_empty() {
        return Vec::new();
    }
    let words = map.record(row).reported.words();
    let (host, zone) = (map.table.host(row), words.availability_zone);
    let mut ids = policy.aggregates_of(&HostFacts { host, zone, traits: &words.traits, facts: &words.facts });
    ids.sort_unstable();
    ids
}

/// The request with its server group's policy, and with the members and hosts that the map knows. It is copied only if it
/// names a group.
pub(crate) fn with_members<'s>(
    map: &HostMap,
    spec: &'s RequestSpec,
    instances: &[Uuid],
) -> Result<Cow<'s, RequestSpec>, Failure> {
    let Some(name) = server_group::name(spec).filter(|name| !name.is_empty()) else {
        return Ok(Cow::Borrowed(spec));
    };
    let mut group = match &spec.instance_group {
        Some(group) if !group.policy.is_empty() => group.clone(),
        given => {
            let rule = map.policy.server_group(name).ok_or_else(|| {
                let known: Vec<_> = map.policy.server_groups.keys().map(String::as_str).collect();
                Failure::Unknown { what: "server group", name: name.to_owned(), known: known.join(", ") }
            })?;
            let given = given.clone().unwrap_or_default();
            InstanceGroup { members: given.members, hosts: given.hosts, ..rule.group() }
        }
    };
    if let Some(missing) = missing_for_group(&group.policy, &map.policy.options) {
        return Err(Failure::NotConfigured { missing, policy: group.policy });
    }
    let members = map.members.of(name).map(|(uuid, row)| (uuid, map.table.host(row)));
    server_group::join(&mut group, members, instances);
    Ok(Cow::Owned(RequestSpec { instance_group: Some(group), ..spec.clone() }))
}
