//! A host as its compute node reports it, with what the scheduler knows of it besides.
//!
//! Amounts are what Nova's ComputeNode holds: reserved amounts are part of the used ones. What a host does not say has the
//! value that Nova gives it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{or_default, present};
use crate::capabilities::Inventory;
use crate::entries::Entries;
use crate::json::Json;

/// See the module's text.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host<'a> {
    /// Name of the compute service's host; no two hosts have the same.
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    /// Compute node name; absent: as `host`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub node: Option<Cow<'a, str>>,
    /// Identity of the compute node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Cell that the host belongs to.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub cell: Option<Cow<'a, str>>,
    /// The zone that the host itself names. Aggregates may name another.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<Cow<'a, str>>,
    /// Ids of the aggregates it is in.
    #[serde(default, deserialize_with = "or_default")]
    pub aggregates: Vec<u32>,

    /// An operator disabled the service.
    #[serde(default)]
    pub disabled: bool,
    /// An operator declared the service down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced_down: bool,
    /// Seconds since the service was last heard; negative if its clock is ahead.
    #[serde(default)]
    pub last_seen_age_s: f64,
    /// Silent for too long, but not for a reason of its own: placed on nevertheless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,

    /// CPUs.
    #[serde(default)]
    pub vcpus: u64,
    /// Reserved and claimed CPUs.
    #[serde(default)]
    pub vcpus_used: u64,
    /// MiB.
    #[serde(default)]
    pub memory_mb: u64,
    /// Reserved and claimed MiB.
    #[serde(default)]
    pub memory_mb_used: u64,
    /// MiB, negative on an overfull host; absent: the difference of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_ram_mb: Option<i64>,
    /// GiB.
    #[serde(default)]
    pub local_gb: u64,
    /// Reserved and claimed GiB.
    #[serde(default)]
    pub local_gb_used: u64,
    /// GiB, negative on an overfull host; absent: the difference of the two. Null: the compute node has never reported,
    /// and all that it says here of itself is ignored.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub free_disk_gb: Option<Option<i64>>,
    /// GiB that remain if all thin disks grow to their full size; the smaller of the two counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_available_least: Option<i64>,
    /// Absent: 4.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_allocation_ratio: Option<f64>,
    /// Absent: 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_allocation_ratio: Option<f64>,
    /// Absent: 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_allocation_ratio: Option<f64>,
    /// Absent: the number in `stats`, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_instances: Option<u32>,
    /// Absent: `io_workload` in `stats`, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_io_ops: Option<u32>,
    /// Absent: the number in `stats`, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_builds: Option<u32>,

    /// A text that holds JSON, as Nova keeps it, or the object itself.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub cpu_info: Option<Json<'a>>,
    /// `QEMU`, `fake`, ...
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub hypervisor_type: Option<Cow<'a, str>>,
    /// major × 10^6 + minor × 10^3 + micro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor_version: Option<i64>,
    /// Its address.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<Cow<'a, str>>,
    /// `[architecture, hypervisor type, VM mode]`, all that it can run.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub supported_instances: Option<Json<'a>>,
    /// `[{"name": .., "value": ..}]`; absent: none.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Json<'a>>,
    /// What extra specs find where HostState has no such attribute.
    #[serde(default, borrow, deserialize_with = "or_default", skip_serializing_if = "Entries::is_empty")]
    pub stats: Entries<'a, Json<'a>>,
    /// The same of a novella agent: what its operator wrote in its configuration. No key is in both.
    #[serde(default, borrow, deserialize_with = "or_default", skip_serializing_if = "Entries::is_empty")]
    pub facts: Entries<'a, Json<'a>>,
    /// Of a host that a novella agent reports: further keys at the top level of its report, which extra specs find too.
    /// Such a host has no attributes but those that are told, where Nova's HostState has empty ones.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Entries<'a, Json<'a>>>,
    /// Instances that are there.
    #[serde(default, deserialize_with = "or_default")]
    pub instances: Vec<HostInstance>,

    /// Traits, such as `HW_CPU_X86_AVX2`.
    #[serde(default, borrow, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub traits: Vec<Cow<'a, str>>,
    /// Inventories by resource class, with what is used of each.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, UsedInventory>,
    /// Its NUMA cells; absent: it reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<NumaTopology>,
    /// PCI devices to give away.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub pci_pools: Vec<PciPool>,
}

/// An instance on a host: its uuid alone, or with what others' placement may depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "an instance's uuid, or an object {uuid, flavor, image, group}")]
pub enum HostInstance {
    /// Only which.
    Uuid(Uuid),
    /// With its kind.
    Known {
        /// Which.
        uuid: Uuid,
        /// Its flavor's id, or name when it has no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flavor: Option<String>,
        /// Its image's properties.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<BTreeMap<String, Value>>,
        /// The server group that it is a member of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
    },
}

/// One resource class of a host, in the terms of Placement's inventories.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsedInventory {
    /// How much there is.
    pub total: u64,
    /// How much of it is held back.
    pub reserved: u64,
    /// Smallest amount one request may ask.
    pub min_unit: u64,
    /// Largest amount one request may ask.
    pub max_unit: u64,
    /// Amounts must be a multiple of this.
    pub step_size: u64,
    /// Capacity is (total − reserved) × this.
    pub allocation_ratio: f64,
    /// How much is taken.
    pub used: u64,
}

impl Default for UsedInventory {
    fn default() -> Self {
        let Inventory { total, reserved, min_unit, max_unit, step_size, allocation_ratio } =
            Inventory::default();
        Self { total, reserved, min_unit, max_unit, step_size, allocation_ratio, used: 0 }
    }
}

/// The NUMA cells of a host, with what is used of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaTopology {
    /// In the order in which the host reports them.
    pub cells: Vec<NumaCell>,
}

/// One NUMA cell of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaCell {
    /// Its number on that host.
    pub id: u32,
    /// CPUs for instances that share them.
    #[serde(default)]
    pub cpuset: Vec<u32>,
    /// CPUs for instances that have them to themselves.
    #[serde(default)]
    pub pcpuset: Vec<u32>,
    /// MiB.
    #[serde(default)]
    pub memory_mb: u64,
    /// Shared CPUs in use.
    #[serde(default)]
    pub cpu_usage: u64,
    /// MiB in use.
    #[serde(default)]
    pub memory_usage_mb: u64,
    /// CPUs that some instance has to itself.
    #[serde(default)]
    pub pinned_cpus: Vec<u32>,
    /// CPUs that are threads of one core, set by set.
    #[serde(default)]
    pub siblings: Vec<Vec<u32>>,
    /// Memory by page size.
    #[serde(default)]
    pub mempages: Vec<MemoryPages>,
    /// Networks that are near this cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_metadata: Option<NetworkMetadata>,
    /// The socket it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u32>,
}

/// Memory pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPages {
    /// KiB.
    pub size_kb: u64,
    /// Pages.
    pub total: u64,
    /// Pages that are taken.
    #[serde(default)]
    pub used: u64,
    /// Pages that are held back.
    #[serde(default)]
    pub reserved: u64,
}

/// Networks by what carries them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkMetadata {
    /// Names of physical networks.
    #[serde(default)]
    pub physnets: Vec<String>,
    /// Whether there are tunnelled ones.
    #[serde(default)]
    pub tunneled: bool,
}

/// PCI devices of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PciPool {
    /// Of whose make, such as `8086`.
    pub vendor_id: String,
    /// Which of its products.
    pub product_id: String,
    /// `type-PCI`, `type-PF`, `type-VF` or `vdpa`.
    pub dev_type: String,
    /// The cell that they are near, if one is known.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// How many are free.
    pub count: u32,
    /// All else that requests can ask for, such as `physical_network`.
    #[serde(flatten)]
    pub tags: BTreeMap<String, Value>,
}
