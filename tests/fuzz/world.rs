//! A scheduler by itself, and one step of its history: a message or time that passes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use novella_compute_agent::ResourceTracker;
use novella_filter_scheduler::{FilterScheduler, SchedulerOptions};
use novella_host_manager::{HostManager, HostManagerOptions};
use novella_messaging::in_process::{InProcessBroker, InProcessOptions};
use novella_messaging::rabbit::inflate;
use novella_messaging::{
    BatchHandler, CallError, DEFAULT_EXCHANGE, Endpoint, RequestContext, RpcClient, RpcRequest, read_answer,
    read_request,
};
use novella_objects::{
    Capacity, ClaimAnswer, ClaimRequest, Decision, Explained, HostDetail, InstanceEvent, Policies,
    PolicyStatus, ServiceSummary, TerminateInstance, Terminated,
};
use novella_resources::HostLimits;
use novella_rpcapi::{
    AgentStatus, BaseApi, ComputeApi, ComputeEndpoint, ComputeServer, GetHostStats, HostList, InstanceQuery,
    Names, Pong, PublishServiceCapabilities, ReportHandler, SchedulerServer, SchedulerStatus, SnapshotPage,
};
use novella_scheduler::{ManagerOptions, PolicySource, SchedulerManager};
use novella_service::Env;
use novella_service::health::Health;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Small, so that they are reached.
const MAX_HOSTS: usize = 40;
const MAX_RESERVATIONS: usize = 200;
const MAX_CLAIMS: usize = 64;
/// Short, so that it happens.
const FORGET_AFTER_S: u64 = 60;

/// What happens next.
#[derive(Clone)]
pub enum Step {
    /// A message arrives, with this AMQP header `compression`.
    Message { body: Vec<u8>, compression: Option<&'static str> },
    /// So many seconds pass.
    Wait(u64),
    /// So many seconds pass in which the scheduler does not run.
    Stall(u64),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(seconds) => write!(f, "wait {seconds} s"),
            Self::Stall(seconds) => write!(f, "stall {seconds} s"),
            Self::Message { body, compression: None } => write!(f, "message {}", body.escape_ascii()),
            Self::Message { body, compression: Some(codec) } => {
                write!(f, "message compressed as {codec} {}", body.escape_ascii())
            }
        }
    }
}

thread_local! {
    /// The first panic of this thread that nobody has asked for yet.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether this thread is at a step.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// From now on panics under [`World::take`] are kept for it instead of printed.
pub fn note_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !WATCHED.get() {
            return usual(info);
        }
        PANIC.with_borrow_mut(|panic| {
            panic.get_or_insert_with(|| info.to_string());
        });
    }));
}

/// Answers as an agent does. Its claims are real, and otherwise it does nothing.
struct Agent(Arc<ResourceTracker>);

#[async_trait]
impl ComputeEndpoint for Agent {
    async fn publish_service_capabilities(
        &self,
        _: &RequestContext,
        _: PublishServiceCapabilities,
    ) -> Result<(), CallError> {
        Ok(())
    }

    async fn get_host_stats(&self, _: &RequestContext, _: GetHostStats) -> Result<Value, CallError> {
        Ok(Value::Null)
    }

    async fn claim(&self, _: &RequestContext, args: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        self.0.claim(args).await
    }

    async fn build_and_run_instance(
        &self,
        _: &RequestContext,
        _: ClaimRequest,
    ) -> Result<Vec<ClaimAnswer>, CallError> {
        Err(CallError::NoSuchMethod)
    }

    async fn stop_instance(&self, _: &RequestContext, _: InstanceQuery) -> Result<(), CallError> {
        Err(CallError::NoSuchMethod)
    }

    async fn start_instance(&self, _: &RequestContext, _: InstanceQuery) -> Result<(), CallError> {
        Err(CallError::NoSuchMethod)
    }

    async fn instance_events(
        &self,
        _: &RequestContext,
        _: InstanceQuery,
    ) -> Result<Vec<InstanceEvent>, CallError> {
        Err(CallError::NoSuchMethod)
    }

    async fn hold(&self, _: &RequestContext, args: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        self.0.hold(&args)
    }

    async fn terminate_instance(
        &self,
        _: &RequestContext,
        args: TerminateInstance,
    ) -> Result<Vec<Terminated>, CallError> {
        self.0.terminate(&args).await
    }

    async fn ping(&self, _: &RequestContext) -> Result<AgentStatus, CallError> {
        Err(CallError::NoSuchMethod)
    }
}

/// See the module.
pub struct World {
    runtime: Runtime,
    manager: Arc<SchedulerManager>,
    endpoints: [Box<dyn Endpoint>; 3],
    reports: [ReportHandler<SchedulerManager>; 2],
    /// Taken so far.
    pub messages: u64,
    /// Those that could be dispatched.
    pub requests: u64,
}

impl World {
    /// An empty map; time stands still but for [`Step::Wait`].
    pub fn new(seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let (manager, agent) = runtime.block_on(async {
            let env = Env::simulated(seed);
            let tracker = ResourceTracker::open("h1", &env).await.expect("an empty store");
            let report = r#"{"vcpus":64,"host_memory_total":1048576,"disk_total":10000}"#;
            let report = serde_json::from_str(report).expect("a report");
            tracker.set_limits(HostLimits::of_report(&report).expect("it has no devices"), false);
            let broker = InProcessBroker::new(InProcessOptions::default());
            let client = RpcClient::new(broker.connect("s1"), [1; 32]);
            let names = Names::on(DEFAULT_EXCHANGE);
            let map = HostManagerOptions {
                max_hosts: MAX_HOSTS,
                max_reservations: MAX_RESERVATIONS,
                max_claims_per_host: MAX_CLAIMS,
                service_down_time: Duration::from_secs(6),
                forget_after: Duration::from_secs(FORGET_AFTER_S),
                reservation_ttl: Duration::from_secs(5),
                max_hold: Duration::from_secs(30),
                ..HostManagerOptions::default()
            };
            let options = ManagerOptions {
                name: "s1".to_owned(),
                policy: PolicySource::default(),
                max_hold: map.max_hold,
                nova_cell: uuid::Uuid::nil(),
                authority: Default::default(),
                request_quotas: Default::default(),
            };
            let health = Health::new(env.clock.clone());
            let engine = FilterScheduler::new(SchedulerOptions::default()).expect("the defaults are good");
            // Nobody reads what it would tell others; a full outbox is counted.
            let manager = SchedulerManager::new(options, env, HostManager::new(map, "s1"), engine, health).0;
            manager.connect_agents(ComputeApi::new(client, &names));
            (manager, Agent(tracker))
        });
        let endpoints: [Box<dyn Endpoint>; 3] = [
            Box::new(SchedulerServer(manager.clone())),
            Box::new(ComputeServer(Arc::new(agent))),
            Box::new(BaseApi::new("scheduler")),
        ];
        let reports = ReportHandler::all(&manager);
        Self { runtime, manager, endpoints, reports, messages: 0, requests: 0 }
    }

    /// Takes a step; what went wrong, if anything did.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        self.guarded(|world| match step {
            Step::Wait(seconds) => {
                (0..*seconds).for_each(|_| world.pass(1));
                Ok(())
            }
            Step::Stall(seconds) => {
                world.pass(*seconds);
                Ok(())
            }
            Step::Message { body, compression } => {
                let body = inflate(Bytes::copy_from_slice(body), *compression);
                world.messages += 1;
                if let Some(Ok(Some(result))) = read_answer(&body) {
                    read_results(result.get());
                }
                match read_request(&body) {
                    Some(request) => world.dispatch(request),
                    None => Ok(()),
                }
            }
        })?;
        self.within_limits()
    }

    /// When all have been silent for long nobody is left.
    pub fn end(&mut self) -> Result<(), String> {
        self.take(&Step::Wait(5 * FORGET_AFTER_S))?;
        let left = self.look(|hosts| {
            [hosts.table().len(), hosts.reservations(), hosts.kept_bytes(), hosts.unlisted_claims()]
        });
        if left == [0; 4] {
            Ok(())
        } else {
            let what = "hosts, reservations, bytes and unlisted claims";
            Err(format!("{what} left when all have been silent for long: {left:?}"))
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.runtime.block_on(async {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            self.manager.expire();
        });
    }

    fn look<T>(&self, look: impl FnOnce(&HostManager) -> T) -> T {
        self.runtime.block_on(async { self.manager.with_hosts(|hosts, _| look(hosts)) })
    }

    fn guarded(&mut self, f: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        WATCHED.set(true);
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| f(self)));
        WATCHED.set(false);
        if let Some(panic) = PANIC.with_borrow_mut(Option::take) {
            return Err(panic);
        }
        done.unwrap_or_else(|_| Err("a panic without a message".to_owned()))
    }

    fn within_limits(&mut self) -> Result<(), String> {
        self.guarded(|world| {
            let (hosts, reservations) = world.look(|hosts| (hosts.table().len(), hosts.reservations()));
            let (kept, most) = world.look(|hosts| (hosts.kept_bytes(), hosts.max_kept_bytes()));
            if kept > most {
                return Err(format!("{kept} bytes are kept of reports, more than {most}"));
            }
            if hosts > MAX_HOSTS || reservations > MAX_RESERVATIONS {
                return Err(format!(
                    "{hosts} hosts and {reservations} reservations are more than the limits"
                ));
            }
            Ok(())
        })
    }

    /// Whoever has the method gets it, whatever version and namespace it names: those are the dispatcher's, which has
    /// tests of its own.
    fn dispatch(&mut self, request: RpcRequest) -> Result<(), String> {
        let mut taken = false;
        if self.reports[0].method() == request.method {
            let handler = &self.reports[usize::from(request.version.major == 2)];
            self.runtime.block_on(async { handler.handle(std::slice::from_ref(&request)) });
            taken = true;
        }
        for endpoint in &self.endpoints {
            if endpoint.methods().iter().any(|method| method.name == request.method) {
                taken = true;
                match self.runtime.block_on(endpoint.dispatch(&request)) {
                    Err(CallError::Internal { message }) => return Err(format!("internal error: {message}")),
                    Err(error) => drop(error.to_string()),
                    Ok(_) => {}
                }
            }
        }
        self.requests += u64::from(taken);
        Ok(())
    }
}

/// As every client call reads its answer.
fn read_results(text: &str) {
    macro_rules! read { ($($type:ty),* $(,)?) => { $(drop(serde_json::from_str::<$type>(text));)* } }
    read!(
        Decision,
        HostList,
        Option<HostDetail>,
        Vec<ServiceSummary>,
        Option<Explained>,
        Capacity,
        SnapshotPage,
        SchedulerStatus,
        Policies,
        PolicyStatus,
        AgentStatus,
        Pong,
        u64,
    );
}
