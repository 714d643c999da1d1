//! The daemon on every host: reports the driver's readings to the schedulers and answers calls to its host.
//!
//! [`start`] builds it from a checked configuration, an [`Env`](novella_service::Env) and a transport, so that the
//! executable, the demo, the swarm and the simulation run the same code. An agent can be dropped at any await and started
//! again on its store.
//!
//! # Layout
//! - `identity`: the uuid of the host and the number of the process
//! - [`overrides`]: values that an operator sets in place of detected ones
//! - `monitors`: metrics made from CPU times
//! - `pci`: the PCI devices that instances may have
//! - [`config_sections`]: the sections of the settings
//! - [`offer`]: the hardware that the host offers to instances
//! - [`config`]: the settings
//! - [`probe`]: the rows that `compute-agent probe` prints
//! - `claims`: what the host has granted, and why it refuses
//! - `instances`: the guests that the driver builds for claims
//! - `report`: builds a report
//! - `publisher`: sends reports
//! - `manager`: reads, publishes, answers
//! - `standing`: watches the connection and the host's queue
//! - `metrics`: what `/metrics` shows
//! - `agent`: starts and stops all of this

mod agent;
mod claims;
pub mod config;
pub mod config_sections;
mod identity;
mod instances;
mod manager;
mod metrics;
mod monitors;
pub mod offer;
pub mod overrides;
mod pci;
pub mod probe;
mod publisher;
mod report;
mod standing;

pub use agent::{Agent, StartError, start};
pub use claims::counters::ClaimCounters;
pub use claims::tracker::{CLAIMS_FILE, ClaimsError, ReportedClaims, ResourceTracker};
pub use config::AgentConfig;
pub use identity::{IDENTITY_FILE, Identity, IdentityError};
pub use manager::{ComputeManager, ReadError, Reload};
pub use publisher::{PublishCounters, Standing};
