//! What a report means: its parts, what is wrong with it, who sent it, and whether its host is alive.

pub(crate) mod check;
pub(crate) mod claims;
pub(crate) mod devices;
pub(crate) mod grants;
pub(crate) mod identity;
pub(crate) mod kept;
pub(crate) mod liveness;
pub(crate) mod newcomers;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod packed;
pub(crate) mod quarrel;
pub(crate) mod reported;
pub(crate) mod services;
