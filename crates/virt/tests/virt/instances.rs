//! Instances: what the fake driver does with them, and what a driver that only reads says.

use std::sync::Arc;
use std::time::Duration;

use novella_objects::PowerState;
use novella_virt::{
    Abilities, Attempt, ComputeDriver, DEFAULT_PROBE_DEADLINE, DriverInstance, DriverOptions, FakeConfig,
    FakeDriver, FakeHypervisor, InstanceError, InstanceSpec, LinuxDriver,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::{chain, inline};

fn driver(config: Value) -> FakeDriver {
    let config: FakeConfig = serde_json::from_value(config).expect("a configuration");
    FakeDriver::new("cmp1", Arc::new(config), DEFAULT_PROBE_DEADLINE).expect("the configuration is good")
}

/// A driver that an agent makes on this machine when it starts again.
fn restarted(driver: FakeDriver) -> FakeDriver {
    let hypervisor = Arc::clone(driver.hypervisor());
    drop(driver);
    FakeDriver::on("cmp1", hypervisor, DEFAULT_PROBE_DEADLINE)
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn spec(number: u128) -> InstanceSpec {
    InstanceSpec {
        uuid: uuid(number),
        name: format!("vm{number}"),
        vcpus: 2,
        memory_mb: 2_048,
        disk_gb: 20,
        flavor: Some("m1.small".into()),
        image: Some("cirros".into()),
    }
}

async fn states(driver: &dyn ComputeDriver) -> Vec<(u128, &'static str)> {
    let instances = driver.list_instances().await.expect("the driver lists");
    instances.iter().map(|instance| (instance.uuid.as_u128(), instance.power_state.name())).collect()
}

/// Runs a call until it hangs, and drops it.
async fn drop_while_it_hangs<T>(call: impl Future<Output = T>) {
    assert!(timeout(Duration::from_secs(3_600), call).await.is_err(), "the call ended");
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_built_listed_stopped_started_and_destroyed() {
    let fake = driver(json!({}));
    assert_eq!(fake.abilities(), Abilities::ALL);
    fake.spawn(&spec(2)).await.unwrap();
    fake.spawn(&spec(1)).await.unwrap();
    assert_eq!(
        fake.list_instances().await.unwrap()[0],
        DriverInstance {
            uuid: uuid(1),
            name: "vm1".into(),
            power_state: PowerState::Running,
            vcpus: 2,
            memory_mb: 2_048,
            disk_gb: 20,
        }
    );
    fake.power_off(uuid(1)).await.unwrap();
    assert_eq!(states(&fake).await, [(1, "SHUTDOWN"), (2, "RUNNING")]);
    fake.power_on(uuid(1)).await.unwrap();
    fake.destroy(uuid(2)).await.unwrap();
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_already_is_a_success_and_takes_no_step() {
    let fake = driver(json!({
        "spawn_script": ["ok", "fail second build"],
        "destroy_script": ["ok", "fail second destruction"],
        "power_script": ["ok", "ok", "fail third"],
    }));
    for _ in 0..3 {
        fake.spawn(&spec(1)).await.unwrap();
        fake.power_on(uuid(1)).await.unwrap();
    }
    for _ in 0..3 {
        fake.power_off(uuid(1)).await.unwrap();
    }
    // Building an instance that is off starts it, which is what a build that goes on after a restart needs. It is work.
    let error = fake.spawn(&spec(1)).await.unwrap_err();
    assert!(chain(&error).ends_with(": second build"), "{}", chain(&error));
    assert_eq!(states(&fake).await, [(1, "SHUTDOWN")], "a start that fails does not remove the guest");
    fake.spawn(&spec(1)).await.unwrap();
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
    for _ in 0..3 {
        fake.destroy(uuid(1)).await.unwrap();
    }
    fake.destroy(uuid(7)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_leaves_nothing_and_can_be_tried_elsewhere() {
    let fake =
        driver(json!({"spawn_script": ["fail no space left on /var", "reject the image is encrypted"]}));
    let error = fake.spawn(&spec(1)).await.unwrap_err();
    assert_eq!(
        chain(&error),
        "cannot build instance 00000000-0000-0000-0000-000000000001: no space left on /var"
    );
    assert_eq!((error.attempt(), error.is_final()), (Attempt::Spawn(uuid(1)), false));
    assert_eq!(states(&fake).await, []);

    let error = fake.spawn(&spec(1)).await.unwrap_err();
    assert!(matches!(&error, InstanceError::Rejected { reason, .. } if reason == "the image is encrypted"));
    assert!(error.is_final() && chain(&error).ends_with(": the image is encrypted"), "{}", chain(&error));
    assert_eq!(states(&fake).await, []);
    fake.spawn(&spec(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_exist_is_refused_for_good() {
    let fake = driver(json!({"images": ["debian-13", "alpine"], "spawn_script": ["fail not reached"]}));
    let error = fake.spawn(&spec(1)).await.unwrap_err();
    assert!(error.is_final());
    assert!(
        chain(&error)
            .ends_with(r#"there is no image "cirros"; use one of the images that exist: debian-13, alpine"#),
        "{}",
        chain(&error)
    );
    assert_eq!(states(&fake).await, []);
    let without_image = InstanceSpec { image: None, ..spec(1) };
    assert!(
        chain(&fake.spawn(&without_image).await.unwrap_err()).ends_with("not reached"),
        "it took the step"
    );
    fake.spawn(&InstanceSpec { image: Some("alpine".into()), ..spec(1) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_uuid_with_other_sizes_is_not_taken_for_the_same_instance() {
    let fake = driver(json!({}));
    fake.spawn(&spec(1)).await.unwrap();
    let error = fake.spawn(&InstanceSpec { vcpus: 3, ..spec(1) }).await.unwrap_err();
    assert!(
        chain(&error)
            .contains("already has an instance of this uuid with 2 vCPUs, 2048 MiB of memory and 20 GiB"),
        "{}",
        chain(&error)
    );
    assert!(!error.is_final(), "another host has no such guest");
}

#[tokio::test(start_paused = true)]
async fn a_build_takes_the_steady_delay_and_then_its_step() {
    let fake = driver(json!({"spawn_delay_ms": 2_000, "spawn_script": ["delay 500", "fail late"]}));
    for (number, took_ms, built) in [(1, 2_500, true), (2, 2_000, false), (3, 2_000, true)] {
        let begun = Instant::now();
        assert_eq!(fake.spawn(&spec(number)).await.is_ok(), built);
        assert_eq!(begun.elapsed(), Duration::from_millis(took_ms));
    }
    let begun = Instant::now();
    fake.spawn(&spec(1)).await.unwrap();
    fake.destroy(uuid(1)).await.unwrap();
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "only builds are slow, and only if there is something to build"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_hang_until_they_are_released() {
    let fake =
        driver(json!({"spawn_script": ["hang"], "destroy_script": ["hang"], "power_script": ["hang"]}));
    let release_after_a_minute = async || {
        tokio::time::sleep(Duration::from_secs(60)).await;
        fake.release();
    };
    fake.release();
    let begun = Instant::now();
    let instance = spec(1);
    let (spawned, ()) = tokio::join!(fake.spawn(&instance), release_after_a_minute());
    spawned.unwrap();
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
    let (stopped, ()) = tokio::join!(fake.power_off(uuid(1)), release_after_a_minute());
    stopped.unwrap();
    assert_eq!(states(&fake).await, [(1, "SHUTDOWN")]);
    let (destroyed, ()) = tokio::join!(fake.destroy(uuid(1)), release_after_a_minute());
    destroyed.unwrap();
    assert_eq!(states(&fake).await, []);
    assert_eq!(begun.elapsed(), Duration::from_secs(180));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_build_leaves_half_a_guest_that_can_be_completed_or_destroyed() {
    let fake = driver(json!({"spawn_script": ["hang", "hang", "ok"]}));
    drop_while_it_hangs(fake.spawn(&spec(1))).await;
    drop_while_it_hangs(fake.spawn(&spec(2))).await;
    fake.release();
    assert_eq!(states(&fake).await, [(1, "NOSTATE"), (2, "NOSTATE")]);
    let error = fake.power_on(uuid(1)).await.unwrap_err();
    assert!(
        chain(&error).ends_with("its build has not ended; build or destroy it first"),
        "{}",
        chain(&error)
    );

    let fake = restarted(fake);
    assert_eq!(states(&fake).await, [(1, "NOSTATE"), (2, "NOSTATE")], "the machine still has both");
    fake.spawn(&spec(1)).await.unwrap();
    fake.destroy(uuid(2)).await.unwrap();
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_destruction_or_stop_can_be_repeated() {
    let fake = driver(json!({"destroy_script": ["hang"], "power_script": ["hang"]}));
    fake.spawn(&spec(1)).await.unwrap();
    drop_while_it_hangs(fake.power_off(uuid(1))).await;
    drop_while_it_hangs(fake.destroy(uuid(1))).await;
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
    fake.power_off(uuid(1)).await.unwrap();
    fake.destroy(uuid(1)).await.unwrap();
    assert_eq!(states(&fake).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_instance_can_be_destroyed_while_it_is_built_or_stopped() {
    let fake = driver(json!({"spawn_script": ["hang", "delay 1000"], "power_script": ["hang"]}));
    let destroy = async || {
        fake.destroy(uuid(1)).await.unwrap();
        fake.release();
    };
    let instance = spec(1);
    let (built, ()) = tokio::join!(fake.spawn(&instance), destroy());
    let error = built.unwrap_err();
    assert!(matches!(error, InstanceError::Destroyed { .. }) && error.is_final(), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot build instance 00000000-0000-0000-0000-000000000001: it was destroyed meanwhile"
    );
    assert_eq!(states(&fake).await, [], "a build that ends late brings nothing back");

    fake.spawn(&instance).await.unwrap();
    let (stopped, ()) = tokio::join!(fake.power_off(uuid(1)), destroy());
    assert!(matches!(stopped, Err(InstanceError::Destroyed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_destruction_or_stop_that_fails_changes_nothing() {
    let fake = driver(json!({"destroy_script": ["fail disk is busy"], "power_script": ["fail no answer"]}));
    fake.spawn(&spec(1)).await.unwrap();
    let of_instance = "instance 00000000-0000-0000-0000-000000000001";
    let error = fake.power_off(uuid(1)).await.unwrap_err();
    assert_eq!(chain(&error), format!("cannot stop {of_instance}: no answer"));
    let error = fake.destroy(uuid(1)).await.unwrap_err();
    assert_eq!(chain(&error), format!("cannot destroy {of_instance}: disk is busy"));
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
    fake.destroy(uuid(1)).await.unwrap();
    for (result, verb) in [(fake.power_on(uuid(1)).await, "start"), (fake.power_off(uuid(1)).await, "stop")] {
        let text = result.unwrap_err().to_string();
        assert_eq!(text, format!("cannot {verb} {of_instance}: this host has no such instance"));
    }
}

#[tokio::test(start_paused = true)]
async fn guests_and_scripts_outlive_the_driver() {
    let config = json!({"spawn_script": ["ok", "fail once"], "script": ["ok", "fail smoke"]});
    let fake = driver(config.clone());
    fake.spawn(&spec(1)).await.unwrap();
    fake.get_host_stats(true).await.unwrap();
    tokio::time::advance(Duration::from_secs(30)).await;

    let fake = restarted(fake);
    assert_eq!(states(&fake).await, [(1, "RUNNING")]);
    assert!(fake.get_host_stats(true).await.is_err(), "the second step of the readings");
    assert_eq!(
        fake.get_host_stats(true).await.unwrap().uptime_s.value,
        Some(30),
        "the machine was not started again"
    );
    assert!(fake.spawn(&spec(2)).await.is_err(), "the second step of the builds");
    fake.spawn(&spec(2)).await.unwrap();

    assert_eq!(states(&driver(config)).await, [], "another driver has a machine of its own");
}

#[tokio::test(start_paused = true)]
async fn a_host_shows_what_its_guests_have() {
    let fake = driver(json!({"disk_gb": 50, "spawn_script": ["ok", "ok", "hang"]}));
    let shown = async || {
        let stats = fake.get_host_stats(true).await.unwrap();
        let disk = (stats.disk_used_gb.value, stats.disk_available_gb.value);
        (stats.vcpus_used.value, stats.memory_available_mb.value, disk)
    };
    assert_eq!(shown().await, (0, Some(16_384), (0, 50)));
    fake.spawn(&spec(1)).await.unwrap();
    fake.spawn(&spec(2)).await.unwrap();
    assert_eq!(shown().await, (4, Some(12_288), (40, 10)));
    fake.power_off(uuid(1)).await.unwrap();
    assert_eq!(shown().await, (2, Some(14_336), (40, 10)), "a guest that is off keeps its disk only");
    let huge = InstanceSpec { vcpus: u32::MAX, memory_mb: u64::MAX, disk_gb: u64::MAX, ..spec(3) };
    drop_while_it_hangs(fake.spawn(&huge)).await;
    assert_eq!(shown().await, (u32::MAX, Some(0), (50, 0)), "half a guest counts, and nothing overflows");
    for number in 1..=3 {
        fake.destroy(uuid(number)).await.unwrap();
    }
    assert_eq!(shown().await, (0, Some(16_384), (0, 50)));
}

/// Which of 1,000 builds fail on the host of this name.
async fn failures(host: &str, seed: u64) -> Vec<u128> {
    let config = FakeConfig {
        spawn_failure_percent: 20,
        seed,
        spawn_script: vec!["ok".parse().unwrap()],
        ..FakeConfig::default()
    };
    let fake = FakeDriver::new(host, Arc::new(config), DEFAULT_PROBE_DEADLINE).unwrap();
    fake.spawn(&spec(0)).await.expect("the script comes first");
    let mut failed = Vec::new();
    for number in 1..=1_000 {
        if let Err(error) = fake.spawn(&spec(number)).await {
            let text = chain(&error);
            assert!(text.ends_with("failed by chance, because fake.spawn_failure_percent is 20"), "{text}");
            failed.push(number);
        }
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn as_many_builds_fail_by_chance_as_configured_and_the_same_ones_each_time() {
    let failed = failures("cmp1", 7).await;
    assert!((150..=250).contains(&failed.len()), "{} of 1,000", failed.len());
    assert_eq!(failures("cmp1", 7).await, failed);
    assert_ne!(failures("cmp1", 8).await, failed, "another seed");
    assert_ne!(failures("cmp2", 7).await, failed, "a repeat on another host has another chance");
    let never = driver(json!({"spawn_failure_percent": 100}));
    assert!(never.spawn(&spec(1)).await.is_err());
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let refusal = |config: Value| {
        let config: FakeConfig = serde_json::from_value(config).unwrap();
        FakeHypervisor::new(Arc::new(config)).err().expect("refused").to_string()
    };
    assert_eq!(
        refusal(json!({"spawn_failure_percent": 101})),
        "compute driver fake: fake.spawn_failure_percent cannot be 101: set it from 0 to 100"
    );
    for script in ["script", "destroy_script", "power_script"] {
        assert_eq!(
            refusal(json!({script: ["ok", "reject bad image"]})),
            format!(
                "compute driver fake: fake.{script} cannot be reject bad image: write fail TEXT, because only a build can \
                 be rejected"
            )
        );
    }
    for (config, wanted) in [
        (
            json!({"spawn_script": ["explode"]}),
            r#""explode" is not a step of a fake driver: write ok, fail TEXT,"#,
        ),
        (json!({"spawn_script": ["reject"]}), r#""reject" is not a step"#),
        (json!({"spawn_delay_ms": -1}), "invalid value"),
        (json!({"spawn_scripts": []}), "unknown field `spawn_scripts`"),
    ] {
        let error = serde_json::from_value::<FakeConfig>(config).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn the_linux_driver_refuses_and_says_what_to_do_instead() {
    let linux = LinuxDriver::new(&DriverOptions::new("cmp1", inline()));
    let abilities = linux.abilities();
    assert!(!abilities.lists_instances);
    let advice = "the linux driver only reads this host; start and stop the workload yourself, hold its room with \
                  `novella place --claim`, and give the room back with `novella release`";
    assert_eq!(abilities.cannot_build.expect("it cannot").to_string(), advice);

    let of_instance = "instance 00000000-0000-0000-0000-000000000001";
    for (result, verb) in [
        (linux.spawn(&spec(1)).await, "build"),
        (linux.destroy(uuid(1)).await, "destroy"),
        (linux.power_on(uuid(1)).await, "start"),
        (linux.power_off(uuid(1)).await, "stop"),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, InstanceError::Unsupported { .. }));
        assert_eq!(chain(&error), format!("cannot {verb} {of_instance}: {advice}"));
        assert!(!error.is_final(), "a host with another driver can build it");
    }
    assert_eq!(
        linux.list_instances().await.unwrap_err().to_string(),
        "cannot list the instances: the linux driver does not know which instances its host has"
    );
}
