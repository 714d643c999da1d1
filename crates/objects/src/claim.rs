//! Claims: instances that a host has granted room to, and what each takes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entries::Entries;
use crate::json::Json;

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
}

impl Claim<'_> {
    /// Whether the instance takes NUMA cells or PCI devices.
    pub fn takes_devices(&self) -> bool {
        self.numa_topology.is_some() || self.pci.is_some()
    }
}
