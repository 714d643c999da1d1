//! Claims: instances that a host has granted room to, and what each takes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entries::Entries;
use crate::json::Json;

/// How late in the life of a request a claim was asked for. Of two claims for one instance, the one with the higher rank
/// survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank {
    /// The caller's number of the attempt, from 1. The caller raises it when it repeats the request.
    pub attempt: u32,
    /// Which of the hosts that the scheduler asked within the attempt this is, from 1.
    #[serde(rename = "try")]
    pub try_number: u32,
}

/// One resource that a host lacks for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What is lacking: a resource class such as `VCPU`, or a part of the host such as `NUMA cell 0`.
    pub resource: String,
    /// How much is wanted.
    pub wanted: u64,
    /// How much is free. Negative if the host has promised more than its limits allow.
    pub free: i64,
    /// The unit of both, such as `MiB`.
    pub unit: Cow<'static, str>,
}

impl Lack {
    /// The lack in words, for people.
    pub fn text(&self) -> String {
        let Self { resource, wanted, free, unit } = self;
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        if *free < 0 {
            let over = free.unsigned_abs();
            return format!("{resource}: the host is {over}{unit} above its limit, {wanted} more wanted");
        }
        format!("{resource}: {wanted}{unit} wanted, {free} free")
    }
}

/// An instance that a host has granted room to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claim<'a> {
    /// The instance's uuid.
    pub uuid: Uuid,
    /// Number of CPUs that the instance takes.
    pub vcpus: u32,
    /// Memory that the instance takes, MiB.
    pub memory_mb: u64,
    /// Disk that the instance takes, GiB, root and ephemeral together.
    pub disk_gb: u64,
    /// Name of the instance's server group. Absent if there is none.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub group: Option<Cow<'a, str>>,
    /// The flavor's id, or its name when it has no id. TypeAffinityFilter compares it.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<Cow<'a, str>>,
    /// The image as JSON text, an [`Image`](crate::request_spec::Image). ImagePropertiesWeigher compares it.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub image: Option<Json<'a>>,
    /// What the instance takes of custom resource classes.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub resources: Entries<'a, u64>,
    /// What the instance takes of the host's NUMA cells, as JSON text: a list of [`CellUsage`](crate::numa::CellUsage).
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<Json<'a>>,
    /// The PCI devices that the instance has, as JSON text: a list of [`PciPool`](crate::devices::PciPool), in which
    /// `count` is how many of the kind it has.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Json<'a>>,
    /// Time that is left of a hold when the report is made, in milliseconds. Claims have no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// The decision that chose the host. Absent if the reporter does not say.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Cow<'a, str>>,
    /// The broker user to whom the instance belongs. Absent if it belongs to everybody.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub user: Option<Cow<'a, str>>,
    /// How late in the life of its request the claim was asked for. Absent if the host does not grant claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Hash of what was asked for, to recognise a repeated request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_hash: Option<u64>,
    /// The migration that the claim is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Uuid>,
    /// The instance that the host's driver builds for the claim, as JSON text: an
    /// [`InstanceState`](crate::instance::InstanceState). Absent if the claim is only room.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Json<'a>>,
}

impl Claim<'_> {
    /// Whether the instance takes NUMA cells or PCI devices.
    pub fn takes_devices(&self) -> bool {
        self.numa_topology.is_some() || self.pci.is_some()
    }
}
