//! Rows that the command line and dashboards show. Field names are an interface that others script against.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::document::{NumaTopology, PciPool, UsedInventory};

/// Whether a host can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Reporting in time.
    Up,
    /// Not reporting, but for reasons that need not be its own: still a candidate.
    Suspect,
    /// Its operator said so.
    Disabled,
    /// Silent too long, or said goodbye.
    Down,
}

impl HostState {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Disabled => "disabled",
            Self::Down => "down",
        }
    }
}

/// Something an operator must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostWarning {
    /// Another identity reports under this name; its reports are refused.
    DuplicateName {
        /// The refused identity.
        other: Uuid,
    },
    /// Two processes report with one identity file; the later is refused.
    ClonedIdentity {
        /// The host name the refused process gave.
        other_host: String,
    },
    /// A new identity took the name over.
    TakenOver {
        /// The identity before.
        previous: Uuid,
    },
    /// A driver probe did not answer; an older value is reported.
    StaleProbe {
        /// Which.
        probe: String,
        /// How old its value is, ms.
        age_ms: u64,
    },
}

/// One row of `novella host list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSummary {
    /// Service host name.
    pub host: String,
    /// Identity; null for reporters that have none.
    pub uuid: Option<Uuid>,
    /// See [`HostState`].
    pub state: HostState,
    /// Zone.
    pub availability_zone: String,
    /// CPUs.
    pub vcpus: u64,
    /// Reserved, claimed and held.
    pub vcpus_used: u64,
    /// MiB.
    pub memory_mb: u64,
    /// MiB reserved, claimed and held.
    pub memory_mb_used: u64,
    /// GiB.
    pub disk_gb: u64,
    /// GiB reserved, claimed and held.
    pub disk_gb_used: u64,
    /// Instances the host reported.
    pub instances: u32,
    /// Further resource classes, each with what is claimed and held of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, UsedInventory>,
    /// Traits, in the order of its report.
    #[serde(default)]
    pub traits: Vec<String>,
    /// Reservations not yet seen in a report.
    pub reservations: u32,
    /// Seconds since the last report arrived.
    pub report_age_s: f64,
    /// Why it is disabled.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// What needs a look.
    #[serde(default)]
    pub warnings: Vec<HostWarning>,
}

/// `novella host show`: the row, and everything that the host reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostDetail {
    /// The row.
    #[serde(flatten)]
    pub summary: HostSummary,
    /// The last report's capabilities, whole.
    pub capabilities: Value,
    /// The reporting process.
    pub incarnation: Option<u64>,
    /// Its last report.
    pub seq: Option<u64>,
    /// The sender's wall clock at that report; shown, never trusted.
    pub sent_at: Option<String>,
    /// Nova's `show_host_resources`.
    pub resource: Value,
    /// Names of the aggregates that it is in, by the policy of the scheduler that answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<String>,
    /// Its NUMA cells, with what is claimed and held of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<NumaTopology>,
    /// Its PCI devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci_pools: Vec<PciPoolDetail>,
}

/// PCI devices of one kind on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PciPoolDetail {
    /// How many are neither claimed nor held.
    pub free: u32,
    /// The kind; `count` is how many there are.
    #[serde(flatten)]
    pub pool: PciPool,
}

/// One row of `novella service list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSummary {
    /// `compute`, `volume`, `scheduler`, ...
    pub service: String,
    /// Its host.
    pub host: String,
    /// See [`HostState`].
    pub state: HostState,
    /// Seconds since it was last heard.
    pub report_age_s: f64,
}
