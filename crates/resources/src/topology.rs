//! NUMA cells of hosts and of instances, and what a fitted instance takes of a host's cells.
//!
//! What always holds: only [`Topology::take`] changes a host's topology, and it cannot fail.
//!
//! Left out: which cell of an instance goes onto which cell of a host (`numa`).

use std::collections::BTreeSet;

use crate::cpu_set::CpuSet;

/// KiB in a MiB.
pub(crate) const KB_PER_MB: i64 = 1024;

/// The NUMA cells of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Topology {
    /// The cells, in the order in which the host reports them.
    pub cells: Vec<Cell>,
}

/// One NUMA cell of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The host's number of the cell. No two cells have the same number.
    pub id: u32,
    /// CPUs for instances that share them.
    pub cpuset: CpuSet,
    /// CPUs for instances that have them to themselves.
    pub pcpuset: CpuSet,
    /// Memory, MiB.
    pub memory_mb: i64,
    /// Number of shared CPUs in use.
    pub cpu_usage: i64,
    /// Memory in use, MiB.
    pub memory_usage_mb: i64,
    /// CPUs of `pcpuset` that some instance has to itself.
    pub pinned_cpus: CpuSet,
    /// The cell's CPUs by core: each set has the threads of one core.
    pub siblings: Vec<CpuSet>,
    /// Memory by page size.
    pub mempages: Vec<Pages>,
    /// Networks that are near this cell. `None` if that is not known.
    pub network: Option<Network>,
    /// Number of the socket that the cell belongs to. `None` if that is not known.
    pub socket: Option<i64>,
}

/// Memory pages of one size on a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pages {
    /// Size of one page, KiB, at least 1.
    pub size_kb: i64,
    /// Number of pages.
    pub total: i64,
    /// Number of pages in use.
    pub used: i64,
    /// Number of pages that are held back and not given to instances.
    pub reserved: i64,
}

/// Networks that a cell is near, or that an instance is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Network {
    /// Names of physical networks.
    pub physnets: BTreeSet<Box<str>>,
    /// Whether there are tunnelled networks among them.
    pub tunneled: bool,
}

/// The NUMA cells of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InstanceTopology {
    /// The cells, in the order in which the instance numbers them.
    pub cells: Vec<InstanceCell>,
    /// Whether the emulator's threads get a CPU of their own, on the host cell of the first guest cell.
    pub isolate_emulator_threads: bool,
}

/// One NUMA cell of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InstanceCell {
    /// The instance's number of the cell. Once the cell is fitted, the number of its host cell.
    pub id: u32,
    /// Virtual CPUs that share CPUs of the host.
    pub cpuset: CpuSet,
    /// Virtual CPUs that each have one CPU of the host to themselves.
    pub pcpuset: CpuSet,
    /// Memory, MiB.
    pub memory_mb: i64,
    /// Page size in KiB, or one of [`PAGES_SMALL`], [`PAGES_LARGE`] and [`PAGES_ANY`] until the cell is
    /// fitted. 0: no size is asked for.
    pub pagesize: i64,
    /// Whether CPUs are shared or pinned.
    pub cpu_policy: CpuPolicy,
    /// Which threads of a core dedicated CPUs may use. `None`: no policy, which works as [`ThreadPolicy::Prefer`].
    pub cpu_thread_policy: Option<ThreadPolicy>,
    /// Virtual CPUs, each with its host CPU. Empty until the cell is fitted.
    pub pinning: Vec<(u32, u32)>,
    /// Host CPUs for the emulator's threads. Empty until the cell is fitted.
    pub reserved: CpuSet,
}

/// Asks for the smallest page size of the host cell.
pub const PAGES_SMALL: i64 = -1;
/// Asks for any page size but the smallest. The largest is tried first.
pub const PAGES_LARGE: i64 = -2;
/// Asks for any page size. The largest is tried first.
pub const PAGES_ANY: i64 = -3;

/// How virtual CPUs get host CPUs: `hw:cpu_policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CpuPolicy {
    /// All CPUs are shared. This is Nova's default.
    #[default]
    Shared,
    /// All CPUs are pinned.
    Dedicated,
    /// Some CPUs are pinned, the others are shared.
    Mixed,
}

/// Which threads of a core dedicated CPUs may use: `hw:cpu_thread_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreadPolicy {
    /// Threads of one core if possible.
    Prefer,
    /// One thread of each core. The other threads are left idle.
    Isolate,
    /// Only threads of one core.
    Require,
}

impl CpuPolicy {
    /// The policy that Nova calls `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "shared" => Some(Self::Shared),
            "dedicated" => Some(Self::Dedicated),
            "mixed" => Some(Self::Mixed),
            _ => None,
        }
    }

    /// Whether the policy pins any CPU.
    pub fn pins(self) -> bool {
        self != Self::Shared
    }

    /// Whether the policy shares any CPU.
    pub fn shares(self) -> bool {
        self != Self::Dedicated
    }
}

impl ThreadPolicy {
    /// The policy that Nova calls `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "prefer" => Some(Self::Prefer),
            "isolate" => Some(Self::Isolate),
            "require" => Some(Self::Require),
            _ => None,
        }
    }
}

/// What a fitted instance takes from each cell of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// What it takes from each of the cells that it is on.
    pub cells: Vec<CellUsage>,
}

/// What a fitted instance takes from one cell of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellUsage {
    /// The host's number of the cell.
    pub id: u32,
    /// Memory, MiB.
    pub memory_mb: i64,
    /// Number of shared CPUs.
    pub cpus: i64,
    /// Host CPUs that nobody else gets.
    pub pinned: CpuSet,
    /// Size of the pages that this memory consists of, KiB.
    pub pagesize_kb: i64,
}

/// Why a host cannot give what an instance was fitted for. Nova raises an exception here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The cell does not report page sizes, so it is not known which pages the memory is taken from.
    #[error("NUMA cell {0} reports no page sizes")]
    NoPages(u32),
    /// CPUs would be pinned that the cell does not have, or that are pinned already.
    #[error("CPUs to be pinned on NUMA cell {0} are not its own or pinned already")]
    Pinning(u32),
}

impl Cell {
    /// CPUs for pinning that no instance has.
    pub fn free_pcpus(&self) -> CpuSet {
        self.pcpuset.minus(&self.pinned_cpus)
    }

    /// Free memory, MiB. Negative if the cell is overcommitted.
    pub fn avail_memory_mb(&self) -> i64 {
        self.memory_mb - self.memory_usage_mb
    }

    pub(crate) fn smallest_page(&self) -> Option<i64> {
        self.mempages.iter().map(|pages| pages.size_kb).min()
    }

    /// All threads of the cores that these CPUs belong to.
    fn cores_of(&self, cpus: &CpuSet) -> CpuSet {
        let mut whole = CpuSet::EMPTY;
        self.siblings.iter().filter(|core| core.meets(cpus)).for_each(|core| whole.add(core));
        whole
    }

    /// What one cell of an instance takes from this cell, beside CPUs that are pinned already.
    fn usage_of(&self, guest: &InstanceCell, pinned_cpus: &CpuSet) -> Result<CellUsage, UsageError> {
        let pagesize_kb = match guest.pagesize {
            0 => self.smallest_page().ok_or(UsageError::NoPages(self.id))?,
            size => size,
        };
        let mut pinned = CpuSet::EMPTY;
        if guest.cpu_policy.pins() {
            pinned = guest.reserved.clone();
            for &(_, cpu) in &guest.pinning {
                pinned.insert(cpu).expect("a pinned CPU was taken out of a set");
            }
            if guest.cpu_thread_policy == Some(ThreadPolicy::Isolate) {
                pinned = self.cores_of(&pinned);
            }
            if !pinned.minus(&self.pcpuset).is_empty() || pinned.meets(pinned_cpus) {
                return Err(UsageError::Pinning(self.id));
            }
        }
        Ok(CellUsage {
            id: self.id,
            memory_mb: guest.memory_mb,
            cpus: guest.cpuset.len() as i64,
            pinned,
            pagesize_kb,
        })
    }
}

impl Topology {
    /// Whether any core has more than one thread.
    pub fn has_threads(&self) -> bool {
        self.cells.iter().flat_map(|cell| &cell.siblings).any(|core| core.len() > 1)
    }

    /// What `instance` takes from this host, onto which it was fitted.
    pub fn usage_of(&self, instance: &InstanceTopology) -> Result<Usage, UsageError> {
        let mut usage = Usage::default();
        for cell in &self.cells {
            let mut pinned_cpus = cell.pinned_cpus.clone();
            for guest in instance.cells.iter().filter(|guest| guest.id == cell.id) {
                let taken = cell.usage_of(guest, &pinned_cpus)?;
                pinned_cpus.add(&taken.pinned);
                usage.cells.push(taken);
            }
        }
        Ok(usage)
    }

    /// Adds a usage to what is in use. Cells and page sizes that this host no longer reports are ignored.
    pub fn take(&mut self, usage: &Usage) {
        for taken in &usage.cells {
            let Some(cell) = self.cells.iter_mut().find(|cell| cell.id == taken.id) else { continue };
            cell.memory_usage_mb = cell.memory_usage_mb.saturating_add(taken.memory_mb).max(0);
            cell.cpu_usage = cell.cpu_usage.saturating_add(taken.cpus).max(0);
            cell.pinned_cpus.add(&taken.pinned);
            let count = taken.memory_mb.saturating_mul(KB_PER_MB) / taken.pagesize_kb.max(1);
            for pages in cell.mempages.iter_mut().filter(|pages| pages.size_kb == taken.pagesize_kb) {
                pages.used = pages.used.saturating_add(count).max(0);
            }
        }
    }
}
