//! What each call does, one file per call. `endpoint.rs` maps the methods of the API to these files.

pub(crate) mod capacity;
pub(crate) mod claims;
pub(crate) mod create;
mod decide;
pub(crate) mod explain;
pub(crate) mod forget;
mod gather;
pub(crate) mod instances;
mod nova;
mod owner;
pub(crate) mod ping;
pub(crate) mod place;
pub(crate) mod policy;
pub(crate) mod release;
mod reports;
pub(crate) mod snapshot;
