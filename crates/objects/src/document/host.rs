//! A host as its compute node reports it, with what the scheduler knows about it besides.
//!
//! Amounts are those of Nova's ComputeNode: reserved amounts are part of the used ones. An absent field has the value that
//! Nova gives it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::absence::{or_default, present};
use crate::agent_report::Reserved;
use crate::devices::PciPool;
use crate::entries::Entries;
use crate::inventory::UsedInventory;
use crate::json::Json;
use crate::numa::NumaTopology;

/// See the module documentation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host<'a> {
    /// Name of the compute service's host. No two hosts have the same name.
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    /// Name of the compute node. Absent: the same as `host`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub node: Option<Cow<'a, str>>,
    /// Uuid of the compute node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Nova cell that the host belongs to.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub cell: Option<Cow<'a, str>>,
    /// The availability zone that the host itself names. Its aggregates may name another.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<Cow<'a, str>>,
    /// Ids of the aggregates that the host is in.
    #[serde(default, deserialize_with = "or_default")]
    pub aggregates: Vec<u32>,

    /// Whether an operator disabled the service.
    #[serde(default)]
    pub disabled: bool,
    /// Whether an operator declared the service down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced_down: bool,
    /// Time since the service was last heard, seconds. Negative if its clock is ahead.
    #[serde(default)]
    pub last_seen_age_s: f64,
    /// Whether the host has been silent for too long, but perhaps not by its own fault. It is still a candidate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,

    /// Number of CPUs.
    #[serde(default)]
    pub vcpus: u64,
    /// Number of CPUs that are reserved or claimed.
    #[serde(default)]
    pub vcpus_used: u64,
    /// Memory, MiB.
    #[serde(default)]
    pub memory_mb: u64,
    /// Memory that is reserved or claimed, MiB.
    #[serde(default)]
    pub memory_mb_used: u64,
    /// Free memory, MiB, negative on an overfull host. Absent: the difference of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_ram_mb: Option<i64>,
    /// Disk, GiB.
    #[serde(default)]
    pub local_gb: u64,
    /// Disk that is reserved or claimed, GiB.
    #[serde(default)]
    pub local_gb_used: u64,
    /// Free disk, GiB, negative on an overfull host. Absent: the difference of the two. Null: the compute node has never
    /// reported, so everything that this document says about it is ignored.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub free_disk_gb: Option<Option<i64>>,
    /// Disk that remains if all thin disks grow to their full size, GiB. The smaller of this and `free_disk_gb` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_available_least: Option<i64>,
    /// What the host holds back for itself. The used amounts include it, and no instance has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reserved>,
    /// Overcommit ratio of CPUs. Absent: 4.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_allocation_ratio: Option<f64>,
    /// Overcommit ratio of memory. Absent: 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_allocation_ratio: Option<f64>,
    /// Overcommit ratio of disk. Absent: 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_allocation_ratio: Option<f64>,
    /// Number of instances. Absent: the number in `stats`, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_instances: Option<u32>,
    /// Number of instances that are being built, resized, migrated and so on. Absent: `io_workload` in `stats`, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_io_ops: Option<u32>,
    /// Number of builds that have failed in a row. Absent: the number in `stats`, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_builds: Option<u32>,

    /// Description of the CPU: a string that holds JSON, as Nova keeps it, or the object itself.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub cpu_info: Option<Json<'a>>,
    /// Kind of hypervisor, such as `QEMU` or `fake`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub hypervisor_type: Option<Cow<'a, str>>,
    /// Version of the hypervisor: major × 10^6 + minor × 10^3 + micro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_version: Option<i64>,
    /// The host's IP address.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<Cow<'a, str>>,
    /// The kinds of guests that the host can run: a list of `[architecture, hypervisor type, VM mode]`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub supported_instances: Option<Json<'a>>,
    /// Measurements: a list of `{"name": .., "value": ..}`. Absent: there are none.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Json<'a>>,
    /// Values that extra specs find if HostState has no attribute of the name.
    #[serde(default, borrow, deserialize_with = "or_default", skip_serializing_if = "Entries::is_empty")]
    pub stats: Entries<'a, Json<'a>>,
    /// Like `stats`, for a host with a novella agent: facts from the agent's configuration. No key is in both.
    #[serde(default, borrow, deserialize_with = "or_default", skip_serializing_if = "Entries::is_empty")]
    pub facts: Entries<'a, Json<'a>>,
    /// For a host with a novella agent: further keys at the top level of its report, which extra specs find too. Such a
    /// host has only the attributes that it reports, while Nova's HostState has empty ones for the others.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Entries<'a, Json<'a>>>,
    /// Instances on the host.
    #[serde(default, deserialize_with = "or_default")]
    pub instances: Vec<HostInstance>,

    /// Traits, such as `HW_CPU_X86_AVX2`.
    #[serde(default, borrow, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub traits: Vec<Cow<'a, str>>,
    /// Inventories by resource class, with what is used of each.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, UsedInventory>,
    /// NUMA cells. Absent: the host reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<NumaTopology>,
    /// Free PCI devices.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub pci_pools: Vec<PciPool>,
}

/// An instance on a host: only its uuid, or also what the placement of other instances may depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "an instance's uuid, or an object {uuid, flavor, image, group}")]
pub enum HostInstance {
    /// Only the uuid.
    Uuid(Uuid),
    /// The uuid with flavor, image and group.
    Known {
        /// The instance's uuid.
        uuid: Uuid,
        /// The flavor's id, or its name if it has no id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flavor: Option<String>,
        /// The image's properties.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<BTreeMap<String, Value>>,
        /// Name of the server group that the instance is a member of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
    },
}
