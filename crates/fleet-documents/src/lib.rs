//! Placement questions asked in documents (`novella_objects::document`), and answered in them.
//!
//! An [`Evaluator`] is built from a fleet, options and filter sets, and answers requests about the fleet as it stands in
//! the document: nothing that it is asked changes it. What this version cannot take into account is refused by name,
//! never left out of the answer. A scheduler's map is written as such a fleet by [`MapSnapshot`].
//!
//! Left out: files, lines and texts.
//!
//! # Layout
//!
//! The modules in reading order. Each imports only those above it.
//!
//! - `bad_document`: what is wrong with a document, and where in it
//! - `options`: the scheduler's options, read and written
//! - `read_fleet`: a fleet's hosts, read into a host table
//! - `server_groups`: the server groups of a fleet, with their members
//! - `request`: one request, read and written
//! - `apply_policy`: a policy in place of what a document says itself
//! - `evaluator`: answers requests
//! - `answer`: answers a question that stands in one document
//! - `write_fleet`: a scheduler's map as a fleet

mod answer;
mod apply_policy;
mod bad_document;
mod evaluator;
mod options;
mod read_fleet;
mod request;
mod server_groups;
mod write_fleet;

pub use answer::answer;
pub use apply_policy::apply_policy;
pub use bad_document::BadDocument;
pub use evaluator::Evaluator;
pub use options::{EvaluationOptions, filter_kinds};
pub use read_fleet::host_table;
pub use request::{request_of, request_spec};
pub use write_fleet::MapSnapshot;
