//! PCI devices: pools of identical devices on a host, and what an instance asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// PCI devices of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PciPool {
    /// PCI vendor number in hexadecimal digits, such as `8086`.
    pub vendor_id: String,
    /// The vendor's number of the product, in hexadecimal digits.
    pub product_id: String,
    /// `type-PCI`, `type-PF`, `type-VF` or `vdpa`.
    pub dev_type: String,
    /// The NUMA cell that the devices are near. Null if it is not known.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// Number of devices: all, the free or the taken ones, depending on where the pool is used.
    pub count: u32,
    /// Everything else that requests can ask for, such as `physical_network`.
    #[serde(flatten)]
    pub tags: BTreeMap<String, Value>,
}

/// PCI devices of one kind that an instance asks for: Nova's InstancePCIRequest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciRequest {
    /// Number of devices.
    pub count: u32,
    /// Alternatives: a device must have all properties of one of these.
    pub spec: Vec<BTreeMap<String, Value>>,
    /// `required`, `preferred`, `legacy` or `socket`: how near the devices must be to the instance's NUMA cells. Absent:
    /// `legacy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_policy: Option<String>,
    /// The alias of the flavor or image that the request comes from. Absent for a port of a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_name: Option<String>,
}
