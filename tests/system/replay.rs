//! A production question elsewhere: the map of a running scheduler as a document, and the same decision from it.

use std::time::Duration;

use novella_fleet_documents::{EvaluationOptions, Evaluator, host_table};
use novella_messaging::{CallOptions, MAX_BODY_BYTES};
use novella_objects::document::{Fleet, Host, Request};
use novella_rpcapi::{ReportSink, SchedulerEndpoint, SnapshotQuery};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cluster::{CALL, Cluster, Size, flavor};

#[tokio::test(start_paused = true)]
async fn the_same_host_and_weights_from_a_snapshot() {
    let mut cluster = Cluster::new(11);
    for (number, memory_mb) in [8_192, 16_384, 12_288, 16_384, 10_240, 14_000].into_iter().enumerate() {
        let size = Size { vcpus: 8 + number as u32, memory_mb, disk_gb: 200 - 7 * number as u64 };
        cluster.start_host(&format!("host-{number}"), size).await;
    }
    cluster.serve("s1").await;
    // Amounts that only the scheduler knows of count, as do hosts that it no longer places on.
    assert_eq!(cluster.place(7, flavor(2, 1500, 13)).await.selections.len(), 7);
    cluster.crash_host("host-1").await;
    sleep(Duration::from_secs(90)).await;
    assert_eq!(cluster.place(4, flavor(1, 700, 3)).await.selections.len(), 4);

    let page = cluster.api.snapshot(CallOptions::new(CALL)).await.expect("the scheduler answers");
    let mut fleet: Fleet<'_> =
        serde_json::from_str(page.head.as_ref().expect("it begins").get()).expect("a good document");
    let hosts = page.hosts.iter().map(|host| serde_json::from_str(host.get()).expect("a good host"));
    fleet.hosts = hosts.collect();
    assert_eq!((fleet.origin.as_deref(), fleet.hosts.len()), (Some("s1"), 6));
    assert_eq!(
        fleet.hosts.iter().map(|host| host.instances.len()).sum::<usize>(),
        4,
        "the first seven ran out"
    );
    assert!(fleet.hosts.iter().any(|host| host.host == "host-1" && host.forced_down));

    let options =
        EvaluationOptions::read(fleet.options.as_ref().expect("they are in it")).expect("good options");
    let table =
        host_table(&fleet.aggregates, &fleet.hosts, options.service_down_time_s).expect("a good fleet");
    let mut evaluator = Evaluator::new(table, options, &Default::default()).expect("good options");
    for (vcpus, memory_mb, root_gb, specs) in [
        (1, 512, 1, json!({})),
        (3, 3000, 20, json!({"capabilities:hypervisor_type": "fake"})),
        (2, 9_000, 20, json!({"capabilities:cpu_info:arch": "s== x86_64", "vcpus": ">= 9"})),
    ] {
        let asked: Request = serde_json::from_value(json!({
            "vcpus": vcpus, "memory_mb": memory_mb, "root_gb": root_gb, "extra_specs": specs,
        }))
        .expect("a good request");
        let offline = evaluator.outcome(0, &asked).expect("a good request");

        let mut request = cluster.request(1, flavor(vcpus, memory_mb, root_gb));
        request.request_spec.spec.flavor.extra_specs = asked.extra_specs.clone();
        request.dry_run = true;
        let decision = cluster.select(&cluster.api, &request).await;
        let name = |host: u32| &*fleet.hosts[host as usize].host;
        assert_eq!(offline.picks.len(), 1, "{asked:?}: {offline:?}");
        assert_eq!(name(offline.picks[0]), decision.selections[0].host, "{asked:?}");
        let ranking = &decision.explanation.ranking;
        let ranked = ranking.iter().map(|host| (host.host.as_str(), host.weight.to_bits()));
        let evaluated = offline.weights.iter().map(|(host, weight)| (name(*host), weight.to_bits()));
        assert!(ranked.eq(evaluated.take(ranking.len())), "{asked:?}: {ranking:?}, {offline:?}");
        let passed = decision.explanation.filters.last().expect("filters ran").hosts_out;
        assert_eq!(passed as usize, offline.weights.len());
    }
    cluster.stop().await;
}

/// More than one message holds, by far: hosts with 20 instances each.
#[tokio::test(start_paused = true)]
async fn a_fleet_of_any_size_is_told_page_by_page() {
    const HOSTS: usize = 8_000;
    let mut cluster = Cluster::new(12);
    cluster.serve("s1").await;
    let manager = cluster.scheduler("s1").manager();
    for host in 0..HOSTS as u128 {
        let claims: Vec<_> = (0..20)
            .map(|claim| {
                json!({"uuid": Uuid::from_u128(host << 8 | claim), "vcpus": 1, "memory_mb": 512, "disk_gb": 1,
                "flavor": "m1.small", "group": format!("group-{}", claim % 4)})
            })
            .collect();
        let report = json!({"service_name": "compute", "host": format!("host-{host:05}"), "capabilities": {
            "vcpus": 64, "host_memory_total": 262_144, "disk_total": 4000, "hypervisor_type": "QEMU", "novella": {
            "uuid": Uuid::from_u128(1 << 100 | host), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "",
            "interval_ms": 10_000, "claims": claims, "traits": ["HW_CPU_X86_AVX2", "CUSTOM_GOLD"],
            "facts": {"rack": host / 40, "power": "a"}}}})
        .to_string();
        let report: novella_objects::UpdateServiceCapabilities<'_> =
            serde_json::from_str(&report).expect("a good report");
        manager.apply_reports(&[report.into()]);
    }
    let mut pages = 0;
    let (mut query, mut hosts, mut bytes) = (SnapshotQuery::default(), Vec::new(), 0);
    loop {
        let page = manager.snapshot(query).await.expect("the scheduler answers");
        assert_eq!(page.head.is_some(), pages == 0);
        pages += 1;
        bytes += page.hosts.iter().map(|host| host.get().len()).sum::<usize>();
        hosts.extend(page.hosts.iter().map(|host| {
            let host: Host<'_> = serde_json::from_str(host.get()).expect("a good host");
            assert_eq!(host.instances.len(), 20);
            host.host.into_owned()
        }));
        // What happens between two pages belongs to the next snapshot.
        cluster.report("compute", &format!("late-{pages}"), "{}").await.expect("the bus takes it");
        let Some(cursor) = page.next else { break };
        query = SnapshotQuery { cursor: Some(cursor) };
    }
    hosts.dedup();
    assert_eq!(hosts.len(), HOSTS);
    assert!(bytes > MAX_BODY_BYTES && pages > 4, "{pages} pages, {bytes} bytes");

    // By the bus as an operator has it; and a copy that nobody asks for is gone.
    let whole = cluster.api.snapshot(CallOptions::new(CALL)).await.expect("the scheduler answers");
    assert_eq!((whole.hosts.len(), whole.next), (HOSTS + pages, None));
    let first = manager.snapshot(SnapshotQuery::default()).await.expect("the scheduler answers");
    sleep(Duration::from_secs(70)).await;
    let late = manager.snapshot(SnapshotQuery { cursor: first.next }).await;
    assert!(format!("{late:?}").contains("start a new one"), "{late:?}");
}
