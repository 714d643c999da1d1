//! Host stats in a report.

use std::sync::Arc;
use std::time::Duration;

use novella_objects::Capabilities;
use novella_virt::{
    ComputeDriver, DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver, HostStats, StaleProbe, capabilities,
    measured, stale_probes,
};
use serde_json::json;

async fn stats() -> HostStats {
    let config = FakeConfig { vcpus: 4, numa_nodes: 2, memory_mb: 100, disk_gb: 7, ..FakeConfig::default() };
    let fake = FakeDriver::new("cmp1", Arc::new(config), DEFAULT_PROBE_DEADLINE).unwrap();
    fake.get_host_stats(true).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nova_s_eleven_keys_and_no_other() {
    let text = serde_json::to_string(&capabilities(&stats().await)).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        seen,
        json!({
            "vcpus": 4, "vcpus_used": 0,
            "cpu_info": {
                "arch": "x86_64", "model": "fake", "vendor": "Intel",
                "features": ["aes", "avx", "avx2", "sse4_2"],
                "topology": {"sockets": 1, "cores": 2, "threads": 1, "cells": 2},
            },
            "disk_total": 7, "disk_used": 0, "disk_available": 7,
            "host_memory_total": 100, "host_memory_free": 100,
            "hypervisor_type": "fake", "hypervisor_version": 1_000_000, "hypervisor_hostname": "cmp1",
        })
    );
    let back: Capabilities<'_> = serde_json::from_str(&text).unwrap();
    assert_eq!(back.host_memory_total, Some(100));
    assert!(back.extra.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_report() {
    let mut stats = stats().await;
    stats.stale.push(StaleProbe {
        probe: "disk",
        age: Duration::from_millis(61_500),
        reason: "hangs".into(),
    });
    assert_eq!(stale_probes(&stats).get("disk"), Some(&61_500));
    assert_eq!(
        serde_json::to_value(measured(&stats)).unwrap(),
        json!({"load_1m": 0.0, "memory_available_mb": 100, "disk_free_gb": 7, "uptime_s": 0})
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_left_out() {
    let mut stats = stats().await;
    (stats.load_1m.value, stats.memory_available_mb.value, stats.uptime_s.value) = (None, None, None);
    assert_eq!(serde_json::to_value(measured(&stats)).unwrap(), json!({"disk_free_gb": 7}));
    let report = serde_json::to_value(capabilities(&stats)).unwrap();
    assert_eq!((report.get("host_memory_free"), &report["host_memory_total"]), (None, &json!(100)));
}
