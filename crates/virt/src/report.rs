//! The parts of a report that come from host stats: Nova's eleven keys, and the values that the host measures.
//!
//! Left out: identity, claims, ratios, reserved amounts, and which CPUs, pages and devices are offered. The agent adds
//! those.

use std::borrow::Cow;

use novella_objects::{Capabilities, Entries, Measured};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::stats::HostStats;

/// Nova's eleven keys. Memory is in MiB, disk in GiB, and `cpu_info` is an object.
pub fn capabilities(stats: &HostStats) -> Capabilities<'static> {
    Capabilities {
        vcpus: Some(stats.vcpus.value.into()),
        vcpus_used: Some(stats.vcpus_used.value.into()),
        cpu_info: Some(Cow::Owned(json(&stats.cpu_info.value))),
        disk_total: Some(integer(stats.disk_total_gb.value)),
        disk_used: Some(integer(stats.disk_used_gb.value)),
        disk_available: Some(integer(stats.disk_available_gb.value)),
        host_memory_total: Some(integer(stats.memory_total_mb.value)),
        host_memory_free: stats.memory_available_mb.value.map(integer),
        hypervisor_type: Some(Cow::Owned(stats.hypervisor_type.value.clone())),
        hypervisor_version: Some(stats.hypervisor_version.value),
        hypervisor_hostname: Some(Cow::Owned(stats.hypervisor_hostname.value.clone())),
        novella: None,
        extra: Vec::new(),
    }
}

/// The values that the host measures.
pub fn measured(stats: &HostStats) -> Measured {
    Measured {
        load_1m: stats.load_1m.value,
        memory_available_mb: stats.memory_available_mb.value,
        disk_free_gb: Some(stats.disk_available_gb.value),
        uptime_s: stats.uptime_s.value,
    }
}

/// The stale probes as a report lists them: name, and age in ms.
pub fn stale_probes(stats: &HostStats) -> Entries<'static, u64> {
    let age_ms = |age: std::time::Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Entries(stats.stale.iter().map(|s| (Cow::Borrowed(s.probe), age_ms(s.age))).collect())
}

fn json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("structs of strings, integers and lists have a JSON form")
}

/// Sizes are far below 2^63. A larger one is cut to the largest number and does not wrap.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
