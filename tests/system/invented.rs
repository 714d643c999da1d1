//! Hosts that somebody with the password of an agent invents.

use std::time::Duration;

use novella_objects::{Capabilities, HostStatus, HostWarning};

use crate::cluster::{CALL, Cluster, SIZE, flavor};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn invented_hosts_are_placed_on_last_and_cannot_fill_the_map() {
    let mut cluster = Cluster::new(90);
    cluster.scheduler_config.reports.max_hosts = 30;
    cluster.scheduler_config.reports.new_hosts_per_minute = 20;
    cluster.start_hosts(2).await;
    cluster.serve("s1").await;
    tokio::time::sleep(60 * SECOND).await;

    let thief = cluster.as_user("thief");
    let huge = r#"{"vcpus": 1000, "host_memory_total": 8388608, "host_memory_free": 8388608, "disk_total": 1000000,
        "disk_available": 1000000}"#;
    let huge: Capabilities<'_> = serde_json::from_str(huge).unwrap();
    for host in 0..100 {
        thief.update_service_capabilities("compute", &format!("fake-{host:02}"), &huge, CALL).await.unwrap();
    }
    tokio::time::sleep(2 * SECOND).await;
    let view = cluster.view("s1").await;
    assert_eq!(view.len(), 2 + 20, "a user has an allowance");
    let fake = &view["fake-03"];
    assert_eq!((fake.state, &fake.warnings), (HostStatus::Suspect, &vec![HostWarning::NoAnswer]));
    assert_eq!(cluster.metric("s1", r#"novella_scheduler_reports_total{outcome="too_many_new"}"#), 80);
    for _ in 0..4 {
        let placed = cluster.place(1, flavor(1, 512, 1)).await;
        assert!(placed.selections[0].host.starts_with("host-"), "{placed:?}");
    }
    assert!(cluster.scheduler("s1").health().ready().ok);

    // A real host is known at once, also when the map is full of invented ones.
    for minute in 0..2 {
        tokio::time::sleep(30 * SECOND).await;
        for host in 0..100 {
            let host = format!("fake-{minute}{host:02}");
            thief.update_service_capabilities("compute", &host, &huge, CALL).await.unwrap();
        }
    }
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(cluster.view("s1").await.len(), 30);
    cluster.start_host("host-3", SIZE).await;
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(cluster.state("s1", "host-3").await, Some(HostStatus::Up));
    for host in ["host-1", "host-2"] {
        assert_eq!(cluster.state("s1", host).await, Some(HostStatus::Up));
    }
    cluster.stop().await;
}
