//! The NUMA nodes: their memory by page size, and the cores and sockets of their CPUs.
//!
//! As in libvirt and therefore in Nova, a machine without NUMA is one node with everything. Unlike libvirt, this code lists
//! the page sizes of such a machine too. Otherwise an instance that asks for a page size could not be placed on it.

use std::collections::BTreeSet;

use super::cpu;
use super::memory::{KIB_PER_MIB, MEMINFO, kib, total_kib};
use super::tree::Tree;
use crate::probe_error::ProbeError;
use crate::stats::{MemPages, NumaNode, Probed};

const NODES: &str = "sys/devices/system/node";

/// The host's huge pages. A kernel without NUMA has only this directory.
const ALL_HUGE_PAGES: &str = "sys/kernel/mm/hugepages";

/// Reads the nodes. A single node gets all memory of the host, because in a virtual machine the kernel's count for the node
/// was a quarter of the memory, while `/proc/meminfo` was right.
pub(super) fn read(tree: &Tree) -> Result<Probed<Vec<NumaNode>>, ProbeError> {
    let ids = tree.id_list(&format!("{NODES}/online"))?.unwrap_or_default();
    match ids[..] {
        // This is a kernel without NUMA, or a container without that part of sysfs.
        [] => {
            let node = describe(tree, 0, cpu::online(tree)?, total_kib(tree)?, ALL_HUGE_PAGES)?;
            Ok(Probed::new(vec![node], format!("no /{NODES}: all CPUs and memory taken as one node")))
        }
        [id] => {
            let node = describe(tree, id, node_cpus(tree, id)?, total_kib(tree)?, &huge_pages(id))?;
            Ok(Probed::new(vec![node], format!("/{NODES}; one node, so memory from /{MEMINFO} MemTotal")))
        }
        _ => {
            let nodes = ids.into_iter().map(|id| read_node(tree, id)).collect::<Result<_, _>>()?;
            Ok(Probed::new(nodes, format!("/{NODES}")))
        }
    }
}

fn read_node(tree: &Tree, id: u32) -> Result<NumaNode, ProbeError> {
    let file = format!("{NODES}/node{id}/meminfo");
    let text = tree.text(&file)?;
    // Each line begins with `Node <id> ` and continues like a line of /proc/meminfo.
    let prefix = format!("Node {id} ");
    let total = text.lines().find_map(|line| kib(line.strip_prefix(&prefix)?, "MemTotal"));
    let total = total
        .ok_or_else(|| tree.malformed(&file, format!("it has no line `{prefix}MemTotal: <number> kB`")))?;
    describe(tree, id, node_cpus(tree, id)?, total, &huge_pages(id))
}

fn node_cpus(tree: &Tree, id: u32) -> Result<Vec<u32>, ProbeError> {
    let file = format!("{NODES}/node{id}/cpulist");
    tree.id_list(&file)?.ok_or_else(|| tree.malformed(&file, "the node is online, but has no such file"))
}

fn huge_pages(id: u32) -> String {
    format!("{NODES}/node{id}/hugepages")
}

fn describe(
    tree: &Tree,
    id: u32,
    cpus: Vec<u32>,
    memory_kib: u64,
    huge_pages: &str,
) -> Result<NumaNode, ProbeError> {
    let (mut cores, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for cpu in &cpus {
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        let siblings = tree.id_list(&format!("{topology}/thread_siblings_list"))?;
        cores.insert(siblings.filter(|threads| !threads.is_empty()).unwrap_or_else(|| vec![*cpu]));
        // The kernel writes -1 if it does not know the socket.
        let socket = tree.optional(&format!("{topology}/physical_package_id"))?;
        sockets.insert(socket.and_then(|socket| socket.parse::<u32>().ok()));
    }
    let socket = match sockets.len() {
        1 => sockets.pop_first().flatten(),
        _ => None,
    };
    let mempages = read_pages(tree, memory_kib, huge_pages)?;
    let memory_mb = memory_kib / KIB_PER_MIB;
    Ok(NumaNode { id, cpus, memory_mb, socket, siblings: cores.into_iter().collect(), mempages })
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
    let page_kib = (rustix::param::page_size() as u64 / 1024).max(1);
    let ordinary = MemPages { size_kb: page_kib, total: memory_kib.saturating_sub(taken) / page_kib };
    Ok([vec![ordinary], huge].concat())
}
