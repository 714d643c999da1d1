//! Rows that the command line and dashboards show. Field names do not change, because operators' scripts read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::devices::PciPool;
use crate::inventory::UsedInventory;
use crate::numa::NumaTopology;

/// The state of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostStatus {
    /// The host reports in time.
    Up,
    /// The host does not report, but perhaps not by its own fault. Or it reports, but has not answered under its own queue. It is
    /// still a candidate, after all others.
    Suspect,
    /// An operator disabled the host.
    Disabled,
    /// The host was silent for too long, or its agent said goodbye.
    Down,
}

impl HostStatus {
    /// The word for the state in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Disabled => "disabled",
            Self::Down => "down",
        }
    }
}

/// Something that an operator must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostWarning {
    /// Another identity reports under this name. Its reports are refused.
    DuplicateName {
        /// The refused identity.
        other: Uuid,
    },
    /// Two processes report with copies of one identity file. The one that was heard first is kept, and the other is
    /// refused.
    ClonedIdentity {
        /// The host name under which the refused process reports.
        other_host: String,
    },
    /// Another broker user reports as this host than the one to whom it belongs. Its reports are refused.
    OtherUser {
        /// The refused user.
        user: String,
    },
    /// The host reports, but does not answer under its own queue. It is placed on after all others.
    NoAnswer,
    /// A new identity has taken the name over.
    TakenOver {
        /// The identity that had the name before.
        previous: Uuid,
    },
    /// A driver probe gave no value, so an older one is reported, or none if there never was one.
    StaleProbe {
        /// Name of the probe.
        probe: String,
        /// Age of the reported value, ms.
        age_ms: u64,
    },
}

impl HostWarning {
    /// Whether another process or user reports as the host, or with its identity, so that reports of one may be taken for the
    /// other's.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::DuplicateName { .. } | Self::ClonedIdentity { .. } | Self::OtherUser { .. })
    }
}

/// What became of a host that all schedulers were asked to forget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenHost {
    /// The schedulers that answered, sorted by name.
    pub schedulers: Vec<ForgottenBy>,
    /// What went wrong with other schedulers, for people.
    pub failures: Vec<String>,
}

/// Whether one scheduler knew a host that it was asked to forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenBy {
    /// The name of the scheduler.
    pub scheduler: String,
    /// Whether it knew the host. It does not know it any more.
    pub known: bool,
}

/// Amounts of one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAmounts {
    /// Number of CPUs.
    pub vcpus: u64,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
}

/// One row of `novella host list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSummary {
    /// Name of the host.
    pub host: String,
    /// Identity of the host. Null for reporters that have none.
    pub uuid: Option<Uuid>,
    /// The state of the host.
    pub state: HostStatus,
    /// Availability zone.
    pub availability_zone: String,
    /// The zones that the host's aggregates name, if they name more than one. A host should be in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicting_zones: Vec<String>,
    /// Number of CPUs.
    pub vcpus: u64,
    /// Number of CPUs that are reserved, claimed or held by a reservation.
    pub vcpus_used: u64,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Memory that is reserved, claimed or held, MiB.
    pub memory_mb_used: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
    /// Disk that is reserved, claimed or held, GiB.
    pub disk_gb_used: u64,
    /// How much of each amount may be used: what the host has, times its allocation ratio. Schedulers before 1.8 do not
    /// say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<HostAmounts>,
    /// The part of what is used that reservations hold. Schedulers before 1.8 do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HostAmounts>,
    /// Number of instances that the host reported.
    pub instances: u32,
    /// Further resource classes by name. `used` is what is claimed or held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, UsedInventory>,
    /// Traits, in the order of the host's report.
    #[serde(default)]
    pub traits: Vec<String>,
    /// Names of the host's aggregates in the policy of the scheduler that answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<String>,
    /// Facts that the host reported, if they were asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, Value>,
    /// Number of reservations that no report has confirmed yet.
    pub reservations: u32,
    /// Time since the last report arrived, seconds.
    pub report_age_s: f64,
    /// Why the host is disabled. Null if it is not.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// Problems that an operator must look at.
    #[serde(default)]
    pub warnings: Vec<HostWarning>,
    /// Number of the host's claims whose instances so many other hosts claim that filters do not see them on this host. The
    /// claims of all but one host are wrong.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted_claims: u32,
    /// By how many seconds the host's clock is ahead of the scheduler's; negative if it is behind. Absent if they agree
    /// within 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_s: Option<f64>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// `novella host show`: the row, and everything that the host reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostDetail {
    /// The row of `novella host list`.
    #[serde(flatten)]
    pub summary: HostSummary,
    /// All capabilities in the last report.
    pub capabilities: Value,
    /// Incarnation of the process that reported last.
    pub incarnation: Option<u64>,
    /// Number of the last report within the incarnation.
    pub seq: Option<u64>,
    /// The sender's wall clock at the last report. It is shown and never compared.
    pub sent_at: Option<String>,
    /// The host's resources in the form of Nova's `show_host_resources`.
    pub resource: Value,
    /// NUMA cells, with what is claimed or held of each. Absent if the host reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<NumaTopology>,
    /// PCI devices for instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci_pools: Vec<PciPoolDetail>,
}

/// PCI devices of one kind on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PciPoolDetail {
    /// Number of devices that are neither claimed nor held.
    pub free: u32,
    /// The kind of device. Its `count` is the number of all devices.
    #[serde(flatten)]
    pub pool: PciPool,
}

/// One row of `novella service list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSummary {
    /// Name of the service, such as `compute`, `volume` or `scheduler`.
    pub service: String,
    /// Name of the service's host.
    pub host: String,
    /// The state of the host.
    pub state: HostStatus,
    /// Time since the last report arrived, seconds.
    pub report_age_s: f64,
}

/// A server group, as the policy and the map of one scheduler know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerGroupSummary {
    /// Name of the group.
    pub name: String,
    /// The policy of the group, such as `anti-affinity`. Null if the scheduler's policy has no rule for the group.
    pub policy: Option<String>,
    /// How many members one host may have. Null if the group's policy has no such limit.
    pub max_server_per_host: Option<u32>,
    /// Number of members.
    pub instances: u64,
    /// The members, if one group was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<GroupMember>,
}

/// An instance of a server group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Uuid of the instance.
    pub instance_uuid: Uuid,
    /// Name of the host that it is on, or that is held for it.
    pub host: String,
    /// Whether a reservation holds its room. If not, the host has reported the instance.
    pub held: bool,
}
