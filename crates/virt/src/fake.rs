//! A host that exists in configuration only, for the demo, the swarm and tests.
//!
//! The same size and the same script give the same answers. Each reading takes one step of the script. When the steps are
//! used up, every reading succeeds. Delays and uptime follow the runtime's clock, which tests can pause. A fake driver is
//! cheap: it has no thread, shares its configuration, and takes about 750 bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use novella_resources::cpu_set::MAX_CPUS;
use tokio::time::Instant;

use crate::driver::ComputeDriver;
use crate::driver_error::DriverError;
use crate::fake_config::{FakeConfig, FakeStep};
use crate::probe::{Completion, Probe};
use crate::probe_error::ProbeError;
use crate::stats::{CpuInfo, CpuStats, CpuTopology, HostStats, MemPages, NumaNode, PciDevice, Probed};

/// Version of the hypervisor that a fake host reports: major × 10^6 + minor × 10^3 + micro.
const VERSION: i64 = 1_000_000;

/// Size of an ordinary page, KiB.
const PAGE_KIB: u64 = 4;

/// Clock of the CPUs, MHz.
const FREQUENCY_MHZ: u64 = 2_000;

/// Maximum number of identical PCI devices. No host has that many, and a typo cannot list billions.
const MAX_DEVICES: u32 = 4_096;

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

    /// A fake host called `host`, whose readings wait up to `deadline`.
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

    /// Lets a hanging reading succeed. If none hangs, nothing happens.
    pub fn release(&self) {
        let hanging = self.script.lock().hanging.take();
        if let Some(completion) = hanging {
            completion.finish(Ok(()));
        }
    }

    fn stats(&self) -> HostStats {
        let config = &*self.config;
        let set_by = |name: &'static str| format!("configuration: fake.{name}");
        let (cells, threads) = (config.numa_nodes.max(1), config.threads);
        let cores = config.vcpus.div_ceil(cells).div_ceil(threads);
        let topology = CpuTopology { sockets: 1, cores, threads, cells };
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
            vcpus: Probed::new(config.vcpus, set_by("vcpus")),
            vcpus_used: Probed::new(0, IDLE),
            cpu_info: Probed::new(cpu, set_by("cpu_*")),
            memory_total_mb: Probed::new(config.memory_mb, set_by("memory_mb")),
            memory_available_mb: Probed::new(Some(config.memory_mb), IDLE),
            disk_total_gb: Probed::new(config.disk_gb, set_by("disk_gb")),
            disk_used_gb: Probed::new(0, IDLE),
            disk_available_gb: Probed::new(config.disk_gb, IDLE),
            hypervisor_type: Probed::new(Self::NAME.into(), "the fake driver"),
            hypervisor_version: Probed::new(VERSION, "the fake driver"),
            hypervisor_hostname: Probed::new(self.host.clone(), "the agent's host name"),
            kernel_release: Probed::new("fake".into(), "the fake driver"),
            numa: Probed::new(numa(config), set_by("numa_nodes")),
            pci_devices: Probed::new(pci_devices(config), set_by("pci_devices")),
            supported_instances: Probed::new(
                vec![[config.cpu_arch.clone(), Self::NAME.into(), "hvm".into()]],
                set_by("cpu_arch"),
            ),
            cpu_stats: Some(Probed::new(self.cpu_stats(), set_by("cpu_percent"))),
            load_1m: Probed::new(Some(0.0), IDLE),
            uptime_s: Probed::new(Some(self.booted.elapsed().as_secs()), "since the fake driver was made"),
            stale: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn cpu_stats(&self) -> CpuStats {
        let config = &*self.config;
        // The host booted one second before the driver was made, so that its first reading covers some time.
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
    /// The reading that hangs. There is at most one, because a probe under way is not begun again.
    hanging: Option<Completion<()>>,
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, ScriptState> {
        // Nothing panics while the lock is held, and the contents are valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, completion: Completion<()>) {
        let step = self.lock().steps.pop_front().unwrap_or(FakeStep::Ok);
        match step {
            FakeStep::Ok => completion.finish(Ok(())),
            FakeStep::Fail(reason) => completion.finish(Err(ProbeError::Other(reason.into()))),
            FakeStep::Hang => self.lock().hanging = Some(completion),
            FakeStep::Delay(time) => {
                // The task ends with the delay. It is detached, because the answer must come even if the reader has gone.
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
    if !(1..=MAX_CPUS).contains(&config.vcpus) {
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

/// The devices in the order in which they are configured, with eight functions to a slot.
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
