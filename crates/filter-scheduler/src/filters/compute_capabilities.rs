//! ComputeCapabilitiesFilter: extra specs against what hosts report about themselves.
//!
//! An extra spec is a path and a requirement. A path of one word is looked at only where the host has such a word, and
//! a path in the scope `capabilities` must lead to a value. Paths in other scopes are left to other filters. The first
//! word is, in this order, one of Nova's HostState attributes as the table has them, a top-level key of the report, or
//! a fact. Keys of the report that Nova's HostState lacks are asked only in the scope. Extra specs are asked in the order
//! of their keys, and the first that does not hold decides.
//!
//! Known differences to Nova: objects such as `instances` or `update` are not written as Python writes them; numbers,
//! lists and objects have no attributes of their own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::filters::attributes::{computed, object};
use crate::filters::tally::Tally;
use crate::nova::json::Json;
use crate::nova::operators::{MatchError, Requirement};
use crate::request::failure::FilterError;
use crate::settings::filter_kind::FilterKind;
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, Row, refill};
use crate::table::capabilities::{Capability, CapabilityKind, INTEGERS, Symbols, is_measured};
use crate::table::host_table::HostTable;
use crate::table::view::HostState;

/// The extra specs of one request that this filter looks at.
#[derive(Debug)]
pub(super) struct Questions(Vec<Question>);

/// One extra spec.
#[derive(Debug)]
struct Question {
    /// The key of the extra spec, as the flavor has it.
    key: Box<str>,
    /// Whether the path has a scope. It must then lead to a value, even where the host does not know its first word.
    scoped: bool,
    /// Whether every HostState has the attribute that the first word names, even if it is None.
    always: bool,
    /// The first word names a list that is empty where it is not reported.
    empty_list: bool,
    /// The first word names a value that is measured.
    measured: bool,
    first: First,
    /// The words of the path after the first.
    rest: Vec<Box<str>>,
    requirement: Requirement,
    /// The requirement as the flavor has it, for people to read.
    requirement_text: Box<str>,
    /// The verdict on each value, by its symbol. `None` if the value was not looked at yet.
    verdicts: Vec<Option<SpecVerdict>>,
}

/// Where the first word of a path leads.
#[derive(Debug)]
enum First {
    /// The table computes the attribute.
    Computed(fn(&HostState<'_>) -> Json),
    /// The attribute is an object in Nova. This writes it.
    Object(fn(&HostTable, Row) -> Option<String>),
    /// Hosts report it. Each field is `None` if the word does not name such a thing or no host reports it.
    Reported {
        /// The index in [`INTEGERS`].
        integer: Option<usize>,
        /// The symbol of a top-level key of the report.
        attribute: Option<u32>,
        /// The symbol of a fact's key.
        fact: Option<u32>,
    },
}

/// What a path leads to at one host.
enum Found<'t> {
    Text(Cow<'t, str>),
    /// The path leads to no value.
    Nothing,
    /// The host does not have the first word, and is not asked then.
    NotAsked,
}

/// What one extra spec says about one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpecVerdict {
    Pass,
    Reject,
    Error,
}

/// The attributes that every HostState has, although a report may leave them out.
const ALWAYS: [&str; 7] =
    ["cpu_info", "host_ip", "hypervisor_type", "hypervisor_version", SUPPORTED_INSTANCES, "updated", "uuid"];

/// This one is an empty list if a report leaves it out.
const SUPPORTED_INSTANCES: &str = "supported_instances";

/// The keys of a report that HostState lacks, though it has most of them by other names. Without a scope, an extra spec
/// cannot mean them, so that `vcpus` does not refuse a host that Nova passes.
const LACKING: [&str; 6] =
    ["vcpus", "disk_total", "disk_used", "disk_available", "host_memory_total", "host_memory_free"];

impl Questions {
    pub(super) fn compile(extra_specs: &BTreeMap<String, String>, table: &mut HostTable) -> Self {
        // Nova turns this extra spec into one with the path below, which replaces a spec of that path or else comes
        // last.
        const BITS: &str = "hw:maxphysaddr_bits";
        const BITS_PATH: &str = "capabilities:cpu_info:maxphysaddr:bits";
        let bits = extra_specs.get(BITS);
        let mut questions = Vec::new();
        let mut ask = |key: &str, path: &str, text: &str, requirement| {
            questions.extend(Question::compile(key, path, text, requirement, table));
        };
        for (key, text) in extra_specs {
            match bits {
                Some(bits) if key == BITS_PATH => ask(BITS, BITS_PATH, bits, Requirement::at_least(bits)),
                Some(_) if key == BITS => {}
                _ => ask(key, key, text, Requirement::parse(text)),
            }
        }
        if let Some(bits) = bits.filter(|_| !extra_specs.contains_key(BITS_PATH)) {
            ask(BITS, BITS_PATH, bits, Requirement::at_least(bits));
        }
        Self(questions)
    }

    /// Whether no answer changes when an instance is placed.
    pub(super) fn is_steady(&self) -> bool {
        !self.read_computed() && !self.read_measured()
    }

    /// Whether one of them reads a value that the table computes, such as the free memory, which placements change.
    pub(super) fn read_computed(&self) -> bool {
        self.0.iter().any(|question| matches!(question.first, First::Computed(_)))
    }

    /// Whether one of them reads a measured value.
    pub(super) fn read_measured(&self) -> bool {
        self.0.iter().any(|question| question.measured)
    }

    /// Forgets all verdicts on values, and makes room for those on `symbols` values.
    pub(super) fn forget_values(&mut self, symbols: usize) {
        for question in &mut self.0 {
            refill(&mut question.verdicts, symbols, None);
        }
    }

    pub(super) fn run(&mut self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        self.0.iter_mut().fold(alive, |alive, question| question.run(table, block, alive, tally))
    }

    /// The first requirement that a refused host does not meet, and what it has instead.
    pub(super) fn refusal(&self, table: &HostTable, row: Row) -> String {
        let refusal = |question: &Question| {
            let (found, _) = question.find(table, row);
            (question.judge(&found).0 != SpecVerdict::Pass).then(|| {
                let found = match &found {
                    Found::Text(text) => text,
                    Found::Nothing | Found::NotAsked => "not reported",
                };
                format!("extra spec {} is {found}, asked {}", question.key, question.requirement_text)
            })
        };
        self.0.iter().find_map(refusal).unwrap_or_else(|| "an extra spec does not hold".to_owned())
    }
}

impl Question {
    fn compile(
        key: &str,
        path: &str,
        requirement_text: &str,
        requirement: Requirement,
        table: &mut HostTable,
    ) -> Option<Self> {
        let mut rest: Vec<&str> = path.split(':').collect();
        let scoped = rest.len() > 1;
        if scoped && rest.remove(0) != "capabilities" {
            return None;
        }
        let word = rest.remove(0);
        let capabilities = &mut table.capabilities;
        let into_stats = word == "stats" && !rest.is_empty();
        let first = match (computed(word), object(word)) {
            (Some(attribute), _) => First::Computed(attribute),
            (None, Some(object)) if !into_stats => First::Object(object),
            (None, _) => {
                let fact_name = if into_stats { rest.remove(0) } else { word };
                let is_attribute = !into_stats && (scoped || !LACKING.contains(&word));
                let mut column =
                    |asked: bool, kind, name| asked.then(|| capabilities.build_column(kind, name)).flatten();
                First::Reported {
                    integer: INTEGERS.iter().position(|name| is_attribute && *name == word),
                    attribute: column(is_attribute, CapabilityKind::Attribute, word),
                    fact: column(true, CapabilityKind::Fact, fact_name),
                }
            }
        };
        let always = into_stats || ALWAYS.contains(&word);
        let measured = is_measured(word) && matches!(first, First::Reported { .. });
        let verdicts = vec![None; capabilities.values()];
        let rest = rest.into_iter().map(Box::from).collect();
        let requirement_text = requirement_text.into();
        Some(Self {
            key: key.into(),
            scoped,
            always,
            empty_list: word == SUPPORTED_INSTANCES,
            measured,
            first,
            rest,
            requirement,
            requirement_text,
            verdicts,
        })
    }

    fn run(&mut self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        let mut pass = alive;
        let symbols = self.symbols(table);
        for bit in word_bits(alive) {
            let row = Row((block * BLOCK + bit) as u32);
            // Nearly always the host has the attribute, and its value was judged before.
            let judged = symbols.0.at(row.index()).and_then(|symbol| self.verdicts[symbol as usize]);
            let verdict = judged.unwrap_or_else(|| self.ask(table, row).0);
            if verdict == SpecVerdict::Pass {
                continue;
            }
            pass &= !(1 << bit);
            if verdict == SpecVerdict::Error {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| self.explain_error(table, row));
            }
        }
        pass
    }

    /// The value symbols of the attribute and of the fact that the first word names.
    fn symbols<'t>(&self, table: &'t HostTable) -> (Symbols<'t>, Symbols<'t>) {
        let (attribute, fact) = match self.first {
            First::Computed(_) | First::Object(_) => (None, None),
            First::Reported { attribute, fact, .. } => (attribute, fact),
        };
        (table.capabilities.symbols(attribute), table.capabilities.symbols(fact))
    }

    /// The verdict on one host, and what is wrong if it is an error.
    fn ask(&mut self, table: &HostTable, row: Row) -> (SpecVerdict, Option<MatchError>) {
        let number = self.number(table, row).filter(|_| self.rest.is_empty());
        if let Some(holds) = number.and_then(|number| self.requirement.matches_number(number)) {
            return (if holds { SpecVerdict::Pass } else { SpecVerdict::Reject }, None);
        }
        let (found, symbol) = self.find(table, row);
        let answer = self.judge(&found);
        if let Some(symbol) = symbol {
            self.verdicts[symbol as usize] = Some(answer.0);
        }
        answer
    }

    /// The attribute, if it is a number that changes from host to host. Comparing it is quicker than writing it out and
    /// reading it again.
    fn number(&self, table: &HostTable, row: Row) -> Option<f64> {
        match self.first {
            First::Computed(attribute) => match attribute(&table.view(row)) {
                Json::Int(number) => Some(number as f64),
                Json::Float(number) => Some(number),
                _ => None,
            },
            First::Object(_) => None,
            First::Reported { integer, .. } => integer
                .and_then(|which| table.capabilities.integer(row.index(), which))
                .map(|value| value as f64),
        }
    }

    /// What the path leads to at one host, and the symbol of the value that alone decides this, if there is one.
    fn find<'t>(&self, table: &'t HostTable, row: Row) -> (Found<'t>, Option<u32>) {
        let text = match self.first {
            First::Computed(attribute) => Some(attribute(&table.view(row)).text().into_owned()),
            First::Object(object) => match object(table, row) {
                None => return (Found::Nothing, None),
                text => text,
            },
            First::Reported { integer, .. } => integer
                .and_then(|which| table.capabilities.integer(row.index(), which))
                .map(|value| value.to_string()),
        };
        if let Some(text) = text {
            // Numbers, names and objects hold nothing that a further word could lead to.
            let found = if self.rest.is_empty() { Found::Text(text.into()) } else { Found::Nothing };
            return (found, None);
        }
        let (attributes, facts) = self.symbols(table);
        let (attribute, fact) = (attributes.at(row.index()), facts.at(row.index()));
        for symbol in [attribute, fact].into_iter().flatten() {
            let capability = table.capabilities.value(symbol);
            if capability.value != Json::Null {
                return (self.find_in(capability), Some(symbol));
            }
        }
        if self.empty_list && self.rest.is_empty() {
            return (Found::Text("[]".into()), None);
        }
        let known = self.scoped || self.always || attribute.is_some() || fact.is_some();
        (if known { Found::Nothing } else { Found::NotAsked }, None)
    }

    fn find_in<'t>(&self, capability: &'t Capability) -> Found<'t> {
        let Some((first, further)) = self.rest.split_first() else {
            return Found::Text(capability.value.text());
        };
        let found = capability.tree.as_ref().unwrap_or(&capability.value).get(first);
        found.and_then(|value| follow(value, further)).map_or(Found::Nothing, |text| Found::Text(text.into()))
    }

    fn judge(&self, found: &Found<'_>) -> (SpecVerdict, Option<MatchError>) {
        match found {
            Found::Text(text) => self.compare(text),
            Found::Nothing => (SpecVerdict::Reject, None),
            Found::NotAsked => (SpecVerdict::Pass, None),
        }
    }

    fn compare(&self, text: &str) -> (SpecVerdict, Option<MatchError>) {
        match self.requirement.matches(text) {
            Ok(true) => (SpecVerdict::Pass, None),
            Ok(false) => (SpecVerdict::Reject, None),
            Err(error) => (SpecVerdict::Error, Some(error)),
        }
    }

    fn explain_error(&mut self, table: &HostTable, row: Row) -> FilterError {
        let reason = self.ask(table, row).1.map(|error| error.to_string());
        FilterError {
            filter: FilterKind::ComputeCapabilities,
            host: table.host(row).to_owned(),
            reason: format!("extra spec {:?}: {}", self.requirement_text, reason.unwrap_or_default()),
        }
    }
}

/// What the rest of a path leads to. Texts on the way are decoded as JSON, but the last value is not.
fn follow(value: &Json, path: &[Box<str>]) -> Option<String> {
    if *value == Json::Null {
        return None;
    }
    let Some((word, further)) = path.split_first() else { return Some(value.text().into_owned()) };
    match value {
        Json::Text(text) => follow(Json::parse(text)?.get(word)?, further),
        other => follow(other.get(word)?, further),
    }
}
