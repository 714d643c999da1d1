//! The central daemon: keeps a map of host states from the hosts' reports, and places instances from that map.
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
//! In reading order; each module imports only modules above it.
//!
//! Settings:
//! - `policy_file`: reads the policy file
//! - `quotas`: how often a user and a project may ask
//! - [`config`]: every setting
//! - `policy_source`: where the policy is read from, and the result of the last reload
//!
//! What is kept and logged beside the map:
//! - `decisions`: the last decisions with their requests
//! - `kept_snapshots`: copies of the map that clients read page by page
//! - `refused_reports`, `map_events`: what is logged about reports and hosts
//! - `report_lag`, `host_clocks`: how long reports take, and which hosts' clocks are off
//! - `request_metrics`: how long decisions take, and which filters refuse them
//!
//! The map:
//! - `call_errors`: the errors of calls, by who has to act
//! - `core_lock`: the lock of the map, and how questions share it with everybody else
//! - `manager`: the map behind its one lock, and what the calls share
//!
//! The calls:
//! - `calls`: what each call does, one file per call; start with `calls/place.rs`
//! - `endpoint`: the methods of the API
//!
//! The daemon:
//! - `peers`: tells the other schedulers what was reserved
//! - `startup`: fills the map
//! - `answers`: asks new hosts whether they have a queue of their own
//! - `hearing`: makes sure that what is sent to the scheduler arrives
//! - `lifecycle`: takes requests, and follows the connection
//! - `tasks`: what is done every second
//! - `metrics`: what `/metrics` shows
//! - `daemon`: starts and stops it all

pub mod config;
mod policy_file;
mod policy_source;
mod quotas;

mod decisions;
mod host_clocks;
mod kept_snapshots;
mod map_events;
mod refused_reports;
mod report_lag;
mod request_metrics;

mod call_errors;
mod core_lock;
mod manager;

mod calls;
mod endpoint;

mod answers;
mod daemon;
mod hearing;
mod lifecycle;
mod metrics;
mod peers;
mod startup;
mod tasks;

pub use config::SchedulerConfig;
pub use daemon::{Scheduler, StartError, start};
pub use manager::{ManagerOptions, RequestCounters, SchedulerManager};
pub use policy_source::PolicySource;
pub use quotas::RequestQuotas;
