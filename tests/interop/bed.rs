//! What a test stands on: the broker, the Python peer, names of its own, and a server of ours to be called.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{
    CallError, CallOptions, ConsumerState, Endpoint, FanoutLimits, Method, MethodClass, QueueKind,
    RemoteError, RpcClient, RpcRequest, RpcServer, ServerOptions, Target, Version, answer,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::daemons_rig::House;
use crate::python::{Python, Raised, python};
use crate::support::*;

/// The options with which oslo.messaging works where RabbitMQ denies transient queues that are shared.
const DURABLE: &str = "amqp_durable_queues=true&rabbit_transient_quorum_queue=true";
/// The version that [`Service`] implements.
const SERVICE_VERSION: Version = Version::new(1, 3);

/// Broker, peer and names of one test.
pub struct Bed {
    pub broker: Broker,
    pub python: &'static Python,
    /// Control exchange of this test.
    pub exchange: String,
    pub topic: String,
    /// Whether the broker denies what RabbitMQ 4.3 denies.
    pub denies: bool,
    seeds: AtomicU64,
}

/// Shares the broker with other tests; `None` (said aloud) without broker or peer.
pub async fn shared(test: &str) -> Option<Bed> {
    Some(on(broker(test).await?, python(&variable(test, "NOVELLA_TEST_PYTHON")?)).await)
}

/// Has the broker alone: this test stops it.
pub async fn alone(test: &str) -> Option<Bed> {
    Some(on(broker_alone(test).await?, python(&variable(test, "NOVELLA_TEST_PYTHON")?)).await)
}

async fn on(broker: Broker, python: &'static Python) -> Bed {
    static DENIES: OnceCell<bool> = OnceCell::const_new();
    let denies = async {
        let (channel, name) = (broker.bare().await, broker.unique("denied"));
        let queue = channel.queue_declare(name.into(), QueueDeclareOptions::default(), FieldTable::default());
        queue.await.is_err()
    };
    let denies = *DENIES.get_or_init(|| denies).await;
    let (exchange, topic) = (broker.unique("exchange"), broker.unique("topic"));
    Bed { broker, python, exchange, topic, denies, seeds: AtomicU64::new(1) }
}

impl Bed {
    /// Where oslo.messaging finds the broker, with what it needs to work there.
    pub fn python_url(&self) -> String {
        if self.denies { format!("{}?{DURABLE}", self.broker.url) } else { self.broker.url.clone() }
    }

    /// Where we find it, with the shapes that go with those of [`Self::python_url`].
    pub fn our_url(&self) -> String {
        let url = &self.broker.url;
        if self.denies { format!("{url}?topology=oslo&{DURABLE}") } else { url.clone() }
    }

    /// A virtual host for whole daemons, with the same options.
    pub async fn house(&self) -> House {
        let mut house = House::on(self.broker.again()).await;
        if self.denies {
            house.url = format!("{}?topology=oslo&{DURABLE}", house.url);
        }
        house
    }

    /// Where oslo.messaging finds that virtual host.
    pub fn python_at(&self, house: &House) -> String {
        house.url.replace("topology=oslo&", "")
    }

    /// The shapes of an oslo.messaging *server*, so that both sides can serve one topic.
    pub fn our_oslo_url(&self) -> String {
        if self.denies { self.our_url() } else { format!("{}?topology=oslo", self.broker.url) }
    }

    fn seed(&self) -> [u8; 32] {
        // Names of queues come from it; two processes of this suite must not share them either.
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seeds.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        for (byte, from) in seed[8..].iter_mut().zip(self.topic.bytes().rev()) {
            *byte = from;
        }
        seed
    }

    /// A connected transport.
    pub async fn transport(&self, url: &str, name: &str) -> Arc<RabbitTransport> {
        let transport = RabbitTransport::start(RabbitOptions { seed: self.seed(), ..options(url, name) });
        connected(&transport).await;
        transport
    }

    /// A client of ours.
    pub async fn client(&self) -> RpcClient {
        RpcClient::new(self.transport(&self.our_url(), "client").await, self.seed())
    }

    /// This test's topic, for our client.
    pub fn target(&self) -> Target {
        Target { exchange: self.exchange.clone(), ..Target::topic(&self.topic) }
    }

    /// A server of ours on all three queues of this test's topic, consuming.
    pub async fn serve(&self, server: &str) -> Ours {
        self.serve_as(&self.our_url(), server, ServerOptions::new(self.seed())).await
    }

    /// The same with other shapes or options.
    pub async fn serve_as(&self, url: &str, server: &str, options: ServerOptions) -> Ours {
        let transport = self.transport(url, server).await;
        let service = Arc::new(Service::default());
        let rpc = RpcServer::new(transport.clone(), options)
            .endpoint(service.clone())
            .endpoint(Arc::new(Named { namespace: "named", service: service.clone() }));
        let (exchange, topic) = (self.exchange.clone(), self.topic.clone());
        let limits = FanoutLimits { message_ttl: Duration::from_secs(30), max_length: 10_000 };
        for queue in [
            QueueKind::Topic { exchange: exchange.clone(), topic: topic.clone() },
            QueueKind::Server { exchange, topic: topic.clone(), server: server.into(), fanout: false },
            QueueKind::Fanout { topic, limits },
        ] {
            let mut state = rpc.listen(queue).await.expect("not closed");
            let active = state.wait_for(|state| matches!(state, ConsumerState::Active { .. }));
            let active = tokio::time::timeout(PATIENCE, active).await.is_ok_and(|state| state.is_ok());
            assert!(active, "{:?}", *state.borrow());
        }
        Ours { transport, rpc, service }
    }

    /// What a command to the peer says of transport and target; `more` adds and overrides.
    pub fn command(&self, more: Value) -> Value {
        let target = json!({"topic": self.topic, "version": "1.0", "exchange": self.exchange});
        let mut command = json!({"url": self.python_url(), "target": target});
        merge(&mut command, more);
        command
    }

    /// Python calls `method`; `more` as in [`Self::command`].
    pub async fn call(&self, method: &str, args: Value, more: Value) -> Result<Value, Raised> {
        self.ask("call", method, args, more).await
    }

    /// Python casts.
    pub async fn cast(&self, method: &str, args: Value, more: Value) {
        self.ask("cast", method, args, more).await.expect("a cast is sent");
    }

    async fn ask(&self, what: &str, method: &str, args: Value, more: Value) -> Result<Value, Raised> {
        let mut command = self.command(json!({"method": method, "args": args}));
        merge(&mut command, more);
        self.python.ask(what, command).await
    }

    /// Python serves this test's topic as `server`, at 1.3 if `more` says nothing else.
    pub async fn python_serves(&self, server: &str, more: Value) -> Theirs<'_> {
        let name = format!("{}.{server}", self.topic);
        let target = json!({"topic": self.topic, "server": server, "exchange": self.exchange});
        let mut command = json!({"name": name, "url": self.python_url(), "target": target});
        command["endpoint"] = json!({"version": "1.3"});
        merge(&mut command, more);
        self.python.ask("serve", command).await.expect("a Python server starts");
        Theirs { bed: self, name }
    }
}

/// Objects are merged, anything else replaced.
pub fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// A Python server.
pub struct Theirs<'a> {
    bed: &'a Bed,
    name: String,
}

impl Theirs<'_> {
    /// What it has executed, once it is at least so much.
    pub async fn executed(&self, least: usize) -> Vec<Value> {
        let command = json!({"name": self.name, "least": least});
        let executed = self.bed.python.ask("executed", command).await.expect("a list");
        let executed = executed.as_array().expect("a list").clone();
        assert!(executed.len() >= least, "{executed:#?}");
        executed
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.bed.python.ask("stop", json!({"name": self.name})).await.expect("it stops");
    }
}

/// A server of ours.
pub struct Ours {
    pub transport: Arc<RabbitTransport>,
    pub rpc: RpcServer,
    pub service: Arc<Service>,
}

impl Ours {
    pub fn count(&self, counter: &str) -> u64 {
        self.rpc.counters().get(counter)
    }

    /// Waits until a counter has reached `least`.
    pub async fn counted(&self, counter: &str, least: u64) {
        eventually(counter, async || self.count(counter) >= least).await;
    }
}

/// What it answers; the counterpart of peer.py's `Endpoint`. Executed requests are noted.
#[derive(Default)]
pub struct Service {
    executed: Mutex<Vec<(String, Value)>>,
}

impl Service {
    pub fn executed(&self) -> Vec<(String, Value)> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, method: &str, args: &Map<String, Value>) {
        let entry = (method.to_owned(), Value::Object(args.clone()));
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn fail(args: &Map<String, Value>) -> RemoteError {
        let text = |name: &str| args.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut error = RemoteError::new(text("module"), text("class"), text("message"));
        if let Some(Value::Object(kwargs)) = args.get("kwargs") {
            error.kwargs = kwargs.clone();
        }
        if let Some(Value::Array(positional)) = args.get("args_") {
            error.args = positional.clone();
        }
        error.traceback = vec!["the other side's traceback\n".into()];
        error
    }
}

#[async_trait]
impl Endpoint for Service {
    fn version(&self) -> Version {
        SERVICE_VERSION
    }

    fn methods(&self) -> &[Method] {
        &[
            Method { name: "echo", class: MethodClass::Read, long: false },
            Method { name: "slow", class: MethodClass::Read, long: false },
            Method { name: "fail", class: MethodClass::Read, long: false },
            Method { name: "large", class: MethodClass::Read, long: false },
            Method { name: "panic", class: MethodClass::Read, long: false },
            Method { name: "_private", class: MethodClass::Read, long: false },
        ]
    }

    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        let args: Map<String, Value> = request.args().parse()?;
        self.note(&request.method, &args);
        match request.method.as_str() {
            "echo" => answer(&args),
            "slow" => {
                let seconds = args.get("seconds").and_then(Value::as_f64).unwrap_or_default();
                sleep(Duration::from_secs_f64(seconds)).await;
                answer(&args.get("value"))
            }
            "large" => {
                let bytes = args.get("bytes").and_then(Value::as_u64).unwrap_or_default();
                answer(&"x".repeat(usize::try_from(bytes).unwrap_or_default()))
            }
            "fail" => Err(Self::fail(&args).into()),
            _ => panic!("as asked"),
        }
    }
}

/// The same service in a namespace.
struct Named {
    namespace: &'static str,
    service: Arc<Service>,
}

#[async_trait]
impl Endpoint for Named {
    fn namespace(&self) -> Option<&str> {
        Some(self.namespace)
    }

    fn version(&self) -> Version {
        SERVICE_VERSION
    }

    fn methods(&self) -> &[Method] {
        &[Method { name: "echo", class: MethodClass::Read, long: false }]
    }

    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        self.service.dispatch(request).await
    }
}

/// A call that has as long as a loaded machine may take.
pub fn patient() -> CallOptions {
    CallOptions::new(PATIENCE)
}

/// Until when something done for a test may take.
pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}
