//! The parts of a request, read once, before any host is looked at.
//!
//! What always holds: what these modules return follows from the request and the settings alone.

pub(crate) mod asked;
pub mod charges;
pub(crate) mod failure;
pub(crate) mod features;
pub mod instance_topology;
pub mod pinning;
pub mod server_group;
