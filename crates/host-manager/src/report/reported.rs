//! What a service reported, stored compactly: Nova's integers as they are, and the rest as one block of words.
//!
//! The block has, in this order: node name, hypervisor type, zone, reason for being disabled, address. Then follow,
//! each list after its length: unknown keys with their JSON text, traits, custom resources, and the operator's facts.
//! Long texts that are equal on all hosts of one model are shared: CPU, NUMA cells, PCI devices, and what the host can
//! run. Metrics are stored separately, because they differ in every report.
//!
//! What always holds: [`Reported::compare`] sees every difference that [`Reported::replace`] would store.
//!
//! Left out: claims (`claims.rs`), and amounts, which are in the table.

use std::sync::Arc;

use novella_filter_scheduler::Dictionary;
use novella_objects::{Capabilities, Entries, INTEGER_KEYS, Inventory};
use serde_json::{Map, Number, Value};

use crate::report::kept;
use crate::report::packed::{Packed, Pieces, Sink};

/// The long texts of all reports. Equal texts are stored, and count, once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    texts: Dictionary<Arc<str>>,
    /// What they take in bytes, with the values that are parsed from them.
    bytes: usize,
}

impl Texts {
    pub fn acquire(&mut self, text: &str) -> u32 {
        if self.texts.find(text).is_none() {
            self.bytes += kept::json(text);
        }
        self.texts.acquire(text)
    }

    pub fn release(&mut self, symbol: u32) {
        let bytes = kept::json(self.texts.get(symbol));
        if self.texts.release(symbol) {
            self.bytes -= bytes;
        }
    }

    pub fn get(&self, symbol: u32) -> &str {
        self.texts.get(symbol)
    }

    /// What the texts take in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the long texts of a report would add, in bytes.
    pub fn added_by(&self, caps: &Capabilities<'_>) -> usize {
        let texts = TEXTS.into_iter().filter_map(|text| text.of(caps));
        texts.filter(|text| self.texts.find(*text).is_none()).map(kept::json).sum()
    }

    /// All texts by symbol. `None` where a symbol is free.
    pub fn values_by_symbol(&self) -> Vec<Option<Arc<str>>> {
        self.texts.values_by_symbol()
    }
}

/// The long texts of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// `cpu_info`.
    CpuInfo,
    /// `supported_instances`.
    SupportedInstances,
    /// `numa_topology`.
    NumaTopology,
    /// `pci_pools`.
    PciPools,
}

const TEXTS: [Text; 4] = [Text::CpuInfo, Text::SupportedInstances, Text::NumaTopology, Text::PciPools];

impl Text {
    /// The text in a report.
    pub fn of<'c>(self, caps: &'c Capabilities<'_>) -> Option<&'c str> {
        let report = caps.novella.as_deref();
        let text = match self {
            Self::CpuInfo => return caps.cpu_info.as_ref().map(|text| text.get()),
            Self::SupportedInstances => &report?.supported_instances,
            Self::NumaTopology => &report?.numa_topology,
            Self::PciPools => &report?.pci_pools,
        };
        text.as_ref().map(|text| text.get())
    }
}

/// What the long texts of a report take in bytes, as if no other host had the same.
pub(crate) fn long_text_bytes(caps: &Capabilities<'_>) -> usize {
    TEXTS.into_iter().filter_map(|text| text.of(caps)).map(kept::json).sum()
}

fn metrics<'c>(caps: &'c Capabilities<'_>) -> Option<&'c str> {
    caps.novella.as_ref()?.metrics.as_ref().map(|text| text.get())
}

/// One service's last report.
#[derive(Debug, Default, Clone)]
pub struct Reported {
    integers: Integers,
    /// The words, packed by [`put_words`].
    words: Packed,
    /// For each long text, its symbol in [`Texts`].
    texts: [Option<u32>; TEXTS.len()],
    /// The metrics, as JSON text.
    metrics: Option<Box<str>>,
    /// Whether the report says `"enabled": false`, or the operator disabled the host.
    pub disabled: bool,
}

/// Nova's eight integers, each of which may be absent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Integers {
    /// The values, in the order of [`INTEGER_KEYS`].
    values: [i64; INTEGER_KEYS.len()],
    /// One bit per integer, set if it was reported.
    present: u8,
}

impl Integers {
    fn of(caps: &Capabilities<'_>) -> Self {
        let mut out = Self::default();
        for (at, value) in caps.integers().into_iter().enumerate() {
            if let Some(value) = value {
                out.values[at] = value;
                out.present |= 1 << at;
            }
        }
        out
    }
}

/// Which parts of a report differ from the last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportDifference {
    integers: bool,
    words: bool,
    /// For each long text, whether it differs.
    texts: [bool; TEXTS.len()],
    metrics: bool,
}

impl ReportDifference {
    /// Whether any part differs.
    pub fn any(self) -> bool {
        self.integers || self.in_text()
    }

    /// Whether a long text differs.
    pub fn in_long_text(self) -> bool {
        self.texts.contains(&true)
    }

    /// Whether metrics differ.
    pub fn in_metrics(self) -> bool {
        self.metrics
    }

    /// Whether words differ, such as the zone, traits or facts.
    pub fn in_words(self) -> bool {
        self.words
    }

    /// Whether any text differs, so that the texts must be checked.
    pub fn in_text(self) -> bool {
        self.words || self.metrics || self.texts.contains(&true)
    }

    /// Whether NUMA cells or PCI devices differ.
    pub fn in_devices(self) -> bool {
        self.texts[Text::NumaTopology as usize] || self.texts[Text::PciPools as usize]
    }
}

/// Writes the words of a report. [`Reported::words`] reads them in the same order.
fn put_words(caps: &Capabilities<'_>, sink: &mut Sink<'_>) {
    let report = caps.novella.as_deref();
    sink.optional(caps.hypervisor_hostname.as_deref());
    sink.optional(caps.hypervisor_type.as_deref());
    sink.optional(report.and_then(|r| r.availability_zone.as_deref()));
    sink.optional(report.and_then(|r| r.disabled_reason.as_deref()));
    sink.optional(report.and_then(|r| r.host_ip.as_deref()));
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

/// The words of a report, read from the block.
#[derive(Debug, Default)]
pub struct Words<'a> {
    /// The name of the compute node.
    pub hypervisor_hostname: Option<&'a str>,
    /// The type of the hypervisor, such as `QEMU`, as libvirt names it.
    pub hypervisor_type: Option<&'a str>,
    /// The zone that the host's own configuration names.
    pub availability_zone: Option<&'a str>,
    /// Why the operator disabled the host.
    pub disabled_reason: Option<&'a str>,
    /// The address of the host.
    pub host_ip: Option<&'a str>,
    /// The unknown keys of the report's top level, each with its JSON text.
    pub extra: Vec<(&'a str, &'a str)>,
    /// The traits, in the order of the report.
    pub traits: Vec<&'a str>,
    /// The inventories of further resource classes.
    pub resources: Entries<'a, Inventory>,
    /// The operator's facts, each with its JSON text.
    pub facts: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    /// The JSON text of an unknown key. If the report gives the key twice, the last one counts.
    pub(crate) fn extra_text(&self, key: &str) -> Option<&'a str> {
        self.extra.iter().rev().find(|(known, _)| *known == key).map(|(_, text)| *text)
    }
}

impl Reported {
    /// Compares with a newer report.
    pub(crate) fn compare(&self, caps: &Capabilities<'_>, texts: &Texts) -> ReportDifference {
        ReportDifference {
            integers: self.integers != Integers::of(caps),
            words: !self.words.matches(|sink| put_words(caps, sink)),
            texts: TEXTS.map(|text| self.text(text, texts) != text.of(caps)),
            metrics: self.metrics.as_deref() != metrics(caps),
        }
    }

    /// Takes over the parts that differ.
    pub(crate) fn replace(
        &mut self,
        caps: &Capabilities<'_>,
        difference: ReportDifference,
        texts: &mut Texts,
    ) {
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
        for text in TEXTS.into_iter().filter(|text| difference.texts[*text as usize]) {
            let now = text.of(caps).map(|text| texts.acquire(text));
            let before = std::mem::replace(&mut self.texts[text as usize], now);
            if let Some(symbol) = before {
                texts.release(symbol);
            }
        }
        if difference.metrics {
            self.metrics = metrics(caps).map(Into::into);
        }
    }

    /// Releases the shared texts. Must be called before the report is dropped.
    pub(crate) fn release(&mut self, texts: &mut Texts) {
        for symbol in self.texts.iter_mut().filter_map(Option::take) {
            texts.release(symbol);
        }
    }

    /// Reads the words.
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
        words.host_ip = pieces.optional();
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

    /// Nova's integers that were reported, each with its key.
    pub fn integers(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let Integers { values, present } = self.integers;
        let pairs = INTEGER_KEYS.into_iter().zip(values).enumerate();
        pairs.filter(move |(at, _)| present & (1 << at) != 0).map(|(_, pair)| pair)
    }

    /// A long text, if it was reported.
    pub(crate) fn text<'t>(&self, text: Text, texts: &'t Texts) -> Option<&'t str> {
        self.symbol(text).map(|symbol| texts.get(symbol))
    }

    /// The symbol of a long text, if it was reported.
    pub fn symbol(&self, text: Text) -> Option<u32> {
        self.texts[text as usize]
    }

    /// The metrics, as JSON text.
    pub fn metrics(&self) -> Option<&str> {
        self.metrics.as_deref()
    }

    /// Why the operator disabled the host.
    pub(crate) fn disabled_reason(&self) -> Option<&str> {
        let mut pieces = self.words.read();
        if pieces.is_empty() {
            return None;
        }
        for _ in 0..3 {
            pieces.optional();
        }
        pieces.optional()
    }

    /// The top level of the report as JSON, without novella's own part.
    pub(crate) fn to_json(&self, words: &Words<'_>, texts: &Texts) -> Map<String, Value> {
        let mut map: Map<String, Value> =
            self.integers().map(|(key, value)| (key.to_owned(), value.into())).collect();
        if let Some(text) = self.text(Text::CpuInfo, texts) {
            map.insert("cpu_info".into(), json(text));
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

    /// Calls `each` for every number at the top level of the report, for Nova's roll-up.
    pub(crate) fn for_each_number(&self, mut each: impl FnMut(&str, Number)) {
        for (key, value) in self.integers() {
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

/// Reads JSON text. The text was part of a JSON document, so it is valid. If it is nested too deeply, it is shown as a
/// text.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Whether Python would take a JSON value as true.
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

/// Reads and writes JSON text again, so that it can be embedded in a document.
pub(crate) fn raw(text: &str) -> novella_objects::Json<'static> {
    novella_objects::Json::of(&json(text)).expect("a value has a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> (Reported, Texts) {
        let mut texts = Texts::default();
        let caps: Capabilities<'_> = serde_json::from_str(text).unwrap();
        let mut reported = Reported::default();
        let difference = reported.compare(&caps, &texts);
        reported.replace(&caps, difference, &mut texts);
        assert!(!reported.compare(&caps, &texts).any());
        (reported, texts)
    }

    #[test]
    fn what_was_reported_is_read_back() {
        let (reported, texts) = round(
            r#"{"vcpus":4,"cpu_info":{"arch":"x86_64"},"hypervisor_hostname":"n1","hypervisor_type":"QEMU","pets":["cat"],"enabled":1,"speed":2.5}"#,
        );
        assert!(!reported.disabled);
        let json = reported.to_json(&reported.words(), &texts);
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
