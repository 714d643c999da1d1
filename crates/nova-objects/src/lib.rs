//! Converts Nova's versioned objects on the wire to novella's types and back.
//!
//! A `RequestSpec` is read into [`novella_objects::RequestSpec`], and a [`NovaSelection`] is written. Nothing that would
//! change where an instance may go is dropped silently: each field is read, or is known not to matter for placement, or
//! the request is refused by the name of the field.
//!
//! Left out: all other objects, and everything that Nova's objects do besides being read and written.
//!
//! # Layout
//!
//! From the bottom up. A module imports only modules above it in this table.
//!
//! | module | what it is |
//! |---|---|
//! | `error` | why an object cannot be read |
//! | `primitive` | the form in which objects are sent, and Nova's rules for reading it |
//! | `request_spec` | reads a `RequestSpec` |
//! | `selection` | writes a `Selection` |

mod error;
mod primitive;
mod request_spec;
mod selection;

pub use error::ObjectError;
pub use request_spec::{NovaRequestSpec, request_spec};
pub use selection::{NovaSelection, NumaTopologyLimits, SchedulerLimits};
