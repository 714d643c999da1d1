//! What is recorded: schedulers, agents and callers on the in-process bus, step by step.
//!
//! Always: a scenario is the same each time, byte by byte. Time is paused and randomness comes from a seed; what depends
//! on the machine (a process id, a directory) is written over. A scenario is not changed once it has been recorded.
//!
//! Left out: the command line itself, which needs a broker. The operator here asks by the same clients and with the
//! same options. Nova's requests are those that tests/interop recorded of the real Nova.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use novella_compute_agent::AgentConfig;
use novella_messaging::{
    CallOptions, Consumer, Destination, Outgoing, QueueKind, RpcError, Subscription, Target, Transport,
    Version,
};
use novella_objects::document::PciRequest;
use novella_objects::{
    BuildRequest, CapacityQuery, ClaimRequest, Explain, Flavor, Grouping, Image, InstanceClaim,
    InstanceGroup, Inventory, Rank, RequestSpec, ReserveEntry, SelectDestinations, TerminateInstance,
};
use novella_rpcapi::{
    BaseApi, COMPUTE_TOPIC, ComputeApi, CreateInstance, DecisionListQuery, InstanceListQuery, Names, Release,
    ReportSink, SCHEDULER_TOPIC, SnapshotPage,
};
use novella_service::Env;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::{CALL, Cluster, EXCHANGE, SIZE, flavor, settle};
use crate::message::{Message, body};
use crate::stub_host::StubHost;

/// Messages beyond this are pages of a large snapshot; they are kept with as many hosts.
const LARGEST: usize = 1 << 20;
const HOSTS_OF_A_LARGE_PAGE: usize = 2;
/// What stands in a recording for the directory of the policy file.
const POLICY_DIRECTORY: &str = "/etc/novella";
/// Requests of the real Nova, a line each.
const NOVA_REQUESTS: &str = include_str!("../../crates/nova-objects/tests/recorded/primitives.jsonl");

const POLICY: &str = r#"
[filter_scheduler]
enabled_filters = [
    "ComputeFilter", "AvailabilityZoneFilter", "RamFilter", "CoreFilter", "DiskFilter",
    "ServerGroupAntiAffinityFilter", "NUMATopologyFilter", "PciPassthroughFilter",
]

[flavors.small]
vcpus = 1
memory_mb = 256
root_gb = 1

[server_groups.web]
policy = "anti-affinity"

[aggregates.fast]
match.facts.rack = "r1"
metadata = { tier = "fast" }
"#;

/// Every scenario with its messages, a line each.
pub fn record() -> Vec<(&'static str, String)> {
    vec![
        ("reports", run(reports())),
        ("agents", run(agents())),
        ("pinged_hosts", run(pinged_hosts())),
        ("placements", run(placements())),
        ("questions", run(questions())),
        ("snapshot_in_pages", run(snapshot_in_pages())),
        ("policies", run(policies())),
        ("nova", run(nova())),
        ("failures", run(failures())),
        ("lists", run(lists())),
        ("users", run(users())),
        ("forgotten", run(forgotten())),
        ("claims", run(claims())),
        ("instances", run(instances())),
    ]
}

fn run(scenario: impl Future<Output = Recording>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let recording = runtime.expect("a runtime").block_on(scenario);
    let line = |message: &Message| serde_json::to_string(message).expect("a message can be written") + "\n";
    recording.messages.iter().map(line).collect()
}

/// A cluster whose schedulers work by [`POLICY`], and its messages by what happened.
pub struct Recording {
    pub cluster: Cluster,
    /// Messages of the cluster's log that have been looked at.
    seen: usize,
    messages: Vec<Message>,
}

impl Recording {
    pub fn new(seed: u64) -> Self {
        let mut cluster = Cluster::new(seed);
        cluster.set_policy(POLICY);
        Self { cluster, seen: 0, messages: Vec::new() }
    }

    /// Plain hosts and a scheduler, which are not recorded.
    async fn of(seed: u64, hosts: usize) -> Self {
        let mut recording = Self::new(seed);
        recording.cluster.start_hosts(hosts).await;
        recording.cluster.serve("s1").await;
        recording.skip().await;
        recording
    }

    async fn skip(&mut self) {
        settle().await;
        self.seen = self.cluster.log.events().len();
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Keeps what was sent since the last time.
    async fn keep(&mut self, step: &str) {
        settle().await;
        let directory = self.cluster.dir.path().to_str().expect("a path of text");
        let pid = format!("\\\"pid\\\":{}", std::process::id());
        let events = self.cluster.log.events();
        for mut event in events[self.seen..].iter().cloned() {
            event.body = event.body.replace(directory, POLICY_DIRECTORY).replace(&pid, "\\\"pid\\\":1");
            let mut message = Message::new(step, &event);
            if message.message.get().len() > LARGEST {
                cut(&mut message);
            }
            self.messages.push(message);
        }
        self.seen = events.len();
    }

    /// Reports as a host, to the scheduler `s1` among others.
    async fn report(&self, host: &str, report: &Value) {
        self.cluster.report("compute", host, &report.to_string()).await.expect("the bus takes it");
        settle().await;
        assert!(self.cluster.state("s1", host).await.is_some(), "the report of {host} was refused: {report}");
    }

    /// As the command line calls.
    fn options() -> CallOptions {
        CallOptions { mandatory: true, ..CallOptions::new(CALL) }
    }

    fn compute(&self) -> ComputeApi {
        ComputeApi::new(self.cluster.operator().clone(), &Names::on(EXCHANGE))
    }

    /// Waits for the answer to a call, and keeps what was sent.
    async fn answered<T>(&mut self, step: &str, call: impl Future<Output = Result<T, RpcError>>) -> T {
        let answer = call.await;
        self.keep(step).await;
        answer.expect("it answers")
    }

    async fn place(&mut self, step: &str, asked: &SelectDestinations) -> String {
        let api = self.cluster.api.clone();
        self.answered(step, api.select_destinations(asked, Self::options())).await.decision_id
    }

    /// A call whose arguments no client of ours would send, and its failure.
    async fn fails(&mut self, step: &str, target: Target, method: &str, args: Value) {
        let target = Target { exchange: EXCHANGE.to_owned(), ..target };
        let answer = self.cluster.operator().call::<Value>(&target, method, &args, Self::options()).await;
        self.keep(step).await;
        assert!(answer.is_err(), "{step}: {answer:?}");
    }
}

/// Leaves out most hosts of a large page, and nothing else.
fn cut(message: &mut Message) {
    #[derive(Serialize, Deserialize)]
    struct Reply<'a> {
        result: SnapshotPage,
        failure: Option<String>,
        ending: bool,
        #[serde(borrow, rename = "_msg_id")]
        msg_id: &'a str,
        #[serde(borrow, rename = "_unique_id")]
        unique_id: &'a str,
    }
    let mut reply: Reply<'_> = serde_json::from_str(message.message.get()).expect("only pages are large");
    reply.result.hosts.truncate(HOSTS_OF_A_LARGE_PAGE);
    let text = serde_json::to_string(&reply).expect("it can be written");
    message.message = RawValue::from_string(text).expect("JSON");
}

/// A host that reports all that a host can.
fn rich_host() -> AgentConfig {
    let mut config: AgentConfig = serde_json::from_value(json!({
        "my_ip": "192.0.2.1",
        "compute_monitors": ["cpu.virt_driver"],
        "driver": {"name": "fake", "fake": {
            "vcpus": 8, "memory_mb": 16384, "disk_gb": 200, "numa_nodes": 2, "threads": 2, "cpu_percent": 30,
            "huge_pages": [{"size_kb": 2048, "total": 64}],
            "pci_devices": [{"vendor_id": "8086", "product_id": "1572", "dev_type": "type-VF", "numa_node": 1, "count": 3}],
        }},
        "placement": {"availability_zone": "az1", "traits": ["CUSTOM_GOLD"], "disabled_reason": "new disks"},
        "reserved": {"vcpus": 1, "memory_mb": 1024, "disk_gb": 10},
        "allocation_ratio": {"cpu": 2.0, "ram": 1.5, "disk": 1.0},
        "compute": {"cpu_shared_set": "0-3", "cpu_dedicated_set": "4-7"},
        "pci": {"device_spec": [{"vendor_id": "8086", "product_id": "1572"}]},
        "facts": {"rack": "r1", "slot": 7},
    }))
    .expect("good settings");
    config
        .resources
        .insert("CUSTOM_FPGA".to_owned(), Inventory { total: 4, max_unit: 4, ..Inventory::default() });
    config
}

/// A report with claims, as a host sends it that runs instances.
fn report_of_claims(number: u128, claims: Value) -> Value {
    let cell = |id: u32| {
        json!({"id": id, "pcpuset": (4 * id..4 * id + 4).collect::<Vec<_>>(), "memory_mb": 8192,
            "siblings": [[4 * id, 4 * id + 1], [4 * id + 2, 4 * id + 3]],
            "mempages": [{"size_kb": 4, "total": 2_097_152}]})
    };
    json!({"vcpus": 8, "host_memory_total": 16_384, "disk_total": 200, "hypervisor_type": "QEMU", "novella": {
        "uuid": Uuid::from_u128(number), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "2026-01-01T00:00:00Z",
        "interval_ms": 10_000, "reserved": {"vcpus": 0, "memory_mb": 512, "disk_gb": 0},
        "allocation_ratios": {"cpu": 4.0, "ram": 1.0, "disk": 1.0}, "claims": claims,
        "ended": [Uuid::from_u128(99)], "facts": {"rack": "r1"},
        "numa_topology": {"cells": [cell(0), cell(1)]},
        "pci_pools": [{"vendor_id": "8086", "product_id": "1572", "dev_type": "type-VF", "count": 3}],
        "measured": {"load_1m": 0.5, "memory_available_mb": 9000, "disk_free_gb": 150, "uptime_s": 86_400},
        "num_io_ops": 1, "failed_builds": 1, "stale_probes": {"disk": 12_000}}})
}

/// A host of Nova's, with what the requests of [`NOVA_REQUESTS`] ask for.
fn report_of_nova(number: u128) -> Value {
    let mut report = report_of_claims(number, json!([]));
    let cell = |id: u32| {
        json!({"id": id, "cpuset": [8 * id, 8 * id + 1, 8 * id + 2, 8 * id + 3],
            "pcpuset": [8 * id + 4, 8 * id + 5, 8 * id + 6, 8 * id + 7], "memory_mb": 8192,
            "siblings": [[8 * id, 8 * id + 1], [8 * id + 2, 8 * id + 3], [8 * id + 4, 8 * id + 5], [8 * id + 6, 8 * id + 7]],
            "mempages": [{"size_kb": 4, "total": 1_048_576}, {"size_kb": 2048, "total": 2048}],
            "network_metadata": {"physnets": ["physnet0", "physnet1"], "tunneled": true}})
    };
    report["hypervisor_hostname"] = json!(format!("node{number}"));
    let novella = &mut report["novella"];
    novella["availability_zone"] = json!("az1");
    novella["traits"] = json!(["CUSTOM_A"]);
    novella["numa_topology"] = json!({"cells": [cell(0), cell(1)]});
    novella["pci_pools"] = json!([{"vendor_id": "8086", "product_id": "1572", "dev_type": "type-PCI", "numa_node": 0, "count": 4}]);
    report
}

fn claim() -> Value {
    json!({"uuid": Uuid::from_u128(1), "vcpus": 2, "memory_mb": 1024, "disk_gb": 10, "group": "web", "flavor": "small",
        "image": {"properties": {"os_distro": "debian"}}, "resources": {"CUSTOM_FPGA": 1},
        "numa_topology": [{"id": 0, "vcpus": 0, "pinned_cpus": [0, 1], "memory_mb": 1024, "pagesize_kb": 4}],
        "pci": [{"vendor_id": "8086", "product_id": "1572", "dev_type": "type-VF", "count": 1}]})
}

async fn reports() -> Recording {
    let mut recording = Recording::new(1);
    recording.cluster.start_host("host-1", SIZE).await;
    recording.keep("an agent starts").await;
    recording.cluster.start_configured("host-2", rich_host()).await;
    recording.keep("an agent starts whose host has cells, devices, traits, facts and metrics").await;
    recording.cluster.serve("s1").await;
    recording.keep("a scheduler starts and asks all agents to report").await;
    let asked = recording.compute().publish_service_capabilities_of("host-1", CALL).await;
    recording.keep("one agent is asked to report").await;
    asked.expect("the bus takes it");
    recording.report("host-3", &report_of_claims(3, json!([claim()]))).await;
    let volume = json!({"total_capacity_gb": 1000.5, "free_capacity_gb": "infinite", "reserved_percentage": 10,
        "volume_backend_name": "LVM", "QoS_support": false});
    recording.cluster.report("volume", "vol-1", &volume.to_string()).await.expect("the bus takes it");
    recording.keep("a host with claims and a volume service report").await;
    let node = |name: &str| json!({"vcpus": 16, "vcpus_used": 2, "host_memory_total": 65_536, "hypervisor_hostname": name});
    let args =
        json!({"service_name": "compute", "host": "cmp1", "capabilities": [node("cmp1"), node("cmp2")]});
    let target = Target::topic(SCHEDULER_TOPIC).fanout().version(Version::new(2, 4));
    let operator = recording.cluster.operator().clone();
    operator.cast(&target, "update_service_capabilities", &args, CALL).await.expect("the bus takes it");
    recording.keep("a host of two nodes reports in version 2.4").await;
    recording.cluster.stop_host("host-1").await;
    recording.keep("an agent stops and says goodbye").await;
    recording
}

async fn agents() -> Recording {
    let mut recording = Recording::of(2, 1).await;
    recording.cluster.start_configured("host-2", rich_host()).await;
    recording.skip().await;
    let (compute, options) = (recording.compute(), Recording::options);
    recording.answered("an agent is pinged", compute.ping("host-1", options())).await;
    for (refresh, step) in [(false, "the last reading of a host"), (true, "a new reading of a host")] {
        recording.answered(step, compute.get_host_stats("host-2", refresh, options())).await;
    }
    let client = recording.cluster.operator().clone();
    for (topic, step) in
        [(SCHEDULER_TOPIC, "any scheduler is pinged"), (COMPUTE_TOPIC, "an agent is pinged as any service")]
    {
        let target = Target::topic(topic);
        let target = if topic == COMPUTE_TOPIC { target.server("host-1") } else { target };
        let pong = BaseApi::ping(&client, target, json!({"any": ["value", 1, null]}), options());
        recording.answered(step, pong).await;
    }
    let target = Target::topic(COMPUTE_TOPIC).server("host-1");
    let monitored = CallOptions { monitor: Some(Duration::from_secs(2)), ..options() };
    let window = json!({"window_ms": 10_000});
    let answer = client.call::<()>(&target, "publish_service_capabilities", &window, monitored);
    let step = "a call of some seconds with a monitor: heartbeats until it is answered";
    recording.answered(step, answer).await;
    recording
}

async fn pinged_hosts() -> Recording {
    let mut recording = Recording::of(1, 1).await;
    recording.skip().await;
    let scheduler = recording.cluster.api.clone();
    let pinged = scheduler.ping_host("host-1", CALL, Recording::options());
    recording.answered("a scheduler asks an agent", pinged).await;
    recording
}

async fn placements() -> Recording {
    let mut recording = Recording::of(3, 2).await;
    recording.cluster.serve("s2").await;
    for number in 3..=4 {
        recording.report(&format!("host-{number}"), &report_of_claims(number, json!([]))).await;
    }
    let volume = r#"{"total_capacity_gb": 500, "free_capacity_gb": 120.5, "reserved_percentage": 10}"#;
    recording.cluster.report("volume", "vol-1", volume).await.expect("sent");
    recording.skip().await;

    let one = recording.cluster.request(1, flavor(2, 2048, 10));
    let decision = recording.place("an instance is placed", &one).await;
    recording.place("the same request again: the decision is repeated", &one).await;
    let mut other = one.clone();
    other.request_spec.spec.flavor.memory_mb += 1;
    recording.place("other amounts for the same instance: a conflict", &other).await;

    let mut three = recording.cluster.request(3, flavor(1, 512, 1));
    (three.hold_s, three.alternates) = (Some(600), Some(2));
    let several = recording.place("three instances with alternates, held for ten minutes", &three).await;
    recording.place("no host has room", &recording.cluster.request(1, flavor(64, 1 << 20, 1))).await;

    let mut full = recording.cluster.request(1, flavor(1, 512, 1));
    full.dry_run = true;
    full.request_spec.spec = RequestSpec {
        flavor: Flavor {
            id: "42".to_owned(),
            name: "m1.small".to_owned(),
            ephemeral_gb: 1,
            swap: 64,
            extra_specs: [("hw_rng:allowed".to_owned(), "True".into())].into(),
            ..full.request_spec.spec.flavor.clone()
        },
        availability_zone: Some("nova".to_owned()),
        ignore_hosts: vec!["host-9".to_owned()],
        image: Some(Image {
            properties: [("os_distro".to_owned(), "debian".into())].into(),
            ..Image::default()
        }),
        scheduler_hints: [
            ("group".to_owned(), json!("web")),
            ("different_host".to_owned(), json!([Uuid::from_u128(1)])),
        ]
        .into(),
        project_id: Some("p1".to_owned()),
        ..full.request_spec.spec.clone()
    };
    recording.place("a dry run with image, zone, hints, group and project", &full).await;

    let mut pinned = recording.cluster.request(1, flavor(2, 1024, 1));
    pinned.request_spec.spec.flavor.extra_specs.insert("hw:cpu_policy".into(), "dedicated".into());
    pinned.request_spec.spec.image = Some(Image::default());
    recording.place("an instance with CPUs of its own", &pinned).await;
    let mut device = recording.cluster.request(1, flavor(1, 256, 1));
    let spec = [("vendor_id".to_owned(), "8086".into()), ("product_id".to_owned(), "1572".into())].into();
    device.request_spec.spec.pci_requests =
        vec![PciRequest { count: 1, spec: vec![spec], ..PciRequest::default() }];
    recording.place("an instance with a device", &device).await;

    let mut named = recording.cluster.request(1, Flavor::default());
    named.flavor = Some("small".to_owned());
    named.request_spec.spec.scheduler_hints.insert("group".into(), json!("web"));
    recording.place("a flavor of the policy, in a server group", &named).await;
    let mut volume = recording.cluster.request(1, flavor(0, 0, 20));
    volume.service = Some("volume".to_owned());
    recording.place("a volume is placed on its service", &volume).await;

    let (api, options) = (recording.cluster.api.clone(), Recording::options);
    let first = three.request_spec.instance_uuids[..1].to_vec();
    let part = Release { decision_id: several, instance_uuids: first };
    assert_eq!(api.release(&part, options()).await.expect("it answers"), 1);
    recording.keep("one instance of a decision is released").await;
    api.get_decision(&decision, options()).await.expect("it answers");
    recording.keep("a decision is shown, or not remembered: any scheduler is asked").await;
    for scheduler in ["s1", "s2"] {
        api.of(scheduler).get_decision(&decision, options()).await.expect("it answers");
    }
    recording.keep("both schedulers are asked for a decision").await;
    let whole = Release { decision_id: decision, ..Release::default() };
    assert_eq!(api.release(&whole, options()).await.expect("it answers"), 1);
    recording.keep("a decision is released").await;
    recording
}

async fn questions() -> Recording {
    let mut recording = Recording::of(4, 2).await;
    recording.report("host-3", &report_of_claims(3, json!([claim()]))).await;
    recording.cluster.report("volume", "vol-1", r#"{"free_gb": 80, "total_gb": 700}"#).await.expect("sent");
    settle().await;
    let asked = recording.cluster.request(1, flavor(2, 2048, 10));
    let decision = recording.cluster.select(&recording.cluster.api, &asked).await.decision_id;
    recording.skip().await;
    let (api, options) = (recording.cluster.api.clone(), Recording::options);

    recording.answered("all hosts", api.list_hosts(options())).await;
    api.show_host("host-3", options()).await.expect("it answers").expect("it is known");
    recording.keep("a host with claims, cells and devices").await;
    assert_eq!(api.show_host("host-9", options()).await.expect("it answers"), None);
    recording.keep("a host that is not known").await;
    recording.answered("all services", api.list_services(options())).await;
    recording.answered("the state of a scheduler", api.status(options())).await;

    let question =
        Explain { decision_id: Some(decision), host: Some("host-1".to_owned()), ..Explain::default() };
    api.explain(&question, options()).await.expect("it answers").expect("it is remembered");
    recording.keep("why a decision came about, and one host in it").await;
    let spec = recording.cluster.request(1, flavor(64, 1 << 16, 1)).request_spec;
    let question = Explain { request_spec: Some(spec), fix: true, ..Explain::default() };
    api.explain(&question, options()).await.expect("it answers").expect("a request is explained");
    recording.keep("why a request is refused, and what would help").await;
    let question = Explain { decision_id: Some("s1-0-0".to_owned()), ..Explain::default() };
    assert_eq!(api.explain(&question, options()).await.expect("it answers"), None);
    recording.keep("why a forgotten decision came about").await;

    for (by, step) in [(Grouping::Host, "how many fit, by host"), (Grouping::Zone, "how many fit, by zone")] {
        let query = CapacityQuery {
            flavors: vec![flavor(1, 512, 1), flavor(1, 1 << 20, 1)],
            by: Some(by),
            reserve: Some(by),
            ..CapacityQuery::default()
        };
        recording.answered(step, api.capacity(&query, options())).await;
    }
    let query = CapacityQuery { names: vec!["small".to_owned()], ..CapacityQuery::default() };
    recording.answered("how many of a flavor of the policy fit", api.capacity(&query, options())).await;
    recording.answered("a snapshot of one page", api.snapshot(options())).await;

    api.get_host_list(options()).await.expect("it answers");
    api.get_service_capabilities(options()).await.expect("it answers");
    api.show_host_resources("host-3", options()).await.expect("it answers");
    recording.keep("the questions of 2012").await;
    recording
}

async fn snapshot_in_pages() -> Recording {
    let mut recording = Recording::of(5, 0).await;
    let manager = recording.cluster.scheduler("s1").manager();
    for host in 0..2_000_u128 {
        let claims: Vec<_> = (0..20).map(|n| json!({"uuid": Uuid::from_u128(host << 8 | n), "vcpus": 1, "memory_mb": 512, "disk_gb": 1, "flavor": "m1.small", "group": "web"})).collect();
        let mut capabilities = report_of_claims(1 << 100 | host, json!(claims));
        capabilities["host_memory_total"] = json!(262_144);
        let report = json!({"service_name": "compute", "host": format!("host-{host:04}"), "capabilities": capabilities}).to_string();
        let report: novella_objects::UpdateServiceCapabilities<'_> =
            serde_json::from_str(&report).expect("a good report");
        manager.apply_reports(&[report.into()]);
    }
    let page = recording.cluster.api.snapshot(Recording::options()).await.expect("it answers");
    assert_eq!(page.hosts.len(), 2_000);
    recording.keep("a snapshot of several pages, of which all hosts but two are left out here").await;
    recording
}

async fn policies() -> Recording {
    let mut recording = Recording::of(6, 1).await;
    recording.cluster.serve("s2").await;
    recording.skip().await;
    let (api, options) = (recording.cluster.api.clone(), Recording::options);
    recording.answered("the policies of all schedulers", api.get_policies(options())).await;
    for (policy, step) in [
        (POLICY.to_owned(), "a reload that changes nothing"),
        (
            POLICY.replace("256", "512") + "\n[server_groups.db]\npolicy = \"affinity\"\n",
            "a reload that changes the policy",
        ),
        (POLICY.replace("\"RamFilter\"", "\"RamFiler\""), "a reload of a policy that is wrong"),
    ] {
        recording.cluster.set_policy(&policy);
        recording.answered(step, api.reload_policy(options())).await;
    }
    recording.answered("the state of a scheduler whose policy was refused", api.status(options())).await;
    recording
}

async fn forgotten() -> Recording {
    let mut recording = Recording::of(11, 1).await;
    recording.cluster.serve("s2").await;
    recording.skip().await;
    let (api, options) = (recording.cluster.api.clone(), Recording::options);
    recording.answered("a host that both schedulers know", api.forget_host("host-1", options())).await;
    recording.answered("a host that nobody knows", api.forget_host("host-9", options())).await;
    recording
}

async fn claims() -> Recording {
    let mut recording = Recording::of(14, 1).await;
    let (api, agents, options) = (recording.cluster.api.clone(), recording.compute(), Recording::options);
    let held = recording.cluster.request(1, flavor(1, 512, 1));
    let decision = recording.place("a placement, of which its host is told", &held).await;
    recording.sleep(Duration::from_millis(200)).await;
    recording.keep("the host reports the hold").await;
    let release = Release { decision_id: decision, ..Release::default() };
    recording.answered("the hold is given back", api.release_claims(&release, options())).await;
    let mut claimed = recording.cluster.request(2, flavor(2, 1024, 10));
    claimed.claim = true;
    let decision = recording.place("a placement that its host claims", &claimed).await;
    recording.sleep(Duration::from_millis(200)).await;
    recording.keep("the host reports the claims").await;
    let all = |claim: &ClaimRequest| ClaimRequest { decision_id: "s1-1-1".to_owned(), ..claim.clone() };
    let taken = json!({"uuid": Uuid::from_u128(0xc1a1), "host": "host-1", "vcpus": 9999, "memory_mb": 1, "disk_gb": 1,
        "spec_hash": 1});
    let large =
        json!({"decision_id": "", "instances": [{"instance": taken, "rank": {"attempt": 1, "try": 1}}]});
    let large: ClaimRequest = serde_json::from_value(large).expect("a request");
    recording.answered("a claim that does not fit", agents.claim("host-1", &all(&large), options())).await;
    let hold = ClaimRequest { hold_ms: Some(5000), ..all(&large) };
    recording.answered("a hold that does not fit", agents.hold("host-1", &hold, options())).await;
    let release = Release { decision_id: decision, ..Release::default() };
    recording.answered("the claims are given back", api.release_claims(&release, options())).await;
    let ended = TerminateInstance {
        instance_uuids: vec![Uuid::from_u128(0xc1a1)],
        up_to_rank: Some(Rank { attempt: 1, try_number: 2 }),
    };
    let step = "an instance that the host does not know is given up";
    recording.answered(step, agents.terminate_instance("host-1", &ended, options())).await;
    recording
}

async fn lists() -> Recording {
    let mut recording = Recording::of(9, 0).await;
    recording.report("host-1", &report_of_claims(1, json!([claim()]))).await;
    let mut held = recording.cluster.request(1, flavor(1, 512, 1));
    held.request_spec.spec.scheduler_hints.insert("group".into(), json!("db"));
    held.request_spec.spec.instance_group =
        Some(InstanceGroup { name: "db".into(), policy: "anti-affinity".into(), ..InstanceGroup::default() });
    recording.cluster.select(&recording.cluster.api, &held).await;
    recording.skip().await;
    let (api, options) = (recording.cluster.api.clone(), Recording::options);
    recording.answered("all hosts with what they may use, hold and are in", api.list_hosts(options())).await;
    recording.answered("all hosts with their facts", api.list_hosts_with_facts(options())).await;
    recording.answered("all server groups", api.list_server_groups(None, options())).await;
    for (group, step) in [
        ("web", "a group of the policy with a member that its host reports"),
        ("db", "a group that only a request names, with a member whose room is held"),
        ("nope", "a group that is not known"),
    ] {
        recording.answered(step, api.list_server_groups(Some(group), options())).await;
    }
    recording
}

/// Nova's conductor. It sends what oslo.messaging sends, with the context of a user's request.
struct Conductor {
    transport: Arc<dyn Transport>,
    replies: Box<dyn Consumer>,
    env: Env,
}

impl Conductor {
    const REPLIES: &str = "reply_00000000000040008000000000000001";

    async fn start(cluster: &Cluster) -> Self {
        let transport = cluster.connect("conductor");
        let queue = QueueKind::Reply { name: Self::REPLIES.to_owned() };
        let replies = transport.consume(Subscription { queue, prefetch: 10 }).await.expect("a queue");
        settle().await;
        Self { transport, replies, env: cluster.env.child("conductor") }
    }

    fn id(&self) -> String {
        self.env.random.uuid().simple().to_string()
    }

    async fn publish(&self, destination: Destination, message: &Value, expiration: Option<Duration>) {
        let (body, deadline) = (body(&message.to_string()).into(), Instant::now() + CALL);
        let message = Outgoing { destination, body, expiration, mandatory: false, deadline };
        self.transport.publish(message).await.expect("the bus takes it");
    }

    fn message(&self, minor: u32, method: &str, args: &Value) -> Value {
        json!({
            "method": method, "args": args, "version": format!("4.{minor}"), "_unique_id": self.id(),
            "_context_user_id": "u1", "_context_project_id": "p1", "_context_is_admin": false,
            "_context_roles": ["member"], "_context_read_deleted": "no",
            "_context_request_id": "req-00000000-0000-4000-8000-000000000001",
            "_context_timestamp": "2026-01-01T00:00:00.000000",
        })
    }

    /// Waits for the answer, whatever it is.
    async fn call(&mut self, minor: u32, method: &str, args: &Value) {
        let mut message = self.message(minor, method, args);
        message["_msg_id"] = self.id().into();
        message["_reply_q"] = Self::REPLIES.into();
        message["_timeout"] = Value::Null;
        let destination = Destination::Topic { exchange: EXCHANGE.into(), topic: SCHEDULER_TOPIC.into() };
        self.publish(destination, &message, Some(CALL)).await;
        let answered = self.replies.next_batch(&mut Vec::new(), 1).await;
        assert_eq!(answered, 1, "{method} is answered");
    }

    async fn cast(&self, minor: u32, method: &str, args: &Value) {
        let destination = Destination::Fanout { topic: SCHEDULER_TOPIC.into() };
        self.publish(destination, &self.message(minor, method, args), None).await;
    }
}

async fn nova() -> Recording {
    let mut recording = Recording::new(7);
    recording.cluster.scheduler_config.nova.serve = true;
    recording.cluster.scheduler_config.nova.cell_uuid = Uuid::from_u128(7).to_string();
    recording.cluster.serve("s1").await;
    for number in 1..=4 {
        recording.report(&format!("cmp{number}"), &report_of_nova(number)).await;
    }
    recording.skip().await;

    let mut conductor = Conductor::start(&recording.cluster).await;
    for (number, line) in NOVA_REQUESTS.lines().enumerate() {
        let request: Value = serde_json::from_str(line).expect("a line of JSON");
        let uuids = [Uuid::from_u128(100 + number as u128)];
        for (minor, args, step) in [
            (
                5,
                json!({"spec_obj": request, "instance_uuids": uuids, "return_objects": true, "return_alternates": true}),
                "Nova asks for selections with alternates",
            ),
            (
                4,
                json!({"spec_obj": request, "instance_uuids": uuids}),
                "an older Nova asks for instances that it names",
            ),
            (3, json!({"spec_obj": request}), "a still older Nova asks"),
        ] {
            conductor.call(minor, "select_destinations", &args).await;
            recording.keep(&format!("{step}: request {}", number + 1)).await;
        }
    }
    let mut newer: Value = serde_json::from_str(NOVA_REQUESTS.lines().next().expect("a line")).expect("JSON");
    newer["nova_object.version"] = json!("1.99");
    let args = json!({"spec_obj": newer, "instance_uuids": [Uuid::from_u128(200)], "return_objects": true});
    conductor.call(5, "select_destinations", &args).await;
    recording.keep("a newer Nova asks with an object that is not known").await;
    for (minor, method, args) in [
        (1, "update_aggregates", json!({"aggregates": []})),
        (1, "delete_aggregate", json!({"aggregate": {}})),
        (2, "update_instance_info", json!({"host_name": "host-1", "instance_info": {}})),
        (2, "delete_instance_info", json!({"host_name": "host-1", "instance_uuid": Uuid::from_u128(1)})),
        (2, "sync_instance_info", json!({"host_name": "host-1", "instance_uuids": []})),
    ] {
        conductor.cast(minor, method, &args).await;
    }
    recording.keep("what Nova tells its schedulers").await;
    recording
}

async fn failures() -> Recording {
    let mut recording = Recording::of(8, 1).await;
    let scheduler = |minor| Target::topic(SCHEDULER_TOPIC).version(Version::new(1, minor));
    let (step, unknown) = ("a host that is not known is asked for as in 2012", json!({"host": "host-9"}));
    recording.fails(step, scheduler(0), "show_host_resources", unknown).await;
    let asked = json!({"decision_id": null, "request_spec": null, "host": null, "fix": false});
    recording.fails("a question about nothing", scheduler(2), "explain", asked).await;
    let cursor = json!({"cursor": {"scheduler": "s1", "id": 9, "from": 1}});
    recording.fails("a page of a snapshot that is gone", scheduler(5), "snapshot", cursor).await;
    let mut asked = recording.cluster.request(1, flavor(1, 256, 1));
    asked.request_spec.spec.scheduler_hints.insert("group".into(), json!("unknown"));
    let asked = serde_json::to_value(&asked).expect("it can be written");
    recording.fails("a server group that is not known", scheduler(1), "select_destinations", asked).await;
    recording.fails("arguments of another type", scheduler(1), "release", json!({"decision_id": 7})).await;
    recording.fails("a method that is not there", scheduler(1), "fly", json!({})).await;
    recording.fails("a version that is not there yet", scheduler(99), "status", json!({})).await;
    recording
}

/// Schedulers that let only who placed something release it.
async fn users() -> Recording {
    let mut recording = Recording::new(12);
    recording.cluster.scheduler_config.authority.administer = vec!["s1".to_owned()];
    recording.cluster.start_hosts(1).await;
    for scheduler in ["s1", "s2"] {
        recording.cluster.serve(scheduler).await;
    }
    recording.skip().await;
    let asked = recording.cluster.request(1, flavor(1, 256, 1));
    let decision_id = recording.place("a placement that belongs to its user", &asked).await;
    let args = Release { decision_id, ..Release::default() };
    let api = recording.cluster.api.clone();
    recording.answered("the user releases it", api.release(&args, Recording::options())).await;
    recording.cluster.select(&api, &asked).await;
    recording.skip().await;
    let reload = Target::topic(SCHEDULER_TOPIC).version(Version::new(1, 4));
    recording.fails("a method that is for other users", reload, "reload_policy", json!({})).await;
    recording
}

/// Instances, claims and holds of a user, with hosts that grant, refuse and report.
async fn instances() -> Recording {
    let mut recording = Recording::new(13);
    recording.cluster.scheduler_config.authority.administer = vec!["s1".to_owned()];
    recording.cluster.serve("s1").await;
    let (full, _full) = StubHost::start(&recording.cluster, 1).await;
    let (host, _host) = StubHost::start(&recording.cluster, 2).await;
    full.report(&recording.cluster).await;
    host.report(&recording.cluster).await;
    recording.skip().await;
    full.refuse(true);
    let (api, options) = (recording.cluster.api.clone(), Recording::options);
    let build = |name: &str| BuildRequest {
        name: name.to_owned(),
        image: Some("debian".to_owned()),
        tags: vec!["blue".to_owned()],
    };
    let request = recording.cluster.request(2, flavor(1, 256, 1));
    let [one, other] = request.request_spec.instance_uuids[..] else { panic!("two were asked for") };
    let asked = CreateInstance { request, builds: vec![build("web-1"), build("web-2")] };
    recording.answered("instances are created, a host refuses", api.create_instance(&asked, options())).await;
    let mut claim = recording.cluster.request(1, flavor(1, 128, 1));
    claim.claim = true;
    let decision_id = recording.place("room is claimed", &claim).await;
    host.report(&recording.cluster).await;
    recording.keep("a host reports instances and a claim").await;
    let held = recording.cluster.request(1, flavor(1, 64, 1));
    recording.place("a hold, of which its host is told", &held).await;
    let entry =
        ReserveEntry { uuid: Uuid::from_u128(8), host: "host-2".to_owned(), ..ReserveEntry::default() };
    let request = ClaimRequest {
        decision_id: "s1-1".to_owned(),
        hold_ms: Some(30_000),
        instances: vec![InstanceClaim { instance: entry, ..InstanceClaim::default() }],
        ..ClaimRequest::default()
    };
    let compute = recording.compute();
    recording.answered("a host is asked for a hold", compute.hold("host-2", &request, options())).await;
    host.built(one);
    host.report(&recording.cluster).await;
    recording.skip().await;
    let all = InstanceListQuery { all: true, ..InstanceListQuery::default() };
    recording.answered("all is listed", api.list_instances(&all, options())).await;
    let named = InstanceListQuery {
        host: Some("host-2".to_owned()),
        name: Some("web-1".to_owned()),
        ..InstanceListQuery::default()
    };
    recording.answered("one name on one host is listed", api.list_instances(&named, options())).await;
    recording.answered("an instance is found by its name", api.get_instance("web-1", options())).await;
    recording.answered("an instance is stopped", api.stop_instance(one, options())).await;
    recording.answered("an instance is started", api.start_instance(one, options())).await;
    let last = DecisionListQuery { limit: Some(2) };
    recording.answered("the last decisions are listed", api.list_decisions(&last, options())).await;
    recording.answered("an instance is deleted", api.terminate_instance(one, options())).await;
    let scheduler = || Target::topic(SCHEDULER_TOPIC).version(Version::new(1, 11));
    let of_other = json!({"decision_id": "", "instance_uuids": [other]});
    recording.fails("an instance is released by mistake", scheduler(), "release_claims", of_other).await;
    let unknown = json!({"instance_uuid": Uuid::from_u128(9)});
    recording
        .fails("an instance that is not there is deleted", scheduler(), "terminate_instance", unknown)
        .await;
    let building = json!({"instance_uuid": other});
    recording.fails("an instance is stopped too early", scheduler(), "stop_instance", building).await;
    let release = Release { decision_id, ..Release::default() };
    recording.answered("a claim is released", api.release_claims(&release, options())).await;
    let release = Release { instance_uuids: held.request_spec.instance_uuids, ..Release::default() };
    recording.answered("a hold is released", api.release_claims(&release, options())).await;
    recording
}
