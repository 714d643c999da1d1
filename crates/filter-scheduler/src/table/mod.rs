//! The fleet as columns: one row per host, one array per quantity, one dictionary entry per distinct value.
//!
//! `host_table.rs` says what always holds.

pub(crate) mod aggregates;
pub(crate) mod allocations;
pub(crate) mod amounts;
pub(crate) mod bitmap;
pub(crate) mod block;
pub(crate) mod capabilities;
pub(crate) mod columns;
pub(crate) mod devices;
pub mod dictionary;
pub(crate) mod host_table;
pub(crate) mod instances;
pub(crate) mod inventories;
pub(crate) mod names;
pub(crate) mod traits;
pub(crate) mod view;
