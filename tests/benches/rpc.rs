//! What a call costs: `ping` from our client to a scheduler in a process of its own, beside a bare lapin pair and Python.
//!
//! `bare` has queues of the same shapes, bodies of the same size, the same properties, confirms (a request's pipelined on
//! one channel, a mandatory answer's alone on one of sixteen), acknowledgements and connections, and reads nothing but an
//! id; its server is a second process of this benchmark. `python` is oslo.messaging's own client and server
//! (`rpc_peer.py`), if `NOVELLA_TEST_PYTHON` names an interpreter that has it. In turns; per round first one caller, the
//! median of its calls' times, then 16 callers, calls per second. Ratios are medians over the rounds.
//!
//! Needs a broker, `NOVELLA_TEST_RABBIT_URL`, and the `scheduler` executable of the same profile;
//! `scripts/measure.py rpc` brings both.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{connect, median};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, ExchangeKind};
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{CallOptions, RpcClient, Target, TransportUrl};
use novella_rpcapi::{BaseApi, SCHEDULER_TOPIC};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Duration, Instant, sleep};

const ROUNDS: usize = 11;
/// One after the other.
const SINGLE: usize = 400;
const CALLERS: usize = 16;
/// Of each caller.
const CALLS: usize = 150;
/// Before the first round, and of each contender.
const WARM_UP: usize = 50;

const EXCHANGE: &str = "nova";
const BARE_EXCHANGE: &str = "novella-bench-rpc";
const BARE_QUEUE: &str = "novella-bench-rpc";
/// A `ping` and its answer as we write them.
const REQUEST_BYTES: usize = 375;
const REPLY_BYTES: usize = 227;
/// As the transport's.
const SOLO_CHANNELS: usize = 16;
const PREFETCH: u16 = 128;
const ID_BYTES: usize = 32;

fn main() {
    let serves = std::env::args().any(|argument| argument == "--bare-server");
    common::run("rpc", async |url| if serves { bare_server(&url).await } else { run(&url).await });
}

/// What one contender did in one round.
#[derive(Clone, Copy)]
struct Round {
    p50: Duration,
    rate: f64,
}

async fn run(url: &str) {
    let own = std::env::current_exe().expect("this program");
    let scheduler = own.parent().and_then(Path::parent).expect("target/release").join("scheduler");
    let _server = Process::start(Command::new(&own).arg("--bare-server").env("NOVELLA_TEST_RABBIT_URL", url));
    let _scheduler = Process::start(
        Command::new(&scheduler)
            .args(["--name", "bench"])
            .env("NOVELLA_TRANSPORT_URL", url)
            .env("NOVELLA_HTTP__LISTEN", "127.0.0.1:0"),
    );
    let mut python = std::env::var("NOVELLA_TEST_PYTHON").ok().map(|python| Python::start(&python, url));
    if python.is_none() {
        eprintln!("SKIPPED: rpc: python: NOVELLA_TEST_PYTHON is not set");
    }
    let (bare, ours) = (Bare::new(url).await, Ours::new(url).await);
    let (mut bares, mut novellas, mut pythons) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Who goes first takes turns.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                bares.push(measure(async || bare.call().await).await);
            } else {
                novellas.push(measure(async || ours.call().await).await);
            }
        }
        pythons.extend(python.as_mut().map(Python::measure));
        let line = |name: &str, rounds: &[Round]| {
            let last =
                rounds.last().map(|round| format!("{name} p50 {:.0?}, {:.0}/s", round.p50, round.rate));
            last.unwrap_or_default()
        };
        let lines = [line("bare", &bares), line("novella", &novellas), line("python", &pythons)];
        println!("round {}: {}", round + 1, lines.join("  "));
    }
    let p50 = |rounds: &[Round]| median(rounds.iter().map(|round| round.p50.as_secs_f64() * 1e6).collect());
    let rate = |rounds: &[Round]| median(rounds.iter().map(|round| round.rate).collect());
    let over = |other: &[Round], what: fn(&Round) -> f64| {
        median(novellas.iter().zip(other).map(|(own, other)| what(own) / what(other)).collect())
    };
    for (name, other) in [("bare", &bares), ("python", &pythons)] {
        if other.is_empty() {
            continue;
        }
        let ratio = over(other, |round| round.p50.as_secs_f64());
        println!("p50 {name}: {:.0}, novella {:.0}, ratio {ratio:.3}", p50(other), p50(&novellas));
        let ratio = over(other, |round| round.rate);
        println!("rate {name}: {:.0}, novella {:.0}, ratio {ratio:.3}", rate(other), rate(&novellas));
    }
    bare.end().await;
}

async fn measure(call: impl AsyncFn()) -> Round {
    for _ in 0..WARM_UP {
        call().await;
    }
    let mut times = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let began = Instant::now();
        call().await;
        times.push(began.elapsed());
    }
    times.sort();
    let began = Instant::now();
    let caller = async || {
        for _ in 0..CALLS {
            call().await;
        }
    };
    join_all((0..CALLERS).map(|_| caller())).await;
    Round { p50: times[SINGLE / 2], rate: (CALLERS * CALLS) as f64 / began.elapsed().as_secs_f64() }
}

/// Ended with this program.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("it was running");
    }
}

struct Ours {
    client: RpcClient,
    target: Target,
}

impl Ours {
    async fn new(url: &str) -> Self {
        let url = TransportUrl::parse(url).expect("a transport URL");
        let transport =
            RabbitTransport::start(RabbitOptions::new(url, "bench", [1; 32]).expect("known options"));
        let target = Target { exchange: EXCHANGE.to_owned(), ..Target::topic(SCHEDULER_TOPIC) };
        let ours = Self { client: RpcClient::new(transport, [2; 32]), target };
        let began = Instant::now();
        while let Err(error) = ours.ping(Duration::from_secs(2)).await {
            assert!(began.elapsed() < Duration::from_secs(60), "the scheduler does not answer: {error}");
        }
        ours
    }

    async fn ping(&self, timeout: Duration) -> Result<(), novella_messaging::RpcError> {
        let options = CallOptions::new(timeout);
        BaseApi::ping(&self.client, self.target.clone(), Value::Null, options).await.map(drop)
    }

    async fn call(&self) {
        self.ping(Duration::from_secs(30)).await.expect("an answer");
    }
}

/// Client side of the bare pair.
struct Bare {
    publishing: Channel,
    user: String,
    reply_queue: String,
    next: AtomicU64,
    waiting: Arc<Mutex<HashMap<Vec<u8>, oneshot::Sender<()>>>>,
    _connections: [Connection; 2],
}

impl Bare {
    async fn new(url: &str) -> Self {
        let (publisher, consumer) = (connect(url).await, connect(url).await);
        let publishing = confirming(&publisher).await;
        let reply_queue = format!("novella-bench-rpc-reply-{}", std::process::id());
        let channel = consumer.create_channel().await.expect("a channel");
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(reply_queue.as_str().into(), exclusive, FieldTable::default());
        declared.await.expect("a queue");
        let mut replies = consume(&channel, &reply_queue).await;
        let waiting: Arc<Mutex<HashMap<Vec<u8>, oneshot::Sender<()>>>> = Arc::default();
        let calls = waiting.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = replies.next().await {
                let call = calls.lock().expect("nobody panicked").remove(&delivery.data[..ID_BYTES]);
                // Whoever asked is still waiting.
                call.expect("a call of ours").send(()).expect("a caller");
                acknowledge(&delivery);
            }
        });
        let bare = Self {
            publishing,
            user: user_of(url),
            reply_queue,
            next: AtomicU64::new(0),
            waiting,
            _connections: [publisher, consumer],
        };
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        for _ in 0..100 {
            let channel = bare._connections[0].create_channel().await.expect("a channel");
            let queue = channel.queue_declare(BARE_QUEUE.into(), passive, FieldTable::default()).await;
            if queue.is_ok_and(|queue| queue.consumer_count() > 0) {
                return bare;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("the bare server does not serve");
    }

    async fn call(&self) {
        let mut body =
            format!("{:0ID_BYTES$}{}", self.next.fetch_add(1, Ordering::Relaxed), self.reply_queue)
                .into_bytes();
        let id = body[..ID_BYTES].to_vec();
        body.resize(REQUEST_BYTES, b' ');
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().expect("nobody panicked").insert(id, sender);
        let properties = properties(&self.user).with_expiration("30000".into());
        publish(&self.publishing, BARE_EXCHANGE, BARE_QUEUE, false, &body, properties).await;
        answer.await.expect("an answer");
    }

    /// Takes away what outlives a connection.
    async fn end(self) {
        let deleted = self.publishing.queue_delete(BARE_QUEUE.into(), QueueDeleteOptions::default()).await;
        deleted.expect("deleted");
        let options = ExchangeDeleteOptions::default();
        self.publishing.exchange_delete(BARE_EXCHANGE.into(), options).await.expect("deleted");
    }
}

/// Server side of the bare pair, for ever.
async fn bare_server(url: &str) {
    let (publisher, consumer) = (connect(url).await, connect(url).await);
    let channel = consumer.create_channel().await.expect("a channel");
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
    channel
        .exchange_declare(BARE_EXCHANGE.into(), ExchangeKind::Topic, options, none.clone())
        .await
        .expect("an exchange");
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(BARE_QUEUE.into(), options, none.clone()).await.expect("a queue");
    let (queue, key) = (BARE_QUEUE.into(), BARE_QUEUE.into());
    channel
        .queue_bind(queue, BARE_EXCHANGE.into(), key, QueueBindOptions::default(), none)
        .await
        .expect("bound");
    let mut lanes = Vec::new();
    for _ in 0..SOLO_CHANNELS {
        lanes.push(confirming(&publisher).await);
    }
    let (lanes, free) = (Arc::new(Mutex::new(lanes)), Arc::new(Semaphore::new(SOLO_CHANNELS)));
    let user: Arc<str> = user_of(url).into();
    let mut requests = consume(&channel, BARE_QUEUE).await;
    while let Some(Ok(delivery)) = requests.next().await {
        acknowledge(&delivery);
        let (lanes, free, user) = (lanes.clone(), free.clone(), user.clone());
        tokio::spawn(async move {
            let mut body = delivery.data;
            let to = String::from_utf8_lossy(&body[ID_BYTES..]).trim().to_owned();
            body.truncate(REPLY_BYTES);
            let _permit = free.acquire().await;
            let lane = lanes.lock().expect("nobody panicked").pop().expect("as many as permits");
            publish(&lane, "", &to, true, &body, properties(&user)).await;
            lanes.lock().expect("nobody panicked").push(lane);
        });
    }
}

/// The first poll queues the frame, as the transport has it; the rest only waits for the socket.
fn acknowledge(delivery: &Delivery) {
    drop(delivery.acker.ack(BasicAckOptions::default()).now_or_never());
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    mandatory: bool,
    body: &[u8],
    properties: BasicProperties,
) {
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
    let confirmed = sent.expect("sent").await.expect("confirmed");
    assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
}

fn user_of(url: &str) -> String {
    TransportUrl::parse(url).expect("a transport URL").hosts[0].user.clone()
}

async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    channel
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("qos");
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(queue.into(), "bench".into(), options, FieldTable::default())
        .await
        .expect("consuming")
}

/// The transport's.
fn properties(user: &str) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(1)
        .with_priority(0)
        .with_user_id(user.into())
}

/// oslo.messaging's client; it has its server in a process of its own.
struct Python {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    fn start(interpreter: &str, url: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rpc_peer.py");
        let started = Command::new(interpreter)
            .arg(program)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = started.expect("the interpreter can be run");
        let stdin = process.stdin.take().expect("piped");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, stdin, stdout }
    }

    /// One round: it answers each line with the median in seconds and the rate.
    fn measure(&mut self) -> Round {
        writeln!(self.stdin, "{CALLERS}").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        let numbers: Vec<f64> =
            line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let [p50, rate] = numbers[..] else { panic!("the Python peer said {line:?}") };
        Round { p50: Duration::from_secs_f64(p50), rate }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("it was running");
    }
}
