//! A host's report: what `update_service_capabilities` carries.
//!
//! At top level stand the eleven keys of Nova's libvirt `HostState` (Folsom), readable by any 2012-style peer; all
//! that is ours stands under the one key `novella`. Keys that neither knows are kept as text in `extra`: they belong to
//! the roll-up and to `host show`. A value of the wrong JSON type is an error that names its key.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::entries::{Entries, Key};
use crate::json::Json;

/// What one service on one host says of itself.
#[derive(Debug, Clone, Default)]
pub struct Capabilities<'a> {
    /// Physical CPUs (threads) of the host.
    pub vcpus: Option<i64>,
    /// Virtual CPUs in use, as the driver counts them.
    pub vcpus_used: Option<i64>,
    /// CPU description: an object in Nova's 2012 form, a string holding JSON in today's. Kept as JSON text.
    pub cpu_info: Option<Cow<'a, RawValue>>,
    /// Disk size, GiB.
    pub disk_total: Option<i64>,
    /// Disk in use, GiB.
    pub disk_used: Option<i64>,
    /// Disk free, GiB.
    pub disk_available: Option<i64>,
    /// Memory size, MiB.
    pub host_memory_total: Option<i64>,
    /// Memory free, MiB.
    pub host_memory_free: Option<i64>,
    /// `QEMU`, `fake`, ...
    pub hypervisor_type: Option<Cow<'a, str>>,
    /// major × 10^6 + minor × 10^3 + micro.
    pub hypervisor_version: Option<i64>,
    /// The compute node's name; Nova's `nodename`.
    pub hypervisor_hostname: Option<Cow<'a, str>>,
    /// Everything of ours; absent in reports of other reporters.
    pub novella: Option<Box<NovellaReport<'a>>>,
    /// Top-level keys that are none of the above, as JSON text.
    pub extra: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

/// The part of a report that only novella peers read.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct NovellaReport<'a> {
    /// Identity of the host, from its identity file.
    pub uuid: Uuid,
    /// Raised and synced before each process first reports.
    pub incarnation: u64,
    /// Random per process: two processes with one incarnation are a cloned identity.
    pub nonce: u64,
    /// Raised with each report of this incarnation.
    pub seq: u64,
    /// Sender's wall clock, RFC 3339. Shown, never trusted.
    #[serde(borrow)]
    pub sent_at: Cow<'a, str>,
    /// The agent's report interval, ms.
    pub interval_ms: u64,
    /// The last report of a process that stops in order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goodbye: bool,
    /// Set when an operator disabled the host; the text says why.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<Cow<'a, str>>,
    /// Availability zone from the agent's configuration.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<Cow<'a, str>>,
    /// Held back for the host itself; counts as used.
    #[serde(default)]
    pub reserved: Reserved,
    /// How far each amount may be overcommitted.
    #[serde(default)]
    pub allocation_ratios: AllocationRatios,
    /// What the host has granted; with `reserved` this is all that placement counts as used.
    #[serde(default, borrow)]
    pub claims: Vec<Claim<'a>>,
    /// Instances that ended here within the last hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Uuid>,
    /// Traits, such as `HW_CPU_X86_AVX2` or `CUSTOM_GOLD`.
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub traits: Vec<Cow<'a, str>>,
    /// Custom resource classes.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub resources: Entries<'a, Inventory>,
    /// Any facts the operator gave in the agent's configuration.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub facts: Entries<'a, Json<'a>>,
    /// The host's address.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<Cow<'a, str>>,
    /// All that it can run, as JSON text: a list of `[architecture, hypervisor type, VM mode]`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub supported_instances: Option<Json<'a>>,
    /// What it measures for MetricsFilter and MetricsWeigher, as JSON text: a list of `{name, value, timestamp, source}`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Json<'a>>,
    /// NUMA cells, as JSON text: a [`NumaTopology`](crate::document::NumaTopology). What is used of a cell is what claims
    /// take; usage that stands in it is the host's own, as `reserved` is.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<Json<'a>>,
    /// PCI devices that there are, as JSON text: a list of [`PciPool`](crate::document::PciPool). Those that claims have
    /// taken count among them.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub pci_pools: Option<Json<'a>>,
    /// Measured load. Shown, never fitted against.
    #[serde(default)]
    pub measured: Measured,
    /// Instances that build, resize, migrate, ...: Nova's `io_workload`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_io_ops: u32,
    /// Builds that failed in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_builds: u32,
    /// Driver probes that did not answer in time: name, and age of the value reported instead, ms.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub stale_probes: Entries<'a, u64>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Amounts held back for the host itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Reserved {
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// GiB.
    pub disk_gb: u64,
}

/// Overcommit: capacity is total × ratio. Nova's `*_allocation_ratio`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct AllocationRatios {
    /// `cpu_allocation_ratio`, default 4.0 (Nova's `initial_cpu_allocation_ratio`).
    pub cpu: f64,
    /// `ram_allocation_ratio`, default 1.0.
    pub ram: f64,
    /// `disk_allocation_ratio`, default 1.0.
    pub disk: f64,
}

impl Default for AllocationRatios {
    fn default() -> Self {
        Self { cpu: 4.0, ram: 1.0, disk: 1.0 }
    }
}

/// An instance that a host has granted room to.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Claim<'a> {
    /// The instance.
    pub uuid: Uuid,
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// GiB, root and ephemeral together.
    pub disk_gb: u64,
    /// Server group, if any.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub group: Option<Cow<'a, str>>,
    /// Its flavor's id, or name when it has no other; what TypeAffinityFilter compares.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<Cow<'a, str>>,
    /// Its image as JSON text, an [`Image`](crate::Image): what ImagePropertiesWeigher compares.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub image: Option<Json<'a>>,
    /// Custom resource classes.
    #[serde(default, borrow, skip_serializing_if = "Entries::is_empty")]
    pub resources: Entries<'a, u64>,
    /// What it takes of NUMA cells, as JSON text: a list of [`CellUsage`].
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub numa_topology: Option<Json<'a>>,
    /// The PCI devices that it has, as JSON text: a list of [`PciPool`](crate::document::PciPool), each with how many.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Json<'a>>,
}

/// What an instance takes of one NUMA cell of its host. Whoever subtracts it gets the same, whatever else is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellUsage {
    /// The host's number of the cell.
    pub id: u32,
    /// How many CPUs it shares with others.
    #[serde(default)]
    pub vcpus: u32,
    /// Host CPUs that it has to itself: those of its own CPUs and of the emulator's threads, and threads of the same cores
    /// that must be left idle.
    #[serde(default)]
    pub pinned_cpus: Vec<u32>,
    /// MiB.
    pub memory_mb: i64,
    /// The size of the pages that its memory is of, KiB.
    pub pagesize_kb: u64,
}

/// One resource class of a host, in the terms of Placement's inventories.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// How much there is.
    pub total: u64,
    /// How much of it is held back.
    pub reserved: u64,
    /// Smallest amount one request may ask.
    pub min_unit: u64,
    /// Largest amount one request may ask.
    pub max_unit: u64,
    /// Amounts must be a multiple of this.
    pub step_size: u64,
    /// Capacity is (total − reserved) × this.
    pub allocation_ratio: f64,
}

impl Default for Inventory {
    fn default() -> Self {
        Self { total: 0, reserved: 0, min_unit: 1, max_unit: u64::MAX, step_size: 1, allocation_ratio: 1.0 }
    }
}

/// What the host measured of itself. For people and dashboards.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Load average over one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_1m: Option<f64>,
    /// MiB that the kernel calls available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_available_mb: Option<u64>,
    /// GiB free on the configured path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free_gb: Option<u64>,
    /// Seconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
}

/// Arguments of `update_service_capabilities`, as received: version 1.0 sends one object, 2.4 a list of them.
#[derive(Debug, Clone, serde::Deserialize, serde::Serialize)]
pub struct UpdateServiceCapabilities<'a> {
    /// `compute`, `volume`, ...
    #[serde(borrow)]
    pub service_name: Cow<'a, str>,
    /// The reporting service's host.
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    /// One entry per node; null is an empty report.
    #[serde(borrow, default)]
    pub capabilities: CapabilitiesList<'a>,
}

/// One object, a list of objects, or null; sent as one object when there is exactly one.
#[derive(Debug, Clone, Default)]
pub struct CapabilitiesList<'a>(pub Vec<Capabilities<'a>>);

/// The integer capability keys of Nova, with the field each belongs to.
macro_rules! integer_keys {
    ($apply:ident) => {
        $apply!(
            vcpus,
            vcpus_used,
            disk_total,
            disk_used,
            disk_available,
            host_memory_total,
            host_memory_free,
            hypervisor_version
        )
    };
}

impl Capabilities<'_> {
    /// Nova's integer capabilities that are present, by key.
    pub fn integers(&self) -> impl Iterator<Item = (&'static str, i64)> {
        macro_rules! list { ($($k:ident),*) => { [$((stringify!($k), self.$k)),*] } }
        integer_keys!(list).into_iter().filter_map(|(k, v)| v.map(|v| (k, v)))
    }
}

impl Serialize for Capabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (k, v) in self.integers() {
            map.serialize_entry(k, &v)?;
        }
        if let Some(v) = &self.cpu_info {
            map.serialize_entry("cpu_info", v.as_ref())?;
        }
        if let Some(v) = &self.hypervisor_type {
            map.serialize_entry("hypervisor_type", v)?;
        }
        if let Some(v) = &self.hypervisor_hostname {
            map.serialize_entry("hypervisor_hostname", v)?;
        }
        for (k, v) in &self.extra {
            map.serialize_entry(k, v.as_ref())?;
        }
        if let Some(v) = &self.novella {
            map.serialize_entry("novella", v)?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Capabilities<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Capabilities<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of capabilities")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                read_capabilities(&mut map)
            }
        }
        deserializer.deserialize_map(V)
    }
}

fn read_capabilities<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Capabilities<'de>, M::Error> {
    let mut out = Capabilities::default();
    while let Some(Key(key)) = map.next_key()? {
        macro_rules! dispatch {
            ($($k:ident),*) => {
                match key.as_ref() {
                    $(stringify!($k) => out.$k = named(stringify!($k), map.next_value::<Option<Integer>>())?.map(|i| i.0),)*
                    "cpu_info" => out.cpu_info = map.next_value::<Option<&'de RawValue>>()?.map(Cow::Borrowed),
                    "hypervisor_type" => {
                        out.hypervisor_type = named("hypervisor_type", map.next_value::<Option<Key<'de>>>())?.map(|k| k.0);
                    }
                    "hypervisor_hostname" => {
                        out.hypervisor_hostname =
                            named("hypervisor_hostname", map.next_value::<Option<Key<'de>>>())?.map(|k| k.0);
                    }
                    "novella" => out.novella = named("novella", map.next_value())?,
                    _ => out.extra.push((key, Cow::Borrowed(map.next_value::<&'de RawValue>()?))),
                }
            };
        }
        integer_keys!(dispatch);
    }
    Ok(out)
}

/// Puts the capability's name before serde's words, because a peer's operator must learn which value was wrong.
fn named<T, E: de::Error>(key: &str, value: Result<T, E>) -> Result<T, E> {
    value.map_err(|error| E::custom(format_args!("capability {key}: {error}")))
}

/// A whole number; a finite fraction is cut towards zero, as Nova's integer columns do.
struct Integer(i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Integer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_i64<E>(self, v: i64) -> Result<Integer, E> {
                Ok(Integer(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Integer, E> {
                i64::try_from(v).map(Integer).map_err(|_| E::custom(format_args!("{v} is too large")))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Integer, E> {
                const LIMIT: f64 = 9.0e15; // beyond this a double no longer holds every integer
                if v.abs() <= LIMIT {
                    Ok(Integer(v as i64))
                } else {
                    Err(E::custom(format_args!("{v} is too large")))
                }
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Serialize for CapabilitiesList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for CapabilitiesList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = CapabilitiesList<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of capabilities, a list of them, or null")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(CapabilitiesList::default())
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                Ok(CapabilitiesList(vec![read_capabilities(&mut map)?]))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let mut out = Vec::new();
                while let Some(one) = seq.next_element()? {
                    out.push(one);
                }
                Ok(CapabilitiesList(out))
            }
        }
        deserializer.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{MemoryPages, NumaCell, NumaTopology, PciPool};

    #[test]
    fn a_2012_report_and_a_list_of_them_are_read() {
        let one = r#"{"service_name":"compute","host":"cmp1","capabilities":{"vcpus":16,"disk_total":500.7,
            "cpu_info":{"arch":"x86_64"},"hypervisor_type":"QEMU","pets":["cat"],"host_memory_free":null}}"#;
        let report: UpdateServiceCapabilities<'_> = serde_json::from_str(one).unwrap();
        let caps = &report.capabilities.0[0];
        assert_eq!((caps.vcpus, caps.disk_total, caps.host_memory_free), (Some(16), Some(500), None));
        assert_eq!(caps.cpu_info.as_ref().unwrap().get(), r#"{"arch":"x86_64"}"#);
        assert_eq!(caps.extra[0].0, "pets");
        let list = r#"{"service_name":"compute","host":"cmp1","capabilities":[{"vcpus":1},{"vcpus":2}]}"#;
        let report: UpdateServiceCapabilities<'_> = serde_json::from_str(list).unwrap();
        assert_eq!(report.capabilities.0.len(), 2);
        let null = r#"{"service_name":"compute","host":"cmp1","capabilities":null}"#;
        assert!(
            serde_json::from_str::<UpdateServiceCapabilities<'_>>(null).unwrap().capabilities.0.is_empty()
        );
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        let bad = r#"{"vcpus":"sixteen"}"#;
        let error = serde_json::from_str::<Capabilities<'_>>(bad).unwrap_err().to_string();
        assert!(error.contains("capability vcpus"), "{error}");
        let bad = r#"{"novella":{"uuid":7}}"#;
        let error = serde_json::from_str::<Capabilities<'_>>(bad).unwrap_err().to_string();
        assert!(error.contains("capability novella"), "{error}");
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let cell = CellUsage { id: 1, vcpus: 0, pinned_cpus: vec![6, 2], memory_mb: 512, pagesize_kb: 2048 };
        let devices =
            PciPool { vendor_id: "8086".into(), product_id: "1572".into(), count: 3, ..PciPool::default() };
        let mempages = vec![MemoryPages { size_kb: 4, total: 1 << 20, used: 0, reserved: 512 }];
        let topology = NumaTopology {
            cells: vec![NumaCell { id: 1, pcpuset: vec![2, 6], mempages, ..NumaCell::default() }],
        };
        let novella = NovellaReport {
            uuid: Uuid::from_u128(1),
            incarnation: 2,
            nonce: u64::MAX,
            seq: 3,
            sent_at: "2026-01-01T00:00:00Z".into(),
            interval_ms: 10_000,
            goodbye: false,
            disabled_reason: None,
            availability_zone: Some("az-\u{e9}".into()),
            reserved: Reserved { vcpus: 0, memory_mb: 512, disk_gb: 0 },
            allocation_ratios: AllocationRatios::default(),
            claims: vec![Claim {
                uuid: Uuid::from_u128(9),
                vcpus: 1,
                memory_mb: 512,
                disk_gb: 1,
                numa_topology: Some(Json::of(&[&cell]).unwrap()),
                pci: Some(Json::of(&[&devices]).unwrap()),
                ..Claim::default()
            }],
            ended: vec![],
            traits: vec!["CUSTOM_GOLD".into()],
            resources: Entries(vec![("CUSTOM_GPU".into(), Inventory { total: 4, ..Inventory::default() })]),
            facts: Entries::default(),
            host_ip: Some("10.0.0.7".into()),
            supported_instances: Some(Json::of(&[["x86_64", "kvm", "hvm"]]).unwrap()),
            metrics: Some(Json::of(&serde_json::json!([{"name": "cpu.percent", "value": 0.5}])).unwrap()),
            numa_topology: Some(Json::of(&topology).unwrap()),
            pci_pools: Some(Json::of(&[&devices]).unwrap()),
            measured: Measured { load_1m: Some(0.5), ..Measured::default() },
            num_io_ops: 0,
            failed_builds: 3,
            stale_probes: Entries::default(),
        };
        let caps =
            Capabilities { vcpus: Some(4), novella: Some(Box::new(novella)), ..Capabilities::default() };
        let text = serde_json::to_string(&caps).unwrap();
        let back: Capabilities<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        let novella = back.novella.unwrap();
        fn read<T: serde::de::DeserializeOwned>(text: &Option<Json<'_>>) -> T {
            serde_json::from_str(text.as_ref().unwrap().get()).unwrap()
        }
        assert_eq!(read::<NumaTopology>(&novella.numa_topology), topology);
        assert_eq!(read::<Vec<PciPool>>(&novella.pci_pools), std::slice::from_ref(&devices));
        let claim = &novella.claims[0];
        assert_eq!(read::<Vec<CellUsage>>(&claim.numa_topology), [cell]);
        assert_eq!(read::<Vec<PciPool>>(&claim.pci), [devices]);
    }

    #[test]
    fn what_a_host_does_not_have_takes_no_room_in_its_report() {
        let text = serde_json::to_string(&NovellaReport::default()).unwrap();
        for key in ["host_ip", "supported_instances", "metrics", "numa_topology", "pci_pools"] {
            assert!(!text.contains(key), "{text}");
        }
        let text = serde_json::to_string(&Claim::default()).unwrap();
        assert!(!text.contains("numa_topology") && !text.contains("pci"), "{text}");
    }
}
