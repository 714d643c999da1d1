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

pub(super) fn read_numa(tree: &Tree) -> Result<Probed<Vec<NumaNode>>, ProbeError> {
    let ids = tree.id_list(&format!("{NODES}/online"))?.unwrap_or_default();
    if ids.is_empty() {
        return single_node(tree);
    }
    let nodes = ids.into_iter().map(|id| read_node(tree, id)).collect::<Result<_, _>>()?;
    Ok(Probed::new(nodes, format!("/{NODES}")))
}

fn read_node(tree: &Tree, id: u32) -> Result<NumaNode, ProbeError> {
    let file = format!("{NODES}/node{id}/meminfo");
    let text = tree.text(&file)?;
    // Each line is that of /proc/meminfo behind `Node <id> `.
    let prefix = format!("Node {id} ");
    let total = text.lines().find_map(|line| kib(line.strip_prefix(&prefix)?, "MemTotal"));
    let total = total
        .ok_or_else(|| tree.malformed(&file, format!("it has no line `{prefix}MemTotal: <number> kB`")))?;
    let cpus = tree.id_list(&format!("{NODES}/node{id}/cpulist"))?.unwrap_or_default();
    Ok(NumaNode { id, cpus, memory_mb: total / KIB_PER_MIB })
}

/// A kernel without NUMA, or a container without that part of sysfs: everything is in node 0.
fn single_node(tree: &Tree) -> Result<Probed<Vec<NumaNode>>, ProbeError> {
    let cpus = super::cpu::online(tree)?;
    let node = NumaNode { id: 0, cpus, memory_mb: read(tree)?.total_mb.value };
    Ok(Probed::new(vec![node], format!("no /{NODES}: all CPUs and memory taken as one node")))
}
