//! What extra specs ask of Placement: `resources[S]:CLASS=n`, `trait[S]:NAME=required|forbidden`, `group_policy`.
//!
//! Entries with the same suffix `S` are a group. The group without a suffix is the one that the flavor's sizes belong to.
//! As in Nova, entries that cannot be understood (an unknown class, a negative amount, another word than `required` or
//! `forbidden`) are ignored.
//!
//! A class in any group replaces the flavor's own size: `VCPU`, `MEMORY_MB`, and `DISK_GB`, which then covers swap too.
//! `PCPU` replaces `VCPU`. An amount of 0 asks for nothing.
//!
//! Two more things are asked for in the group without a suffix, as in Nova: a class for each label of `hw:pmem`, and the
//! class of encrypted memory ([`RequestGroups::encrypt_memory`]).
//!
//! Left out: whether an instance's memory is encrypted, which depends on its image too.

use std::borrow::Cow;
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
    pub resources: BTreeMap<Cow<'r, str>, u64>,
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
pub const RESOURCE_CLASSES: [&str; 21] = [
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

/// The class of which an instance with encrypted memory takes one.
const MEMORY_ENCRYPTION: &str = "MEM_ENCRYPTION_CONTEXT";

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
                && let Some(amount) = resource_amount(text)
            {
                read.groups.entry(suffix).or_default().resources.insert(class.into(), amount);
            }
        }
        for (suffix, name, text) in entries(extra_specs, "trait") {
            match text {
                "required" => read.groups.entry(suffix).or_default().required.push(name),
                "forbidden" => read.groups.entry(suffix).or_default().forbidden.push(name),
                _ => {}
            }
        }
        let mut namespaces: BTreeMap<String, u64> = BTreeMap::new();
        for class in persistent_memory(extra_specs) {
            *namespaces.entry(class).or_default() += 1;
        }
        for (class, amount) in namespaces {
            read.ask(class.into(), amount);
        }
        read
    }

    /// Asks for what an instance with encrypted memory needs.
    pub fn encrypt_memory(&mut self) {
        self.ask(MEMORY_ENCRYPTION.into(), 1);
    }

    /// Asks for an amount in the group without a suffix, in place of the amount that the group asks for itself.
    fn ask(&mut self, class: Cow<'r, str>, amount: u64) {
        self.groups.entry("").or_default().resources.insert(class, amount);
    }

    /// The sum of what all groups ask of each class, including sums of zero.
    pub fn merged(&self) -> BTreeMap<Cow<'r, str>, u64> {
        let mut merged = BTreeMap::new();
        for (class, amount) in self.groups.values().flat_map(|group| &group.resources) {
            let sum = merged.entry(class.clone()).or_insert(0u64);
            *sum = sum.saturating_add(*amount);
        }
        merged
    }
}

/// Whether this could be the name of a class in Placement.
pub fn is_resource_class(name: &str) -> bool {
    RESOURCE_CLASSES.contains(&name) || name.starts_with("CUSTOM_")
}

/// The classes that `hw:pmem` asks for, one for each of its labels.
fn persistent_memory(extra_specs: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    let labels = extra_specs.get("hw:pmem").into_iter().flat_map(|labels| labels.split(','));
    labels.map(str::trim).filter(|label| !label.is_empty()).map(|label| {
        let words = format!("PMEM_NAMESPACE_{label}");
        let mut class = "CUSTOM_".to_owned();
        // One underscore stands for any number of characters that a class name cannot have.
        for letter in words.chars() {
            match letter.is_ascii_alphanumeric() {
                true => class.push(letter.to_ascii_uppercase()),
                false if !class.ends_with('_') => class.push('_'),
                false => {}
            }
        }
        class
    })
}

/// Keys of the form `word[S]:name`, as suffix, name and value.
fn entries<'r>(
    extra_specs: &'r BTreeMap<String, String>,
    word: &'static str,
) -> impl Iterator<Item = (&'r str, &'r str, &'r str)> {
    let from = (Bound::Included(word), Bound::Unbounded);
    let keys = extra_specs.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(word));
    keys.filter_map(move |(key, value)| {
        let (suffix, name) = suffix_and_name(key, word)?;
        Some((suffix, name, value.as_str()))
    })
}

/// The suffix and the name of a key that begins with `word`. `None` if the key has another form.
fn suffix_and_name<'r>(key: &'r str, word: &str) -> Option<(&'r str, &'r str)> {
    let (suffix, name) = key.strip_prefix(word)?.split_once(':')?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (suffix.len() <= MAX_SUFFIX && suffix.bytes().all(good)).then_some((suffix, name))
}

/// `resources` or `trait`, if the key of an extra spec has the form `word[S]:name` with that word.
pub fn group_word(key: &str) -> Option<&'static str> {
    ["resources", "trait"].into_iter().find(|word| suffix_and_name(key, word).is_some())
}

/// Reads an amount of a resource class, which is not negative, as Python's `int` does: blanks around it, a sign, and
/// single underscores between ASCII digits are allowed.
pub fn resource_amount(text: &str) -> Option<u64> {
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
        assert_eq!(read.merged(), BTreeMap::from([("CUSTOM_GPU".into(), 3), ("VGPU".into(), 0)]));
    }

    #[test]
    fn persistent_memory_and_encryption_are_asked_for_by_class() {
        let specs = specs(&[
            ("hw:pmem", " 4GB, 4GB ,,16 GB-fast,größe_1"),
            ("resources:CUSTOM_PMEM_NAMESPACE_4GB", "7"),
            ("resources_a:CUSTOM_PMEM_NAMESPACE_4GB", "1"),
            ("resources:MEM_ENCRYPTION_CONTEXT", "3"),
        ]);
        let mut read = RequestGroups::read(&specs);
        read.encrypt_memory();
        let merged: Vec<_> = read.merged().into_iter().collect();
        let expected = [
            ("CUSTOM_PMEM_NAMESPACE_16_GB_FAST", 1),
            ("CUSTOM_PMEM_NAMESPACE_4GB", 3),
            ("CUSTOM_PMEM_NAMESPACE_GR_E_1", 1),
            ("MEM_ENCRYPTION_CONTEXT", 1),
        ];
        assert_eq!(merged, expected.map(|(class, amount)| (class.into(), amount)));
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
            assert_eq!(resource_amount(text), read, "{text:?}");
        }
    }
}
