//! A broker, an endpoint that does what its caller wants, and a peer that writes its messages by hand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::in_process::{InProcessBroker, InProcessOptions};
use novella_messaging::{
    BatchHandler, CallError, CallOptions, Consumer, ConsumerState, Destination, Endpoint, FanoutLimits,
    Method, MethodClass, Outgoing, QueueKind, RemoteError, RpcClient, RpcError, RpcRequest, RpcServer,
    ServerOptions, Settle, Subscription, Target, Transport, TransportError, Version, answer,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

pub const SECOND: Duration = Duration::from_secs(1);

pub fn broker() -> Arc<InProcessBroker> {
    InProcessBroker::new(InProcessOptions::default())
}

pub fn topic() -> QueueKind {
    QueueKind::Topic { exchange: "nova".into(), topic: "scheduler".into() }
}

/// A queue for what goes to all servers of the topic.
pub fn fanout_queue() -> QueueKind {
    let limits = FanoutLimits { message_ttl: 30 * SECOND, max_length: 1000 };
    QueueKind::Fanout { topic: "scheduler".into(), limits }
}

/// The queue of one agent, which takes what goes to all agents too.
pub fn agent_queue() -> QueueKind {
    let (exchange, topic, server) = ("nova".into(), "compute".into(), "h".into());
    QueueKind::Server { exchange, topic, server, fanout: true }
}

pub fn target() -> Target {
    Target::topic("scheduler")
}

/// An endpoint that notes what it was asked to do, in order of start, and how much of it was in work at once.
#[derive(Default)]
pub struct Worker {
    pub log: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    pub most_at_once: AtomicUsize,
}

#[derive(Deserialize)]
struct Work {
    #[serde(default)]
    name: String,
    #[serde(default)]
    seconds: f64,
}

impl Worker {
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    async fn work(&self, work: Work) {
        self.log.lock().unwrap().push(work.name);
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs_f64(work.seconds)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Endpoint for Worker {
    fn version(&self) -> Version {
        Version::new(1, 3)
    }

    fn methods(&self) -> &[Method] {
        &[
            Method { name: "echo", class: MethodClass::Read, long: false },
            Method { name: "work", class: MethodClass::Place, long: false },
            Method { name: "refuse", class: MethodClass::Read, long: false },
            Method { name: "panic", class: MethodClass::Read, long: false },
            Method { name: "large", class: MethodClass::Read, long: false },
            Method { name: "ponder", class: MethodClass::Read, long: true },
            Method { name: "wait", class: MethodClass::Read, long: false },
        ]
    }

    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        match &*request.method {
            "echo" => answer(&request.args().parse::<Value>()?),
            "work" | "ponder" | "wait" => {
                self.work(request.args().parse()?).await;
                answer(&())
            }
            "refuse" => {
                let mut error = RemoteError::new("nova.exception", "NoValidHost", "No valid host was found.");
                error.kwargs.insert("code".into(), json!(500));
                Err(error.into())
            }
            "large" => answer(&"x".repeat(17 << 20)),
            other => panic!("asked to, by {other}"),
        }
    }
}

/// A broker, one server of the topic with what it works, and one client.
pub struct Rig {
    pub broker: Arc<InProcessBroker>,
    pub worker: Arc<Worker>,
    pub server: RpcServer,
    pub client: RpcClient,
}

impl Rig {
    pub async fn new() -> Self {
        Self::on(broker()).await
    }

    pub async fn on(broker: Arc<InProcessBroker>) -> Self {
        let worker = Arc::default();
        let server = serve(&broker, "server", &worker).await;
        let client = client(&broker, "client");
        Self { broker, worker, server, client }
    }
}

/// A server that consumes the topic.
pub async fn serve(broker: &Arc<InProcessBroker>, name: &str, worker: &Arc<Worker>) -> RpcServer {
    serve_with(broker, name, worker, ServerOptions::new([7; 32])).await
}

pub async fn serve_with(
    broker: &Arc<InProcessBroker>,
    name: &str,
    worker: &Arc<Worker>,
    options: ServerOptions,
) -> RpcServer {
    let server = RpcServer::new(broker.connect(name), options).endpoint(worker.clone());
    active(server.listen(topic()).await.unwrap()).await;
    server
}

/// Waits until a queue is being consumed.
pub async fn active(mut queue: watch::Receiver<ConsumerState>) {
    queue.wait_for(|state| matches!(state, ConsumerState::Active { .. })).await.expect("it is not given up");
}

/// A client with message ids of its own.
pub fn client(broker: &Arc<InProcessBroker>, name: &str) -> RpcClient {
    let mut seed = [1; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
    RpcClient::new(broker.connect(name), seed)
}

pub async fn call(client: &RpcClient, method: &str, args: Value, seconds: u64) -> Result<Value, RpcError> {
    client.call(&target(), method, &args, CallOptions::new(Duration::from_secs(seconds))).await
}

pub async fn cast(client: &RpcClient, method: &str, args: Value) {
    client.cast(&target(), method, &args, SECOND).await.expect("cast");
}

/// Waits for a state. Fails after a day of paused time.
pub async fn until(what: impl Fn() -> bool) {
    for _ in 0..864_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain");
}

/// A peer that writes bytes, and reads those that come back.
pub struct Peer {
    pub transport: Arc<dyn Transport>,
    replies: Box<dyn Consumer>,
}

impl Peer {
    pub async fn new(broker: &Arc<InProcessBroker>) -> Self {
        let transport = broker.connect("peer");
        let queue = QueueKind::Reply { name: "reply_peer".into() };
        let replies = transport.consume(Subscription { queue, prefetch: 100 }).await.unwrap();
        Self { transport, replies }
    }

    pub async fn send(&self, body: impl Into<Vec<u8>>) {
        let topic = Destination::Topic { exchange: "nova".into(), topic: "scheduler".into() };
        self.send_to(topic, body).await.expect("publish");
    }

    pub async fn send_to(
        &self,
        destination: Destination,
        body: impl Into<Vec<u8>>,
    ) -> Result<(), TransportError> {
        let (body, deadline) = (body.into().into(), Instant::now() + SECOND);
        self.transport
            .publish(Outgoing { destination, body, expiration: None, mandatory: false, deadline })
            .await
    }

    /// Sends a call in its envelope. `more` adds and overrides members.
    pub async fn call(&self, method: &str, more: Value) {
        let inner = json!({"method": method, "args": {}, "_msg_id": "m1", "_reply_q": "reply_peer"});
        self.send(sealed(merged(inner, more))).await;
    }

    pub async fn cast(&self, method: &str, more: Value) {
        self.send(sealed(merged(json!({"method": method, "args": {}}), more))).await;
    }

    /// The inner message of the next answer.
    pub async fn answer(&mut self) -> Value {
        next_inner(&mut self.replies).await
    }

    /// The failure in the next answer.
    pub async fn failure(&mut self) -> Value {
        let answer = self.answer().await;
        assert_eq!((&answer["result"], &answer["ending"]), (&Value::Null, &json!(true)), "{answer}");
        serde_json::from_str(answer["failure"].as_str().expect("a failure")).unwrap()
    }

    pub async fn hears_nothing_for(&mut self, time: Duration) {
        let mut none = Vec::new();
        let heard = tokio::time::timeout(time, self.replies.next_batch(&mut none, 1)).await;
        assert!(heard.is_err(), "{none:?}");
    }
}

/// The inner message of the next delivery, which is acknowledged.
pub async fn next_inner(queue: &mut Box<dyn Consumer>) -> Value {
    let mut one = Vec::new();
    assert_eq!(queue.next_batch(&mut one, 1).await, 1);
    queue.settle(one[0].tag, Settle::Ack);
    let outer: Value = serde_json::from_slice(&one[0].body).unwrap();
    serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap()
}

pub fn sealed(inner: Value) -> Vec<u8> {
    sealed_text(&inner.to_string())
}

pub fn sealed_text(inner: &str) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": inner}).to_string().into_bytes()
}

fn merged(mut inner: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        inner[key] = value.clone();
    }
    inner
}

/// Notes the sizes of batches and what was in them.
#[derive(Default)]
pub struct Reports {
    pub batches: Mutex<Vec<Vec<String>>>,
}

impl Reports {
    pub fn all(&self) -> Vec<String> {
        self.batches.lock().unwrap().concat()
    }
}

impl BatchHandler for Reports {
    fn method(&self) -> &str {
        "report"
    }

    fn class(&self) -> MethodClass {
        MethodClass::Report
    }

    fn version(&self) -> Version {
        Version::new(1, u32::MAX)
    }

    fn handle(&self, requests: &[RpcRequest]) {
        let names =
            requests.iter().map(|request| request.args().parse::<Work>().unwrap().name).collect::<Vec<_>>();
        assert!(!names.contains(&"poison".to_owned()), "asked to panic");
        self.batches.lock().unwrap().push(names);
    }
}
