//! The server groups of a fleet: the rule of each, and which of the fleet's instances are members.
//!
//! A request that names a group gets its rule and its members, as a scheduler gives them to a live request.
//!
//! What always holds: a request that describes its whole group itself is left as it is, unless the fleet has members of
//! a group with the same name.

use std::collections::{BTreeMap, HashMap};

use novella_filter_scheduler::server_group;
use novella_objects::document::{Fleet, HostInstance, ServerGroup};
use novella_objects::{InstanceGroup, RequestSpec};
use uuid::Uuid;

use crate::bad_document::BadDocument;

/// The server groups of a fleet.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    /// The rule of each group, by the name of the group.
    rules: BTreeMap<String, ServerGroup>,
    /// The rule of groups that have none of their own.
    defaults: Option<ServerGroup>,
    /// For each group, its instances, each with its host.
    members: HashMap<String, Vec<(Uuid, String)>>,
}

impl Groups {
    /// The groups of a fleet's document.
    pub(super) fn of(fleet: &Fleet<'_>) -> Self {
        let mut members: HashMap<String, Vec<_>> = HashMap::new();
        for host in &fleet.hosts {
            for instance in &host.instances {
                if let HostInstance::Known { uuid, group: Some(group), .. } = instance {
                    members.entry(group.clone()).or_default().push((*uuid, host.host.to_string()));
                }
            }
        }
        let (rules, defaults) = (fleet.server_groups.clone(), fleet.server_group_defaults.clone());
        Self { rules, defaults, members }
    }

    /// Adds the rule and the members of the group that a request names. Fails if the fleet does not have the group.
    pub(super) fn join(&self, request: &mut RequestSpec, instances: &[Uuid]) -> Result<(), BadDocument> {
        let Some(name) = server_group::name(request).filter(|name| !name.is_empty()).map(str::to_owned)
        else {
            return Ok(());
        };
        let rule = self.rules.get(&name).or(self.defaults.as_ref());
        let known = self.members.get(&name).map(Vec::as_slice);
        let mut group = match (request.instance_group.take(), rule) {
            (given @ Some(_), _)
                if known.is_none() && given.as_ref().is_some_and(|g| !g.policy.is_empty()) =>
            {
                request.instance_group = given;
                return Ok(());
            }
            (Some(group), _) if !group.policy.is_empty() => group,
            (given, Some(rule)) => {
                let InstanceGroup { members, hosts, .. } = given.unwrap_or_default();
                let ServerGroup { policy, rules } = rule.clone();
                InstanceGroup { name: String::new(), policy, rules, members, hosts }
            }
            (given, None) if self.rules.is_empty() => {
                request.instance_group = given;
                return Ok(());
            }
            (_, None) => {
                let known: Vec<_> = self.rules.keys().map(String::as_str).collect();
                let reason = format!("there is no server group {name:?}; choose one of {}", known.join(", "));
                return Err(BadDocument::new("group", reason));
            }
        };
        let members = known.unwrap_or_default().iter().map(|(uuid, host)| (*uuid, host.as_str()));
        server_group::join(&mut group, members, instances);
        request.instance_group = Some(group);
        Ok(())
    }
}
