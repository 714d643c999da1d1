//! Placement questions and answers as documents: a fleet, requests, the options in force, and what became of them.
//!
//! These are files and lines that people and programs keep, compare and replay, so they carry a version. Within version 1
//! fields are only added, and only optional ones; a reader refuses fields that it does not know, because a question that
//! is half understood gets a wrong answer. Names, units and nulls are those of Nova's compute nodes and request specs.
//!
//! Left out: what the fields mean to a placement (`novella-filter-scheduler` turns documents into its host table and
//! request specs), and where documents come from.

mod host;
mod options;
mod request;
mod results;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

pub use host::{
    Host, HostInstance, MemoryPages, NetworkMetadata, NumaCell, NumaTopology, PciPool, UsedInventory,
};
pub use options::{OnFilterError, Options};
pub use request::{FilterChoice, InstanceNumaCell, InstanceNumaTopology, PciRequest, Request, RequestId};
pub use results::{Outcome, OutcomeError, Results};

/// The version that this code writes and the only one that it reads.
pub const SCHEMA: u32 = 1;

/// The version of a document: reads as an error unless it is [`SCHEMA`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schema;

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(SCHEMA)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            version if version == u64::from(SCHEMA) => Ok(Self),
            version => Err(de::Error::custom(format_args!(
                "this is version {version} of the schema; only version {SCHEMA} is known"
            ))),
        }
    }
}

/// Hosts with their aggregates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet<'a> {
    /// Always 1.
    #[serde(default)]
    pub schema: Schema,
    /// Who made it and when, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What a generated fleet was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How many hosts there are, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The options in force where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Aggregates that hosts may be in.
    #[serde(default)]
    pub aggregates: Vec<Aggregate>,
    /// Server groups that requests may name. Members are the instances of hosts that say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_groups: BTreeMap<String, ServerGroup>,
    /// What a group asks for that is not among them; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_group_defaults: Option<ServerGroup>,
    /// What devices requests mean by the names in their `pci_passthrough:alias`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pci_aliases: BTreeMap<String, PciAlias>,
    /// In fleet order: what results count hosts by. In JSON lines these follow, one on each line.
    #[serde(default, borrow)]
    pub hosts: Vec<Host<'a>>,
}

/// A named set of hosts. Which hosts are in it, each host says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// What hosts are listed under.
    pub id: u32,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Keys and values as the operator wrote them.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What a server group asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerGroup {
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// `max_server_per_host` for `anti-affinity`, as Nova writes it: a number in a text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
}

/// What devices a name stands for: an entry of Nova's `[pci] alias`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAlias {
    /// `required`, `legacy`, `preferred` or `socket`; absent: `legacy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_policy: Option<String>,
    /// What a device must have; one of these suffices.
    pub specs: Vec<BTreeMap<String, Value>>,
}

/// Requests to be asked of a fleet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Always 1.
    #[serde(default)]
    pub schema: Schema,
    /// What generated requests were made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How many hosts the fleet has that they were made for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_n: Option<u64>,
    /// Options for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Lists of filters by name, for requests to refer to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filter_sets: BTreeMap<String, Vec<String>>,
    /// In the order of the results. In JSON lines these follow, one on each line.
    #[serde(default)]
    pub requests: Vec<Request>,
}

/// A whole question in one document: a fleet and what is asked of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question<'a> {
    /// Always 1.
    #[serde(default)]
    pub schema: Schema,
    /// Given back with the answer.
    #[serde(default, borrow)]
    pub id: Option<crate::Json<'a>>,
    /// Options for all requests.
    #[serde(default)]
    pub options: Options,
    /// Lists of filters by name, for requests to refer to.
    #[serde(default)]
    pub filter_sets: BTreeMap<String, Vec<String>>,
    /// Aggregates that hosts may be in.
    #[serde(default)]
    pub aggregates: Vec<Aggregate>,
    /// Server groups that requests may name. Members are the instances of hosts that say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_groups: BTreeMap<String, ServerGroup>,
    /// What a group asks for that is not among them; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_group_defaults: Option<ServerGroup>,
    /// What devices requests mean by the names in their `pci_passthrough:alias`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pci_aliases: BTreeMap<String, PciAlias>,
    /// In fleet order.
    #[serde(borrow)]
    pub hosts: Vec<Host<'a>>,
    /// Each is asked of the fleet as it stands in the document.
    pub requests: Vec<Request>,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer<'a> {
    /// The question's.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub id: Option<crate::Json<'a>>,
    /// One for each request, unless there is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<Outcome>>,
    /// Why the question cannot be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<QuestionError>,
}

/// What is wrong with a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionError {
    /// The line it stands on, from 1.
    pub line: u64,
    /// Where in it, such as `hosts[3].vcpus`; empty if it is the line as a whole.
    pub place: String,
    /// What is wrong, and what would do.
    pub reason: String,
}

/// Reads a field whose absence and whose null mean different things; with `#[serde(default)]`, absence is `None`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// Reads null as the default, because Nova's lists and maps may be unset.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Option::deserialize(d).map(Option::unwrap_or_default)
}
