//! A document's request as a request spec.

use novella_objects::document::Request;
use novella_objects::{Flavor, Image, RequestSpec};
use uuid::Uuid;

use super::BadDocument;
use crate::select::MAX_INSTANCES;

/// See the module's text.
pub fn request_spec(request: &Request) -> Result<RequestSpec, BadDocument> {
    let image = match (&request.image, &request.image_id, &request.image_disk_format) {
        (None, None, None) => None,
        (properties, id, disk_format) => Some(Image {
            id: id.clone(),
            properties: properties.clone().unwrap_or_default(),
            disk_format: disk_format.clone(),
        }),
    };
    Ok(RequestSpec {
        instance_uuids: instance_uuids(request)?,
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
        attempt: 0,
    })
}

fn instance_uuids(request: &Request) -> Result<Vec<Uuid>, BadDocument> {
    let given = &request.instance_uuids;
    let wanted = request.num_instances.map_or(given.len().max(1), |wanted| wanted as usize);
    if !(1..=MAX_INSTANCES).contains(&wanted) {
        let reason = format!("{wanted} instances; a request is for 1 to {MAX_INSTANCES}");
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
