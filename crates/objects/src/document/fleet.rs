//! A fleet: hosts, and what the operator has defined around them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::host::Host;
use super::options::Options;
use super::schema::Schema;

/// Hosts with their aggregates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet<'a> {
    /// Version of the document, which is 1.
    pub schema: Schema,
    /// Who wrote the document and when, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Seed of a generated fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Number of hosts, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The options in force where the fleet was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Aggregates that hosts may name.
    pub aggregates: Vec<Aggregate>,
    /// Server groups that requests may name. Their members are the hosts' instances that name the group.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub server_groups: BTreeMap<String, ServerGroup>,
    /// What a group asks for that is not in `server_groups`. Absent: there are no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_group_defaults: Option<ServerGroup>,
    /// The devices that requests mean by names in `pci_passthrough:alias`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pci_aliases: BTreeMap<String, PciAlias>,
    /// The hosts. Results name a host by its place in this list. In JSON lines the hosts follow, one on each line.
    #[serde(borrow)]
    pub hosts: Vec<Host<'a>>,
}

/// A named set of hosts. The hosts name their aggregates, and not the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// The id by which hosts name the aggregate.
    pub id: u32,
    /// Name, for people.
    #[serde(default)]
    pub name: String,
    /// Metadata, as the operator wrote it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What a server group asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerGroup {
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// Rules of the policy. There is one, `max_server_per_host` for `anti-affinity`: a number written as a string, as in
    /// Nova.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
}

/// The devices that an alias stands for: an entry of Nova's `[pci] alias`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAlias {
    /// `required`, `legacy`, `preferred` or `socket`. Absent: `legacy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_policy: Option<String>,
    /// Alternatives: a device must have all properties of one of these.
    pub specs: Vec<BTreeMap<String, Value>>,
}
