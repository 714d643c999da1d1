//! How often claims and holds were granted or refused, and for lack of what.

use std::sync::atomic::{AtomicU64, Ordering};

use novella_objects::{ClaimAnswer, Lack};

/// What a refusal is counted as.
const REASONS: [&str; 9] =
    ["vcpu", "memory_mb", "disk_gb", "numa", "pci", "server_group", "resource_class", "conflict", "ended"];
/// What it is counted as if the host cannot take claims at all, for example because its disk is full.
const BUSY: &str = "busy";

/// See the module documentation.
#[derive(Debug, Default)]
pub struct ClaimCounters {
    granted: AtomicU64,
    ended: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
    busy: AtomicU64,
}

impl ClaimCounters {
    /// Counts an answer. A refusal for lack of several resources counts once for each.
    pub(crate) fn count(&self, answer: &ClaimAnswer) {
        let refused = |reason: &str| {
            let at = REASONS.iter().position(|known| *known == reason);
            at.map_or(&self.busy, |at| &self.refused[at]).fetch_add(1, Ordering::Relaxed)
        };
        match answer {
            ClaimAnswer::Granted { .. } => self.granted.fetch_add(1, Ordering::Relaxed),
            ClaimAnswer::Refused { lacks } => lacks.iter().fold(0, |_, lack| refused(reason(lack))),
            ClaimAnswer::Conflict { .. } => refused("conflict"),
            ClaimAnswer::Ended { .. } => refused("ended"),
            ClaimAnswer::Busy { .. } => refused(BUSY),
        };
    }

    /// Counts claims and holds that a scheduler ended.
    pub(crate) fn count_ended(&self, ended: u64) {
        self.ended.fetch_add(ended, Ordering::Relaxed);
    }

    /// How many claims and holds were granted.
    pub fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// How many claims and holds schedulers ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let refused = REASONS.into_iter().zip(&self.refused);
        refused.chain([(BUSY, &self.busy)]).map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

fn reason(lack: &Lack) -> &'static str {
    match lack.resource.as_str() {
        "VCPU" => "vcpu",
        "MEMORY_MB" => "memory_mb",
        "DISK_GB" => "disk_gb",
        resource if resource.starts_with("NUMA cell ") => "numa",
        resource if resource.starts_with("PCI ") => "pci",
        resource if resource.starts_with("server group ") => "server_group",
        _ => "resource_class",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_what_is_lacking() {
        let counters = ClaimCounters::default();
        let lack =
            |resource: &str| Lack { resource: resource.to_owned(), wanted: 1, free: 0, unit: "".into() };
        let lacks = ["VCPU", "NUMA cell 0 memory", "PCI 8086:1572", "server group web", "CUSTOM_GPU", "VCPU"];
        counters.count(&ClaimAnswer::Refused { lacks: lacks.map(lack).to_vec() });
        counters.count(&ClaimAnswer::Busy { reason: String::new() });
        counters.count(&ClaimAnswer::Granted { rank: Default::default() });
        let refused: Vec<_> = counters.refused().filter(|(_, count)| *count > 0).collect();
        let wanted =
            [("vcpu", 2), ("numa", 1), ("pci", 1), ("server_group", 1), ("resource_class", 1), ("busy", 1)];
        assert_eq!((refused, counters.granted()), (wanted.to_vec(), 1));
    }
}
