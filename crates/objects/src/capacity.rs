//! How many more instances of a flavor fit: the question and the answer.

use serde::{Deserialize, Serialize};

use crate::decision::FilterTally;
use crate::request_spec::{Flavor, PlacementRequest};

/// Arguments of `capacity`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CapacityQuery {
    /// Flavors to count. Each is counted by itself, as if none of the others were placed.
    pub flavors: Vec<Flavor>,
    /// Further flavors, by name or id in the scheduler's policy. If there are no flavors at all, all of the policy are
    /// counted.
    pub names: Vec<String>,
    /// The other parts of the request: zone, hints, project, hosts to ignore. The flavor and the instances in it are not
    /// used.
    pub request_spec: PlacementRequest,
    /// Parts of the fleet to count separately, besides the whole.
    pub by: Option<Grouping>,
    /// Parts of the fleet of which the worst is assumed lost, with its instances moved to the others.
    pub reserve: Option<Grouping>,
}

/// A way to divide a fleet into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// Each host is a part.
    Host,
    /// Each availability zone is a part.
    Zone,
    /// Each aggregate is a part. A host may be in several, or in none.
    Aggregate,
}

/// The answer to `capacity`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Name of the scheduler that answered.
    pub scheduler: String,
    /// One entry for each flavor, in the order of the question.
    pub flavors: Vec<FlavorCapacity>,
}

/// How many more instances of a flavor fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlavorCapacity {
    /// The flavor.
    pub flavor: Flavor,
    /// Why the flavor cannot be counted. Every request for it is refused for this reason, so none fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many more instances fit in the whole fleet.
    pub fits: u64,
    /// Number of hosts in the map.
    pub hosts: u32,
    /// Number of eligible hosts: no filter refuses them, apart from those that count amounts.
    pub eligible: u32,
    /// Number of eligible hosts on which at least one more instance fits.
    pub open: u32,
    /// What each filter did that does not count amounts, in the order in which they ran.
    pub refused: Vec<FilterTally>,
    /// What runs out first on the eligible hosts. The limit of most hosts comes first.
    pub limits: Vec<Limit>,
    /// Filters whose answer may change with each placed instance. They were asked only about the first, so the count may be
    /// too high.
    pub asked_once: Vec<String>,
    /// Parts of the flavor that no enabled filter looks at, neither here nor in a placement, with the reason, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// The count for each part, if parts were asked for.
    pub groups: Vec<GroupCapacity>,
    /// The count after the loss of the worst part, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<ReservedCapacity>,
}

impl FlavorCapacity {
    /// The answer about a flavor that cannot be counted.
    pub fn failed(flavor: Flavor, error: String) -> Self {
        Self { flavor, error: Some(error), ..Self::default() }
    }
}

/// An amount that is the first to run out on some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Name of the filter that will refuse the next instance.
    pub filter: String,
    /// What the filter counts: `vcpus`, `memory_mb`, `disk_gb`, `instances`, `io_ops`, `members` of the server group,
    /// `numa_cells`, `pci_devices`, or a resource class.
    pub amount: String,
    /// Number of hosts on which this amount runs out first.
    pub hosts: u32,
}

/// How many more instances fit on one part of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCapacity {
    /// Name of the part. Empty for the hosts that are in no part.
    pub name: String,
    /// Number of eligible hosts in the part.
    pub eligible: u32,
    /// How many more instances fit in the part.
    pub fits: u64,
    /// The amount that runs out first on most of the part's hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// How many more instances fit when the worst part of the fleet is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedCapacity {
    /// Name of the part whose loss leaves the least room.
    pub lost: String,
    /// Number of instances that move: those that the lost hosts list. What these use beyond the listed instances is counted
    /// in instances of this flavor, rounded up on each host.
    pub moved: u64,
    /// How many more instances fit on the other parts after those have moved.
    pub fits: u64,
    /// How many of the moved instances find no place.
    pub short: u64,
}
