//! A production question elsewhere: the map of a running scheduler as a document, and the same decision from it.

use std::time::Duration;

use novella_filter_scheduler::document::{EvaluationOptions, Evaluator, host_table};
use novella_messaging::CallOptions;
use novella_objects::document::{Fleet, Request};
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{CALL, Cluster, Size, flavor};

#[tokio::test(start_paused = true)]
async fn the_same_host_and_weights_from_a_snapshot() {
    let mut cluster = Cluster::new(11);
    for (number, memory_mb) in [8_192, 16_384, 12_288, 16_384, 10_240, 14_000].into_iter().enumerate() {
        let size = Size { vcpus: 8 + number as u32, memory_mb, disk_gb: 200 - 7 * number as u64 };
        cluster.start_host(&format!("host-{number}"), size).await;
    }
    cluster.start_scheduler("s1").await;
    cluster.ready("s1").await;
    // Amounts that only the scheduler knows of count, as do hosts that it no longer places on.
    assert_eq!(cluster.place(7, flavor(2, 1500, 13)).await.selections.len(), 7);
    cluster.crash_host("host-1").await;
    sleep(Duration::from_secs(90)).await;
    assert_eq!(cluster.place(4, flavor(1, 700, 3)).await.selections.len(), 4);

    let text = cluster.api.snapshot(CallOptions::new(CALL)).await.expect("the scheduler answers");
    let fleet: Fleet<'_> = serde_json::from_str(text.get()).expect("a good document");
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
        request.request_spec.flavor.extra_specs = asked.extra_specs.clone();
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
