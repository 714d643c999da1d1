//! A host that exists in configuration only: for the demo, the swarm and tests.
//!
//! Same size and same script give the same answers. Each asking takes one step of the script; when the steps are used
//! up every asking succeeds. Only time is real: delays and uptime run on the runtime's clock, which tests pause.
//! Cheap on purpose: no thread, one shared configuration, about 750 bytes of its own.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::driver::{ComputeDriver, DriverError};
use crate::probe::{Completion, Probe, ProbeError};
use crate::stats::{
    CpuInfo, CpuStats, CpuTopology, HostStats, MemPages, NumaNode, PciDevType, PciDevice, Probed,
};

/// More than any kernel supports; keeps a slip of the pen from listing billions of CPUs.
const MAX_VCPUS: u32 = 65_536;

/// major × 10^6 + minor × 10^3 + micro of a hypervisor that does not exist.
const VERSION: i64 = 1_000_000;

/// Its ordinary pages, KiB.
const PAGE_KIB: u64 = 4;

/// Its clock.
const FREQUENCY_MHZ: u64 = 2_000;

/// More than a host has; keeps a slip of the pen from listing billions of devices.
const MAX_DEVICES: u32 = 4_096;

/// How large a fake host is, and how it behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeConfig {
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// GiB.
    pub disk_gb: u64,
    /// `x86_64`, `aarch64`, ...
    pub cpu_arch: String,
    /// CPU model.
    pub cpu_model: String,
    /// CPU vendor.
    pub cpu_vendor: String,
    /// CPU features in the kernel's spelling.
    pub cpu_features: Vec<String>,
    /// NUMA nodes (and sockets); CPUs and memory are split evenly, what remains goes to the first ones. None: the host does
    /// not say, as Nova's fake driver does not.
    pub numa_nodes: u32,
    /// Threads in a core. CPUs are numbered core by core.
    pub threads: u32,
    /// Huge pages of each NUMA node, by size.
    pub huge_pages: Vec<MemPages>,
    /// PCI devices.
    pub pci_devices: Vec<FakeDevices>,
    /// How busy its CPUs are, in percent; two thirds of that in programs.
    pub cpu_percent: u32,
    /// What the first askings meet, in order: `ok`, `fail TEXT`, `delay MILLISECONDS`, `hang`.
    pub script: Vec<FakeStep>,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            vcpus: 8,
            memory_mb: 16_384,
            disk_gb: 200,
            cpu_arch: "x86_64".into(),
            cpu_model: "fake".into(),
            cpu_vendor: "Intel".into(),
            cpu_features: ["aes", "avx", "avx2", "sse4_2"].map(Into::into).into(),
            numa_nodes: 0,
            threads: 1,
            huge_pages: Vec::new(),
            pci_devices: Vec::new(),
            cpu_percent: 0,
            script: Vec::new(),
        }
    }
}

/// Alike PCI devices of a fake host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeDevices {
    /// Of whose make, such as `8086`.
    pub vendor_id: String,
    /// Which of its products.
    pub product_id: String,
    /// What can be done with them.
    #[serde(default)]
    pub dev_type: PciDevType,
    /// The NUMA node that they are near.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// How many there are.
    #[serde(default = "one")]
    pub count: u32,
}

fn one() -> u32 {
    1
}

/// What one asking meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FakeStep {
    /// An answer at once.
    Ok,
    /// A failure with this text.
    Fail(String),
    /// An answer after this time.
    Delay(Duration),
    /// No answer until [`FakeDriver::release`].
    Hang,
}

impl FromStr for FakeStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        match (word, rest.trim()) {
            ("ok", "") => Some(Self::Ok),
            ("hang", "") => Some(Self::Hang),
            ("fail", reason) if !reason.is_empty() => Some(Self::Fail(reason.to_owned())),
            ("delay", ms) => ms.parse().ok().map(|ms| Self::Delay(Duration::from_millis(ms))),
            _ => None,
        }
        .ok_or_else(|| {
            format!("{text:?} is no step of a fake driver: write ok, fail TEXT, delay MILLISECONDS or hang")
        })
    }
}

impl TryFrom<String> for FakeStep {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for FakeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Fail(reason) => write!(f, "fail {reason}"),
            Self::Delay(time) => write!(f, "delay {}", time.as_millis()),
            Self::Hang => f.write_str("hang"),
        }
    }
}

impl From<FakeStep> for String {
    fn from(step: FakeStep) -> Self {
        step.to_string()
    }
}

/// A host that exists in configuration only.
pub struct FakeDriver {
    host: String,
    config: Arc<FakeConfig>,
    script: Arc<Script>,
    probe: Probe<()>,
    deadline: Duration,
    booted: Instant,
}

impl FakeDriver {
    /// The name in the registry.
    pub const NAME: &'static str = "fake";

    /// A fake host called `host`, whose askings wait up to `deadline`.
    pub fn new(
        host: impl Into<String>,
        config: Arc<FakeConfig>,
        deadline: Duration,
    ) -> Result<Self, DriverError> {
        check(&config)?;
        let script = Arc::new(Script(Mutex::new(ScriptState {
            steps: config.script.iter().cloned().collect(),
            hanging: None,
        })));
        let steps = Arc::clone(&script);
        let probe = Probe::new(
            Self::NAME,
            "follow the fake driver's script",
            "see `script` in the fake driver's configuration",
            move |completion| steps.take(completion),
        );
        Ok(Self { host: host.into(), config, script, probe, deadline, booted: Instant::now() })
    }

    /// Adds steps behind those not yet taken.
    pub fn push(&self, steps: impl IntoIterator<Item = FakeStep>) {
        self.script.lock().steps.extend(steps);
    }

    /// Lets a hanging asking succeed. Without one, nothing happens.
    pub fn release(&self) {
        let hanging = self.script.lock().hanging.take();
        if let Some(completion) = hanging {
            completion.finish(Ok(()));
        }
    }

    fn stats(&self) -> HostStats {
        let config = &*self.config;
        let said = |name: &'static str| format!("configuration: fake.{name}");
        let (cells, threads) = (config.numa_nodes.max(1), config.threads);
        let cores = config.vcpus.div_ceil(cells).div_ceil(threads);
        let topology = CpuTopology { sockets: cells, cores, threads, cells };
        let mut features = config.cpu_features.clone();
        features.sort_unstable();
        let cpu = CpuInfo {
            arch: config.cpu_arch.clone(),
            model: config.cpu_model.clone(),
            vendor: config.cpu_vendor.clone(),
            features,
            topology,
        };
        const IDLE: &str = "a fake host uses nothing";
        HostStats {
            vcpus: Probed::new(config.vcpus, said("vcpus")),
            vcpus_used: Probed::new(0, IDLE),
            cpu_info: Probed::new(cpu, said("cpu_*")),
            memory_total_mb: Probed::new(config.memory_mb, said("memory_mb")),
            memory_available_mb: Probed::new(config.memory_mb, IDLE),
            disk_total_gb: Probed::new(config.disk_gb, said("disk_gb")),
            disk_used_gb: Probed::new(0, IDLE),
            disk_available_gb: Probed::new(config.disk_gb, IDLE),
            hypervisor_type: Probed::new(Self::NAME.into(), "the fake driver"),
            hypervisor_version: Probed::new(VERSION, "the fake driver"),
            hypervisor_hostname: Probed::new(self.host.clone(), "the agent's host name"),
            kernel_release: Probed::new("fake".into(), "the fake driver"),
            numa: Probed::new(numa(config), said("numa_nodes")),
            pci_devices: Probed::new(pci_devices(config), said("pci_devices")),
            supported_instances: Probed::new(
                vec![[config.cpu_arch.clone(), Self::NAME.into(), "hvm".into()]],
                said("cpu_arch"),
            ),
            cpu_stats: Some(Probed::new(self.cpu_stats(), said("cpu_percent"))),
            load_1m: Probed::new(0.0, IDLE),
            uptime_s: Probed::new(self.booted.elapsed().as_secs(), "since the fake driver was made"),
            stale: Vec::new(),
        }
    }

    fn cpu_stats(&self) -> CpuStats {
        let config = &*self.config;
        // One second before it was made, so that its first reading has a past.
        let up = (self.booted.elapsed() + Duration::from_secs(1)).as_nanos() * u128::from(config.vcpus);
        let share = |percent: u32, of: u128| of / 100 * u128::from(percent);
        let busy = share(config.cpu_percent, up);
        let ns = |time: u128| u64::try_from(time).unwrap_or(u64::MAX);
        CpuStats {
            user_ns: ns(busy / 3 * 2),
            kernel_ns: ns(busy / 3),
            idle_ns: ns(share(100 - config.cpu_percent, up)),
            iowait_ns: 0,
            frequency_mhz: Some(FREQUENCY_MHZ),
        }
    }
}

#[async_trait]
impl ComputeDriver for FakeDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn init_host(&self) -> Result<(), DriverError> {
        Ok(())
    }

    async fn get_host_stats(&self, refresh: bool) -> Result<HostStats, DriverError> {
        let reading = self.probe.read(refresh, self.deadline).await?;
        Ok(HostStats { stale: reading.stale.into_iter().collect(), ..self.stats() })
    }
}

struct Script(Mutex<ScriptState>);

struct ScriptState {
    steps: VecDeque<FakeStep>,
    /// At most one: a probe under way is not begun again.
    hanging: Option<Completion<()>>,
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, ScriptState> {
        // Nothing panics under this lock, and its content is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, completion: Completion<()>) {
        let step = self.lock().steps.pop_front().unwrap_or(FakeStep::Ok);
        match step {
            FakeStep::Ok => completion.finish(Ok(())),
            FakeStep::Fail(reason) => completion.finish(Err(ProbeError::Other(reason.into()))),
            FakeStep::Hang => self.lock().hanging = Some(completion),
            FakeStep::Delay(time) => {
                // Detached, and bounded by its own delay: the answer must come even when the reader has gone.
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    completion.finish(Ok(()));
                });
            }
        }
    }
}

fn check(config: &FakeConfig) -> Result<(), DriverError> {
    let refuse = |option, value: u32, expected| {
        Err(DriverError::InvalidOption {
            driver: FakeDriver::NAME,
            option,
            value: value.to_string(),
            expected,
        })
    };
    if !(1..=MAX_VCPUS).contains(&config.vcpus) {
        return refuse("fake.vcpus", config.vcpus, "set it from 1 to 65536");
    }
    if config.numa_nodes > config.vcpus {
        return refuse("fake.numa_nodes", config.numa_nodes, "set it from 0 to fake.vcpus");
    }
    if !(1..=config.vcpus).contains(&config.threads) {
        return refuse("fake.threads", config.threads, "set it from 1 to fake.vcpus");
    }
    if config.cpu_percent > 100 {
        return refuse("fake.cpu_percent", config.cpu_percent, "set it from 0 to 100");
    }
    if let Some(devices) = config.pci_devices.iter().find(|d| d.count > MAX_DEVICES) {
        return refuse("fake.pci_devices", devices.count, "set a count from 0 to 4096");
    }
    Ok(())
}

fn numa(config: &FakeConfig) -> Vec<NumaNode> {
    let nodes = config.numa_nodes;
    let mut next = 0;
    (0..nodes)
        .map(|id| {
            let first = next;
            next += config.vcpus / nodes + u32::from(id < config.vcpus % nodes);
            let cpus: Vec<u32> = (first..next).collect();
            let (nodes, id_wide) = (u64::from(nodes), u64::from(id));
            let memory_mb = config.memory_mb / nodes + u64::from(id_wide < config.memory_mb % nodes);
            let siblings = cpus.chunks(config.threads as usize).map(<[u32]>::to_vec).collect();
            let huge = config
                .huge_pages
                .iter()
                .fold(0u64, |kib, p| kib.saturating_add(p.size_kb.saturating_mul(p.total)));
            let ordinary = memory_mb.saturating_mul(1024).saturating_sub(huge) / PAGE_KIB;
            let ordinary = MemPages { size_kb: PAGE_KIB, total: ordinary };
            let mempages = [vec![ordinary], config.huge_pages.clone()].concat();
            NumaNode { id, cpus, memory_mb, socket: Some(id), siblings, mempages }
        })
        .collect()
}

/// Devices in the order in which they are configured, eight to a slot.
fn pci_devices(config: &FakeConfig) -> Vec<PciDevice> {
    let each = config.pci_devices.iter().flat_map(|devices| (0..devices.count).map(move |_| devices));
    each.enumerate()
        .map(|(at, devices)| PciDevice {
            address: format!("{:04x}:{:02x}:{:02x}.{}", at >> 16, at >> 8 & 0xff, at >> 3 & 0x1f, at & 7),
            vendor_id: devices.vendor_id.clone(),
            product_id: devices.product_id.clone(),
            class: "000000".into(),
            dev_type: devices.dev_type,
            numa_node: devices.numa_node,
            parent: None,
        })
        .collect()
}
