//! Whole daemons and Python services on one bus: our scheduler and agent called from Python, reporters as Nova had them in
//! 2012, and our agents' reports read by a Python scheduler.

use std::time::Duration;

use novella_objects::HostStatus;
use novella_virt::FakeConfig;
use serde_json::{Value, json};

use crate::bed::{self, Bed};
use crate::daemons_process::novella;
use crate::daemons_rig::*;
use crate::python::Raised;
use crate::support::*;

const DOWN: Duration = Duration::from_secs(60);

/// Python in the virtual host of the daemons.
struct Peer<'a> {
    bed: &'a Bed,
    url: String,
}

impl Peer<'_> {
    async fn ask(&self, what: &str, target: Value, method: &str, args: Value) -> Result<Value, Raised> {
        let mut at = json!({"exchange": EXCHANGE, "version": "1.0"});
        bed::merge(&mut at, target);
        let allowed = json!(["nova.exception"]);
        let command =
            json!({"url": self.url, "method": method, "args": args, "target": at, "allowed": allowed});
        self.bed.python.ask(what, command).await
    }

    async fn call(&self, target: Value, method: &str, args: Value) -> Result<Value, Raised> {
        self.ask("call", target, method, args).await
    }

    /// As Nova's SchedulerDependentManager did.
    async fn report(&self, version: &str, service: &str, host: &str, capabilities: Value) {
        let target = json!({"topic": "scheduler", "fanout": true, "version": version});
        let args = json!({"service_name": service, "host": host, "capabilities": capabilities});
        self.ask("cast", target, "update_service_capabilities", args).await.expect("sent");
    }
}

/// What libvirt's driver reported in Folsom.
fn compute(host: &str) -> Value {
    json!({
        "vcpus": 16, "vcpus_used": 2, "disk_total": 500, "disk_used": 20, "disk_available": 480,
        "host_memory_total": 65_536, "host_memory_free": 60_000, "hypervisor_type": "QEMU",
        "hypervisor_version": 1_000_000, "hypervisor_hostname": host,
        "cpu_info": {"arch": "x86_64", "model": "Nehalem", "vendor": "Intel", "features": ["vmx"],
            "topology": {"cores": 8, "threads": 2, "sockets": 1}},
    })
}

/// What volume drivers reported in Folsom.
fn volume(total: Value, free: Value, reserved: u32) -> Value {
    json!({
        "volume_backend_name": "LVM_iSCSI", "vendor_name": "Open Source", "driver_version": "1.0",
        "storage_protocol": "iSCSI", "total_capacity_gb": total, "free_capacity_gb": free,
        "reserved_percentage": reserved,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compute_reporter_of_2012_is_placed_on() {
    let Some(bed) = bed::shared("2012 compute").await else { return };
    let house = bed.house().await;
    let scheduler = house.scheduler("s1", house.scheduler_config(DOWN), 0).await;
    let peer = Peer { bed: &bed, url: bed.python_at(&house) };
    peer.report("1.0", "compute", "old-dict", compute("old-dict")).await;
    peer.report("2.4", "compute", "old-list", json!([compute("old-list")])).await;
    until_all_up(&scheduler, 2).await;
    let known = view(&scheduler).await;
    let host = &known["old-list"];
    assert_eq!((host.vcpus, host.vcpus_used, host.memory_mb, host.memory_mb_used), (16, 2, 65_536, 5_536));
    let api = house.operator().await;
    let decision = ask(&api, &house.request(small())).await;
    assert!(host_of(&decision).starts_with("old-"), "{decision:#?}");
    // Both are asked of as Nova's own clients of the time asked.
    let to = || json!({"topic": "scheduler"});
    let list = peer.call(to(), "get_host_list", json!({})).await.expect("a list");
    let entry = |name: &str| json!({"service": "compute", "host_name": name});
    assert_eq!(list, json!([entry("old-dict"), entry("old-list")]));
    let bounds = peer.call(to(), "get_service_capabilities", json!({})).await.expect("bounds");
    assert_eq!(bounds["compute_host_memory_free"], json!([60_000, 60_000]));
    let raised =
        peer.call(to(), "show_host_resources", json!({"host": "nowhere"})).await.expect_err("raised");
    assert_eq!((&*raised.class, &*raised.module), ("ComputeHostNotFound_Remote", "nova.exception_Remote"));
    scheduler.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_reporter_of_2012_is_placed_on() {
    let Some(bed) = bed::shared("2012 volume").await else { return };
    let house = bed.house().await;
    let scheduler = house.scheduler("s1", house.scheduler_config(DOWN), 0).await;
    let peer = Peer { bed: &bed, url: bed.python_at(&house) };
    peer.report("1.0", "volume", "vol1", volume(json!(200), json!(100.5), 10)).await;
    peer.report("1.0", "volume", "vol2", volume(json!(80), json!(80), 0)).await;
    let (known, api) =
        (async || house.operator().await.list_services(bed::patient()).await, house.operator().await);
    eventually("both are known", async || known().await.expect("a list").len() == 2).await;
    let services = api.list_services(bed::patient()).await.expect("a list");
    assert!(services.iter().all(|s| s.service == "volume" && s.state == HostStatus::Up), "{services:#?}");

    let place = |line: &str| {
        let (code, out, err) = novella(&house.url, &format!("place --service volume {line} -f json"));
        let answer: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{err}"));
        (code, answer)
    };
    // 90 GiB to give on one, 80 on the other.
    let (code, first) = place("--disk 50G");
    assert_eq!((code, &first["selections"][0]["host"]), (0, &json!("vol1")), "{first:#}");
    let (code, second) = place("--disk 50G");
    assert_eq!((code, &second["selections"][0]["host"]), (0, &json!("vol2")), "{second:#}");
    let (code, refused) = place("--disk 50G");
    assert_eq!(code, 1);
    let filters = refused["filters"].as_array().expect("a list");
    assert_eq!(filters.last().expect("a filter")["nearest_miss"]["text"], "vol1 short by 10 GiB");
    assert_eq!(refused["outcome"], "refused");
    let (code, _, err) =
        novella(&house.url, &format!("release {}", first["decision_id"].as_str().expect("text")));
    assert_eq!(code, 0, "{err}");
    assert_eq!(place("--disk 50G").1["selections"][0]["host"], "vol1");
    peer.report("1.0", "volume", "vol3", volume(json!("infinite"), json!("infinite"), 100)).await;
    eventually("it is known", async || known().await.expect("a list").len() == 3).await;
    assert_eq!(place("--disk 100T").1["selections"][0]["host"], "vol3");
    // Computes are none of it.
    assert_eq!(novella(&house.url, "place --vcpus 1 --ram 1G").0, 1);
    scheduler.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_reports_are_read_by_a_python_scheduler() {
    let Some(mut bed) = bed::shared("reports out").await else { return };
    let house = bed.house().await;
    bed.topic = "scheduler".into();
    // A server of default shapes: it has the topic to itself here.
    let more = json!({"url": bed.python_at(&house), "target": {"exchange": EXCHANGE}, "endpoint": {"version": "1.0"}});
    let theirs = bed.python_serves(&house.vhost, more).await;
    let agent = house.agent("cmp-7.rack_2", FakeConfig::default(), "").await;
    let executed = theirs.executed(2).await;
    for call in &executed {
        assert_eq!(call["method"], "update_service_capabilities");
        let args = &call["args"];
        assert_eq!((&args["service_name"], &args["host"]), (&json!("compute"), &json!("cmp-7.rack_2")));
        for key in [
            "vcpus",
            "vcpus_used",
            "disk_total",
            "disk_used",
            "disk_available",
            "host_memory_total",
            "host_memory_free",
            "hypervisor_version",
        ] {
            assert!(args["capabilities"][key].is_u64(), "{key} in {args:#}");
        }
        assert!(args["capabilities"]["cpu_info"].is_object(), "{args:#}");
        assert_eq!(args["capabilities"]["hypervisor_type"], "fake");
    }
    agent.stop(GRACE).await;
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_daemons_answer_python_as_services_of_nova_do() {
    let Some(bed) = bed::shared("daemons called").await else { return };
    let house = bed.house().await;
    let agent = house.agent("cmp1", FakeConfig::default(), "").await;
    let scheduler = house.scheduler("s1", house.scheduler_config(DOWN), 1).await;
    let peer = Peer { bed: &bed, url: bed.python_at(&house) };
    let arg = json!({"text": "größer, 漢字, \u{1f600}", "null": null, "deep": [[[{}]]]});
    for (topic, server) in
        [("scheduler", Value::Null), ("scheduler", json!("s1")), ("compute", json!("cmp1"))]
    {
        let target = json!({"topic": topic, "server": server, "namespace": "baseapi", "version": "1.1"});
        let pong = peer.call(target, "ping", json!({"arg": arg})).await.expect("a pong");
        assert_eq!(pong, json!({"service": topic, "arg": arg}));
    }
    let at_agent = || json!({"topic": "compute", "server": "cmp1"});
    let stats = peer.call(at_agent(), "get_host_stats", json!({"refresh": true})).await.expect("stats");
    assert!(stats["vcpus"].is_u64(), "{stats:#}");
    for (target, method, args, class) in [
        (at_agent(), "fly", json!({}), "NoSuchMethod"),
        (at_agent(), "get_host_stats", json!({"refresh": 7}), "TypeError"),
        (json!({"topic": "scheduler", "version": "9.0"}), "get_host_list", json!({}), "UnsupportedVersion"),
    ] {
        let raised = peer.call(target, method, args).await.expect_err("refused");
        let class_seen = raised.exc_type.clone().unwrap_or_else(|| raised.class.clone());
        assert_eq!(class_seen, class, "{raised:?}");
    }
    // A placement in our own contract, by Python.
    let uuid = house.env.random.uuid();
    let spec = json!({"instance_uuids": [uuid], "flavor": {"vcpus": 1, "memory_mb": 64}, "attempt": 1});
    let to = json!({"topic": "scheduler", "version": "1.1"});
    let decision =
        peer.call(to, "select_destinations", json!({"request_spec": spec})).await.expect("a decision");
    assert_eq!(decision["selections"][0]["host"], "cmp1");
    // What Nova's computes and conductors tell their schedulers is for others: counted, and nothing else.
    let before = scheduler.server().counters().get("unsupported_version");
    for (version, method, args) in [
        ("4.1", "update_aggregates", json!({"aggregates": []})),
        ("4.2", "sync_instance_info", json!({"host_name": "cmp1", "instance_uuids": []})),
    ] {
        let target = json!({"topic": "scheduler", "fanout": true, "version": version});
        for _ in 0..5 {
            peer.ask("cast", target.clone(), method, args.clone()).await.expect("sent");
        }
    }
    let counted = async || scheduler.server().counters().get("unsupported_version") == before + 10;
    eventually("all are counted", counted).await;
    agent.stop(GRACE).await;
    scheduler.stop(GRACE).await;
}
