//! Filters: a request becomes operations on blocks of columns.
//!
//! `compile.rs` turns a request into a [`Filter`](program::Filter). Running one on a block takes the hosts that are
//! still candidates, one bit each, and returns those that pass. There is no look-up or dispatch per host. Filters
//! run in the configured order on each block, which gives every filter the same hosts as running it over the whole list
//! would.
//!
//! To add a filter, add a variant to `FilterKind`, say in `compile.rs` and `program.rs` how it compiles and runs, and
//! add the same rule to the naive engine in `tests/naive`.

mod attributes;
pub(crate) mod bound;
mod by_aggregate;
pub(crate) mod by_value;
mod cell_refusal;
pub(crate) mod compile;
mod compute_capabilities;
pub(crate) mod devices;
pub(crate) mod group;
mod image;
mod json_query;
mod network;
mod pinned;
pub(crate) mod program;
pub(crate) mod ratios;
pub(crate) mod refusal;
pub(crate) mod tally;
