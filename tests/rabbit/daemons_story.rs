//! The main job: this machine reports, a scheduler maps, an operator asks where. Executables, signals and exit codes.

use std::net::TcpListener;
use std::time::Duration;

use novella_virt::FakeConfig;
use serde_json::Value;
use tokio::time::Instant;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The row of a host in what `host list` printed.
fn row<'a>(list: &'a Value, host: &str) -> &'a Value {
    let rows = list.as_array().expect("an array");
    rows.iter().find(|row| row["host"] == host).unwrap_or_else(|| panic!("no {host} in {list:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_machine_is_reported_mapped_and_placed_on() {
    let Some(house) = House::shared("daemons story").await else { return };
    let run = |line: &str| novella(&house.url, line);
    let (code, out, err) = run("host list");
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    assert!(err.contains("no scheduler listens"), "{err}");

    let (mut scheduler, http) = Process::scheduler(&house.url, "s1", Duration::from_secs(5), &[]);
    let real = Process::agent(&house.url, "this-machine", &state_dir(&house, "real"), "linux", &[]);
    let _fakes = [
        house.agent("small-1", FakeConfig::default(), "").await,
        house.agent("small-2", FakeConfig::default(), "").await,
    ];
    scheduler.wait_for(SERVES);
    let all = async || json(&run("host list -f json").1).as_array().is_some_and(|rows| rows.len() == 3);
    eventually("three hosts are listed", all).await;
    assert!(get(http, "/readyz").starts_with("HTTP/1.1 200"));

    let (code, out, err) = run("host list -f json");
    assert_eq!((code, err.as_str()), (0, ""));
    let list = json(&out);
    let machine = row(&list, "this-machine");
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("Linux");
    let total_kb = meminfo.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("MemTotal");
    assert_eq!(machine["memory_mb"], total_kb / 1024);
    let cpus = std::thread::available_parallelism().expect("Linux").get() as u64;
    assert!(machine["vcpus"].as_u64().is_some_and(|vcpus| vcpus >= cpus), "{machine}");
    assert!(machine["disk_gb"].as_u64().is_some_and(|gb| gb > 0), "{machine}");
    assert!(machine["report_age_s"].as_f64().is_some_and(|age| age < 5.0), "{machine}");
    assert_eq!((&machine["state"], &machine["availability_zone"]), (&"up".into(), &"nova".into()));
    let small = row(&list, "small-1");
    for (name, value) in [
        ("vcpus", 8),
        ("vcpus_used", 0),
        ("memory_mb", 16_384),
        ("memory_mb_used", 512),
        ("disk_gb", 200),
        ("disk_gb_used", 0),
    ] {
        assert_eq!(small[name], value, "{name}");
    }

    placed_and_refused(&run);

    // A scheduler that is there and does not answer.
    scheduler.signal(Signal::STOP);
    let (code, out, err) = run("host list --timeout 1s");
    scheduler.signal(Signal::CONT);
    assert_eq!((code, out.as_str()), (124, ""), "{err}");
    assert_eq!(run("host show this-machine").0, 0, "and serves on");

    for daemon in [real, scheduler] {
        let log = daemon.stop();
        assert!(!log.contains(" ERROR ") && !log.contains(&house.broker.parts().1), "{log}");
    }
}

fn placed_and_refused(run: &impl Fn(&str) -> (i32, String, String)) {
    let (code, out, err) = run("place --vcpus 1 --ram 512M --disk 1G --count 3 --host this-machine -f json");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let decision = json(&out);
    assert!(decision["decision_id"].as_str().is_some_and(|id| id.starts_with("s1-")), "{decision:#}");
    let selections = decision["selections"].as_array().expect("an array");
    assert_eq!(selections.len(), 3);
    for selection in selections {
        assert_eq!(selection["host"], "this-machine");
        assert!(selection["weight"].is_number() && selection["alternates"].is_array(), "{selection}");
    }
    let listed = json(&run("host list -f json").1);
    assert_eq!(row(&listed, "this-machine")["vcpus_used"], 3, "held at once");
    let (code, out, _) = run("place --vcpus 1 --ram 512M --disk 1G -f json");
    let selection = &json(&out)["selections"][0];
    assert_eq!((code, selection["alternates"].as_array().map(Vec::len)), (0, Some(2)), "{selection}");

    let (code, out, err) = run("place --vcpus 60000 --ram 512M --disk 1G -f json");
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let refused = json(&out);
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("No valid host")), "{refused:#}");
    let filters = refused["filters"].as_array().expect("an array");
    let last = filters.last().expect("filters ran");
    let expected = (&Value::from("CoreFilter"), &Value::from(3), &Value::from(0));
    assert_eq!((&last["filter"], &last["hosts_in"], &last["hosts_out"]), expected);
    assert!(last["nearest_miss"]["host"].is_string(), "{last:#}");

    assert_eq!(run("host show nobody").0, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_refuses_or_is_silent_is_reported_soon() {
    let Some(house) = House::shared("daemons unreachable").await else { return };
    let (user, password, address) = house.broker.parts();
    // Accepts by the kernel's backlog and never speaks.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_address = silent.local_addr().expect("bound");
    for (url, says) in [
        (format!("rabbit://{user}:s3cr3t-guess@{address}/{}", house.vhost), "check the password"),
        (format!("rabbit://{user}:{password}@{address}/no-such"), "rabbitmqctl add_vhost no-such"),
        (format!("rabbit://{user}:{password}@{}/", free_address()), "refused"),
        (format!("rabbit://{user}:{password}@{silent_address}/"), "no answer within 2s"),
    ] {
        let began = Instant::now();
        let (code, out, err) = novella(&url, "host list --timeout 2s");
        assert_eq!((code, out.as_str()), (7, ""), "{says}: {err}");
        assert!(err.contains(says) && err.contains("\nnext: "), "{says}: {err}");
        assert!(!err.contains("s3cr3t") && !err.contains(&password), "{says}: {err}");
        assert!(began.elapsed() < Duration::from_secs(5), "{says}: {:?}", began.elapsed());
    }
}
