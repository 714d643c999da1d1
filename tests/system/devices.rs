//! NUMA cells and PCI devices from reports: given by several schedulers until none is left, and given back.

use std::collections::BTreeSet;
use std::time::Duration;

use novella_messaging::CallOptions;
use novella_objects::document::PciRequest;
use novella_objects::{
    Change, Decision, Explain, Fix, HostDetail, Image, Part, Quantity, SelectDestinations,
};
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{CALL, Cluster, flavor, refusal, settle};

/// A host of two cells with four dedicated CPUs each, and three devices; `claims` as given.
async fn report(cluster: &Cluster, number: u128, seq: u64, claims: serde_json::Value) {
    let cell = |id: u32| {
        json!({"id": id, "pcpuset": (4 * id..4 * id + 4).collect::<Vec<_>>(), "memory_mb": 8192,
            "siblings": [[4 * id, 4 * id + 1], [4 * id + 2, 4 * id + 3]],
            "mempages": [{"size_kb": 4, "total": 2_097_152}]})
    };
    let report = json!({"vcpus": 8, "host_memory_total": 16_384, "disk_total": 200, "novella": {
        "uuid": uuid::Uuid::from_u128(number), "incarnation": 1, "nonce": 1, "seq": seq, "sent_at": "",
        "interval_ms": 10_000, "claims": claims, "numa_topology": {"cells": [cell(0), cell(1)]},
        "pci_pools": [{"vendor_id": "8086", "product_id": "1572", "dev_type": "type-VF", "count": 3}]}});
    cluster.report("compute", &format!("host-{number}"), &report.to_string()).await.unwrap();
    settle().await;
}

/// Two hosts and two schedulers that ask about cells and devices.
async fn pair(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    let enabled = &mut cluster.scheduler_config.filter_scheduler.enabled_filters;
    enabled.extend(["NUMATopologyFilter", "PciPassthroughFilter"].map(str::to_owned));
    for scheduler in ["s1", "s2"] {
        cluster.start_scheduler(scheduler).await;
    }
    for number in 1..=2 {
        report(&cluster, number, 1, json!([])).await;
    }
    for scheduler in ["s1", "s2"] {
        cluster.ready(scheduler).await;
    }
    cluster
}

fn pinned(cluster: &Cluster, vcpus: u32) -> SelectDestinations {
    let mut asked = cluster.request(1, flavor(vcpus, 1024, 1));
    asked.request_spec.spec.flavor.extra_specs.insert("hw:cpu_policy".into(), "dedicated".into());
    asked.request_spec.spec.image = Some(Image::default());
    asked
}

fn with_devices(cluster: &Cluster, count: u32) -> SelectDestinations {
    let mut asked = cluster.request(1, flavor(1, 256, 1));
    let kind = [("vendor_id".to_owned(), "8086".into()), ("product_id".to_owned(), "1572".into())];
    let spec = vec![kind.into_iter().collect()];
    asked.request_spec.spec.pci_requests = vec![PciRequest { count, spec, ..PciRequest::default() }];
    asked
}

async fn shown(cluster: &Cluster, scheduler: &str, host: &str) -> HostDetail {
    let api = cluster.api.of(scheduler);
    api.show_host(host, CallOptions::new(CALL)).await.unwrap().expect("the host is known")
}

/// Which CPUs are taken on a host, how many devices are free, as both schedulers have it.
async fn taken(cluster: &Cluster, host: &str) -> (BTreeSet<u32>, u32) {
    let mut seen = Vec::new();
    for scheduler in ["s1", "s2"] {
        let detail = shown(cluster, scheduler, host).await;
        let cells = detail.numa_topology.expect("it reports cells").cells;
        let pinned: BTreeSet<u32> = cells.iter().flat_map(|cell| cell.pinned_cpus.iter().copied()).collect();
        seen.push((pinned, detail.pci_pools.iter().map(|pool| pool.free).sum()));
    }
    assert_eq!(seen[0], seen[1], "the schedulers differ about {host}");
    seen.remove(0)
}

fn refused_by(decision: &Decision) -> Vec<&str> {
    let filters = decision.explanation.filters.iter();
    filters.filter(|filter| filter.hosts_out < filter.hosts_in).map(|filter| &*filter.filter).collect()
}

#[tokio::test(start_paused = true)]
async fn no_cpu_and_no_device_is_given_twice_by_two_schedulers() {
    let cluster = pair(70).await;
    let mut decisions = Vec::new();
    for at in 0..8 {
        let api = cluster.api.of(["s1", "s2"][at % 2]);
        let decision = cluster.select(&api, &pinned(&cluster, 2)).await;
        assert_eq!(decision.refusal, None, "instance {at}");
        settle().await;
        decisions.push(decision);
    }
    for host in ["host-1", "host-2"] {
        assert_eq!(taken(&cluster, host).await, ((0..8).collect(), 3));
    }
    for scheduler in ["s1", "s2"] {
        let full = cluster.select(&cluster.api.of(scheduler), &pinned(&cluster, 2)).await;
        assert!(refusal(&full).starts_with("No valid host"), "{full:?}");
        assert_eq!(refused_by(&full), ["NUMATopologyFilter"], "{scheduler}");
    }
    for at in 0..2 {
        let api = cluster.api.of(["s1", "s2"][at]);
        assert_eq!(cluster.select(&api, &with_devices(&cluster, 2)).await.refusal, None);
        settle().await;
    }
    let full = cluster.select(&cluster.api, &with_devices(&cluster, 2)).await;
    assert_eq!(refused_by(&full), ["PciPassthroughFilter"]);

    // What one decided the other lets go; both have two CPUs more.
    let gone = &decisions[3];
    assert_eq!(cluster.release(&cluster.api.of("s1"), &gone.decision_id).await, 1);
    settle().await;
    let host = &gone.selections[0].host;
    assert_eq!(taken(&cluster, host).await.0.len(), 6);
    let again = cluster.select(&cluster.api.of("s1"), &pinned(&cluster, 2)).await;
    assert_eq!(&again.selections[0].host, host);

    sleep(Duration::from_secs(35)).await;
    for host in ["host-1", "host-2"] {
        assert_eq!(taken(&cluster, host).await, (BTreeSet::new(), 3), "nothing was confirmed");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_in_a_report_takes_the_place_of_the_reservation() {
    let cluster = pair(71).await;
    let mut asked = pinned(&cluster, 4);
    asked.request_spec.spec.force_hosts = vec!["host-1".into()];
    let decision = cluster.select(&cluster.api.of("s1"), &asked).await;
    settle().await;
    let (cpus, _) = taken(&cluster, "host-1").await;
    assert_eq!(cpus.len(), 4);
    let cell = cpus.first().unwrap() / 4;
    let claim = json!([{"uuid": decision.selections[0].instance_uuid, "vcpus": 4, "memory_mb": 1024, "disk_gb": 1,
        "numa_topology": [{"id": cell, "pinned_cpus": cpus, "memory_mb": 1024, "pagesize_kb": 4}],
        "pci": [{"vendor_id": "8086", "product_id": "1572", "dev_type": "type-VF", "count": 1}]}]);
    report(&cluster, 1, 2, claim).await;
    sleep(Duration::from_secs(35)).await;
    assert_eq!(taken(&cluster, "host-1").await, (cpus, 2), "a claim outlives the hold");
    let detail = shown(&cluster, "s2", "host-1").await;
    let cells = detail.numa_topology.unwrap().cells;
    assert_eq!(cells[cell as usize].mempages[0].used, 262_144);
    report(&cluster, 1, 3, json!([])).await;
    assert_eq!(taken(&cluster, "host-1").await, (BTreeSet::new(), 3));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_pages_cpus_or_devices_says_what_is_short_and_what_would_help() {
    let mut cluster = Cluster::new(74);
    cluster.set_policy(
        "[filter_scheduler]\nenabled_filters = [\"ComputeFilter\", \"RamFilter\", \"CoreFilter\", \
         \"NUMATopologyFilter\", \"PciPassthroughFilter\"]\n[pci]\n\
         alias = [{ name = \"gpu\", vendor_id = \"10de\", product_id = \"1eb8\" }]\n",
    );
    cluster.start_scheduler("s1").await;
    let cell = |id: u32| {
        json!({"id": id, "pcpuset": (4 * id..4 * id + 4).collect::<Vec<_>>(), "memory_mb": 8192,
            "cpuset": (4 * id..4 * id + 4).collect::<Vec<_>>(),
            "siblings": (4 * id..4 * id + 4).map(|cpu| [cpu]).collect::<Vec<_>>(),
            "mempages": [{"size_kb": 4, "total": 1_048_576}, {"size_kb": 1_048_576, "total": 4}]})
    };
    let report = json!({"vcpus": 8, "host_memory_total": 16_384, "disk_total": 200, "novella": {
        "uuid": uuid::Uuid::from_u128(1), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "",
        "interval_ms": 10_000, "numa_topology": {"cells": [cell(0), cell(1)]},
        "pci_pools": [{"vendor_id": "10de", "product_id": "1eb8", "dev_type": "type-PCI", "count": 1}]}});
    cluster.report("compute", "host-1", &report.to_string()).await.unwrap();
    cluster.ready("s1").await;

    let drop = |part: Part| Change::Drop { part };
    let ask = |amount, from, to| Change::Ask { amount, from, to };
    let alias = "pci_passthrough:alias";
    for (vcpus, memory_mb, specs, forced, expected, reason) in [
        (
            1,
            512,
            &[(alias, "gpu:2")][..],
            None,
            drop(Part::ExtraSpec(alias.to_owned())),
            "its free PCI devices are [1 of 10de:1eb8]",
        ),
        (
            1,
            5120,
            &[("hw:mem_page_size", "1GB")],
            None,
            ask(Quantity::MemoryMb, 5120, 4096),
            "short of free pages of 1 GiB: asked 5 in one NUMA cell; each of its 2 NUMA cells has 4 of 4 free",
        ),
        (
            5,
            512,
            &[("hw:numa_nodes", "1"), ("hw:cpu_policy", "dedicated")],
            None,
            ask(Quantity::Vcpus, 5, 4),
            "short of CPUs free to be pinned: asked 5 in one NUMA cell; each of its 2 NUMA cells has 4 of 4 free",
        ),
        (1, 512, &[], Some("nobody"), drop(Part::TargetHost("nobody".to_owned())), ""),
    ] {
        let mut request_spec = cluster.request(1, flavor(vcpus, memory_mb, 1)).request_spec;
        let spec = &mut request_spec.spec;
        spec.image = Some(Image::default());
        spec.flavor.extra_specs =
            specs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        spec.force_hosts = forced.map(str::to_owned).into_iter().collect();
        let question = Explain { request_spec: Some(request_spec), fix: true, ..Explain::default() };
        let explained = cluster.api.explain(&question, CallOptions::new(CALL)).await.unwrap().unwrap();
        let fixes = explained.fixes.expect("asked for");
        let found = |fix: &Fix| fix.changes == [expected.clone()] && fix.host == "host-1";
        assert!(fixes.fixes.iter().any(found), "{expected:?} is not in {fixes:#?}");
        let near = explained.near.first();
        let told = near.and_then(|near| near.refused[0].reason.as_deref()).unwrap_or_default();
        assert!(told.starts_with(reason), "{told}");
    }
}
