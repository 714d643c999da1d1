//! What a scheduler answers, and why.
//!
//! A refusal is an answer like any other: it carries how many hosts each filter lost and which host came nearest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::capabilities::CellUsage;
use crate::document::PciPool;

/// The answer to `select_destinations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Starts with the deciding scheduler's name, so that it can be asked again.
    pub decision_id: String,
    /// One per instance, in the order of the request's uuids; empty when refused. All or nothing.
    pub selections: Vec<Selection>,
    /// Present when refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// How it came about.
    pub explanation: Explanation,
    /// True if nothing was reserved.
    #[serde(default)]
    pub dry_run: bool,
    /// Seconds the reservation holds; 0 for a dry run.
    #[serde(default)]
    pub hold_s: u64,
    /// True if this repeats an earlier answer to the same instances.
    #[serde(default)]
    pub repeated: bool,
    /// Which policy was in force, as in `novella policy show`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy_hash: String,
    /// What was picked at random was picked from this: the same request asked of the same fleet with the same seed is
    /// decided the same. Below 2^53, so that every reader of JSON holds it exactly. Absent where no engine decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// One instance's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The instance.
    pub instance_uuid: Uuid,
    /// The chosen host.
    pub host: String,
    /// Its compute node; Nova's `nodename`.
    pub nodename: String,
    /// Final weight of the host when it was chosen; 0 when it was the only one (Nova weighs nothing then).
    pub weight: f64,
    /// Next best hosts, best first.
    #[serde(default)]
    pub alternates: Vec<String>,
}

/// Why nothing was placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// No host passed the filters, or fewer than instances asked. `reason` is Nova's text.
    NoValidHost {
        /// For people.
        reason: String,
        /// How many instances could have been placed.
        placeable: u32,
    },
    /// One of the uuids already stands for something else.
    Conflict {
        /// For people.
        reason: String,
        /// The uuid.
        instance_uuid: Uuid,
        /// Where it is.
        host: String,
    },
}

/// How a decision came about. Written by the decision's own code path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Hosts in the map.
    pub hosts: u32,
    /// Of these, candidates whose silence is not their own (see the scheduler's docs).
    pub suspect_hosts: u32,
    /// In the order they ran, for the instance that was decided last.
    pub filters: Vec<FilterTally>,
    /// The winner first, then runners-up.
    pub ranking: Vec<Scored>,
}

/// What one filter did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterTally {
    /// Nova's class name, such as `RamFilter`.
    pub filter: Cow<'static, str>,
    /// Hosts it was given.
    pub hosts_in: u32,
    /// Hosts it let pass.
    pub hosts_out: u32,
    /// Of those it refused, the one that lacked least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<NearestMiss>,
}

/// The refused host that came nearest.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct NearestMiss {
    /// Which host.
    pub host: String,
    /// What was asked, in `unit`.
    pub wanted: f64,
    /// What it had.
    pub available: f64,
    /// `MiB`, `GiB`, `vcpus`; or what the filter compares.
    pub unit: Cow<'static, str>,
}

impl NearestMiss {
    /// The same for people; serialised as `text`.
    pub fn text(&self) -> String {
        let Self { host, wanted, available, unit } = self;
        match &**unit {
            "instances" | "I/O operations" | "members of the group" if *available == 0.0 => {
                format!("{host} is at its limit of {unit}")
            }
            "instances" | "I/O operations" | "members of the group" => {
                format!("{host} has {} {unit} too many", -available)
            }
            _ => format!("{host} short by {} {unit}", wanted - available),
        }
    }
}

impl Serialize for NearestMiss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut miss = serializer.serialize_struct("NearestMiss", 5)?;
        miss.serialize_field("host", &self.host)?;
        miss.serialize_field("wanted", &self.wanted)?;
        miss.serialize_field("available", &self.available)?;
        miss.serialize_field("unit", &self.unit)?;
        miss.serialize_field("text", &self.text())?;
        miss.end()
    }
}

/// One ranked host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Which host.
    pub host: String,
    /// Σ multiplier × normalised.
    pub weight: f64,
    /// Each weigher's share.
    pub weighers: Vec<WeigherScore>,
}

/// One weigher's share in one host's weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeigherScore {
    /// Nova's class name, such as `RAMWeigher`.
    pub weigher: Cow<'static, str>,
    /// The raw value.
    pub raw: f64,
    /// Smallest and largest raw value among the candidates (Nova's normalisation bounds).
    pub range: (f64, f64),
    /// 0 … 1.
    pub normalised: f64,
    /// Its multiplier.
    pub multiplier: f64,
}

/// A decision told to the other schedulers at once (`reserve`, fanout cast).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Which decision.
    pub decision_id: String,
    /// The deciding scheduler, which ignores its own.
    pub scheduler: String,
    /// How long it holds from receipt, ms. Zero lets go.
    pub ttl_ms: u64,
    /// What it takes.
    pub entries: Vec<ReserveEntry>,
}

/// One instance of a [`Reserve`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReserveEntry {
    /// The instance.
    pub uuid: Uuid,
    /// Where.
    pub host: String,
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// GiB.
    pub disk_gb: u64,
    /// Further resource classes. A scheduler that does not know these yet refuses the entry; so they are sent only where
    /// there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// Hash of what was asked, so that a repeated request can be told from a conflicting one.
    pub spec_hash: u64,
    /// Server group, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The flavor's id or name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// What it takes of the host's NUMA cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa_topology: Vec<CellUsage>,
    /// PCI devices that it takes: of each kind, how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciPool>,
    /// Cells or devices could not be taken in full, so that it does not count as one that builds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_building: bool,
    /// The service that it is placed on, if not compute; `disk_gb` is its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}
