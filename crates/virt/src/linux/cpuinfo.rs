//! Reads `/proc/cpuinfo`, which each architecture writes in its own way.
//!
//! A line is `name : value`, and everything after the first colon is the value. Most architectures describe one CPU after
//! the other, with an empty line between them. Lines outside such a description are about all CPUs: s390 writes its
//! vendor and features before the first CPU, ARM before Linux 3.8 writes them after the last, and sparc64 describes all
//! CPUs at once.
//!
//! What always holds: nothing here fails. A text that has none of these lines lists no CPU.

use std::collections::BTreeMap;

/// The fields of some CPU, or of all CPUs, in their order.
type Fields<'a> = Vec<(&'a str, &'a str)>;

/// What `/proc/cpuinfo` says.
#[derive(Default)]
pub(super) struct CpuInfo<'a> {
    /// Fields outside the description of one CPU.
    common: Fields<'a>,
    /// Fields of each CPU, by its number.
    cpus: BTreeMap<u32, Fields<'a>>,
}

impl<'a> CpuInfo<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let mut info = Self::default();
        let mut described = None;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                if line.trim().is_empty() {
                    described = None;
                }
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            if let Some(cpu) = opened(name, value) {
                described = Some(cpu);
                info.cpus.entry(cpu).or_default();
            } else if let Some((cpu, fields)) = whole(name, value) {
                info.cpus.entry(cpu).or_default().extend(fields);
            } else {
                match described.and_then(|cpu| info.cpus.get_mut(&cpu)) {
                    Some(fields) => fields.push((name, value)),
                    None => info.common.push((name, value)),
                }
            }
        }
        if info.cpus.is_empty() && info.common.iter().any(|(name, _)| *name == "Processor") {
            // An ARM kernel before 3.8 for one CPU does not number it.
            info.cpus.insert(0, Vec::new());
        }
        info
    }

    /// Numbers of the listed CPUs, ascending.
    pub(super) fn processors(&self) -> impl Iterator<Item = u32> {
        self.cpus.keys().copied()
    }

    /// The value of the first of `names` that this CPU has, or else that all CPUs have. Empty values do not count.
    pub(super) fn field(&self, cpu: u32, names: &[&str]) -> Option<&'a str> {
        let own = self.cpus.get(&cpu).map_or(&[][..], Vec::as_slice);
        names.iter().find_map(|name| value(own, name).or_else(|| value(&self.common, name)))
    }

    /// The same as a whole number.
    pub(super) fn number(&self, cpu: u32, names: &[&str]) -> Option<u32> {
        self.field(cpu, names)?.parse().ok()
    }

    /// The value of the first of `names` that any CPU has. Empty values do not count.
    pub(super) fn first(&self, names: &[&str]) -> Option<&'a str> {
        let every = || self.cpus.values().chain([&self.common]);
        names.iter().find_map(|name| every().find_map(|fields| value(fields, name)))
    }

    /// The value of the first field of all CPUs whose name passes `wanted`.
    pub(super) fn common_where(&self, wanted: impl Fn(&str) -> bool) -> Option<&'a str> {
        self.common.iter().find(|(name, _)| wanted(name)).map(|(_, value)| *value)
    }
}

fn value<'a>(fields: &[(&'a str, &'a str)], wanted: &str) -> Option<&'a str> {
    fields.iter().find(|(name, value)| *name == wanted && !value.is_empty()).map(|(_, value)| *value)
}

/// The CPU whose description begins with this line. s390 calls the number `cpu number`.
fn opened(name: &str, value: &str) -> Option<u32> {
    if matches!(name, "processor" | "cpu number") { value.parse().ok() } else { None }
}

/// The CPU that this line alone describes, with its fields: `processor 0: version = 00, machine = 8561` on s390, and
/// `CPU0: online` on sparc64.
fn whole<'a>(name: &'a str, value: &'a str) -> Option<(u32, Fields<'a>)> {
    if let Some(number) = name.strip_prefix("processor ") {
        let parts = value.split(',').filter_map(|part| part.split_once('='));
        return Some((
            number.parse().ok()?,
            parts.map(|(name, value)| (name.trim(), value.trim())).collect(),
        ));
    }
    let number = name.strip_prefix("CPU").filter(|_| value == "online")?;
    Some((number.parse().ok()?, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<u32> {
        CpuInfo::parse(text).processors().collect()
    }

    #[test]
    fn every_architecture_numbers_its_cpus() {
        assert_eq!(numbers("processor\t: 0\nflags : a\n\nprocessor\t: 2\n"), [0, 2], "most");
        assert_eq!(
            numbers("# processors : 2\nprocessor 0: version = 00\nprocessor 1: version = 00\n"),
            [0, 1]
        );
        assert_eq!(numbers("cpu number      : 4\nversion : 00\n"), [4], "s390 since 4.10");
        assert_eq!(numbers("State:\nCPU0:\t\tonline\nCPU1:\t\tonline\nCPU2: offline\n"), [0, 1], "sparc64");
        assert_eq!(numbers("Processor\t: ARM926EJ-S rev 5 (v5l)\nBogoMIPS : 1\n"), [0], "one old ARM");
        assert_eq!(numbers("processor : many\n\0 garbage\n"), [0; 0]);
    }

    #[test]
    fn a_value_is_all_that_follows_the_first_colon() {
        let info = CpuInfo::parse("processor : 0\nmodel name : A: b: c\n");
        assert_eq!(info.first(&["model name"]), Some("A: b: c"));
    }

    #[test]
    fn fields_outside_a_cpu_are_those_of_all_and_its_own_come_first() {
        let text = "features : a b\n\nprocessor : 0\nclock : 1\n\nprocessor : 1\nfeatures : a\n\nclock : 7\nempty :\n";
        let info = CpuInfo::parse(text);
        assert_eq!([0, 1].map(|cpu| info.field(cpu, &["features"])), [Some("a b"), Some("a")]);
        assert_eq!([0, 1].map(|cpu| info.number(cpu, &["clock"])), [Some(1), Some(7)]);
        assert_eq!(info.first(&["empty", "none", "clock"]), Some("1"));
    }
}
