//! What a driver says of its host: plain owned data, each value with its source.
//!
//! Units are in the names: `_mb` is MiB, `_gb` is GiB. A whole unit is reported only when it is there: sizes round
//! down. Left out: anything instances use or the operator sets; the agent adds those.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A value, and where it came from in words an operator can check: `/proc/meminfo MemTotal`.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub source: Cow<'static, str>,
}

impl<T> Probed<T> {
    /// `value`, from `source`.
    pub fn new(value: T, source: impl Into<Cow<'static, str>>) -> Self {
        Self { value, source: source.into() }
    }
}

/// What a host has.
#[derive(Debug, Clone, PartialEq)]
pub struct HostStats {
    /// CPUs (threads) that are online.
    pub vcpus: Probed<u32>,
    /// Virtual CPUs that the driver itself sees in use.
    pub vcpus_used: Probed<u32>,
    /// What kind of CPU, and how they are arranged.
    pub cpu_info: Probed<CpuInfo>,
    /// Memory size.
    pub memory_total_mb: Probed<u64>,
    /// Memory that new work could have without swapping.
    pub memory_available_mb: Probed<u64>,
    /// Size of the file system that holds instances.
    pub disk_total_gb: Probed<u64>,
    /// How much of it is written.
    pub disk_used_gb: Probed<u64>,
    /// How much of it an ordinary user could still write; less than total − used where blocks are kept for root.
    pub disk_available_gb: Probed<u64>,
    /// `linux`, `fake`, `QEMU`, ...
    pub hypervisor_type: Probed<String>,
    /// major × 10^6 + minor × 10^3 + micro.
    pub hypervisor_version: Probed<i64>,
    /// The compute node's name.
    pub hypervisor_hostname: Probed<String>,
    /// The running kernel, as `uname -r` prints it.
    pub kernel_release: Probed<String>,
    /// NUMA nodes by id; a host that is not divided has one, and a driver that knows of none has an empty list.
    pub numa: Probed<Vec<NumaNode>>,
    /// PCI devices by address; empty unless [`DriverOptions::pci_devices`](crate::DriverOptions) asks for them.
    pub pci_devices: Probed<Vec<PciDevice>>,
    /// The guests it can run: architecture, hypervisor type, VM mode, by Nova's names.
    pub supported_instances: Probed<Vec<[String; 3]>>,
    /// What the CPUs did since boot; only where [`DriverOptions::cpu_stats`](crate::DriverOptions) asks for it.
    pub cpu_stats: Option<Probed<CpuStats>>,
    /// Load average over one minute.
    pub load_1m: Probed<f64>,
    /// Seconds since boot.
    pub uptime_s: Probed<u64>,
    /// Probes whose newest run gave no value: what stands above is older by this much.
    pub stale: Vec<StaleProbe>,
}

/// The CPUs, in the shape of Nova's `cpu_info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CpuInfo {
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// As the CPU or the kernel names it.
    pub model: String,
    /// `Intel`, `AMD`, `ARM`, ... in libvirt's spelling where it has one.
    pub vendor: String,
    /// Feature flags that every CPU has, in the kernel's spelling, sorted.
    pub features: Vec<String>,
    /// How the CPUs are arranged.
    pub topology: CpuTopology,
}

/// How CPUs are arranged. On a regular machine sockets × cores × threads is the number of CPUs; on an irregular one
/// (a CPU offline, cores of two kinds) cores and threads are the most that one socket and one core have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CpuTopology {
    /// Sockets in the host.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
    /// NUMA nodes in the host.
    pub cells: u32,
}

/// One NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NumaNode {
    /// The kernel's number for it; numbers may have gaps.
    pub id: u32,
    /// Its online CPUs, sorted; empty for a node of memory only.
    pub cpus: Vec<u32>,
    /// Its memory.
    pub memory_mb: u64,
    /// The socket of its CPUs; none where they are of several, or of none that is known.
    pub socket: Option<u32>,
    /// Its CPUs by core: each list holds the threads of one, sorted.
    pub siblings: Vec<Vec<u32>>,
    /// Its memory by page size: the ordinary pages first, then the huge ones from small to large.
    pub mempages: Vec<MemPages>,
}

/// Memory pages of one size on one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemPages {
    /// KiB.
    pub size_kb: u64,
    /// How many the node has. Memory in huge pages is not in the ordinary ones too.
    pub total: u64,
}

/// One PCI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// `domain:bus:slot.function`, in hexadecimal digits.
    pub address: String,
    /// Of whose make: four hexadecimal digits.
    pub vendor_id: String,
    /// Which of its products: four hexadecimal digits.
    pub product_id: String,
    /// Class, subclass and interface: six hexadecimal digits.
    pub class: String,
    /// What can be done with it.
    pub dev_type: PciDevType,
    /// The NUMA node that it is near, if one is known.
    pub numa_node: Option<u32>,
    /// Of a virtual function, the address of its physical one.
    pub parent: Option<String>,
}

/// Kinds of PCI devices, by Nova's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PciDevType {
    /// An ordinary device.
    #[default]
    #[serde(rename = "type-PCI")]
    Standard,
    /// A device that can bring forth virtual functions, whether it has any or not.
    #[serde(rename = "type-PF")]
    Physical,
    /// A virtual function.
    #[serde(rename = "type-VF")]
    Virtual,
    /// A virtual function that serves as a vDPA device.
    #[serde(rename = "vdpa")]
    Vdpa,
}

impl PciDevType {
    /// Nova's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "type-PCI",
            Self::Physical => "type-PF",
            Self::Virtual => "type-VF",
            Self::Vdpa => "vdpa",
        }
    }
}

/// What the CPUs of a host did since boot, all of them together: nanoseconds, each at least as large as before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CpuStats {
    /// In programs.
    pub user_ns: u64,
    /// In the kernel, interrupts included.
    pub kernel_ns: u64,
    /// In nothing.
    pub idle_ns: u64,
    /// In waiting for disks.
    pub iowait_ns: u64,
    /// MHz, if known.
    pub frequency_mhz: Option<u64>,
}

/// A probe answered by an old value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleProbe {
    /// The probe: `cpu`, `memory`, `disk`, ...
    pub probe: &'static str,
    /// How old the value reported in its place is.
    pub age: Duration,
    /// Why there is no newer one.
    pub reason: String,
}
