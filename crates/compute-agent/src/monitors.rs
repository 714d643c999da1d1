//! Nova's CPU monitor: the metrics about CPU times that MetricsFilter and MetricsWeigher read.
//!
//! Names and values are Nova's. Times are in nanoseconds since boot. Shares of the time since the previous reading are
//! numbers from 0 to 1, truncated to whole percents. The frequency is in MHz. The first shares cover the time since boot.

use novella_objects::Json;
use novella_virt::CpuStats;
use serde_json::{Value, json};

/// The name in `compute_monitors` that turns the monitor on.
pub const CPU_MONITOR: &str = "cpu.virt_driver";

/// Makes metrics from readings of CPU times.
#[derive(Default)]
pub struct CpuMonitor {
    before: CpuStats,
    metrics: Option<Json<'static>>,
}

impl CpuMonitor {
    /// Makes metrics from a reading of the driver called `source`. If no time has passed since the previous reading, because
    /// the probe hangs and its last value is reported again, the metrics stay as they are.
    pub fn observe(&mut self, now: &CpuStats, source: &str, timestamp: &str) {
        let spent = |of: fn(&CpuStats) -> u64| of(now).saturating_sub(of(&self.before));
        let (user, kernel) = (spent(|s| s.user_ns), spent(|s| s.kernel_ns));
        let (idle, iowait) = (spent(|s| s.idle_ns), spent(|s| s.iowait_ns));
        let busy = user.saturating_add(kernel).saturating_add(iowait);
        let all = busy.saturating_add(idle);
        if all == 0 {
            return;
        }
        let share = |part: u64| {
            let percent = (part as f64 / all as f64 * 100.0).floor();
            json!(percent / 100.0)
        };
        let values = [
            ("cpu.user.time", Some(json!(now.user_ns))),
            ("cpu.kernel.time", Some(json!(now.kernel_ns))),
            ("cpu.idle.time", Some(json!(now.idle_ns))),
            ("cpu.iowait.time", Some(json!(now.iowait_ns))),
            ("cpu.frequency", now.frequency_mhz.map(|mhz| json!(mhz))),
            ("cpu.user.percent", Some(share(user))),
            ("cpu.kernel.percent", Some(share(kernel))),
            ("cpu.idle.percent", Some(share(idle))),
            ("cpu.iowait.percent", Some(share(iowait))),
            ("cpu.percent", Some(share(busy))),
        ];
        let metric = |(name, value): (&str, Option<Value>)| {
            value.map(|value| json!({"name": name, "value": value, "timestamp": timestamp, "source": source}))
        };
        let metrics: Vec<Value> = values.into_iter().filter_map(metric).collect();
        self.metrics = Some(Json::of(&metrics).expect("JSON values have a JSON form"));
        self.before = *now;
    }

    /// The metrics for a report. `None` before the first reading.
    pub fn metrics(&self) -> Option<&Json<'static>> {
        self.metrics.as_ref()
    }
}
