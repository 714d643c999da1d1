//! What can change while an agent runs: its settings, and the address of its host.

use novella_compute_agent::{AgentConfig, Reload, StartError};
use novella_service::MemoryStore;
use serde_json::json;

use crate::bus::{Bus, HOST, fake, settings, settle};

#[tokio::test(start_paused = true)]
async fn what_a_report_says_can_change_and_the_rest_is_named() {
    let (bus, agent) = Bus::with_agent().await;
    let before = bus.take().pop().unwrap();
    let wanted = settings(json!({
        "transport_url": "rabbit://agent:s3cret@mq2/",
        "report": {"periodic_interval": "5s"},
        "placement": {"traits": ["CUSTOM_GOLD"], "disabled_reason": "new fan"},
        "reserved": {"memory_mb": 2048},
        "allocation_ratio": {"ram": 1.5},
        "resources": {"CUSTOM_GPU": {"total": 4}},
        "facts": {"rack": "a1"},
        "compute": {"cpu_dedicated_set": "2-3"},
        "driver": {"overrides": {"memory_total_mb": 1000}},
    }));
    let reload = agent.manager().reload(&wanted).await.unwrap();
    assert_eq!(
        reload.applied,
        [
            "resources",
            "facts",
            "driver.overrides",
            "placement.traits",
            "placement.disabled_reason",
            "reserved.memory_mb",
            "allocation_ratio.ram",
            "compute.cpu_dedicated_set"
        ]
    );
    assert_eq!(reload.after_restart, ["transport_url", "report.periodic_interval"]);
    settle().await;
    let [report] = &bus.take()[..] else { panic!("a report at once") };
    assert_eq!(
        (report.novella()["uuid"] == before.novella()["uuid"], report.seq()),
        (true, before.seq() + 1)
    );
    let ours = report.novella();
    assert_eq!((&ours["facts"]["rack"], &ours["disabled_reason"]), (&json!("a1"), &json!("new fan")));
    assert_eq!(
        (&ours["reserved"]["memory_mb"], &ours["allocation_ratios"]["ram"]),
        (&json!(2048), &json!(1.5))
    );
    assert_eq!(ours["resources"]["PCPU"]["total"], 2);
    assert_eq!(
        (&report.capabilities["host_memory_total"], &report.capabilities["vcpus"]),
        (&json!(1000), &json!(0))
    );
    assert_eq!(ours["interval_ms"], 10_000, "the timers are those of the start");

    let again = agent.manager().reload(&wanted).await.unwrap();
    assert_eq!(again, Reload { applied: Vec::new(), after_restart: reload.after_restart });
    settle().await;
    assert!(bus.take().is_empty(), "nothing has changed, so there is nothing to say");
}

#[tokio::test(start_paused = true)]
async fn settings_that_this_host_cannot_offer_leave_those_before_in_force() {
    let (bus, agent) = Bus::with_agent().await;
    bus.take();
    let wanted = settings(json!({"facts": {"rack": "a1"}, "compute": {"cpu_dedicated_set": "4-99"}}));
    let refused = agent.manager().reload(&wanted).await.unwrap_err();
    assert!(refused.to_string().contains("no CPU 8-99 online"), "{refused}");
    settle().await;
    assert!(bus.take().is_empty());
    bus.run_until(bus.now() + crate::bus::s(30)).await;
    assert_eq!(bus.take().pop().unwrap().novella().get("facts"), None);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_learned_later_is_in_the_next_report() {
    let (bus, agent) = Bus::with_agent().await;
    assert_eq!(bus.take().pop().unwrap().novella().get("host_ip"), None, "there was no network yet");
    assert!(agent.manager().set_host_ip("10.0.0.7"));
    assert!(!agent.manager().set_host_ip("10.0.0.7"), "it is the same");
    bus.run_until(crate::bus::s(30)).await;
    for report in bus.take() {
        assert_eq!(report.novella()["host_ip"], "10.0.0.7");
    }
}

#[tokio::test(start_paused = true)]
async fn no_agent_takes_a_name_that_gets_the_commands_of_others() {
    for name in ["*", "a.#", "", "two words"] {
        let bus = Bus::new().await;
        let refused = bus.start(name, AgentConfig::default(), &MemoryStore::new(), fake(&[])).await;
        let Err(StartError::HostName { host, fault }) = refused else { panic!("{name:?} is no name") };
        assert!(host == name && fault.contains("letters A to Z"), "{fault}");
        assert!(!bus.has_queue(&format!("compute.{name}")));
    }
    let bus = Bus::new().await;
    assert!(bus.start(HOST, AgentConfig::default(), &MemoryStore::new(), fake(&[])).await.is_ok());
}
