//! The size of a fake host, and how its readings behave.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::{MemPages, PciDevType};

/// Size and behaviour of a fake host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeConfig {
    /// Number of CPUs, from 1 to 65536.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
    /// Architecture of the CPUs, such as `x86_64` or `aarch64`.
    pub cpu_arch: String,
    /// Model of the CPUs.
    pub cpu_model: String,
    /// Vendor of the CPUs.
    pub cpu_vendor: String,
    /// Features of the CPUs, in the kernel's spelling.
    pub cpu_features: Vec<String>,
    /// Number of NUMA nodes, each a socket. CPUs and memory are divided evenly, and the first nodes get the remainder. With
    /// 0 the host reports no nodes, like Nova's fake driver.
    pub numa_nodes: u32,
    /// Number of threads in a core. CPUs are numbered core by core.
    pub threads: u32,
    /// Huge pages of each NUMA node.
    pub huge_pages: Vec<MemPages>,
    /// PCI devices.
    pub pci_devices: Vec<FakeDevices>,
    /// CPU load that the host reports, in percent from 0 to 100. Two thirds of it are spent in programs.
    pub cpu_percent: u32,
    /// What happens to the first readings, in order: `ok`, `fail TEXT`, `delay MILLISECONDS` or `hang`. All later readings
    /// succeed.
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

/// Identical PCI devices of a fake host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeDevices {
    /// PCI vendor number in hexadecimal digits, such as `8086`.
    pub vendor_id: String,
    /// The vendor's number of the product, in hexadecimal digits.
    pub product_id: String,
    /// Kind of device.
    #[serde(default)]
    pub dev_type: PciDevType,
    /// The NUMA node that the devices are attached to. Absent if it is not known.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// Number of devices, at most 4096.
    #[serde(default = "one")]
    pub count: u32,
}

fn one() -> u32 {
    1
}

/// What happens to one reading.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum FakeStep {
    /// It succeeds at once.
    Ok,
    /// It fails with this text.
    Fail(String),
    /// It succeeds after this time.
    Delay(Duration),
    /// It does not answer until the driver is told to release it.
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
            format!(
                "{text:?} is not a step of a fake driver: write ok, fail TEXT, delay MILLISECONDS or hang"
            )
        })
    }
}

impl TryFrom<String> for FakeStep {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
