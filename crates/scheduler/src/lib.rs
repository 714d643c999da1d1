//! The central daemon: a host-state map made of the hosts' reports, and placements made from the map.
//!
//! [`start`] builds it from a checked configuration, an [`Env`](novella_service::Env) and a transport. It keeps nothing on
//! disk: the hosts own the truth, and a scheduler that starts again asks them for it. Several may run; each holds the
//! whole map.
//!
//! ```text
//! scheduler_fanout_<id> ─▶ ReportHandler (batches) ─▶ calls/reports.rs ─▶ HostManager::apply_report
//! scheduler             ─▶ SchedulerServer (calls) ─▶ endpoint.rs ─▶ calls/place.rs ─▶ HostManager::select_destinations
//! ```
//!
//! # Layout
//!
//! Each module imports only modules above it.
//!
//! - settings: `limits`; [`config`], every setting; `policy_source`, where the policy is read from
//! - what is kept beside the map: `decisions`, the last ones; `kept_snapshots`, copies that clients read;
//!   `refused_reports` and `map_events`, what is logged of the map; `report_lag`, how long reports take
//! - the map: `call_errors`, who has to act on a request without an answer; `manager`, the map behind its lock
//! - the calls: `calls`, one file each, of which `place` is the heart; `endpoint`, all methods of the API
//! - the daemon: `peers`, tells the other schedulers; `startup`, fills the map; `lifecycle`, takes requests and follows
//!   the connection; `tasks`, what is done every second; `metrics`; `daemon`, starts and stops it all

pub mod config;
mod limits;
mod policy_source;

mod decisions;
mod kept_snapshots;
mod map_events;
mod refused_reports;
mod report_lag;

mod call_errors;
mod manager;

mod calls;
mod endpoint;

mod daemon;
mod lifecycle;
mod metrics;
mod peers;
mod startup;
mod tasks;

pub use config::SchedulerConfig;
pub use daemon::{Scheduler, StartError, start};
pub use manager::{ManagerOptions, RequestCounters, SchedulerManager};
pub use policy_source::PolicySource;
