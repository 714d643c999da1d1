//! A host that exists in configuration only, for the demo, the swarm and tests.
//!
//! The same size and the same scripts give the same answers. Each reading, and each call that has something to do, takes one
//! step of its script. When the steps are used up, readings and calls succeed, except for the builds that fail by chance.
//! Delays and uptime follow the runtime's clock, which tests can pause. A fake driver is cheap: it has no thread, shares its
//! configuration, and takes about 850 bytes without guests.
//!
//! Guests are in the memory of this process. They outlive the driver if somebody keeps its [`FakeHypervisor`].

mod hypervisor;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::driver::ComputeDriver;
use crate::driver_error::DriverError;
use crate::fake_config::{FakeConfig, NAME};
use crate::instance::{Abilities, DriverInstance, InstanceSpec};
use crate::instance_error::InstanceError;
use crate::probe::Probe;
use crate::stats::{CpuInfo, CpuStats, CpuTopology, HostStats, MemPages, NumaNode, PciDevice, Probed};
pub use hypervisor::FakeHypervisor;

/// Version of the hypervisor that a fake host reports: major × 10^6 + minor × 10^3 + micro.
const VERSION: i64 = 1_000_000;

/// Size of an ordinary page, KiB.
const PAGE_KIB: u64 = 4;

/// Clock of the CPUs, MHz.
const FREQUENCY_MHZ: u64 = 2_000;

/// A host that exists in configuration only.
pub struct FakeDriver {
    host: String,
    hypervisor: Arc<FakeHypervisor>,
    probe: Probe<()>,
    deadline: Duration,
}

impl FakeDriver {
    /// The name in the registry.
    pub const NAME: &'static str = NAME;

    /// A fake host called `host` on a machine of its own, whose readings wait up to `deadline`.
    pub fn new(
        host: impl Into<String>,
        config: Arc<FakeConfig>,
        deadline: Duration,
    ) -> Result<Self, DriverError> {
        Ok(Self::on(host, FakeHypervisor::new(config)?, deadline))
    }

    /// The same on a machine that exists already, with its guests and as far as its scripts have come.
    pub fn on(host: impl Into<String>, hypervisor: Arc<FakeHypervisor>, deadline: Duration) -> Self {
        let machine = Arc::clone(&hypervisor);
        let probe = Probe::new(
            Self::NAME,
            "follow the fake driver's script",
            "see `script` in the fake driver's configuration",
            move |completion| machine.read(completion),
        );
        Self { host: host.into(), hypervisor, probe, deadline }
    }

    /// The machine that the guests are on.
    pub fn hypervisor(&self) -> &Arc<FakeHypervisor> {
        &self.hypervisor
    }

    /// Lets every reading and every call that hangs now go on and succeed. If none hangs, nothing happens.
    pub fn release(&self) {
        self.hypervisor.release();
    }

    fn stats(&self) -> HostStats {
        let config = self.hypervisor.config();
        let used = self.hypervisor.used();
        let disk_used_gb = used.disk_gb.min(config.disk_gb);
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
        const GUESTS: &str = "what its guests have";
        HostStats {
            vcpus: Probed::new(config.vcpus, set_by("vcpus")),
            vcpus_used: Probed::new(used.vcpus, GUESTS),
            cpu_info: Probed::new(cpu, set_by("cpu_*")),
            memory_total_mb: Probed::new(config.memory_mb, set_by("memory_mb")),
            memory_available_mb: Probed::new(Some(config.memory_mb.saturating_sub(used.memory_mb)), GUESTS),
            disk_total_gb: Probed::new(config.disk_gb, set_by("disk_gb")),
            disk_used_gb: Probed::new(disk_used_gb, GUESTS),
            disk_available_gb: Probed::new(config.disk_gb - disk_used_gb, GUESTS),
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
            load_1m: Probed::new(Some(0.0), "the guests of a fake host are idle"),
            uptime_s: Probed::new(
                Some(self.hypervisor.uptime().as_secs()),
                "since the fake machine was made",
            ),
            stale: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn cpu_stats(&self) -> CpuStats {
        let config = self.hypervisor.config();
        // The host booted one second before the machine was made, so that its first reading covers some time.
        let up = (self.hypervisor.uptime() + Duration::from_secs(1)).as_nanos() * u128::from(config.vcpus);
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

    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    async fn spawn(&self, instance: &InstanceSpec) -> Result<(), InstanceError> {
        self.hypervisor.spawn(&self.host, instance).await
    }

    async fn destroy(&self, uuid: Uuid) -> Result<(), InstanceError> {
        self.hypervisor.destroy(uuid).await
    }

    async fn power_on(&self, uuid: Uuid) -> Result<(), InstanceError> {
        self.hypervisor.power(uuid, true).await
    }

    async fn power_off(&self, uuid: Uuid) -> Result<(), InstanceError> {
        self.hypervisor.power(uuid, false).await
    }

    async fn list_instances(&self) -> Result<Vec<DriverInstance>, InstanceError> {
        Ok(self.hypervisor.list())
    }
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
