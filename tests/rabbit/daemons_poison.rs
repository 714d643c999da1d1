//! What no honest peer sends, and more than a queue holds: counted, answered by serving on, and never redelivered for
//! ever.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use novella_virt::FakeConfig;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::support::*;

fn envelope(message: &Value) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string().into_bytes()
}

fn request(method: &str, version: &str, args: Value) -> Vec<u8> {
    envelope(&json!({"method": method, "version": version, "args": args, "_unique_id": ""}))
}

fn report(host: Value, vcpus: Value) -> Vec<u8> {
    let args = json!({"service_name": "compute", "host": host, "capabilities": {"vcpus": vcpus}});
    request("update_service_capabilities", "1.0", args)
}

fn nan() -> Vec<u8> {
    let text = String::from_utf8(report(json!("nan"), json!("@"))).expect("JSON");
    text.replace(r#"\"@\""#, "NaN").into_bytes()
}

/// Messages by what is wrong with them.
fn poisons() -> Vec<(&'static str, Vec<u8>)> {
    let select = |memory: Value| {
        let flavor = json!({"vcpus": 1, "memory_mb": memory});
        let uuids = ["00000000-0000-4000-8000-000000000001"];
        let spec = json!({"instance_uuids": uuids, "flavor": flavor, "attempt": 1});
        request("select_destinations", "1.1", json!({"request_spec": spec}))
    };
    vec![
        ("not JSON", b"\x00\xff not json".to_vec()),
        ("nothing", Vec::new()),
        ("not our envelope", b"{\"hello\": \"world\"}".to_vec()),
        ("an unknown envelope", b"{\"oslo.version\": \"9.0\", \"oslo.message\": \"{}\"}".to_vec()),
        ("a message cut off", b"{\"oslo.version\": \"2.0\", \"oslo.message\": \"{\\\"me\"}".to_vec()),
        ("an unknown method", request("fly", "1.0", json!({}))),
        ("an unknown version", request("status", "7.3", json!({}))),
        ("a wrong type", report(json!("wrong"), json!("sixteen"))),
        ("an empty host name", report(json!(""), json!(1))),
        ("a host that is no text", report(json!(7), json!(1))),
        ("a negative size of a host", report(json!("negative"), json!(-4))),
        ("NaN", nan()),
        ("a negative size of an instance", select(json!(-512))),
        ("an absurd size of an instance", select(json!(u64::MAX))),
        ("deep nesting", [vec![b'['; 100_000], vec![b']'; 100_000]].concat()),
    ]
}

/// Outcomes that must all have been counted after the poisons went to both queues.
const COUNTED: [&str; 8] = [
    r#"novella_rpc_messages_total{outcome="malformed_json"}"#,
    r#"novella_rpc_messages_total{outcome="malformed_envelope"}"#,
    r#"novella_rpc_messages_total{outcome="no_such_method"}"#,
    r#"novella_rpc_messages_total{outcome="unsupported_version"}"#,
    r#"novella_rpc_messages_total{outcome="bad_arguments"}"#,
    r#"novella_rpc_messages_total{outcome="malformed_content_type"}"#,
    r#"novella_scheduler_reports_total{outcome="bad"}"#,
    "novella_scheduler_unreadable_reports_total",
];

/// Publishes; false if the broker itself refuses it.
async fn sent(house: &House, exchange: &str, key: &str, content_type: &str, body: &[u8]) -> bool {
    let channel = connection(&house.url).await.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let properties = BasicProperties::default().with_content_type(content_type.into());
    let options = BasicPublishOptions::default();
    match channel.basic_publish(exchange.into(), key.into(), options, body, properties).await {
        Ok(confirm) => confirm.await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_counted_served_past_and_gone() {
    let Some(house) = House::shared("daemons poison").await.map(Arc::new) else { return };
    let agents = house.fleet(3).await;
    let (mut scheduler, http) = Process::scheduler(&house.url, "s1", Duration::from_secs(5), &[]);
    scheduler.wait_for(SERVES);
    let load = house.load(1).await;
    load.more(10).await;
    let entrances = [("", "scheduler"), ("scheduler_fanout", "")];
    let mut accepted = 0;
    for (exchange, key) in entrances {
        for (what, body) in poisons() {
            assert!(
                sent(&house, exchange, key, "application/json", &body).await,
                "{what} to {exchange}{key}"
            );
            accepted += 1;
        }
        assert!(sent(&house, exchange, key, "text/plain", b"{}").await);
        // RabbitMQ 4 takes 16 MiB by default, and refuses more by itself.
        accepted +=
            1 + u64::from(sent(&house, exchange, key, "application/json", &vec![b'['; 20 << 20]).await);
    }
    assert!(accepted == 32 || accepted == 34, "{accepted}");
    load.more(50).await;
    load.end().await;

    let metrics = get(http, "/metrics");
    for name in COUNTED {
        assert!(metric(&metrics, name) >= 2, "{name} in:\n{metrics}");
    }
    let too_large = metric(&metrics, r#"novella_rpc_messages_total{outcome="malformed_too_large"}"#);
    assert_eq!(too_large, accepted - 32, "what the broker lets through is ours to count");
    let empty = async || {
        let list =
            house.broker.ctl(&["ctl", "list_queues", "-p", &house.vhost, "name", "messages", "--silent"]);
        list.lines().filter(|line| line.starts_with("scheduler")).all(|line| line.ends_with("\t0"))
    };
    // Reports keep coming; between them the queues are empty.
    eventually("nothing is left in the queues", empty).await;
    let (code, hosts, err) = novella(&house.url, "host list -f json");
    let hosts: Vec<Value> = serde_json::from_str(&hosts).unwrap_or_else(|_| panic!("{code}: {err}"));
    let known = |row: &&Value| row["state"] == "up" && !row["uuid"].is_null();
    assert_eq!(hosts.iter().filter(known).count(), agents.len(), "{hosts:#?}");
    scheduler.signal(Signal::TERM);
    let (code, log) = scheduler.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_a_full_queue_dropped_are_seen_and_asked_for() {
    let Some(house) = House::shared("daemons full queue").await else { return };
    let mut agents = Vec::new();
    for number in 0..2 {
        agents.push(house.agent(&format!("host-{number}"), FakeConfig::default(), "").await);
    }
    // Room for 4 × 2 reports, for longer than the stop: it is length that drops, not age. Two more are under way to the
    // consumer.
    let limits = [
        ("NOVELLA_REPORTS__MAX_HOSTS", "2"),
        ("NOVELLA_REPORTS__REPORT_TTL", "60s"),
        ("NOVELLA_RPC__REPORT_BATCH", "1"),
    ];
    let (mut scheduler, http) = Process::scheduler(&house.url, "s1", Duration::from_secs(30), &limits);
    scheduler.wait_for(SERVES);
    let missed = || metric(&get(http, "/metrics"), r#"novella_scheduler_reports_total{outcome="missed"}"#);
    let asked = || -> u64 { agents.iter().map(|agent| agent.server().counters().get("dispatched")).sum() };
    let (missed_before, asked_before) = (missed(), asked());
    assert_eq!(missed_before, 0);
    scheduler.signal(Signal::STOP);
    let depth = || {
        let of = ["ctl", "list_queues", "-p", &house.vhost, "name", "messages_ready", "--silent"];
        let list = house.broker.ctl(&of);
        let line =
            list.lines().find(|line| line.starts_with("scheduler_fanout_")).expect("listed").to_owned();
        line.rsplit('\t').next().and_then(|n| n.parse::<u32>().ok()).expect("a number")
    };
    eventually("the queue is full", async || depth() == 8).await;
    sleep(10 * INTERVAL).await;
    assert_eq!(depth(), 8, "4 × max_hosts, however many come");
    scheduler.signal(Signal::CONT);
    eventually("the gap is seen", async || missed() >= 10).await;
    eventually("the hosts are asked again", async || asked() >= asked_before + 2).await;
    eventually("the queue is drained", async || depth() == 0).await;
    let (code, hosts, err) = novella(&house.url, "host list -f json");
    let hosts: Vec<Value> = serde_json::from_str(&hosts).unwrap_or_else(|_| panic!("{code}: {err}"));
    assert!(hosts.len() == 2 && hosts.iter().all(|row| row["state"] == "up"), "{hosts:#?}");
}
