//! What a caller asks for: instances of a flavor, and the hosts that they may go to.
//!
//! Fields and units are those of Nova's RequestSpec and Flavor. The caller makes the instances' uuids, so that it is safe
//! to repeat a request. They are beside the spec and not in it, so that equal requests have equal specs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::devices::PciRequest;
use crate::entries::Key;
use crate::numa::{InstanceNumaTopology, NetworkMetadata};

/// The size of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flavor {
    /// The flavor's name. Empty if it has none.
    pub name: String,
    /// Nova's flavor id. Empty if it is the same as the name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Number of CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Root disk, GiB.
    pub root_gb: u64,
    /// Ephemeral disk, GiB.
    pub ephemeral_gb: u64,
    /// Swap, MiB.
    pub swap: u64,
    /// Extra specs, such as `capabilities:cpu_info:arch`.
    pub extra_specs: BTreeMap<String, String>,
}

impl Flavor {
    /// The root disk and the ephemeral one together, GiB. Swap is not part of it.
    pub fn disk_gb(&self) -> u64 {
        self.root_gb.saturating_add(self.ephemeral_gb)
    }

    /// The swap, rounded up to whole GiB, because a host's disk is counted in GiB.
    pub fn swap_gb(&self) -> u64 {
        self.swap.div_ceil(1024)
    }

    /// What identifies this flavor: the id, or the name if there is no id.
    pub fn identity(&self) -> &str {
        if self.id.is_empty() { &self.name } else { &self.id }
    }
}

/// The image that instances are made from, as far as placement looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// The image's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Properties as the image service has them, such as `hw_architecture`. Legacy names are read too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Value>,
    /// Disk format, such as `qcow2` or `raw`. Hosts report by traits which formats they can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<String>,
}

/// A server group as the caller knows it: its members and the hosts that they are on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceGroup {
    /// Name or uuid of the group. A scheduler adds the members and hosts that it knows by this name. If `policy` is empty,
    /// it takes policy and rules from its own configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// Instances of the group, including those of this request.
    pub members: Vec<Uuid>,
    /// Hosts that members are on.
    pub hosts: Vec<String>,
    /// Rules of the policy. There is one, `max_server_per_host` for `anti-affinity`: a number written as a string, as in
    /// Nova.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
}

/// Earlier attempts to place the same request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Number of attempts so far.
    pub num_attempts: u32,
    /// Host and node of each attempt.
    pub hosts: Vec<(String, String)>,
}

/// What is asked for every instance of a request. Requests with equal specs differ only in their instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSpec {
    /// The size of each instance.
    pub flavor: Flavor,
    /// Only hosts of this availability zone are chosen.
    pub availability_zone: Option<String>,
    /// Only these hosts are chosen, and filters are skipped, as Nova does for `force_hosts`. Empty: no host is forced.
    pub force_hosts: Vec<String>,
    /// These hosts are never chosen. Names are compared without case, as in Nova.
    pub ignore_hosts: Vec<String>,
    /// Only this host is chosen, and only if the filters let it pass.
    pub target_host: Option<String>,
    /// Only this compute node of the `target_host` is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// The Nova cell that an instance is to be moved in. It is weighed only if `allow_cross_cell_move` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cell: Option<String>,
    /// Whether hosts outside `target_cell` get a lower weight than hosts in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_cross_cell_move: bool,
    /// Only these compute nodes are chosen, and filters are skipped as with `force_hosts`. Names are compared exactly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub force_nodes: Vec<String>,
    /// Lists of aggregate ids. A chosen host is in at least one aggregate of each list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_aggregates: Vec<Vec<u32>>,
    /// Ids of aggregates. A chosen host is in none of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden_aggregates: Vec<u32>,
    /// The image. Absent if the instances have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Whether the instances boot from a volume. Then the image's format does not matter, and the root disk is not on the
    /// host (see [`Self::local_flavor`]).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_bfv: bool,
    /// The server group that the instances belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_group: Option<InstanceGroup>,
    /// Earlier attempts, if this is a retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// NUMA cells of each instance. Absent: those that flavor and image ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<InstanceNumaTopology>,
    /// PCI devices of each instance, in the order in which they are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pci_requests: Vec<PciRequest>,
    /// Networks that the host's NUMA cells must be near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_metadata: Option<NetworkMetadata>,
    /// Scheduler hints by name. A value is a string or a list of strings.
    pub scheduler_hints: BTreeMap<String, Value>,
    /// The project (tenant) that the instances belong to.
    pub project_id: Option<String>,
}

impl RequestSpec {
    /// The part of the flavor that its host must provide. The root disk of a volume-backed instance is left out, as in
    /// Nova's query to Placement and in its resource tracker.
    pub fn local_flavor(&self) -> Cow<'_, Flavor> {
        if self.is_bfv && self.flavor.root_gb > 0 {
            Cow::Owned(Flavor { root_gb: 0, ..self.flavor.clone() })
        } else {
            Cow::Borrowed(&self.flavor)
        }
    }
}

/// A request spec with the instances that it is asked for. On the wire all its fields are in one object.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlacementRequest {
    /// One uuid for each instance, made by the caller. Their number is the number of instances, at most
    /// [`MAX_INSTANCES`](crate::limits::MAX_INSTANCES).
    pub instance_uuids: Vec<Uuid>,
    /// What is asked for each of them.
    #[serde(flatten)]
    pub spec: RequestSpec,
    /// Number of this attempt of the caller, from 1.
    pub attempt: u32,
}

// Serde's own reader of flattened fields goes through a buffer, and so its errors do not tell the field in which they are.
impl<'de> Deserialize<'de> for PlacementRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = PlacementRequest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object: a request spec with instance_uuids")
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<PlacementRequest, M::Error> {
                let (mut instance_uuids, mut attempt) = (None, None);
                let rest = Rest { map, instance_uuids: &mut instance_uuids, attempt: &mut attempt };
                let spec = RequestSpec::deserialize(MapAccessDeserializer::new(rest))?;
                let (instance_uuids, attempt) =
                    (instance_uuids.unwrap_or_default(), attempt.unwrap_or_default());
                Ok(PlacementRequest { instance_uuids, spec, attempt })
            }
        }
        deserializer.deserialize_map(V)
    }
}

/// The fields of the spec. Keeps the two fields that are not the spec's.
struct Rest<'s, M> {
    map: M,
    instance_uuids: &'s mut Option<Vec<Uuid>>,
    attempt: &'s mut Option<u32>,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Rest<'_, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, M::Error> {
        while let Some(Key(key)) = self.map.next_key()? {
            match key.as_ref() {
                "instance_uuids" => once(&mut self.map, self.instance_uuids, "instance_uuids")?,
                "attempt" => once(&mut self.map, self.attempt, "attempt")?,
                _ => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, M::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads the value of a field that may occur once.
fn once<'de, M: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut M,
    value: &mut Option<T>,
    field: &'static str,
) -> Result<(), M::Error> {
    if value.is_some() {
        return Err(Error::duplicate_field(field));
    }
    *value = Some(map.next_value()?);
    Ok(())
}

/// Arguments of `select_destinations` in novella's own API (1.x).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectDestinations {
    /// What is asked for, and for which instances.
    pub request_spec: PlacementRequest,
    /// Name or id of a flavor in the scheduler's policy. It replaces the flavor of the request spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// The service to place on. Absent: compute. Another service is chosen by the capacity that it reports, with the
    /// flavor's root disk as the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether to decide and explain without reserving anything.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether the hosts are asked to claim the room, which lasts until it is released. Otherwise it is held for a while.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claim: bool,
    /// How long the reservation holds unless a report confirms it, seconds. Absent: the scheduler's setting.
    #[serde(default)]
    pub hold_s: Option<u64>,
    /// How many alternates each instance gets, at most [`MAX_ALTERNATES`](crate::limits::MAX_ALTERNATES). Absent: the
    /// scheduler's setting.
    #[serde(default)]
    pub alternates: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        r#"{"instance_uuids":["00000000-0000-0000-0000-000000000007"],"flavor":{"name":"f","vcpus":1,"memory_mb":2,"#,
        r#""root_gb":3,"ephemeral_gb":0,"swap":0,"extra_specs":{}},"availability_zone":null,"force_hosts":[],"#,
        r#""ignore_hosts":[],"target_host":"h","is_bfv":true,"scheduler_hints":{},"project_id":null,"attempt":2}"#
    );

    #[test]
    fn a_request_is_one_object_with_its_instances() {
        let request: PlacementRequest = serde_json::from_str(TEXT).unwrap();
        assert_eq!((&request.instance_uuids[..], request.attempt), (&[Uuid::from_u128(7)][..], 2));
        assert_eq!((request.spec.flavor.memory_mb, request.spec.is_bfv), (2, true));
        assert_eq!(serde_json::to_string(&request).unwrap(), TEXT);
        let value: Value = serde_json::from_str(TEXT).unwrap();
        assert_eq!(PlacementRequest::deserialize(value).unwrap(), request);
        assert_eq!(serde_json::from_str::<PlacementRequest>("{}").unwrap(), PlacementRequest::default());
    }

    #[test]
    fn what_is_no_request_is_refused_by_field_and_place() {
        for (text, said) in [
            (r#"{"attempt":1,"surprise":1}"#, "unknown field `surprise`, expected one of `flavor`"),
            (r#"{"attempt":1,"attempt":1}"#, "duplicate field `attempt` at line 1 column 22"),
            (r#"{"instance_uuids":[],"instance_uuids":[]}"#, "duplicate field `instance_uuids`"),
            (r#"{"flavor":{"vcpus":-1}}"#, "invalid value: integer `-1`, expected u32 at line 1 column 21"),
            ("[]", "invalid type: sequence, expected an object: a request spec with instance_uuids"),
        ] {
            let error = serde_json::from_str::<PlacementRequest>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
