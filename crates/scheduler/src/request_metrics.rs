//! How long decisions take, and which filters refuse them.
//!
//! Left out: the number of decisions (`RequestCounters`).

use std::time::Duration;

use novella_objects::{Decision, Refusal};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the buckets, in seconds: from a small fleet to a request for thousands of instances.
const BOUNDS: [f64; 13] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0];

/// The label of a count of refusals.
type OfFilter = [(&'static str, String); 1];

/// See the module documentation. Clones share the values.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    /// Seconds from the start of a decision to its end.
    pub(crate) seconds: Histogram,
    /// Refused requests by the filter that left no host.
    pub(crate) refused_by: Family<OfFilter, Counter>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self { seconds: Histogram::new(BOUNDS), refused_by: Family::default() }
    }
}

impl RequestMetrics {
    /// Counts a decision that took this long.
    pub(crate) fn record(&self, decision: &Decision, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        if let Some(Refusal::NoValidHost { .. }) = decision.refusal {
            let filters = &decision.explanation.filters;
            // If no filter refused the last hosts, there was no host at all, or no room for another reservation.
            let last = filters.iter().find(|filter| filter.hosts_out == 0);
            let name = last.map_or("none", |filter| &filter.filter);
            self.refused_by.get_or_create(&[("filter", name.to_owned())]).inc();
        }
    }
}
