//! Writes a `Selection`: where an instance goes, and within which limits.
//!
//! The versions written are the lowest that have the fields: Selection 1.1, SchedulerLimits 1.0, NUMATopologyLimits 1.1.

use novella_objects::document::NetworkMetadata;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How much may be used on the host, as the filters decided. The host claims within these limits. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchedulerLimits {
    /// Virtual CPUs.
    pub vcpu: Option<i64>,
    /// Memory in MiB.
    pub memory_mb: Option<i64>,
    /// Disk in GiB.
    pub disk_gb: Option<i64>,
    /// The limits of each NUMA cell, for instances that have cells.
    pub numa_topology: Option<NumaTopologyLimits>,
}

/// The limits of each NUMA cell of the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NumaTopologyLimits {
    /// How often each CPU may be allocated.
    pub cpu_allocation_ratio: f64,
    /// How often memory may be allocated.
    pub ram_allocation_ratio: f64,
    /// The networks that the cells must be near.
    pub network_metadata: Option<NetworkMetadata>,
}

/// Where an instance goes.
#[derive(Debug, Clone, PartialEq)]
pub struct NovaSelection {
    /// UUID of the compute node. Nil for a host that reported none.
    pub compute_node_uuid: Uuid,
    /// Host name of the compute service.
    pub service_host: String,
    /// Name of the compute node.
    pub nodename: String,
    /// The cell that the host is in.
    pub cell_uuid: Uuid,
    /// How much may be used on the host.
    pub limits: SchedulerLimits,
    /// The host's availability zone at the time of the decision.
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
    fn data(&self) -> Map<String, Value> {
        fields([
            ("vcpu", json!(self.vcpu)),
            ("memory_mb", json!(self.memory_mb)),
            ("disk_gb", json!(self.disk_gb)),
            ("numa_topology", json!(self.numa_topology.as_ref().map(NumaTopologyLimits::to_primitive))),
        ])
    }

    fn to_primitive(&self) -> Value {
        primitive("SchedulerLimits", "1.0", self.data())
    }

    /// The form from before there were Selections. It has only the limits that are set.
    fn to_dict(&self) -> Map<String, Value> {
        let mut limits = self.data();
        limits.retain(|_, limit| !limit.is_null());
        limits
    }
}

impl NovaSelection {
    /// The object as it is sent. There is no allocation request, because Placement is not asked; Nova writes
    /// `null` as JSON text then.
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

    /// The form from before there were Selections: `{host, nodename, limits}`.
    pub fn to_dict(&self) -> Value {
        json!({ "host": self.service_host, "nodename": self.nodename, "limits": self.limits.to_dict() })
    }
}
