//! The RPC APIs: every message between operators, schedulers and agents.
//!
//! Each API has a client, which a caller uses, an endpoint trait, which a daemon implements, and an adapter that makes a
//! [`novella_messaging::Endpoint`] from the trait. The methods and their versions are listed at the top of each file. A
//! method is added with a raised minor version, and never changes its meaning.
//!
//! # Layout
//!
//! From the bottom up. A module imports only modules above it in this table.
//!
//! | module | what it is |
//! |---|---|
//! | `names` | the exchange and the topics of a fleet |
//! | `serve` | makes an endpoint of an endpoint trait |
//! | `base` | `ping`, which every service answers |
//! | `compute` | the API of the agents |
//! | `scheduler` | the API of the schedulers, and the reports |
//! | `nova_scheduler` | Nova's own scheduler API |

mod base;
mod compute;
mod names;
mod nova_scheduler;
mod scheduler;
mod serve;

pub use base::{BaseApi, Pong};
pub use compute::{
    AgentStatus, ComputeApi, ComputeEndpoint, ComputeServer, GetHostStats, InstanceQuery,
    PublishServiceCapabilities,
};
pub use names::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
pub use nova_scheduler::{NovaSchedulerEndpoint, NovaSchedulerServer, NovaSelectDestinations, no_valid_host};
pub use novella_nova_objects::{NovaSelection, NumaTopologyLimits, SchedulerLimits};
pub use scheduler::{
    CreateInstance, DecisionList, DecisionListQuery, DecisionQuery, Exceeded, FindInstance, FoundInstance,
    HOST_REFUSED, HOST_UNREACHABLE, HolderStatus, HostList, HostListQuery, HostPing, HostQuery,
    INSTANCE_NOT_FOUND, InstanceList, InstanceListQuery, OTHER_COMMAND, OwnPolicy, POLICY_ERROR, PingHost,
    QUOTA_EXCEEDED, ReceivedReport, Release, Released, ReportHandler, ReportSink, SchedulerApi,
    SchedulerEndpoint, SchedulerServer, SchedulerStatus, ServerGroupQuery, SnapshotCursor, SnapshotPage,
    SnapshotQuery, host_failed, instance_not_found, other_command, policy_error, quota_exceeded,
};
