//! Metrics that are read at each scrape, from counts that the program keeps anyway.
//!
//! A closure is registered once and runs at each scrape. Samples of one name must follow each other, because OpenMetrics
//! writes the help of a name once.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;

use crate::env::metrics::Metrics;

/// One value at the time of the scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    name: String,
    help: &'static str,
    value: Value,
    labels: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Counter(u64),
    Gauge(f64),
}

impl Sample {
    /// A count that only grows; shown as `<name>_total`.
    pub fn counter(name: &str, help: &'static str, value: u64) -> Self {
        Self { name: name.to_owned(), help, value: Value::Counter(value), labels: Vec::new() }
    }

    /// A value that rises and falls.
    pub fn gauge(name: &str, help: &'static str, value: f64) -> Self {
        Self { name: name.to_owned(), help, value: Value::Gauge(value), labels: Vec::new() }
    }

    /// Counts of one name that a label divides.
    pub fn counters(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        counts: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> impl Iterator<Item = Self> {
        counts.into_iter().map(move |(value, count)| Self::counter(name, help, count).label(label, value))
    }

    /// Adds a label, which tells samples of one name apart.
    pub fn label(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((key, value.into()));
        self
    }
}

/// What a daemon knows about its connection to the broker.
#[derive(Debug, Clone, Copy)]
pub struct BrokerLink {
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether the broker accepts no messages for now.
    pub blocked: bool,
    /// How many connections there were; `None` if that is not known without one.
    pub connections: Option<u64>,
}

struct Sampled<F> {
    prefix: &'static str,
    read: F,
}

impl<F> fmt::Debug for Sampled<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sampled({})", self.prefix)
    }
}

impl<F: Fn(&mut Vec<Sample>) + Send + Sync + 'static> Collector for Sampled<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut samples = Vec::new();
        (self.read)(&mut samples);
        for family in samples.chunk_by(|a, b| a.name == b.name) {
            let kind = match family[0].value {
                Value::Counter(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
            };
            let name = format!("{}_{}", self.prefix, family[0].name);
            let mut metric = encoder.encode_descriptor(&name, family[0].help, None, kind)?;
            for sample in family {
                let value = |one: &mut MetricEncoder<'_>| match sample.value {
                    Value::Counter(value) => one.encode_counter::<[(&str, &str); 0], _, u64>(&value, None),
                    Value::Gauge(value) => one.encode_gauge(&value),
                };
                let labels: Vec<_> = sample.labels.iter().map(|(key, text)| (*key, text.as_str())).collect();
                match labels.is_empty() {
                    true => value(&mut metric)?,
                    false => value(&mut metric.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl Metrics {
    /// Shows what `read` appends, as `novella_<prefix>_<name>`, at each scrape.
    pub fn sampled(&self, prefix: &'static str, read: impl Fn(&mut Vec<Sample>) + Send + Sync + 'static) {
        self.with_registry(|registry| registry.register_collector(Box::new(Sampled { prefix, read })));
    }

    /// Shows what every daemon has: its version, and its link to the broker.
    pub fn common(&self, version: &'static str, link: impl Fn() -> BrokerLink + Send + Sync + 'static) {
        self.sampled("build", move |out| {
            out.push(Sample::gauge("info", "The version of this program", 1.0).label("version", version));
        });
        let last = AtomicU64::new(0);
        self.sampled("broker", move |out| {
            let BrokerLink { connected, blocked, connections } = link();
            // Without a connection its number is not known, and the last one still counts.
            let connections = connections.unwrap_or_else(|| last.load(Ordering::Relaxed));
            last.store(connections, Ordering::Relaxed);
            let is = |holds: bool| f64::from(u8::from(holds));
            let help = "Connections to the broker since the start";
            out.extend([
                Sample::gauge("connected", "1 if there is a connection to the broker", is(connected)),
                Sample::gauge("blocked", "1 if the broker accepts no messages for now", is(blocked)),
                Sample::counter("connections", help, connections),
            ]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_at_each_scrape_and_grouped_by_name() {
        let metrics = Metrics::new();
        metrics.sampled("map", |out| {
            out.push(Sample::gauge("hosts", "Hosts", 2.0).label("state", "up"));
            out.push(Sample::gauge("hosts", "Hosts", 1.0).label("state", "down"));
            out.push(Sample::counter("reports", "Reports", 7));
        });
        let text = metrics.encode().unwrap();
        assert_eq!(text.matches("# HELP novella_map_hosts").count(), 1, "{text}");
        assert!(text.contains("novella_map_hosts{state=\"up\"} 2.0\n"), "{text}");
        assert!(text.contains("novella_map_reports_total 7\n"), "{text}");
    }
}
