//! The fake driver: its size, its script, and that thousands of it are cheap.

use std::sync::Arc;
use std::time::Duration;

use novella_virt::{
    ComputeDriver, DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver, FakeStep, HostStats, PciDevType,
};
use tokio::time::{Instant, advance};

use crate::chain;

fn driver(config: FakeConfig) -> FakeDriver {
    FakeDriver::new("cmp1", Arc::new(config), DEFAULT_PROBE_DEADLINE).expect("the configuration is good")
}

fn scripted(steps: &[&str]) -> FakeDriver {
    let script = steps.iter().map(|step| step.parse().expect("a step")).collect();
    driver(FakeConfig { script, ..FakeConfig::default() })
}

/// Age of the reported value, seconds. `None` if it is fresh.
async fn age(driver: &FakeDriver) -> Option<u64> {
    let stats = driver.get_host_stats(true).await.expect("there is a value");
    stats.stale.first().map(|stale| stale.age.as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_host_is_as_large_as_configured() {
    let config = FakeConfig {
        vcpus: 10,
        memory_mb: 4_097,
        disk_gb: 33,
        cpu_vendor: "AMD".into(),
        cpu_features: vec!["sse2".into(), "avx2".into()],
        numa_nodes: 4,
        ..FakeConfig::default()
    };
    let fake = driver(config);
    advance(Duration::from_secs(90)).await;
    let stats = fake.get_host_stats(false).await.unwrap();
    assert_eq!((stats.vcpus.value, stats.memory_total_mb.value, stats.disk_total_gb.value), (10, 4_097, 33));
    assert_eq!((stats.memory_available_mb.value, stats.disk_available_gb.value), (Some(4_097), 33));
    assert_eq!(stats.cpu_info.value.vendor, "AMD");
    assert_eq!(stats.cpu_info.value.features, ["avx2", "sse2"]);
    assert_eq!(stats.hypervisor_hostname.value, "cmp1");
    assert_eq!(stats.hypervisor_type.value, "fake");
    assert_eq!(stats.uptime_s.value, Some(90));
    let nodes: Vec<_> = stats.numa.value.iter().map(|n| (n.id, n.cpus.as_slice(), n.memory_mb)).collect();
    assert_eq!(
        nodes,
        [(0, &[0, 1, 2][..], 1_025), (1, &[3, 4, 5], 1_024), (2, &[6, 7], 1_024), (3, &[8, 9], 1_024)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_has_the_devices_pages_threads_and_load_that_are_configured() {
    let config: FakeConfig = serde_json::from_value(serde_json::json!({
        "vcpus": 8, "memory_mb": 8192, "numa_nodes": 2, "threads": 2, "cpu_percent": 30,
        "huge_pages": [{"size_kb": 2048, "total": 512}, {"size_kb": 1048576, "total": 1}],
        "pci_devices": [
            {"vendor_id": "8086", "product_id": "1572", "dev_type": "type-PF", "numa_node": 1, "count": 9},
            {"vendor_id": "10de", "product_id": "1eb8"},
        ],
    }))
    .unwrap();
    let fake = driver(config);
    let stats = fake.get_host_stats(true).await.unwrap();
    let node = &stats.numa.value[1];
    assert_eq!((node.socket, node.siblings.clone()), (Some(1), vec![vec![4, 5], vec![6, 7]]));
    let pages: Vec<_> = node.mempages.iter().map(|pages| (pages.size_kb, pages.total)).collect();
    assert_eq!(pages, [(4, 512 * 1024), (2048, 512), (1048576, 1)], "2 of 4 GiB are in huge pages");
    assert_eq!(stats.cpu_info.value.topology.threads, 2);

    let devices = &stats.pci_devices.value;
    assert_eq!(devices.len(), 10);
    assert_eq!((devices[8].address.as_str(), devices[8].dev_type.name()), ("0000:00:01.0", "type-PF"));
    assert_eq!((devices[8].numa_node, devices[9].numa_node), (Some(1), None));
    assert_eq!((devices[9].vendor_id.as_str(), devices[9].dev_type), ("10de", PciDevType::Standard));
    assert_eq!(stats.supported_instances.value, [["x86_64", "fake", "hvm"]]);

    let before = stats.cpu_stats.unwrap().value;
    advance(Duration::from_secs(10)).await;
    let after = fake.get_host_stats(true).await.unwrap().cpu_stats.unwrap().value;
    let (busy, idle) =
        (after.user_ns + after.kernel_ns - before.user_ns - before.kernel_ns, after.idle_ns - before.idle_ns);
    assert_eq!((busy, idle), (24_000_000_000, 56_000_000_000), "30 % of 8 CPUs for 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_fake_host_says_nothing_of_numa_unless_told() {
    let stats = driver(FakeConfig::default()).get_host_stats(true).await.unwrap();
    assert!(stats.numa.value.is_empty() && stats.pci_devices.value.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_script_is_followed_step_by_step_and_then_all_is_well() {
    let fake = scripted(&["ok", "fail disk on fire", "delay 1500", "hang"]);
    assert_eq!(age(&fake).await, None);

    advance(Duration::from_secs(10)).await;
    let stats = fake.get_host_stats(true).await.unwrap();
    assert_eq!(stats.stale[0].reason, "disk on fire");
    assert_eq!(stats.stale[0].age, Duration::from_secs(10));

    let asked = Instant::now();
    assert_eq!(age(&fake).await, None);
    assert_eq!(asked.elapsed(), Duration::from_millis(1_500));

    assert_eq!(
        age(&fake).await,
        Some(6),
        "1.5 s of delay and 5 s of waiting, from the start of the good run"
    );
    advance(Duration::from_secs(10)).await;
    assert_eq!(age(&fake).await, Some(16), "still hanging");
    fake.release();
    for _ in 0..3 {
        assert_eq!(age(&fake).await, None);
    }
    fake.release();
    assert_eq!(age(&fake).await, None, "releasing nothing does nothing");
}

#[tokio::test(start_paused = true)]
async fn a_delay_beyond_the_deadline_arrives_late() {
    let fake = scripted(&["ok", "delay 8000"]);
    assert_eq!(age(&fake).await, None);
    assert_eq!(age(&fake).await, Some(5));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let stats = fake.get_host_stats(false).await.unwrap();
    assert!(stats.stale.is_empty(), "{:?}", stats.stale);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_at_once_has_no_stats() {
    let fake = scripted(&["fail no such hypervisor"]);
    let error = fake.get_host_stats(false).await.unwrap_err();
    assert!(chain(&error).ends_with("no such hypervisor"), "{error}");
    assert_eq!(age(&fake).await, None);
}

#[tokio::test(start_paused = true)]
async fn equal_fakes_say_equal_things() {
    let mut seen: Vec<Vec<HostStats>> = Vec::new();
    for _ in 0..2 {
        let fake = scripted(&["ok", "fail x", "delay 700", "ok"]);
        let mut stats = Vec::new();
        for _ in 0..5 {
            stats.push(fake.get_host_stats(true).await.unwrap());
            advance(Duration::from_secs(1)).await;
        }
        seen.push(stats);
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn steps_are_read_from_configuration() {
    let text = r#"{"vcpus":2,"script":["ok","fail a  b","delay 250","hang"]}"#;
    let config: FakeConfig = serde_json::from_str(text).unwrap();
    assert_eq!(
        config.script,
        [
            FakeStep::Ok,
            FakeStep::Fail("a  b".into()),
            FakeStep::Delay(Duration::from_millis(250)),
            FakeStep::Hang
        ]
    );
    let written = serde_json::to_value(&config.script).unwrap();
    assert_eq!(
        serde_json::from_value::<Vec<FakeStep>>(written).unwrap(),
        config.script,
        "steps are written as read"
    );
    for wrong in ["", "fail", "reject", "delay", "delay soon", "delay -1", "hang 5", "explode"] {
        let error = wrong.parse::<FakeStep>().unwrap_err();
        assert!(
            error.contains("write ok, fail TEXT, reject TEXT, delay MILLISECONDS or hang"),
            "{wrong}: {error}"
        );
    }
    let error = serde_json::from_str::<FakeConfig>(r#"{"memory":5}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `memory`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn impossible_sizes_are_refused_by_name() {
    let refusal = |config: FakeConfig| {
        let result = FakeDriver::new("cmp1", Arc::new(config), DEFAULT_PROBE_DEADLINE);
        result.err().expect("refused").to_string()
    };
    let size = |vcpus, numa_nodes| FakeConfig { vcpus, numa_nodes, ..FakeConfig::default() };
    assert_eq!(refusal(size(0, 1)), "compute driver fake: fake.vcpus cannot be 0: set it from 1 to 65536");
    assert!(refusal(size(u32::MAX, 1)).contains("fake.vcpus cannot be 4294967295"));
    assert!(refusal(size(4, 5)).contains("fake.numa_nodes cannot be 5"));
    let threads = FakeConfig { threads: 0, ..FakeConfig::default() };
    assert!(refusal(threads).contains("fake.threads cannot be 0"));
    let busy = FakeConfig { cpu_percent: 101, ..FakeConfig::default() };
    assert!(refusal(busy).contains("fake.cpu_percent cannot be 101"));
    let many = r#"{"pci_devices":[{"vendor_id":"1","product_id":"2","count":4097}]}"#;
    assert!(refusal(serde_json::from_str(many).unwrap()).contains("fake.pci_devices cannot be 4097"));
}

#[tokio::test(start_paused = true)]
async fn thousands_share_one_configuration() {
    const HOSTS: usize = 5_000;
    let config = Arc::new(FakeConfig::default());
    let fleet: Vec<FakeDriver> = (0..HOSTS)
        .map(|i| FakeDriver::new(format!("cmp{i}"), Arc::clone(&config), DEFAULT_PROBE_DEADLINE).unwrap())
        .collect();
    for fake in &fleet {
        assert_eq!(fake.get_host_stats(true).await.unwrap().vcpus.value, 8);
    }
    assert_eq!(Arc::strong_count(&config), HOSTS + 1, "no fake has a copy of its own");
    assert!(size_of::<FakeDriver>() <= 256, "{} bytes", size_of::<FakeDriver>());
}
