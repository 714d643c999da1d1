//! Values that an operator sets in place of detected ones.
//!
//! A key is the name that `compute-agent probe` prints. The source of such a value says that it is an override. Wrong keys
//! and types are found when the configuration is checked, before anything is probed.

use novella_virt::{HostStats, Probed};
use serde_json::Value;

/// The source of an overridden value.
const SOURCE: &str = "override in [driver.overrides]";

/// An override that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// There is no detected value with this name.
    #[error("there is no detected value {key:?} (there are: {})", KEYS.join(", "))]
    UnknownKey {
        /// The key as the operator wrote it.
        key: String,
    },
    /// The value has the wrong type.
    #[error("{key} must be {wanted}, not {value}")]
    WrongType {
        /// The key.
        key: String,
        /// The type that is expected.
        wanted: &'static str,
        /// The value as the operator wrote it.
        value: String,
    },
}

/// The names of all values that can be overridden.
const KEYS: [&str; 14] = [
    "vcpus",
    "vcpus_used",
    "cpu_arch",
    "cpu_model",
    "cpu_vendor",
    "cpu_features",
    "memory_total_mb",
    "memory_available_mb",
    "disk_total_gb",
    "disk_used_gb",
    "disk_available_gb",
    "hypervisor_type",
    "hypervisor_version",
    "hypervisor_hostname",
];

/// Checks an override without a reading to apply it to.
pub fn check(key: &str, value: &Value) -> Result<(), OverrideError> {
    apply(&mut HostStats::default(), key, value)
}

/// Replaces one detected value.
pub fn apply(stats: &mut HostStats, key: &str, value: &Value) -> Result<(), OverrideError> {
    match key {
        "vcpus" => stats.vcpus = set(count(key, value)?),
        "vcpus_used" => stats.vcpus_used = set(count(key, value)?),
        "cpu_arch" => cpu(stats).arch = text(key, value)?,
        "cpu_model" => cpu(stats).model = text(key, value)?,
        "cpu_vendor" => cpu(stats).vendor = text(key, value)?,
        "cpu_features" => cpu(stats).features = texts(key, value)?,
        "memory_total_mb" => stats.memory_total_mb = set(size(key, value)?),
        "memory_available_mb" => stats.memory_available_mb = set(size(key, value)?),
        "disk_total_gb" => stats.disk_total_gb = set(size(key, value)?),
        "disk_used_gb" => stats.disk_used_gb = set(size(key, value)?),
        "disk_available_gb" => stats.disk_available_gb = set(size(key, value)?),
        "hypervisor_type" => stats.hypervisor_type = set(text(key, value)?),
        "hypervisor_version" => {
            stats.hypervisor_version =
                set(value.as_i64().ok_or_else(|| wrong(key, "a whole number", value))?);
        }
        "hypervisor_hostname" => stats.hypervisor_hostname = set(text(key, value)?),
        _ => return Err(OverrideError::UnknownKey { key: key.to_owned() }),
    }
    Ok(())
}

fn set<T>(value: T) -> Probed<T> {
    Probed::new(value, SOURCE)
}

fn cpu(stats: &mut HostStats) -> &mut novella_virt::CpuInfo {
    if !stats.cpu_info.source.ends_with(SOURCE) {
        stats.cpu_info.source = format!("{}; in part {SOURCE}", stats.cpu_info.source).into();
    }
    &mut stats.cpu_info.value
}

fn wrong(key: &str, wanted: &'static str, value: &Value) -> OverrideError {
    OverrideError::WrongType { key: key.to_owned(), wanted, value: value.to_string() }
}

fn count(key: &str, value: &Value) -> Result<u32, OverrideError> {
    value
        .as_u64()
        .and_then(|v| u32::try_from(v).ok())
        .ok_or_else(|| wrong(key, "a whole number of CPUs", value))
}

fn size(key: &str, value: &Value) -> Result<u64, OverrideError> {
    value.as_u64().ok_or_else(|| wrong(key, "a whole number, not negative", value))
}

fn text(key: &str, value: &Value) -> Result<String, OverrideError> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a string", value))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, OverrideError> {
    let strings = || -> Option<Vec<String>> {
        value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
    };
    strings().ok_or_else(|| wrong(key, "a list of strings", value))
}
