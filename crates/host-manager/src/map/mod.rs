//! The state of the map.

pub(crate) mod host_map;
pub(crate) mod record;
