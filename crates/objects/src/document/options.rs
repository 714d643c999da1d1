//! The options in force when a question is decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Filters, weighers and Nova's options by name. An option that is absent has Nova 34's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Names of the filters, in the order in which they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<String>>,
    /// Names of the weighers, in the order in which their weights are added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighers: Option<Vec<String>>,
    /// Multipliers by weigher name. Nova's options, such as `ram_weight_multiplier`, set the same numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub multipliers: BTreeMap<String, f64>,
    /// What to do when a filter cannot decide. Absent: the request fails, as in Nova.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_filter_error: Option<OnFilterError>,
    /// All other options: those of Nova's group `filter_scheduler` by name, and those of other groups with the group in
    /// front, such as `metrics_required`. Unknown names are refused by the code that uses them, not here.
    #[serde(flatten)]
    pub settings: BTreeMap<String, Value>,
}

/// What happens when a filter cannot decide about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFilterError {
    /// The request fails with the error, as in Nova.
    FailRequest,
    /// The host is refused, and the error is counted.
    RejectHost,
}
