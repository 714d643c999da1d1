//! The search for an arrangement of an instance's cells on a host's cells.
//!
//! Every arrangement is tried, in an order that prefers empty host cells, and the first that fits wins. As in Nova, a fit
//! writes into the instance while it searches: ids become those of host cells, and special page sizes become real sizes.
//! Both stay for the arrangements that are tried next, and for the next instance of the same request.
//!
//! Nova remembers which pairs of cells fit by the *current* id of the instance's cell. A later arrangement may therefore be
//! judged by what was found for another cell of the instance. This code does the same, because results depend on it.
//!
//! Known difference: Nova tries all arrangements, however many there are. This code skips those that must fail in the same
//! way as the one before, and gives up with an error after [`MAX_PERMUTATIONS`].

use std::collections::{BTreeMap, BTreeSet};

use super::pinning::{self, NoSiblings};
use crate::pci;
use crate::topology::{
    Cell, InstanceCell, InstanceTopology, KB_PER_MB, Network, PAGES_ANY, PAGES_LARGE, PAGES_SMALL, Topology,
};

/// Largest number of arrangements that are tried on one host. It allows all arrangements of eight cells, which take a few
/// milliseconds.
pub const MAX_PERMUTATIONS: u32 = 50_000;

/// The parts of a host that an instance is fitted onto.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The host's NUMA cells.
    pub topology: &'a Topology,
    /// The host's free PCI devices.
    pub pools: &'a [pci::Pool],
    /// Whether full cells are tried first: Nova's `packing_host_numa_cells_allocation_strategy`.
    pub packing: bool,
}

/// How far cells may be overcommitted, and which networks must be near them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits<'a> {
    /// The host's `cpu_allocation_ratio`.
    pub cpu_allocation_ratio: f64,
    /// The host's `ram_allocation_ratio`.
    pub ram_allocation_ratio: f64,
    /// Networks that the instance is attached to. `None`: networks do not matter.
    pub network: Option<&'a Network>,
}

/// Why the search cannot decide whether an instance fits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// CPUs are to be pinned on this cell, which does not report the threads of its cores. Nova raises an exception.
    #[error("NUMA cell {0} has CPUs to pin but reports no siblings")]
    NoSiblings(u32),
    /// A PCI request cannot be judged. Nova raises an exception.
    #[error(transparent)]
    Pci(#[from] pci::RequestError),
    /// There are more arrangements than are tried. Nova would go on.
    #[error(
        "stopped after {MAX_PERMUTATIONS} arrangements of NUMA cells, none of which fits; there are more"
    )]
    TooManyPermutations,
}

/// Fits `guest` onto a host, and writes into it which host cells its cells are on. Returns false if it does not fit; the
/// contents of `guest` mean nothing then. Without limits, CPUs and memory are not compared with ratios.
pub fn fit(
    site: Site<'_>,
    guest: &mut InstanceTopology,
    limits: Option<Limits<'_>>,
    requests: &[pci::DeviceRequest],
) -> Result<bool, FitError> {
    let (hosts, guests) = (site.topology.cells.len(), guest.cells.len());
    if guests == 0 || hosts < guests {
        return Ok(false);
    }
    let order = order(site, guest, requests);
    let mut search = Search { site, limits, requests, known: BTreeMap::new(), refused: BTreeSet::new() };
    let mut permutation: Vec<usize> = (0..guests).collect();
    for _ in 0..MAX_PERMUTATIONS {
        let cells: Vec<&Cell> = permutation.iter().map(|&at| &site.topology.cells[order[at]]).collect();
        let change_at = match search.pass(&cells, guest)? {
            Pass::Fits if search.surroundings_fit(&cells, guest)? => return Ok(true),
            Pass::Stuck(at) => at,
            Pass::Fits | Pass::Learnt => guests - 1,
        };
        if !next(&mut permutation, hosts, change_at) {
            return Ok(false);
        }
    }
    Err(FitError::TooManyPermutations)
}

/// Places of the host cells, in the order in which they are tried.
fn order(site: Site<'_>, guest: &InstanceTopology, requests: &[pci::DeviceRequest]) -> Vec<usize> {
    let cells = &site.topology.cells;
    let mut order: Vec<usize> = (0..cells.len()).collect();
    if cells.len() == guest.cells.len() {
        return order;
    }
    // Every sort is stable, so the last one counts most.
    let mut sort = |ascending: bool, key: &dyn Fn(&Cell) -> i64| {
        order.sort_by_cached_key(|&at| if ascending { key(&cells[at]) } else { -key(&cells[at]) });
    };
    sort(site.packing, &Cell::avail_memory_mb);
    if guest.cells[0].cpu_policy.pins() {
        sort(site.packing, &|cell| cell.free_pcpus().len() as i64);
    } else {
        sort(!site.packing, &|cell| cell.cpu_usage);
    }
    let devices = |cell: &Cell| {
        let near = site.pools.iter().filter(|pool| pool.numa_node == Some(cell.id));
        near.map(|pool| i64::from(pool.count)).sum()
    };
    sort(requests.is_empty(), &devices);
    order
}

/// Moves on to the next arrangement of `permutation.len()` out of `of` numbers, in lexicographic order, that differs at
/// `change_at` or before. Returns false if there is none.
fn next(permutation: &mut [usize], of: usize, change_at: usize) -> bool {
    for at in (0..=change_at).rev() {
        let (before, from) = permutation.split_at_mut(at);
        let Some(following) = (from[0] + 1..of).find(|value| !before.contains(value)) else { continue };
        from[0] = following;
        for at in at + 1..permutation.len() {
            let (before, from) = permutation.split_at_mut(at);
            from[0] = (0..of).find(|value| !before.contains(value)).expect("no more places than values");
        }
        return true;
    }
    false
}

struct Search<'a> {
    site: Site<'a>,
    limits: Option<Limits<'a>>,
    requests: &'a [pci::DeviceRequest],
    /// Whether a guest cell fits onto a host cell, by the host cell's id and the guest cell's id when it was tried.
    known: BTreeMap<(u32, u32), bool>,
    /// Sets of host cells that devices or networks rule out.
    refused: BTreeSet<Vec<u32>>,
}

enum Pass {
    /// Each guest cell fits onto its host cell.
    Fits,
    /// The guest cell at this place does not fit, and no pair was tried for the first time. Any arrangement with the same
    /// beginning ends in the same way.
    Stuck(usize),
    /// A guest cell does not fit, and some pair was tried for the first time.
    Learnt,
}

impl Search<'_> {
    /// Tries one arrangement.
    fn pass(&mut self, cells: &[&Cell], guest: &mut InstanceTopology) -> Result<Pass, FitError> {
        let mut learnt = false;
        let isolate = guest.isolate_emulator_threads;
        for (at, (cell, inner)) in cells.iter().zip(&mut guest.cells).enumerate() {
            let pair = (cell.id, inner.id);
            let fits = match self.known.get(&pair) {
                Some(&fits) => {
                    learnt |= fits && inner.id != cell.id;
                    fits
                }
                None => {
                    learnt = true;
                    let fits = fit_cell(cell, inner, self.limits, usize::from(isolate && at == 0))?;
                    self.known.insert(pair, fits);
                    fits
                }
            };
            if !fits {
                return Ok(if learnt { Pass::Learnt } else { Pass::Stuck(at) });
            }
            inner.id = cell.id;
        }
        Ok(Pass::Fits)
    }

    /// Whether devices and networks are near enough to the chosen cells, whose order does not matter.
    fn surroundings_fit(&mut self, cells: &[&Cell], guest: &InstanceTopology) -> Result<bool, FitError> {
        let ids: Vec<u32> = guest.cells.iter().map(|cell| cell.id).collect();
        let mut set = ids.clone();
        set.sort_unstable();
        if self.refused.contains(&set) {
            return Ok(false);
        }
        let topology = Some(self.site.topology);
        let near =
            self.requests.is_empty() || pci::supports(self.site.pools, self.requests, Some(&ids), topology)?;
        let network = self.limits.and_then(|limits| limits.network);
        let fits = near && network.is_none_or(|network| network_fits(self.site.topology, cells, network));
        if !fits {
            self.refused.insert(set);
        }
        Ok(fits)
    }
}

/// Whether each network that is near any cell is near one of the chosen cells.
fn network_fits(topology: &Topology, chosen: &[&Cell], wanted: &Network) -> bool {
    let has = |cell: &Cell, physnet: &str| {
        cell.network.as_ref().is_some_and(|network| network.physnets.contains(physnet))
    };
    let tunneled = |cell: &Cell| cell.network.as_ref().is_some_and(|network| network.tunneled);
    let physnets = wanted.physnets.iter().all(|physnet| {
        chosen.iter().any(|cell| has(cell, physnet)) || !topology.cells.iter().any(|cell| has(cell, physnet))
    });
    let tunnel =
        !wanted.tunneled || chosen.iter().any(|cell| tunneled(cell)) || !topology.cells.iter().any(tunneled);
    physnets && tunnel
}

/// Whether one guest cell fits onto one host cell, with this number of CPUs for the emulator's threads.
fn fit_cell(
    cell: &Cell,
    guest: &mut InstanceCell,
    limits: Option<Limits<'_>>,
    emulator: usize,
) -> Result<bool, FitError> {
    let policy = guest.cpu_policy;
    if guest.pagesize != 0 {
        match page_size(cell, guest) {
            Some(size) => guest.pagesize = size,
            None => return Ok(false),
        }
    } else if !memory_fits(cell, guest) {
        return Ok(false);
    }
    let pinned = guest.pcpuset.len() + emulator;
    if policy.pins() && pinned > cell.pcpuset.len() {
        return Ok(false);
    }
    if policy.shares() && guest.cpuset.len() > cell.cpuset.len() {
        return Ok(false);
    }
    if policy.pins() {
        if pinned > cell.free_pcpus().len() {
            return Ok(false);
        }
        let Some(pins) =
            pinning::pin(cell, guest, emulator).map_err(|NoSiblings| FitError::NoSiblings(cell.id))?
        else {
            return Ok(false);
        };
        (guest.pinning, guest.reserved) = (pins.cpus, pins.reserved);
        guest.id = cell.id;
        if guest.pcpuset.is_empty() && guest.cpuset.is_empty() {
            // Nova treats a guest cell without CPUs as one that could not be pinned.
            return Ok(false);
        }
    }
    let Some(limits) = limits.filter(|_| policy.shares()) else { return Ok(true) };
    let cpus = (cell.cpu_usage.saturating_add(guest.cpuset.len() as i64)) as f64;
    let memory = cell.memory_usage_mb.saturating_add(guest.memory_mb) as f64;
    Ok(cpus <= cell.cpuset.len() as f64 * limits.cpu_allocation_ratio
        && memory <= cell.memory_mb as f64 * limits.ram_allocation_ratio)
}

/// The page size that the cell would give, among those that are asked for.
fn page_size(cell: &Cell, guest: &InstanceCell) -> Option<i64> {
    let mut sizes: Vec<i64> = cell.mempages.iter().map(|pages| pages.size_kb).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let (smallest, larger) = sizes.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
    let fits = |&&size: &&i64| pages_fit(cell, size, guest.memory_mb, true);
    match guest.pagesize {
        PAGES_SMALL => smallest.filter(fits),
        PAGES_LARGE => larger.iter().find(fits),
        PAGES_ANY => sizes.iter().find(fits),
        size => return pages_fit(cell, size, guest.memory_mb, true).then_some(size),
    }
    .copied()
}

/// Whether pages of this size are enough for the memory. Only free pages count if `free` is true.
fn pages_fit(cell: &Cell, size_kb: i64, memory_mb: i64, free: bool) -> bool {
    let Some(pages) = cell.mempages.iter().find(|pages| pages.size_kb == size_kb) else { return false };
    let count = if free { pages.total - pages.used - pages.reserved } else { pages.total };
    let memory_kb = memory_mb.saturating_mul(KB_PER_MB);
    memory_kb <= count.saturating_mul(size_kb) && memory_kb % size_kb == 0
}

/// Whether memory of no particular page size fits. A pinned instance needs free memory. Any other needs no more than the
/// cell has in all, because memory may be overcommitted.
fn memory_fits(cell: &Cell, guest: &InstanceCell) -> bool {
    let free = guest.cpu_policy.pins();
    match cell.smallest_page() {
        Some(size) => pages_fit(cell, size, guest.memory_mb, free),
        None if free => cell.avail_memory_mb() >= guest.memory_mb,
        None => cell.memory_mb >= guest.memory_mb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrangements_come_in_lexicographic_order() {
        let mut all = vec![vec![0, 1]];
        let mut permutation = vec![0, 1];
        while next(&mut permutation, 4, 1) {
            all.push(permutation.clone());
        }
        let expected =
            [[0, 1], [0, 2], [0, 3], [1, 0], [1, 2], [1, 3], [2, 0], [2, 1], [2, 3], [3, 0], [3, 1], [3, 2]];
        assert_eq!(all, expected);
        let mut permutation = vec![0, 1];
        assert!(next(&mut permutation, 4, 0));
        assert_eq!(permutation, [1, 0], "all that begin with 0 are left out");
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        // Twelve cells of each, and a network that is nowhere near: 12! arrangements.
        let network = Network { physnets: ["physnet0".into()].into(), tunneled: false };
        let cell = |id| Cell { id, memory_mb: 8, ..Cell::default() };
        let far = Cell { id: 12, network: Some(network.clone()), memory_mb: 8, ..Cell::default() };
        let topology = Topology { cells: (0..12).map(cell).chain([far]).collect() };
        let inner =
            |id| InstanceCell { id, memory_mb: if id == 11 { 9 } else { 1 }, ..InstanceCell::default() };
        let mut guest = InstanceTopology { cells: (0..12).map(inner).collect(), ..Default::default() };
        let limits = Limits { cpu_allocation_ratio: 1.0, ram_allocation_ratio: 2.0, network: Some(&network) };
        let site = Site { topology: &topology, pools: &[], packing: false };
        assert_eq!(fit(site, &mut guest, Some(limits), &[]), Err(FitError::TooManyPermutations));
    }
}
