//! What is asked of a fleet: a list of requests, or a whole question in one document with its answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fleet::{Aggregate, PciAlias, ServerGroup};
use super::host::Host;
use super::options::Options;
use super::request::Request;
use super::results::Outcome;
use super::schema::Schema;
use crate::json::Json;

/// Requests to be asked of a fleet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// Version of the document, which is 1.
    pub schema: Schema,
    /// Seed of generated requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Number of hosts of the fleet that the requests were made for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet_n: Option<u64>,
    /// Options for all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Named lists of filters that requests may refer to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter_sets: BTreeMap<String, Vec<String>>,
    /// The requests, in the order of the results. In JSON lines they follow, one on each line.
    pub requests: Vec<Request>,
}

/// A whole question in one document: a fleet and what is asked of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question<'a> {
    /// Version of the document, which is 1.
    #[serde(default)]
    pub schema: Schema,
    /// Any value. The answer repeats it.
    #[serde(default, borrow)]
    pub id: Option<Json<'a>>,
    /// Options for all requests.
    #[serde(default)]
    pub options: Options,
    /// Named lists of filters that requests may refer to.
    #[serde(default)]
    pub filter_sets: BTreeMap<String, Vec<String>>,
    /// Aggregates that hosts may name.
    #[serde(default)]
    pub aggregates: Vec<Aggregate>,
    /// Server groups that requests may name. Their members are the hosts' instances that name the group.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_groups: BTreeMap<String, ServerGroup>,
    /// What a group asks for that is not in `server_groups`. Absent: there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_group_defaults: Option<ServerGroup>,
    /// The devices that requests mean by names in `pci_passthrough:alias`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pci_aliases: BTreeMap<String, PciAlias>,
    /// The hosts of the fleet. Results name a host by its place in this list.
    #[serde(borrow)]
    pub hosts: Vec<Host<'a>>,
    /// The requests. Each is decided on the fleet as it is in the document, as if the others had not been placed.
    pub requests: Vec<Request>,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer<'a> {
    /// The id of the question.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub id: Option<Json<'a>>,
    /// The names of the filters that the verdicts refer to, in their order: `a` stands for the first, `b` for the second.
    /// They run for each request that does not name its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// One result for each request, unless there is an error.
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
    /// Line of the question, from 1.
    pub line: u64,
    /// Path of the wrong value, such as `hosts[3].vcpus`. Empty if the whole line is wrong.
    pub place: String,
    /// What is wrong, and what would be accepted.
    pub reason: String,
}
