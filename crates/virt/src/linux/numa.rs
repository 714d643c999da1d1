//! The NUMA nodes: their memory by page size, and the cores and sockets of their CPUs.
//!
//! As in libvirt and therefore in Nova, a machine without NUMA is one node with everything. Unlike libvirt, this code lists
//! the page sizes of such a machine too. Otherwise an instance that asks for a page size could not be placed on it.
//!
//! What always holds: each online CPU is in at most one node and in one core of it, whatever the kernel, the firmware or a
//! container says. Otherwise two instances could be pinned to one CPU. A warning names the CPUs that are left out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use novella_resources::cpu_set::CpuSet;

use super::cpu;
use super::memory::{KIB_PER_MIB, MEMINFO, kib, total_kib};
use super::places::{self, Place};
use super::tree::Tree;
use crate::probe_error::ProbeError;
use crate::stats::{CpuTopology, MemPages, NumaNode, Probed};

const NODES: &str = "sys/devices/system/node";

/// The host's huge pages. A kernel without NUMA has only this directory.
const ALL_HUGE_PAGES: &str = "sys/kernel/mm/hugepages";

/// If the nodes together have over a sixteenth more memory than the host, they are ignored. Smaller differences between
/// the kernel's two counts are normal.
const MEMORY_TOLERANCE: u64 = 16;

/// The nodes and what follows from them.
#[derive(Clone)]
pub(super) struct Numa {
    pub(super) nodes: Probed<Vec<NumaNode>>,
    pub(super) topology: CpuTopology,
    pub(super) warnings: Vec<String>,
}

/// What the kernel says about one node.
struct Cell {
    id: u32,
    cpus: Vec<u32>,
    memory_kib: u64,
    /// The directory of its huge pages.
    huge_pages: String,
}

/// Reads the nodes. A single node gets all memory of the host, because in a virtual machine the kernel's count for the node
/// was a quarter of the memory, while `/proc/meminfo` was right.
pub(super) fn read(tree: &Tree) -> Result<Numa, ProbeError> {
    let online = cpu::online(tree)?;
    let total = total_kib(tree)?;
    let whole =
        || Cell { id: 0, cpus: online.clone(), memory_kib: total, huge_pages: ALL_HUGE_PAGES.to_owned() };
    let mut warnings = Vec::new();
    let ids = tree.id_list(&format!("{NODES}/online"))?.unwrap_or_default();
    let (mut cells, mut source) = match ids[..] {
        // This is a kernel without NUMA, or a container without that part of sysfs.
        [] => (vec![whole()], format!("no /{NODES}: all CPUs and memory taken as one node")),
        [id] => {
            let cpus = node_cpus(tree, id)?.unwrap_or_else(|| online.clone());
            let cell = Cell { id, cpus, memory_kib: total, huge_pages: huge_pages_of(id) };
            (vec![cell], format!("/{NODES}; one node, so memory from /{MEMINFO} MemTotal"))
        }
        _ => {
            let cells = ids.into_iter().map(|id| read_cell(tree, id, &mut warnings));
            (cells.collect::<Result<_, _>>()?, format!("/{NODES}"))
        }
    };
    let claimed = cells.iter().fold(0u64, |sum, cell| sum.saturating_add(cell.memory_kib));
    if claimed > total.saturating_add(total / MEMORY_TOLERANCE) {
        let mib = |kib: u64| kib / KIB_PER_MIB;
        warnings.push(format!(
            "the NUMA nodes in /{NODES} have {} MiB, but the host has {} MiB in /{MEMINFO}; it seems that a container \
             (lxcfs) replaces the one and not the other. All CPUs and memory are reported as one node: run the agent \
             outside the container",
            mib(claimed),
            mib(total)
        ));
        cells = vec![whole()];
        source =
            format!("/{MEMINFO}: all CPUs and memory taken as one node, because /{NODES} contradicts it");
    }
    part(&mut cells, &online, &mut warnings);
    let places = places::read(tree, &online)?;
    let nodes: Vec<NumaNode> =
        cells.into_iter().map(|cell| describe(tree, cell, &places)).collect::<Result<_, _>>()?;
    Ok(Numa { topology: topology(&nodes, &places), nodes: Probed::new(nodes, source), warnings })
}

/// Reads one of several nodes. What a missing file would say counts as nothing, and is a warning.
fn read_cell(tree: &Tree, id: u32, warnings: &mut Vec<String>) -> Result<Cell, ProbeError> {
    let mut missing = |file: &str, what: &str| {
        warnings.push(format!(
            "/{NODES}/node{id}/{file} is missing, so NUMA node {id} is reported without {what}; check that all of /sys \
             can be read here"
        ));
    };
    let cpus = node_cpus(tree, id)?;
    if cpus.is_none() {
        missing("cpulist", "CPUs");
    }
    let memory_kib = node_memory(tree, id)?;
    if memory_kib.is_none() {
        missing("meminfo", "memory");
    }
    Ok(Cell {
        id,
        cpus: cpus.unwrap_or_default(),
        memory_kib: memory_kib.unwrap_or(0),
        huge_pages: huge_pages_of(id),
    })
}

fn node_cpus(tree: &Tree, id: u32) -> Result<Option<Vec<u32>>, ProbeError> {
    tree.id_list(&format!("{NODES}/node{id}/cpulist"))
}

fn huge_pages_of(id: u32) -> String {
    format!("{NODES}/node{id}/hugepages")
}

fn node_memory(tree: &Tree, id: u32) -> Result<Option<u64>, ProbeError> {
    let file = format!("{NODES}/node{id}/meminfo");
    let Some(text) = tree.text_if_there(&file)? else { return Ok(None) };
    // Each line begins with `Node <id> ` and continues like a line of /proc/meminfo.
    let prefix = format!("Node {id} ");
    let total = text.lines().find_map(|line| kib(line.strip_prefix(&prefix)?, "MemTotal"));
    let wrong = || tree.malformed(&file, format!("it has no line `{prefix}MemTotal: <number> kB`"));
    total.map(Some).ok_or_else(wrong)
}

/// Leaves each online CPU in the first node that names it, and no other CPU in any node.
fn part(cells: &mut [Cell], online: &[u32], warnings: &mut Vec<String>) {
    let online: BTreeSet<u32> = online.iter().copied().collect();
    let mut owner: BTreeMap<u32, u32> = BTreeMap::new();
    let mut shared: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for cell in cells {
        let (here, absent): (Vec<u32>, Vec<u32>) =
            cell.cpus.iter().copied().partition(|cpu| online.contains(cpu));
        if !absent.is_empty() {
            warnings.push(format!(
                "NUMA node {} names CPUs {}, which are not online; they are left out. In a container, run the agent \
                 outside it",
                cell.id,
                list(&absent)
            ));
        }
        cell.cpus = here;
        cell.cpus.retain(|&cpu| match owner.entry(cpu) {
            Entry::Vacant(free) => {
                free.insert(cell.id);
                true
            }
            Entry::Occupied(first) => {
                shared.entry((*first.get(), cell.id)).or_default().push(cpu);
                false
            }
        });
    }
    for ((first, second), cpus) in shared {
        warnings.push(format!(
            "CPUs {} are in NUMA node {first} and in NUMA node {second}; they count for node {first} only. Look for \
             numa=fake on the kernel's command line, or for a newer firmware",
            list(&cpus)
        ));
    }
    let homeless: Vec<u32> = online.into_iter().filter(|cpu| !owner.contains_key(cpu)).collect();
    if !homeless.is_empty() {
        warnings.push(format!(
            "CPUs {} are in no NUMA node; instances that need NUMA nodes or pinned CPUs cannot use them",
            list(&homeless)
        ));
    }
}

/// CPUs as the kernel lists them, such as `0-3,8`.
fn list(cpus: &[u32]) -> String {
    CpuSet::of(cpus).map_or_else(|_| format!("{cpus:?}"), |set| set.to_string())
}

fn describe(tree: &Tree, cell: Cell, places: &BTreeMap<u32, Place>) -> Result<NumaNode, ProbeError> {
    let Cell { id, cpus, memory_kib, huge_pages } = cell;
    let mut sockets: BTreeSet<Option<u32>> = cpus.iter().map(|cpu| places[cpu].socket).collect();
    let socket = match sockets.len() {
        1 => sockets.pop_first().flatten(),
        _ => None,
    };
    let siblings = cores(&cpus, places);
    let mempages = read_pages(tree, memory_kib, &huge_pages)?;
    Ok(NumaNode { id, memory_mb: memory_kib / KIB_PER_MIB, cpus, socket, siblings, mempages })
}

/// The CPUs of a node by core, each once. Threads that are offline or in another node are left out.
fn cores(cpus: &[u32], places: &BTreeMap<u32, Place>) -> Vec<Vec<u32>> {
    let mut left: BTreeSet<u32> = cpus.iter().copied().collect();
    let mut cores = Vec::new();
    while let Some(cpu) = left.pop_first() {
        let others = places[&cpu].core.iter().copied().filter(|thread| left.remove(thread));
        let mut core: Vec<u32> = std::iter::once(cpu).chain(others).collect();
        core.sort_unstable();
        cores.push(core);
    }
    cores
}

/// The arrangement as libvirt counts it: sockets in a node, cores in that part of a socket, threads in a core.
fn topology(nodes: &[NumaNode], places: &BTreeMap<u32, Place>) -> CpuTopology {
    let mut most = CpuTopology { sockets: 1, cores: 1, threads: 1, cells: count(nodes.len()) };
    for node in nodes {
        let mut sockets: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        for core in &node.siblings {
            *sockets.entry(places[&core[0]].socket).or_default() += 1;
            most.threads = most.threads.max(count(core.len()));
        }
        most.sockets = most.sockets.max(count(sockets.len()));
        most.cores = most.cores.max(count(sockets.into_values().max().unwrap_or(0)));
    }
    most
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Memory by page size. Memory that is not in huge pages is in ordinary ones.
fn read_pages(tree: &Tree, memory_kib: u64, directory: &str) -> Result<Vec<MemPages>, ProbeError> {
    let size_of = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
    let mut huge = Vec::new();
    for name in tree.names(directory)?.unwrap_or_default() {
        let Some(size_kb) = size_of(&name) else { continue };
        let total = tree.number(&format!("{directory}/{name}/nr_hugepages"))?.unwrap_or(0);
        huge.push(MemPages { size_kb, total });
    }
    huge.sort_unstable_by_key(|pages| pages.size_kb);
    let taken = huge.iter().fold(0u64, |sum, p| sum.saturating_add(p.size_kb.saturating_mul(p.total)));
    let page_kib = tree.fact("page_size_kib", || rustix::param::page_size() as u64 / 1024)?.max(1);
    let ordinary = MemPages { size_kb: page_kib, total: memory_kib.saturating_sub(taken) / page_kib };
    Ok([vec![ordinary], huge].concat())
}
