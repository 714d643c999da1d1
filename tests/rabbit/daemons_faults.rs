//! Faults under load: the broker killed and frozen, the scheduler frozen, a second scheduler that joins. Everything
//! recovers by itself, and no request gets a refusal that the full map would not give.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use novella_objects::{Flavor, HostStatus};
use novella_virt::FakeConfig;
use tokio::time::sleep;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_costs_no_refusal() {
    let Some(house) = House::alone("daemons kill -9").await.map(Arc::new) else { return };
    let agents = house.fleet(50).await;
    let config = house.scheduler_config(Duration::from_secs(30));
    let scheduler = house.scheduler("s1", config, agents.len()).await;
    let load = house.load(3).await;
    load.more(100).await;
    house.broker.ctl(&["kill9"]);
    sleep(Duration::from_secs(1)).await;
    let deaf = scheduler.health().ready();
    house.broker.ctl(&["start"]);
    assert!(!deaf.ok, "a scheduler that hears nobody says so");
    load.more(100).await;
    until_all_up(&scheduler, agents.len()).await;
    load.more(100).await;
    load.end().await;
    assert!(scheduler.health().ready().ok);
    let hosts = view(&scheduler).await;
    assert!(hosts.values().all(|host| host.warnings.is_empty()), "{hosts:#?}");
    assert_eq!(scheduler.manager().report_counters().down, 0, "nobody was blamed");
    assert_eq!(scheduler.manager().requests.refusals.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_no_hosts_fault() {
    let Some(house) = House::alone("daemons SIGSTOP of the broker").await.map(Arc::new) else { return };
    let down_time = Duration::from_secs(4);
    let mut agents = house.fleet(10).await;
    // These notice that the broker is silent, and have to come back.
    for number in 0..10 {
        let host = format!("nervous-{number}");
        agents.push(house.agent(&host, FakeConfig::default(), "&heartbeat_timeout_threshold=2").await);
    }
    let scheduler = house.scheduler("s1", house.scheduler_config(down_time), agents.len()).await;
    let load = house.load(2).await;
    load.more(50).await;
    house.broker.ctl(&["pause"]);
    // Longer than a host may be silent alone, and well within the three times that many may be silent together.
    sleep(2 * down_time).await;
    let frozen = view(&scheduler).await;
    house.broker.ctl(&["resume"]);
    assert_eq!(in_state(&frozen, HostStatus::Suspect).len(), agents.len(), "{frozen:#?}");
    load.more(50).await;
    until_all_up(&scheduler, agents.len()).await;
    load.more(50).await;
    load.end().await;
    assert_eq!(scheduler.manager().report_counters().down, 0, "nobody was blamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_scheduler_blames_nobody_and_places_at_once() {
    let Some(house) = House::shared("daemons SIGSTOP of the scheduler").await.map(Arc::new) else { return };
    let down_time = Duration::from_secs(2);
    let agents = house.fleet(12).await;
    let (mut scheduler, http) = Process::scheduler(&house.url, "s1", down_time, &[]);
    scheduler.wait_for(SERVES);
    let operator = house.operator().await;
    let load = house.load(2).await;
    load.more(20).await;
    scheduler.signal(Signal::STOP);
    let asked = house.request(large());
    // Waits in the queue, and is the first thing that is looked at afterwards.
    let (first, ()) = tokio::join!(
        operator.select_destinations(&asked, novella_messaging::CallOptions::new(PATIENCE)),
        async {
            sleep(3 * down_time).await;
            scheduler.signal(Signal::CONT);
        }
    );
    assert_eq!(host_of(&first.expect("answered")), BIG);
    load.more(50).await;
    load.end().await;
    let hosts = host_list(&house.url);
    assert_eq!(hosts.iter().filter(|host| host["state"] == "up").count(), agents.len(), "{hosts:#?}");
    let metrics = get(http, "/metrics");
    assert_eq!(metric(&metrics, r#"novella_scheduler_events_total{event="down"}"#), 0, "{metrics}");
    assert_eq!(metric(&metrics, "novella_scheduler_refusals_total"), 0);
    scheduler.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_scheduler_joins_under_load() {
    let Some(house) = House::shared("daemons second scheduler").await.map(Arc::new) else { return };
    let mut agents = house.fleet(20).await;
    // A zone of its own for what is not load.
    let whole = FakeConfig { vcpus: 2, memory_mb: 2_000_000_000, ..FakeConfig::default() };
    agents.push(house.agent("vault", whole, "").await);
    let config = house.scheduler_config(Duration::from_secs(5));
    let first = house.scheduler("s1", config.clone(), agents.len()).await;
    let load = house.load(4).await;
    load.more(100).await;
    let second = house.scheduler("s2", config, agents.len()).await;
    load.more(300).await;

    // All that the vault has, given away by one: the other will not give it again.
    let all = Flavor { vcpus: 1, memory_mb: 1_500_000_000, ..Flavor::default() };
    let operator = house.operator().await;
    let decision = ask(&operator.of("s1"), &house.request(all.clone())).await;
    assert_eq!((host_of(&decision), decided_by(&decision)), ("vault", "s1"));
    let seen = async || view(&second).await["vault"].reservations == 1;
    eventually("the other scheduler sees the reservation", seen).await;
    let refused = ask(&operator.of("s2"), &house.request(all)).await;
    assert!(refused.refusal.is_some(), "{refused:#?}");

    let by_scheduler = load.end().await;
    assert_eq!(by_scheduler.keys().collect::<Vec<_>>(), ["s1", "s2"], "both took part: {by_scheduler:?}");
    let refusals = |scheduler: &novella_scheduler::Scheduler| {
        scheduler.manager().requests.refusals.load(Ordering::Relaxed)
    };
    assert_eq!((refusals(&first), refusals(&second)), (0, 1), "but for the one above");
    second.stop(GRACE).await;
    drop(first);
}
