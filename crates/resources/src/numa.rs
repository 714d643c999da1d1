//! NUMA: the cells of a host, those of an instance, and whether the one goes onto the other.
//!
//! A host reports its [`Topology`] with what is used of each cell. An instance has one if its flavor or image asks for NUMA
//! nodes, page sizes or dedicated CPUs. [`fit`] maps each guest cell to a host cell of its own, resolves page sizes and pins
//! dedicated CPUs; [`Topology::usage_of`] says what that takes. Both follow Nova 34.
//!
//! What always holds: only [`Topology::take`] changes a host's topology, and it cannot fail.
//!
//! Left out: how flavor and image say what they ask, and which of a host's amounts are known from where.
//!
//! Known difference: of the free threads of one core, which are alike for every later decision, Nova takes those that a
//! Python set happens to list first, and this code the lowest.

mod fit;
mod pinning;

use std::collections::BTreeSet;

pub use fit::{FitError, Limits, MAX_PERMUTATIONS, Site, fit};

use crate::cpu_set::CpuSet;

/// The NUMA cells of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Topology {
    /// In the order in which the host reports them.
    pub cells: Vec<Cell>,
}

/// One NUMA cell of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Its number on that host; no two cells have the same.
    pub id: u32,
    /// CPUs for instances that share them.
    pub cpuset: CpuSet,
    /// CPUs for instances that have them to themselves.
    pub pcpuset: CpuSet,
    /// MiB.
    pub memory_mb: i64,
    /// Shared CPUs in use.
    pub cpu_usage: i64,
    /// MiB in use.
    pub memory_usage_mb: i64,
    /// Of `pcpuset`, those that some instance has to itself.
    pub pinned_cpus: CpuSet,
    /// CPUs that are threads of one core, core by core.
    pub siblings: Vec<CpuSet>,
    /// Memory by page size.
    pub mempages: Vec<Pages>,
    /// Networks that are near this cell, if that is known.
    pub network: Option<Network>,
    /// The processor that it is part of, if that is known.
    pub socket: Option<i64>,
}

/// The memory of a cell that is in pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pages {
    /// KiB, at least 1.
    pub size_kb: i64,
    /// How many there are.
    pub total: i64,
    /// How many are in use.
    pub used: i64,
    /// How many are held back.
    pub reserved: i64,
}

/// Networks by name and kind: those near a cell, or those that an instance is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Network {
    /// Names of physical networks.
    pub physnets: BTreeSet<Box<str>>,
    /// Whether there are tunnelled ones.
    pub tunneled: bool,
}

/// The NUMA cells of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InstanceTopology {
    /// In their order.
    pub cells: Vec<InstanceCell>,
    /// Whether the emulator's threads get a CPU of their own, on the host cell of the first guest cell.
    pub isolate_emulator_threads: bool,
}

/// One NUMA cell of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InstanceCell {
    /// Its number in the instance; once it is fitted, that of the host cell.
    pub id: u32,
    /// Virtual CPUs that share the host's.
    pub cpuset: CpuSet,
    /// Virtual CPUs that have one of the host's to themselves.
    pub pcpuset: CpuSet,
    /// MiB.
    pub memory_mb: i64,
    /// KiB, or one of [`PAGES_SMALL`], [`PAGES_LARGE`] and [`PAGES_ANY`] until it is fitted; 0: none is asked for.
    pub pagesize: i64,
    /// How its CPUs are given.
    pub cpu_policy: CpuPolicy,
    /// How dedicated CPUs stand to the threads of a core.
    pub cpu_thread_policy: Option<ThreadPolicy>,
    /// Once it is fitted: virtual CPUs with the host's CPU of each.
    pub pinning: Vec<(u32, u32)>,
    /// Once it is fitted: host CPUs for the emulator's threads.
    pub reserved: CpuSet,
}

/// The smallest page size of the cell.
pub const PAGES_SMALL: i64 = -1;
/// Any but the smallest, the largest first.
pub const PAGES_LARGE: i64 = -2;
/// Any, the largest first.
pub const PAGES_ANY: i64 = -3;

/// `hw:cpu_policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CpuPolicy {
    /// All CPUs are shared; Nova's default.
    #[default]
    Shared,
    /// All CPUs are pinned.
    Dedicated,
    /// Some are.
    Mixed,
}

/// `hw:cpu_thread_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreadPolicy {
    /// Threads of one core if there are.
    Prefer,
    /// One thread of each core, the others left idle.
    Isolate,
    /// Threads of one core.
    Require,
}

impl CpuPolicy {
    /// By Nova's name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "shared" => Some(Self::Shared),
            "dedicated" => Some(Self::Dedicated),
            "mixed" => Some(Self::Mixed),
            _ => None,
        }
    }

    /// Whether it pins CPUs.
    pub fn pins(self) -> bool {
        self != Self::Shared
    }

    /// Whether it shares CPUs.
    pub fn shares(self) -> bool {
        self != Self::Dedicated
    }
}

impl ThreadPolicy {
    /// By Nova's name.
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
    /// Cells that it is on.
    pub cells: Vec<CellUsage>,
}

/// What it takes from one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellUsage {
    /// The cell's number.
    pub id: u32,
    /// MiB.
    pub memory_mb: i64,
    /// Shared CPUs.
    pub cpus: i64,
    /// CPUs that nobody else gets.
    pub pinned: CpuSet,
    /// Of what size the pages of its memory are, KiB.
    pub pagesize_kb: i64,
}

/// What a host cannot give although it seemed to fit; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// The cell does not say which page sizes it has, so it cannot be said of which pages memory is taken.
    NoPages(u32),
    /// CPUs that the cell does not have, or that are pinned already.
    Pinning(u32),
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPages(cell) => write!(f, "NUMA cell {cell} reports no page sizes"),
            Self::Pinning(cell) => {
                write!(f, "CPUs to be pinned on NUMA cell {cell} are not its own or pinned already")
            }
        }
    }
}

impl std::error::Error for UsageError {}

impl Cell {
    /// Dedicated CPUs that no instance has.
    pub fn free_pcpus(&self) -> CpuSet {
        self.pcpuset.minus(&self.pinned_cpus)
    }

    /// MiB.
    pub fn avail_memory_mb(&self) -> i64 {
        self.memory_mb - self.memory_usage_mb
    }

    fn smallest_page(&self) -> Option<i64> {
        self.mempages.iter().map(|pages| pages.size_kb).min()
    }

    /// The cores that any of these CPUs are of, whole.
    fn cores_of(&self, cpus: &CpuSet) -> CpuSet {
        let mut whole = CpuSet::EMPTY;
        self.siblings.iter().filter(|core| core.meets(cpus)).for_each(|core| whole.add(core));
        whole
    }
}

impl Topology {
    /// Whether any core has more than one thread.
    pub fn has_threads(&self) -> bool {
        self.cells.iter().flat_map(|cell| &cell.siblings).any(|core| core.len() > 1)
    }

    /// What `instance`, fitted onto this host, takes from it.
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

    /// Adds a usage. What names cells or pages that this host does not have is passed over: it was of an earlier report.
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

impl Cell {
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

const KB_PER_MB: i64 = 1024;
