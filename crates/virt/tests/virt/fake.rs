//! Size, script, and that thousands are cheap.

use std::sync::Arc;
use std::time::Duration;

use novella_virt::{
    ComputeDriver, DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver, FakeStep, HostStats, NumaNode,
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

/// Age of the value reported, in seconds; none when it is fresh.
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
    assert_eq!((stats.memory_available_mb.value, stats.disk_available_gb.value), (4_097, 33));
    assert_eq!(stats.cpu_info.value.vendor, "AMD");
    assert_eq!(stats.cpu_info.value.features, ["avx2", "sse2"]);
    assert_eq!(stats.hypervisor_hostname.value, "cmp1");
    assert_eq!(stats.hypervisor_type.value, "fake");
    assert_eq!(stats.uptime_s.value, 90);
    let node = |id, cpus: std::ops::Range<u32>, memory_mb| NumaNode { id, cpus: cpus.collect(), memory_mb };
    assert_eq!(
        stats.numa.value,
        [node(0, 0..3, 1_025), node(1, 3..6, 1_024), node(2, 6..8, 1_024), node(3, 8..10, 1_024)]
    );
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
async fn a_running_fake_can_be_told_more() {
    let fake = scripted(&[]);
    assert_eq!(age(&fake).await, None);
    fake.push([FakeStep::Fail("later".into())]);
    advance(Duration::from_secs(3)).await;
    assert_eq!(age(&fake).await, Some(3));
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
fn steps_are_read_from_configuration_and_written_back() {
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
    let back: FakeConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(back, config);
    for wrong in ["", "fail", "delay", "delay soon", "delay -1", "hang 5", "explode"] {
        let error = wrong.parse::<FakeStep>().unwrap_err();
        assert!(error.contains("write ok, fail TEXT, delay MILLISECONDS or hang"), "{wrong}: {error}");
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
    for nodes in [0, 5] {
        assert!(refusal(size(4, nodes)).contains(&format!("fake.numa_nodes cannot be {nodes}")));
    }
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
