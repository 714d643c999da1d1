//! The nouns that cross the wire, and nothing else.
//!
//! Every type here is promised to a peer: a field may be added with a default, never renamed or given another unit.
//! Units are in the names: `_mb` is MiB, `_gb` is GiB, `_s` seconds, `_ms` milliseconds, as Nova's are.
//! Receiving types borrow from the message text wherever they can, because a report is decoded tens of thousands of
//! times a second; sending code fills the same types with owned values.
//!
//! Left out on purpose: behaviour. What fits where is `novella-resources`, who is chosen is `novella-filter-scheduler`.

mod capabilities;
mod capacity;
mod decision;
pub mod document;
mod entries;
mod explain;
mod host;
mod json;
pub mod limits;
mod policy;
mod request_spec;

pub use capabilities::{
    AllocationRatios, Capabilities, CapabilitiesList, CellUsage, Claim, Inventory, Measured, NovellaReport,
    Reserved, UpdateServiceCapabilities,
};
pub use capacity::{
    Capacity, CapacityQuery, FlavorCapacity, GroupCapacity, Grouping, Limit, ReservedCapacity,
};
pub use decision::{
    Decision, Explanation, FilterTally, NearestMiss, Refusal, Reserve, ReserveEntry, Scored, Selection,
    WeigherScore,
};
pub use entries::Entries;
pub use explain::{
    Change, Explain, Explained, FilterOutcome, FilterVerdict, Fix, Fixes, HostVerdict, NearHost, Part,
    Quantity,
};
pub use host::{HostDetail, HostState, HostSummary, HostWarning, PciPoolDetail, ServiceSummary};
pub use json::Json;
pub use limits::{MAX_ALTERNATES, MAX_AMOUNT, MAX_INSTANCES, MAX_VCPUS};
pub use policy::{Policies, PolicyChange, PolicyProblem, PolicyReload, PolicyStatus};
pub use request_spec::{Flavor, Image, InstanceGroup, RequestSpec, Retry, SelectDestinations};
