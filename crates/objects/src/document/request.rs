//! A request as a document: Nova's RequestSpec, with the flavor's sizes at the top level.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::absence::or_default;
use crate::devices::PciRequest;
use crate::numa::{InstanceNumaTopology, NetworkMetadata};
use crate::request_spec::{InstanceGroup, Retry};

/// See the module documentation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Any number or text, which the result repeats. Absent: the request's place in the document, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// What kind of request this is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The filters to run. Absent: those of the options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<FilterChoice>,

    /// Number of CPUs of the flavor.
    pub vcpus: u32,
    /// Memory of the flavor, MiB.
    pub memory_mb: u64,
    /// Root disk of the flavor, GiB.
    pub root_gb: u64,
    /// Ephemeral disk of the flavor, GiB.
    pub ephemeral_gb: u64,
    /// Swap of the flavor, MiB.
    #[serde(skip_serializing_if = "is_zero")]
    pub swap: u64,
    /// Whether the instances boot from a volume, so that the root disk is not on the host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_bfv: bool,
    /// The flavor's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flavor_name: Option<String>,
    /// The flavor's id, if it is not the same as the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flavor_id: Option<String>,
    /// The flavor's extra specs.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_specs: BTreeMap<String, String>,
    /// The image's properties. Without properties, id and disk format there is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<BTreeMap<String, Value>>,
    /// The image's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The image's disk format, such as `qcow2` or `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_disk_format: Option<String>,

    /// Scheduler hints by name. A value is a string or a list of strings.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub hints: BTreeMap<String, Value>,
    /// The server group that the instances belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<InstanceGroup>,
    /// Only these hosts are chosen, and filters are skipped. Empty: no host is forced.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub force_hosts: Vec<String>,
    /// Only these compute nodes are chosen, and filters are skipped. Empty: no node is forced.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub force_nodes: Vec<String>,
    /// These hosts are never chosen.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub ignore_hosts: Vec<String>,
    /// Only this host is chosen, and only if the filters let it pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_host: Option<String>,
    /// Only this compute node of the `target_host` is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// The Nova cell that an instance is to be moved in. It is weighed only if `allow_cross_cell_move` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cell: Option<String>,
    /// Whether hosts outside `target_cell` get a lower weight than hosts in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_cross_cell_move: bool,
    /// Only hosts of this availability zone are chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Lists of aggregate ids. A chosen host is in at least one aggregate of each list.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub required_aggregates: Vec<Vec<u32>>,
    /// Ids of aggregates. A chosen host is in none of them.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub forbidden_aggregates: Vec<u32>,
    /// Earlier attempts to place the same request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The project (tenant) that the instances belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// NUMA cells of each instance. Absent: those that extra specs and image ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<InstanceNumaTopology>,
    /// PCI devices of each instance, in the order in which they are taken.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub pci_requests: Vec<PciRequest>,
    /// Networks that the host's NUMA cells must be near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_metadata: Option<NetworkMetadata>,

    /// Number of instances. Absent: the number of uuids, or 1 if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_instances: Option<u32>,
    /// One uuid for each instance. Absent: uuids are made up, the same every time.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub instance_uuids: Vec<Uuid>,
    /// Seed for options that pick at random.
    #[serde(skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// Whether the result lists the next best hosts of each instance too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub alternates: bool,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The caller's name for a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or a text")]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// The filters that run for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a filter set, or a list of filters by name")]
pub enum FilterChoice {
    /// Name of a list in the document's `filter_sets`.
    Set(String),
    /// Names of filters, in the order in which they run.
    List(Vec<String>),
}
