//! Nova's versioned objects as they cross the wire, to and from ours.
//!
//! A `RequestSpec` is read into [`novella_objects::RequestSpec`]; [`Selection`] is written. What always holds: nothing
//! that would change where an instance may go is dropped in silence. A field is understood, or known to be of no
//! consequence to placement, or the request is refused by the name of the field.
//!
//! Left out: any other object, and everything that Nova's objects do beside being read and written.

mod error;
mod primitive;
mod request_spec;
mod selection;

pub use error::ObjectError;
pub use request_spec::{NovaRequestSpec, request_spec};
pub use selection::{NumaTopologyLimits, SchedulerLimits, Selection};
