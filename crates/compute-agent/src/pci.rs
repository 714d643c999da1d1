//! The PCI devices that instances may have: Nova's `[pci] device_spec`, and the pools of matching devices.
//!
//! The first entry that matches a device applies to it. Keys that do not select devices become tags of their pool.
//! Devices with the same product, vendor, cell, kind and tags form a pool. Nova 34 also divides pools by address, for
//! Placement. Here they are not divided: the same devices can be granted, and reports are shorter.
//!
//! Some keys are refused rather than ignored: those that need Placement (`resource_class`, `traits`, `one_time_use`),
//! `devname`, addresses as regular expressions, and `remote_managed` devices, whose serial numbers are not read.

use std::collections::BTreeMap;

use novella_objects::document::PciPool;
use novella_virt::{PciDevType, PciDevice};
use serde_json::Value;

/// Keys that select devices. All others are tags.
const SELECTORS: [&str; 3] = ["vendor_id", "product_id", "address"];

/// Tags whose value is true or false.
const SWITCHES: [&str; 2] = ["managed", "live_migratable"];

/// Other tags that Nova knows. All further tags are defined by the operator.
const KNOWN_TAGS: [&str; 2] = ["physical_network", "trusted"];

/// Keys of Nova that are not supported, with the reason.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("resource_class", "novella does not put devices into Placement"),
    ("traits", "novella does not put devices into Placement"),
    ("one_time_use", "novella does not put devices into Placement"),
    ("devname", "devices are chosen by vendor_id, product_id and address"),
];

/// Keys of a pool that are detected from the devices.
const DETECTED: [&str; 3] = ["dev_type", "numa_node", "count"];

const REMOTE_MANAGED: &str = "remote_managed";

/// Smallest similarity (Jaro-Winkler, 0 to 1) to a key of Nova at which an unknown tag counts as a typo.
const TYPO: f64 = 0.92;

/// One entry of `[pci] device_spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// `None` matches any vendor, and likewise for the product.
    vendor_id: Option<String>,
    product_id: Option<String>,
    address: Address,
    tags: BTreeMap<String, Value>,
}

/// Domain, bus, slot and function. `None` matches any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Address([Option<u32>; 4]);

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The key is unknown, and too similar to a known one to be meant as a tag.
    #[error("{key:?} is unknown, but similar to {meant}")]
    Typo {
        /// The key as the operator wrote it.
        key: String,
        /// The known key that it is similar to.
        meant: &'static str,
    },
    /// Nova knows the key, but it is not supported.
    #[error("{key} cannot be used: {why}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Why it is not supported.
        why: &'static str,
    },
    /// The key is read from the device itself.
    #[error("{0} is detected and cannot be set")]
    Detected(&'static str),
    /// The value does not consist of up to four hexadecimal digits.
    #[error("{key} is not a device number: {value}")]
    Number {
        /// `vendor_id` or `product_id`.
        key: &'static str,
        /// The value as the operator wrote it.
        value: String,
    },
    /// The value is not an address. In an address, `*` stands for any number.
    #[error("{0} is not a PCI address")]
    Address(String),
    /// The value of a tag has the wrong type.
    #[error("{key} must be {wanted}, not {value}")]
    Tag {
        /// The tag.
        key: String,
        /// The type that is expected.
        wanted: &'static str,
        /// The value as the operator wrote it.
        value: String,
    },
}

impl SpecError {
    /// What the operator can do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Typo { meant, .. } => format!("write {meant}, or give the tag another name"),
            Self::Unsupported { key, .. } => format!("remove {key}"),
            Self::Detected(key) => format!("remove {key}"),
            Self::Number { key, .. } => {
                format!("write {key} = \"8086\": up to four hexadecimal digits, or \"*\"")
            }
            Self::Address(_) => {
                "write address = \"0000:81:00.0\", with * for any number: \"*:81:*.*\"".into()
            }
            Self::Tag { key, .. } if SWITCHES.contains(&key.as_str()) => format!("write {key} = true"),
            Self::Tag { key, .. } => format!("write {key} = \"text\""),
        }
    }
}

impl DeviceSpec {
    /// Reads an entry of the configuration.
    pub fn read(table: &BTreeMap<String, Value>) -> Result<Self, SpecError> {
        let mut spec =
            Self { vendor_id: None, product_id: None, address: Address::default(), tags: BTreeMap::new() };
        for (key, value) in table {
            match key.as_str() {
                "vendor_id" => spec.vendor_id = device_number("vendor_id", value)?,
                "product_id" => spec.product_id = device_number("product_id", value)?,
                "address" => {
                    let address = value.as_str().and_then(Address::glob);
                    spec.address = address.ok_or_else(|| SpecError::Address(value.to_string()))?;
                }
                REMOTE_MANAGED if switch(value) == Some(true) => {
                    let why = "the serial numbers that it needs are not read";
                    return Err(SpecError::Unsupported { key: REMOTE_MANAGED, why });
                }
                _ => {
                    spec.tags.insert(key.clone(), tag(key, value)?);
                }
            }
        }
        Ok(spec)
    }

    fn matches(&self, device: &PciDevice) -> bool {
        let equal = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        equal(&self.vendor_id, &device.vendor_id)
            && equal(&self.product_id, &device.product_id)
            && self.address.matches(device)
    }
}

impl Address {
    /// Reads an address such as `*:81:00.*`. Parts on the left may be left out.
    fn glob(text: &str) -> Option<Self> {
        let (place, function) = text.split_once('.').unwrap_or((text, ""));
        let mut parts: Vec<&str> = place.split(':').collect();
        if parts.len() > 3 {
            return None;
        }
        while parts.len() < 3 {
            parts.insert(0, "");
        }
        parts.push(function);
        let mut address = Self::default();
        for ((part, most), into) in parts.into_iter().zip([0xffff, 0xff, 0x1f, 7]).zip(&mut address.0) {
            *into = match part.trim() {
                "" | "*" => None,
                hex => Some(u32::from_str_radix(hex, 16).ok().filter(|number| *number <= most)?),
            };
        }
        Some(address)
    }

    /// Whether the device has this address. The full address of a physical function matches its virtual functions too.
    fn matches(&self, device: &PciDevice) -> bool {
        let is = |address: &str| {
            // As in Nova, devices with longer domains never match.
            let Some(Self(parts)) = Self::glob(address) else { return false };
            self.0.iter().zip(parts).all(|(wanted, is)| wanted.is_none() || *wanted == is)
        };
        let one = self.0.iter().all(Option::is_some);
        is(&device.address) || (one && device.parent.as_deref().is_some_and(is))
    }
}

fn device_number(key: &'static str, value: &Value) -> Result<Option<String>, SpecError> {
    let refused = || SpecError::Number { key, value: value.to_string() };
    let text = value.as_str().ok_or_else(refused)?.trim();
    if text == "*" {
        return Ok(None);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let number = u16::from_str_radix(digits, 16).map_err(|_| refused())?;
    Ok(Some(format!("{number:04x}")))
}

fn tag(key: &str, value: &Value) -> Result<Value, SpecError> {
    if let Some((key, why)) = UNSUPPORTED.into_iter().find(|(name, _)| *name == key) {
        return Err(SpecError::Unsupported { key, why });
    }
    if let Some(key) = DETECTED.into_iter().find(|name| *name == key) {
        return Err(SpecError::Detected(key));
    }
    let wrong = |wanted| SpecError::Tag { key: key.to_owned(), wanted, value: value.to_string() };
    if SWITCHES.contains(&key) || key == REMOTE_MANAGED {
        // Nova's tags are text, and so are the requests that they are compared with.
        return switch(value).map(|on| on.to_string().into()).ok_or_else(|| wrong("true or false"));
    }
    if !KNOWN_TAGS.contains(&key) {
        let known = SELECTORS.into_iter().chain(SWITCHES).chain(KNOWN_TAGS).chain([REMOTE_MANAGED]);
        let meant = known.max_by(|a, b| likeness(key, a).total_cmp(&likeness(key, b)));
        if let Some(meant) = meant.filter(|meant| likeness(key, meant) >= TYPO) {
            return Err(SpecError::Typo { key: key.to_owned(), meant });
        }
    }
    value.as_str().map(Value::from).ok_or_else(|| wrong("a string"))
}

fn likeness(key: &str, known: &str) -> f64 {
    strsim::jaro_winkler(&key.to_lowercase(), known)
}

fn switch(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.to_lowercase().parse().ok())
}

/// The devices that match any entry, by kind. Pools are in the order of their first devices.
pub fn pools(devices: &[PciDevice], specs: &[DeviceSpec]) -> Vec<PciPool> {
    let mut pools: Vec<PciPool> = Vec::new();
    for device in devices {
        let Some(spec) = specs.iter().find(|spec| spec.matches(device)) else { continue };
        let mut tags = spec.tags.clone();
        if device.dev_type != PciDevType::Standard {
            tags.entry(REMOTE_MANAGED.into()).or_insert_with(|| "false".into());
        }
        let alike = |pool: &&mut PciPool| {
            pool.vendor_id == device.vendor_id
                && pool.product_id == device.product_id
                && pool.dev_type == device.dev_type.name()
                && pool.numa_node == device.numa_node
                && pool.tags == tags
        };
        match pools.iter_mut().find(alike) {
            Some(pool) => pool.count += 1,
            None => pools.push(PciPool {
                vendor_id: device.vendor_id.clone(),
                product_id: device.product_id.clone(),
                dev_type: device.dev_type.name().into(),
                numa_node: device.numa_node,
                count: 1,
                tags,
            }),
        }
    }
    pools
}

/// Numbers of the entries that match no device, from 1.
pub fn idle(devices: &[PciDevice], specs: &[DeviceSpec]) -> Vec<usize> {
    let idle = |spec: &DeviceSpec| !devices.iter().any(|device| spec.matches(device));
    (1..).zip(specs).filter(|(_, spec)| idle(spec)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(address: &str, parent: Option<&str>) -> PciDevice {
        PciDevice {
            address: address.into(),
            vendor_id: "8086".into(),
            product_id: "154c".into(),
            class: "020000".into(),
            dev_type: PciDevType::Standard,
            numa_node: None,
            parent: parent.map(Into::into),
        }
    }

    fn matches(spec: Value, device: &PciDevice) -> bool {
        let table = serde_json::from_value(spec).expect("a table");
        DeviceSpec::read(&table).expect("a good entry").matches(device)
    }

    #[test]
    fn an_address_may_leave_parts_open() {
        let card = device("0000:81:02.3", None);
        for address in
            ["0000:81:02.3", "*:81:*.*", "81:2.3", "02.", ".3", "*", "", "0:81:02.*", " 81 : 02 .3"]
        {
            assert!(matches(serde_json::json!({"address": address}), &card), "{address}");
        }
        for address in ["0000:81:02.4", "*:80:*.*", "03.", ".1", "1:81:02.*"] {
            assert!(!matches(serde_json::json!({"address": address}), &card), "{address}");
        }
        for address in ["0:0:81:02.3", "10000:81:02.3", "81:20.0", "81:02.8", "eth0", "0x.z"] {
            assert_eq!(Address::glob(address), None, "{address}");
        }
    }

    #[test]
    fn the_address_of_a_physical_function_means_its_virtual_ones() {
        let function = device("0000:81:02.3", Some("0000:81:00.0"));
        assert!(matches(serde_json::json!({"address": "0000:81:00.0"}), &function));
        assert!(
            !matches(serde_json::json!({"address": "0000:81:00.*"}), &function),
            "a pattern means itself only"
        );
        assert!(!matches(serde_json::json!({"address": "0000:81:00.0", "vendor_id": "15b3"}), &function));
    }

    #[test]
    fn a_device_of_a_long_domain_is_left_aside() {
        assert!(!matches(serde_json::json!({}), &device("10000:e1:00.0", None)));
    }

    #[test]
    fn an_entry_that_means_no_device_is_told() {
        let specs: Vec<DeviceSpec> =
            [serde_json::json!({"vendor_id": "*"}), serde_json::json!({"vendor_id": "10de"})]
                .into_iter()
                .map(|spec| DeviceSpec::read(&serde_json::from_value(spec).unwrap()).unwrap())
                .collect();
        assert_eq!(idle(&[device("0000:81:02.3", None)], &specs), [2]);
    }
}
