//! The trait of compute drivers, and the options that they are made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::driver_error::DriverError;
use crate::fake_config::FakeConfig;
use crate::instance::{Abilities, DriverInstance, InstanceSpec};
use crate::instance_error::{Attempt, InstanceError};
use crate::probe::BlockingExecutor;
use crate::recording::Recording;
use crate::stats::HostStats;

/// How long one reading waits for a probe by default. It is half of the default report interval, so that a host whose disk
/// hangs still reports at every tick.
pub const DEFAULT_PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Reads hosts with one kind of hypervisor, and builds instances on them if [`ComputeDriver::abilities`] says so.
///
/// What an implementation promises about instances:
/// - Every call can be repeated. What is done already succeeds without being done again.
/// - Any call can be dropped at any await, and the driver stays usable. A dropped [`ComputeDriver::spawn`] may have left the
///   guest, whole or in part. Spawning it again completes it, and [`ComputeDriver::destroy`] removes it.
/// - Guests outlive the driver. One made later on the same host lists them.
///
/// Left to the caller: deadlines. A call may take as long as the hypervisor does.
#[async_trait]
pub trait ComputeDriver: Send + Sync {
    /// The name under which the registry knows this driver.
    fn name(&self) -> &'static str;

    /// Checks that the host can be read at all. It is called once, before the first reading.
    async fn init_host(&self) -> Result<(), DriverError>;

    /// What the host has. If `refresh` is false and there was an earlier reading, that one is returned again.
    async fn get_host_stats(&self, refresh: bool) -> Result<HostStats, DriverError>;

    /// What the driver can do besides reading. A driver that only reads needs none of the methods below.
    fn abilities(&self) -> Abilities {
        Abilities::only_reads(self.name())
    }

    /// Makes and starts the guest. If it exists, it is only started.
    async fn spawn(&self, instance: &InstanceSpec) -> Result<(), InstanceError> {
        Err(unsupported(self, Attempt::Spawn(instance.uuid)))
    }

    /// Stops and removes the guest with all that it has on this host. A uuid that the host does not have is a success.
    async fn destroy(&self, uuid: Uuid) -> Result<(), InstanceError> {
        Err(unsupported(self, Attempt::Destroy(uuid)))
    }

    /// Starts a guest that is off.
    async fn power_on(&self, uuid: Uuid) -> Result<(), InstanceError> {
        Err(unsupported(self, Attempt::PowerOn(uuid)))
    }

    /// Stops a guest and keeps it.
    async fn power_off(&self, uuid: Uuid) -> Result<(), InstanceError> {
        Err(unsupported(self, Attempt::PowerOff(uuid)))
    }

    /// All instances that the host has, whoever made them, sorted by uuid.
    async fn list_instances(&self) -> Result<Vec<DriverInstance>, InstanceError> {
        Err(unsupported(self, Attempt::List))
    }
}

fn unsupported<D: ComputeDriver + ?Sized>(driver: &D, attempt: Attempt) -> InstanceError {
    let reason = match (attempt, driver.abilities().cannot_build) {
        (Attempt::List, _) => {
            format!("the {} driver does not know which instances its host has", driver.name())
        }
        (_, Some(cannot_build)) => cannot_build.to_string(),
        (_, None) => format!("the {} driver does not do this", driver.name()),
    };
    InstanceError::Unsupported { attempt, reason }
}

/// What drivers are made from. Each driver uses the options that concern it.
#[derive(Clone)]
pub struct DriverOptions {
    /// The agent's host name. The fake driver reports it as `hypervisor_hostname`.
    pub host: String,
    /// Runs calls that may block.
    pub blocking: BlockingExecutor,
    /// How long one reading waits for a probe.
    pub probe_deadline: Duration,
    /// A path on the file system whose size is reported as the host's disk.
    pub disk_path: PathBuf,
    /// The directory that holds `proc` and `sys`: `/`, or the root of a recorded tree.
    pub root: PathBuf,
    /// Records what the linux driver reads.
    pub recording: Option<Arc<Recording>>,
    /// Whether to list PCI devices.
    pub pci_devices: bool,
    /// Whether to read CPU times.
    pub cpu_stats: bool,
    /// Size and script of the fake driver. It is shared, because a swarm makes thousands of drivers from one.
    pub fake: Arc<FakeConfig>,
}

impl DriverOptions {
    /// The defaults, which describe the whole machine and its root file system.
    pub fn new(host: impl Into<String>, blocking: BlockingExecutor) -> Self {
        Self {
            host: host.into(),
            blocking,
            probe_deadline: DEFAULT_PROBE_DEADLINE,
            disk_path: "/".into(),
            root: "/".into(),
            recording: None,
            pci_devices: false,
            cpu_stats: false,
            fake: Arc::default(),
        }
    }
}
