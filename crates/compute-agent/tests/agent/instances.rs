//! Instances from the request to the end: what the host writes, what its driver does, and what callers and reports say.

use std::sync::Arc;
use std::time::Duration;

use novella_compute_agent::{Agent, AgentConfig};
use novella_messaging::RpcError;
use novella_objects::{
    BuildRequest, ClaimAnswer, ClaimRequest, InstanceClaim, InstanceState, PowerState, Rank, ReserveEntry,
    TaskState, TerminateInstance, Terminated, VmState,
};
use novella_service::{MemoryStore, StoreFault};
use novella_virt::{ComputeDriver, FakeConfig, FakeDriver, FakeHypervisor};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bus::{Bus, HOST, Moody, PROBE, call, s};

/// A host whose machine and store outlive its agents.
struct Rig {
    bus: Bus,
    store: MemoryStore,
    machine: Arc<FakeHypervisor>,
}

impl Rig {
    async fn new(fake: Value) -> Self {
        let fake: FakeConfig = serde_json::from_value(fake).expect("a fake driver's configuration");
        let machine = FakeHypervisor::new(Arc::new(fake)).expect("the size is allowed");
        Self { bus: Bus::new().await, store: MemoryStore::new(), machine }
    }

    fn driver(&self) -> Arc<FakeDriver> {
        Arc::new(FakeDriver::on(HOST, self.machine.clone(), PROBE))
    }

    async fn agent(&self) -> Agent {
        self.bus
            .start(HOST, AgentConfig::default(), &self.store, self.driver())
            .await
            .expect("the agent starts")
    }

    /// The agent dies without a word, and the disk has only what was synced.
    async fn power_cut(&self, agent: Agent) -> Agent {
        drop(agent);
        self.run(Duration::from_millis(10)).await;
        self.store.lose_power(7);
        self.agent().await
    }

    async fn run(&self, time: Duration) {
        self.bus.run_until(self.bus.now() + time).await;
    }

    async fn build(&self, n: u128, attempt: u32) -> ClaimAnswer {
        self.build_all(vec![wanted(n, attempt)]).await.expect("an answer").remove(0)
    }

    async fn build_all(&self, instances: Vec<InstanceClaim>) -> Result<Vec<ClaimAnswer>, RpcError> {
        let request = ClaimRequest { decision_id: "s1-1-0".to_owned(), instances, ..ClaimRequest::default() };
        self.bus.compute.build_and_run_instance(HOST, &request, call()).await
    }

    async fn terminate(&self, n: u128) -> Terminated {
        let request = TerminateInstance { instance_uuids: vec![uuid(n)], up_to_rank: None };
        self.bus.compute.terminate_instance(HOST, &request, call()).await.expect("an answer").remove(0)
    }

    async fn novella(&self) -> Value {
        self.bus.compute.get_host_stats(HOST, false, call()).await.unwrap()["novella"].clone()
    }

    /// The instance as reports show it. `None` if the host has no claim for it.
    async fn state(&self, n: u128) -> Option<InstanceState> {
        let novella = self.novella().await;
        let claims = novella["claims"].as_array().unwrap();
        let claim = claims.iter().find(|claim| claim["uuid"] == json!(uuid(n)))?;
        Some(
            serde_json::from_value(claim["instance"].clone())
                .expect("the claim of an instance has its state"),
        )
    }

    /// The failed instance as reports show it.
    async fn failed(&self, n: u128) -> Option<InstanceState> {
        let novella = self.novella().await;
        let state = novella["failed_instances"].get(uuid(n).to_string())?;
        Some(serde_json::from_value(state.clone()).unwrap())
    }

    async fn shape(&self, n: u128) -> Option<(VmState, Option<TaskState>, PowerState)> {
        self.state(n).await.map(|state| (state.vm_state, state.task_state, state.power_state))
    }

    async fn events(&self, n: u128) -> Vec<String> {
        let events = self.bus.compute.instance_events(HOST, uuid(n), call()).await.expect("events");
        events.into_iter().map(|event| event.event).collect()
    }

    async fn guests(&self) -> Vec<(u128, PowerState)> {
        let guests = self.driver().list_instances().await.unwrap();
        guests.into_iter().map(|guest| (guest.uuid.as_u128(), guest.power_state)).collect()
    }
}

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn wanted(n: u128, attempt: u32) -> InstanceClaim {
    let instance = ReserveEntry {
        uuid: uuid(n),
        host: HOST.to_owned(),
        vcpus: 1,
        memory_mb: 64,
        disk_gb: 1,
        spec_hash: 1,
        ..ReserveEntry::default()
    };
    let build = BuildRequest { name: format!("web{n}"), ..BuildRequest::default() };
    InstanceClaim { instance, rank: rank(attempt), build: Some(build), ..InstanceClaim::default() }
}

fn rank(attempt: u32) -> Rank {
    Rank { attempt, try_number: 1 }
}

fn granted(attempt: u32) -> ClaimAnswer {
    ClaimAnswer::Granted { rank: rank(attempt) }
}

const RUNS: Option<(VmState, Option<TaskState>, PowerState)> =
    Some((VmState::Active, None, PowerState::Running));
const OFF: Option<(VmState, Option<TaskState>, PowerState)> =
    Some((VmState::Stopped, None, PowerState::Shutdown));

/// The class and the text of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, RpcError>) -> (String, String) {
    match answer {
        Err(RpcError::Remote { source, .. }) => (source.class.clone(), source.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_granted_at_once_and_then_built() {
    let rig = Rig::new(json!({ "spawn_script": ["delay 3000"] })).await;
    let _agent = rig.agent().await;
    assert_eq!(rig.build(1, 1).await, granted(1));
    let state = rig.state(1).await.unwrap();
    assert_eq!(
        (&*state.build.name, state.vm_state, state.task_state),
        ("web1", VmState::Building, Some(TaskState::Spawning))
    );
    assert_eq!(rig.novella().await["num_io_ops"], 1);
    rig.run(s(4)).await;
    assert_eq!((rig.shape(1).await, rig.guests().await), (RUNS, vec![(1, PowerState::Running)]));
    assert_eq!(rig.events(1).await, ["build started", "build succeeded"]);
    let report = rig.bus.take().pop().unwrap();
    assert_eq!(report.novella()["claims"][0]["instance"]["vm_state"], "active", "a report has gone out");
    assert_eq!(report.novella().get("num_io_ops"), None);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_raises_the_rank_and_builds_nothing_twice() {
    let rig = Rig::new(json!({ "spawn_script": ["delay 3000", "fail built twice"] })).await;
    let agent = rig.agent().await;
    let (one, other) = tokio::join!(rig.build(1, 1), rig.build(1, 2));
    assert_eq!((one, other), (granted(1), granted(2)));
    rig.run(s(4)).await;
    assert_eq!(rig.build(1, 3).await, granted(3));
    rig.run(s(4)).await;
    assert_eq!((rig.shape(1).await, rig.events(1).await.len()), (RUNS, 2));
    let mut renamed = wanted(1, 4);
    renamed.build.as_mut().unwrap().name = "db".to_owned();
    let answer = rig.build_all(vec![renamed]).await.unwrap().remove(0);
    assert!(
        matches!(&answer, ClaimAnswer::Conflict { reason } if reason.contains("another name")),
        "{answer:?}"
    );
    let _agent = rig.power_cut(agent).await;
    assert_eq!(rig.build(1, 1).await, granted(3), "the raised rank is on the disk");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_frees_its_claim_and_only_a_higher_rank_builds_anew() {
    let rig = Rig::new(json!({ "spawn_script": ["fail the hypervisor is out of order"] })).await;
    let agent = rig.agent().await;
    assert_eq!(rig.build(1, 1).await, granted(1));
    rig.run(s(1)).await;
    assert_eq!((rig.state(1).await, rig.guests().await), (None, vec![]));
    let failed = rig.failed(1).await.expect("the owner sees the failure");
    assert_eq!((failed.vm_state, failed.task_state), (VmState::Error, None));
    assert!(failed.fault.unwrap().contains("the hypervisor is out of order"));
    assert_eq!(rig.novella().await["failed_builds"], 1);
    assert_eq!(rig.events(1).await, ["build started", "build failed"]);
    let again = rig.build(1, 1).await;
    assert!(matches!(again, ClaimAnswer::Ended { .. }), "{again:?}");
    let _agent = rig.power_cut(agent).await;
    let again = rig.build(1, 1).await;
    assert!(matches!(again, ClaimAnswer::Ended { .. }), "the end is on the disk: {again:?}");
    assert_eq!(rig.build(1, 2).await, granted(2));
    rig.run(s(1)).await;
    assert_eq!((rig.shape(1).await, rig.failed(1).await), (RUNS, None));
}

#[tokio::test(start_paused = true)]
async fn failed_builds_are_forgotten_with_time_and_after_a_success() {
    let steps = vec!["fail a"; 5];
    let rig = Rig::new(json!({ "spawn_script": steps })).await;
    let _agent = rig.agent().await;
    for n in 1..=4 {
        rig.build(n, 1).await;
        rig.run(s(1)).await;
    }
    assert_eq!(rig.novella().await["failed_builds"], 4);
    rig.run(s(600)).await;
    assert_eq!(rig.novella().await["failed_builds"], 2);
    rig.build(5, 1).await;
    rig.build(6, 1).await;
    rig.run(s(1)).await;
    assert_eq!(rig.novella().await.get("failed_builds"), None, "the last build has succeeded");
    let mut rejected = wanted(7, 1);
    rejected.build.as_mut().unwrap().name = "a\nb".to_owned();
    let (class, said) = refusal(rig.build_all(vec![rejected]).await);
    assert_eq!(class, "TypeError");
    assert!(said.contains("name is not a name"), "{said}");
    let bare = InstanceClaim { build: None, ..wanted(7, 1) };
    assert!(refusal(rig.build_all(vec![bare]).await).1.contains("it has no build"));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_missing_is_not_the_fault_of_the_host() {
    let rig = Rig::new(json!({ "images": ["cirros"] })).await;
    let _agent = rig.agent().await;
    let mut instance = wanted(1, 1);
    instance.build.as_mut().unwrap().image = Some("beos".to_owned());
    rig.build_all(vec![instance]).await.unwrap();
    rig.run(s(1)).await;
    assert!(rig.failed(1).await.unwrap().fault.unwrap().contains("there is no image \"beos\""));
    assert_eq!(rig.novella().await.get("failed_builds"), None);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_hangs_in_spawn_and_destroy_ends_in_error_and_frees_the_room() {
    let rig =
        Rig::new(json!({ "spawn_script": ["hang"], "destroy_script": ["hang", "fail busy", "fail busy"] }))
            .await;
    let _agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.run(s(299)).await;
    assert_eq!(rig.state(1).await.unwrap().vm_state, VmState::Building);
    rig.run(s(2)).await;
    let state = rig.state(1).await.expect("the room is not free while the guest may be there");
    assert_eq!((state.vm_state, state.task_state), (VmState::Error, Some(TaskState::Deleting)));
    assert!(state.fault.unwrap().contains("did not answer within 300s"));
    let again = rig.build(1, 2).await;
    assert!(matches!(again, ClaimAnswer::Busy { .. }), "{again:?}");
    rig.run(s(126)).await;
    assert_eq!((rig.state(1).await, rig.guests().await), (None, vec![]));
    assert!(rig.failed(1).await.is_some());
    assert_eq!(rig.build(1, 2).await, granted(2));
    rig.run(s(1)).await;
    assert_eq!(rig.shape(1).await, RUNS);
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_answered_at_once_and_the_room_is_free_when_the_guest_is_gone() {
    let rig = Rig::new(json!({ "destroy_script": ["fail busy", "delay 5000"] })).await;
    let agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.run(s(1)).await;
    assert_eq!(rig.terminate(1).await, Terminated::Ended);
    assert_eq!(rig.terminate(1).await, Terminated::Ended, "a second one is harmless");
    assert_eq!(rig.state(1).await.unwrap().task_state, Some(TaskState::Deleting));
    let again = rig.build(1, 9).await;
    assert!(matches!(again, ClaimAnswer::Ended { .. }), "{again:?}");
    let stop = refusal(rig.bus.compute.stop_instance(HOST, uuid(1), call()).await);
    assert_eq!(stop.0, "InstanceInvalidState", "{}", stop.1);
    rig.run(s(8)).await;
    assert_eq!((rig.state(1).await, rig.failed(1).await, rig.guests().await), (None, None, vec![]));
    let _agent = rig.power_cut(agent).await;
    assert!(matches!(rig.build(1, 9).await, ClaimAnswer::Ended { .. }), "the end is on the disk");
    assert_eq!(rig.terminate(1).await, Terminated::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_delete_during_the_build_ends_the_build() {
    let rig = Rig::new(json!({ "spawn_script": ["hang"] })).await;
    let _agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.run(s(1)).await;
    let outranked = TerminateInstance { instance_uuids: vec![uuid(1)], up_to_rank: Some(rank(0)) };
    let answer = rig.bus.compute.terminate_instance(HOST, &outranked, call()).await.unwrap();
    assert_eq!((answer, rig.guests().await.len()), (vec![Terminated::Outranked], 1));
    assert_eq!(rig.terminate(1).await, Terminated::Ended);
    rig.run(s(1)).await;
    assert_eq!((rig.state(1).await, rig.guests().await), (None, vec![]));
    assert_eq!(rig.novella().await.get("failed_builds"), None);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_builds_and_deletes() {
    let rig = Rig::new(json!({ "spawn_script": ["hang", "ok"], "destroy_script": ["hang", "ok"] })).await;
    let agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.run(s(1)).await;
    let agent = rig.power_cut(agent).await;
    rig.run(s(1)).await;
    assert_eq!(rig.shape(1).await, RUNS);
    assert_eq!(rig.events(1).await, ["build started", "resumed after a restart", "build succeeded"]);
    rig.terminate(1).await;
    rig.run(s(1)).await;
    assert!(rig.state(1).await.is_some(), "the guest is not gone");
    let _agent = rig.power_cut(agent).await;
    rig.run(s(1)).await;
    assert_eq!((rig.state(1).await, rig.guests().await), (None, vec![]));
    assert!(matches!(rig.build(1, 9).await, ClaimAnswer::Ended { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_stopped_and_started_and_again_is_harmless() {
    let rig = Rig::new(json!({ "power_script": ["ok", "hang", "ok", "fail no power"] })).await;
    let agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.run(s(1)).await;
    let stop = || rig.bus.compute.stop_instance(HOST, uuid(1), call());
    let start = || rig.bus.compute.start_instance(HOST, uuid(1), call());
    stop().await.unwrap();
    stop().await.unwrap();
    rig.run(s(1)).await;
    assert_eq!(rig.shape(1).await, OFF);
    start().await.unwrap();
    rig.run(s(1)).await;
    assert_eq!(rig.state(1).await.unwrap().task_state, Some(TaskState::PoweringOn));
    let _agent = rig.power_cut(agent).await;
    rig.run(s(1)).await;
    assert_eq!(rig.shape(1).await, RUNS, "the start was repeated after the restart");
    stop().await.unwrap();
    rig.run(s(1)).await;
    let state = rig.state(1).await.unwrap();
    assert_eq!((state.vm_state, state.task_state), (VmState::Active, None));
    assert!(state.fault.unwrap().contains("no power"));
    assert_eq!(rig.events(1).await.last().unwrap(), "stop failed");
    let (class, said) = refusal(rig.bus.compute.stop_instance(HOST, uuid(2), call()).await);
    assert_eq!(
        (&*class, &*said),
        (
            "InstanceNotFound",
            &*format!("host cmp1 has no instance {}; list the instances to see where it is", uuid(2))
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_alone_is_not_an_instance() {
    let rig = Rig::new(json!({})).await;
    let _agent = rig.agent().await;
    let instances = vec![wanted(1, 1)];
    let request = ClaimRequest { decision_id: "s1-1-0".to_owned(), instances, ..ClaimRequest::default() };
    rig.bus.compute.claim(HOST, &request, call()).await.unwrap();
    rig.run(s(1)).await;
    assert_eq!(rig.guests().await, []);
    for answer in [
        refusal(rig.bus.compute.stop_instance(HOST, uuid(1), call()).await),
        refusal(rig.bus.compute.start_instance(HOST, uuid(1), call()).await),
        refusal(rig.bus.compute.instance_events(HOST, uuid(1), call()).await),
    ] {
        assert_eq!(answer.0, "InstanceNotFound");
        assert!(answer.1.contains("is only a claim on host cmp1; its own tools run it"), "{}", answer.1);
    }
    let answer = rig.build(1, 2).await;
    assert!(
        matches!(&answer, ClaimAnswer::Conflict { reason } if reason.contains("only a claim")),
        "{answer:?}"
    );
    assert_eq!(rig.terminate(1).await, Terminated::Ended);
    assert_eq!(rig.novella().await["claims"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_lost_or_off_is_seen_at_the_next_reading() {
    let rig = Rig::new(json!({})).await;
    let agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.build(2, 1).await;
    rig.run(s(1)).await;
    rig.driver().power_off(uuid(2)).await.unwrap();
    rig.driver().destroy(uuid(1)).await.unwrap();
    rig.run(s(25)).await;
    assert_eq!((rig.shape(1).await, rig.shape(2).await), (RUNS, OFF));
    assert_eq!(rig.events(1).await[2..], ["guest was gone; started again", "started"]);
    assert_eq!(rig.events(2).await[2..], ["guest was found off"]);
    // The fake driver's guests end with its process.
    drop(agent);
    rig.run(s(1)).await;
    let empty = Rig { machine: FakeHypervisor::new(Arc::default()).unwrap(), ..rig };
    let _agent = empty.agent().await;
    empty.run(s(1)).await;
    assert_eq!(empty.guests().await, [(1, PowerState::Running)]);
    empty.bus.compute.start_instance(HOST, uuid(2), call()).await.unwrap();
    empty.run(s(1)).await;
    assert_eq!((empty.shape(2).await, empty.guests().await.len()), (RUNS, 2));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_only_reads_builds_nothing_and_says_what_to_do() {
    let (bus, store) = (Bus::new().await, MemoryStore::new());
    let _agent = bus.start(HOST, AgentConfig::default(), &store, Moody::new(Moody::WORKS)).await.unwrap();
    let request = ClaimRequest {
        decision_id: "s1-1-0".to_owned(),
        instances: vec![wanted(1, 1)],
        ..ClaimRequest::default()
    };
    let answers = bus.compute.build_and_run_instance(HOST, &request, call()).await.unwrap();
    let ClaimAnswer::Busy { reason } = &answers[0] else { panic!("{answers:?}") };
    assert!(
        reason.contains("host cmp1 builds no instances: the moody driver only reads this host"),
        "{reason}"
    );
    assert!(reason.contains("novella place --claim"), "{reason}");
    assert_eq!(
        bus.compute.get_host_stats(HOST, false, call()).await.unwrap()["novella"]["claims"],
        json!([])
    );
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_nothing_is_acknowledged_and_nothing_half_done() {
    let rig = Rig::new(json!({})).await;
    let _agent = rig.agent().await;
    rig.build(1, 1).await;
    rig.run(s(1)).await;
    rig.store.set_fault(Some(StoreFault::FullDisk));
    let refused = rig.build(2, 1).await;
    assert!(matches!(refused, ClaimAnswer::Busy { .. }), "{refused:?}");
    refusal(rig.bus.compute.stop_instance(HOST, uuid(1), call()).await);
    let request = TerminateInstance { instance_uuids: vec![uuid(1)], up_to_rank: None };
    refusal(rig.bus.compute.terminate_instance(HOST, &request, call()).await);
    rig.run(s(30)).await;
    assert_eq!(
        (rig.shape(1).await, rig.state(2).await, rig.guests().await),
        (RUNS, None, vec![(1, PowerState::Running)])
    );
    rig.store.set_fault(None);
    assert_eq!((rig.build(1, 2).await, rig.build(2, 1).await), (granted(2), granted(1)));
    assert_eq!(rig.terminate(1).await, Terminated::Ended);
    rig.run(s(1)).await;
    assert_eq!((rig.state(1).await, rig.shape(2).await), (None, RUNS));
}
