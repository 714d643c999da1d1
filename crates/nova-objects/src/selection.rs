//! `Selection` 1.1, written: where an instance goes, and within which limits.
//!
//! The versions written are the lowest that have the fields: Selection 1.1, SchedulerLimits 1.0, NUMATopologyLimits 1.1.

use novella_objects::document::NetworkMetadata;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// What the host's filters allow on it; a compute claims within these.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchedulerLimits {
    /// CPUs.
    pub vcpu: Option<i64>,
    /// MiB.
    pub memory_mb: Option<i64>,
    /// GiB.
    pub disk_gb: Option<i64>,
    /// For instances with NUMA cells.
    pub numa_topology: Option<NumaTopologyLimits>,
}

/// What each NUMA cell may be overcommitted by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NumaTopologyLimits {
    /// CPUs.
    pub cpu_allocation_ratio: f64,
    /// Memory.
    pub ram_allocation_ratio: f64,
    /// Networks that the cells must be near.
    pub network_metadata: Option<NetworkMetadata>,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The compute node's identity; the nil UUID stands for one that has none.
    pub compute_node_uuid: Uuid,
    /// Its service.
    pub service_host: String,
    /// Its name as a node.
    pub nodename: String,
    /// The cell that it is in.
    pub cell_uuid: Uuid,
    /// See there.
    pub limits: SchedulerLimits,
    /// At the time of the decision.
    pub availability_zone: String,
}

fn primitive(name: &str, version: &str, data: Map<String, Value>) -> Value {
    let changes: Vec<_> = data.keys().cloned().collect();
    json!({
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": version,
        "nova_object.data": data,
        "nova_object.changes": changes,
    })
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl NumaTopologyLimits {
    fn to_primitive(&self) -> Value {
        let mut data = fields([
            ("cpu_allocation_ratio", self.cpu_allocation_ratio.into()),
            ("ram_allocation_ratio", self.ram_allocation_ratio.into()),
        ]);
        if let Some(NetworkMetadata { physnets, tunneled }) = &self.network_metadata {
            let network = fields([("physnets", json!(physnets)), ("tunneled", json!(tunneled))]);
            data.insert("network_metadata".into(), primitive("NetworkMetadata", "1.0", network));
        }
        primitive("NUMATopologyLimits", "1.1", data)
    }
}

impl SchedulerLimits {
    fn to_primitive(&self) -> Value {
        let data = fields([
            ("vcpu", json!(self.vcpu)),
            ("memory_mb", json!(self.memory_mb)),
            ("disk_gb", json!(self.disk_gb)),
            ("numa_topology", json!(self.numa_topology.as_ref().map(NumaTopologyLimits::to_primitive))),
        ]);
        primitive("SchedulerLimits", "1.0", data)
    }

    /// The form of before there were Selections: only what is limited.
    fn to_dict(&self) -> Map<String, Value> {
        let mut limits = fields([
            ("vcpu", json!(self.vcpu)),
            ("memory_mb", json!(self.memory_mb)),
            ("disk_gb", json!(self.disk_gb)),
            ("numa_topology", json!(self.numa_topology.as_ref().map(NumaTopologyLimits::to_primitive))),
        ]);
        limits.retain(|_, limit| !limit.is_null());
        limits
    }
}

impl Selection {
    /// The object as it crosses the wire. Placement has no part in it, so that there is no allocation request: Nova
    /// writes `null` as JSON text then.
    pub fn to_primitive(&self) -> Value {
        let data = fields([
            ("compute_node_uuid", json!(self.compute_node_uuid)),
            ("service_host", json!(self.service_host)),
            ("nodename", json!(self.nodename)),
            ("cell_uuid", json!(self.cell_uuid)),
            ("limits", self.limits.to_primitive()),
            ("allocation_request", "null".into()),
            ("allocation_request_version", Value::Null),
            ("availability_zone", json!(self.availability_zone)),
        ]);
        primitive("Selection", "1.1", data)
    }

    /// The form of before there were Selections: `{host, nodename, limits}`.
    pub fn to_dict(&self) -> Value {
        json!({ "host": self.service_host, "nodename": self.nodename, "limits": self.limits.to_dict() })
    }
}
