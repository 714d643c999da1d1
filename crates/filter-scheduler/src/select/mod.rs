//! The placement of a request: filter, weigh, pick, consume. `select.rs` is the place to start.

pub(crate) mod answer;
pub(crate) mod compiled;
pub(crate) mod considered;
pub(crate) mod explanation;
pub(crate) mod history;
pub(crate) mod progress;
pub(crate) mod ranking;
pub(crate) mod scan;
#[expect(clippy::module_inception, reason = "select.rs is the algorithm; this file only lists the wing")]
pub(crate) mod select;
pub(crate) mod shape;
pub(crate) mod shapes;
pub(crate) mod whole_fleet;
