//! Replaces parts of documents by a scheduler's policy, to see what a policy would do before it is in force.
//!
//! Left out: the options. The caller takes them from the policy.

use std::collections::BTreeMap;

use novella_host_manager::{GroupRule, HostFacts, PolicyFile, pci_requests};
use novella_objects::document::{Fleet, Request, Requests, ServerGroup};
use novella_objects::{Flavor, Image, InstanceGroup};

use crate::bad_document::BadDocument;

/// Puts hosts into the policy's aggregates by its rules, if it has any aggregates. Gives requests the flavors, server
/// groups and PCI aliases of the policy that they name without spelling them out. Fails if the policy does not have a
/// name.
pub fn apply_policy(
    policy: &PolicyFile,
    fleet: &mut Fleet<'_>,
    requests: &mut Requests,
) -> Result<(), BadDocument> {
    if !policy.aggregates.is_empty() {
        fleet.aggregates = policy.aggregates.iter().map(|rule| rule.aggregate.clone()).collect();
        for host in &mut fleet.hosts {
            let traits: Vec<&str> = host.traits.iter().map(|name| &**name).collect();
            let facts = host.stats.iter().chain(host.facts.iter());
            let facts: Vec<_> = facts.map(|(name, value)| (name, value.get())).collect();
            host.aggregates = policy.aggregates_of(&HostFacts {
                host: &host.host,
                zone: host.availability_zone.as_deref(),
                traits: &traits,
                facts: &facts,
            });
        }
    }
    if !policy.server_groups.is_empty() || policy.server_group_defaults.is_some() {
        fleet.server_groups = server_groups(policy);
        fleet.server_group_defaults = policy.server_group_defaults.as_ref().map(server_group);
    }
    fleet.pci_aliases = policy.pci_aliases.clone();
    for (at, request) in requests.requests.iter_mut().enumerate() {
        spell_out(policy, request).map_err(|bad| bad.within(&format!("requests[{at}]")))?;
    }
    Ok(())
}

/// The server groups of a policy, by name.
pub(crate) fn server_groups(policy: &PolicyFile) -> BTreeMap<String, ServerGroup> {
    policy.server_groups.iter().map(|(name, rule)| (name.clone(), server_group(rule))).collect()
}

/// The server group that a rule describes.
pub(crate) fn server_group(rule: &GroupRule) -> ServerGroup {
    let InstanceGroup { policy, rules, .. } = rule.group();
    ServerGroup { policy, rules }
}

/// Replaces the names in a request by what the policy has for them.
fn spell_out(policy: &PolicyFile, request: &mut Request) -> Result<(), BadDocument> {
    let sizes =
        [request.memory_mb, request.root_gb, request.ephemeral_gb, request.swap, request.vcpus.into()];
    let bare = sizes.iter().all(|size| *size == 0) && request.extra_specs.is_empty();
    if let Some(name) = request.flavor_name.as_ref().or(request.flavor_id.as_ref()).filter(|_| bare) {
        let flavor = policy.flavor(name).ok_or_else(|| {
            let known: Vec<_> = policy.flavors.keys().map(String::as_str).collect();
            let reason = format!("the policy has no flavor {name:?}; it has {}", known.join(", "));
            BadDocument::new("flavor_name", reason)
        })?;
        request.flavor_name = Some(flavor.name.clone());
        request.flavor_id = Some(flavor.id.clone());
        request.vcpus = flavor.vcpus;
        request.memory_mb = flavor.memory_mb;
        request.root_gb = flavor.root_gb;
        request.ephemeral_gb = flavor.ephemeral_gb;
        request.swap = flavor.swap;
        request.extra_specs = flavor.extra_specs.clone();
    }
    if let Some(group) = request.group.as_mut().filter(|group| group.policy.is_empty()) {
        let rule = policy.server_group(&group.name).ok_or_else(|| {
            BadDocument::new("group", format!("the policy has no server group {:?}", group.name))
        })?;
        let InstanceGroup { policy, rules, .. } = rule.group();
        (group.policy, group.rules) = (policy, rules);
    }
    let flavor = Flavor { extra_specs: request.extra_specs.clone(), ..Flavor::default() };
    let image = request.image.clone().map(|properties| Image { properties, ..Image::default() });
    let devices = pci_requests(&policy.pci_aliases, &flavor, image.as_ref(), &request.pci_requests);
    if let Some(devices) = devices.map_err(|bad| BadDocument::new("extra_specs", bad.to_string()))? {
        request.pci_requests = devices;
    }
    Ok(())
}
