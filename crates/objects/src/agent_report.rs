//! The part of a host's report that only novella has: identity, order, claims, and more.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::claim::Claim;
use crate::entries::Entries;
use crate::inventory::Inventory;
use crate::json::Json;

/// What a host says under the key `novella` of its report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NovellaReport<'a> {
    /// Identity of the host, from its identity file.
    pub uuid: Uuid,
    /// Number of the host's agent process, counted in the identity file. It is raised and synced to disk before a process
    /// first reports, so that a report of an earlier process is recognised.
    pub incarnation: u64,
    /// Random number of the process. Two processes with one incarnation and different nonces share a cloned identity.
    pub nonce: u64,
    /// Number of this report within its incarnation, rising by at least one from report to report.
    pub seq: u64,
    /// The sender's wall clock, RFC 3339. It is shown to people and never compared.
    #[serde(borrow)]
    pub sent_at: Cow<'a, str>,
    /// Longest time between two reports of this agent, ms.
    pub interval_ms: u64,
    /// True in the last report of a process that stops in order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goodbye: bool,
    /// Why an operator disabled the host. Absent if the host is enabled.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<Cow<'a, str>>,
    /// Availability zone from the agent's configuration. Absent: the schedulers' default zone.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<Cow<'a, str>>,
    /// Amounts held back for the host itself. They count as used.
    #[serde(default)]
    pub reserved: Reserved,
    /// How far each amount may be overcommitted.
    #[serde(default)]
    pub allocation_ratios: AllocationRatios,
    /// Disk that is really left for instances, GiB: Nova's `disk_available_least`. If it is less than the total without what is
    /// reserved and claimed, it counts instead. Absent if the host does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_available_least: Option<i64>,
    /// The instances that the host has granted room to. Placement counts these and `reserved` as used, and nothing else.
    #[serde(default, borrow)]
    pub claims: Vec<Claim<'a>>,
    /// Room that the host keeps for a while, each with `hold_ms`. Schedulers count it as reserved.
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Claim<'a>>,
    /// True if the host grants claims and holds itself, so that a scheduler asks it before it answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grants: bool,
    /// Instances that ended on this host within the last hour, at most the newest 1,024.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Uuid>,
    /// The newest instances whose builds have failed here and that have no room any more: by uuid, each an
    /// [`InstanceState`](crate::instance::InstanceState) as JSON text.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub failed_instances: Entries<'a, Json<'a>>,
    /// Traits, such as `HW_CPU_X86_AVX2` or `CUSTOM_GOLD`.
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub traits: Vec<Cow<'a, str>>,
    /// What the host has of custom resource classes.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub resources: Entries<'a, Inventory>,
    /// Facts that the operator wrote in the agent's configuration. Extra specs can ask for them.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub facts: Entries<'a, Json<'a>>,
    /// The host's IP address.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<Cow<'a, str>>,
    /// The kinds of guests that the host can run, as JSON text: a list of `[architecture, hypervisor type, VM mode]`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub supported_instances: Option<Json<'a>>,
    /// Measurements for MetricsFilter and MetricsWeigher, as JSON text: a list of `{name, value, timestamp, source}`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Json<'a>>,
    /// NUMA cells, as JSON text: a [`NumaTopology`](crate::numa::NumaTopology). Usage that is given in it is the host's
    /// own, as `reserved` is; what instances use is in their claims.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<Json<'a>>,
    /// All PCI devices for instances, as JSON text: a list of [`PciPool`](crate::devices::PciPool). Devices that claims
    /// have taken are counted too.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub pci_pools: Option<Json<'a>>,
    /// Measured load. It is shown, and no amount is ever compared with it.
    #[serde(default)]
    pub measured: Measured,
    /// Number of instances that are being built, resized, migrated and so on: Nova's `io_workload`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_io_ops: u32,
    /// Number of builds that have failed in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_builds: u32,
    /// Driver probes that did not answer in time: the name, and the age in ms of the value reported instead.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub stale_probes: Entries<'a, u64>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Amounts held back for the host itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reserved {
    /// Number of CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
}

/// Overcommit: a host's capacity is its total × the ratio. Nova's `*_allocation_ratio`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationRatios {
    /// Ratio of CPUs, by default 4.0 (Nova's `initial_cpu_allocation_ratio`).
    pub cpu: f64,
    /// Ratio of memory, by default 1.0.
    pub ram: f64,
    /// Ratio of disk, by default 1.0.
    pub disk: f64,
}

impl Default for AllocationRatios {
    fn default() -> Self {
        Self { cpu: 4.0, ram: 1.0, disk: 1.0 }
    }
}

/// Load that the host measured of itself, for people and dashboards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Load average over one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_1m: Option<f64>,
    /// Memory that the kernel calls available, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_available_mb: Option<u64>,
    /// Free space of the file system that the agent is configured to watch, GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free_gb: Option<u64>,
    /// Time since the host booted, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
}
