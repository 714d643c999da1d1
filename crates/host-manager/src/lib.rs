//! The host-state map of a scheduler. It takes reports, makes and keeps promises, and applies the policy in force.
//!
//! Left out: clocks, I/O and locks, which belong to the scheduler; documents, which are in `novella-fleet-documents`.
//!
//! # Layout
//!
//! The modules in reading order. Each imports only those above it.
//!
//! - `fnv`: a hash that is the same on every scheduler
//! - `options`: the settings
//! - `token_bucket`: how often something may be done
//! - `holder`: by whom a placement is asked for, and for whom it is held
//! - `policy`: the policy file
//! - `report`: what a report means
//! - `promises`: reservations, holds, what each holder has of them, and members of server groups
//! - `map`: the state
//! - `verbs`: what changes it: `watch`, `enforce_policy`, `apply_report`, `place`, `reserve`, `place_on_service`,
//!   and `quota`, which refuses what is too much
//! - `views`: what callers can see of it
//! - `host_manager`: the public type; start here

mod fnv;
mod holder;
mod host_manager;
mod map;
mod options;
mod policy;
mod promises;
mod report;
mod token_bucket;
mod verbs;
mod views;

pub use holder::HolderKind;
pub use host_manager::HostManager;
pub use novella_resources::{Amounts, MB_PER_GB};
pub use options::{HostManagerOptions, Quota};
pub use policy::catalog::{GroupRule, missing_for_group};
pub use policy::file::{BadPolicy, PolicyFile};
pub use policy::host_pattern::HostPattern;
pub use policy::keys::{POLICY_KEYS, PolicyKey};
pub use policy::membership::{AggregateRule, HostFacts, Match};
pub use policy::new_policy::NewPolicy;
pub use policy::pci_alias::pci_requests;
pub use policy::resolved::Resolved;

pub use report::outcome::{Applied, BadReport, Counters, Event, Fault};
pub use report::owner::HOST as HOST_IN_RULE;
pub use report::reported::{Reported, Text, Words};
pub use report::services::COMPUTE;
pub use token_bucket::{TokenBucket, TokenRate};
pub use verbs::place::NOT_GRANTING;
pub use verbs::place::{Placed, SelectedRows};
pub use verbs::quota::{HolderUsage, OverQuota};
pub use views::conflicts::Conflicts;
pub use views::copy::{CopyInProgress, HostCopy, MapCopy};
pub use views::destinations::NovaDestination;
pub use views::host_claims::{HostClaims, ReportedClaim};
pub use views::hosts::{HostListing, ListingInProgress};
pub use views::instances::{InstanceListing, InstancesInProgress};
pub use views::services::{HostListEntry, RollUp, RollUpInProgress, ServiceListing, ServicesInProgress};
pub use views::zones::{FleetUsage, ZoneUsage};

#[cfg(test)]
mod tests;
