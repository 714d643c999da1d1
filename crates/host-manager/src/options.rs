//! What an operator may set of the host manager. Consistency between settings is the configuration's to check; the
//! manager itself works with any values.

use std::time::Duration;

/// Settings of a [`HostManager`](crate::HostManager).
#[derive(Debug, Clone)]
pub struct HostManagerOptions {
    /// A host silent for this long is down. Should exceed three reports.
    pub service_down_time: Duration,
    /// A host silent for this long is forgotten.
    pub forget_after: Duration,
    /// The interval at which hosts report; three of them make a service's capabilities stale for the roll-up.
    pub report_interval: Duration,
    /// How long a reservation holds unless the request says.
    pub reservation_ttl: Duration,
    /// The longest hold that a request or a peer may ask.
    pub max_hold: Duration,
    /// Hosts lost together with more than this share of all live hosts are suspect instead of down.
    pub suspect_fraction: f64,
    /// How long hosts that were lost together stay suspect.
    pub suspect_limit: Duration,
    /// The zone shown of hosts that name none.
    pub default_availability_zone: String,
    /// Hosts in the map; reports of further ones are refused.
    pub max_hosts: usize,
    /// Reservations at a time; further ones are refused.
    pub max_reservations: usize,
    /// Claims in one report; a report with more is refused.
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
            suspect_limit: Duration::from_secs(300),
            default_availability_zone: "nova".into(),
            max_hosts: 20_000,
            max_reservations: 100_000,
            max_claims_per_host: 4096,
        }
    }
}
