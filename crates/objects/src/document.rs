//! Placement questions and answers as documents: a fleet, requests, the options in force, and the results.
//!
//! People and programs keep, compare and replay these files and lines, so they carry a version. Within version 1 fields
//! are only added, and only optional ones. A reader refuses fields that it does not know, because half of a question gets
//! a wrong answer. Names, units and nulls are those of Nova's compute nodes and request specs.
//!
//! Left out: what the fields mean for a placement (`novella-filter-scheduler` turns documents into its host table and
//! request specs), and where documents come from.
//!
//! # Layout
//! - `schema`: the version
//! - `absence`: absent and null fields
//! - `options`: the options with which a question is decided
//! - `host`: one host of a fleet
//! - `fleet`: hosts with aggregates, server groups and PCI aliases
//! - `request`: one request
//! - `results`: what was decided
//! - `question`: lists of requests, and a whole question with its answer

mod absence;
mod fleet;
mod host;
mod options;
mod question;
mod request;
mod results;
mod schema;

pub use crate::devices::{PciPool, PciRequest};
pub use crate::inventory::UsedInventory;
pub use crate::numa::{
    InstanceNumaCell, InstanceNumaTopology, MemoryPages, NetworkMetadata, NumaCell, NumaTopology,
};
pub use fleet::{Aggregate, Fleet, PciAlias, ServerGroup};
pub use host::{Host, HostInstance};
pub use options::{OnFilterError, Options};
pub use question::{Answer, Question, QuestionError, Requests};
pub use request::{FilterChoice, Request, RequestId};
pub use results::{Outcome, OutcomeError, Results};
pub use schema::Schema;
