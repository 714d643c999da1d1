//! Who is down, and whose fault a silence is.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use novella_messaging::RequestContext;
use novella_objects::HostStatus::{Down, Suspect, Up};
use novella_objects::{HostSummary, SelectDestinations};
use novella_rpcapi::SchedulerEndpoint;
use tokio::time::{Instant, advance, sleep};

use crate::cluster::{Cluster, DOWN_TIME, REPORT_INTERVAL, SIZE, flavor, scheduler_fanout, settle};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_goodbye_takes_a_host_down_at_once_and_it_comes_back() {
    let mut cluster = Cluster::of(30, 3).await;
    cluster.stop_host("host-2").await;
    settle().await;
    let view = cluster.view("s1").await;
    assert_eq!((view["host-2"].state, view["host-1"].state), (Down, Up));
    let (gone, there) = (&view["host-2"], &view["host-1"]);
    let amounts = |host: &HostSummary| (host.vcpus, host.memory_mb, host.memory_mb_used, host.disk_gb);
    assert_eq!(amounts(gone), amounts(there), "what the host has does not go with its agent");
    assert!(cluster.place(9, flavor(1, 512, 1)).await.selections.iter().all(|s| s.host != "host-2"));
    cluster.start_host("host-2", SIZE).await;
    settle().await;
    assert_eq!(cluster.state("s1", "host-2").await, Some(Up));
    assert_eq!(cluster.metric("s1", "novella_scheduler_events_total{event=\"goodbye\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_host_is_down_after_its_time_forgotten_later_and_known_again_when_it_returns() {
    let mut cluster = Cluster::of(31, 5).await;
    cluster.crash_host("host-4").await;
    let late = cluster.log.bodies("host-4", "update_service_capabilities").pop().expect("it reported");
    let waited = cluster.until_state("s1", "host-4", Some(Down)).await;
    assert!(waited > DOWN_TIME - REPORT_INTERVAL && waited < DOWN_TIME + 2 * SECOND, "{waited:?}");
    assert!(cluster.place(12, flavor(1, 512, 1)).await.selections.iter().all(|s| s.host != "host-4"));

    cluster.start_host("host-4", SIZE).await;
    sleep(2 * SECOND).await;
    assert_eq!(cluster.state("s1", "host-4").await, Some(Up), "it has answered, too");
    let detail = |host| cluster.scheduler("s1").manager().show_host(novella_rpcapi::HostQuery { host });
    let known = detail("host-4".to_owned()).await.unwrap().expect("known");
    assert_eq!(known.incarnation, Some(2));

    // The dead process's last report arrives late, as if it had waited somewhere.
    let stale = "novella_scheduler_reports_total{outcome=\"stale\"}";
    let before = cluster.metric("s1", stale);
    let buffered = cluster.connect_as("a buffer", "host-4");
    cluster.publish_on(&buffered, scheduler_fanout(), renewed(&late)).await;
    settle().await;
    assert_eq!(cluster.metric("s1", stale), before + 1);
    let after = detail("host-4".to_owned()).await.unwrap().expect("known");
    assert_eq!((after.incarnation, after.seq), (Some(2), known.seq));

    cluster.crash_host("host-4").await;
    let waited = cluster.until_state("s1", "host-4", None).await;
    let forget_after = cluster.scheduler_config.reports.forget_after;
    assert!(waited > forget_after - REPORT_INTERVAL && waited < forget_after + 3 * SECOND, "{waited:?}");
    cluster.start_host("host-4", SIZE).await;
    sleep(2 * SECOND).await;
    assert_eq!(cluster.state("s1", "host-4").await, Some(Up));
}

/// The same message under another message id, so that it is no copy.
fn renewed(body: &str) -> String {
    let at = body.find("_unique_id").expect("every message has one") + "_unique_id\\\":\\\"".len();
    let at = at + body[at..].find(|c: char| c.is_ascii_hexdigit()).expect("an id is hexadecimal");
    format!("{}{}{}", &body[..at], "0".repeat(8), &body[at + 8..])
}

#[tokio::test(start_paused = true)]
async fn hosts_are_suspect_while_the_scheduler_has_no_broker() {
    let cluster = Cluster::of(32, 6).await;
    cluster.broker.partition("s1", true);
    // Longer than hosts that were lost together would be excused.
    sleep(15 * DOWN_TIME).await;
    let view = cluster.view("s1").await;
    assert!(view.values().all(|host| host.state == Suspect), "{view:#?}");
    assert!(!cluster.scheduler("s1").health().ready().ok);

    // Nobody can ask over the bus, but what it would answer is the same.
    let manager = cluster.scheduler("s1").manager();
    let request = cluster.request(6, flavor(1, 9000, 1));
    let decision = manager.select_destinations(&RequestContext::default(), request).await.unwrap();
    assert_eq!((decision.selections.len(), decision.explanation.suspect_hosts), (6, 6));

    let asked = cluster.log.bodies("s1", "publish_service_capabilities").len();
    cluster.broker.partition("s1", false);
    sleep(3 * SECOND).await;
    assert!(cluster.log.bodies("s1", "publish_service_capabilities").len() > asked, "it asks again");
    assert!(cluster.view("s1").await.values().all(|host| host.state == Up));
    assert!(cluster.scheduler("s1").health().ready().ok);
    assert_eq!(cluster.metric("s1", "novella_scheduler_events_total{event=\"down\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn hosts_lost_together_are_suspect_and_one_alone_is_down() {
    let mut cluster = Cluster::of(33, 12).await;
    let cut_off = 5;
    for number in 1..=cut_off {
        cluster.broker.partition(&format!("host-{number}"), true);
    }
    let began = Instant::now();
    sleep(DOWN_TIME + REPORT_INTERVAL).await;
    let view = cluster.view("s1").await;
    let with = |state| view.values().filter(|host| host.state == state).count();
    assert_eq!((with(Suspect), with(Up)), (cut_off, 12 - cut_off));
    let suspect = |host: &str| view[host].state == Suspect;

    // Each host has room for one. Those that are up come first.
    let few = cluster.place(7, flavor(1, 9000, 1)).await;
    assert!(few.selections.iter().all(|chosen| !suspect(&chosen.host)), "{few:#?}");
    let others = few.selections[0].alternates.iter().filter(|host| suspect(host));
    let marked: BTreeMap<_, _> = others.map(|host| (host.clone(), Suspect)).collect();
    assert!(few.not_up == marked && marked.len() == 2, "{few:#?}");
    let rest = cluster.place(5, flavor(1, 9000, 1)).await;
    assert_eq!((rest.selections.len(), rest.explanation.suspect_hosts), (5, 5));
    assert_eq!(rest.not_up.len(), 5, "{rest:#?}");

    // They do not stay so for long, if they stay silent.
    cluster.broker.partition("host-3", false);
    cluster.until_state("s1", "host-1", Some(Down)).await;
    let silent = began.elapsed();
    assert!(silent > 3 * DOWN_TIME - REPORT_INTERVAL && silent < 3 * DOWN_TIME + 2 * SECOND, "{silent:?}");
    assert_eq!(cluster.state("s1", "host-3").await, Some(Up));

    cluster.crash_host("host-6").await;
    let waited = cluster.until_state("s1", "host-6", Some(Down)).await;
    assert!(waited < DOWN_TIME + 2 * SECOND, "{waited:?}");
}

/// In a small fleet hosts that die together are down like any other.
#[tokio::test(start_paused = true)]
async fn half_of_a_small_fleet_is_down_in_time_and_a_repeated_request_says_so() {
    let mut cluster = Cluster::of(39, 6).await;
    let request = SelectDestinations { hold_s: Some(600), ..cluster.request(6, flavor(1, 9000, 1)) };
    let before = cluster.select(&cluster.api, &request).await;
    assert!(before.not_up.is_empty());
    for number in 1..=3 {
        cluster.crash_host(&format!("host-{number}")).await;
    }
    sleep(DOWN_TIME + 2 * SECOND).await;
    let view = cluster.view("s1").await;
    let states: Vec<_> = view.values().map(|host| host.state).collect();
    assert_eq!(states, [Down, Down, Down, Up, Up, Up]);
    let again = cluster.select(&cluster.api, &request).await;
    assert!(again.repeated && again.selections == before.selections);
    let down = (1..=3).map(|number| (format!("host-{number}"), Down)).collect();
    assert_eq!(again.not_up, down);
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_the_scheduler_is_nobodys_silence() {
    // One host alone is never excused as lost together with others.
    for (hosts, stalled) in [(5, DOWN_TIME + SECOND), (5, 10 * DOWN_TIME), (1, 2 * DOWN_TIME)] {
        let cluster = Cluster::of(34, hosts).await;
        sleep(7 * SECOND).await;
        // Time goes on, and nobody in this process runs.
        advance(stalled).await;
        for _ in 0..100 {
            let view = cluster.view("s1").await;
            assert!(view.values().all(|host| host.state != Down), "{stalled:?}: {view:#?}");
            sleep(SECOND / 10).await;
        }
        assert!(cluster.view("s1").await.values().all(|host| host.state == Up));
        assert_eq!(cluster.metric("s1", "novella_scheduler_events_total{event=\"down\"}"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_broker_restarts_and_nobody_is_blamed() {
    let cluster = Cluster::of(35, 5).await;
    for outage in [SECOND, 3 * DOWN_TIME] {
        cluster.broker.stop();
        sleep(outage).await;
        assert!(cluster.view("s1").await.values().all(|host| host.state != Down));
        cluster.broker.start();
        sleep(3 * SECOND).await;
        assert!(cluster.view("s1").await.values().all(|host| host.state == Up), "{outage:?}");
        assert_eq!(cluster.place(5, flavor(1, 9000, 1)).await.selections.len(), 5);
        sleep(DOWN_TIME).await;
    }
    assert_eq!(cluster.metric("s1", "novella_scheduler_events_total{event=\"down\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_report_is_seen_and_asked_for_again() {
    let cluster = Cluster::of(36, 2).await;
    sleep(2 * REPORT_INTERVAL).await;
    let missed = "novella_scheduler_events_total{event=\"missed\"}";
    assert_eq!(cluster.metric("s1", missed), 0);
    // The scheduler's queue disappears with what was in it: its consumer declares another.
    let queue = |prefix: &str| cluster.broker.queues().into_iter().find(|name| name.starts_with(prefix));
    let reports = || cluster.log.bodies("host-1", "update_service_capabilities").len();
    let before = reports();
    let fanout = queue("scheduler_fanout_").expect("it is consumed");
    // A report that is sent while nobody listens is lost.
    cluster.broker.partition("s1", true);
    while reports() < before + 2 {
        sleep(SECOND / 10).await;
    }
    cluster.broker.partition("s1", false);
    assert_ne!(queue("scheduler_fanout_"), Some(fanout));
    sleep(4 * SECOND).await;
    assert!(cluster.metric("s1", missed) >= 2, "{}", cluster.metrics("s1"));
    let asked = cluster.log.events().into_iter().any(|event| {
        event.connection == "s1"
            && event.body.contains("publish_service_capabilities")
            && format!("{:?}", event.destination).contains("host-1")
    });
    assert!(asked, "the host is asked by name");
}

#[tokio::test(start_paused = true)]
async fn a_full_report_queue_drops_the_oldest_and_the_map_is_right_again() {
    let mut cluster = Cluster::new(37);
    cluster.scheduler_config.reports.max_hosts = 3;
    cluster.scheduler_config.rpc.report_batch = 1;
    cluster.start_hosts(3).await;
    cluster.serve("s1").await;
    // Far more than the queue holds, all at once, before the scheduler runs again.
    let flood = (0..60).map(|n| {
        let cluster = &cluster;
        async move { cluster.report("volume", &format!("vol-{}", n % 3), r#"{"free_gb": 1}"#).await.unwrap() }
    });
    futures_util::future::join_all(flood).await;
    assert!(cluster.broker.dropped() > 0);
    sleep(2 * REPORT_INTERVAL).await;
    let view = cluster.view("s1").await;
    assert!(view.len() == 3 && view.values().all(|host| host.state == Up), "{view:#?}");
    assert_eq!(cluster.place(3, flavor(1, 9000, 1)).await.selections.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_shown_with_its_offset() {
    let cluster = Cluster::of(45, 1).await;
    assert_eq!(cluster.view("s1").await["host-1"].clock_offset_s, None);
    let report = |host: &str, sent_at: &str, seq: u64| {
        let uuid = format!("00000000-0000-4000-8000-00000000000{}", host.len());
        let text = format!(
            r#"{{"vcpus": 4, "novella": {{"uuid": "{uuid}", "incarnation": 1, "nonce": 1, "seq": {seq},
            "sent_at": "{sent_at}", "interval_ms": 10000}}}}"#
        );
        let (cluster, host) = (&cluster, host.to_owned());
        async move { cluster.report("compute", &host, &text).await.unwrap() }
    };
    for seq in 1..=3 {
        report("ahead", "2200-01-01T00:00:00Z", seq).await;
        report("behind", "1999-01-01T00:00:00Z", seq).await;
        settle().await;
        let view = cluster.view("s1").await;
        let offset = |host: &str| view[host].clock_offset_s.unwrap_or_default();
        assert!(offset("ahead") > 1e9, "{view:#?}");
        assert_eq!(offset("behind") < -5e8, seq == 3, "{view:#?}");
    }
    assert_eq!(cluster.metric("s1", "novella_scheduler_hosts_clock_off"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_map_says_so() {
    let mut cluster = Cluster::new(38);
    cluster.scheduler_config.reports.max_hosts = 2;
    cluster.start_hosts(3).await;
    cluster.start_scheduler("s1").await;
    sleep(30 * SECOND).await;
    assert_eq!(cluster.view("s1").await.len(), 2);
    let ready = |cluster: &Cluster| cluster.scheduler("s1").health().ready();
    assert!(
        !ready(&cluster).ok && ready(&cluster).summary().contains("reports.max_hosts"),
        "{:?}",
        ready(&cluster)
    );
    assert!(cluster.metric("s1", "novella_scheduler_reports_total{outcome=\"too_many\"}") > 0);
    cluster.stop_host("host-3").await;
    cluster.stop_host("host-2").await;
    sleep(2 * DOWN_TIME).await;
    assert!(ready(&cluster).ok, "{:?}", ready(&cluster));
    cluster.start_host("host-3", SIZE).await;
    sleep(3 * SECOND).await;
    assert_eq!(cluster.state("s1", "host-3").await, Some(Up), "the silent host made room");
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_hears_nothing_says_so_and_so_do_the_hosts() {
    let cluster = Cluster::of(36, 3).await;
    sleep(15 * SECOND).await;
    let ready = || cluster.scheduler("s1").health().ready();
    assert!(ready().ok, "{:?}", ready());
    let host_ready = || cluster.agents["host-1"].health().ready();
    assert!(host_ready().ok, "{:?}", host_ready());

    let of_reports = cluster.broker.queues().into_iter().find(|queue| queue.starts_with("scheduler_fanout_"));
    let of_reports = of_reports.expect("the scheduler consumes reports");
    for (queue, silent) in [
        (&*of_reports, "scheduler"),
        ("scheduler", "requests to any scheduler"),
        ("scheduler.s1", "requests to this"),
    ] {
        cluster.broker.lose_bindings(queue);
        sleep(20 * SECOND).await;
        assert!(!ready().ok && ready().summary().contains(silent), "{queue}: {:?}", ready());
        let hosts_hear = queue != of_reports;
        assert_eq!(host_ready().ok, hosts_hear, "{queue}: {:?}", host_ready());

        // A queue that is declared again is bound again.
        let asked = cluster.log.bodies("s1", "publish_service_capabilities").len();
        cluster.broker.delete_queue(queue);
        sleep(REPORT_INTERVAL + 6 * SECOND).await;
        assert!(ready().ok && host_ready().ok, "{queue}: {:?} {:?}", ready(), host_ready());
        assert!(cluster.log.bodies("s1", "publish_service_capabilities").len() > asked, "it asks again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_without_any_scheduler_is_not_ready() {
    let mut cluster = Cluster::of(37, 1).await;
    cluster.crash_scheduler("s1").await;
    sleep(3 * REPORT_INTERVAL).await;
    let agent = &cluster.agents["host-1"];
    let said = agent.health().ready();
    assert!(!said.ok && said.summary().contains("no scheduler heard the last"), "{said:?}");
    let counters = agent.publish_counters();
    assert!(counters.unheard.load(Relaxed) >= 2, "{counters:?}");
    cluster.serve("s1").await;
    assert!(cluster.agents["host-1"].health().ready().ok);
}
