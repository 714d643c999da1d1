//! Values that an operator sets in place of detected ones.
//!
//! A key is the name that `compute-agent probe` prints. The source of such a value says that it is an override. Wrong keys
//! and types are found when the configuration is checked, before anything is probed.

use novella_virt::{CpuInfo, HostStats, Probed};
use serde_json::Value;

/// The source of an overridden value.
const SOURCE: &str = "override in [driver.overrides]";

/// An override that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// There is no detected value with this name.
    #[error("there is no detected value {key:?}; choose one of {}", VALUES.map(|(name, _)| name).join(", "))]
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

/// Replaces one detected value. The error is the type that is expected.
type Replace = fn(&mut HostStats, &Value) -> Result<(), &'static str>;

/// All values that can be overridden, by name.
const VALUES: [(&str, Replace); 14] = [
    ("vcpus", |stats, value| set(&mut stats.vcpus, count(value)?)),
    ("vcpus_used", |stats, value| set(&mut stats.vcpus_used, count(value)?)),
    ("cpu_arch", |stats, value| set_cpu(stats, |cpu| &mut cpu.arch, text(value)?)),
    ("cpu_model", |stats, value| set_cpu(stats, |cpu| &mut cpu.model, text(value)?)),
    ("cpu_vendor", |stats, value| set_cpu(stats, |cpu| &mut cpu.vendor, text(value)?)),
    ("cpu_features", |stats, value| set_cpu(stats, |cpu| &mut cpu.features, texts(value)?)),
    ("memory_total_mb", |stats, value| set(&mut stats.memory_total_mb, size(value)?)),
    ("memory_available_mb", |stats, value| set(&mut stats.memory_available_mb, Some(size(value)?))),
    ("disk_total_gb", |stats, value| set(&mut stats.disk_total_gb, size(value)?)),
    ("disk_used_gb", |stats, value| set(&mut stats.disk_used_gb, size(value)?)),
    ("disk_available_gb", |stats, value| set(&mut stats.disk_available_gb, size(value)?)),
    ("hypervisor_type", |stats, value| set(&mut stats.hypervisor_type, text(value)?)),
    ("hypervisor_version", |stats, value| {
        set(&mut stats.hypervisor_version, value.as_i64().ok_or("a whole number")?)
    }),
    ("hypervisor_hostname", |stats, value| set(&mut stats.hypervisor_hostname, text(value)?)),
];

/// Checks an override without a reading to apply it to.
pub fn check(key: &str, value: &Value) -> Result<(), OverrideError> {
    apply(&mut HostStats::default(), key, value)
}

/// Replaces one detected value.
pub fn apply(stats: &mut HostStats, key: &str, value: &Value) -> Result<(), OverrideError> {
    let Some((_, replace)) = VALUES.iter().find(|(name, _)| *name == key) else {
        return Err(OverrideError::UnknownKey { key: key.to_owned() });
    };
    let wrong = |wanted| OverrideError::WrongType { key: key.to_owned(), wanted, value: value.to_string() };
    replace(stats, value).map_err(wrong)
}

fn set<T>(detected: &mut Probed<T>, value: T) -> Result<(), &'static str> {
    *detected = Probed::new(value, SOURCE);
    Ok(())
}

fn set_cpu<T>(
    stats: &mut HostStats,
    detected: fn(&mut CpuInfo) -> &mut T,
    value: T,
) -> Result<(), &'static str> {
    if !stats.cpu_info.source.ends_with(SOURCE) {
        stats.cpu_info.source = format!("{}; in part {SOURCE}", stats.cpu_info.source).into();
    }
    *detected(&mut stats.cpu_info.value) = value;
    Ok(())
}

fn count(value: &Value) -> Result<u32, &'static str> {
    value.as_u64().and_then(|v| u32::try_from(v).ok()).ok_or("a whole number of CPUs")
}

fn size(value: &Value) -> Result<u64, &'static str> {
    value.as_u64().ok_or("a whole number, not negative")
}

fn text(value: &Value) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or("a string")
}

fn texts(value: &Value) -> Result<Vec<String>, &'static str> {
    let texts = value.as_array().and_then(|list| list.iter().map(|item| text(item).ok()).collect());
    texts.ok_or("a list of strings")
}
