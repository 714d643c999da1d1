//! The host CPUs that the dedicated CPUs of an instance's cell are pinned to.
//!
//! Cores are used in the order in which the host reports them. The thread policy says how many threads of each core may
//! be used. `isolate` uses one thread of cores that are wholly free. `require` uses two or more. `prefer`, like no policy,
//! uses as many as possible, and any free CPU if that is not enough.

use crate::cpu_set::CpuSet;
use crate::topology::{Cell, InstanceCell, ThreadPolicy};

/// The CPUs that a guest cell gets.
pub(super) struct Pins {
    /// Virtual CPUs in ascending order, each with its host CPU.
    pub(super) cpus: Vec<(u32, u32)>,
    /// Host CPUs for the emulator's threads.
    pub(super) reserved: CpuSet,
}

/// A cell does not report which of its CPUs are threads of one core.
pub(super) struct NoSiblings;

/// Pins the dedicated CPUs of `guest`, and sets `emulator` CPUs aside for the emulator's threads. Returns `None` if the
/// free CPUs are not enough for its thread policy.
pub(super) fn pin(cell: &Cell, guest: &InstanceCell, emulator: usize) -> Result<Option<Pins>, NoSiblings> {
    let threads_per_core = cell.siblings.iter().map(CpuSet::len).max();
    let threads_per_core = threads_per_core.ok_or(NoSiblings)?.max(1);
    let free = cell.free_pcpus();
    let cores: Vec<Vec<u32>> = cell.siblings.iter().map(|core| core.and(&free).iter().collect()).collect();
    let task = Task { cores: &cores, guest: &guest.pcpuset, emulator };
    Ok(match guest.cpu_thread_policy {
        Some(ThreadPolicy::Isolate) => {
            // As in Nova: if CPUs are set aside for pinning, an isolated instance needs a host without threads.
            let threads = threads_per_core > 1 && cell.pcpuset != cell.cpuset;
            if threads || guest.pcpuset.is_empty() { None } else { task.isolated(threads_per_core) }
        }
        Some(ThreadPolicy::Require) if threads_per_core == 1 => None,
        Some(ThreadPolicy::Require) => task.packed(2),
        Some(ThreadPolicy::Prefer) | None => task.preferred(),
    })
}

struct Task<'a> {
    /// Free CPUs, core by core.
    cores: &'a [Vec<u32>],
    guest: &'a CpuSet,
    emulator: usize,
}

impl Task<'_> {
    fn isolated(&self, threads_per_core: usize) -> Option<Pins> {
        let whole = self.cores.iter().filter(|core| core.len() >= threads_per_core);
        let cpus = self.zip(whole.clone().count(), whole.map(|core| core[0]))?;
        let pinned = |cpu: &u32| cpus.iter().any(|(_, to)| to == cpu);
        let others = self.cores.iter().filter(|core| !core.iter().any(pinned));
        let reserved = self.reserve(others.flatten().copied())?;
        Some(Pins { cpus, reserved })
    }

    /// Pins to as many threads of each core as possible, but to at least `least`.
    fn packed(&self, least: usize) -> Option<Pins> {
        let most = self.cores.iter().map(Vec::len).max().unwrap_or(0);
        (least..=most).rev().find_map(|threads| {
            let usable = self.cores.iter().filter(|core| core.len() >= threads);
            let places = threads * usable.clone().count();
            let cpus = self.zip(places, usable.flat_map(|core| &core[..threads]).copied())?;
            self.with_reserved(cpus)
        })
    }

    fn preferred(&self) -> Option<Pins> {
        if let Some(pins) = self.packed(1) {
            return Some(pins);
        }
        let free = self.cores.iter().flatten();
        let cpus = self.zip(free.clone().count(), free.copied())?;
        self.with_reserved(cpus)
    }

    /// Pairs virtual CPUs with host CPUs, if there are enough places.
    fn zip(&self, places: usize, cpus: impl Iterator<Item = u32>) -> Option<Vec<(u32, u32)>> {
        (places >= self.guest.len()).then(|| self.guest.iter().zip(cpus).collect())
    }

    fn with_reserved(&self, cpus: Vec<(u32, u32)>) -> Option<Pins> {
        if cpus.is_empty() {
            // Nova sets no CPU aside if none is pinned.
            return (self.emulator == 0).then_some(Pins { cpus, reserved: CpuSet::EMPTY });
        }
        let unpinned = self.cores.iter().flatten().filter(|cpu| !cpus.iter().any(|(_, to)| to == *cpu));
        let reserved = self.reserve(unpinned.copied())?;
        Some(Pins { cpus, reserved })
    }

    /// Sets the first of these CPUs aside for the emulator's threads.
    fn reserve(&self, cpus: impl Iterator<Item = u32>) -> Option<CpuSet> {
        let mut reserved = CpuSet::EMPTY;
        for cpu in cpus.take(self.emulator) {
            reserved.insert(cpu).expect("it was taken out of a set");
        }
        (self.emulator == 0 || !reserved.is_empty()).then_some(reserved)
    }
}
