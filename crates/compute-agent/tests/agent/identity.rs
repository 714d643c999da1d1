//! The identity of the host, across processes and with bad files.

use novella_compute_agent::{AgentConfig, IDENTITY_FILE, IdentityError, StartError};
use novella_service::exit;
use novella_service::{MemoryStore, Store, StoreFault};
use serde_json::{Value, json};

use crate::bus::{Bus, HOST, Moody, fake, s};

fn record(store: &MemoryStore) -> Value {
    let bytes = store.read(IDENTITY_FILE).unwrap().expect("the identity is stored");
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_process_raises_the_incarnation_and_the_host_keeps_its_uuid() {
    let (bus, store) = (Bus::new().await, MemoryStore::new());
    let mut uuids = Vec::new();
    for incarnation in 1..=3 {
        let agent = bus.start(HOST, AgentConfig::default(), &store, fake(&[])).await.unwrap();
        let report = bus.take().pop().expect("a report at once");
        assert_eq!(report.novella()["incarnation"], incarnation);
        assert_eq!(report.seq(), 1, "counted per incarnation");
        assert_eq!(record(&store)["incarnation"], incarnation);
        assert_eq!(record(&store)["uuid"], report.novella()["uuid"]);
        uuids.push(report.novella()["uuid"].clone());
        drop(agent);
        bus.run_until(bus.now() + s(1)).await;
    }
    assert!(uuids.iter().all(|uuid| *uuid == uuids[0]), "{uuids:?}");
}

#[tokio::test(start_paused = true)]
async fn the_incarnation_is_durable_before_anything_is_read_or_said() {
    let (bus, store) = (Bus::new().await, MemoryStore::new());
    // The start is cut off during the first reading, as in a crash.
    let starting = bus.start(HOST, AgentConfig::default(), &store, Moody::new(Moody::HANGS));
    assert!(tokio::time::timeout(s(60), starting).await.is_err());
    assert_eq!(record(&store)["incarnation"], 1);
    assert!(bus.reports().is_empty() && !bus.has_queue("compute.cmp1"));
    let _agent = bus.start(HOST, AgentConfig::default(), &store, fake(&[])).await.unwrap();
    assert_eq!(bus.take()[0].novella()["incarnation"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_keep_the_identity_stops_the_start() {
    for (fault, said, next) in [
        (StoreFault::FullDisk, "No space left on device", "free space"),
        (StoreFault::ReadOnly, "Read-only file system", "remount"),
        (StoreFault::Denied, "Permission denied", "read and write access"),
    ] {
        let (bus, store) = (Bus::new().await, MemoryStore::new());
        store.set_fault(Some(fault));
        let refused = bus.start(HOST, AgentConfig::default(), &store, fake(&[])).await;
        let error = refused.err().expect("no agent without a durable incarnation");
        let text = exit::chain(&error);
        assert!(text.contains("identity") && text.contains(IDENTITY_FILE) && text.contains(said), "{text}");
        assert!(
            exit::next_step(&error).is_some_and(|step| step.contains(next)),
            "{:?}",
            exit::next_step(&error)
        );
        bus.run_until(s(30)).await;
        assert!(bus.reports().is_empty() && !bus.has_queue("compute.cmp1"), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_holds_no_identity_is_refused_and_left_as_it_is() {
    let uuid = "6f1b2f9e-6a5f-4a58-8a53-0d3a5d1f7f10";
    for content in [
        String::new(),
        "not JSON".into(),
        "[]".into(),
        json!({"uuid": uuid}).to_string(),
        json!({"uuid": "six", "incarnation": 1}).to_string(),
        json!({"uuid": uuid, "incarnation": -1}).to_string(),
        json!({"uuid": uuid, "incarnation": u64::MAX}).to_string(),
        json!({"uuid": uuid, "incarnation": 1, "host": "x"}).to_string(),
    ] {
        let (bus, store) = (Bus::new().await, MemoryStore::new());
        store.write_durable(IDENTITY_FILE, content.as_bytes()).unwrap();
        let refused = bus.start(HOST, AgentConfig::default(), &store, fake(&[])).await;
        let Err(StartError::Identity(error @ IdentityError::Malformed { .. })) = refused else {
            panic!("{content:?} was taken for an identity");
        };
        let text = error.to_string();
        assert!(text.contains("(memory)/identity.json is not a valid identity file"), "{text}");
        assert_eq!(store.read(IDENTITY_FILE).unwrap().unwrap(), content.as_bytes());
        assert!(bus.reports().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_read_at_all_is_no_host() {
    for (driver, said) in [
        (fake(&["fail smoke"]) as std::sync::Arc<dyn novella_virt::ComputeDriver>, "smoke"),
        (fake(&["hang"]), "no answer within 5s"),
        (Moody::new(Moody::FAILS), "start it"),
    ] {
        let bus = Bus::new().await;
        let refused = bus.start(HOST, AgentConfig::default(), &MemoryStore::new(), driver).await;
        let text = exit::chain(&refused.err().expect("nothing to report, so no agent"));
        assert!(
            text.starts_with("the compute driver cannot read this host: ") && text.contains(said),
            "{text}"
        );
        assert!(!bus.has_queue("compute.cmp1") && bus.reports().is_empty());
    }
}
