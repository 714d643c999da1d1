//! The host that this process runs on, read from `/proc`, `/sys` and the file system.
//!
//! Values are those of the whole machine. Cgroup limits and CPU affinity of the agent's own process are not applied,
//! because the agent reports for its host. In a container the values are still the host's, unless the container runtime
//! replaces files of `/proc` (lxcfs, gVisor). An operator who wants to report less sets it in the agent's configuration.
//!
//! `hypervisor_type` is `linux` and `hypervisor_version` is the kernel's, because this driver uses no hypervisor.
//!
//! Six probes (`cpu`, `memory`, `numa`, `disk`, `load`, `host`) run side by side, and so do `pci` and `cpu times` if they
//! are asked for. Each has its own deadline. The probe that hangs most often is `disk`, on a network file system. Until it
//! has answered once, the disk is reported with size 0 and as stale, and everything else as it is.
//!
//! A file that is missing costs the values that are in it and no other. There is no reading without these: the number of
//! CPUs, the size of the memory, and on this machine itself the file system at the disk path. A file whose text makes no
//! sense is an error of its probe, because it may say more than is understood.
//!
//! # Layout
//! - `tree`, `cpuinfo`: read small files, and the one that each architecture writes in its own way
//! - `vendor`, `places`: the vendor of the CPUs; the socket and the core of each
//! - `memory`, `cpu`, `disk`, `pci`, `guests`: one probe or part of one each
//! - `numa`, `node`: the NUMA nodes; the host's name, kernel, load and guests

mod cpu;
mod cpuinfo;
mod disk;
mod guests;
mod memory;
mod node;
mod numa;
mod pci;
mod places;
mod tree;
mod vendor;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::driver::{ComputeDriver, DriverOptions};
use crate::driver_error::DriverError;
use crate::probe::{Probe, Reading};
use crate::probe_error::ProbeError;
use crate::stats::{CpuInfo, CpuStats, CpuTopology, HostStats, Probed, StaleProbe};
use cpu::{CpuReader, Cpus};
use disk::Disk;
use memory::Memory;
use node::{Kernel, Load};
use numa::Numa;
use pci::Pci;
use tree::Tree;

/// What to do if a file cannot be read.
const MOUNTED: &str = "check that /proc and /sys are mounted and readable here";

/// Reads the host that this process runs on.
pub struct LinuxDriver {
    deadline: Duration,
    cpu: Probe<Cpus>,
    memory: Probe<Memory>,
    numa: Probe<Numa>,
    disk: Probe<Disk>,
    load: Probe<Load>,
    host: Probe<Kernel>,
    pci: Option<Probe<Pci>>,
    cpu_times: Option<Probe<CpuStats>>,
    disk_path: PathBuf,
}

impl LinuxDriver {
    /// The name in the registry.
    pub const NAME: &'static str = "linux";

    /// A driver for the root and the disk path of `options`.
    pub fn new(options: &DriverOptions) -> Self {
        let tree = Arc::new(Tree::new(options.root.clone(), options.recording.clone()));
        let cpus = CpuReader::new(Arc::clone(&tree));
        let read_cpus = move || cpus.read();
        let path = options.disk_path.clone();
        let disk_tree = Arc::clone(&tree);
        let cpu_times = || on_tree("cpu times", "read what the CPUs did", options, &tree, cpu::read_stats);
        let pci = || on_tree("pci", "list the PCI devices", options, &tree, pci::read);
        Self {
            deadline: options.probe_deadline,
            cpu: Probe::blocking("cpu", "describe the CPUs", MOUNTED, options.blocking.clone(), read_cpus),
            memory: on_tree("memory", "read the memory size", options, &tree, memory::read),
            numa: on_tree("numa", "list the NUMA nodes", options, &tree, numa::read),
            load: on_tree("load", "read load and uptime", options, &tree, node::read_load),
            host: on_tree("host", "name the host and its kernel", options, &tree, node::read_kernel),
            pci: options.pci_devices.then(pci),
            cpu_times: options.cpu_stats.then(cpu_times),
            disk_path: path.clone(),
            disk: Probe::blocking(
                "disk",
                format!("measure the file system at {}", path.display()),
                "set the disk path to an existing directory on the disk that holds instances",
                options.blocking.clone(),
                move || disk::read(&disk_tree, &path),
            ),
        }
    }
}

#[async_trait]
impl ComputeDriver for LinuxDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// Makes the first reading, so that a wrong disk path is found at start and not in the first report.
    async fn init_host(&self) -> Result<(), DriverError> {
        self.get_host_stats(true).await.map(drop)
    }

    async fn get_host_stats(&self, refresh: bool) -> Result<HostStats, DriverError> {
        let deadline = self.deadline;
        let (cpu, memory, numa, disk, load, host, pci, cpu_times) = tokio::join!(
            biased;
            self.cpu.read(refresh, deadline),
            self.memory.read(refresh, deadline),
            self.numa.read(refresh, deadline),
            self.disk.read_or(Disk::default(), refresh, deadline),
            self.load.read_optional(refresh, deadline),
            self.host.read(refresh, deadline),
            async { Some(self.pci.as_ref()?.read(refresh, deadline).await) },
            async { Some(self.cpu_times.as_ref()?.read_optional(refresh, deadline).await) },
        );
        let mut stale = Vec::new();
        let cpu = fresh(cpu, &mut stale)?;
        let memory = fresh(memory, &mut stale)?;
        let numa = fresh(numa, &mut stale)?;
        let disk = fresh(disk, &mut stale)?;
        let load = fresh(Ok(load), &mut stale)?.unwrap_or_else(Load::unknown);
        let host = fresh(host, &mut stale)?;
        let pci = pci.map(|pci| fresh(pci, &mut stale)).transpose()?;
        let cpu_times = cpu_times.map(|times| fresh(Ok(times), &mut stale)).transpose()?.flatten();
        let frequency_mhz = cpu.kind.value.frequency_mhz;
        let disk_source = |what: &str| match disk.missing {
            Some(file) => format!("no {file}"),
            None => format!("statvfs {} {what}", self.disk_path.display()),
        };
        let (pci, pci_warnings) = match pci {
            Some(pci) => (pci.devices, pci.warnings),
            None => {
                (Probed::new(Vec::new(), "PCI devices are not listed unless they are asked for"), Vec::new())
            }
        };
        let warnings = [cpu.warnings, numa.warnings, disk.warnings, pci_warnings].concat();
        Ok(HostStats {
            vcpus: cpu.vcpus,
            vcpus_used: Probed::new(0, "the linux driver runs no guests"),
            cpu_info: cpu_info(cpu.kind, &host.arch, numa.topology),
            memory_total_mb: memory.total_mb,
            memory_available_mb: memory.available_mb,
            disk_total_gb: Probed::new(disk.total, disk_source("blocks")),
            disk_used_gb: Probed::new(disk.used, disk_source("blocks - bfree")),
            disk_available_gb: Probed::new(disk.available, disk_source("bavail")),
            hypervisor_type: Probed::new(Self::NAME.into(), "the linux driver"),
            hypervisor_version: node::kernel_version(&host.release),
            hypervisor_hostname: host.hostname,
            kernel_release: host.release,
            numa: numa.nodes,
            pci_devices: pci,
            supported_instances: host.guests,
            cpu_stats: cpu_times.map(|times| {
                Probed::new(CpuStats { frequency_mhz, ..times }, "/proc/stat; frequency from /proc/cpuinfo")
            }),
            load_1m: load.load_1m,
            uptime_s: load.uptime_s,
            stale,
            warnings,
        })
    }
}

fn on_tree<T: Clone + Send + Sync + 'static>(
    name: &'static str,
    attempt: &'static str,
    options: &DriverOptions,
    tree: &Arc<Tree>,
    read: fn(&Tree) -> Result<T, ProbeError>,
) -> Probe<T> {
    let tree = Arc::clone(tree);
    Probe::blocking(name, attempt, MOUNTED, options.blocking.clone(), move || read(&tree))
}

/// The value of a reading. If it is stale, the list gets an entry.
fn fresh<T>(reading: Result<Reading<T>, DriverError>, stale: &mut Vec<StaleProbe>) -> Result<T, DriverError> {
    let reading = reading?;
    stale.extend(reading.stale);
    Ok(reading.value)
}

fn cpu_info(kind: Probed<cpu::Kind>, arch: &Probed<String>, topology: CpuTopology) -> Probed<CpuInfo> {
    let Probed { value: cpu::Kind { info, .. }, source } = kind;
    let info = CpuInfo { arch: arch.value.clone(), topology, ..info };
    let arranged = "arrangement from /sys/devices/system/cpu/cpu*/topology";
    Probed::new(info, format!("{source}; {arranged}; architecture from {}", arch.source))
}
