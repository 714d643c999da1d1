//! A host's report: what `update_service_capabilities` carries.
//!
//! The top level has the eleven keys of Nova's libvirt `HostState` (Folsom), so that any peer of 2012 can read them.
//! Everything that is novella's own is under the one key `novella`. Keys that are neither are kept as text in `extra`,
//! because extra specs can ask for them and `novella host show` prints them. A value of the wrong JSON type is an error
//! that names its key.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::agent_report::NovellaReport;
use crate::entries::Key;

/// What one service reports about its host.
#[derive(Debug, Clone, Default)]
pub struct Capabilities<'a> {
    /// Number of physical CPUs (threads) of the host.
    pub vcpus: Option<i64>,
    /// Number of virtual CPUs in use, as the driver counts them.
    pub vcpus_used: Option<i64>,
    /// Description of the CPU as JSON text: an object in Nova's form of 2012, a string that holds JSON in today's.
    pub cpu_info: Option<Cow<'a, RawValue>>,
    /// Disk size, GiB.
    pub disk_total: Option<i64>,
    /// Disk in use, GiB.
    pub disk_used: Option<i64>,
    /// Free disk, GiB.
    pub disk_available: Option<i64>,
    /// Memory size, MiB.
    pub host_memory_total: Option<i64>,
    /// Free memory, MiB.
    pub host_memory_free: Option<i64>,
    /// Kind of hypervisor, such as `QEMU` or `fake`.
    pub hypervisor_type: Option<Cow<'a, str>>,
    /// Version of the hypervisor: major × 10^6 + minor × 10^3 + micro.
    pub hypervisor_version: Option<i64>,
    /// Name of the compute node: Nova's `nodename`.
    pub hypervisor_hostname: Option<Cow<'a, str>>,
    /// Everything that is novella's own. Absent in reports of other reporters.
    pub novella: Option<Box<NovellaReport<'a>>>,
    /// Top-level keys that are none of the above, with their values as JSON text.
    pub extra: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

/// Arguments of `update_service_capabilities`. Version 1.0 sends one object of capabilities, 2.4 a list of them.
#[derive(Debug, Clone, serde::Deserialize, serde::Serialize)]
pub struct UpdateServiceCapabilities<'a> {
    /// Name of the reporting service, such as `compute` or `volume`.
    #[serde(borrow)]
    pub service_name: Cow<'a, str>,
    /// Host of the reporting service.
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    /// One entry for each node. Null is an empty report.
    #[serde(borrow, default)]
    pub capabilities: CapabilitiesList<'a>,
}

/// One object, a list of objects, or null. Exactly one entry is sent as an object.
#[derive(Debug, Clone, Default)]
pub struct CapabilitiesList<'a>(pub Vec<Capabilities<'a>>);

/// Nova's capability keys with integer values. Each is the name of its field too.
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

macro_rules! names { ($($k:ident),*) => { [$(stringify!($k)),*] } }

/// Nova's capability keys with integer values.
pub const INTEGER_KEYS: [&str; 8] = integer_keys!(names);

impl Capabilities<'_> {
    /// The values of the [`INTEGER_KEYS`], in their order.
    pub fn integers(&self) -> [Option<i64>; INTEGER_KEYS.len()] {
        macro_rules! values { ($($k:ident),*) => { [$(self.$k),*] } }
        integer_keys!(values)
    }
}

impl Serialize for Capabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (k, v) in INTEGER_KEYS.iter().zip(self.integers()) {
            if let Some(v) = v {
                map.serialize_entry(k, &v)?;
            }
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

/// Puts the capability's name before serde's message, so that a peer's operator learns which value was wrong.
fn named<T, E: de::Error>(key: &str, value: Result<T, E>) -> Result<T, E> {
    value.map_err(|error| E::custom(format_args!("capability {key}: {error}")))
}

/// A whole number. A fraction is cut towards zero, as Nova's integer columns do.
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
                const LIMIT: f64 = 9.0e15; // larger doubles do not hold every integer
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
            fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<Self::Value, S::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(CapabilitiesList)
            }
        }
        deserializer.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::agent_report::{Measured, Reserved};
    use crate::claim::Claim;
    use crate::devices::PciPool;
    use crate::entries::Entries;
    use crate::inventory::Inventory;
    use crate::json::Json;
    use crate::numa::{CellUsage, MemoryPages, NumaCell, NumaTopology};

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
            availability_zone: Some("az-\u{e9}".into()),
            reserved: Reserved { vcpus: 0, memory_mb: 512, disk_gb: 0 },
            claims: vec![Claim {
                uuid: Uuid::from_u128(9),
                vcpus: 1,
                memory_mb: 512,
                disk_gb: 1,
                numa_topology: Some(Json::of(&[&cell]).unwrap()),
                pci: Some(Json::of(&[&devices]).unwrap()),
                ..Claim::default()
            }],
            traits: vec!["CUSTOM_GOLD".into()],
            resources: Entries(vec![("CUSTOM_GPU".into(), Inventory { total: 4, ..Inventory::default() })]),
            host_ip: Some("10.0.0.7".into()),
            supported_instances: Some(Json::of(&[["x86_64", "kvm", "hvm"]]).unwrap()),
            metrics: Some(Json::of(&serde_json::json!([{"name": "cpu.percent", "value": 0.5}])).unwrap()),
            numa_topology: Some(Json::of(&topology).unwrap()),
            pci_pools: Some(Json::of(&[&devices]).unwrap()),
            measured: Measured { load_1m: Some(0.5), ..Measured::default() },
            failed_builds: 3,
            ..NovellaReport::default()
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
