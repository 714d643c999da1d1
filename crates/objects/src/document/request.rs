//! A request as a document: Nova's RequestSpec, with the flavor's sizes at the top.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{NetworkMetadata, or_default};
use crate::request_spec::{InstanceGroup, Retry};

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Given back with the result; absent: the request's place in the document, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// What sort of request it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The filters to run; absent: those of the options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<FilterChoice>,

    /// CPUs.
    #[serde(default)]
    pub vcpus: u32,
    /// MiB.
    #[serde(default)]
    pub memory_mb: u64,
    /// GiB.
    #[serde(default)]
    pub root_gb: u64,
    /// GiB.
    #[serde(default)]
    pub ephemeral_gb: u64,
    /// MiB.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub swap: u64,
    /// Whether the root disk is a volume elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bfv: bool,
    /// The flavor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor_name: Option<String>,
    /// The flavor's id, where it is not the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor_id: Option<String>,
    /// The flavor's.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_specs: BTreeMap<String, String>,
    /// The image's properties; absent or null: there is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<BTreeMap<String, Value>>,
    /// The image's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// `qcow2`, `raw`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_disk_format: Option<String>,

    /// Scheduler hints: each value a text or a list of texts.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub hints: BTreeMap<String, Value>,
    /// The server group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<InstanceGroup>,
    /// Only these hosts, and no filters.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub force_hosts: Vec<String>,
    /// Only these nodes, and no filters.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub force_nodes: Vec<String>,
    /// Never these hosts.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub ignore_hosts: Vec<String>,
    /// Only this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_host: Option<String>,
    /// With `target_host`: only this node of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// The cell that an instance is to be moved in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_cell: Option<String>,
    /// Whether it may leave that cell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_cross_cell_move: bool,
    /// Only hosts of this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Only hosts that are in one of each of these lists of aggregates.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub required_aggregates: Vec<Vec<u32>>,
    /// No hosts of these aggregates.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub forbidden_aggregates: Vec<u32>,
    /// Hosts that were tried before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// NUMA cells of the instance; absent: those that extra specs and image ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<InstanceNumaTopology>,
    /// PCI devices, in the order in which they are taken.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub pci_requests: Vec<PciRequest>,
    /// Networks that the instance's cells must be near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_metadata: Option<NetworkMetadata>,

    /// How many; absent: as many as there are uuids, or one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_instances: Option<u32>,
    /// One for each instance; absent: they are made up, the same each time.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub instance_uuids: Vec<Uuid>,
    /// Where options pick at random: the seed of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// Whether each instance's next best hosts are asked too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alternates: bool,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What a request is called by who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or a text")]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// Which filters run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a filter set, or a list of filters by name")]
pub enum FilterChoice {
    /// A list of the document's `filter_sets`.
    Set(String),
    /// Filters by name, in the order they run.
    List(Vec<String>),
}

/// The NUMA cells of an instance: Nova's InstanceNUMATopology.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNumaTopology {
    /// In their order.
    pub cells: Vec<InstanceNumaCell>,
    /// `share` or `isolate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator_threads_policy: Option<String>,
}

/// One NUMA cell of an instance: Nova's InstanceNUMACell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNumaCell {
    /// Its number in the instance.
    pub id: u32,
    /// Virtual CPUs that share the host's.
    #[serde(default)]
    pub cpuset: Vec<u32>,
    /// Virtual CPUs that have one of the host's to themselves.
    #[serde(default)]
    pub pcpuset: Vec<u32>,
    /// MiB.
    pub memory_mb: u64,
    /// KiB; or -1 for small, -2 for large, -3 for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagesize: Option<i64>,
    /// `shared`, `dedicated` or `mixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_policy: Option<String>,
    /// `prefer`, `isolate` or `require`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_thread_policy: Option<String>,
}

/// PCI devices of one kind that an instance asks for: Nova's InstancePCIRequest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciRequest {
    /// How many.
    pub count: u32,
    /// What a device must have; one of these suffices.
    pub spec: Vec<BTreeMap<String, Value>>,
    /// `required`, `preferred`, `legacy` or `socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_policy: Option<String>,
    /// The alias that the request was written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_name: Option<String>,
}
