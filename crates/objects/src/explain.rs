//! Questions about a placement, and their answers: one host looked at closely, and what would have to change.

use serde::{Deserialize, Serialize};

use crate::{Decision, HostState, NearestMiss, RequestSpec, WeigherScore};

/// Arguments of `explain`: a request, or a decision that the scheduler remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// A past decision; its request is asked again of the fleet as it is now.
    #[serde(default)]
    pub decision_id: Option<String>,
    /// What is asked; without a `decision_id`.
    #[serde(default)]
    pub request_spec: Option<RequestSpec>,
    /// Name or id of a flavor in the scheduler's policy; replaces the request's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Ask every filter about this host.
    #[serde(default)]
    pub host: Option<String>,
    /// Search for the smallest changes with which it would fit.
    #[serde(default)]
    pub fix: bool,
}

/// The answer to `explain`. Nothing was held for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// What was asked.
    pub request_spec: RequestSpec,
    /// The decision asked about, or what would be decided now.
    pub decision: Decision,
    /// The host asked about, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostVerdict>,
    /// Hosts that nearly pass now, the nearest first; of a request that fits nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearHost>,
    /// What would make it fit now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixes: Option<Fixes>,
}

/// A host that one or two filters refuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearHost {
    /// Which host.
    pub host: String,
    /// Whether it can be given work.
    pub state: HostState,
    /// Those that refuse it, of the filters and of what is asked before them.
    pub refused: Vec<FilterVerdict>,
}

/// What all filters and weighers say of one host, for the request's first instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostVerdict {
    /// Which host.
    pub host: String,
    /// Whether it can be given work.
    pub state: HostState,
    /// Why the request does not consider it, whatever the filters say: ignored, not forced, not the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_considered: Option<String>,
    /// Considered, and refused by none.
    pub passes: bool,
    /// All that are enabled, in their order, each asked whether or not one before it refused.
    pub filters: Vec<FilterVerdict>,
    /// Its weight among the candidates and itself; 0 when there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Its place among them, from 1; if it does not pass, the place it would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// How many these are, itself counted.
    pub candidates: u32,
    /// Each weigher's share.
    pub weighers: Vec<WeigherScore>,
    /// Why it has no weight, if a weigher cannot value it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weigher_error: Option<String>,
}

/// What one filter says of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterVerdict {
    /// Nova's class name, such as `RamFilter`.
    pub filter: String,
    /// How it decides.
    pub verdict: FilterOutcome,
    /// For people: why it does not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By how much, where the filter compares numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miss: Option<NearestMiss>,
}

/// How a filter decides about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterOutcome {
    /// It lets the host pass.
    Passes,
    /// It does not.
    Refuses,
    /// It cannot decide; Nova raises an exception.
    Error,
}

/// What a search for the smallest changes has found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fixes {
    /// Nothing has to change: it fits as it is.
    #[serde(default)]
    pub fits: bool,
    /// Each enough by itself and tried out; single changes first, then pairs, the smallest first.
    pub fixes: Vec<Fix>,
    /// Placements that were tried for it.
    pub trials: u32,
    /// The search stopped at its bound, so that a smaller change may be missing. The bound in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// Changes that together make a request fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// One or two.
    pub changes: Vec<Change>,
    /// How much they change: the share of an amount, of a host's total, of a ratio or of a limit; what is dropped or
    /// enabled counts as 1.
    pub size: f64,
    /// Where the first instance would go.
    pub host: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// Ask for less.
    Ask {
        /// Of what.
        amount: Quantity,
        /// Asked now.
        from: u64,
        /// The most that fits.
        to: u64,
    },
    /// Leave out a part of the request.
    Drop {
        /// Which.
        part: Part,
    },
    /// Free an amount on a host.
    Free {
        /// Which host.
        host: String,
        /// Of what.
        amount: Quantity,
        /// The least that is enough.
        by: u64,
    },
    /// Let a host be overcommitted more.
    RaiseRatio {
        /// Which host.
        host: String,
        /// Whose ratio.
        amount: Quantity,
        /// Now.
        from: f64,
        /// The smallest hundredth that is enough.
        to: f64,
    },
    /// Raise a number in the metadata of an aggregate.
    SetMetadata {
        /// The aggregate's name.
        aggregate: String,
        /// Its id.
        id: u32,
        /// A ratio, or a limit for each host.
        key: String,
        /// Now.
        from: String,
        /// The smallest hundredth of a ratio, or the smallest limit, that is enough.
        to: String,
    },
    /// Let one host have more members of the request's server group.
    RaiseGroupLimit {
        /// Members that one host may have now.
        from: u64,
        /// The least that is enough.
        to: u64,
    },
    /// Let a disabled host be used, or bring back one that is down.
    Enable {
        /// Which host.
        host: String,
        /// What it is now.
        state: HostState,
    },
}

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// CPUs.
    Vcpus,
    /// MiB.
    MemoryMb,
    /// GiB.
    DiskGb,
    /// Instances: of a request, or on a host.
    Instances,
    /// Units of a further resource class.
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
    /// The one host asked for.
    TargetHost(String),
    /// The hosts to leave out.
    IgnoreHosts,
    /// The hosts tried before.
    Retry,
}
