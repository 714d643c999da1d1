//! The hardware that an agent offers (CPU sets, pages, networks, devices), and what its monitor measures.

use novella_compute_agent::StartError;
use novella_service::MemoryStore;
use serde_json::{Value, json};

use crate::bus::{Bus, HOST, fake_of, s, settings};

/// A host with two nodes of two cores with two threads each, huge pages, a network card with virtual functions, and two
/// other cards.
fn server() -> Value {
    json!({
        "vcpus": 8, "memory_mb": 8192, "numa_nodes": 2, "threads": 2,
        "huge_pages": [{"size_kb": 2048, "total": 512}],
        "pci_devices": [
            {"vendor_id": "8086", "product_id": "1572", "dev_type": "type-PF", "numa_node": 1},
            {"vendor_id": "8086", "product_id": "154c", "dev_type": "type-VF", "numa_node": 1, "count": 3},
            {"vendor_id": "10de", "product_id": "1eb8", "numa_node": 0, "count": 2},
            {"vendor_id": "1af4", "product_id": "1000"},
        ],
    })
}

/// The first report of an agent with these settings on this host.
async fn report(config: Value, host: Value) -> (Value, Value) {
    let bus = Bus::new().await;
    let agent = bus.start(HOST, settings(config), &MemoryStore::new(), fake_of(host)).await;
    agent.expect("the agent starts");
    let report = bus.take().remove(0);
    (report.capabilities.clone(), report.novella().clone())
}

/// What this host cannot offer although the settings say so, one line each.
async fn refusals(config: Value, host: Value) -> Vec<String> {
    let bus = Bus::new().await;
    let started = bus.start(HOST, settings(config), &MemoryStore::new(), fake_of(host)).await;
    let Err(StartError::Offer(invalid)) = started else { panic!("the agent starts") };
    assert!(bus.take().is_empty(), "nothing was reported");
    invalid.problems.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn with_no_set_every_cpu_is_for_both_kinds() {
    let (top, ours) = report(json!({}), server()).await;
    assert_eq!(top["vcpus"], 8);
    assert!(ours.get("resources").is_none(), "no PCPU without a dedicated set: {ours:#}");
    let cell = &ours["numa_topology"]["cells"][1];
    assert_eq!((&cell["id"], &cell["socket"], &cell["memory_mb"]), (&json!(1), &json!(1), &json!(4096)));
    assert_eq!((&cell["cpuset"], &cell["pcpuset"]), (&json!([4, 5, 6, 7]), &json!([4, 5, 6, 7])));
    assert_eq!(cell["siblings"], json!([[4, 5], [6, 7]]));
    let ordinary = json!({"size_kb": 4, "total": 3 << 18, "used": 0, "reserved": 0});
    let huge = json!({"size_kb": 2048, "total": 512, "used": 0, "reserved": 0});
    assert_eq!(cell["mempages"], json!([ordinary, huge]));
    assert_eq!((&cell["cpu_usage"], &cell["pinned_cpus"]), (&json!(0), &json!([])));
    assert!(cell.get("network_metadata").is_none());
    assert!(ours.get("pci_pools").is_none(), "no device without a device_spec");
}

#[tokio::test(start_paused = true)]
async fn sets_divide_the_cpus_into_vcpus_and_pcpus() {
    let sets = |shared, dedicated| {
        let config = json!({"compute": {"cpu_shared_set": shared, "cpu_dedicated_set": dedicated}});
        async move {
            let (top, ours) = report(config, server()).await;
            let cells = ours["numa_topology"]["cells"].as_array().expect("cells").clone();
            let of = |key: &str| cells.iter().map(|cell| cell[key].clone()).collect::<Vec<_>>();
            let pcpus = ours["resources"]["PCPU"].clone();
            (top["vcpus"].clone(), pcpus, of("cpuset"), of("pcpuset"), of("siblings"))
        }
    };
    let (vcpus, pcpus, shared, dedicated, siblings) = sets("0-1,4", "2-3,6-7").await;
    assert_eq!(vcpus, 3);
    assert_eq!(
        pcpus,
        json!({"total": 4, "reserved": 0, "min_unit": 1, "max_unit": 4, "step_size": 1, "allocation_ratio": 1.0})
    );
    assert_eq!(shared, [json!([0, 1]), json!([4])]);
    assert_eq!(dedicated, [json!([2, 3]), json!([6, 7])]);
    assert_eq!(siblings, [json!([[0, 1], [2, 3]]), json!([[4], [6, 7]])], "CPU 5 is offered to nobody");

    let (vcpus, pcpus, shared, dedicated, _) = sets("", "4-7").await;
    assert_eq!((vcpus, &pcpus["total"]), (json!(0), &json!(4)), "a dedicated set alone leaves none to share");
    assert_eq!((shared, dedicated), (vec![json!([]), json!([])], vec![json!([]), json!([4, 5, 6, 7])]));

    let (vcpus, pcpus, _, dedicated, _) = sets("0-5", "").await;
    assert_eq!((vcpus, pcpus), (json!(6), Value::Null));
    assert_eq!(dedicated, [json!([]), json!([])], "a shared set alone forbids pinning");
}

#[tokio::test(start_paused = true)]
async fn a_host_without_cells_can_divide_its_cpus_too() {
    let sets = json!({"compute": {"cpu_shared_set": "0-5", "cpu_dedicated_set": "6,7"}});
    let (top, ours) = report(sets, json!({})).await;
    assert_eq!((&top["vcpus"], &ours["resources"]["PCPU"]["total"]), (&json!(6), &json!(2)));
    assert!(ours.get("numa_topology").is_none());
}

#[tokio::test(start_paused = true)]
async fn pages_are_held_back_and_networks_are_near_cells() {
    let config = json!({
        "reserved": {"huge_pages": [{"node": 1, "size": "2M", "count": 64}]},
        "neutron": {"physnets": {"physnet0": [0], "physnet1": [0, 1]}, "tunnel_numa_nodes": [1]},
    });
    let (_, ours) = report(config, server()).await;
    let cells = &ours["numa_topology"]["cells"];
    assert_eq!(cells[0]["mempages"][1]["reserved"], 0);
    assert_eq!(cells[1]["mempages"][1], json!({"size_kb": 2048, "total": 512, "used": 0, "reserved": 64}));
    assert_eq!(
        cells[0]["network_metadata"],
        json!({"physnets": ["physnet0", "physnet1"], "tunneled": false})
    );
    assert_eq!(cells[1]["network_metadata"], json!({"physnets": ["physnet1"], "tunneled": true}));
}

#[tokio::test(start_paused = true)]
async fn devices_that_a_spec_means_are_pooled_by_kind_and_tags() {
    let config = json!({"pci": {"device_spec": [
        {"vendor_id": "8086", "product_id": "154c", "physical_network": "physnet0", "managed": true},
        {"vendor_id": "0x8086"},
        {"address": "*:*:00.4", "rack": "a"},
        {"vendor_id": "10DE", "product_id": "*", "rack": "b"},
    ]}});
    let (_, ours) = report(config, server()).await;
    let pool = |vendor: &str, product: &str, kind: &str, node: u32, count: u32, tags: Value| {
        let mut pool = json!({
            "vendor_id": vendor, "product_id": product, "dev_type": kind, "numa_node": node, "count": count,
        });
        pool.as_object_mut().unwrap().extend(tags.as_object().unwrap().clone());
        pool
    };
    let near = json!({"remote_managed": "false", "physical_network": "physnet0", "managed": "true"});
    assert_eq!(
        ours["pci_pools"],
        json!([
            pool("8086", "1572", "type-PF", 1, 1, json!({"remote_managed": "false"})),
            pool("8086", "154c", "type-VF", 1, 3, near),
            pool("10de", "1eb8", "type-PCI", 0, 1, json!({"rack": "a"})),
            pool("10de", "1eb8", "type-PCI", 0, 1, json!({"rack": "b"})),
        ]),
        "the first spec that matches counts, and the last device matches none"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_host_does_not_have_is_refused_at_start() {
    for (config, says) in [
        (json!({"compute": {"cpu_shared_set": "4-9"}}), "no CPU 8-9 online\n    fix: choose from 0-7"),
        (
            json!({"compute": {"cpu_dedicated_set": "64"}}),
            "compute.cpu_dedicated_set: this host has no CPU 64",
        ),
        (json!({"neutron": {"physnets": {"p": [2]}}}), "no NUMA node 2\n    fix: choose from: 0, 1"),
        (
            json!({"neutron": {"tunnel_numa_nodes": [7]}}),
            "neutron.tunnel_numa_nodes: this host has no NUMA node 7",
        ),
        (
            json!({"reserved": {"huge_pages": [{"node": 0, "size": "2M", "count": 513}]}}),
            "node 0 has 512 pages of 2048 KiB, fewer than the 513 reserved",
        ),
        (
            json!({"reserved": {"huge_pages": [{"node": 1, "size": "1G", "count": 1}]}}),
            "node 1 has 0 pages of 1048576 KiB",
        ),
    ] {
        let found = refusals(config.clone(), server()).await;
        assert!(found.len() == 1 && found[0].contains(says), "{config}: {found:?}");
    }
    let found = refusals(json!({"neutron": {"physnets": {"p": [0]}}}), json!({})).await;
    assert!(found[0].contains("remove it: this host reports no NUMA nodes"), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cpu_monitor_measures_between_readings() {
    let bus = Bus::new().await;
    let config = settings(json!({"compute_monitors": ["cpu.virt_driver"]}));
    let host = json!({"vcpus": 4, "cpu_percent": 30, "script": ["ok", "ok", "hang"]});
    let driver = fake_of(host);
    let _agent = bus.start(HOST, config, &MemoryStore::new(), driver).await.expect("the agent starts");
    bus.run_until(s(60)).await;
    let metrics: Vec<Vec<Value>> =
        bus.take().iter().map(|report| report.novella()["metrics"].as_array().unwrap().clone()).collect();
    let value = |at: usize, name: &str| {
        let metric = metrics[at].iter().find(|metric| metric["name"] == name);
        metric.unwrap_or_else(|| panic!("{name} in {:?}", metrics[at]))["value"].clone()
    };
    assert_eq!(metrics[0].len(), 10);
    assert_eq!(value(0, "cpu.frequency"), 2_000);
    // The first reading sees one second of four CPUs.
    assert_eq!(
        (value(0, "cpu.user.time"), value(0, "cpu.idle.time")),
        (json!(800_000_000), json!(2_800_000_000u64))
    );
    for at in [0, 1] {
        assert_eq!((value(at, "cpu.percent"), value(at, "cpu.idle.percent")), (json!(0.3), json!(0.7)));
        assert_eq!(
            (value(at, "cpu.user.percent"), value(at, "cpu.kernel.percent")),
            (json!(0.2), json!(0.1))
        );
        assert_eq!(value(at, "cpu.iowait.percent"), 0.0);
    }
    assert_eq!(
        (&metrics[0][0]["source"], &metrics[0][0]["timestamp"]),
        (&json!("fake"), &json!("2030-01-01T00:00:00.000Z"))
    );
    assert!(value(1, "cpu.idle.time").as_u64() > value(0, "cpu.idle.time").as_u64());
}

#[tokio::test(start_paused = true)]
async fn a_host_as_large_as_they_come_has_a_report_of_some_kilobytes() {
    let host = json!({
        "vcpus": 512, "memory_mb": 4_194_304, "numa_nodes": 8, "threads": 2,
        "huge_pages": [{"size_kb": 2048, "total": 100_000}, {"size_kb": 1_048_576, "total": 100}],
        "pci_devices": [{"vendor_id": "8086", "product_id": "154c", "dev_type": "type-VF", "count": 2_048}],
    });
    let config = json!({"pci": {"device_spec": [{"vendor_id": "8086"}]}});
    let (top, ours) = report(config, host).await;
    assert_eq!(ours["pci_pools"][0]["count"], 2_048);
    let size = top.to_string().len();
    assert!(size < 16 * 1024, "{size} bytes");
}
