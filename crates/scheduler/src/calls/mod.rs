//! What each call does, one file a call. `endpoint.rs` says which method of the wire is answered by which.

pub(crate) mod capacity;
pub(crate) mod explain;
mod nova;
pub(crate) mod ping;
pub(crate) mod place;
pub(crate) mod policy;
mod reports;
pub(crate) mod snapshot;
