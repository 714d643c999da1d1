//! ComputeCapabilitiesFilter: extra specs against what hosts say of themselves.
//!
//! An extra spec is a path and a requirement. A path of one word is looked at only where the host has such a word; a path
//! in the scope `capabilities` must lead to a value; paths in other scopes are somebody else's. The first word is, in
//! this order, one of Nova's HostState attributes as the table has them, a top-level key of the report, or a fact.
//! Specs are asked in the order of their keys; the first that does not hold decides.
//!
//! Known differences to Nova: HostState's methods and its attributes that no report carries are not there to be asked;
//! `stats` as a whole compares with nothing; numbers and lists have no attributes of their own.

use std::collections::BTreeMap;

use super::attributes::computed;
use super::{FilterError, Tally};
use crate::bitmap::word_bits;
use crate::capability_columns::{Capability, INTEGERS, Kind, Symbols};
use crate::extra_specs_ops::{MatchError, Requirement};
use crate::host_table::{BLOCK, HostState, HostTable, Row};
use crate::json::Json;
use crate::options::FilterKind;

/// The extra specs of one request that this filter looks at.
#[derive(Debug)]
pub(super) struct Questions(Vec<Question>);

#[derive(Debug)]
struct Question {
    /// A scoped path must lead somewhere; an unscoped one only where its word is known.
    scoped: bool,
    /// Every HostState has what the first word names, if only as None.
    always: bool,
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
        let mut ask = |key: &str, text: &str, requirement| {
            questions.extend(Question::compile(key, text, requirement, table));
        };
        for (key, text) in extra_specs {
            match bits {
                Some(bits) if key == BITS_PATH => ask(BITS_PATH, bits, Requirement::at_least(bits)),
                Some(_) if key == BITS => {}
                _ => ask(key, text, Requirement::parse(text)),
            }
        }
        if let Some(bits) = bits.filter(|_| !extra_specs.contains_key(BITS_PATH)) {
            ask(BITS_PATH, bits, Requirement::at_least(bits));
        }
        Self(questions)
    }

    pub(super) fn run(&mut self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        self.0.iter_mut().fold(alive, |alive, question| question.run(table, block, alive, tally))
    }
}

impl Question {
    fn compile(
        key: &str,
        requirement_text: &str,
        requirement: Requirement,
        table: &mut HostTable,
    ) -> Option<Self> {
        let mut rest: Vec<&str> = key.split(':').collect();
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
                let fact = capabilities.key(Kind::Fact, fact_name);
                let attribute = if word == "stats" { None } else { capabilities.key(Kind::Attribute, word) };
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
        let verdicts = vec![None; capabilities.values()];
        let rest = rest.into_iter().map(Box::from).collect();
        let requirement_text = requirement_text.into();
        Some(Self { scoped, always, first, rest, requirement, requirement_text, verdicts })
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
        let number = match self.first {
            First::Computed(attribute) => Some(attribute(&table.view(row)).text().into_owned()),
            First::Reported { integer, .. } => integer
                .and_then(|which| table.capabilities.integer(row.index(), which))
                .map(|value| value.to_string()),
        };
        if let Some(text) = number {
            // Numbers and names hold nothing that a further word could lead to.
            return if self.rest.is_empty() { self.compare(&text) } else { (Verdict::Reject, None) };
        }
        let (attributes, facts) = self.symbols(table);
        let (attribute, fact) = (attributes.at(row.index()), facts.at(row.index()));
        for symbol in [attribute, fact].into_iter().flatten() {
            let capability = table.capabilities.value(symbol);
            if capability.value != Json::Null {
                let answer = self.judge(capability);
                self.verdicts[symbol as usize] = Some(answer.0);
                return answer;
            }
        }
        let known = self.scoped || self.always || attribute.is_some() || fact.is_some();
        (if known { Verdict::Reject } else { Verdict::Pass }, None)
    }

    fn judge(&self, capability: &Capability) -> (Verdict, Option<MatchError>) {
        let Some((first, further)) = self.rest.split_first() else {
            return self.compare(&capability.value.text());
        };
        let found = capability.tree.as_ref().unwrap_or(&capability.value).get(first);
        match found.and_then(|value| follow(value, further)) {
            Some(text) => self.compare(&text),
            None => (Verdict::Reject, None),
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
