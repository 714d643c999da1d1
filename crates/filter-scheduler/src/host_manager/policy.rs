//! The policy in force: which aggregates each host is in, and what requests mean by the names they use.
//!
//! A host's aggregates are found anew when it appears, is renamed, or reports other words than before, and all hosts' when
//! the policy changes; a report that repeats the last one costs nothing here.

use std::sync::Arc;

use novella_objects::{InstanceGroup, RequestSpec, SelectDestinations};
use serde_json::Value;

use super::HostManager;
use crate::policy_file::missing_for_group;
use crate::{Failure, HostFacts, PolicyFile, Row};

impl HostManager {
    /// Replaces the policy. What was decided under the one before stays as it is.
    pub fn set_policy(&mut self, policy: Arc<PolicyFile>) {
        self.options.default_availability_zone.clone_from(&policy.options.default_availability_zone);
        self.policy_hash = policy.hash();
        self.policy = policy;
        self.table.set_aggregates(self.policy.aggregates.iter().map(|rule| rule.aggregate.clone()));
        let rows: Vec<Row> = self.table.rows().collect();
        rows.into_iter().for_each(|row| self.join_aggregates(row));
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
        let ids = if self.policy.aggregates.is_empty() {
            Vec::new()
        } else {
            let words = self.record(row).reported.words();
            let (host, zone) = (self.table.host(row), words.availability_zone);
            self.policy.aggregates_of(&HostFacts { host, zone, traits: &words.traits, facts: &words.facts })
        };
        self.table.set_host_aggregates(row, &ids);
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

    /// The server group that the instances of a request belong to, by name.
    pub(super) fn group_of(request: &RequestSpec) -> Option<&str> {
        let named = request.instance_group.as_ref().map(|group| group.name.as_str());
        named.filter(|name| !name.is_empty()).or_else(|| match request.scheduler_hints.get("group")? {
            Value::Array(items) => items.first()?.as_str(),
            hint => hint.as_str(),
        })
    }

    /// The server group of a request with its policy, and with the members and hosts that the map knows; `None` where the
    /// request names no group, and has in it whatever there is to know.
    pub(super) fn with_members(&self, request: &RequestSpec) -> Result<Option<InstanceGroup>, Failure> {
        let Some(name) = Self::group_of(request).filter(|name| !name.is_empty()) else { return Ok(None) };
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
        for (uuid, row) in self.members.of(name) {
            group.members.push(uuid);
            group.hosts.push(self.table.host(row).to_owned());
        }
        group.members.extend(&request.instance_uuids);
        group.members.sort_unstable();
        group.members.dedup();
        group.hosts.sort_unstable();
        group.hosts.dedup();
        Ok(Some(group))
    }
}
