//! Questions about a placement, and their answers: how one host fares, and what would have to change.

use serde::{Deserialize, Serialize};

use crate::decision::{Decision, NearestMiss, WeigherScore};
use crate::host::HostStatus;
use crate::request_spec::PlacementRequest;

/// Arguments of `explain`: a request, or a decision that the scheduler remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Explain {
    /// Identifies a past decision. Questions about hosts and fixes ask its request again, of the fleet as it is now.
    pub decision_id: Option<String>,
    /// A request to decide without reserving. It is given instead of a `decision_id`.
    pub request_spec: Option<PlacementRequest>,
    /// Name or id of a flavor in the scheduler's policy. It replaces the flavor of the request spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Name of a host about which every filter and weigher is asked.
    pub host: Option<String>,
    /// Whether to search for the smallest changes with which the request would fit.
    pub fix: bool,
}

/// The answer to `explain`. Nothing was reserved for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The request that was decided, with the flavor that it named.
    pub request_spec: PlacementRequest,
    /// The decision in question, or what would be decided now.
    pub decision: Decision,
    /// How the host in question fares now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostVerdict>,
    /// If the request fits nowhere: the hosts that come nearest to passing now, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearHost>,
    /// Changes that would make the request fit now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixes: Option<Fixes>,
}

/// A host that one or two filters refuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearHost {
    /// Name of the host.
    pub host: String,
    /// Whether the host can be given work.
    pub state: HostStatus,
    /// The filters and prefilters that refuse the host.
    pub refused: Vec<FilterVerdict>,
}

/// What all filters and weighers say about one host, for the request's first instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostVerdict {
    /// Name of the host.
    pub host: String,
    /// Whether the host can be given work.
    pub state: HostStatus,
    /// Why the request excludes the host whatever the filters say: it is ignored, not forced or not the target. Absent if
    /// the request does not exclude it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_considered: Option<String>,
    /// Whether the host is considered and no filter refuses it.
    pub passes: bool,
    /// The enabled filters in their order. Each is asked, even if an earlier one refuses.
    pub filters: Vec<FilterVerdict>,
    /// The host's weight, compared with the candidates. 0 if there is no other candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The host's place among the candidates, from 1. If the host does not pass, the place that it would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Number of candidates, including this host.
    pub candidates: u32,
    /// Each weigher's part in the weight.
    pub weighers: Vec<WeigherScore>,
    /// Why the host has no weight, if a weigher could not value it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weigher_error: Option<String>,
}

/// What one filter says about one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterVerdict {
    /// Nova's class name, such as `RamFilter`.
    pub filter: String,
    /// The filter's answer.
    pub verdict: FilterOutcome,
    /// Why the host does not pass, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By how much the host misses, if the filter compares numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miss: Option<NearestMiss>,
}

/// A filter's answer about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterOutcome {
    /// The host passes.
    Passes,
    /// The host does not pass.
    Refuses,
    /// The filter cannot decide. Nova raises an exception here.
    Error,
}

/// The result of a search for the smallest changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fixes {
    /// Whether the request fits without any change.
    #[serde(default)]
    pub fits: bool,
    /// Fixes of which each is enough by itself and was tried out. Single changes come before pairs, small ones before large
    /// ones.
    pub fixes: Vec<Fix>,
    /// Number of placements that the search tried.
    pub trials: u32,
    /// The bound at which the search stopped, in words. A smaller change may then be missing. Absent if it did not stop
    /// early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// Changes that together make a request fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// One or two changes, all of which are needed.
    pub changes: Vec<Change>,
    /// How much changes: the sum over all changes of the share of an amount, a host's total, a ratio or a limit. A dropped
    /// part or an enabled host counts as 1.
    pub size: f64,
    /// Name of the host that the first instance would go to.
    pub host: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// Ask for less.
    Ask {
        /// What to ask less of.
        amount: Quantity,
        /// The amount asked for now.
        from: u64,
        /// The largest amount that fits.
        to: u64,
    },
    /// Leave out a part of the request.
    Drop {
        /// The part to leave out.
        part: Part,
    },
    /// Free an amount on a host.
    Free {
        /// Name of the host.
        host: String,
        /// What to free.
        amount: Quantity,
        /// The smallest amount that is enough.
        by: u64,
    },
    /// Let a host be overcommitted more.
    RaiseRatio {
        /// Name of the host.
        host: String,
        /// The amount whose ratio is raised.
        amount: Quantity,
        /// The ratio now.
        from: f64,
        /// The smallest sufficient ratio, in hundredths.
        to: f64,
    },
    /// Raise a number in the metadata of an aggregate.
    SetMetadata {
        /// The aggregate's name.
        aggregate: String,
        /// The aggregate's id.
        id: u32,
        /// Name of the number: a ratio, or a limit for each host.
        key: String,
        /// The number now.
        from: String,
        /// The smallest sufficient number. A ratio is given in hundredths.
        to: String,
    },
    /// Let one host have more members of the request's server group.
    RaiseGroupLimit {
        /// How many members one host may have now.
        from: u64,
        /// The smallest sufficient limit.
        to: u64,
    },
    /// Let a disabled host be used, or bring back one that is down.
    Enable {
        /// Name of the host.
        host: String,
        /// The host's state now.
        state: HostStatus,
    },
}

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Number of CPUs.
    Vcpus,
    /// Memory, MiB.
    MemoryMb,
    /// Disk, GiB.
    DiskGb,
    /// Number of instances, in a request or on a host.
    Instances,
    /// Amount of the further resource class of this name.
    #[serde(untagged)]
    Class(String),
}

/// A part of a request that can be left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "part", content = "name", rename_all = "snake_case")]
pub enum Part {
    /// The availability zone of this name.
    AvailabilityZone(String),
    /// The extra spec of this key.
    ExtraSpec(String),
    /// The scheduler hint of this key.
    Hint(String),
    /// The image's property of this name.
    ImageProperty(String),
    /// The server group, of this policy.
    ServerGroup(String),
    /// The target host or the forced one, of this name.
    TargetHost(String),
    /// The list of hosts to ignore.
    IgnoreHosts,
    /// The list of hosts that were tried before.
    Retry,
}
