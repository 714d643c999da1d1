//! A host that grants claims and builds instances as it is told, without a driver: what schedulers ask of a real one, and what a
//! real one reports, under the control of the test.
//!
//! Left out: room. It grants everything, unless it is told to refuse.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use novella_messaging::{CallError, QueueKind, RequestContext, RpcServer, ServerOptions};
use novella_objects::{
    ClaimAnswer, ClaimRequest, InstanceClaim, InstanceEvent, InstanceState, Lack, PowerState,
    TerminateInstance, Terminated, VmState,
};
use novella_rpcapi::{
    AgentStatus, COMPUTE_TOPIC, ComputeEndpoint, ComputeServer, GetHostStats, InstanceQuery,
    PublishServiceCapabilities,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, EXCHANGE, settle};

/// What a host knows of one instance.
struct Granted {
    decision: String,
    user: Option<String>,
    claim: InstanceClaim,
    /// None if only room is claimed.
    instance: Option<InstanceState>,
}

#[derive(Default)]
struct State {
    granted: BTreeMap<Uuid, Granted>,
    /// The methods that were called, in order.
    called: Vec<&'static str>,
    refuses: bool,
    reports: u64,
}

/// See the module.
pub struct StubHost {
    name: String,
    number: u128,
    state: Mutex<State>,
}

impl StubHost {
    /// Starts `host-<number>`, which reports when it is told to. The server must be kept.
    pub async fn start(cluster: &Cluster, number: u128) -> (Arc<Self>, RpcServer) {
        let name = format!("host-{number}");
        let host = Arc::new(Self { name: name.clone(), number, state: Mutex::default() });
        let seed = cluster.env.child(&name).random.fork("stub");
        let server = RpcServer::new(cluster.connect(&name), ServerOptions::new(seed))
            .endpoint(Arc::new(ComputeServer(host.clone())));
        let (exchange, topic) = (EXCHANGE.to_owned(), COMPUTE_TOPIC.to_owned());
        let queue = QueueKind::Server { exchange, topic, server: name, fanout: true };
        server.listen(queue).await.expect("the bus has room for a queue");
        settle().await;
        (host, server)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it refuses what it is asked from now on.
    pub fn refuse(&self, refuses: bool) {
        self.with(|state| state.refuses = refuses);
    }

    /// The methods that were called since the last time.
    pub fn called(&self) -> Vec<&'static str> {
        self.with(|state| std::mem::take(&mut state.called))
    }

    /// Ends the build of an instance.
    pub fn built(&self, uuid: Uuid) {
        self.with(|state| {
            let granted = state.granted.get_mut(&uuid).expect("it is granted");
            let instance = granted.instance.as_mut().expect("it has a build");
            (instance.vm_state, instance.task_state, instance.power_state) =
                (VmState::Active, None, PowerState::Running);
        });
    }

    /// Reports what it has to all schedulers.
    pub async fn report(&self, cluster: &Cluster) {
        let report = self.with(|state| {
            state.reports += 1;
            let claims: Vec<Value> = state.granted.iter().map(|(uuid, granted)| claim(*uuid, granted)).collect();
            json!({"vcpus": 16, "host_memory_total": 32_768, "disk_total": 500, "novella": {
                "uuid": Uuid::from_u128(0xA000 + self.number), "incarnation": 1, "nonce": 1, "seq": state.reports,
                "sent_at": "2026-01-01T00:00:00Z", "interval_ms": 10_000, "grants": true, "claims": claims}})
        });
        cluster.report("compute", &self.name, &report.to_string()).await.expect("the bus takes it");
        settle().await;
    }

    fn grant(&self, method: &'static str, args: ClaimRequest) -> Vec<ClaimAnswer> {
        self.with(|state| {
            state.called.push(method);
            let ClaimRequest { decision_id, user, instances, .. } = args;
            let grant = |claim: InstanceClaim| {
                if state.refuses {
                    let resource = "MEMORY_MB".to_owned();
                    let lack =
                        Lack { resource, wanted: claim.instance.memory_mb, free: 1, unit: "MiB".into() };
                    return ClaimAnswer::Refused { lacks: vec![lack] };
                }
                let rank = claim.rank;
                let instance = claim.build.clone().map(|build| InstanceState {
                    build,
                    created_at: "2026-01-01T00:00:00Z".to_owned(),
                    ..InstanceState::default()
                });
                let (decision, user) = (decision_id.clone(), user.clone());
                let new = Granted { decision, user, claim, instance };
                state.granted.entry(new.claim.instance.uuid).or_insert(new);
                ClaimAnswer::Granted { rank }
            };
            instances.into_iter().map(grant).collect()
        })
    }

    fn power(&self, method: &'static str, uuid: Uuid, to: (VmState, PowerState)) -> Result<(), CallError> {
        self.with(|state| {
            state.called.push(method);
            let instance = state.granted.get_mut(&uuid).and_then(|granted| granted.instance.as_mut());
            match instance {
                Some(instance) if instance.vm_state == VmState::Building => {
                    Err(CallError::BadArguments { reason: "it is being built".to_owned() })
                }
                Some(instance) => {
                    (instance.vm_state, instance.power_state) = to;
                    Ok(())
                }
                None => Err(CallError::BadArguments { reason: "it is not here".to_owned() }),
            }
        })
    }
}

fn claim(uuid: Uuid, granted: &Granted) -> Value {
    let Granted { decision, user, claim, instance } = granted;
    let entry = &claim.instance;
    let mut written = json!({"uuid": uuid, "vcpus": entry.vcpus, "memory_mb": entry.memory_mb,
        "disk_gb": entry.disk_gb, "flavor": entry.flavor, "decision": decision, "rank": claim.rank,
        "spec_hash": entry.spec_hash});
    if let Some(user) = user {
        written["user"] = json!(user);
    }
    if let Some(instance) = instance {
        written["instance"] = json!(instance);
    }
    written
}

#[async_trait]
impl ComputeEndpoint for StubHost {
    async fn publish_service_capabilities(
        &self,
        _: &RequestContext,
        _: PublishServiceCapabilities,
    ) -> Result<(), CallError> {
        Ok(())
    }

    async fn get_host_stats(&self, _: &RequestContext, _: GetHostStats) -> Result<Value, CallError> {
        Ok(json!({}))
    }

    async fn claim(&self, _: &RequestContext, args: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        Ok(self.grant("claim", args))
    }

    async fn build_and_run_instance(
        &self,
        _: &RequestContext,
        args: ClaimRequest,
    ) -> Result<Vec<ClaimAnswer>, CallError> {
        Ok(self.grant("build_and_run_instance", args))
    }

    async fn stop_instance(&self, _: &RequestContext, args: InstanceQuery) -> Result<(), CallError> {
        self.power("stop_instance", args.instance_uuid, (VmState::Stopped, PowerState::Shutdown))
    }

    async fn start_instance(&self, _: &RequestContext, args: InstanceQuery) -> Result<(), CallError> {
        self.power("start_instance", args.instance_uuid, (VmState::Active, PowerState::Running))
    }

    async fn instance_events(
        &self,
        _: &RequestContext,
        args: InstanceQuery,
    ) -> Result<Vec<InstanceEvent>, CallError> {
        self.with(|state| {
            let granted = state.granted.get(&args.instance_uuid);
            let instance = granted.and_then(|granted| granted.instance.as_ref());
            let instance = instance
                .ok_or_else(|| CallError::BadArguments { reason: "it is not an instance".to_owned() })?;
            let event = "build started".to_owned();
            Ok(vec![InstanceEvent { at: instance.created_at.clone(), event, detail: None }])
        })
    }

    async fn hold(&self, _: &RequestContext, args: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        self.with(|state| state.called.push("hold"));
        Ok(args.instances.iter().map(|wanted| ClaimAnswer::Granted { rank: wanted.rank }).collect())
    }

    async fn terminate_instance(
        &self,
        _: &RequestContext,
        args: TerminateInstance,
    ) -> Result<Vec<Terminated>, CallError> {
        self.with(|state| {
            state.called.push("terminate_instance");
            let end = |uuid: &Uuid| match state.granted.remove(uuid) {
                Some(_) => Terminated::Ended,
                None => Terminated::Unknown,
            };
            Ok(args.instance_uuids.iter().map(end).collect())
        })
    }

    async fn ping(&self, _: &RequestContext) -> Result<AgentStatus, CallError> {
        Ok(AgentStatus {
            host: self.name.clone(),
            uuid: Uuid::from_u128(0xA000 + self.number),
            incarnation: 1,
            pid: 1,
            driver: "stub".to_owned(),
            version: "0".to_owned(),
            uptime_s: 1.0,
            reports: 1,
        })
    }
}
