//! What a scheduler decides about a request, and why.
//!
//! A refusal is an ordinary answer. It too says how many hosts each filter removed and which host came nearest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::claim::Lack;
use crate::devices::PciPool;
use crate::host::HostStatus;
use crate::numa::CellUsage;

/// The answer to `select_destinations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Identifies the decision. It starts with the deciding scheduler's name, so that `explain` can be sent there.
    pub decision_id: String,
    /// One selection for each instance, in the order of the request's uuids. Empty if the request is refused: either all
    /// instances are placed or none.
    pub selections: Vec<Selection>,
    /// Why the request is refused. Absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// How the decision came about.
    pub explanation: Explanation,
    /// Whether this was a dry run, in which nothing is reserved.
    #[serde(default)]
    pub dry_run: bool,
    /// How long the reservation holds, seconds. 0 for a dry run.
    #[serde(default)]
    pub hold_s: u64,
    /// Whether this repeats an earlier answer to the same request for the same instances.
    #[serde(default)]
    pub repeated: bool,
    /// Hash of the policy in force, as `novella policy show` prints it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy_hash: String,
    /// The hosts of this answer, chosen or alternate, that are not up, each with its state. A suspect host may be dead. A
    /// down or disabled host is named only if the request forces it, or if the answer repeats an earlier one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_up: BTreeMap<String, HostStatus>,
    /// Seed of the random picks. The same request to the same fleet with the same seed gets the same decision. It is below
    /// 2^53, so that every JSON reader holds it exactly. Absent if the engine was not asked, as in a repeated answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether the hosts have granted claims, which last until they are released.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claimed: bool,
    /// Hosts of this answer that do not keep the room themselves, each with the reason. Only schedulers subtract it there, and
    /// it is forgotten if they all end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_granted: BTreeMap<String, String>,
    /// The hosts that refused a claim before this answer, in the order in which they were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_by: Vec<HostRefusal>,
    /// Parts of the request that nothing looked at, with the reason, for people. The instances are placed as if these had
    /// not been asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A decision in a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionSummary {
    /// Its id, by which it can be shown, explained and released.
    pub decision_id: String,
    /// When it was answered, RFC 3339 by the scheduler's clock.
    pub at: String,
    /// What came of it: `claimed`, `held`, `dry_run`, `refused` or `conflict`.
    pub outcome: String,
    /// How many instances were asked for.
    pub instances: u32,
    /// The chosen hosts, each once, in order. Empty if the request was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// How many times a host refused a claim before this answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused_by: u32,
    /// The broker user to whom the instances belong. Absent if they belong to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A host that refused a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRefusal {
    /// Name of the host.
    pub host: String,
    /// The instance that it refused. Absent if it takes no claims at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_uuid: Option<Uuid>,
    /// Why, for people.
    pub reason: String,
    /// What it lacks, if that is why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
}

/// The host chosen for one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The instance's uuid.
    pub instance_uuid: Uuid,
    /// Name of the chosen host.
    pub host: String,
    /// Name of the host's compute node: Nova's `nodename`.
    pub nodename: String,
    /// Weight of the host when it was chosen. 0 if it was the only candidate, because Nova weighs nothing then.
    pub weight: f64,
    /// Names of the next best hosts, best first. All instances of a decision share one list.
    #[serde(default)]
    pub alternates: Arc<[String]>,
}

/// Why nothing was placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// No host passed the filters, or not enough for all instances.
    NoValidHost {
        /// Nova's text, for people.
        reason: String,
        /// Number of instances that could have been placed.
        placeable: u32,
    },
    /// A uuid is named twice, or belongs to an instance that was asked for differently.
    Conflict {
        /// What differs, for people.
        reason: String,
        /// The uuid in question.
        instance_uuid: Uuid,
        /// Host of the instance that has the uuid.
        host: String,
    },
}

/// How a decision came about. The code that decides writes it, so it cannot differ from the decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Number of hosts in the map.
    pub hosts: u32,
    /// Number of these that are suspect: silent, but perhaps not by their own fault, and still candidates.
    pub suspect_hosts: u32,
    /// What each filter did for the instance that was decided last, in the order in which the filters ran.
    pub filters: Vec<FilterTally>,
    /// The chosen host, followed by the runners-up.
    pub ranking: Vec<Scored>,
}

/// What one filter did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterTally {
    /// Nova's class name, such as `RamFilter`.
    pub filter: Cow<'static, str>,
    /// Number of hosts that the filter was given.
    pub hosts_in: u32,
    /// Number of hosts that the filter let pass.
    pub hosts_out: u32,
    /// The refused host that lacked least. Absent if the filter refused none or compares no numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<NearestMiss>,
}

/// By how much one host misses what a filter wants.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct NearestMiss {
    /// Name of the host.
    pub host: String,
    /// The amount that was asked for, in `unit`.
    pub wanted: f64,
    /// The amount that the host had, in `unit`.
    pub available: f64,
    /// Unit of both amounts, such as `MiB` or `vcpus`, or what the filter counts, such as `instances`.
    pub unit: Cow<'static, str>,
}

impl NearestMiss {
    /// The miss in words, for people. It is serialised as `text`.
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

/// One host in the ranking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Name of the host.
    pub host: String,
    /// The host's weight: the sum of multiplier × normalised value over all weighers.
    pub weight: f64,
    /// Each weigher's part in the weight.
    pub weighers: Vec<WeigherScore>,
}

/// One weigher's part in the weight of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeigherScore {
    /// Nova's class name, such as `RAMWeigher`.
    pub weigher: Cow<'static, str>,
    /// The value that the weigher read from the host.
    pub raw: f64,
    /// Smallest and largest raw value among the candidates: the bounds of Nova's normalisation.
    pub range: (f64, f64),
    /// The raw value scaled to the range, from 0 to 1.
    pub normalised: f64,
    /// The weigher's multiplier.
    pub multiplier: f64,
}

/// A decision as it is sent to the other schedulers at once (`reserve`, a fanout cast).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Identifies the decision.
    pub decision_id: String,
    /// Name of the deciding scheduler, which ignores its own messages.
    pub scheduler: String,
    /// How long the reservation holds after receipt, ms. 0 releases it.
    pub ttl_ms: u64,
    /// What each instance takes.
    pub entries: Vec<ReserveEntry>,
    /// The broker user who placed the instances. Only this user and administrators may release them. Absent if everybody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// One instance of a [`Reserve`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReserveEntry {
    /// The instance's uuid.
    pub uuid: Uuid,
    /// Name of the host.
    pub host: String,
    /// Number of CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB; the size if `service` is not compute.
    pub disk_gb: u64,
    /// Amounts of further resource classes. They are sent only if there are any, because older schedulers refuse an entry
    /// with this field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// Hash of what was asked for, without instances and attempt. It distinguishes a repeated request from a conflicting
    /// one.
    pub spec_hash: u64,
    /// Name of the server group. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The flavor's id, or its name if it has no id. Absent if it has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// What the instance takes of the host's NUMA cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa_topology: Vec<CellUsage>,
    /// PCI devices that the instance takes: `count` of each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciPool>,
    /// True if cells or devices could not be taken in full. The instance then does not count as one that is being built.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_building: bool,
    /// The service that the instance is placed on. Absent: compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}
