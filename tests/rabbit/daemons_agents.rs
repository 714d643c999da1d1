//! Agents as processes: those that stop, die, share a name or an identity, and what a scheduler makes of it.

use std::path::Path;
use std::time::Duration;

use novella_objects::{HostStatus, HostWarning};
use novella_rpcapi::{HostQuery, SchedulerEndpoint};
use novella_scheduler::Scheduler;
use novella_virt::FakeConfig;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

/// Far longer than a test: whoever is down before was not merely silent.
const PATIENT: Duration = Duration::from_secs(120);
/// Several reports, so that a busy machine makes nobody look silent.
const BRISK: Duration = Duration::from_secs(4);

fn fake(house: &House, host: &str, state: &Path) -> Process {
    Process::agent(&house.url, host, state, "fake", &[])
}

fn uuid(state: &Path) -> Uuid {
    let file = std::fs::read(state.join("identity.json")).expect("an identity was made");
    let identity: Value = serde_json::from_slice(&file).expect("it is JSON");
    identity["uuid"].as_str().and_then(|uuid| uuid.parse().ok()).expect("a uuid")
}

async fn incarnation(scheduler: &Scheduler, host: &str) -> Option<u64> {
    let shown = scheduler.manager().show_host(HostQuery { host: host.into() }).await;
    shown.expect("answered").expect("known").incarnation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_is_down_at_once_and_who_dies_when_it_was_silent_long_enough() {
    let Some(house) = House::shared("daemons goodbye").await else { return };
    // One host that falls silent among several is its own fault.
    let mut others = Vec::new();
    for number in 0..4 {
        others.push(house.agent(&format!("other-{number}"), FakeConfig::default(), "").await);
    }
    let (leaving_dir, dying_dir) = (state_dir(&house, "leaving"), state_dir(&house, "dying"));
    let leaving = fake(&house, "leaving", &leaving_dir);
    let dying = fake(&house, "dying", &dying_dir);
    let patient = house.scheduler("patient", house.scheduler_config(PATIENT), 6).await;
    let brisk = house.scheduler("brisk", house.scheduler_config(BRISK), 6).await;

    let log = leaving.stop();
    assert!(log.contains("told the schedulers that this agent stops host=\"leaving\""), "{log}");
    // Nothing but the goodbye can tell it.
    until_state(&patient, "leaving", HostStatus::Down).await;
    let rows = host_list(&house.url);
    let row = rows.iter().find(|row| row["host"] == "leaving").expect("it stays listed");
    assert_eq!(row["state"], "down");
    assert_eq!(patient.manager().report_counters().goodbye, 1);

    let died = Instant::now();
    dying.signal(Signal::KILL);
    assert_eq!(dying.end().0, None, "killed");
    until_state(&brisk, "dying", HostStatus::Down).await;
    let took = died.elapsed();
    // A report may have been under way; the map is looked at once a second.
    assert!(took > BRISK - 2 * INTERVAL && took < BRISK + Duration::from_secs(6), "{took:?}");
    // It is suspect if it was asked and could not answer.
    assert_ne!(view(&patient).await["dying"].state, HostStatus::Down, "silence of {took:?} is nothing to it");
    let before = incarnation(&patient, "dying").await;
    let again = fake(&house, "dying", &dying_dir);
    until_state(&brisk, "dying", HostStatus::Up).await;
    assert_eq!(before, Some(1));
    let raised = async || incarnation(&patient, "dying").await == Some(2);
    eventually("the new process speaks for the host", raised).await;
    assert_eq!(view(&patient).await["dying"].uuid, Some(uuid(&dying_dir)));
    assert_eq!(brisk.manager().report_counters().down, 1, "nobody else was blamed");
    again.stop();
    drop(others);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_of_one_name_waits_says_who_has_it_and_takes_over() {
    let Some(house) = House::shared("daemons one name").await else { return };
    let (first_dir, second_dir) = (state_dir(&house, "first"), state_dir(&house, "second"));
    let first = fake(&house, "wanted", &first_dir);
    let scheduler = house.scheduler("s1", house.scheduler_config(PATIENT), 1).await;
    let mut second = fake(&house, "wanted", &second_dir);
    let line = second.wait_for("another agent reports as this host");
    has(&line, &[&format!("holder_pid={}", first.pid()), &format!("holder_uuid={}", uuid(&first_dir))]);
    let row = view(&scheduler).await.remove("wanted").expect("listed");
    assert_eq!((row.state, row.uuid), (HostStatus::Up, Some(uuid(&first_dir))));

    first.stop();
    second.wait_for("consuming queue=compute.wanted");
    let taken = async || view(&scheduler).await["wanted"].uuid == Some(uuid(&second_dir));
    eventually("the second speaks for the host", taken).await;
    let row = view(&scheduler).await.remove("wanted").expect("listed");
    assert_eq!(row.state, HostStatus::Up);
    assert!(row.warnings.contains(&HostWarning::TakenOver { previous: uuid(&first_dir) }), "{row:#?}");
    assert_eq!(scheduler.manager().report_counters().taken_over, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_state_directory_is_loud() {
    let Some(house) = House::shared("daemons clone").await else { return };
    let (dir, copied) = (state_dir(&house, "original"), state_dir(&house, "copy"));
    // As a golden image is made: one agent has run on it.
    let mut golden = fake(&house, "original", &dir);
    golden.wait_for("consuming queue=compute.original");
    golden.stop();
    std::fs::copy(dir.join("identity.json"), copied.join("identity.json")).expect("a copy");

    let (mut scheduler, http) = Process::scheduler(&house.url, "s1", PATIENT, &[]);
    let _original = fake(&house, "original", &dir);
    scheduler.wait_for(SERVES);
    let _copy = fake(&house, "copy", &copied);
    let said = scheduler.wait_for("two processes report with the same identity");
    has(&said, &[r#"host="copy""#, r#"first="original""#, "identity.json"]);
    let (code, table, err) = novella(&house.url, "host list");
    assert_eq!(code, 0, "{err}");
    assert!(table.contains("CLONED IDENTITY, also on copy"), "{table}");
    let rows = host_list(&house.url);
    assert_eq!(rows.len(), 1, "the later is refused: {rows:#?}");
    assert_eq!((&rows[0]["host"], &rows[0]["state"]), (&"original".into(), &"up".into()));
    assert!(metric(&get(http, "/metrics"), r#"novella_scheduler_reports_total{outcome="cloned"}"#) > 0);
}
