//! NUMA cells: those of a host, those that an instance asks for, and what an instance takes of one.
//!
//! Names and units are those of Nova's NUMATopology and InstanceNUMATopology.

use serde::{Deserialize, Serialize};

/// The NUMA cells of a host, with what is used of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaTopology {
    /// The cells, in the order in which the host reports them.
    pub cells: Vec<NumaCell>,
}

/// One NUMA cell of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaCell {
    /// The host's number of the cell.
    pub id: u32,
    /// Numbers of the CPUs for instances that share CPUs.
    #[serde(default)]
    pub cpuset: Vec<u32>,
    /// Numbers of the CPUs for instances that have CPUs to themselves.
    #[serde(default)]
    pub pcpuset: Vec<u32>,
    /// Memory, MiB.
    #[serde(default)]
    pub memory_mb: u64,
    /// Number of shared CPUs in use.
    #[serde(default)]
    pub cpu_usage: u64,
    /// Memory in use, MiB.
    #[serde(default)]
    pub memory_usage_mb: u64,
    /// Numbers of the CPUs that some instance has to itself.
    #[serde(default)]
    pub pinned_cpus: Vec<u32>,
    /// The cell's CPUs by core: each list has the threads of one core.
    #[serde(default)]
    pub siblings: Vec<Vec<u32>>,
    /// Memory by page size.
    #[serde(default)]
    pub mempages: Vec<MemoryPages>,
    /// Networks that are near this cell. Absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_metadata: Option<NetworkMetadata>,
    /// Number of the socket that the cell belongs to. Absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u32>,
}

/// Memory pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPages {
    /// Size of one page, KiB.
    pub size_kb: u64,
    /// Number of pages.
    pub total: u64,
    /// Number of pages that are taken.
    #[serde(default)]
    pub used: u64,
    /// Number of pages that are held back and not given to instances.
    #[serde(default)]
    pub reserved: u64,
}

/// Networks that a cell is near, or that an instance is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkMetadata {
    /// Names of physical networks.
    pub physnets: Vec<String>,
    /// Whether there are tunnelled networks among them.
    pub tunneled: bool,
}

/// The NUMA cells that an instance asks for: Nova's InstanceNUMATopology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNumaTopology {
    /// The cells, in the order in which the instance numbers them.
    pub cells: Vec<InstanceNumaCell>,
    /// `share` or `isolate`: whether the emulator's threads get a CPU of their own. Absent: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator_threads_policy: Option<String>,
}

/// One NUMA cell of an instance: Nova's InstanceNUMACell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNumaCell {
    /// The instance's number of the cell.
    pub id: u32,
    /// Numbers of the virtual CPUs that share the host's CPUs.
    #[serde(default)]
    pub cpuset: Vec<u32>,
    /// Numbers of the virtual CPUs that each have one CPU of the host to themselves.
    #[serde(default)]
    pub pcpuset: Vec<u32>,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Page size in KiB, or -1 for the smallest, -2 for any larger one, -3 for any. Absent: no size is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagesize: Option<i64>,
    /// `shared`, `dedicated` or `mixed`. Absent: `shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_policy: Option<String>,
    /// `prefer`, `isolate` or `require`. Absent: no policy, which works as `prefer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_thread_policy: Option<String>,
}

/// What an instance takes of one NUMA cell of its host.
///
/// It lists results and not rules, so that everyone who subtracts it gets the same, whatever else runs on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellUsage {
    /// The host's number of the cell.
    pub id: u32,
    /// Number of CPUs that the instance shares with others.
    #[serde(default)]
    pub vcpus: u32,
    /// Numbers of the host CPUs that nobody else gets: those of the instance's own CPUs, those of the emulator's threads,
    /// and threads of the same cores that must be left idle.
    #[serde(default)]
    pub pinned_cpus: Vec<u32>,
    /// Memory, MiB.
    pub memory_mb: i64,
    /// Size of the pages that this memory consists of, KiB.
    pub pagesize_kb: u64,
}
