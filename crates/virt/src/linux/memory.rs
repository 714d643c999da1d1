//! Memory of the host and of its NUMA nodes.

use super::tree::Tree;
use crate::probe::ProbeError;
use crate::stats::{NumaNode, Probed};

const MEMINFO: &str = "proc/meminfo";
const NODES: &str = "sys/devices/system/node";
const KIB_PER_MIB: u64 = 1024;

#[derive(Clone)]
pub(super) struct Memory {
    pub(super) total_mb: Probed<u64>,
    pub(super) available_mb: Probed<u64>,
}

pub(super) fn read(tree: &Tree) -> Result<Memory, ProbeError> {
    let text = tree.text(MEMINFO)?;
    let need = |name: &str| {
        kib(&text, name)
            .ok_or_else(|| tree.malformed(MEMINFO, format!("it has no line `{name}: <number> kB`")))
    };
    let total = need("MemTotal")?;
    let (available, source) = match kib(&text, "MemAvailable") {
        Some(available) => (available, "/proc/meminfo MemAvailable"),
        // Kernels before 3.14 have no estimate of their own; Nova of that time counted the same three.
        None => (
            [need("MemFree")?, kib(&text, "Buffers").unwrap_or(0), kib(&text, "Cached").unwrap_or(0)]
                .into_iter()
                .fold(0, u64::saturating_add),
            "/proc/meminfo MemFree + Buffers + Cached",
        ),
    };
    Ok(Memory {
        total_mb: Probed::new(total / KIB_PER_MIB, "/proc/meminfo MemTotal"),
        available_mb: Probed::new(available / KIB_PER_MIB, source),
    })
}

/// The value of `name` in KiB. Our own look-up for these few lines, because procfs refuses a file that lacks any of
/// some twenty others, and gVisor's does.
fn kib(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?.trim();
        value.strip_suffix("kB")?.trim_end().parse().ok()
    })
}

/// The nodes. A single node has all the memory that the host has: the kernel's per-node count was seen to say a
/// quarter of that in a virtual machine, where `/proc/meminfo` was right.
pub(super) fn read_numa(tree: &Tree) -> Result<Probed<Vec<NumaNode>>, ProbeError> {
    let ids = tree.id_list(&format!("{NODES}/online"))?.unwrap_or_default();
    let all_memory = || Ok(read(tree)?.total_mb.value);
    match ids[..] {
        // A kernel without NUMA, or a container without that part of sysfs.
        [] => {
            let node = NumaNode { id: 0, cpus: super::cpu::online(tree)?, memory_mb: all_memory()? };
            Ok(Probed::new(vec![node], format!("no /{NODES}: all CPUs and memory taken as one node")))
        }
        [id] => {
            let node = NumaNode { id, cpus: node_cpus(tree, id)?, memory_mb: all_memory()? };
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
    // Each line is that of /proc/meminfo behind `Node <id> `.
    let prefix = format!("Node {id} ");
    let total = text.lines().find_map(|line| kib(line.strip_prefix(&prefix)?, "MemTotal"));
    let total = total
        .ok_or_else(|| tree.malformed(&file, format!("it has no line `{prefix}MemTotal: <number> kB`")))?;
    Ok(NumaNode { id, cpus: node_cpus(tree, id)?, memory_mb: total / KIB_PER_MIB })
}

fn node_cpus(tree: &Tree, id: u32) -> Result<Vec<u32>, ProbeError> {
    let file = format!("{NODES}/node{id}/cpulist");
    tree.id_list(&file)?.ok_or_else(|| tree.malformed(&file, "the node is online, but has no such file"))
}
