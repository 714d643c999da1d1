//! Nova's filter scheduler as a pure, synchronous, columnar engine.
//!
//! [`HostTable`] is the fleet as columns; the host manager writes reports and reservations into it; the scheduler filters,
//! weighs and picks from it. Time and randomness are arguments: same table, request and seed, same answer.
//!
//! Left out on purpose: clocks, I/O, tasks, locks, and the wire.

mod capability_columns;
mod dictionary;
mod extra_specs_ops;
pub mod host_manager;
mod host_table;
mod json;
mod python;

pub use host_manager::*;
pub use host_table::{HostState, HostTable, MAX_AMOUNT, MAX_RATIO, MIN_RATIO, Resources, Row, Snapshot, Unusable};
pub use novella_objects::HostState as Status;
pub use novella_resources::Amounts;
