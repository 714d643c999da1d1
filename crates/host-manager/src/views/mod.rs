//! Views of the map for callers. Each view has one file.

pub(crate) mod conflicts;
pub(crate) mod copy;
pub(crate) mod destinations;
pub(crate) mod gathering;
pub(crate) mod host_claims;
pub(crate) mod hosts;
pub(crate) mod instances;
pub(crate) mod questions;
pub(crate) mod server_groups;
pub(crate) mod services;
pub(crate) mod zones;
