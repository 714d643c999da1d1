//! The contracts: everything that can be said on the wire between operators, schedulers and agents.
//!
//! Each API has a client (what a caller writes), an endpoint trait (what a daemon implements) and an adapter that turns
//! the trait into a [`novella_messaging::Endpoint`]. The version history stands on top of each file; a method is added
//! with a raised minor version and never changes its meaning.

mod base;
mod compute;
mod names;
mod nova_scheduler;
mod scheduler;

pub use base::{BaseApi, Pong};
pub use compute::{
    AgentStatus, ComputeApi, ComputeEndpoint, ComputeServer, GetHostStats, PublishServiceCapabilities,
};
pub use names::Names;
pub use nova_scheduler::{NovaSchedulerEndpoint, NovaSchedulerServer, NovaSelectDestinations, no_valid_host};
pub use novella_nova_objects::{NumaTopologyLimits, SchedulerLimits, Selection as NovaSelection};
pub use scheduler::{
    DecisionQuery, HostList, HostQuery, OwnPolicy, Release, ReportHandler, ReportSink, SchedulerApi,
    SchedulerEndpoint, SchedulerServer, SchedulerStatus, SnapshotCursor, SnapshotPage, SnapshotQuery,
};

/// Usual topic of the schedulers.
pub const SCHEDULER_TOPIC: &str = "scheduler";
/// Usual topic of the agents.
pub const COMPUTE_TOPIC: &str = "compute";
