//! What is told of the map, one file a question.

pub(crate) mod capacity;
pub(crate) mod copy;
pub(crate) mod destinations;
pub(crate) mod explain;
pub(crate) mod hosts;
pub(crate) mod services;
