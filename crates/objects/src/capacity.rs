//! How many more instances fit: the question and its answer.

use serde::{Deserialize, Serialize};

use crate::{FilterTally, Flavor, RequestSpec};

/// Arguments of `capacity`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityQuery {
    /// Of which flavors. Each is asked for by itself, as if none of the others were placed.
    #[serde(default)]
    pub flavors: Vec<Flavor>,
    /// And of these, by name or id in the scheduler's policy. Without any flavor: all that the policy has.
    #[serde(default)]
    pub names: Vec<String>,
    /// What else each is asked with: zone, hints, project, hosts to ignore. Its own flavor and instances are not looked at.
    #[serde(default)]
    pub request_spec: RequestSpec,
    /// Counted by these parts of the fleet besides the whole.
    #[serde(default)]
    pub by: Option<Grouping>,
    /// How many still fit if the worst of these is lost, and what runs there has moved to the others.
    #[serde(default)]
    pub reserve: Option<Grouping>,
}

/// Parts of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// Each host.
    Host,
    /// Each availability zone.
    Zone,
    /// Each aggregate; a host may be in several, or in none.
    Aggregate,
}

/// The answer to `capacity`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// The scheduler that answered.
    pub scheduler: String,
    /// In the order of the question.
    pub flavors: Vec<FlavorCapacity>,
}

/// How many more instances of a flavor fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlavorCapacity {
    /// Which.
    pub flavor: Flavor,
    /// In the whole fleet.
    pub fits: u64,
    /// Hosts in the map.
    pub hosts: u32,
    /// Of these, those that no filter refuses that does not count amounts.
    pub eligible: u32,
    /// Of these, those on which one more fits.
    pub open: u32,
    /// What the filters that do not count amounts did, in their order.
    pub refused: Vec<FilterTally>,
    /// What runs out first, on how many of the eligible hosts; most hosts first.
    pub limits: Vec<Limit>,
    /// Filters whose answer may change with each instance in a way that is not counted; they were asked for the first.
    pub asked_once: Vec<String>,
    /// What the flavor asks for and nobody looks at, here as in a placement: why, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// By parts, if asked.
    pub groups: Vec<GroupCapacity>,
    /// With the worst part lost, if asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<ReservedCapacity>,
}

/// An amount, and where it is the first to run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The filter that will refuse.
    pub filter: String,
    /// What it counts: `vcpus`, `memory_mb`, `disk_gb`, `instances`, `io_ops`.
    pub amount: String,
    /// On how many hosts.
    pub hosts: u32,
}

/// One part of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCapacity {
    /// Its name; empty for hosts that are in none.
    pub name: String,
    /// Eligible hosts in it.
    pub eligible: u32,
    /// How many more fit there.
    pub fits: u64,
    /// What runs out first on most of its hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// What is left when the worst part is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedCapacity {
    /// The part whose loss leaves the least.
    pub lost: String,
    /// What runs there, in instances of this flavor, rounded up on each host.
    pub moved: u64,
    /// How many still fit on the others after that has moved.
    pub fits: u64,
    /// How many of the moved find no place.
    pub short: u64,
}
