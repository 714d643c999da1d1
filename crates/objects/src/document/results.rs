//! Results of requests. A host is named by its place in the fleet, from 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::RequestId;
use super::schema::Schema;

/// Results of all requests, and the program and options that decided them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Version of the document, which is 1.
    #[serde(default)]
    pub schema: Schema,
    /// Version of Nova, if Nova decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nova: Option<String>,
    /// Version of novella, if novella decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novella: Option<String>,
    /// Seed of fleet and requests, if they were generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Number of hosts of the fleet.
    pub fleet_n: u64,
    /// Nova's options by name.
    #[serde(default)]
    pub config: BTreeMap<String, Value>,
    /// Names of the weighers, in the order in which their weights were added up.
    pub weighers: Vec<String>,
    /// One outcome for each request, in the order of the requests.
    pub results: Vec<Outcome>,
}

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Whether every instance got a host.
    pub complete: bool,
    /// The request's id.
    pub id: RequestId,
    /// The host of each instance, up to the first that found none. Each instance's share is taken before the next is placed.
    pub picks: Vec<u32>,
    /// The next best hosts for each pick, if the request asks for them and is complete. There are at most
    /// `max_attempts` - 1 of them, all in the pick's cell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<Vec<u32>>,
    /// One character for each host: what the filters say about it for the first instance. `.`: it passed. `a`, `b` and so
    /// on: the first, second and so on filter refused it. `!`: a filter could not decide. `-`: it was not filtered.
    pub verdict: String,
    /// Host and weight of all hosts that passed, best first.
    pub weights: Vec<(u32, f64)>,
    /// What could not be decided, in the order in which Nova would meet it. In Nova the first ends the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<OutcomeError>,
}

/// Something that could not be decided. Nova raises an exception here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OutcomeError {
    /// A filter could not decide about a host.
    Filter {
        /// Name of the filter.
        filter: String,
        /// Place of the host in the fleet.
        host: u32,
        /// The reason, for people.
        reason: String,
    },
    /// A weigher could not value a host.
    Weigher {
        /// Name of the weigher.
        weigher: String,
        /// Place of the host in the fleet.
        host: u32,
        /// The reason, for people.
        reason: String,
    },
    /// The request's image cannot be understood.
    Image {
        /// The reason, for people.
        reason: String,
    },
    /// The request asks for something that no fleet could give.
    Request {
        /// The reason, for people.
        reason: String,
    },
}
