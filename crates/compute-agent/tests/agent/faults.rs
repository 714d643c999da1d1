//! Two agents with one name, brokers that come and go, and stopping.

use std::time::Duration;

use novella_compute_agent::{AgentConfig, Standing};
use novella_service::MemoryStore;

use crate::bus::{Bus, HOST, Moody, call, fake, s, settle};

#[tokio::test(start_paused = true)]
async fn a_second_agent_of_one_name_waits_in_silence_and_then_takes_over() {
    let (bus, first) = Bus::with_agent().await;
    let uuid = bus.take()[0].novella()["uuid"].clone();
    let second = bus
        .start_as(HOST, "second", AgentConfig::default(), &MemoryStore::new(), fake(&[]))
        .await
        .expect("it starts, and waits");
    assert_eq!(*second.manager().standing().borrow(), Standing::Waiting);
    bus.run_until(s(60)).await;
    assert!(bus.take().iter().all(|report| report.novella()["uuid"] == uuid), "only the holder reports");
    assert_eq!(second.publish_counters().published.load(std::sync::atomic::Ordering::Relaxed), 0);
    let waits = second.health().ready();
    assert!(
        !waits.ok && waits.summary().contains("host name: another agent holds this host name"),
        "{}",
        waits.summary()
    );
    assert!(first.health().ready().ok, "{}", first.health().ready().summary());

    first.stop(s(10)).await;
    settle().await;
    let reports = bus.take();
    let goodbye = reports.iter().find(|report| report.is_goodbye()).expect("the first says goodbye");
    assert_eq!(goodbye.novella()["uuid"], uuid);
    let taken = reports.iter().filter(|report| report.novella()["uuid"] != uuid).count();
    assert_eq!(taken, 1, "the second reports at once: {reports:?}");
    assert_eq!(*second.manager().standing().borrow(), Standing::Holder);
    assert!(second.health().ready().ok, "{}", second.health().ready().summary());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_in_order_says_goodbye_last() {
    let (bus, agent) = Bus::with_agent().await;
    bus.run_until(s(25)).await;
    let last = bus.take().last().unwrap().seq();
    agent.stop(s(10)).await;
    bus.run_until(s(60)).await;
    let [goodbye] = &bus.take()[..] else { panic!("the goodbye and nothing else") };
    assert!(goodbye.is_goodbye() && goodbye.seq() == last + 1, "{goodbye:?}");
    assert!(goodbye.capabilities["vcpus"].is_number(), "it replaces the report before it, so it is whole");
    assert!(!bus.has_queue("compute.cmp1"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_held_its_name_says_no_goodbye() {
    let (bus, _first) = Bus::with_agent().await;
    let second =
        bus.start_as(HOST, "second", AgentConfig::default(), &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.take();
    second.stop(s(10)).await;
    settle().await;
    assert!(!bus.take().iter().any(|report| report.is_goodbye()), "it would take the other's host down");
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_work_in_flight_but_not_for_what_only_waits() {
    let (bus, agent) = Bus::with_agent().await;
    bus.take();
    // An answer is due within a minute. Nobody needs it from an agent that stops.
    bus.compute.publish_service_capabilities(s(60), s(1)).await.unwrap();
    settle().await;
    let before = bus.now();
    agent.stop(s(10)).await;
    assert!(bus.now() - before < s(1), "stopping took {:?}", bus.now() - before);

    // The driver never answers, which is work in flight. The goodbye still fits into the grace period.
    let driver = Moody::new(Moody::WORKS);
    let agent = bus.start(HOST, AgentConfig::default(), &MemoryStore::new(), driver.clone()).await.unwrap();
    driver.set(Moody::HANGS);
    let asking = tokio::spawn({
        let compute = bus.compute.clone();
        async move { compute.get_host_stats(HOST, true, call()).await }
    });
    bus.run_until(bus.now() + s(1)).await;
    bus.take();
    let before = bus.now();
    agent.stop(s(10)).await;
    let took = bus.now() - before;
    assert!((s(5)..s(10)).contains(&took), "stopping took {took:?}");
    settle().await;
    assert!(bus.take().last().unwrap().is_goodbye());
    assert!(asking.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_cannot_be_sent_does_not_hold_up_the_stop() {
    let (bus, agent) = Bus::with_agent().await;
    bus.take();
    bus.broker.block(Some("memory alarm"));
    settle().await;
    let before = bus.now();
    agent.stop(s(10)).await;
    assert!(bus.now() - before <= s(5), "{:?}", bus.now() - before);
    assert!(bus.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_agent_leaves_nothing_behind() {
    let (bus, agent) = Bus::with_agent().await;
    bus.broker.block(Some("memory alarm"));
    bus.run_until(s(30)).await; // a report waits to be sent
    bus.take();
    drop(agent);
    settle().await;
    bus.broker.block(None);
    bus.run_until(s(90)).await;
    assert!(bus.take().is_empty(), "a dead process reports nothing, not even goodbye");
    assert!(!bus.has_queue("compute.cmp1"), "its connection has ended: {:?}", bus.broker.queues());
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_takes_nothing_only_the_newest_report_is_kept() {
    let (bus, agent) = Bus::with_agent().await;
    let before = bus.take().last().unwrap().seq();
    bus.broker.block(Some("memory alarm"));
    bus.run_until(s(62)).await;
    assert!(bus.take().is_empty());
    let summary = agent.health().ready().summary();
    assert!(summary.contains("broker: the broker memory accepts no messages: memory alarm"), "{summary}");
    assert!(agent.health().live().ok, "an alarm elsewhere is no reason to restart the agent");
    bus.broker.block(None);
    settle().await;
    let [newest] = &bus.take()[..] else { panic!("exactly one report, the newest") };
    assert!(newest.seq() >= before + 5, "five and more were replaced: {newest:?}");
    let replaced = agent.publish_counters().replaced.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(replaced, newest.seq() - before - 1);
    assert!(agent.health().ready().ok);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_the_broker_reports_what_is_true_then() {
    let (bus, agent) = Bus::with_agent().await;
    bus.take();
    // A report is waiting when the connection breaks.
    bus.broker.block(Some("memory alarm"));
    bus.run_until(s(15)).await;
    bus.broker.stop();
    bus.broker.block(None);
    bus.run_until(s(315)).await;
    assert!(bus.take().is_empty());
    let summary = agent.health().ready().summary();
    assert!(summary.contains("broker: not connected") && summary.contains("host name: "), "{summary}");

    bus.broker.start();
    bus.run_until(s(316)).await;
    let reports = bus.take();
    assert!(!reports.is_empty() && reports.len() <= 2, "{reports:?}");
    for report in reports {
        let sent_at = report.novella()["sent_at"].as_str().unwrap();
        assert!(sent_at.starts_with("2030-01-01T00:05:1"), "an old report came out: {sent_at}");
    }
    assert_eq!(*agent.manager().standing().borrow(), Standing::Holder);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lost_its_name_while_away_is_silent() {
    let (bus, first) = Bus::with_agent().await;
    bus.broker.partition("agent", true);
    let second =
        bus.start_as(HOST, "second", AgentConfig::default(), &MemoryStore::new(), fake(&[])).await.unwrap();
    bus.take();
    bus.broker.partition("agent", false);
    bus.run_until(s(45)).await;
    let mine = second.manager().standing();
    assert_eq!(*mine.borrow(), Standing::Holder);
    assert_eq!(*first.manager().standing().borrow(), Standing::Waiting);
    let holder = bus.compute.ping(HOST, call()).await.unwrap().uuid.to_string();
    let reports = bus.take();
    assert!(reports.len() >= 4 && reports.iter().all(|report| report.novella()["uuid"] == *holder));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_history() {
    async fn run() -> Vec<(Duration, String)> {
        let (bus, _agent) = Bus::with_agent().await;
        for second in [7, 19, 33] {
            bus.run_until(s(second)).await;
            bus.compute.publish_service_capabilities(s(2), s(1)).await.unwrap();
        }
        bus.run_until(s(60)).await;
        bus.take().into_iter().map(|report| (report.at, report.capabilities.to_string())).collect()
    }
    assert_eq!(run().await, run().await);
}
