//! What extra specs ask of Placement: `resources[S]:CLASS=n`, `trait[S]:NAME=required|forbidden`, `group_policy`.
//!
//! Entries with the same suffix `S` are a group. The group without a suffix is the one that the flavor's sizes belong to.
//! As in Nova, entries that cannot be understood (an unknown class, a negative amount, another word than `required` or
//! `forbidden`) are ignored.
//!
//! A class in any group replaces the flavor's own size: `VCPU`, `MEMORY_MB`, and `DISK_GB`, which then covers swap too.
//! `PCPU` replaces `VCPU`. An amount of 0 asks for nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

/// All groups of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestGroups<'r> {
    /// Groups by suffix. The group without a suffix has the empty one. Every group asks for something.
    pub groups: BTreeMap<&'r str, Group<'r>>,
    /// Whether groups with suffixes may share a provider, if the request says so.
    pub policy: Option<GroupPolicy>,
}

/// What one provider has to offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group<'r> {
    /// Amounts by class. Zeros are kept, because they replace a size of the flavor.
    pub resources: BTreeMap<&'r str, u64>,
    /// Traits that the provider must have.
    pub required: Vec<&'r str>,
    /// Traits that the provider must not have.
    pub forbidden: Vec<&'r str>,
}

/// Nova's `group_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPolicy {
    /// One provider may serve several groups.
    None,
    /// Each group with a suffix needs a provider of its own.
    Isolate,
}

/// Placement's own classes. All others begin with `CUSTOM_`.
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

/// The classes that a flavor has sizes for. Hosts report them as numbers of their own, never as inventories.
pub const SIZES: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];

/// Longest suffix, in bytes, as in Nova.
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

    /// The sum of what all groups ask of each class, including sums of zero.
    pub fn merged(&self) -> BTreeMap<&'r str, u64> {
        let mut merged = BTreeMap::new();
        for (class, amount) in self.groups.values().flat_map(|group| &group.resources) {
            let sum = merged.entry(*class).or_insert(0u64);
            *sum = sum.saturating_add(*amount);
        }
        merged
    }
}

/// Whether this could be the name of a class in Placement.
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

/// Reads a number that is not negative as Python's `int` does: blanks around it, a sign, and single underscores between
/// ASCII digits are allowed.
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
    let amount = digits.replace('_', "").parse().unwrap_or(u64::MAX); // too large for u64, and more than any host has
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
