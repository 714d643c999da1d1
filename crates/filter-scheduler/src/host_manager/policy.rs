//! The policy in force: which aggregates each host is in, and what requests mean by the names they use.
//!
//! A host's aggregates are found anew when it appears, is renamed, or reports other words than before, and all hosts' when
//! the policy changes; a report that repeats the last one costs nothing here.
//!
//! Matching a whole fleet takes longer than anybody should wait for the map, so a [`NewPolicy`] is matched some hosts at a
//! time, and then put into force at once. What always holds: then every host is in the aggregates that its last report and
//! the new policy say, because hosts that joined anything since they were matched are matched again.

use std::sync::Arc;

use hashbrown::HashSet;
use novella_objects::{InstanceGroup, RequestSpec, SelectDestinations};

use super::HostManager;
use crate::group;
use crate::policy_file::missing_for_group;
use crate::{Failure, HostFacts, PolicyFile, Row};

/// A policy on its way into force, and the aggregates that hosts belong to by it.
#[derive(Debug)]
pub struct NewPolicy {
    policy: Arc<PolicyFile>,
    hash: String,
    /// By row, as far as rows were matched.
    matched: Vec<Vec<u32>>,
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

impl HostManager {
    /// Replaces the policy. What was decided under the one before stays as it is.
    pub fn set_policy(&mut self, policy: Arc<PolicyFile>) {
        let mut new = NewPolicy::new(policy);
        self.begin_policy(&mut new);
        while !self.match_hosts(&mut new, usize::MAX) {}
        self.finish_policy(new);
    }

    /// From here on the map notes which hosts change, so that `new` can be matched while it is in use; whatever was matched
    /// before, of this policy or another, is void.
    pub fn begin_policy(&mut self, new: &mut NewPolicy) {
        self.joined = Some(HashSet::new());
        new.matched.clear();
    }

    /// Matches the next few hosts, at most this many; true when none is left.
    pub fn match_hosts(&self, new: &mut NewPolicy, most: usize) -> bool {
        if new.policy.aggregates.is_empty() {
            return true;
        }
        let last = new.matched.len().saturating_add(most).min(self.records.len());
        for at in new.matched.len()..last {
            let ids = self.records[at].as_ref().map(|_| self.ids_by(&new.policy, Row(at as u32)));
            new.matched.push(ids.unwrap_or_default());
        }
        last == self.records.len()
    }

    /// Puts it into force. Returns the policy before it.
    pub fn finish_policy(&mut self, new: NewPolicy) -> Arc<PolicyFile> {
        let NewPolicy { policy, hash, matched } = new;
        self.options.default_availability_zone.clone_from(&policy.options.default_availability_zone);
        self.policy_hash = hash;
        let before = std::mem::replace(&mut self.policy, policy);
        let joined = self.joined.take().unwrap_or_default();
        self.table.set_aggregates(self.policy.aggregates.iter().map(|rule| rule.aggregate.clone()));
        for at in 0..self.records.len() {
            let row = Row(at as u32);
            match matched.get(at) {
                _ if self.records[at].is_none() => {}
                Some(ids) if !joined.contains(&row) => {
                    if self.table.aggregates_of(row) != &**ids {
                        self.table.set_host_aggregates(row, ids);
                    }
                }
                _ => self.join_aggregates(row),
            }
        }
        before
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<PolicyFile> {
        &self.policy
    }

    /// See [`PolicyFile::hash`].
    pub fn policy_hash(&self) -> &str {
        &self.policy_hash
    }

    /// Puts a host into the aggregates that it belongs to by its last report.
    pub(super) fn join_aggregates(&mut self, row: Row) {
        let ids = self.ids_by(&self.policy, row);
        self.table.set_host_aggregates(row, &ids);
        self.joined.iter_mut().for_each(|joined| _ = joined.insert(row));
    }

    /// The aggregates that a host belongs to by a policy, in order.
    fn ids_by(&self, policy: &PolicyFile, row: Row) -> Vec<u32> {
        if policy.aggregates.is_empty() {
            return Vec::new();
        }
        let words = self.record(row).reported.words();
        let (host, zone) = (self.table.host(row), words.availability_zone);
        let mut ids =
            policy.aggregates_of(&HostFacts { host, zone, traits: &words.traits, facts: &words.facts });
        ids.sort_unstable();
        ids
    }

    /// Names of the aggregates that a host is in.
    pub(super) fn aggregates_of(&self, row: Row) -> Vec<String> {
        let ids = self.table.aggregates_of(row);
        let named = self.policy.aggregates.iter().filter(|rule| ids.contains(&rule.aggregate.id));
        named.map(|rule| rule.aggregate.name.clone()).collect()
    }

    /// The request with the flavor and the PCI aliases that it names; `None` if it names none.
    pub(super) fn with_names(
        &self,
        request: &SelectDestinations,
    ) -> Result<Option<SelectDestinations>, Failure> {
        let named = request.flavor.as_ref().map(|name| {
            self.policy.flavor(name).ok_or_else(|| {
                let known: Vec<_> = self.policy.flavors.keys().map(String::as_str).collect();
                Failure::Unknown { what: "flavor", name: name.clone(), known: known.join(", ") }
            })
        });
        let (named, spec) = (named.transpose()?, &request.request_spec);
        let flavor = named.unwrap_or(&spec.flavor);
        let devices = self.policy.pci_requests(flavor, spec.image.as_ref(), &spec.pci_requests)?;
        if named.is_none() && devices.is_none() {
            return Ok(None);
        }
        let mut request = SelectDestinations { flavor: None, ..request.clone() };
        if let Some(flavor) = named {
            request.request_spec.flavor = flavor.clone();
        }
        if let Some(devices) = devices {
            request.request_spec.pci_requests = devices;
        }
        Ok(Some(request))
    }

    /// The server group of a request with its policy, and with the members and hosts that the map knows; `None` where the
    /// request names no group, and has in it whatever there is to know.
    pub(super) fn with_members(&self, request: &RequestSpec) -> Result<Option<InstanceGroup>, Failure> {
        let Some(name) = group::name(request).filter(|name| !name.is_empty()) else { return Ok(None) };
        let mut group = match &request.instance_group {
            Some(group) if !group.policy.is_empty() => group.clone(),
            given => {
                let rule = self.policy.server_group(name).ok_or_else(|| {
                    let known: Vec<_> = self.policy.server_groups.keys().map(String::as_str).collect();
                    Failure::Unknown { what: "server group", name: name.to_owned(), known: known.join(", ") }
                })?;
                let given = given.clone().unwrap_or_default();
                InstanceGroup { members: given.members, hosts: given.hosts, ..rule.group() }
            }
        };
        if let Some(missing) = missing_for_group(&group.policy, &self.policy.options) {
            return Err(Failure::NotConfigured { missing, policy: group.policy });
        }
        let members = self.members.of(name).map(|(uuid, row)| (uuid, self.table.host(row)));
        group::join(&mut group, members, &request.instance_uuids);
        Ok(Some(group))
    }
}
