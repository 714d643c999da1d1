//! What no honest peer sends, and more than a queue holds: counted, answered by serving on, and never redelivered for
//! ever.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use novella_messaging::{CallOptions, RpcClient};
use novella_rpcapi::{ComputeApi, Names};
use novella_virt::FakeConfig;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::poisons::{envelope, poisons, request};
use crate::process::*;
use crate::support::*;

/// Outcomes that must all have been counted after the poisons went to both queues.
const COUNTED: [&str; 8] = [
    r#"novella_rpc_messages_total{outcome="malformed_json"}"#,
    r#"novella_rpc_messages_total{outcome="malformed_envelope"}"#,
    r#"novella_rpc_messages_total{outcome="no_such_method"}"#,
    r#"novella_rpc_messages_total{outcome="unsupported_version"}"#,
    r#"novella_rpc_failures_total{kind="bad_arguments"}"#,
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
    let small = 2 * (poisons().len() as u64 + 1);
    assert!(accepted == small || accepted == small + 2, "{accepted}");
    load.more(50).await;
    load.end().await;

    let metrics = get(http, "/metrics");
    for name in COUNTED {
        assert!(metric(&metrics, name) >= 2, "{name} in:\n{metrics}");
    }
    let too_large = metric(&metrics, r#"novella_rpc_messages_total{outcome="malformed_too_large"}"#);
    assert_eq!(too_large, accepted - small, "what the broker lets through is ours to count");
    let empty = async || {
        let list =
            house.broker.ctl(&["ctl", "list_queues", "-p", &house.vhost, "name", "messages", "--silent"]);
        list.lines().filter(|line| line.starts_with("scheduler")).all(|line| line.ends_with("\t0"))
    };
    // Reports keep coming; between them the queues are empty.
    eventually("nothing is left in the queues", empty).await;
    let hosts = host_list(&house.url);
    let known = |row: &&Value| row["state"] == "up" && !row["uuid"].is_null();
    assert_eq!(hosts.iter().filter(known).count(), agents.len(), "{hosts:#?}");
    let log = scheduler.stop();
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
    let missed = || metric(&get(http, "/metrics"), r#"novella_scheduler_events_total{event="missed"}"#);
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
    let hosts = host_list(&house.url);
    assert!(hosts.len() == 2 && hosts.iter().all(|row| row["state"] == "up"), "{hosts:#?}");
}

/// What the agent's own methods cannot read, besides.
fn poisons_for_an_agent() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = poisons();
    let no_namespace = json!({"method": "ping", "version": "1.1", "args": {}, "namespace": 7});
    let no_args = json!({"method": "ping", "version": "1.1", "args": [1], "_unique_id": "", "_msg_id": "m"});
    all.extend([
        (
            "a window that is no number",
            request("publish_service_capabilities", "1.0", json!({"window_ms": "soon"})),
        ),
        ("a flag that is no flag", request("get_host_stats", "1.0", json!({"refresh": 7}))),
        ("a private method", request("_report", "1.0", json!({}))),
        ("another namespace", envelope(&no_namespace)),
        ("a call without a queue, of a list", envelope(&no_args)),
    ]);
    all
}

/// Outcomes that an agent must have counted, each.
const COUNTED_BY_AN_AGENT: [&str; 6] = [
    "malformed_json",
    "malformed_envelope",
    "malformed_request",
    "malformed_content_type",
    "no_such_method",
    "unsupported_version",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_to_an_agent_is_counted_said_once_served_past_and_gone() {
    let Some(house) = House::shared("agent poison").await else { return };
    let http = free_address();
    let more = [("NOVELLA_HTTP__LISTEN", &*http.to_string())];
    let mut agent = Process::agent(&house.url, "cmp1", &state_dir(&house, "cmp1"), "fake", &more);
    agent.wait_for("consuming queue=compute.cmp1 ");
    let poisons = poisons_for_an_agent();
    let rounds = 3;
    for _ in 0..rounds {
        for (exchange, key) in [("", "compute.cmp1"), ("compute_fanout", "")] {
            for (what, body) in &poisons {
                assert!(sent(&house, exchange, key, "application/json", body).await, "{what}");
            }
            assert!(sent(&house, exchange, key, "text/plain", b"{}").await);
        }
    }
    let empty = async || {
        let of = ["ctl", "list_queues", "-p", &house.vhost, "name", "messages", "--silent"];
        house.broker.ctl(&of).lines().any(|line| line == "compute.cmp1\t0")
    };
    eventually("nothing is left in its queue", empty).await;
    let counter = |text: &str, outcome: &str| {
        metric(text, &format!(r#"novella_rpc_messages_total{{outcome="{outcome}"}}"#))
    };
    let failures =
        |text: &str, kind: &str| metric(text, &format!(r#"novella_rpc_failures_total{{kind="{kind}"}}"#));
    // The outcomes exclude one another, so their sum is what has come.
    let received = |text: &str| -> u64 {
        let counts = text.lines().filter_map(|line| line.strip_prefix("novella_rpc_messages_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let all = (rounds * 2 * (poisons.len() + 1)) as u64;
    eventually("all have come", async || received(&get(http, "/metrics")) >= all).await;
    let metrics = get(http, "/metrics");
    for outcome in COUNTED_BY_AN_AGENT {
        assert!(counter(&metrics, outcome) >= 2 * rounds as u64, "{outcome} in:\n{metrics}");
    }
    assert!(failures(&metrics, "bad_arguments") >= 2 * rounds as u64, "in:\n{metrics}");
    assert_eq!(received(&metrics), all, "nothing came twice");
    assert_eq!(failures(&metrics, "panics"), 0);
    let asker = RpcClient::new(house.transport("asker").await, house.env.random.fork("asker"));
    let pong = ComputeApi::new(asker, &Names::on(EXCHANGE)).ping("cmp1", CallOptions::new(PATIENCE)).await;
    assert_eq!(pong.expect("the agent still answers").host, "cmp1");
    let log = agent.stop();
    assert!(!log.contains("panicked"), "{log}");
    // One line for each kind of fault, however often it came.
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("a malformed request") || line.contains("a request failed"))
        .collect();
    assert!(complaints.len() >= COUNTED_BY_AN_AGENT.len() && complaints.len() <= 14, "{complaints:#?}");
    for fault in ["not UTF-8", "unsupported envelope version", "content type is not application/json"] {
        let about = format!("fault=\"{fault}\"");
        assert_eq!(
            complaints.iter().filter(|line| line.contains(&about)).count(),
            1,
            "{fault}: {complaints:#?}"
        );
    }
}

/// The body of an answer to the call of this id.
type Wrong = fn(&Value) -> Vec<u8>;

/// Takes the calls on the schedulers' queue and answers each with what `wrong` makes of its id.
async fn answer_wrongly(house: &House, wrong: Wrong) -> lapin::Connection {
    let connection = connection(&house.url).await;
    let channel = connection.create_channel().await.expect("a channel");
    let (none, durable) =
        (FieldTable::default(), QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() });
    channel.queue_declare("scheduler".into(), durable, none.clone()).await.expect("declared");
    let exchange = ExchangeDeclareOptions::default();
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, exchange, none.clone())
        .await
        .expect("made");
    let (queue, key) = ("scheduler".into(), "scheduler".into());
    channel
        .queue_bind(queue, EXCHANGE.into(), key, QueueBindOptions::default(), none.clone())
        .await
        .expect("bound");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut calls =
        channel.basic_consume("scheduler".into(), "wrong".into(), options, none).await.expect("consumed");
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = calls.next().await {
            let outer: Value = serde_json::from_slice(&delivery.data).expect("JSON");
            let inner: Value =
                serde_json::from_str(outer["oslo.message"].as_str().expect("text")).expect("JSON");
            let to = inner["_reply_q"].as_str().expect("a call");
            let properties = BasicProperties::default().with_content_type("application/json".into());
            let (options, body) = (BasicPublishOptions::default(), wrong(&inner["_msg_id"]));
            let sent = channel.basic_publish("".into(), to.into(), options, &body, properties).await;
            sent.expect("sent");
        }
    });
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_survives_any_answer() {
    let Some(house) = House::shared("wrong answers").await else { return };
    // An answer that names its call fails it; one that does not leaves it waiting.
    const UNREADABLE: i32 = 255;
    const NO_ANSWER: i32 = 124;
    let answers: [(&str, Wrong, i32); 6] = [
        ("rubbish", |_| b"\x00\xff rubbish".to_vec(), NO_ANSWER),
        ("nothing", |_| Vec::new(), NO_ANSWER),
        (
            "another's",
            |_| envelope(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": "x"})),
            NO_ANSWER,
        ),
        (
            "a failure that is no text",
            |id| envelope(&json!({"result": null, "failure": {"a": 1}, "ending": true, "_msg_id": id})),
            UNREADABLE,
        ),
        (
            "a failure that is no JSON",
            |id| envelope(&json!({"result": null, "failure": "{", "ending": true, "_msg_id": id})),
            UNREADABLE,
        ),
        (
            "a result of another kind",
            |id| envelope(&json!({"result": ["pong"], "failure": null, "ending": true, "_msg_id": id})),
            UNREADABLE,
        ),
    ];
    for (what, wrong, expected) in answers {
        let server = answer_wrongly(&house, wrong).await;
        let (code, out, err) = novella(&house.url, "ping --timeout 2s -f json");
        assert_eq!(code, expected, "{what}: {out}{err}");
        assert!(
            out.is_empty() && !err.contains("panicked") && err.lines().count() <= 4,
            "{what}: {out}{err}"
        );
        server.close(200, "done".into()).await.expect("closed");
    }
}
