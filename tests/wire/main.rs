//! What went over the wire, kept: messages of every version, held against the code of today.
//!
//! `fixtures/<version>/<scenario>.jsonl` has one message a line, as a real run of that version sent it ([`scenarios`]).
//! Every message must be read into the types of today and written again as the same JSON values, and a daemon of today
//! must serve every request. So a field may be added only if it is left out where an old message has none.
//!
//! Always: a fixture is never changed. To add messages, add a scenario, or a version when `Cargo.toml` has a new one, and
//! record what is missing: `NOVELLA_WIRE_RECORD=1 cargo test -p novella-tests --test wire`. It writes files that are not
//! there yet, and fails if there are none to write.
//!
//! Left out: properties that every message has alike, which tests/rabbit checks on a broker, and the senders of other
//! projects, which tests/interop has.

#[path = "../system/cluster.rs"]
#[expect(dead_code, reason = "a cluster as the system tests have it; this target needs a part of it")]
mod cluster;
mod contract;
#[path = "../system/log.rs"]
#[expect(dead_code, reason = "as above")]
mod log;
mod message;
mod scenarios;
#[path = "../system/stub_host.rs"]
#[expect(dead_code, reason = "as above")]
mod stub_host;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use novella_messaging::{QueueKind, Subscription, read_answer};

use crate::cluster::{CALL, Cluster, settle};
use crate::contract::Contract;
use crate::message::{Kind, Message};
use crate::scenarios::Recording;

/// Set to record what is missing.
const RECORD: &str = "NOVELLA_WIRE_RECORD";
/// Failures that say that a request is not served, whatever it asks.
const NOT_SERVED: &[&str] = &["NoSuchMethod", "UnsupportedVersion"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/fixtures")
}

/// Messages by file, such as `0.1/reports`.
fn kept() -> BTreeMap<String, Vec<Message>> {
    let mut kept = BTreeMap::new();
    for version in fs::read_dir(fixtures()).expect("there are fixtures") {
        let version = version.expect("it can be listed");
        for file in fs::read_dir(version.path()).expect("a directory of each version") {
            let path = file.expect("it can be listed").path();
            let text = fs::read_to_string(&path).expect("it can be read");
            let stem = path.file_stem().expect("it has a name").to_string_lossy();
            let name = format!("{}/{stem}", version.file_name().to_string_lossy());
            kept.insert(name, text.lines().map(Message::read).collect());
        }
    }
    kept
}

/// Whether a message is a call that was answered by a failure.
fn refused(message: &Message, messages: &[Message]) -> bool {
    message.kind == Kind::Call
        && messages.iter().any(|other| other.kind == Kind::Failure && other.answers(message))
}

#[test]
fn every_message_is_read_and_written_again_as_it_was() {
    let mut faults = Vec::new();
    for (file, messages) in kept() {
        let mut contract = Contract::default();
        for (line, message) in messages.iter().enumerate() {
            let refused = refused(message, &messages);
            if let Err(why) = contract.check(message, refused) {
                faults.push(format!("{file}:{}: {} ({:?}): {why}", line + 1, message.name, message.kind));
            }
        }
    }
    assert!(faults.is_empty(), "{} messages are not as they were:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_method_has_been_recorded() {
    let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for messages in kept().values() {
        let mut contract = Contract::default();
        for message in messages {
            if let Some(method) = contract.method(message) {
                asked.insert(method.clone());
                if message.kind == Kind::Answer {
                    answered.insert(method);
                }
            }
        }
    }
    let declared = contract::declared();
    assert!(declared.len() > 20, "only {} methods were found in rpcapi: {declared:?}", declared.len());
    let without = |recorded: &BTreeSet<(String, String)>| {
        declared.difference(recorded).map(|(api, method)| format!("{api}.{method}")).collect::<Vec<_>>()
    };
    let missing = without(&asked);
    assert!(
        missing.is_empty(),
        "no fixture has a request for {missing:?}; add them to tests/wire/scenarios.rs"
    );
    let mut missing = without(&answered);
    missing.retain(|method| !contract::CASTS.contains(&method.as_str()));
    assert!(
        missing.is_empty(),
        "no fixture has an answer of {missing:?}; add them to tests/wire/scenarios.rs"
    );
}

/// All requests of all versions, to daemons of today that have never heard of what they name.
#[tokio::test(start_paused = true)]
async fn every_request_is_served() {
    let mut cluster = Cluster::new(900);
    cluster.scheduler_config.nova.serve = true;
    cluster.start_hosts(2).await;
    for scheduler in ["s1", "s2"] {
        cluster.serve(scheduler).await;
    }
    let mut faults = Vec::new();
    for (file, messages) in kept() {
        for message in &messages {
            let Some(queue) = message.reply_queue() else {
                if message.kind == Kind::Cast {
                    cluster.publish(message.destination(), message.bytes()).await;
                }
                continue;
            };
            if refused(message, &messages) {
                continue;
            }
            let transport = cluster.connect("caller");
            let subscription = Subscription { queue: QueueKind::Reply { name: queue }, prefetch: 10 };
            let mut consumer = transport.consume(subscription).await.expect("the bus has such a queue");
            settle().await;
            cluster.publish(message.destination(), message.bytes()).await;
            let mut deliveries = Vec::new();
            let answered = tokio::time::timeout(CALL, consumer.next_batch(&mut deliveries, 10)).await;
            if answered.is_err() {
                faults.push(format!("{file}: {}: it is not answered", message.name));
            }
            let failures = deliveries.iter().filter_map(|delivery| read_answer(&delivery.body)?.err());
            faults.extend(
                failures
                    .filter(|failure| NOT_SERVED.contains(&failure.class.as_str()))
                    .map(|failure| format!("{file}: {}: {failure}", message.name)),
            );
            transport.close(tokio::time::Instant::now()).await;
        }
    }
    assert!(faults.is_empty(), "{} requests are not served:\n{}", faults.len(), faults.join("\n"));
    cluster.stop().await;
}

/// Schedulers of several versions serve one fleet while it is updated: what one has reserved, another must know as the
/// same request when it is asked again.
#[tokio::test(start_paused = true)]
async fn what_a_scheduler_of_another_version_decided_is_repeated() {
    let mut repeated = 0;
    for (file, messages) in kept() {
        // A claim is asked of its host again, and there is none here.
        let asks = |message: &&Message| {
            let inner = message.inner();
            inner["method"] == "select_destinations" && inner["args"]["claim"] != true
        };
        for call in messages.iter().filter(asks) {
            let decision =
                messages.iter().find(|message| message.kind == Kind::Answer && message.answers(call));
            let Some(decision) = decision.map(|answer| answer.inner()["result"].clone()) else { continue };
            let reserve = messages.iter().find(|message| {
                let args = &message.inner()["args"];
                message.inner()["method"] == "reserve"
                    && args["decision_id"] == decision["decision_id"]
                    && args["ttl_ms"] != 0
            });
            // Nova's calls let go what was decided before, and their answers name no decision.
            let Some(reserve) = reserve else { continue };
            let mut recording = Recording::new(901);
            let cluster = &mut recording.cluster;
            cluster.start_scheduler("other").await;
            for selection in decision["selections"].as_array().expect("a list") {
                let (host, report) = (selection["host"].as_str().expect("a name"), r#"{"vcpus": 8}"#);
                for service in ["compute", "volume"] {
                    cluster.report(service, host, report).await.expect("the bus takes it");
                }
            }
            cluster.ready("other").await;
            cluster.publish(reserve.destination(), reserve.bytes()).await;
            settle().await;
            let asked = serde_json::from_value(call.inner()["args"].clone()).expect("a request");
            let again = cluster.select(&cluster.api, &asked).await;
            let why = format!("{file}: {}: {again:?}", call.name);
            assert!(again.repeated, "{why}");
            assert_eq!(again.decision_id, decision["decision_id"], "{why}");
            repeated += 1;
        }
    }
    assert!(repeated > 4, "only {repeated} decisions were found");
}

#[test]
fn a_recording_is_the_same_each_time() {
    let (first, second) = (scenarios::record(), scenarios::record());
    for ((name, first), (_, second)) in first.iter().zip(&second) {
        let differing = first.lines().zip(second.lines()).find(|(first, second)| first != second);
        assert_eq!(differing, None, "{name}");
        assert_eq!(first.lines().count(), second.lines().count(), "{name}");
    }
    if std::env::var_os(RECORD).is_none() {
        return;
    }
    let version = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
    let directory = fixtures().join(version);
    fs::create_dir_all(&directory).expect("fixtures can be written");
    let path = |name: &str| directory.join(name).with_extension("jsonl");
    let missing: Vec<_> = first.iter().filter(|(name, _)| !path(name).exists()).collect();
    assert!(
        !missing.is_empty(),
        "every scenario of version {version} has been recorded, and a fixture is never changed; add a scenario"
    );
    for (name, text) in missing {
        fs::write(path(name), text).expect("fixtures can be written");
        eprintln!("recorded {version}/{name}: read it before it is committed");
    }
}
