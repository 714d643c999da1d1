//! Questions about a fleet, answered by the same filters and weighers that place.
//!
//! What always holds: a question leaves the table as it was.

pub(crate) mod capacity;
pub(crate) mod changes;
pub(crate) mod evaluate;
pub(crate) mod fix;
pub(crate) mod inspect;
pub(crate) mod moving;
pub(crate) mod near;
pub(crate) mod unread;
