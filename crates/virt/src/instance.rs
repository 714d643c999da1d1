//! Instances as a driver sees them: what it is asked to build, what it has, and whether it can build at all.
//!
//! What always holds: amounts are those that the host granted. A driver neither checks nor changes them.
//!
//! Left out on purpose: claims, ranks and vm_state. The agent owns those, and a driver only knows its guests.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use novella_objects::PowerState;
use uuid::Uuid;

/// An instance that a driver is asked to build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceSpec {
    /// The instance's uuid. A driver makes at most one guest of a uuid.
    pub uuid: Uuid,
    /// The instance's name. Several instances may have the same name.
    pub name: String,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB, root and ephemeral together.
    pub disk_gb: u64,
    /// Name of the flavor. `None` if the sizes were given one by one.
    pub flavor: Option<String>,
    /// Name or id of the image. `None` if the instance has none.
    pub image: Option<String>,
}

/// An instance that a driver has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInstance {
    /// The instance's uuid.
    pub uuid: Uuid,
    /// The instance's name.
    pub name: String,
    /// Whether the guest runs.
    pub power_state: PowerState,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
}

/// What a driver can do besides reading its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// Why the driver cannot build, destroy, start and stop instances. `None` if it can.
    pub cannot_build: Option<CannotBuild>,
    /// Whether the driver knows which instances its host has. If not, only the agent's claims say what is used.
    pub lists_instances: bool,
}

impl Abilities {
    /// Those of a driver that does everything.
    pub const ALL: Self = Self { cannot_build: None, lists_instances: true };

    /// Those of the driver called `name`, which only reads its host.
    pub fn only_reads(name: &str) -> Self {
        let cannot_build = CannotBuild {
            reason: format!("the {name} driver only reads this host").into(),
            next_step: "start and stop the workload yourself, hold its room with `novella place --claim`, and give the \
                        room back with `novella release`"
                .into(),
        };
        Self { cannot_build: Some(cannot_build), lists_instances: false }
    }
}

/// Why a driver cannot build instances, and what an operator can do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CannotBuild {
    /// Why it cannot.
    pub reason: Cow<'static, str>,
    /// What to do instead.
    pub next_step: Cow<'static, str>,
}

impl Display for CannotBuild {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.next_step)
    }
}
