//! Placement questions asked in documents (`novella_objects::document`), and their answers.
//!
//! An [`Evaluator`] is built from a fleet, options and filter sets. It answers requests about the fleet in the state
//! that the document describes. A scheduler's map is written as such a fleet by [`MapSnapshot`].
//!
//! What always holds: an answer does not change the fleet. What this version cannot take into account is refused by
//! name, and never silently left out of an answer.
//!
//! Left out: files, lines, and output for people.
//!
//! # Layout
//!
//! The modules in reading order. Each imports only those above it.
//!
//! - `bad_document`: what is wrong with a document, and where
//! - `options`: the scheduler's options, read and written
//! - `read_fleet`: the hosts of a fleet, read into a host table
//! - `server_groups`: the server groups of a fleet, with their members
//! - `request`: one request, read and written
//! - `apply_policy`: puts a policy in place of what a document says
//! - `evaluator`: answers requests
//! - `answer`: answers a question that is one document
//! - `write_fleet`: a scheduler's map, written as a fleet

mod answer;
mod apply_policy;
mod bad_document;
mod evaluator;
mod options;
mod read_fleet;
mod request;
mod server_groups;
mod write_fleet;

pub use answer::{Answered, answer};
pub use apply_policy::apply_policy;
pub use bad_document::BadDocument;
pub use evaluator::Evaluator;
pub use options::EvaluationOptions;
pub use read_fleet::host_table;
pub use request::{request_of, request_spec};
pub use write_fleet::MapSnapshot;
