//! How long reports take from the agent to the map: they are made, published, queued at the broker, read and applied.
//!
//! The time is measured by two wall clocks, the sender's and this machine's. If they differ, the difference is part of the
//! result. No decision depends on it. Reports of other senders, which carry no time, are not counted.

use std::time::SystemTime;

use novella_rpcapi::ReceivedReport;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the buckets, in seconds: from a broker without load to reports older than their TTL.
const BOUNDS: [f64; 36] = [
    0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15,
    0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 70.0,
    100.0,
];

/// A histogram of the lags of reports. Clones share it.
#[derive(Debug, Clone)]
pub struct ReportLag(pub(crate) Histogram);

impl Default for ReportLag {
    fn default() -> Self {
        Self(Histogram::new(BOUNDS))
    }
}

impl ReportLag {
    /// Counts reports that are in the map `now`. If the sender's clock is ahead, the lag counts as 0. Returns the host of
    /// each with its lag in seconds, which is negative if the clock is ahead.
    pub fn record<'r>(
        &'r self,
        reports: &'r [ReceivedReport<'_>],
        now: SystemTime,
    ) -> impl Iterator<Item = (&'r str, f64)> {
        let all = reports.iter().flat_map(|ReceivedReport { report, .. }| {
            report.capabilities.0.iter().map(|capabilities| (&*report.host, capabilities.novella.as_deref()))
        });
        all.filter_map(move |(host, novella)| {
            let sent = humantime::parse_rfc3339(&novella?.sent_at).ok()?;
            let lag = now.duration_since(sent).map(|lag| lag.as_secs_f64());
            let lag = lag.unwrap_or_else(|ahead| -ahead.duration().as_secs_f64());
            self.0.observe(lag.max(0.0));
            Some((host, lag))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::{Duration, UNIX_EPOCH};

    use novella_objects::{Capabilities, CapabilitiesList, NovellaReport, UpdateServiceCapabilities};
    use novella_service::Metrics;

    use super::*;

    fn report(sent_at: Option<&str>) -> ReceivedReport<'_> {
        let novella = sent_at
            .map(|sent_at| Box::new(NovellaReport { sent_at: Cow::Borrowed(sent_at), ..Default::default() }));
        UpdateServiceCapabilities {
            service_name: "compute".into(),
            host: "h".into(),
            capabilities: CapabilitiesList(vec![Capabilities { novella, ..Default::default() }]),
        }
        .into()
    }

    #[test]
    fn lags_are_counted_in_their_buckets_and_reports_without_a_time_are_not() {
        let lag = ReportLag::default();
        let metrics = Metrics::new();
        metrics.register("lag", "Lag", lag.0.clone());
        let now = UNIX_EPOCH + Duration::from_millis(10_000);
        let reports = [
            report(Some("1970-01-01T00:00:09.997Z")),
            report(Some("1970-01-01T00:00:08.500Z")),
            report(Some("1970-01-01T00:00:11.000Z")),
            report(Some("yesterday")),
            report(None),
        ];
        let lags: Vec<_> = lag.record(&reports, now).map(|(_, lag)| (lag * 1e3).round()).collect();
        assert_eq!(lags, [3.0, 1500.0, -1000.0]);
        let text = metrics.encode().unwrap();
        assert!(text.contains("novella_lag_sum 1.503\n") && text.contains("novella_lag_count 3\n"), "{text}");
        assert!(text.contains("novella_lag_bucket{le=\"0.001\"} 1\n"), "a clock ahead is no lag: {text}");
    }
}
