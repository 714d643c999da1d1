//! The contents of reports, and when they go out.

use std::time::Duration;

use novella_compute_agent::AgentConfig;
use novella_service::MemoryStore;
use serde_json::json;

use crate::bus::{Bus, HOST, Moody, fake, s, settings};

fn gaps(times: &[Duration]) -> Vec<u128> {
    times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_report_says_what_driver_and_configuration_say() {
    let bus = Bus::new().await;
    let config = settings(json!({
        "my_ip": "10.0.0.7",
        "placement": {"availability_zone": "az-2", "traits": ["CUSTOM_GOLD"], "disabled_reason": "new fan"},
        "reserved": {"vcpus": 1, "memory_mb": 2048, "disk_gb": 7},
        "allocation_ratio": {"cpu": 16.0, "ram": 1.5, "disk": 2.0},
        "report": {"periodic_interval": "12s"},
        "resources": {"CUSTOM_GPU": {"total": 4, "reserved": 1}},
        "facts": {"rack": "a1", "blades": [1, 2]},
        "driver": {"overrides": {"vcpus": 6, "cpu_model": "Epyc"}},
    }));
    let agent = bus.start(HOST, config, &MemoryStore::new(), fake(&[])).await.unwrap();

    let [report] = &bus.reports()[..] else { panic!("one report at once, not {:?}", bus.reports()) };
    assert_eq!((report.host.as_str(), report.at), (HOST, Duration::ZERO));
    let top = &report.capabilities;
    for (key, value) in [
        ("vcpus", json!(6)),
        ("vcpus_used", json!(0)),
        ("host_memory_total", json!(16_384)),
        ("host_memory_free", json!(16_384)),
        ("disk_total", json!(200)),
        ("disk_used", json!(0)),
        ("disk_available", json!(200)),
        ("hypervisor_type", json!("fake")),
        ("hypervisor_hostname", json!(HOST)),
    ] {
        assert_eq!(top[key], value, "{key}");
    }
    assert_eq!(top["cpu_info"]["model"], "Epyc");
    assert_eq!(top.as_object().unwrap().len(), 12, "Nova's eleven keys and ours: {top:#}");

    let ours = report.novella();
    assert_eq!(ours["reserved"], json!({"vcpus": 1, "memory_mb": 2048, "disk_gb": 7}));
    assert_eq!(ours["allocation_ratios"], json!({"cpu": 16.0, "ram": 1.5, "disk": 2.0}));
    assert_eq!(ours["availability_zone"], "az-2");
    assert_eq!(ours["disabled_reason"], "new fan");
    let traits = ours["traits"].as_array().unwrap();
    assert!(
        traits.contains(&json!("CUSTOM_GOLD")) && traits.contains(&json!("HW_CPU_X86_AVX2")),
        "{traits:?}"
    );
    assert_eq!(ours["resources"]["CUSTOM_GPU"]["total"], 4);
    assert_eq!(ours["resources"]["CUSTOM_GPU"]["reserved"], 1);
    assert_eq!(ours["facts"], json!({"rack": "a1", "blades": [1, 2]}));
    assert_eq!(
        (&ours["incarnation"], &ours["seq"], &ours["interval_ms"]),
        (&json!(1), &json!(1), &json!(12_000))
    );
    assert_eq!(ours["sent_at"], "2030-01-01T00:00:00.000Z");
    assert_eq!(ours["claims"], json!([]));
    assert_eq!(ours["measured"]["memory_available_mb"], 16_384);
    assert_eq!(ours["host_ip"], "10.0.0.7");
    assert_eq!(ours["supported_instances"], json!([["x86_64", "fake", "hvm"]]));
    for key in ["numa_topology", "pci_pools", "metrics"] {
        assert!(ours.get(key).is_none(), "{key} was not asked for: {ours:#}");
    }
    assert!(ours.get("goodbye").is_none() && ours.get("stale_probes").is_none(), "{ours:#}");
    drop(agent);
}

#[tokio::test(start_paused = true)]
async fn the_first_report_goes_out_at_once_and_then_one_per_interval() {
    let (bus, _agent) = Bus::with_agent().await;
    bus.run_until(s(120)).await;
    let reports = bus.reports();
    let times: Vec<Duration> = reports.iter().map(|report| report.at).collect();
    assert_eq!(times[0], Duration::ZERO, "the fuzzy delay is not waited for");
    assert!(times[1] <= s(10), "the fuzzy delay comes instead of the first interval: {times:?}");
    assert!(gaps(&times[1..]).iter().all(|gap| *gap == 10_000), "{times:?}");
    let seqs: Vec<u64> = reports.iter().map(|report| report.seq()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn reports_go_out_more_often_than_the_driver_is_read() {
    let bus = Bus::new().await;
    let mut config = AgentConfig::default();
    config.report.host_state_interval = s(60);
    let _agent = bus.start(HOST, config, &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.run_until(s(300)).await;
    let times: Vec<Duration> = bus.reports().iter().map(|report| report.at).collect();
    assert!(times.len() >= 30, "{times:?}");
    assert!(gaps(&times).iter().all(|gap| *gap <= 15_000), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reading_is_waited_for_and_not_reported_twice() {
    let bus = Bus::new().await;
    let steps = ["ok", "delay 900", "delay 2000", "delay 100", "delay 1500"];
    let _agent = bus.start(HOST, AgentConfig::default(), &MemoryStore::new(), fake(&steps)).await.unwrap();
    bus.run_until(s(41)).await;
    let times: Vec<Duration> = bus.reports().iter().map(|report| report.at).collect();
    assert!((4..=6).contains(&times.len()), "one per interval: {times:?}");
    assert!(gaps(&times[1..]).iter().all(|gap| (8_000..=12_000).contains(gap)), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_probe_is_reported_with_its_age_and_stops_no_report() {
    let bus = Bus::new().await;
    let driver = fake(&["ok", "hang"]);
    let _agent = bus.start(HOST, AgentConfig::default(), &MemoryStore::new(), driver.clone()).await.unwrap();
    bus.run_until(s(60)).await;
    let reports = bus.take();
    let times: Vec<Duration> = reports.iter().map(|report| report.at).collect();
    assert!(gaps(&times).iter().all(|gap| *gap <= 15_000), "{times:?}");
    let age = reports.last().unwrap().novella()["stale_probes"]["fake"].as_u64();
    let age = age.unwrap_or_else(|| panic!("no stale probe in {:?}", reports.last()));
    assert!((40_000..=60_000).contains(&age), "{age}");
    assert_eq!(reports.last().unwrap().capabilities["vcpus"], 8, "the last good value");

    driver.release();
    bus.run_until(s(80)).await;
    assert!(bus.take().last().unwrap().novella().get("stale_probes").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_breaks_later_does_not_silence_its_host() {
    for mood in [Moody::FAILS, Moody::HANGS, Moody::PANICS] {
        let bus = Bus::new().await;
        let driver = Moody::new(Moody::WORKS);
        let agent =
            bus.start(HOST, AgentConfig::default(), &MemoryStore::new(), driver.clone()).await.unwrap();
        driver.set(mood);
        bus.run_until(s(100)).await;
        let reports = bus.take();
        let times: Vec<Duration> = reports.iter().map(|report| report.at).collect();
        assert!(gaps(&times).iter().all(|gap| *gap <= 15_000) && times.len() >= 9, "mood {mood}: {times:?}");
        assert!(reports.iter().all(|report| report.capabilities["vcpus"] == 8), "mood {mood}");
        assert!(agent.health().live().ok, "mood {mood}: {}", agent.health().live().summary());
    }
}
