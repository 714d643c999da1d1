//! What became of requests. Hosts are named by their place in the fleet, from 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RequestId, Schema};

/// Results of all requests, and what they were decided by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Always 1.
    #[serde(default)]
    pub schema: Schema,
    /// The version of Nova that decided, if it was Nova.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nova: Option<String>,
    /// The version of novella that decided, if it was novella.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novella: Option<String>,
    /// What fleet and requests were made from, if they were generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How many hosts the fleet has.
    pub fleet_n: u64,
    /// Nova's options by their names.
    #[serde(default)]
    pub config: BTreeMap<String, Value>,
    /// Names, in the order they were added up.
    pub weighers: Vec<String>,
    /// In the order of the requests.
    pub results: Vec<Outcome>,
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Whether every instance got a host.
    pub complete: bool,
    /// The request's.
    pub id: RequestId,
    /// The host of each instance in turn, each one's share taken before the next. Up to the first that found none.
    pub picks: Vec<u32>,
    /// The next best hosts of each pick, if the request asks for them and is complete: at most `max_attempts` - 1, of the
    /// pick's cell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<Vec<u32>>,
    /// A character for each host, as the filters judge it for the first instance: `.` it passed; `a`, `b`, ... the filter
    /// that refused it, by its place in the list; `!` a filter could not decide; `-` it was never filtered.
    pub verdict: String,
    /// Host and weight of all that passed, best first.
    pub weights: Vec<(u32, f64)>,
    /// What could not be decided, in the order in which Nova comes upon it: there the first ends the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<OutcomeError>,
}

/// Something that could not be decided; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OutcomeError {
    /// A filter, about a host.
    Filter {
        /// By name.
        filter: String,
        /// Its place in the fleet.
        host: u32,
        /// Why.
        reason: String,
    },
    /// A weigher, about a host.
    Weigher {
        /// By name.
        weigher: String,
        /// Its place in the fleet.
        host: u32,
        /// Why.
        reason: String,
    },
    /// The request's image cannot be understood.
    Image {
        /// Why.
        reason: String,
    },
    /// The request asks for what no fleet could give.
    Request {
        /// Why.
        reason: String,
    },
}
