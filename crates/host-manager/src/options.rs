//! The settings of the host manager.
//!
//! What always holds: the manager works with any values.
//!
//! Left out: whether settings are consistent. The scheduler's configuration checks that.

use std::time::Duration;

use novella_resources::Amounts;

/// How much one holder may have at a time. The default is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The most of each amount.
    pub most: Amounts,
}

impl Default for Quota {
    fn default() -> Self {
        let most = Amounts { instances: u32::MAX, vcpus: u64::MAX, memory_mb: u64::MAX, disk_gb: u64::MAX };
        Self { most }
    }
}

/// Settings of a [`HostManager`](crate::HostManager).
#[derive(Debug, Clone)]
pub struct HostManagerOptions {
    /// A host that has been silent for this long is down. It should be more than three report intervals.
    pub service_down_time: Duration,
    /// A host that has been silent for this long is forgotten.
    pub forget_after: Duration,
    /// The interval at which hosts report. After three of them without a report, a service's capabilities are stale and
    /// no longer counted in Nova's roll-up.
    pub report_interval: Duration,
    /// How long a reservation holds, unless the request says how long.
    pub reservation_ttl: Duration,
    /// The longest hold that a request or a peer may ask for.
    pub max_hold: Duration,
    /// If more than this fraction of all live hosts falls silent together, they are suspect and not down. It counts in
    /// fleets of at least ten live hosts, and until three times `service_down_time` after a host's last report.
    pub suspect_fraction: f64,
    /// The zone that is shown for hosts that name none.
    pub default_availability_zone: String,
    /// The broker user to whom a host belongs, with `{host}` in place of its name. Without a rule, a host belongs to the user
    /// who first reported it.
    pub host_user: Option<String>,
    /// How many hosts the map holds at most. Reports of further hosts are refused.
    pub max_hosts: usize,
    /// How many new hosts a broker user may report within a minute, after the answer window of a start. Reports of further
    /// ones are refused.
    pub new_hosts_per_minute: u32,
    /// How many reservations there may be at a time. Further ones are refused.
    pub max_reservations: usize,
    /// How much may be held for one broker user at a time.
    pub user_quota: Quota,
    /// How much may be held for one project at a time.
    pub project_quota: Quota,
    /// How many claims a report may list. A report with more is refused.
    pub max_claims_per_host: usize,
}

impl Default for HostManagerOptions {
    fn default() -> Self {
        Self {
            service_down_time: Duration::from_secs(60),
            forget_after: Duration::from_secs(3600),
            report_interval: Duration::from_secs(10),
            reservation_ttl: Duration::from_secs(30),
            max_hold: Duration::from_secs(3600),
            suspect_fraction: 1.0 / 3.0,
            default_availability_zone: "nova".into(),
            host_user: None,
            max_hosts: 20_000,
            new_hosts_per_minute: 1_000,
            max_reservations: 100_000,
            user_quota: Quota::default(),
            project_quota: Quota::default(),
            max_claims_per_host: 4096,
        }
    }
}
