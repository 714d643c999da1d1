//! What an operator asks for: a flavor, how many, and where it may go.
//!
//! Fields and units are those of Nova's RequestSpec and Flavor. A request carries its instances' uuids from the caller,
//! so that repeating it is safe.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The size of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flavor {
    /// Name, if it has one.
    pub name: String,
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
    /// Scheduler hints: each value a string or a list of them.
    pub scheduler_hints: BTreeMap<String, Value>,
    /// Who asks.
    pub project_id: Option<String>,
    /// Which attempt of the caller this is, from 1.
    pub attempt: u32,
}

/// Arguments of our `select_destinations` (1.x).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectDestinations {
    /// What is asked.
    pub request_spec: RequestSpec,
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
