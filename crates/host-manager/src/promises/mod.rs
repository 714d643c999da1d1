//! What is promised in addition to what hosts report: reservations, holds, and the members of server groups.

pub(crate) mod entry;
pub(crate) mod held;
pub(crate) mod holds;
pub(crate) mod index;
pub(crate) mod members;
pub(crate) mod released;
pub(crate) mod reservations;
pub(crate) mod spec_hash;
