//! The CPUs: which are online, what kind they are, and how they spend their time.
//!
//! The list of online CPUs is read every time. Everything else is read again only if that list has changed, because
//! `/proc/cpuinfo` of a large host is a megabyte, and printing it wakes every CPU to measure its clock.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::cpuinfo::CpuInfo;
use super::tree::{CPUINFO, Tree};
use super::vendor;
use crate::probe_error::ProbeError;
use crate::stats::{self, CpuStats, Probed};

const STAT: &str = "proc/stat";
const NS_PER_S: u64 = 1_000_000_000;
const ONLINE: &str = "sys/devices/system/cpu/online";

/// The fields of `/proc/cpuinfo` that may name the model: on x86 and ARM, LoongArch, MIPS, POWER and sparc64, RISC-V, ARM
/// before Linux 3.8, 64-bit ARM, and s390, which gives the number of the machine type.
const MODEL_FIELDS: [&str; 8] =
    ["model name", "Model Name", "cpu model", "cpu", "uarch", "Processor", "CPU part", "machine"];

/// The fields of `/proc/cpuinfo` that may list the features, on x86, ARM, s390 and sparc64.
const FEATURE_FIELDS: [&str; 4] = ["flags", "Features", "features", "cpucaps"];

/// The fields of `/proc/cpuinfo` that may have the clock in MHz, on x86, LoongArch, POWER and s390.
const CLOCK_FIELDS: [&str; 4] = ["cpu MHz", "CPU MHz", "clock", "cpu MHz dynamic"];

const UNKNOWN: &str = "unknown";

#[derive(Clone)]
pub(super) struct Cpus {
    pub(super) vcpus: Probed<u32>,
    pub(super) kind: Probed<Kind>,
    pub(super) warnings: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Kind {
    /// The CPUs without their architecture and arrangement, which other probes read.
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
        // A description is only replaced as a whole, so it is still valid after a panic.
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
        None => Ok(CpuInfo::parse(&tree.text(CPUINFO)?).processors().collect()),
    }
}

fn describe(tree: &Tree, listed: Option<&[u32]>) -> Result<Cpus, ProbeError> {
    let found = match listed {
        Some(_) => tree.text_if_there(CPUINFO)?,
        // The number of CPUs is only there.
        None => Some(tree.text(CPUINFO)?),
    };
    let info = CpuInfo::parse(found.as_deref().unwrap_or_default());
    let described: Vec<u32> = info.processors().collect();
    let (online, counted_in) = match listed {
        Some(online) => (online, format!("/{ONLINE}")),
        None => (&described[..], format!("/{CPUINFO} processor")),
    };
    if online.is_empty() {
        return Err(tree.malformed(if listed.is_some() { ONLINE } else { CPUINFO }, "it lists no CPU"));
    }
    let kind = Kind {
        info: stats::CpuInfo {
            model: info.first(&MODEL_FIELDS).unwrap_or(UNKNOWN).to_owned(),
            vendor: vendor::name(&info).unwrap_or(UNKNOWN).to_owned(),
            features: features(&info),
            ..stats::CpuInfo::default()
        },
        frequency_mhz: frequency(&info),
    };
    let (source, warning) = match &found {
        Some(_) => (format!("/{CPUINFO}"), fewer_described(described.len(), online.len())),
        None => (format!("no /{CPUINFO}"), Some(not_described())),
    };
    Ok(Cpus {
        vcpus: Probed::new(count(online.len()), counted_in),
        kind: Probed::new(kind, source),
        warnings: warning.into_iter().collect(),
    })
}

fn not_described() -> String {
    format!(
        "/{CPUINFO} is missing, so vendor, model and features of the CPUs are not known; check that /proc is mounted, or \
         set cpu_vendor, cpu_model and cpu_features in [driver.overrides]"
    )
}

/// A warning if `/proc/cpuinfo` lists some of the online CPUs but not all, which no kernel does.
fn fewer_described(described: usize, online: usize) -> Option<String> {
    (1..online).contains(&described).then(|| {
        format!(
            "/{CPUINFO} lists {described} CPUs, but {online} are online in /{ONLINE}; it seems that a container \
             (lxcfs) replaces the one and not the other. {online} are reported: run the agent outside the container, or \
             set the amounts in [driver.overrides]"
        )
    })
}

fn frequency(info: &CpuInfo<'_>) -> Option<u64> {
    let mhz = info.first(&CLOCK_FIELDS).and_then(|text| {
        let mhz: f64 = text.trim_end_matches("MHz").trim_end().parse().ok()?;
        Some(mhz as u64)
    });
    // sparc64 has the clock in Hz, in hexadecimal digits.
    let in_hz = || info.common_where(|name| name.starts_with("Cpu") && name.ends_with("ClkTck"));
    mhz.or_else(|| Some(u64::from_str_radix(in_hz()?, 16).ok()? / 1_000_000))
}

/// The features that all CPUs have. A guest may run on any of them, and big and little cores differ.
fn features(info: &CpuInfo<'_>) -> Vec<String> {
    let mut sets = info.processors().filter_map(|cpu| {
        let list = info.field(cpu, &FEATURE_FIELDS)?;
        // sparc64 separates by commas.
        Some(list.split([' ', '\t', ',']).filter(|feature| !feature.is_empty()).collect::<BTreeSet<_>>())
    });
    let mut common = sets.next().unwrap_or_default();
    for set in sets {
        common.retain(|feature| set.contains(feature));
    }
    common.into_iter().map(str::to_owned).collect()
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
    let per_s = tree.fact("clock_ticks_per_second", rustix::param::clock_ticks_per_second)?;
    let tick = NS_PER_S / per_s.max(1);
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
