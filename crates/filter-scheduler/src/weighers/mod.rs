//! Weighers: the value of a host, computed exactly and by a fast estimate.

pub(crate) mod estimate;
pub(crate) mod of_request;
pub(crate) mod weigher;
