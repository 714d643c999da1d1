//! What a service said of itself, kept small: Nova's integers as they are, the rest as one block of words.
//!
//! The block holds, in this order: node name, hypervisor type, zone, why disabled, NUMA text; then, each after its count, the keys
//! that nobody knows with their JSON text, traits, custom resources, and the operator's facts. CPU descriptions
//! are shared by all hosts of one model.

use novella_objects::{Capabilities, Entries, Inventory};
use serde_json::{Map, Number, Value};

use super::packed::{Packed, Pieces, Sink};
use crate::dictionary::Dictionary;

/// CPU descriptions, one for each distinct text.
pub(crate) type CpuInfos = Dictionary<Box<str>>;

/// One service's last report.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reported {
    integers: Integers,
    words: Packed,
    cpu_info: Option<u32>,
    /// The report says `"enabled": false`, or the operator disabled the host.
    pub disabled: bool,
}

/// Nova's eight integers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Integers {
    values: [i64; 8],
    present: u8,
}

const INTEGER_KEYS: [&str; 8] = [
    "vcpus",
    "vcpus_used",
    "disk_total",
    "disk_used",
    "disk_available",
    "host_memory_total",
    "host_memory_free",
    "hypervisor_version",
];

impl Integers {
    fn of(caps: &Capabilities<'_>) -> Self {
        let all = [
            caps.vcpus,
            caps.vcpus_used,
            caps.disk_total,
            caps.disk_used,
            caps.disk_available,
            caps.host_memory_total,
            caps.host_memory_free,
            caps.hypervisor_version,
        ];
        let mut out = Self::default();
        for (at, value) in all.into_iter().enumerate() {
            if let Some(value) = value {
                out.values[at] = value;
                out.present |= 1 << at;
            }
        }
        out
    }

    fn iter(self) -> impl Iterator<Item = (&'static str, i64)> {
        let pairs = INTEGER_KEYS.into_iter().zip(self.values).enumerate();
        pairs.filter(move |(at, _)| self.present & (1 << at) != 0).map(|(_, pair)| pair)
    }
}

/// Which parts of a report differ from the last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Difference {
    integers: bool,
    words: bool,
    cpu_info: bool,
}

impl Difference {
    /// True when there is any.
    pub fn any(self) -> bool {
        self.integers || self.words || self.cpu_info
    }

    /// True when words differ: zone, traits, facts among them.
    pub fn in_words(self) -> bool {
        self.words
    }

    /// True when texts differ, which then must be checked.
    pub fn in_text(self) -> bool {
        self.words || self.cpu_info
    }
}

fn put_words(caps: &Capabilities<'_>, sink: &mut Sink<'_>) {
    let report = caps.novella.as_deref();
    sink.optional(caps.hypervisor_hostname.as_deref());
    sink.optional(caps.hypervisor_type.as_deref());
    sink.optional(report.and_then(|r| r.availability_zone.as_deref()));
    sink.optional(report.and_then(|r| r.disabled_reason.as_deref()));
    sink.optional(report.and_then(|r| r.numa_topology.as_ref()).map(|text| text.get()));
    sink.number(caps.extra.len() as u64);
    for (key, text) in &caps.extra {
        sink.text(key);
        sink.text(text.get());
    }
    let Some(report) = report else { return };
    sink.number(report.traits.len() as u64);
    for text in &report.traits {
        sink.text(text);
    }
    sink.number(report.resources.0.len() as u64);
    for (class, inventory) in report.resources.iter() {
        sink.text(class);
        put_inventory(inventory, sink);
    }
    sink.number(report.facts.0.len() as u64);
    for (key, text) in report.facts.iter() {
        sink.text(key);
        sink.text(text.get());
    }
}

fn put_inventory(i: &Inventory, sink: &mut Sink<'_>) {
    for number in [i.total, i.reserved, i.min_unit, i.max_unit, i.step_size, i.allocation_ratio.to_bits()] {
        sink.number(number);
    }
}

fn read_inventory(pieces: &mut Pieces<'_>) -> Inventory {
    Inventory {
        total: pieces.number(),
        reserved: pieces.number(),
        min_unit: pieces.number(),
        max_unit: pieces.number(),
        step_size: pieces.number(),
        allocation_ratio: f64::from_bits(pieces.number()),
    }
}

/// The words of a report, read back.
#[derive(Debug, Default)]
pub(crate) struct Words<'a> {
    pub hypervisor_hostname: Option<&'a str>,
    pub hypervisor_type: Option<&'a str>,
    pub availability_zone: Option<&'a str>,
    pub disabled_reason: Option<&'a str>,
    pub numa_topology: Option<&'a str>,
    pub extra: Vec<(&'a str, &'a str)>,
    pub traits: Vec<&'a str>,
    pub resources: Entries<'a, Inventory>,
    pub facts: Vec<(&'a str, &'a str)>,
}

impl Reported {
    /// Compares with a newer report.
    pub fn compare(&self, caps: &Capabilities<'_>, cpu_infos: &CpuInfos) -> Difference {
        let known = self.cpu_info.map(|symbol| &**cpu_infos.get(symbol));
        Difference {
            integers: self.integers != Integers::of(caps),
            words: !self.words.matches(|sink| put_words(caps, sink)),
            cpu_info: known != caps.cpu_info.as_ref().map(|text| text.get()),
        }
    }

    /// Takes over what differs.
    pub fn replace(&mut self, caps: &Capabilities<'_>, difference: Difference, cpu_infos: &mut CpuInfos) {
        if difference.integers {
            self.integers = Integers::of(caps);
        }
        if difference.words {
            self.words = Packed::build(|sink| put_words(caps, sink));
            let report = caps.novella.as_ref();
            let enabled = caps.extra.iter().rev().find(|(key, _)| key == "enabled");
            self.disabled = report.is_some_and(|r| r.disabled_reason.is_some())
                || enabled.is_some_and(|(_, text)| !is_truthy(text.get()));
        }
        if difference.cpu_info {
            self.release(cpu_infos);
            self.cpu_info = caps.cpu_info.as_ref().map(|text| cpu_infos.acquire(text.get()));
        }
    }

    /// Gives shared texts back before the report is dropped.
    pub fn release(&mut self, cpu_infos: &mut CpuInfos) {
        if let Some(symbol) = self.cpu_info.take() {
            cpu_infos.release(symbol);
        }
    }

    /// The words, read back.
    pub fn words(&self) -> Words<'_> {
        let mut pieces = self.words.read();
        let mut words = Words::default();
        if pieces.is_empty() {
            return words;
        }
        words.hypervisor_hostname = pieces.optional();
        words.hypervisor_type = pieces.optional();
        words.availability_zone = pieces.optional();
        words.disabled_reason = pieces.optional();
        words.numa_topology = pieces.optional();
        words.extra = (0..pieces.number()).map(|_| (pieces.text(), pieces.text())).collect();
        if pieces.is_empty() {
            return words;
        }
        words.traits = (0..pieces.number()).map(|_| pieces.text()).collect();
        let classes = pieces.number();
        words.resources =
            Entries((0..classes).map(|_| (pieces.text().into(), read_inventory(&mut pieces))).collect());
        words.facts = (0..pieces.number()).map(|_| (pieces.text(), pieces.text())).collect();
        words
    }

    /// Nova's integers that it reported, by key.
    pub fn integers(&self) -> impl Iterator<Item = (&'static str, i64)> {
        self.integers.iter()
    }

    /// The symbol of its CPU description.
    pub fn cpu_info(&self) -> Option<u32> {
        self.cpu_info
    }

    /// Why its operator disabled it.
    pub fn disabled_reason(&self) -> Option<&str> {
        let mut pieces = self.words.read();
        if pieces.is_empty() {
            return None;
        }
        for _ in 0..3 {
            pieces.optional();
        }
        pieces.optional()
    }

    /// The top level of the report as JSON, without our own part.
    pub fn to_json(&self, words: &Words<'_>, cpu_infos: &CpuInfos) -> Map<String, Value> {
        let mut map: Map<String, Value> =
            self.integers.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        if let Some(symbol) = self.cpu_info {
            map.insert("cpu_info".into(), json(cpu_infos.get(symbol)));
        }
        for (key, text) in
            [("hypervisor_hostname", words.hypervisor_hostname), ("hypervisor_type", words.hypervisor_type)]
        {
            if let Some(text) = text {
                map.insert(key.into(), text.into());
            }
        }
        map.extend(words.extra.iter().map(|(key, text)| ((*key).to_owned(), json(text))));
        map
    }

    /// Top-level numbers, for the roll-up.
    pub fn for_each_number(&self, mut each: impl FnMut(&str, Number)) {
        for (key, value) in self.integers.iter() {
            each(key, value.into());
        }
        let mut pieces = self.words.read();
        if pieces.is_empty() {
            return;
        }
        for _ in 0..5 {
            pieces.optional();
        }
        for _ in 0..pieces.number() {
            let (key, text) = (pieces.text(), pieces.text());
            if let (false, Ok(number)) = (key == "timestamp", serde_json::from_str(text)) {
                each(key, number);
            }
        }
    }
}

/// JSON text as a value. The text came out of a JSON document, so it is valid; too deep a nesting is shown as text.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Python's truth of a JSON value.
fn is_truthy(text: &str) -> bool {
    match json(text) {
        Value::Null => false,
        Value::Bool(truth) => truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> (Reported, CpuInfos) {
        let mut infos = CpuInfos::default();
        let caps: Capabilities<'_> = serde_json::from_str(text).unwrap();
        let mut reported = Reported::default();
        let difference = reported.compare(&caps, &infos);
        reported.replace(&caps, difference, &mut infos);
        assert!(!reported.compare(&caps, &infos).any());
        (reported, infos)
    }

    #[test]
    fn what_was_reported_is_read_back() {
        let (reported, infos) = round(
            r#"{"vcpus":4,"cpu_info":{"arch":"x86_64"},"hypervisor_hostname":"n1","hypervisor_type":"QEMU","pets":["cat"],"enabled":1,"speed":2.5}"#,
        );
        assert!(!reported.disabled);
        let json = reported.to_json(&reported.words(), &infos);
        assert_eq!(
            Value::Object(json),
            serde_json::json!({"vcpus":4,"cpu_info":{"arch":"x86_64"},"hypervisor_hostname":"n1","hypervisor_type":"QEMU","pets":["cat"],
                "enabled":1,"speed":2.5})
        );
        let mut numbers = Vec::new();
        reported.for_each_number(|key, number| numbers.push(format!("{key}={number}")));
        assert_eq!(numbers, ["vcpus=4", "enabled=1", "speed=2.5"]);
    }

    #[test]
    fn python_decides_what_disabled_means() {
        for (value, enabled) in [
            ("true", true),
            ("false", false),
            ("0", false),
            ("0.0", false),
            ("\"\"", false),
            ("\"no\"", true),
            ("null", false),
        ] {
            assert_eq!(!round(&format!(r#"{{"enabled":{value}}}"#)).0.disabled, enabled, "{value}");
        }
        assert!(!round("{}").0.disabled);
    }
}
