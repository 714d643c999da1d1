//! The policy file: read, checked as a whole, compared, hashed; and requests whose names were looked up in it.

pub(crate) mod catalog;
pub(crate) mod diff;
pub(crate) mod file;
pub(crate) mod findings;
pub(crate) mod host_pattern;
pub(crate) mod keys;
pub(crate) mod membership;
pub(crate) mod new_policy;
pub(crate) mod pci_alias;
pub(crate) mod read;
pub(crate) mod resolved;
