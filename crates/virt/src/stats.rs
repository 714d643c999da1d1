//! What a driver reads from its host: plain owned data, each value with its source.
//!
//! Units are in the names: `_mb` is MiB, `_gb` is GiB. Sizes are rounded down. Left out: everything that instances use or
//! the operator sets. The agent adds those.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A value with its source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probed<T> {
    /// The value.
    pub value: T,
    /// Where the value came from, in words that an operator can check, such as `/proc/meminfo MemTotal`.
    pub source: Cow<'static, str>,
}

impl<T> Probed<T> {
    /// `value` with its `source`.
    pub fn new(value: T, source: impl Into<Cow<'static, str>>) -> Self {
        Self { value, source: source.into() }
    }
}

/// What a host has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostStats {
    /// Number of CPUs (threads) that are online.
    pub vcpus: Probed<u32>,
    /// Number of virtual CPUs that the driver itself sees in use.
    pub vcpus_used: Probed<u32>,
    /// Kind and arrangement of the CPUs.
    pub cpu_info: Probed<CpuInfo>,
    /// Memory size.
    pub memory_total_mb: Probed<u64>,
    /// Memory that is available without swapping. `None` if it is not known.
    pub memory_available_mb: Probed<Option<u64>>,
    /// Size of the file system that holds instances.
    pub disk_total_gb: Probed<u64>,
    /// How much of that file system is used.
    pub disk_used_gb: Probed<u64>,
    /// How much of that file system an ordinary user could still write. It is less than total − used if blocks are kept for
    /// root.
    pub disk_available_gb: Probed<u64>,
    /// Kind of hypervisor, such as `linux`, `fake` or `QEMU`.
    pub hypervisor_type: Probed<String>,
    /// Version of the hypervisor: major × 10^6 + minor × 10^3 + micro.
    pub hypervisor_version: Probed<i64>,
    /// Name of the compute node.
    pub hypervisor_hostname: Probed<String>,
    /// Release of the running kernel, as `uname -r` prints it.
    pub kernel_release: Probed<String>,
    /// NUMA nodes, sorted by id. A host that is not divided has one. The list is empty if the driver does not know.
    pub numa: Probed<Vec<NumaNode>>,
    /// PCI devices, sorted by address. The list is empty unless the driver's options ask for PCI devices.
    pub pci_devices: Probed<Vec<PciDevice>>,
    /// Kinds of guests that the host can run: architecture, hypervisor type and VM mode, by Nova's names.
    pub supported_instances: Probed<Vec<[String; 3]>>,
    /// What the CPUs did since boot. `None` unless the driver's options ask for CPU times, and while they are not known.
    pub cpu_stats: Option<Probed<CpuStats>>,
    /// Load average over one minute. `None` if it is not known.
    pub load_1m: Probed<Option<f64>>,
    /// Time since boot, seconds. `None` if it is not known.
    pub uptime_s: Probed<Option<u64>>,
    /// Probes whose newest run gave no value. The values above that come from them are older ones, or not known.
    pub stale: Vec<StaleProbe>,
    /// What an operator should know about this host, each with what to do: facts that contradict each other, or a disk that
    /// is read-only or nearly full.
    pub warnings: Vec<String>,
}

/// The CPUs, in the shape of Nova's `cpu_info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuInfo {
    /// Architecture, such as `x86_64` or `aarch64`.
    pub arch: String,
    /// Model, as the CPU or the kernel names it.
    pub model: String,
    /// Vendor, such as `Intel`, `AMD` or `ARM`, in libvirt's spelling if it has one.
    pub vendor: String,
    /// Feature flags that every CPU has, in the kernel's spelling, sorted.
    pub features: Vec<String>,
    /// Sockets, cores and threads.
    pub topology: CpuTopology,
}

/// How the CPUs are arranged, as libvirt and Nova count them: sockets are those of one NUMA node. On a regular machine
/// cells × sockets × cores × threads is the number of CPUs. On an irregular one, with a CPU offline or with two kinds of
/// cores, `sockets`, `cores` and `threads` are the largest numbers of any node, socket and core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CpuTopology {
    /// Number of sockets in a NUMA node. A socket that is divided into several nodes counts in each of them.
    pub sockets: u32,
    /// Number of cores in a socket, or in the part of it that is in the node.
    pub cores: u32,
    /// Number of threads in a core.
    pub threads: u32,
    /// Number of NUMA nodes in the host.
    pub cells: u32,
}

/// One NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NumaNode {
    /// The kernel's number of the node. Numbers may have gaps.
    pub id: u32,
    /// Numbers of the node's online CPUs, sorted. Empty if the node has only memory.
    pub cpus: Vec<u32>,
    /// Memory of the node.
    pub memory_mb: u64,
    /// The socket of the node's CPUs. `None` if they belong to several sockets, or if it is not known.
    pub socket: Option<u32>,
    /// The node's CPUs by core: each list has the threads of one core, sorted.
    pub siblings: Vec<Vec<u32>>,
    /// The node's memory by page size: ordinary pages first, then huge pages from small to large.
    pub mempages: Vec<MemPages>,
}

/// Memory pages of one size on one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemPages {
    /// Size of one page, KiB.
    pub size_kb: u64,
    /// Number of pages on the node. Memory in huge pages is not counted in ordinary pages too.
    pub total: u64,
}

/// One PCI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Address, as `domain:bus:slot.function` in hexadecimal digits.
    pub address: String,
    /// PCI vendor number, in four hexadecimal digits.
    pub vendor_id: String,
    /// The vendor's number of the product, in four hexadecimal digits.
    pub product_id: String,
    /// Class, subclass and interface, in six hexadecimal digits.
    pub class: String,
    /// Kind of device.
    pub dev_type: PciDevType,
    /// The NUMA node that the device is attached to. `None` if it is not known.
    pub numa_node: Option<u32>,
    /// Address of the physical function. `None` unless this is a virtual function.
    pub parent: Option<String>,
}

/// Kinds of PCI devices, by Nova's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PciDevType {
    /// An ordinary device.
    #[default]
    #[serde(rename = "type-PCI")]
    Standard,
    /// A device that can have virtual functions, whether it has any or not.
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

/// What all CPUs of a host together did since boot. Times are in nanoseconds and never decrease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CpuStats {
    /// Time spent in programs.
    pub user_ns: u64,
    /// Time spent in the kernel, including interrupts.
    pub kernel_ns: u64,
    /// Time spent idle.
    pub idle_ns: u64,
    /// Time spent waiting for disks.
    pub iowait_ns: u64,
    /// Clock of the CPUs, MHz. `None` if it is not known.
    pub frequency_mhz: Option<u64>,
}

/// A probe whose newest run gave no value, so that an older value is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleProbe {
    /// Name of the probe, such as `cpu`, `memory` or `disk`.
    pub probe: &'static str,
    /// Age of the value that is reported instead. Where there never was one, it is the age of the question.
    pub age: Duration,
    /// Why there is no newer one.
    pub reason: String,
}
