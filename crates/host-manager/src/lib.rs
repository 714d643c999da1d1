//! The host-state map of a scheduler: reports in, promises out, and the policy in force.
//!
//! Left out: clocks, I/O and locks, which are the scheduler's; documents, which are `novella-fleet-documents`.
//!
//! # Layout
//!
//! The modules in reading order. Each imports only those above it.
//!
//! - `fnv`, `options`: a hash that every scheduler computes alike; settings
//! - `policy`: the policy file
//! - `report`: what a report means
//! - `promises`: reservations, holds, members of server groups
//! - `map`: the state
//! - `verbs`: what changes it: `watch`, `enforce_policy`, `apply_report`, `place`, `place_on_service`
//! - `views`: what is told of it
//! - `host_manager`: the face; start here

mod fnv;
mod host_manager;
mod map;
mod options;
mod policy;
mod promises;
mod report;
mod verbs;
mod views;

pub use host_manager::HostManager;
pub use options::HostManagerOptions;
pub use policy::catalog::{GroupRule, missing_for_group};
pub use policy::file::{BadPolicy, PolicyFile};
pub use policy::host_pattern::HostPattern;
pub use policy::keys::{POLICY_KEYS, PolicyKey};
pub use policy::membership::{AggregateRule, HostFacts, Match};
pub use policy::new_policy::NewPolicy;
pub use policy::pci_alias::pci_requests;
pub use report::outcome::{Applied, BadReport, Counters, Event, Fault};
pub use report::reported::{Reported, Text, Words};
pub use report::services::COMPUTE;
pub use views::copy::{HostCopy, MapCopy};
pub use views::destinations::Destination;
pub use views::hosts::Fleet;
pub use views::services::{HostListEntry, RollUp};

#[cfg(test)]
mod tests;
