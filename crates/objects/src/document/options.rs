//! The options that a question is decided by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Filters, weighers, and Nova's options by their names. What is absent is as in Nova 34.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Names, in the order they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<String>>,
    /// Names, in the order they are added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighers: Option<Vec<String>>,
    /// Multipliers by weigher name; the options `ram_weight_multiplier` and so on say the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub multipliers: BTreeMap<String, f64>,
    /// What an error inside a filter means; absent: as in Nova.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_filter_error: Option<OnFilterError>,
    /// All else: Nova's options of the group `filter_scheduler`, and those of others with the group in front, such as
    /// `metrics_required`. Who works with them refuses names that it does not know.
    #[serde(flatten)]
    pub settings: BTreeMap<String, Value>,
}

/// What becomes of a request when a filter cannot decide about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFilterError {
    /// The request fails.
    FailRequest,
    /// The host is refused.
    RejectHost,
}
