//! Two fleets in one virtual host: every name that a program can be given is its own, and nobody meets the other's.

use std::time::Duration;

use serde_json::Value;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::*;
use crate::support::*;

/// The second fleet's settings, as each program takes them.
const SCHEDULER: [(&str, &str); 4] = [
    ("NOVELLA_RPC__CONTROL_EXCHANGE", "second"),
    ("NOVELLA_RPC__SCHEDULER_TOPIC", "scheduler2"),
    ("NOVELLA_RPC__COMPUTE_TOPIC", "compute2"),
    ("NOVELLA_RPC__REPORT_TOPIC", "reports2"),
];
const AGENT: [(&str, &str); 3] = [SCHEDULER[0], SCHEDULER[2], SCHEDULER[3]];
const OPERATOR: [(&str, &str); 3] = [
    ("NOVELLA_CONTROL_EXCHANGE", "second"),
    ("NOVELLA_SCHEDULER_TOPIC", "scheduler2"),
    ("NOVELLA_COMPUTE_TOPIC", "compute2"),
];

/// The second fleet's operator.
fn novella2(url: &str, line: &str) -> (i32, String, String) {
    novella_with(url, line, &OPERATOR)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_fleet_has_names_of_its_own() {
    let Some(house) = House::shared("second fleet").await else { return };
    let first = house.agent("cmp1", Default::default(), "").await;
    let one = house.scheduler("s1", house.scheduler_config(Duration::from_secs(60)), 1).await;
    let url = format!("{}?rabbit_qos_prefetch_count=5&direct_mandatory_flag=false", house.url);
    let mut agent = Process::agent(&url, "cmp2", &state_dir(&house, "cmp2"), "fake", &AGENT);
    agent.wait_for("consuming queue=compute2.cmp2 ");
    let (mut two, _) = Process::scheduler(&url, "s2", Duration::from_secs(60), &SCHEDULER);
    two.wait_for("consuming queue=scheduler2 ");
    let known = async || {
        let (code, out, _) = novella2(&url, "host list -f json");
        let hosts: Vec<Value> =
            if code == 0 { serde_json::from_str(&out).expect("JSON") } else { Vec::new() };
        hosts.iter().map(|host| host["host"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
            == ["cmp2"]
    };
    eventually("the second scheduler knows its own host alone", known).await;
    assert_eq!(view(&one).await.into_keys().collect::<Vec<_>>(), ["cmp1"]);
    let (code, out, err) = novella2(&url, "place --vcpus 1 --ram 64M -f json");
    assert!(code == 0 && out.contains("\"cmp2\""), "{out}{err}");
    assert_eq!(novella2(&url, "ping").0, 0);
    assert_eq!(novella2(&url, "ping cmp2").0, 0);
    assert_eq!(novella2(&url, "ping cmp1 --timeout 2s").0, 7, "it is of the other fleet");
    let of = ["ctl", "list_consumers", "-p", &house.vhost, "queue_name", "prefetch_count", "--silent"];
    let list = house.broker.ctl(&of);
    for queue in ["scheduler2", "scheduler2.s2", "compute2.cmp2", "scheduler2_fanout_", "reports2_fanout_"] {
        let named = |line: &&str| {
            let name = line.split('\t').next().unwrap_or_default();
            name == queue || queue.ends_with('_') && name.starts_with(queue)
        };
        let row = list.lines().find(named);
        assert!(row.is_some_and(|row| row.ends_with("\t5")), "{queue} in:\n{list}");
    }
    for process in [two, agent] {
        process.stop();
    }
    first.stop(GRACE).await;
    one.stop(GRACE).await;
}

#[test]
fn names_that_cannot_be_used_are_refused_at_once() {
    for (program, setting, value, says) in [
        ("scheduler", "NOVELLA_RPC__COMPUTE_TOPIC", "scheduler", "cannot share a topic"),
        ("scheduler", "NOVELLA_RPC__REPORT_TOPIC", "two words", "without white space"),
        (
            "compute-agent",
            "NOVELLA_RPC__CONTROL_EXCHANGE",
            "amq.topic",
            "the default exchange and RabbitMQ's own",
        ),
        ("compute-agent", "NOVELLA_RPC__REPORT_TOPIC", "compute", "cannot share a topic"),
        (
            "compute-agent",
            "NOVELLA_TRANSPORT_URL",
            "rabbit://h/?rabbit_qos_prefetch_count=x",
            "wants a number of messages",
        ),
        (
            "scheduler",
            "NOVELLA_TRANSPORT_URL",
            "rabbit://h/?direct_mandatory_flag=maybe",
            "wants true or false",
        ),
    ] {
        let mut command = executable(program);
        command.args(["config", "check"]).env(setting, value);
        let (code, out, err) = output(command);
        assert_eq!(code, Some(2), "{program} {setting}={value}: {out}{err}");
        assert!(format!("{out}{err}").contains(says), "{program} {setting}={value}: {out}{err}");
    }
}
