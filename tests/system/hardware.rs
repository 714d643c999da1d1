//! From an agent's settings to a placement: CPU sets, NUMA cells, PCI devices, metrics, address and guests as two agents
//! report them, and filters and weighers of a policy file that read them.

use novella_compute_agent::AgentConfig;
use novella_messaging::CallOptions;
use novella_objects::{Decision, HostDetail, HostSummary, Image, SelectDestinations};
use novella_service::config::Settings;
use novella_service::exit::chain;
use serde_json::{Value, json};

use crate::cluster::{CALL, Cluster, flavor, hosts, refusal, settle};

const POLICY: &str = r#"
[filter_scheduler]
enabled_filters = [
    "ComputeFilter", "RamFilter", "CoreFilter", "ImagePropertiesFilter", "SimpleCIDRAffinityFilter", "MetricsFilter",
    "NUMATopologyFilter", "PciPassthroughFilter",
]
weight_classes = ["MetricsWeigher", "PCIWeigher"]
pci_weight_multiplier = 0.001

[metrics]
weight_setting = ["cpu.percent=-1.0"]

[pci]
alias = [
    { name = "nic", vendor_id = "8086", product_id = "154C", device_type = "type-VF", numa_policy = "required" },
    { name = "gpu", vendor_id = "10de", product_id = "1eb8" },
]
"#;

/// A busy host with devices near its first cell, and an idle one without; two cells of two cores with two threads each.
/// Both leave CPUs 2-3 and 6-7 to instances that have them to themselves.
async fn pair(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    cluster.set_policy(POLICY);
    let functions = json!([{
        "vendor_id": "8086", "product_id": "154c", "dev_type": "type-VF", "numa_node": 0, "count": 3,
    }]);
    start(&mut cluster, "busy", "10.1.0.7", 80, functions).await;
    start(&mut cluster, "idle", "10.2.0.7", 10, json!([])).await;
    cluster.serve("s1").await;
    cluster
}

async fn start(cluster: &mut Cluster, name: &str, my_ip: &str, cpu_percent: u32, pci_devices: Value) {
    let config: AgentConfig = serde_json::from_value(json!({
        "my_ip": my_ip,
        "compute_monitors": ["cpu.virt_driver"],
        "driver": {"name": "fake", "fake": {
            "vcpus": 8, "numa_nodes": 2, "threads": 2, "cpu_percent": cpu_percent, "pci_devices": pci_devices,
            "huge_pages": [{"size_kb": 2048, "total": 1024}],
        }},
        "compute": {"cpu_shared_set": "0-1,4-5", "cpu_dedicated_set": "2-3,6-7"},
        "reserved": {"huge_pages": [{"node": 0, "size": "2M", "count": 1024}]},
        "pci": {"device_spec": [{"vendor_id": "8086", "physical_network": "physnet0"}]},
    }))
    .expect("settings of an agent");
    assert_eq!(config.validate(), []);
    cluster.start_configured(name, config).await;
}

/// One instance with these extra specs.
fn request(cluster: &Cluster, vcpus: u32, extra_specs: &[(&str, &str)]) -> SelectDestinations {
    let mut asked = cluster.request(1, flavor(vcpus, 512, 1));
    let specs = extra_specs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    asked.request_spec.spec.flavor.extra_specs = specs.collect();
    asked.request_spec.spec.image = Some(Image::default());
    asked
}

async fn select(cluster: &Cluster, asked: &SelectDestinations) -> Decision {
    let decision = cluster.select(&cluster.api, asked).await;
    settle().await;
    decision
}

/// Where it goes.
async fn place(cluster: &Cluster, asked: SelectDestinations) -> String {
    let decision = select(cluster, &asked).await;
    assert_eq!(decision.refusal, None, "{asked:?}");
    hosts(&decision)[0].to_owned()
}

/// The filter that refused the last host.
async fn refused_by(cluster: &Cluster, asked: SelectDestinations) -> String {
    let decision = select(cluster, &asked).await;
    assert!(refusal(&decision).starts_with("No valid host"), "{decision:?}");
    let last = decision.explanation.filters.iter().find(|filter| filter.hosts_out == 0);
    last.unwrap_or_else(|| panic!("no filter refused: {decision:?}")).filter.to_string()
}

async fn shown(cluster: &Cluster, host: &str) -> HostDetail {
    cluster.api.show_host(host, CallOptions::new(CALL)).await.expect("an answer").expect("a known host")
}

async fn pinned_cpus(cluster: &Cluster, host: &str) -> Vec<u32> {
    let cells = shown(cluster, host).await.numa_topology.expect("it reports cells").cells;
    cells.iter().flat_map(|cell| cell.pinned_cpus.iter().copied()).collect()
}

#[tokio::test(start_paused = true)]
async fn dedicated_cpus_are_given_on_both_hosts_until_none_is_left() {
    let cluster = pair(80).await;
    let pinned = |vcpus| request(&cluster, vcpus, &[("hw:cpu_policy", "dedicated")]);
    let mut placed = Vec::new();
    for _ in 0..4 {
        placed.push(place(&cluster, pinned(2)).await);
    }
    assert_eq!(placed, ["idle", "idle", "busy", "busy"], "the metrics decide as long as both have room");
    for host in ["idle", "busy"] {
        assert_eq!(
            pinned_cpus(&cluster, host).await,
            [2, 3, 6, 7],
            "{host}: the dedicated set and no other CPU"
        );
    }
    assert_eq!(refused_by(&cluster, pinned(1)).await, "resources:PCPU=1");
    assert_eq!(place(&cluster, request(&cluster, 1, &[])).await, "idle", "shared CPUs are left");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_larger_than_a_cell_s_dedicated_cpus_needs_two_cells() {
    let cluster = pair(81).await;
    let wide =
        |more: &[(&str, &str)]| request(&cluster, 4, &[&[("hw:cpu_policy", "dedicated")], more].concat());
    assert_eq!(refused_by(&cluster, wide(&[])).await, "NUMATopologyFilter");
    assert_eq!(place(&cluster, wide(&[("hw:numa_nodes", "2")])).await, "idle");
    assert_eq!(pinned_cpus(&cluster, "idle").await, [2, 3, 6, 7]);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pcpus_are_an_inventory_of_their_own() {
    let cluster = pair(82).await;
    let detail = shown(&cluster, "idle").await;
    assert_eq!((detail.summary.vcpus, detail.summary.resources["PCPU"].total), (4, 4));
    let asked = || request(&cluster, 2, &[("resources:PCPU", "2")]);
    for host in ["idle", "idle", "busy", "busy"] {
        assert_eq!(place(&cluster, asked()).await, host);
    }
    let decision = select(&cluster, &asked()).await;
    assert!(refusal(&decision).starts_with("No valid host"), "{decision:?}");
    assert_eq!(shown(&cluster, "idle").await.summary.resources["PCPU"].used, 4);
    cluster.stop().await;
}

/// Eight CPUs each: all set apart, half of them, none. As many VCPUs are given out as there are.
async fn divided(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    for (name, compute) in [
        ("apart", json!({"cpu_dedicated_set": "0-7"})),
        ("both", json!({"cpu_shared_set": "0-3", "cpu_dedicated_set": "4-7"})),
        ("plain", json!({})),
    ] {
        let driver = json!({"name": "fake", "fake": {"vcpus": 8, "numa_nodes": 1}});
        let config = json!({"driver": driver, "compute": compute, "allocation_ratio": {"cpu": 1.0}});
        cluster.start_configured(name, serde_json::from_value(config).expect("settings of an agent")).await;
    }
    for scheduler in ["s1", "s2"] {
        cluster.serve(scheduler).await;
    }
    cluster
}

/// VCPU and PCPU that one scheduler counts as used, of `apart`, `both` and `plain`.
async fn cpus_used(cluster: &Cluster, scheduler: &str) -> Vec<(u64, u64)> {
    let hosts = cluster.view(scheduler).await;
    let pcpus = |host: &HostSummary| host.resources.get("PCPU").map_or(0, |pcpus| pcpus.used);
    hosts.values().map(|host| (host.vcpus_used, pcpus(host))).collect()
}

#[tokio::test(start_paused = true)]
async fn each_class_of_cpus_is_filled_to_the_last_and_no_further() {
    let cluster = divided(86).await;
    let pinned = |vcpus| request(&cluster, vcpus, &[("hw:cpu_policy", "dedicated")]);
    let plain = |vcpus| request(&cluster, vcpus, &[]);
    let mut decisions = Vec::new();
    for at in 0..20 {
        // The schedulers take turns, and what one has given away the other counts from then on.
        let api = cluster.api.of(if at % 2 == 0 { "s1" } else { "s2" });
        let decision = cluster.select(&api, &pinned(1)).await;
        assert_eq!(decision.refusal, None, "{at}");
        decisions.push(decision);
        settle().await;
    }
    for scheduler in ["s1", "s2"] {
        assert_eq!(cpus_used(&cluster, scheduler).await, [(0, 8), (0, 4), (8, 0)], "{scheduler}");
    }
    // None is left of either class where it may be taken: `plain` has no PCPU, and the VCPUs of `both` are for others.
    let decision = select(&cluster, &pinned(1)).await;
    assert!(refusal(&decision).starts_with("No valid host"), "{decision:?}");
    for _ in 0..2 {
        assert_eq!(place(&cluster, plain(2)).await, "both");
    }
    assert_eq!(refused_by(&cluster, plain(1)).await, "CoreFilter");
    for scheduler in ["s1", "s2"] {
        assert_eq!(cpus_used(&cluster, scheduler).await, [(0, 8), (4, 4), (8, 0)], "{scheduler}");
    }
    // What is let go is free again in the class that it was of.
    for decision in &decisions {
        cluster.release(&cluster.api, &decision.decision_id).await;
    }
    settle().await;
    for scheduler in ["s1", "s2"] {
        assert_eq!(cpus_used(&cluster, scheduler).await, [(0, 0), (4, 0), (0, 0)], "{scheduler}");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_schedulers_in_turn_agree_on_what_is_taken_of_each_class() {
    let cluster = divided(87).await;
    let mixed = [("hw:cpu_policy", "mixed"), ("hw:cpu_dedicated_mask", "0")];
    let asked: Vec<_> = (0..4).map(|_| request(&cluster, 2, &mixed)).collect();
    for (at, request) in asked.iter().enumerate() {
        let api = cluster.api.of(if at % 2 == 0 { "s1" } else { "s2" });
        assert_eq!(hosts(&cluster.select(&api, request).await), ["both"], "which alone has both classes");
        settle().await;
    }
    for scheduler in ["s1", "s2"] {
        assert_eq!(cpus_used(&cluster, scheduler).await, [(0, 0), (4, 4), (0, 0)], "{scheduler}");
        let api = cluster.api.of(scheduler);
        let again = cluster.select(&api, &asked[0]).await;
        assert!(again.repeated && hosts(&again) == ["both"], "{scheduler} knows what the other decided");
    }
    // `apart` has PCPUs left, and no VCPU to go with them.
    assert_eq!(refused_by(&cluster, request(&cluster, 2, &mixed)).await, "CoreFilter");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn devices_draw_an_instance_to_their_host_and_cell() {
    let cluster = pair(83).await;
    const NIC: (&str, &str) = ("pci_passthrough:alias", "nic:1");
    let nic = || request(&cluster, 1, &[NIC]);
    let near = || request(&cluster, 2, &[NIC, ("hw:cpu_policy", "dedicated")]);
    let gpu = request(&cluster, 1, &[("pci_passthrough:alias", "gpu:1")]);
    assert_eq!(refused_by(&cluster, gpu).await, "PciPassthroughFilter");
    assert_eq!(place(&cluster, near()).await, "busy");
    assert_eq!(pinned_cpus(&cluster, "busy").await, [2, 3], "on the cell of the device");
    assert_eq!(
        refused_by(&cluster, near()).await,
        "NUMATopologyFilter",
        "devices are left, but no CPU near them"
    );

    let decision = select(&cluster, &nic()).await;
    assert_eq!(hosts(&decision), ["busy"], "though it is busy");
    assert_eq!(place(&cluster, nic()).await, "busy");
    let free = |detail: HostDetail| detail.pci_pools.iter().map(|pool| pool.free).sum::<u32>();
    assert_eq!(free(shown(&cluster, "busy").await), 0);
    assert_eq!(refused_by(&cluster, nic()).await, "PciPassthroughFilter");
    cluster.release(&cluster.api, &decision.decision_id).await;
    settle().await;
    assert_eq!(place(&cluster, nic()).await, "busy", "one was given back");

    let unknown = request(&cluster, 1, &[("pci_passthrough:alias", "tpu:1")]);
    let answer = cluster.api.select_destinations(&unknown, CallOptions::new(CALL)).await;
    let error = chain(&answer.expect_err("nobody knows what it means"));
    assert!(error.contains("no PCI alias \"tpu\"; choose one of gpu, nic"), "{error}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn huge_pages_that_are_held_back_are_given_to_nobody() {
    let cluster = pair(84).await;
    let huge = || request(&cluster, 1, &[("hw:mem_page_size", "2048")]);
    // 2 GiB of the second cell for 512 MiB each; those of the first cell are the host's.
    for host in ["idle", "idle", "idle", "idle", "busy", "busy", "busy", "busy"] {
        assert_eq!(place(&cluster, huge()).await, host);
    }
    assert_eq!(refused_by(&cluster, huge()).await, "NUMATopologyFilter");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn address_and_guests_are_filtered_by() {
    let cluster = pair(85).await;
    let mut near = request(&cluster, 1, &[]);
    near.request_spec.spec.scheduler_hints.insert("build_near_host_ip".into(), json!("10.1.0.1"));
    assert_eq!(place(&cluster, near).await, "busy");

    let image = |properties: Value| {
        let mut asked = request(&cluster, 1, &[]);
        asked.request_spec.spec.image =
            Some(serde_json::from_value(json!({"properties": properties})).expect("an image"));
        asked
    };
    let here = json!({"hw_architecture": "x86_64", "img_hv_type": "fake", "hw_vm_mode": "hvm"});
    assert_eq!(place(&cluster, image(here)).await, "idle");
    assert_eq!(
        refused_by(&cluster, image(json!({"hw_architecture": "aarch64"}))).await,
        "ImagePropertiesFilter"
    );
    cluster.stop().await;
}
