//! What the broker holds for the daemons, and what somebody else does to it: exchanges deleted, a queue that is there in
//! another shape. The daemons say that they are deaf, and heal without a restart.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use novella_messaging::CallOptions;
use novella_rpcapi::HostPing;
use tokio::time::{Instant, sleep};

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::{Process, get};
use crate::support::*;

/// Long enough for whatever these tests do, so that no host is down meanwhile.
const DOWN_TIME: Duration = Duration::from_secs(90);

/// The exchanges that all share.
const FURNITURE: [&str; 3] = ["scheduler_fanout", "compute_fanout", EXCHANGE];

/// A channel in the virtual host of a house, of somebody who is none of us.
async fn stranger(house: &House) -> lapin::Channel {
    let uri = format!("{}?frame_max=131072", house.url.replacen("rabbit://", "amqp://", 1));
    let connection = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await;
    connection.expect("the broker answers").create_channel().await.expect("a channel")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_exchanges_come_back_with_their_bindings() {
    let Some(house) = House::shared("daemons deleted exchanges").await else { return };
    let agents = house.fleet(2).await;
    let scheduler = house.scheduler("s1", house.scheduler_config(DOWN_TIME), agents.len()).await;
    let stranger = stranger(&house).await;
    for exchange in FURNITURE {
        let deleted = stranger.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
        deleted.expect("the test account may do everything");
    }
    let reports = scheduler.manager().report_counters().accepted;
    let heard = async || scheduler.manager().report_counters().accepted > reports + 10;
    eventually("reports are heard again", heard).await;
    let operator = house.operator().await;
    let decision = ask(&operator, &house.request(small())).await;
    assert!(decision.refusal.is_none(), "{decision:#?}");
    // Hosts are bound again once a minute.
    let deadline = Instant::now() + Duration::from_secs(90);
    for agent in &agents {
        loop {
            let options = CallOptions { mandatory: true, ..CallOptions::new(PATIENCE) };
            let pinged = operator.ping_host(agent.host(), Duration::from_secs(2), options).await;
            if matches!(pinged, Ok(HostPing::Answered(_))) {
                break;
            }
            assert!(Instant::now() < deadline, "commands never reach {} again: {pinged:?}", agent.host());
            sleep(Duration::from_secs(1)).await;
        }
    }
    assert!(scheduler.health().ready().ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_hears_nothing_says_so_until_it_has_repaired_it() {
    let Some(house) = House::shared("daemons deaf scheduler").await else { return };
    house.allow_the_shipped_users().await;
    let (mut scheduler, http) = Process::scheduler(&house.url_of("scheduler"), "s1", DOWN_TIME, &[]);
    scheduler.wait_for(SERVES);
    let ready = || get(http, "/readyz").starts_with("HTTP/1.1 200");
    eventually("it is ready", async || ready()).await;
    let stranger = stranger(&house).await;
    for (exchange, says) in [("scheduler_fanout", "messages to"), (EXCHANGE, "requests to this scheduler")] {
        let told = || {
            let answer = get(http, "/readyz");
            answer.starts_with("HTTP/1.1 503") && answer.contains(says)
        };
        let (mut deleted_at, mut missed) = (Instant::now(), false);
        // The periodic binding may repair it before the next message to itself is sent, but not each time.
        for _ in 0..4 {
            let deleted = stranger.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
            deleted.expect("the test account may do everything");
            deleted_at = Instant::now();
            while !missed && deleted_at.elapsed() < Duration::from_secs(8) {
                missed = told();
                sleep(Duration::from_millis(50)).await;
            }
            if missed {
                break;
            }
        }
        assert!(missed, "{exchange} is never missed");
        eventually(&format!("{exchange} is back"), async || ready()).await;
        assert!(deleted_at.elapsed() < Duration::from_secs(20), "{exchange}: {:?}", deleted_at.elapsed());
    }
    // No message to itself goes this way, and no scheduler hears less without it. Agents that start would.
    let deleted = stranger.exchange_delete("compute_fanout".into(), ExchangeDeleteOptions::default()).await;
    deleted.expect("the test account may do everything");
    let back = async || {
        let listed = house.broker.ctl(&["ctl", "list_exchanges", "-p", &house.vhost, "name"]);
        listed.lines().any(|name| name == "compute_fanout")
    };
    assert!(!back().await);
    eventually("compute_fanout is back", back).await;
    let log = scheduler.stop();
    has(&log, &["messages to this scheduler do not arrive", "messages to this scheduler arrive again"]);
    has(&log, &["an exchange was missing and is declared again exchange=compute_fanout"]);
    assert!(!log.contains("ACCESS_REFUSED") && !log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_exchange_is_told_to_those_who_may_not_declare_it() {
    let Some(house) = House::shared("daemons missing exchanges").await else { return };
    house.import_of_the_shipped(&["permissions", "topic_permissions"]).await;
    let operator = house.url_of("operator");
    let (code, _, err) = novella(&operator, "host list");
    assert_eq!(code, 7, "{err}");
    has(&err, &["no scheduler listens on this broker", "no exchange 'nova'", "start one"]);
    let mut agent = Process::agent(
        &house.url_of("agent"),
        "cmp1",
        &state_dir(&house, "cmp1"),
        "fake",
        &[("NOVELLA_RPC__ACCEPT_COMMANDS_FROM", "scheduler")],
    );
    let told = agent.wait_for("cannot consume the queue of this host");
    has(&told, &["no exchange 'nova'", "schedulers declare what is missing within seconds: start one"]);

    // Without the definitions, the schedulers make what is missing.
    let (scheduler, _) = Process::scheduler(&house.url_of("scheduler"), "s1", DOWN_TIME, &SHIPPED_LISTS);
    agent.wait_for("consuming queue=compute.cmp1");
    let up = async || novella(&operator, "host list -f json").1.contains(r#""state": "up""#);
    eventually("the host is up", up).await;
    for daemon in [agent, scheduler] {
        let log = daemon.stop();
        assert!(!log.contains("ACCESS_REFUSED"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_without_a_scheduler_are_unheard_and_cost_no_refusals() {
    let Some(house) = House::shared("daemons no scheduler").await else { return };
    house.allow_the_shipped_users().await;
    let (scheduler, _) = Process::scheduler(&house.url_of("scheduler"), "s1", DOWN_TIME, &SHIPPED_LISTS);
    let mut agent = Process::agent(&house.url_of("agent"), "cmp1", &state_dir(&house, "cmp1"), "fake", &[]);
    let operator = house.url_of("operator");
    let up = async || novella(&operator, "host list -f json").1.contains(r#""state": "up""#);
    eventually("the host is up", up).await;
    scheduler.stop();
    agent.wait_for("no scheduler hears the reports of this host");
    // The definitions keep the exchange when its last queue goes, so that reports need not find it missing.
    let listed = house.broker.ctl(&["ctl", "list_exchanges", "-p", &house.vhost, "name"]);
    assert!(listed.lines().any(|name| name == "scheduler_fanout"), "{listed}");
    // Without it, too, a report is no failure.
    let stranger = stranger(&house).await;
    let deleted = stranger.exchange_delete("scheduler_fanout".into(), ExchangeDeleteOptions::default()).await;
    deleted.expect("the test account may do everything");
    sleep(2 * INTERVAL).await;
    let log = agent.stop();
    assert!(!log.contains("ACCESS_REFUSED") && !log.contains("could not publish"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_binding_is_noticed_by_hosts_and_made_again() {
    let Some(house) = House::shared("daemons lost binding").await else { return };
    let agents = house.fleet(1).await;
    let scheduler = house.scheduler("s1", house.scheduler_config(DOWN_TIME), agents.len()).await;
    // The agent's next report declares the exchange again, and nothing is bound to it.
    let stranger = stranger(&house).await;
    let deleted = stranger.exchange_delete("scheduler_fanout".into(), ExchangeDeleteOptions::default()).await;
    deleted.expect("the test account may do everything");
    let unheard = async || agents[0].publish_counters().unheard.load(Relaxed) > 0;
    eventually("the host notices that no scheduler hears it", unheard).await;
    let reports = scheduler.manager().report_counters().accepted;
    let heard = async || scheduler.manager().report_counters().accepted > reports;
    eventually("reports are heard again", heard).await;
    let ready = async || scheduler.health().ready().ok && agents[0].health().ready().ok;
    eventually("both are ready", ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_requests_in_another_shape_is_told_and_waited_out() {
    let Some(house) = House::shared("daemons queue in another shape").await else { return };
    let stranger = stranger(&house).await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut short = FieldTable::default();
    short.insert("x-max-length".into(), AMQPValue::LongInt(5));
    let declared = stranger.queue_declare("scheduler".into(), durable, short).await;
    declared.expect("it is not there yet");
    let agents = house.fleet(1).await;
    let transport = house.transport("s1").await;
    let config = house.scheduler_config(DOWN_TIME);
    let started = novella_scheduler::start(config, "s1".into(), house.env.child("s1"), transport).await;
    let scheduler = started.expect("the policy is the default one");
    let told = async || {
        let ready = scheduler.health().ready();
        !ready.ok && ready.summary().contains("requests") && ready.summary().contains("inequivalent")
    };
    eventually("a scheduler that takes no requests says why", told).await;
    assert!(scheduler.manager().report_counters().accepted > 0, "reports are heard meanwhile");
    let deleted = stranger.queue_delete("scheduler".into(), QueueDeleteOptions::default()).await;
    deleted.expect("nobody else made it");
    let ready = async || scheduler.health().ready().ok;
    eventually("it takes requests without a restart", ready).await;
    let decision = ask(&house.operator().await, &house.request(small())).await;
    assert!(decision.refusal.is_none(), "{decision:#?}");
    drop(agents);
}
