//! What an operator sets: which filters and weighers run, and what each is set to.
//!
//! Left out: files and their syntax, which are the host manager's (`policy/`).

pub(crate) mod filter_kind;
pub(crate) mod named;
pub(crate) mod nearest;
pub(crate) mod options;
pub(crate) mod weigher_kind;
