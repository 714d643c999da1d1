//! What a compute driver is, what it is made from, and how it fails.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::fake::FakeConfig;
use crate::probe::ProbeError;
use crate::stats::HostStats;

/// How long one reading waits for a probe. Half of the default report interval, so that a host whose disk hangs still
/// reports at every tick.
pub const DEFAULT_PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// The path whose file system is reported unless the operator names another.
pub const DEFAULT_DISK_PATH: &str = "/";

/// Runs a job that may block for ever, on a thread that may be lost to it. Tests may run it inline.
///
/// A job dropped without being run counts as a failed probe, so an executor that shuts down may simply drop them.
pub type BlockingExecutor = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// The way to one kind of hypervisor.
#[async_trait]
pub trait ComputeDriver: Send + Sync {
    /// The name under which the registry knows this driver.
    fn name(&self) -> &'static str;

    /// Called once, before the first reading: fails now if the host cannot be read at all.
    async fn init_host(&self) -> Result<(), DriverError>;

    /// What the host has. With `refresh` false the last reading answers, if there is one.
    async fn get_host_stats(&self, refresh: bool) -> Result<HostStats, DriverError>;
}

/// What a driver is made from. A driver takes what concerns it.
#[derive(Clone)]
pub struct DriverOptions {
    /// The agent's host name; what the fake driver reports as `hypervisor_hostname`.
    pub host: String,
    /// Where calls that may block are run.
    pub blocking: BlockingExecutor,
    /// How long one reading waits for a probe.
    pub probe_deadline: Duration,
    /// A path on the file system whose size is reported as the host's disk.
    pub disk_path: PathBuf,
    /// Where `proc` and `sys` are found: `/`, or the root of a recorded tree.
    pub root: PathBuf,
    /// Whether PCI devices are listed.
    pub pci_devices: bool,
    /// Whether CPU times are read.
    pub cpu_stats: bool,
    /// Size and script of the fake driver; shared, because a swarm makes thousands from one.
    pub fake: Arc<FakeConfig>,
}

impl DriverOptions {
    /// The defaults: the whole machine, and its root file system.
    pub fn new(host: impl Into<String>, blocking: BlockingExecutor) -> Self {
        Self {
            host: host.into(),
            blocking,
            probe_deadline: DEFAULT_PROBE_DEADLINE,
            disk_path: DEFAULT_DISK_PATH.into(),
            root: "/".into(),
            pci_devices: false,
            cpu_stats: false,
            fake: Arc::default(),
        }
    }
}

/// Why there is no driver, or no reading.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// No constructor is registered under this name.
    #[error("no compute driver is named {name:?}; {}known: {}", suggestion(.nearest), .known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that exist, sorted.
        known: Vec<String>,
        /// The known name that looks most like it, if any does.
        nearest: Option<String>,
    },
    /// A driver cannot work with the options it was given.
    #[error("compute driver {driver}: {option} cannot be {value}: {expected}")]
    InvalidOption {
        /// The driver.
        driver: &'static str,
        /// The option's name in the configuration.
        option: &'static str,
        /// What it was set to.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A probe failed, and it has no earlier value to answer with.
    #[error("host probe {probe} has no value yet: cannot {attempt}; {next_step}")]
    NoReading {
        /// The probe.
        probe: &'static str,
        /// What it tried, as words that follow "cannot".
        attempt: Cow<'static, str>,
        /// What the operator can do.
        next_step: Cow<'static, str>,
        /// What went wrong; shared, because everyone who waited for this run learns it.
        #[source]
        source: Arc<ProbeError>,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("did you mean {name:?}? ")).unwrap_or_default()
}
