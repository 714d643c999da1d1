//! How many bytes the scheduler keeps of a report. Each host has one budget for all of it, and the map one for all hosts.
//!
//! The numbers are estimates that are at least about as large as what is allocated: a value of JSON text is kept as text
//! and as a tree, and a short text can be a large tree. They are worked out only for the parts of a report that changed,
//! in a few steps for each claim.
//!
//! Left out: the long texts that hosts share (`Texts`), which count once for the map.

use novella_objects::{Capabilities, Claim, Json, NovellaReport};

/// How much the scheduler keeps of one host at most, in bytes.
pub(crate) const MAX_HOST_BYTES: usize = 1024 * 1024;
/// How much the map keeps for each host that it may hold, in bytes.
pub(crate) const MAP_BYTES_PER_HOST: usize = 16 * 1024;
/// How much a map keeps that may hold few hosts, in bytes.
pub(crate) const MIN_MAP_BYTES: usize = 4 * MAX_HOST_BYTES;

/// What a plain claim takes: its row, its entry among the table's instances, and its place in the index.
const CLAIM: usize = 80;
/// What an entry of a dictionary or a hash map takes beside its texts.
const ENTRY: usize = 64;
/// What a member of a server group takes beside the group's name. Most groups have few members.
const GROUP: usize = 128;
/// What a key with its value takes beside their texts, if no other host has the same.
const PAIR: usize = 192;
/// What a trait takes beside its name, if no other host has it.
const TRAIT: usize = 32;
/// What a node of a JSON tree takes.
const NODE: usize = 48;
/// How many kinds of instances are remembered to count each once.
const KINDS: usize = 8;

/// What is kept of the parts of a host's report, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The words, the facts, and the parsed values that extra specs ask about.
    pub words: usize,
    pub metrics: usize,
    /// The claims, and what is left of the devices if claims take any.
    pub claims: usize,
    /// What the host says of the claims that it granted.
    pub grants: usize,
    /// The names of probes that do not answer.
    pub probes: usize,
    /// The long texts, as if no other host had the same.
    pub long_texts: usize,
}

impl Kept {
    /// What is kept for this host alone: all but the long texts.
    pub fn own(self) -> usize {
        self.words + self.metrics + self.claims + self.grants + self.probes
    }
}

/// What a JSON value takes that is kept as text and as a tree.
pub(crate) fn json(text: &str) -> usize {
    let nodes = text.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    2 * text.len() + NODE * nodes
}

fn optional(text: &Option<Json<'_>>) -> usize {
    text.as_ref().map_or(0, |text| json(text.get()))
}

/// What the words of a report take.
pub(crate) fn words(caps: &Capabilities<'_>) -> usize {
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map_or(0, |text| 2 * text.len());
    let pair = |key: &str, value: &str| PAIR + 2 * key.len() + json(value);
    let mut kept = ENTRY + text(&caps.hypervisor_hostname) + text(&caps.hypervisor_type);
    kept += caps.extra.iter().map(|(key, value)| pair(key, value.get())).sum::<usize>();
    let Some(report) = caps.novella.as_deref() else { return kept };
    kept += text(&report.availability_zone) + text(&report.disabled_reason) + text(&report.host_ip);
    kept += report.traits.iter().map(|name| TRAIT + name.len()).sum::<usize>();
    kept += report.resources.iter().map(|(class, _)| 2 * ENTRY + class.len()).sum::<usize>();
    kept + report.facts.iter().map(|(key, value)| pair(key, value.get())).sum::<usize>()
}

/// What the metrics of a report take.
pub(crate) fn metrics(caps: &Capabilities<'_>) -> usize {
    caps.novella.as_ref().map_or(0, |report| optional(&report.metrics))
}

/// What the claims of a report take, of which `extras` bytes are packed.
pub(crate) fn claims(report: Option<&NovellaReport<'_>>, extras: usize) -> usize {
    let Some(report) = report else { return 0 };
    let mut kept = CLAIM * report.claims.len() + extras;
    if extras == 0 {
        return kept;
    }
    let mut kinds: Vec<(Option<&str>, Option<&str>)> = Vec::with_capacity(KINDS);
    for Claim { group, flavor, image, .. } in &report.claims {
        kept += group.as_ref().map_or(0, |name| GROUP + name.len());
        let kind = (flavor.as_deref(), image.as_ref().map(|text| text.get()));
        if kind == (None, None) || kinds.contains(&kind) {
            continue;
        }
        kept += ENTRY + kind.0.map_or(0, str::len) + kind.1.map_or(0, json);
        if kinds.len() < KINDS {
            kinds.push(kind);
        }
    }
    if report.claims.iter().any(Claim::takes_devices) {
        kept += optional(&report.numa_topology) + optional(&report.pci_pools);
    }
    kept
}

/// What the names of probes that do not answer take.
pub(crate) fn probes(report: Option<&NovellaReport<'_>>) -> usize {
    report.map_or(0, |report| report.stale_probes.iter().map(|(name, _)| ENTRY + name.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_that_is_a_large_tree_counts_as_one() {
        let list = format!("[{}]", vec!["1"; 1000].join(","));
        assert!(json(&list) > 1000 * 32 && json("\"plain text\"") < 30);
    }
}
