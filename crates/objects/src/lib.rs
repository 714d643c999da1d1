//! The types that are sent over the wire, and nothing else.
//!
//! Every type here is promised to a peer: a field may be added with a default, and is never renamed or given another unit.
//! Units are in the names, as in Nova: `_mb` is MiB, `_gb` is GiB, `_s` seconds, `_ms` milliseconds. Types of received
//! messages borrow from the message text wherever they can, because a scheduler decodes tens of thousands of reports a
//! second. Sending code fills the same types with owned values.
//!
//! Left out on purpose: behaviour. `novella-resources` knows what fits where, and `novella-filter-scheduler` chooses.
//!
//! # Layout
//! - `limits`: the largest amounts and numbers that may be asked or reported
//! - `entries`, `json`: JSON that is kept as it was received
//! - `inventory`, `numa`, `devices`: what a host has besides CPUs, memory and disk
//! - `claim`, `agent_report`, `capabilities`: a host's report
//! - `power_state`: whether a guest runs
//! - `request_spec`: what a caller asks for
//! - `decision`: what a scheduler answers
//! - `instance`: what a host builds, and in which state it is
//! - `claim_request`: what a scheduler asks of a host, and what the host answers
//! - `host`, `policy`: what a scheduler says about hosts and about its policy
//! - `explain`, `capacity`: questions about placements and their answers
//! - [`document`]: fleets, requests and results in files

mod agent_report;
mod capabilities;
mod capacity;
mod claim;
mod claim_request;
mod decision;
mod devices;
pub mod document;
mod entries;
mod explain;
mod host;
mod instance;
mod inventory;
mod json;
pub mod limits;
mod numa;
mod policy;
mod power_state;
mod request_spec;

pub use agent_report::{AllocationRatios, Measured, NovellaReport, Reserved};
pub use capabilities::{Capabilities, CapabilitiesList, INTEGER_KEYS, UpdateServiceCapabilities};
pub use capacity::{
    Capacity, CapacityQuery, FlavorCapacity, GroupCapacity, Grouping, Limit, ReservedCapacity,
};
pub use claim::{Claim, Lack, Rank};
pub use claim_request::{ClaimAnswer, ClaimRequest, InstanceClaim, TerminateInstance, Terminated};
pub use decision::{
    Decision, DecisionSummary, Explanation, FilterTally, HostRefusal, NearestMiss, Refusal, Reserve,
    ReserveEntry, Scored, Selection, WeigherScore,
};
pub use devices::{PciPool, PciRequest};
pub use entries::Entries;
pub use explain::{
    Change, Explain, Explained, FilterOutcome, FilterVerdict, Fix, Fixes, HostVerdict, NearHost, Part,
    Quantity,
};
pub use host::{
    ForgottenBy, ForgottenHost, GroupMember, HostAmounts, HostDetail, HostStatus, HostSummary, HostWarning,
    PciPoolDetail, ServerGroupSummary, ServiceSummary,
};
pub use instance::{BuildRequest, InstanceEvent, InstanceState, InstanceSummary, TaskState, VmState};
pub use inventory::{Inventory, UsedInventory};
pub use json::Json;
pub use limits::{
    MAX_ALTERNATES, MAX_AMOUNT, MAX_HOST_NAME, MAX_INSTANCES, MAX_NAME, MAX_VCPUS, is_host_name, is_name,
};
pub use numa::{
    CellUsage, InstanceNumaCell, InstanceNumaTopology, MemoryPages, NetworkMetadata, NumaCell, NumaTopology,
};
pub use policy::{Policies, PolicyChange, PolicyProblem, PolicyReload, PolicyStatus};
pub use power_state::PowerState;
pub use request_spec::{
    Flavor, Image, InstanceGroup, PlacementRequest, RequestSpec, Retry, SelectDestinations,
};
