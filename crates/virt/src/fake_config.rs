//! The size of a fake host, and how its readings and its guests behave.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use novella_resources::cpu_set::MAX_CPUS;
use serde::{Deserialize, Serialize};

use crate::driver_error::DriverError;
use crate::stats::{MemPages, PciDevType};

/// The name of the fake driver.
pub(crate) const NAME: &str = "fake";

/// Maximum number of identical PCI devices. No host has that many, and a typo cannot list billions.
const MAX_DEVICES: u32 = 4_096;

/// Size and behaviour of a fake host.
///
/// A script says what happens to the first calls of one kind, a step for each call in order. All later calls succeed. A step
/// is `ok`, `fail TEXT`, `delay MILLISECONDS` or `hang`, and for builds also `reject TEXT`. A call that finds its work done
/// already takes no step.
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
    /// Images that instances can be built from. If the list is empty, every image can be used.
    pub images: Vec<String>,
    /// How long each build takes, in milliseconds, in addition to what the script says.
    pub spawn_delay_ms: u64,
    /// How many of 100 builds fail, once the script of builds is used up. Which ones they are follows from `seed`, the name
    /// of the host and the number of the build.
    pub spawn_failure_percent: u32,
    /// Which builds fail by chance.
    pub seed: u64,
    /// The script of the readings.
    pub script: Vec<FakeStep>,
    /// The script of the builds.
    pub spawn_script: Vec<FakeStep>,
    /// The script of the destructions.
    pub destroy_script: Vec<FakeStep>,
    /// The script of the starts and stops.
    pub power_script: Vec<FakeStep>,
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
            images: Vec::new(),
            spawn_delay_ms: 0,
            spawn_failure_percent: 0,
            seed: 0,
            script: Vec::new(),
            spawn_script: Vec::new(),
            destroy_script: Vec::new(),
            power_script: Vec::new(),
        }
    }
}

impl FakeConfig {
    /// Refuses what no host can be, and steps that make no sense in their script.
    pub fn check(&self) -> Result<(), DriverError> {
        let refuse = |option, value: &dyn Display, expected| {
            Err(DriverError::InvalidOption { driver: NAME, option, value: value.to_string(), expected })
        };
        if !(1..=MAX_CPUS).contains(&self.vcpus) {
            return refuse("fake.vcpus", &self.vcpus, "set it from 1 to 65536");
        }
        if self.numa_nodes > self.vcpus {
            return refuse("fake.numa_nodes", &self.numa_nodes, "set it from 0 to fake.vcpus");
        }
        if !(1..=self.vcpus).contains(&self.threads) {
            return refuse("fake.threads", &self.threads, "set it from 1 to fake.vcpus");
        }
        if self.cpu_percent > 100 {
            return refuse("fake.cpu_percent", &self.cpu_percent, "set it from 0 to 100");
        }
        if self.spawn_failure_percent > 100 {
            return refuse("fake.spawn_failure_percent", &self.spawn_failure_percent, "set it from 0 to 100");
        }
        if let Some(devices) = self.pci_devices.iter().find(|d| d.count > MAX_DEVICES) {
            return refuse("fake.pci_devices", &devices.count, "set a count from 0 to 4096");
        }
        let without_reject = [
            ("fake.script", &self.script),
            ("fake.destroy_script", &self.destroy_script),
            ("fake.power_script", &self.power_script),
        ];
        for (option, steps) in without_reject {
            if let Some(step) = steps.iter().find(|step| matches!(step, FakeStep::Reject(_))) {
                return refuse(option, step, "write fail TEXT, because only a build can be rejected");
            }
        }
        Ok(())
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

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FakeStep {
    /// It succeeds at once.
    Ok,
    /// It fails with this text, as if the host were at fault.
    Fail(String),
    /// It fails with this text, as if no host could do what was asked.
    Reject(String),
    /// It succeeds after this time.
    Delay(Duration),
    /// It does not answer until it is released.
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
            ("reject", reason) if !reason.is_empty() => Some(Self::Reject(reason.to_owned())),
            ("delay", ms) => ms.parse().ok().map(|ms| Self::Delay(Duration::from_millis(ms))),
            _ => None,
        }
        .ok_or_else(|| {
            format!(
                "{text:?} is not a step of a fake driver: write ok, fail TEXT, reject TEXT, delay MILLISECONDS or hang"
            )
        })
    }
}

impl Display for FakeStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Fail(reason) => write!(f, "fail {reason}"),
            Self::Reject(reason) => write!(f, "reject {reason}"),
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

impl TryFrom<String> for FakeStep {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
