//! The host's memory.

use super::tree::Tree;
use crate::probe_error::ProbeError;
use crate::stats::Probed;

pub(super) const MEMINFO: &str = "proc/meminfo";
pub(super) const KIB_PER_MIB: u64 = 1024;

#[derive(Clone)]
pub(super) struct Memory {
    pub(super) total_mb: Probed<u64>,
    /// `None` if the file does not tell. Placement does without it.
    pub(super) available_mb: Probed<Option<u64>>,
}

pub(super) fn read(tree: &Tree) -> Result<Memory, ProbeError> {
    let text = tree.text(MEMINFO)?;
    let total = need(tree, &text, "MemTotal")?;
    let (available, source) = available(&text);
    Ok(Memory {
        total_mb: Probed::new(total / KIB_PER_MIB, "/proc/meminfo MemTotal"),
        available_mb: Probed::new(available.map(|kib| kib / KIB_PER_MIB), source),
    })
}

/// What new work could have, KiB, and its source.
fn available(text: &str) -> (Option<u64>, &'static str) {
    if let Some(available) = kib(text, "MemAvailable") {
        return (Some(available), "/proc/meminfo MemAvailable");
    }
    // Kernels before 3.14 do not estimate available memory. Nova of that time added the same three numbers.
    let Some(free) = kib(text, "MemFree") else {
        return (None, "/proc/meminfo has neither MemAvailable nor MemFree");
    };
    let cached = ["Buffers", "Cached"].map(|name| kib(text, name).unwrap_or(0));
    (Some(cached.into_iter().fold(free, u64::saturating_add)), "/proc/meminfo MemFree + Buffers + Cached")
}

/// The host's memory size, KiB.
pub(super) fn total_kib(tree: &Tree) -> Result<u64, ProbeError> {
    need(tree, &tree.text(MEMINFO)?, "MemTotal")
}

fn need(tree: &Tree, text: &str, name: &str) -> Result<u64, ProbeError> {
    kib(text, name).ok_or_else(|| tree.malformed(MEMINFO, format!("it has no line `{name}: <number> kB`")))
}

/// The value of `name`, KiB. The procfs crate is not used for this, because it refuses a file without some twenty other
/// lines, which gVisor does not have.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?.trim();
        value.strip_suffix("kB")?.trim_end().parse().ok()
    })
}
