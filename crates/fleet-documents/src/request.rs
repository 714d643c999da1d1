//! Converts a document's request into a request spec, and back.
//!
//! Left out: names that a policy or a fleet stands for (`apply_policy.rs`, `server_groups.rs`).

use novella_objects::document::Request;
use novella_objects::{Decision, Flavor, Image, MAX_INSTANCES, PlacementRequest, RequestSpec};
use uuid::Uuid;

use crate::bad_document::BadDocument;

/// The placement request for a document's request. Fails if its instances do not fit its number of instances.
pub fn request_spec(request: &Request) -> Result<PlacementRequest, BadDocument> {
    let image = match (&request.image, &request.image_id, &request.image_disk_format) {
        (None, None, None) => None,
        (properties, id, disk_format) => Some(Image {
            id: id.clone(),
            properties: properties.clone().unwrap_or_default(),
            disk_format: disk_format.clone(),
        }),
    };
    let instance_uuids = instance_uuids(request)?;
    let spec = RequestSpec {
        flavor: Flavor {
            name: request.flavor_name.clone().unwrap_or_default(),
            id: request.flavor_id.clone().unwrap_or_default(),
            vcpus: request.vcpus,
            memory_mb: request.memory_mb,
            root_gb: request.root_gb,
            ephemeral_gb: request.ephemeral_gb,
            swap: request.swap,
            extra_specs: request.extra_specs.clone(),
        },
        availability_zone: request.availability_zone.clone(),
        force_hosts: request.force_hosts.clone(),
        ignore_hosts: request.ignore_hosts.clone(),
        target_host: request.target_host.clone(),
        target_node: request.target_node.clone(),
        target_cell: request.target_cell.clone(),
        allow_cross_cell_move: request.allow_cross_cell_move,
        force_nodes: request.force_nodes.clone(),
        required_aggregates: request.required_aggregates.clone(),
        forbidden_aggregates: request.forbidden_aggregates.clone(),
        is_bfv: request.is_bfv,
        image,
        instance_group: request.group.clone(),
        retry: request.retry.clone(),
        scheduler_hints: request.hints.clone(),
        project_id: request.project_id.clone(),
        numa_topology: request.numa_topology.clone(),
        pci_requests: request.pci_requests.clone(),
        network_metadata: request.network_metadata.clone(),
    };
    Ok(PlacementRequest { instance_uuids, spec, attempt: 0 })
}

/// The request of a decision as a document's request, with its seed. If it is evaluated on a snapshot of the fleet
/// before the decision, the decision is the same.
pub fn request_of(asked: &PlacementRequest, decision: &Decision) -> Request {
    // Takes the spec apart, so that a new field cannot be forgotten here.
    let RequestSpec {
        flavor,
        availability_zone,
        force_hosts,
        ignore_hosts,
        target_host,
        target_node,
        target_cell,
        allow_cross_cell_move,
        force_nodes,
        required_aggregates,
        forbidden_aggregates,
        image,
        is_bfv,
        instance_group,
        retry,
        numa_topology,
        pci_requests,
        network_metadata,
        scheduler_hints,
        project_id,
    } = &asked.spec;
    let named = |name: &String| (!name.is_empty()).then(|| name.clone());
    Request {
        vcpus: flavor.vcpus,
        memory_mb: flavor.memory_mb,
        root_gb: flavor.root_gb,
        ephemeral_gb: flavor.ephemeral_gb,
        swap: flavor.swap,
        is_bfv: *is_bfv,
        flavor_name: named(&flavor.name),
        flavor_id: named(&flavor.id),
        extra_specs: flavor.extra_specs.clone(),
        image: image.as_ref().map(|image| image.properties.clone()),
        image_id: image.as_ref().and_then(|image| image.id.clone()),
        image_disk_format: image.as_ref().and_then(|image| image.disk_format.clone()),
        hints: scheduler_hints.clone(),
        group: instance_group.clone(),
        force_hosts: force_hosts.clone(),
        force_nodes: force_nodes.clone(),
        ignore_hosts: ignore_hosts.clone(),
        target_host: target_host.clone(),
        target_node: target_node.clone(),
        target_cell: target_cell.clone(),
        allow_cross_cell_move: *allow_cross_cell_move,
        availability_zone: availability_zone.clone(),
        required_aggregates: required_aggregates.clone(),
        forbidden_aggregates: forbidden_aggregates.clone(),
        retry: retry.clone(),
        project_id: project_id.clone(),
        numa_topology: numa_topology.clone(),
        pci_requests: pci_requests.clone(),
        network_metadata: network_metadata.clone(),
        instance_uuids: asked.instance_uuids.clone(),
        seed: decision.seed.unwrap_or_default(),
        alternates: decision.selections.iter().any(|selection| !selection.alternates.is_empty()),
        ..Request::default()
    }
}

fn instance_uuids(request: &Request) -> Result<Vec<Uuid>, BadDocument> {
    let given = &request.instance_uuids;
    let wanted = request.num_instances.map_or(given.len().max(1), |wanted| wanted as usize);
    if !(1..=MAX_INSTANCES).contains(&wanted) {
        let reason = format!("{wanted} instances were asked for; a request may ask for 1 to {MAX_INSTANCES}");
        return Err(BadDocument::new("num_instances", reason));
    }
    if given.is_empty() {
        return Ok((0..wanted as u128).map(|at| Uuid::from_u128(u128::MAX - at)).collect());
    }
    if given.len() != wanted {
        let reason =
            format!("{} uuids for {wanted} instances; leave num_instances or the uuids out", given.len());
        return Err(BadDocument::new("instance_uuids", reason));
    }
    Ok(given.clone())
}
