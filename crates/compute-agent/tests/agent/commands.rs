//! The commands that an agent answers, and the users whose commands it obeys.

use std::time::Duration;

use novella_compute_agent::AgentConfig;
use novella_messaging::{RpcClient, RpcError, Target};
use novella_rpcapi::{BaseApi, ComputeApi, Names};
use novella_service::MemoryStore;
use serde_json::json;

use crate::bus::{Bus, HOST, Moody, call, fake, s};

/// Settings of an agent that sends no report of its own accord, so that each report is an answer.
fn quiet() -> AgentConfig {
    let mut config = AgentConfig::default();
    config.report.periodic_interval = s(100_000);
    config.report.host_state_interval = s(100_000);
    config.report.periodic_fuzzy_delay = s(100_000);
    config
}

#[tokio::test(start_paused = true)]
async fn a_request_to_publish_is_answered_once_per_window_and_within_it() {
    let bus = Bus::new().await;
    let _agent = bus.start(HOST, quiet(), &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.take();
    for round in 1..=20 {
        let asked = bus.now();
        for _ in 0..5 {
            bus.compute.publish_service_capabilities(s(2), s(1)).await.unwrap();
        }
        bus.run_until(asked + s(2)).await;
        let answers = bus.take();
        assert_eq!(answers.len(), 1, "round {round}");
        assert!(answers[0].at - asked <= s(2));
        bus.run_until(asked + s(10)).await;
        assert_eq!(bus.take().len(), 0, "round {round}: nothing follows");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answers_of_many_agents_spread_over_the_window() {
    let bus = Bus::new().await;
    let mut agents = Vec::new();
    for n in 0..40 {
        let host = format!("cmp{n}");
        let store = MemoryStore::new();
        let env = novella_service::Env::simulated(n).with_store(store);
        let transport = bus.broker.connect("agent");
        agents.push(novella_compute_agent::start(quiet(), host, env, fake(&[]), transport).await.unwrap());
    }
    bus.run_until(s(1)).await;
    bus.take();
    let asked = bus.now();
    bus.compute.publish_service_capabilities(s(2), s(1)).await.unwrap();
    bus.run_until(asked + s(3)).await;
    let answers = bus.take();
    assert_eq!(answers.len(), 40);
    for quarter in 0..4 {
        let (from, to) = (asked + s(2) * quarter / 4, asked + s(2) * (quarter + 1) / 4);
        let count = answers.iter().filter(|answer| answer.at >= from && answer.at <= to).count();
        assert!((3..=20).contains(&count), "{count} of 40 answers in quarter {quarter}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_an_answer_went_out_gets_another_within_its_own_window() {
    let bus = Bus::new().await;
    let _agent = bus.start(HOST, quiet(), &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.take();
    let asked = bus.now();
    bus.compute.publish_service_capabilities(s(10), s(1)).await.unwrap();
    while bus.reports().is_empty() {
        bus.run_until(bus.now() + Duration::from_millis(10)).await;
    }
    assert!(bus.now() < asked + s(9), "this seed answers early enough to ask again in the same window");
    let asked_again = bus.now();
    bus.compute.publish_service_capabilities(s(10), s(1)).await.unwrap();
    bus.run_until(asked + s(10)).await;
    assert_eq!(bus.take().len(), 1, "one per window");
    bus.run_until(asked_again + s(10)).await;
    assert_eq!(bus.take().len(), 1, "and nobody unanswered");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_window_is_answered_at_once() {
    let bus = Bus::new().await;
    let _agent = bus.start(HOST, quiet(), &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.take();
    bus.compute.publish_service_capabilities_of(HOST, s(1)).await.unwrap();
    bus.run_until(bus.now() + Duration::from_millis(10)).await;
    assert_eq!(bus.take().len(), 1);
    // An absurdly long window is cut, so that it cannot put off the answer for ever.
    bus.compute.publish_service_capabilities(s(1_000_000), s(1)).await.unwrap();
    bus.run_until(bus.now() + s(61)).await;
    assert_eq!(bus.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn get_host_stats_answers_from_the_last_reading_or_a_new_one() {
    let bus = Bus::new().await;
    let driver = Moody::new(Moody::WORKS);
    let _agent = bus.start(HOST, quiet(), &MemoryStore::new(), driver.clone()).await.unwrap();
    let seq = bus.take()[0].seq();
    for refresh in [false, true] {
        let stats = bus.compute.get_host_stats(HOST, refresh, call()).await.unwrap();
        assert_eq!((&stats["vcpus"], &stats["novella"]["seq"]), (&json!(8), &json!(seq)), "{stats:#}");
    }
    driver.set(Moody::FAILS);
    assert_eq!(bus.compute.get_host_stats(HOST, false, call()).await.unwrap()["vcpus"], 8);
    let Err(RpcError::Remote { source, .. }) = bus.compute.get_host_stats(HOST, true, call()).await else {
        panic!("a failing driver cannot answer anew");
    };
    assert!(source.message.contains("cannot reach it; start it"), "{source}");
    assert!(bus.take().is_empty(), "asking is not reporting");
}

#[tokio::test(start_paused = true)]
async fn ping_says_who_answers() {
    let (bus, store) = (Bus::new().await, MemoryStore::new());
    let _agent = bus.start(HOST, AgentConfig::default(), &store, fake(&[])).await.unwrap();
    let report = bus.take().pop().unwrap();
    bus.run_until(s(95)).await;
    let status = bus.compute.ping(HOST, call()).await.unwrap();
    assert_eq!((status.host.as_str(), status.driver.as_str(), status.incarnation), (HOST, "fake", 1));
    assert_eq!(json!(status.uuid), report.novella()["uuid"]);
    assert_eq!(status.pid, std::process::id());
    assert!((95.0..96.0).contains(&status.uptime_s), "{}", status.uptime_s);
    assert_eq!(status.reports, 1 + bus.take().len() as u64);

    let nova = Target::topic("compute").server(HOST);
    let pong = BaseApi::ping(&bus.client, nova, json!("hello"), call()).await.unwrap();
    assert_eq!((pong.service.as_str(), &pong.arg), ("compute", &json!("hello")));
}

#[tokio::test(start_paused = true)]
async fn other_users_are_refused_and_counted() {
    let bus = Bus::new().await;
    let mut config = quiet();
    config.rpc.accept_commands_from = vec!["scheduler".into()];
    let agent = bus.start(HOST, config, &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.take();
    let stranger = RpcClient::new(bus.broker.connect_as("elsewhere", "agent"), [9; 32]);
    let stranger = ComputeApi::new(stranger, &Names::on("nova"));
    stranger.publish_service_capabilities_of(HOST, s(1)).await.unwrap();
    stranger.publish_service_capabilities(s(1), s(1)).await.unwrap();
    let refused = stranger.ping(HOST, call()).await.unwrap_err();
    let RpcError::Remote { source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(source.kwargs["setting"], "rpc.accept_commands_from", "{source:?}");
    assert!(source.message.starts_with("the broker user agent may not call ping"), "{source}");
    assert!(bus.take().is_empty());
    assert_eq!(agent.server().counters().get("rejected_user"), 3);

    assert_eq!(bus.compute.ping(HOST, call()).await.unwrap().host, HOST);
    bus.compute.publish_service_capabilities_of(HOST, s(1)).await.unwrap();
    bus.run_until(bus.now() + s(1)).await;
    assert_eq!(bus.take().len(), 1);
    assert_eq!(agent.server().counters().get("rejected_user"), 3);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_answered_and_counted_and_stops_nothing() {
    let bus = Bus::new().await;
    let agent = bus.start(HOST, quiet(), &MemoryStore::new(), fake(&[])).await.unwrap();
    let target = Target::topic("compute").server(HOST);
    for (method, args, class, counter) in [
        ("make_coffee", json!({}), "NoSuchMethod", "no_such_method"),
        ("get_host_stats", json!({"refresh": "perhaps"}), "TypeError", "bad_arguments"),
        ("publish_service_capabilities", json!({"window_ms": -1}), "TypeError", "bad_arguments"),
    ] {
        let before = agent.server().counters().get(counter);
        match bus.client.call::<serde_json::Value>(&target, method, &args, call()).await {
            Err(RpcError::Remote { source, .. }) => assert_eq!(source.class, class, "{method}: {source}"),
            other => panic!("{method} was answered {other:?}"),
        }
        assert_eq!(agent.server().counters().get(counter), before + 1, "{method}");
    }
    assert_eq!(bus.compute.ping(HOST, call()).await.unwrap().host, HOST);
}
