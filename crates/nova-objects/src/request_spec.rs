//! Reads a `RequestSpec` up to version 1.15.
//!
//! Not read, because placement does not look at them: the user, security groups, requested networks, and the limits, which
//! a scheduler writes.

use std::collections::BTreeMap;

use novella_objects::document::{InstanceNumaCell, InstanceNumaTopology, NetworkMetadata, PciRequest};
use novella_objects::{Flavor, Image, InstanceGroup, RequestSpec, Retry};
use serde_json::Value;
use uuid::Uuid;

use crate::error::ObjectError;
use crate::primitive::Object;

/// What Nova asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NovaRequestSpec {
    /// The request in novella's types.
    pub spec: RequestSpec,
    /// The uuid of the first instance.
    pub instance_uuid: Option<Uuid>,
    /// How many instances are to be placed, if their uuids are not sent.
    pub num_instances: u32,
}

/// Reads a serialized RequestSpec.
pub fn request_spec(primitive: &Value) -> Result<NovaRequestSpec, ObjectError> {
    let object = Object::outermost(primitive, "RequestSpec")?;
    refuse_placement_groups(&object)?;
    let mut spec = RequestSpec {
        flavor: flavor(&object.needed_object("flavor", "Flavor")?)?,
        image: object.nested("image", "ImageMeta", image_meta)?,
        availability_zone: object.text("availability_zone")?,
        force_hosts: object.texts("force_hosts")?,
        force_nodes: object.texts("force_nodes")?,
        ignore_hosts: object.texts("ignore_hosts")?,
        is_bfv: object.truth("is_bfv"),
        instance_group: object.nested("instance_group", "InstanceGroup", group)?,
        retry: object.nested("retry", "SchedulerRetries", retry)?,
        numa_topology: object.nested("numa_topology", "InstanceNUMATopology", numa_topology)?,
        pci_requests: object.nested("pci_requests", "InstancePCIRequests", pci_requests)?.unwrap_or_default(),
        network_metadata: object.nested("network_metadata", "NetworkMetadata", network_metadata)?,
        scheduler_hints: object.map("scheduler_hints")?.into_iter().map(|(k, v)| (k, v.clone())).collect(),
        project_id: object.text("project_id")?,
        ..RequestSpec::default()
    };
    if let Some(wanted) = object.object("requested_destination", "Destination")? {
        destination(&wanted, &mut spec)?;
    }
    object.not_null("num_instances")?;
    Ok(NovaRequestSpec {
        spec,
        instance_uuid: object
            .text("instance_uuid")?
            .map(|text| uuid(&object, "instance_uuid", &text))
            .transpose()?,
        num_instances: object.unsigned("num_instances")?.unwrap_or(1),
    })
}

fn uuid(object: &Object<'_>, field: &str, text: &str) -> Result<Uuid, ObjectError> {
    Uuid::try_parse(text).map_err(|_| object.bad(field, &text.into(), "a UUID"))
}

/// Refuses resources that ports, accelerators or filters of Nova want from Placement, which novella does not ask.
fn refuse_placement_groups(object: &Object<'_>) -> Result<(), ObjectError> {
    let refused = |object, field| {
        let reason = "Nova would ask Placement for it, which novella does not use; ask for it with extra specs of the flavor";
        Err(ObjectError::NotServed { object, field, reason })
    };
    if !object.objects("requested_resources", "RequestGroup")?.is_empty() {
        return refused("RequestSpec", "requested_resources");
    }
    if let Some(level) = object.object("request_level_params", "RequestLevelParams")? {
        for field in ["root_required", "root_forbidden", "same_subtree"] {
            if !level.list(field)?.is_empty() {
                return refused("RequestLevelParams", field);
            }
        }
    }
    Ok(())
}

fn flavor(object: &Object<'_>) -> Result<Flavor, ObjectError> {
    let name = object.text("name")?.unwrap_or_default();
    let id = object.text("flavorid")?.unwrap_or_default();
    Ok(Flavor {
        id: if id == name { String::new() } else { id },
        name,
        vcpus: object.needed("vcpus")?,
        memory_mb: object.needed("memory_mb")?,
        root_gb: object.needed("root_gb")?,
        ephemeral_gb: object.needed("ephemeral_gb")?,
        swap: object.unsigned("swap")?.unwrap_or(0),
        extra_specs: object.text_map("extra_specs")?,
    })
}

fn image_meta(object: &Object<'_>) -> Result<Image, ObjectError> {
    let properties = object.object("properties", "ImageMetaProps")?;
    Ok(Image {
        id: object.text("id")?,
        properties: properties.as_ref().map(image_properties).transpose()?.unwrap_or_default(),
        disk_format: object.text("disk_format")?,
    })
}

/// Nova's typed properties in the form of the image service, which has one property for each item of a list.
fn image_properties(object: &Object<'_>) -> Result<BTreeMap<String, Value>, ObjectError> {
    let mut properties = BTreeMap::new();
    for (name, value) in object.values() {
        match name.as_str() {
            "traits_required" => {
                let traits = object.texts(name)?.into_iter();
                properties.extend(traits.map(|name| (format!("trait:{name}"), "required".into())));
            }
            "hw_numa_mem" => {
                for (cell, memory) in object.numbers_in_order(name)?.into_iter().enumerate() {
                    properties.insert(format!("hw_numa_mem.{cell}"), memory.to_string().into());
                }
            }
            "hw_numa_cpus" => {
                for (cell, cpus) in object.list(name)?.iter().enumerate() {
                    let Value::Array(cpus) = cpus else { return Err(object.bad(name, cpus, "a list")) };
                    let cpus: Vec<_> = cpus.iter().map(Value::to_string).collect();
                    properties.insert(format!("hw_numa_cpus.{cell}"), cpus.join(",").into());
                }
            }
            // The disks of the image do not matter for placement.
            "img_block_device_mapping" | "img_mappings" => {}
            _ => {
                properties.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(properties)
}

fn group(object: &Object<'_>) -> Result<InstanceGroup, ObjectError> {
    let policy = match object.text("policy")? {
        Some(policy) => policy,
        // Before 1.11 the policy was a list of one.
        None => object.texts("policies")?.into_iter().next().unwrap_or_default(),
    };
    let members = object.texts("members")?;
    Ok(InstanceGroup {
        name: object.text("uuid")?.unwrap_or_default(),
        policy,
        members: members.iter().map(|member| uuid(object, "members", member)).collect::<Result<_, _>>()?,
        hosts: object.texts("hosts")?,
        rules: object.text_map("_rules")?,
    })
}

fn retry(object: &Object<'_>) -> Result<Retry, ObjectError> {
    let mut hosts = Vec::new();
    if let Some(list) = object.object("hosts", "ComputeNodeList")? {
        for node in list.objects("objects", "ComputeNode")? {
            let text = |field| Ok::<_, ObjectError>(node.text(field)?.unwrap_or_default());
            hosts.push((text("host")?, text("hypervisor_hostname")?));
        }
    }
    Ok(Retry { num_attempts: object.unsigned("num_attempts")?.unwrap_or(0), hosts })
}

fn numa_topology(object: &Object<'_>) -> Result<InstanceNumaTopology, ObjectError> {
    let cells = object.objects("cells", "InstanceNUMACell")?;
    Ok(InstanceNumaTopology {
        cells: cells.iter().map(numa_cell).collect::<Result<_, _>>()?,
        emulator_threads_policy: object.text("emulator_threads_policy")?,
    })
}

fn numa_cell(object: &Object<'_>) -> Result<InstanceNumaCell, ObjectError> {
    // Before 1.5 pinned CPUs were in `cpuset` too, and without `pcpuset` nobody can tell which they are.
    object.must_be_set("cpuset")?;
    object.must_be_set("pcpuset")?;
    Ok(InstanceNumaCell {
        id: object.needed("id")?,
        cpuset: object.numbers("cpuset")?,
        pcpuset: object.numbers("pcpuset")?,
        memory_mb: object.needed("memory")?,
        pagesize: object.signed("pagesize")?,
        cpu_policy: object.text("cpu_policy")?,
        cpu_thread_policy: object.text("cpu_thread_policy")?,
    })
}

fn pci_requests(object: &Object<'_>) -> Result<Vec<PciRequest>, ObjectError> {
    object.objects("requests", "InstancePCIRequest")?.iter().map(pci_request).collect()
}

fn pci_request(object: &Object<'_>) -> Result<PciRequest, ObjectError> {
    let spec = |item: &Value| match item {
        Value::Object(entries) => {
            Ok(entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => Err(object.bad("spec", other, "a map")),
    };
    Ok(PciRequest {
        count: object.needed("count")?,
        spec: object.list("spec")?.iter().map(spec).collect::<Result<_, _>>()?,
        numa_policy: object.text("numa_policy")?,
        alias_name: object.text("alias_name")?,
    })
}

fn network_metadata(object: &Object<'_>) -> Result<NetworkMetadata, ObjectError> {
    let mut physnets = object.texts("physnets")?;
    physnets.sort_unstable();
    Ok(NetworkMetadata { physnets, tunneled: object.truth("tunneled") })
}

fn destination(object: &Object<'_>, spec: &mut RequestSpec) -> Result<(), ObjectError> {
    for field in ["aggregates", "forbidden_aggregates"] {
        if !object.list(field)?.is_empty() {
            let reason = "novella knows aggregates by number, and not by the UUIDs of Placement";
            return Err(ObjectError::NotServed { object: "Destination", field, reason });
        }
    }
    spec.target_host = object.text("host")?;
    spec.target_node = object.text("node")?;
    if let Some(cell) = object.object("cell", "CellMapping")? {
        spec.target_cell = cell.text("uuid")?;
    }
    spec.allow_cross_cell_move = object.truth("allow_cross_cell_move");
    Ok(())
}
