//! What an operator asks for: a flavor, how many, and where it may go.
//!
//! Fields and units are those of Nova's RequestSpec and Flavor. A request carries its instances' uuids from the caller,
//! so that repeating it is safe.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::document::{InstanceNumaTopology, NetworkMetadata, PciRequest};

/// The size of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flavor {
    /// Name, if it has one.
    pub name: String,
    /// Nova's flavor id, where it is not the name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// Root disk, GiB.
    pub root_gb: u64,
    /// Ephemeral disk, GiB.
    pub ephemeral_gb: u64,
    /// Swap, MiB.
    pub swap: u64,
    /// Extra specs, such as `capabilities:cpu_info:arch`.
    pub extra_specs: BTreeMap<String, String>,
}

impl Flavor {
    /// GiB that an instance of this flavor takes from a host, in the arithmetic of Nova's consume: swap is not charged.
    pub fn disk_gb(&self) -> u64 {
        self.root_gb.saturating_add(self.ephemeral_gb)
    }

    /// What tells this flavor from others: its id, or its name when it has no other.
    pub fn identity(&self) -> &str {
        if self.id.is_empty() { &self.name } else { &self.id }
    }
}

/// The image that instances are made from, as far as placement looks at it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its properties as the image service has them, such as `hw_architecture`; legacy names are read too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Value>,
    /// `qcow2`, `raw`, ...; hosts say by traits which they can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<String>,
}

/// A server group as its owner knows it: who belongs to it and where they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceGroup {
    /// Its name or uuid. A scheduler adds the members and hosts that it knows by this name, and takes policy and rules
    /// from its own policy where they are absent here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// Instances of the group, those of this request among them.
    pub members: Vec<Uuid>,
    /// Hosts of members.
    pub hosts: Vec<String>,
    /// `max_server_per_host` for `anti-affinity`, as Nova writes it: a number in a text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
}

/// Hosts that were tried before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often the request was placed.
    pub num_attempts: u32,
    /// Host and node of each attempt.
    pub hosts: Vec<(String, String)>,
}

/// One request for one or more equal instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSpec {
    /// One uuid per instance, made by the caller; its length is the number of instances.
    pub instance_uuids: Vec<Uuid>,
    /// How much each takes.
    pub flavor: Flavor,
    /// Only hosts of this zone.
    pub availability_zone: Option<String>,
    /// Only these hosts; filters are skipped, as Nova does for `force_hosts`.
    pub force_hosts: Vec<String>,
    /// Never these hosts; names compare without case, as in Nova.
    pub ignore_hosts: Vec<String>,
    /// Only this host, filters applied.
    pub target_host: Option<String>,
    /// With `target_host`: only this node of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// The cell that an instance is to be moved in; weighed only if `allow_cross_cell_move`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cell: Option<String>,
    /// Whether hosts of other cells than `target_cell` may be chosen, at a lower weight.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_cross_cell_move: bool,
    /// Only these nodes, names exact; filters are skipped as with `force_hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub force_nodes: Vec<String>,
    /// Only hosts that are in one aggregate of each of these lists of ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_aggregates: Vec<Vec<u32>>,
    /// Only hosts that are in none of these aggregates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden_aggregates: Vec<u32>,
    /// The image, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Boots from a volume: the image's format does not matter, and the root disk is none of the host's
    /// ([`Self::local_flavor`]).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_bfv: bool,
    /// The server group, if the instances belong to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_group: Option<InstanceGroup>,
    /// Hosts tried before, if this is a retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// NUMA cells of each instance; absent: those that flavor and image ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<InstanceNumaTopology>,
    /// PCI devices of each instance, in the order in which they are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pci_requests: Vec<PciRequest>,
    /// Networks that NUMA cells must be near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_metadata: Option<NetworkMetadata>,
    /// Scheduler hints: each value a string or a list of them.
    pub scheduler_hints: BTreeMap<String, Value>,
    /// Who asks.
    pub project_id: Option<String>,
    /// Which attempt of the caller this is, from 1.
    pub attempt: u32,
}

impl RequestSpec {
    /// The flavor as its host must bear it: without the root disk of a volume-backed instance, as Nova asks Placement and
    /// its resource tracker counts.
    pub fn local_flavor(&self) -> Cow<'_, Flavor> {
        if self.is_bfv && self.flavor.root_gb > 0 {
            Cow::Owned(Flavor { root_gb: 0, ..self.flavor.clone() })
        } else {
            Cow::Borrowed(&self.flavor)
        }
    }
}

/// Arguments of our `select_destinations` (1.x).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectDestinations {
    /// What is asked.
    pub request_spec: RequestSpec,
    /// Name or id of a flavor in the scheduler's policy; replaces the request's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// The service to place on, if it is not compute: by the capacity that it reports, with the flavor's root disk as the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Decide and explain, but reserve nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// How long the reservation holds unless a report confirms it, seconds; absent: the scheduler's setting.
    #[serde(default)]
    pub hold_s: Option<u64>,
    /// Alternates wanted per instance; absent: the scheduler's setting.
    #[serde(default)]
    pub alternates: Option<u32>,
}
