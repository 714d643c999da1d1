//! The CPUs: which are online, what kind they are, how they are arranged, and what they spend their time on.
//!
//! The list of online CPUs is read every time. Everything else is read again only if that list has changed, because
//! `/proc/cpuinfo` of a large host is a megabyte, and printing it wakes every CPU to measure its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use procfs::{CpuInfo, FromBufRead};

use super::tree::Tree;
use crate::probe_error::ProbeError;
use crate::stats::{self, CpuStats, CpuTopology, Probed};

const CPUINFO: &str = "proc/cpuinfo";
const STAT: &str = "proc/stat";
const NS_PER_S: u64 = 1_000_000_000;
const ONLINE: &str = "sys/devices/system/cpu/online";

/// The fields of `/proc/cpuinfo` that may name the model, on x86, MIPS, POWER, RISC-V and ARM.
const MODEL_FIELDS: [&str; 5] = ["model name", "cpu model", "cpu", "uarch", "CPU part"];

/// The fields of `/proc/cpuinfo` that may name the vendor.
const VENDOR_FIELDS: [&str; 2] = ["vendor_id", "CPU implementer"];

/// The fields of `/proc/cpuinfo` that may list the features, on x86, ARM and s390.
const FEATURE_FIELDS: [&str; 3] = ["flags", "Features", "features"];

/// Vendors as the CPU names them, and in libvirt's spelling, which flavors and images use.
const VENDORS: &[(&str, &str)] = &[
    ("GenuineIntel", "Intel"),
    ("AuthenticAMD", "AMD"),
    ("HygonGenuine", "Hygon"),
    ("0x41", "ARM"),
    ("0x43", "Cavium"),
    ("0x46", "Fujitsu"),
    ("0x48", "HiSilicon"),
    ("0x4e", "NVIDIA"),
    ("0x51", "Qualcomm"),
    ("0x61", "Apple"),
    ("0xc0", "Ampere"),
];

const UNKNOWN: &str = "unknown";

#[derive(Clone)]
pub(super) struct Cpus {
    pub(super) vcpus: Probed<u32>,
    pub(super) kind: Probed<Kind>,
}

#[derive(Clone)]
pub(super) struct Kind {
    /// The CPUs without their architecture and NUMA nodes, which other probes read.
    pub(super) info: stats::CpuInfo,
    /// Clock at the time when the CPUs were described, MHz.
    pub(super) frequency_mhz: Option<u64>,
}

pub(super) struct CpuReader {
    tree: Arc<Tree>,
    /// The last description, with the CPUs that were online then.
    last: Mutex<Option<(Vec<u32>, Cpus)>>,
}

impl CpuReader {
    pub(super) fn new(tree: Arc<Tree>) -> Self {
        Self { tree, last: Mutex::new(None) }
    }

    pub(super) fn read(&self) -> Result<Cpus, ProbeError> {
        let listed = self.tree.id_list(ONLINE)?;
        // A description is only replaced as a whole, so it is still right after a panic.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(online), Some((described, cpus))) = (&listed, &*last)
            && online == described
        {
            return Ok(cpus.clone());
        }
        let cpus = describe(&self.tree, listed.as_deref())?;
        *last = listed.map(|online| (online, cpus.clone()));
        Ok(cpus)
    }
}

/// Numbers of the online CPUs.
pub(super) fn online(tree: &Tree) -> Result<Vec<u32>, ProbeError> {
    match tree.id_list(ONLINE)? {
        Some(online) => Ok(online),
        None => Ok(processors(&cpuinfo(tree)?)),
    }
}

fn cpuinfo(tree: &Tree) -> Result<CpuInfo, ProbeError> {
    let text = tree.text(CPUINFO)?;
    CpuInfo::from_buf_read(text.as_bytes()).map_err(|error| tree.malformed(CPUINFO, error))
}

fn describe(tree: &Tree, listed: Option<&[u32]>) -> Result<Cpus, ProbeError> {
    let info = cpuinfo(tree)?;
    let (online, counted_in) = match listed {
        Some(online) => (online.to_vec(), format!("/{ONLINE}")),
        None => (processors(&info), format!("/{CPUINFO} processor")),
    };
    if online.is_empty() {
        return Err(tree.malformed(if listed.is_some() { ONLINE } else { CPUINFO }, "it lists no CPU"));
    }
    let kind = Kind {
        info: stats::CpuInfo {
            model: first_field(&info, &MODEL_FIELDS).unwrap_or(UNKNOWN).to_owned(),
            vendor: vendor(&info),
            features: features(&info),
            topology: arrangement(tree, &info, &online)?,
            ..stats::CpuInfo::default()
        },
        frequency_mhz: first_field(&info, &["cpu MHz"]).and_then(|mhz| Some(mhz.parse::<f64>().ok()? as u64)),
    };
    Ok(Cpus {
        vcpus: Probed::new(count(online.len()), counted_in),
        kind: Probed::new(kind, "/proc/cpuinfo; /sys/devices/system/cpu/cpu*/topology"),
    })
}

/// Numbers of the CPUs that `/proc/cpuinfo` lists.
fn processors(info: &CpuInfo) -> Vec<u32> {
    (0..info.num_cores()).filter_map(|i| number(info, i, "processor")).collect()
}

fn number(info: &CpuInfo, index: usize, field: &str) -> Option<u32> {
    info.get_field(index, field)?.parse().ok()
}

/// Value of the first of `fields` that any CPU has.
fn first_field<'a>(info: &'a CpuInfo, fields: &[&str]) -> Option<&'a str> {
    fields
        .iter()
        .find_map(|field| (0..info.num_cores()).find_map(|i| info.get_field(i, field)))
        .filter(|value| !value.is_empty())
}

fn vendor(info: &CpuInfo) -> String {
    let raw = first_field(info, &VENDOR_FIELDS).unwrap_or(UNKNOWN);
    VENDORS.iter().find(|(name, _)| *name == raw).map_or(raw, |(_, name)| name).to_owned()
}

/// The features that all CPUs have. A guest may run on any of them, and big and little cores differ.
fn features(info: &CpuInfo) -> Vec<String> {
    let mut sets = (0..info.num_cores()).filter_map(|i| {
        let list = FEATURE_FIELDS.iter().find_map(|field| info.get_field(i, field))?;
        Some(list.split_whitespace().collect::<BTreeSet<_>>())
    });
    let mut common = sets.next().unwrap_or_default();
    for set in sets {
        common.retain(|feature| set.contains(feature));
    }
    common.into_iter().map(str::to_owned).collect()
}

/// Number of sockets, largest number of cores in a socket, and largest number of threads in a core.
///
/// Socket and core of a CPU are read from sysfs or else from `/proc/cpuinfo`. Some virtual machines and containers have
/// neither. Then each CPU counts as a core of its own, and all are in one socket.
fn arrangement(tree: &Tree, info: &CpuInfo, online: &[u32]) -> Result<CpuTopology, ProbeError> {
    let index: BTreeMap<u32, usize> =
        (0..info.num_cores()).filter_map(|i| Some((number(info, i, "processor")?, i))).collect();
    let mut sockets: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for cpu in online {
        let fact = |file: &str, field: &str| -> Result<Option<String>, ProbeError> {
            let from_sysfs = tree.optional(&format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}"))?;
            let from_cpuinfo = || info.get_field(*index.get(cpu)?, field).map(str::to_owned);
            Ok(from_sysfs.or_else(from_cpuinfo))
        };
        let socket = fact("physical_package_id", "physical id")?.unwrap_or_default();
        // The list of siblings identifies a core. `core_id` does not, because it starts again in each die.
        let core = fact("thread_siblings_list", "core id")?.unwrap_or_else(|| cpu.to_string());
        *sockets.entry(socket).or_default().entry(core).or_default() += 1;
    }
    let cores = sockets.values().map(BTreeMap::len).max().unwrap_or(1);
    let threads = sockets.values().flat_map(BTreeMap::values).copied().max().unwrap_or(1);
    let (sockets, cores, threads) = (count(sockets.len()), count(cores), count(threads));
    Ok(CpuTopology { sockets, cores, threads, ..CpuTopology::default() })
}

/// What all CPUs did since boot. As in libvirt, niced programs count as programs and interrupts as the kernel. The clock is
/// not in that file.
pub(super) fn read_stats(tree: &Tree) -> Result<CpuStats, ProbeError> {
    let text = tree.text(STAT)?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
    let Some([user, nice, system, idle, iowait, irq, softirq]) =
        ticks.as_deref().ok().and_then(<[u64]>::first_chunk)
    else {
        return Err(tree.malformed(STAT, "it has no line `cpu <seven or more numbers>`"));
    };
    let tick = NS_PER_S / rustix::param::clock_ticks_per_second().max(1);
    let ns =
        |parts: &[&u64]| parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.saturating_mul(tick)));
    Ok(CpuStats {
        user_ns: ns(&[user, nice]),
        kernel_ns: ns(&[system, irq, softirq]),
        idle_ns: ns(&[idle]),
        iowait_ns: ns(&[iowait]),
        frequency_mhz: None,
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
