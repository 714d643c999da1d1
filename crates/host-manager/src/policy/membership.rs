//! The members of aggregates: the hosts that an aggregate lists by name or pattern, and the hosts whose reports match.
//!
//! What always holds: every aggregate has an id of its own.
//!
//! Left out: when membership is determined (`verbs/enforce_policy.rs`).

use std::collections::BTreeMap;

use novella_filter_scheduler::nova::python;
use novella_filter_scheduler::{Aggregate, WeigherKind};
use serde_json::{Value as Json, json};

use crate::policy::host_pattern::HostPattern;
use crate::policy::read::{Field, Reader};

/// An aggregate, and the rule for its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateRule {
    /// The id, name and metadata of the aggregate.
    pub aggregate: Aggregate,
    /// The hosts that are in it by name, pattern or range.
    pub hosts: Vec<HostPattern>,
    /// What other hosts must report to be in it.
    pub matching: Option<Match>,
}

/// What a host must report to be in an aggregate. All conditions must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The host's own zone must be one of these. If empty, any zone is accepted.
    pub zones: Vec<String>,
    /// The traits that the host must have.
    pub traits: Vec<String>,
    /// The facts that the host must have, each with one of these values.
    pub facts: BTreeMap<String, Vec<Json>>,
}

/// What a host reports, as far as aggregates depend on it.
#[derive(Debug, Clone, Copy)]
pub struct HostFacts<'a> {
    /// The name of the host.
    pub host: &'a str,
    /// The zone in the host's own configuration.
    pub zone: Option<&'a str>,
    /// The traits of the host.
    pub traits: &'a [&'a str],
    /// The facts of the host, each with its value as JSON text. If a name appears twice, the last one counts.
    pub facts: &'a [(&'a str, &'a str)],
}

impl AggregateRule {
    /// Whether the host is in the aggregate.
    pub fn holds(&self, host: &HostFacts<'_>) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host.host))
            || self.matching.as_ref().is_some_and(|matching| matching.holds(host))
    }

    pub(super) fn to_json(&self) -> Json {
        let hosts: Vec<_> = self.hosts.iter().map(HostPattern::as_str).collect();
        let mut out = json!({ "id": self.aggregate.id, "hosts": hosts, "metadata": self.aggregate.metadata });
        if let Some(Match { zones, traits, facts }) = &self.matching {
            out["match"] = json!({ "zone": zones, "traits": traits, "facts": facts });
        }
        out
    }
}

impl Match {
    fn holds(&self, host: &HostFacts<'_>) -> bool {
        let in_zone = self.zones.is_empty()
            || host.zone.is_some_and(|zone| self.zones.iter().any(|wanted| wanted == zone));
        in_zone
            && self.traits.iter().all(|wanted| host.traits.contains(&wanted.as_str()))
            && self.facts.iter().all(|(name, wanted)| {
                let fact = host.facts.iter().rev().find(|(known, _)| known == name);
                let fact = fact.and_then(|(_, text)| serde_json::from_str::<Json>(text).ok());
                fact.is_some_and(|fact| wanted.iter().any(|wanted| same(wanted, &fact)))
            })
    }

    fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.traits.is_empty() && self.facts.is_empty()
    }
}

/// Whether two values are equal. 1 and 1.0 are.
fn same(a: &Json, b: &Json) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// An aggregate before it has an id.
#[derive(Default)]
struct AggregateDraft {
    id: Option<u32>,
    hosts: Option<Vec<HostPattern>>,
    matching: Option<Match>,
    metadata: BTreeMap<String, String>,
}

const KEYS: [&str; 4] = ["id", "hosts", "match", "metadata"];
const MATCH_KEYS: [&str; 3] = ["zone", "traits", "facts"];

/// Reads the aggregates, in the order of their names. An aggregate without an id gets the smallest free one.
pub(super) fn read(section: &Field<'_>, reader: &mut Reader<'_>) -> Vec<AggregateRule> {
    let mut drafts = BTreeMap::new();
    for field in reader.fields(&section.key, section.item) {
        let draft = read_one(&field, reader);
        let taken = |other: &AggregateDraft| other.id.is_some() && other.id == draft.id;
        if let Some((other, _)) = drafts.iter().find(|(_, other)| taken(other)) {
            let what = format!("aggregate {other} has the same id");
            reader.problem(&field.at, &format!("{}.id", field.key), what, "give each aggregate its own id");
        }
        drafts.insert(field.name.to_owned(), draft);
    }
    let mut taken: Vec<u32> = drafts.values().filter_map(|draft| draft.id).collect();
    let rules = drafts.into_iter().map(|(name, draft)| {
        let id = draft.id.unwrap_or_else(|| {
            let free = (1..).find(|id| !taken.contains(id)).expect("there are fewer aggregates than ids");
            taken.push(free);
            free
        });
        AggregateRule {
            aggregate: Aggregate { id, name, metadata: draft.metadata },
            hosts: draft.hosts.unwrap_or_default(),
            matching: draft.matching,
        }
    });
    rules.collect()
}

fn read_one(aggregate: &Field<'_>, reader: &mut Reader<'_>) -> AggregateDraft {
    let mut draft = AggregateDraft::default();
    let before = reader.problems.len();
    for field in reader.fields(&aggregate.key, aggregate.item) {
        match field.name {
            "id" => draft.id = field.whole(reader, 1..=u32::MAX.into()),
            "hosts" => draft.hosts = hosts(&field, reader),
            "match" => draft.matching = Some(matching(&field, reader)),
            "metadata" => draft.metadata = metadata(&field, reader),
            _ => reader.unknown_key(&field, "key of an aggregate", &KEYS),
        }
    }
    if draft.hosts.is_none() && draft.matching.is_none() && reader.problems.len() == before {
        let fix = "add hosts, such as hosts = [\"cmp[001-040]\"], or match; for no hosts write hosts = []";
        reader.problem(&aggregate.at, &aggregate.key, "nothing says which hosts are in this aggregate", fix);
    }
    draft
}

fn hosts(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<Vec<HostPattern>> {
    let mut patterns = Vec::new();
    for (text, at) in field.texts(reader)? {
        match text.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => {
                let what = format!("{text:?} is not a host name, pattern or range: {why}");
                reader.problem(&at, &field.key, what, "write for example cmp-1, cmp-* or cmp[001-040]");
            }
        }
    }
    Some(patterns)
}

fn matching(section: &Field<'_>, reader: &mut Reader<'_>) -> Match {
    let mut matching = Match::default();
    let before = reader.problems.len();
    for field in reader.fields(&section.key, section.item) {
        match field.name {
            "zone" => matching.zones = field.text_or_texts(reader).unwrap_or_default(),
            "traits" => matching.traits = field.text_or_texts(reader).unwrap_or_default(),
            "facts" => {
                for fact in reader.fields(&field.key, field.item) {
                    if let Some(values) = fact.scalars(reader) {
                        matching.facts.insert(fact.name.to_owned(), values);
                    }
                }
            }
            _ => reader.unknown_key(&field, "key to match hosts by", &MATCH_KEYS),
        }
    }
    if matching.is_empty() && reader.problems.len() == before {
        let fix = "name a zone, traits or facts; for all hosts write hosts = [\"*\"]";
        reader.problem(&section.at, &section.key, "this has no condition", fix);
    }
    matching
}

/// The metadata keys whose values Nova reads as numbers. Nova ignores a value that is not a number, with a warning;
/// here it is a problem.
const NUMBERS: [&str; 5] = [
    "cpu_allocation_ratio",
    "ram_allocation_ratio",
    "disk_allocation_ratio",
    "max_io_ops_per_host",
    "max_instances_per_host",
];

fn metadata(section: &Field<'_>, reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    for (key, value, at) in section.text_map(reader) {
        let multiplier = WeigherKind::ALL.iter().any(|kind| kind.multiplier_key() == key);
        let number = python::float(&value).filter(|number| number.is_finite());
        let whole = !key.starts_with("max_") || python::int(&value).is_some();
        if (multiplier || NUMBERS.contains(&key.as_str())) && !(number.is_some() && whole) {
            let what = format!("{value:?} is not a number that can be used");
            let fix = "write a number in quotes, such as \"1.5\"";
            reader.problem(&at, &format!("{}.{key}", section.key), what, fix);
        }
        metadata.insert(key, value);
    }
    metadata
}
