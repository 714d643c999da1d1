//! Nova's filter scheduler as a pure, synchronous, columnar engine.
//!
//! [`HostTable`] is the fleet as columns; the host manager writes reports and reservations into it; [`FilterScheduler`]
//! filters, weighs and picks from it. Time and randomness are arguments: same table, request and seed, same answer.
//!
//! Left out on purpose: clocks, I/O, tasks, locks, and the wire.

mod bitmap;
mod capability_columns;
mod dictionary;
mod explain;
mod extra_specs_ops;
mod filters;
pub mod host_manager;
mod host_table;
mod json;
mod options;
mod order;
mod python;
mod select;
mod weights;

pub use filters::FilterError;
pub use host_manager::*;
pub use host_table::{HostState, HostTable, MAX_AMOUNT, MAX_RATIO, MIN_RATIO, Resources, Row, Snapshot, Unusable};
pub use novella_objects::HostState as Status;
pub use novella_resources::Amounts;
pub use options::{
    BadOptions, FilterKind, MAX_MULTIPLIER, MIN_MULTIPLIER, OnFilterError, SchedulerOptions, WeigherKind,
};
pub use select::{Failure, FilterScheduler, MAX_INSTANCES, Pick, PickLimits, Selected, Terms};
