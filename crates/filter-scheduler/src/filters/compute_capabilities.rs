//! ComputeCapabilitiesFilter: extra specs against what hosts say of themselves.
//!
//! An extra spec is a path and a requirement. A path of one word is looked at only where the host has such a word; a path
//! in the scope `capabilities` must lead to a value; paths in other scopes are somebody else's. The first word is, in
//! this order, one of Nova's HostState attributes as the table has them, a top-level key of the report, or a fact.
//! Specs are asked in the order of their keys; the first that does not hold decides.
//!
//! Known differences to Nova: HostState's methods and its attributes that no report carries are not there to be asked;
//! `stats` as a whole compares with nothing; numbers and lists have no attributes of their own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::filters::attributes::computed;
use crate::filters::tally::Tally;
use crate::nova::json::Json;
use crate::nova::operators::{MatchError, Requirement};
use crate::request::failure::FilterError;
use crate::settings::filter_kind::FilterKind;
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, Row, refill};
use crate::table::capabilities::Capability;
use crate::table::capabilities::CapabilityKind;
use crate::table::capabilities::INTEGERS;
use crate::table::capabilities::Symbols;
use crate::table::capabilities::is_measured;
use crate::table::host_table::HostTable;
use crate::table::view::HostState;

/// The extra specs of one request that this filter looks at.
#[derive(Debug)]
pub(super) struct Questions(Vec<Question>);

#[derive(Debug)]
struct Question {
    /// The extra spec's key, as the flavor has it.
    key: Box<str>,
    /// A scoped path must lead somewhere; an unscoped one only where its word is known.
    scoped: bool,
    /// Every HostState has what the first word names, if only as None.
    always: bool,
    /// The first word names a value that is measured.
    measured: bool,
    first: First,
    rest: Vec<Box<str>>,
    requirement: Requirement,
    requirement_text: Box<str>,
    /// By value symbol: the verdict, once known.
    verdicts: Vec<Option<Verdict>>,
}

/// Where the first word of a path leads.
#[derive(Debug)]
enum First {
    Computed(fn(&HostState<'_>) -> Json),
    Reported {
        /// Position in [`INTEGERS`].
        integer: Option<usize>,
        attribute: Option<u32>,
        fact: Option<u32>,
    },
}

/// What stands at the end of a path.
enum Found<'t> {
    Text(Cow<'t, str>),
    Nothing,
    /// The host has no such word, and nothing is asked of it then.
    NotAsked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Reject,
    Error,
}

/// Attributes that every HostState has and reports may leave out.
const ALWAYS: [&str; 9] = [
    "cpu_info",
    "host_ip",
    "hypervisor_type",
    "metrics",
    "numa_topology",
    "stats",
    "supported_instances",
    "updated",
    "uuid",
];

impl Questions {
    pub(super) fn compile(extra_specs: &BTreeMap<String, String>, table: &mut HostTable) -> Self {
        // Nova turns the one into the other: at its place if it is there, else last.
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

    /// Whether it asks for nothing that changes with what is placed.
    pub(super) fn is_steady(&self) -> bool {
        let reported = |question: &Question| matches!(question.first, First::Reported { .. });
        self.0.iter().all(reported) && !self.read_measured()
    }

    /// Whether one of them reads a measured value.
    pub(super) fn read_measured(&self) -> bool {
        self.0.iter().any(|question| question.measured)
    }

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
            (question.judge(&found).0 != Verdict::Pass).then(|| {
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
        let first = match computed(word) {
            Some(attribute) => First::Computed(attribute),
            None => {
                let into_stats = word == "stats" && !rest.is_empty();
                let fact_name = if into_stats { rest.remove(0) } else { word };
                let fact = capabilities.key(CapabilityKind::Fact, fact_name);
                let attribute =
                    if word == "stats" { None } else { capabilities.key(CapabilityKind::Attribute, word) };
                for key in attribute.into_iter().chain(fact) {
                    capabilities.build_column(key);
                }
                First::Reported {
                    integer: INTEGERS.iter().position(|name| *name == word),
                    attribute,
                    fact: if word == "stats" && !into_stats { None } else { fact },
                }
            }
        };
        let always = ALWAYS.contains(&word) || INTEGERS.contains(&word);
        let measured = is_measured(word);
        let verdicts = vec![None; capabilities.values()];
        let rest = rest.into_iter().map(Box::from).collect();
        let requirement_text = requirement_text.into();
        Some(Self {
            key: key.into(),
            scoped,
            always,
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
            if verdict == Verdict::Pass {
                continue;
            }
            pass &= !(1 << bit);
            if verdict == Verdict::Error {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| self.explain_error(table, row));
            }
        }
        pass
    }

    /// The value symbols of the attribute and of the fact that the first word names.
    fn symbols<'t>(&self, table: &'t HostTable) -> (Symbols<'t>, Symbols<'t>) {
        let (attribute, fact) = match self.first {
            First::Computed(_) => (None, None),
            First::Reported { attribute, fact, .. } => (attribute, fact),
        };
        (table.capabilities.symbols(attribute), table.capabilities.symbols(fact))
    }

    /// The verdict on one host, and what is wrong if it is an error.
    fn ask(&mut self, table: &HostTable, row: Row) -> (Verdict, Option<MatchError>) {
        let number = self.number(table, row).filter(|_| self.rest.is_empty());
        if let Some(holds) = number.and_then(|number| self.requirement.matches_number(number)) {
            return (if holds { Verdict::Pass } else { Verdict::Reject }, None);
        }
        let (found, symbol) = self.find(table, row);
        let answer = self.judge(&found);
        if let Some(symbol) = symbol {
            self.verdicts[symbol as usize] = Some(answer.0);
        }
        answer
    }

    /// The attribute, if it is a number and changes from host to host: quicker compared than written out and read again.
    fn number(&self, table: &HostTable, row: Row) -> Option<f64> {
        match self.first {
            First::Computed(attribute) => match attribute(&table.view(row)) {
                Json::Int(number) => Some(number as f64),
                Json::Float(number) => Some(number),
                _ => None,
            },
            First::Reported { integer, .. } => integer
                .and_then(|which| table.capabilities.integer(row.index(), which))
                .map(|value| value as f64),
        }
    }

    /// Where the path leads at one host, and the symbol of the value that alone decides it, if one does.
    fn find<'t>(&self, table: &'t HostTable, row: Row) -> (Found<'t>, Option<u32>) {
        let number = match self.first {
            First::Computed(attribute) => Some(attribute(&table.view(row)).text().into_owned()),
            First::Reported { integer, .. } => integer
                .and_then(|which| table.capabilities.integer(row.index(), which))
                .map(|value| value.to_string()),
        };
        if let Some(text) = number {
            // Numbers and names hold nothing that a further word could lead to.
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

    fn judge(&self, found: &Found<'_>) -> (Verdict, Option<MatchError>) {
        match found {
            Found::Text(text) => self.compare(text),
            Found::Nothing => (Verdict::Reject, None),
            Found::NotAsked => (Verdict::Pass, None),
        }
    }

    fn compare(&self, text: &str) -> (Verdict, Option<MatchError>) {
        match self.requirement.matches(text) {
            Ok(true) => (Verdict::Pass, None),
            Ok(false) => (Verdict::Reject, None),
            Err(error) => (Verdict::Error, Some(error)),
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

/// Where the rest of a path leads; texts on the way are decoded as JSON, the last value is not.
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
