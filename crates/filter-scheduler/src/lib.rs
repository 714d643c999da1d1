//! Nova's filter scheduler as a pure, synchronous, columnar engine.
//!
//! [`HostTable`] is the fleet as columns; the host manager writes reports and reservations into it; [`FilterScheduler`]
//! filters, weighs and picks from it. Time and randomness are arguments: same table, request and seed, same answer.
//!
//! Left out on purpose: clocks, I/O, tasks, locks, and the wire.

mod aggregates;
mod bitmap;
mod capability_columns;
mod capacity;
mod changes;
mod columns;
mod devices;
mod dictionary;
pub mod document;
mod evaluate;
mod explain;
mod extra_specs_ops;
mod filters;
mod fix;
mod fnv;
mod group;
pub mod host_manager;
mod host_pattern;
mod host_table;
mod image;
mod inspect;
mod instance_topology;
mod instances;
mod inventory_columns;
mod json;
mod names;
mod near;
mod options;
mod order;
mod pinning;
mod placement;
mod policy_file;
mod providers;
mod python;
mod ranking;
mod scan;
mod select;
mod shape;
mod trait_columns;
mod version;
mod weighers;
mod weights;

pub use aggregates::Aggregate;
pub use capacity::{Eligible, MAX_ON_A_HOST};
pub use changes::change_request;
pub use devices::Devices;
pub use evaluate::{Evaluation, Verdict};
pub use filters::FilterError;
pub use fix::{MAX_LOOKS, MAX_TRIALS, search as search_fixes};
pub use host_manager::*;
pub use host_pattern::HostPattern;
pub use host_table::{
    HostState, HostTable, MAX_AMOUNT, MAX_RATIO, MIN_RATIO, Resources, Row, Snapshot, Unusable,
};
pub use image::BadImage;
pub use instance_topology::BadDevices;
pub use instances::Instance;
pub use inventory_columns::ClassUsage;
pub use near::NearMisses;
pub use novella_objects::HostState as Status;
pub use novella_resources::{Allocation, Amounts, ClassAmounts, is_resource_class};
pub use options::{
    BadOptions, FilterKind, MAX_MULTIPLIER, MIN_MULTIPLIER, OnFilterError, Policy, SchedulerOptions,
    WeigherKind,
};
pub use placement::BadFeature;
pub use policy_file::{
    AggregateRule, BadPolicy, GroupRule, HostFacts, Match, POLICY_KEYS, PolicyFile, PolicyKey,
    missing_for_group,
};
pub use select::{Failure, FilterScheduler, MAX_INSTANCES, NumaLimits, Pick, PickLimits, Selected, Terms};
pub use weighers::WeigherError;
