//! The metrics of one daemon: a Prometheus registry that many components add to and one HTTP handler reads.
//!
//! What always holds: every name starts with `novella_`; several daemons in one process have a registry each.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::text,
    registry::{Metric, Registry},
};

/// The prefix of every metric's name.
const PREFIX: &str = "novella";

/// A shared metrics registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Metrics {
        Metrics { registry: Arc::new(Mutex::new(Registry::with_prefix(PREFIX))) }
    }

    /// Adds `metric` as `novella_<name>` and hands it back, so that declaring and registering is one expression. The
    /// clone in the registry must share its value, as all metrics of `prometheus_client` do.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with_registry(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Gives access to the registry itself, for collectors.
    pub fn with_registry<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        f(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything in OpenMetrics text form. An error can only come from a collector.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        self.with_registry(|registry| text::encode(&mut out, registry))?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_registered_counter_is_shared_with_the_registry() {
        let metrics = Metrics::new();
        let reports = metrics.register("reports", "Reports applied", Counter::<u64>::default());
        reports.inc_by(3);
        let text = metrics.clone().encode().unwrap();
        assert!(text.contains("# HELP novella_reports Reports applied.\n"), "{text}");
        assert!(text.contains("\nnovella_reports_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
