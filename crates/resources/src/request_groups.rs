//! What extra specs ask of Placement: `resources[S]:CLASS=n`, `trait[S]:NAME=required|forbidden`, `group_policy`.
//!
//! Entries of one suffix `S` are a group; without one they are the group that sizes belong to. As in Nova, what cannot be
//! understood (an unknown class, a negative amount, another word than `required` or `forbidden`) is left out.
//!
//! A class that is given here, in whatever group, replaces the flavor's own size: `VCPU`, `MEMORY_MB` and `DISK_GB` (which
//! then covers swap as well); `PCPU` replaces `VCPU`. An amount of 0 asks for nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

/// All groups of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestGroups<'r> {
    /// By suffix; the group without one has the empty suffix. None is without content.
    pub groups: BTreeMap<&'r str, Group<'r>>,
    /// Whether suffixed groups may share a provider, if the request says.
    pub policy: Option<GroupPolicy>,
}

/// What one provider has to satisfy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group<'r> {
    /// Amounts by class, zeros included: they replace a size with nothing.
    pub resources: BTreeMap<&'r str, u64>,
    /// Traits it must have.
    pub required: Vec<&'r str>,
    /// Traits it must not have.
    pub forbidden: Vec<&'r str>,
}

/// Nova's `group_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPolicy {
    /// One provider may serve several groups.
    None,
    /// Each suffixed group needs a provider of its own.
    Isolate,
}

/// The classes that Placement knows by itself; others begin with `CUSTOM_`.
const STANDARD: [&str; 21] = [
    "VCPU",
    "MEMORY_MB",
    "DISK_GB",
    "PCI_DEVICE",
    "SRIOV_NET_VF",
    "NUMA_SOCKET",
    "NUMA_CORE",
    "NUMA_THREAD",
    "NUMA_MEMORY_MB",
    "IPV4_ADDRESS",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "PCPU",
    "MEM_ENCRYPTION_CONTEXT",
    "FPGA",
    "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
];

/// The classes that a flavor has sizes for. What a host has of them is in its own numbers, never an inventory.
pub const SIZES: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];

/// Longest suffix.
const MAX_SUFFIX: usize = 64;

impl<'r> RequestGroups<'r> {
    /// Reads a flavor's extra specs.
    pub fn read(extra_specs: &'r BTreeMap<String, String>) -> Self {
        let policy = match extra_specs.get("group_policy").map(String::as_str) {
            Some("none") => Some(GroupPolicy::None),
            Some("isolate") => Some(GroupPolicy::Isolate),
            _ => None,
        };
        let mut read = Self { policy, ..Self::default() };
        for (suffix, class, text) in entries(extra_specs, "resources") {
            if is_resource_class(class)
                && let Some(amount) = amount(text)
            {
                read.groups.entry(suffix).or_default().resources.insert(class, amount);
            }
        }
        for (suffix, name, text) in entries(extra_specs, "trait") {
            match text {
                "required" => read.groups.entry(suffix).or_default().required.push(name),
                "forbidden" => read.groups.entry(suffix).or_default().forbidden.push(name),
                _ => {}
            }
        }
        read
    }

    /// What all groups together ask of each class, zeros included.
    pub fn merged(&self) -> BTreeMap<&'r str, u64> {
        let mut merged = BTreeMap::new();
        for (class, amount) in self.groups.values().flat_map(|group| &group.resources) {
            let sum = merged.entry(*class).or_insert(0u64);
            *sum = sum.saturating_add(*amount);
        }
        merged
    }
}

/// Whether Placement could know a class of this name.
pub fn is_resource_class(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with("CUSTOM_")
}

/// Keys of the form `word[S]:name`, as suffix, name and value.
fn entries<'r>(
    extra_specs: &'r BTreeMap<String, String>,
    word: &'static str,
) -> impl Iterator<Item = (&'r str, &'r str, &'r str)> {
    let from = (Bound::Included(word), Bound::Unbounded);
    let keys = extra_specs.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(word));
    keys.filter_map(move |(key, value)| {
        let (suffix, name) = key[word.len()..].split_once(':')?;
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (suffix.len() <= MAX_SUFFIX && suffix.bytes().all(good)).then_some((suffix, name, value.as_str()))
    })
}

/// Python's `int`, not negative: blanks around, a sign, single underscores between ASCII digits.
fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits.split('_').all(good) {
        return None;
    }
    let amount = digits.replace('_', "").parse().unwrap_or(u64::MAX); // more than any host has
    (!negative || amount == 0).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn groups_are_told_apart_by_suffix() {
        let specs = specs(&[
            ("resources:CUSTOM_GPU", "2"),
            ("resources_a:CUSTOM_GPU", "1"),
            ("resources_a:VGPU", "0"),
            ("trait:HW_CPU_X86_AVX2", "required"),
            ("trait_a:CUSTOM_SLOW", "forbidden"),
            ("group_policy", "none"),
        ]);
        let read = RequestGroups::read(&specs);
        assert_eq!(read.policy, Some(GroupPolicy::None));
        assert_eq!(read.groups.keys().copied().collect::<Vec<_>>(), ["", "_a"]);
        assert_eq!(read.groups[""].required, ["HW_CPU_X86_AVX2"]);
        assert_eq!(read.groups["_a"].forbidden, ["CUSTOM_SLOW"]);
        assert_eq!(read.merged(), BTreeMap::from([("CUSTOM_GPU", 3), ("VGPU", 0)]));
    }

    #[test]
    fn what_cannot_be_understood_is_left_out() {
        let long = format!("resources{}:CUSTOM_GPU", "x".repeat(65));
        let specs = specs(&[
            ("resources:GPU", "1"),
            ("resources:CUSTOM_GPU", "-1"),
            ("resources:VGPU", "1.0"),
            ("resources.a:VGPU", "1"),
            (&long, "1"),
            ("resourcesVGPU", "1"),
            ("trait:CUSTOM_X", "yes"),
            ("group_policy", "some"),
        ]);
        assert_eq!(RequestGroups::read(&specs), RequestGroups::default());
    }

    #[test]
    fn amounts_are_read_as_python_does() {
        for (text, read) in [
            ("7", Some(7)),
            (" +1_000 ", Some(1000)),
            ("007", Some(7)),
            ("-0", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("1__0", None),
            ("_1", None),
            ("+-1", None),
            ("0x5", None),
            ("", None),
        ] {
            assert_eq!(amount(text), read, "{text:?}");
        }
    }
}
