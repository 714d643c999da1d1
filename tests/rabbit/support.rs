//! The broker under test, what is said in the log, and short ways to publish and consume.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{
    ConnectionState, Consumer, ConsumerState, Delivery, Destination, FanoutLimits, Outgoing, QueueKind,
    Settle, Subscription, Transport, TransportUrl,
};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

/// Long enough for a broker on a loaded machine; waits end as soon as they can.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Control exchange of the tests.
const EXCHANGE: &str = "rpc-under-test";

static IN_USE: RwLock<()> = RwLock::const_new(());

/// The broker, shared with other tests or alone.
pub struct Broker {
    pub url: String,
    pub ctl: PathBuf,
    names: tempfile::TempDir,
    _shared: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

/// Shares the broker; `None` (said aloud) if there is none.
pub async fn broker(test: &str) -> Option<Broker> {
    let mut broker = find(test)?;
    broker._shared = Some(IN_USE.read().await);
    Some(broker)
}

/// The broker for this test alone.
pub async fn broker_alone(test: &str) -> Option<Broker> {
    let mut broker = find(test)?;
    broker._alone = Some(IN_USE.write().await);
    Some(broker)
}

fn find(test: &str) -> Option<Broker> {
    log();
    let url = variable(test, "NOVELLA_TEST_RABBIT_URL")?;
    let ctl = variable(test, "NOVELLA_TEST_RABBIT_CTL")?.into();
    let names = tempfile::tempdir().expect("a temporary directory");
    Some(Broker { url, ctl, names, _shared: None, _alone: None })
}

/// An environment variable that a test cannot do without.
pub fn variable(test: &str, name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            skipped(test, &format!("{name} is not set"));
            None
        }
    }
}

fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED: rabbit {test}: {why}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("NOVELLA_SKIPS_FILE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}")).expect("the skips file can be written");
    }
}

impl Broker {
    /// A name that no other test and no earlier run has used.
    pub fn unique(&self, prefix: &str) -> String {
        let random =
            self.names.path().file_name().expect("a temporary directory has a name").to_string_lossy();
        format!("{prefix}-{}", random.trim_start_matches('.'))
    }

    /// A further handle, with names of its own, for a test that has the broker already: to ask for it once more would wait
    /// for ever, as soon as another test wants it alone.
    #[allow(dead_code, reason = "for the suite `interop`, where tests about daemons have it")]
    pub fn again(&self) -> Self {
        let names = tempfile::tempdir().expect("a temporary directory");
        Self { url: self.url.clone(), ctl: self.ctl.clone(), names, _shared: None, _alone: None }
    }

    /// kill9, stop, start, pause, resume, pid, ctl ...
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output =
            Command::new(&self.ctl).args(arguments).output().expect("the broker's script can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    pub fn options(&self, name: &str) -> RabbitOptions {
        options(&self.url, name)
    }

    /// A connected transport.
    pub async fn transport(&self, name: &str) -> Arc<RabbitTransport> {
        let transport = RabbitTransport::start(self.options(name));
        connected(&transport).await;
        transport
    }

    /// A transport, a topic of its own, and a consumer of what comes to the server `s` of that topic.
    pub async fn serving(&self, name: &str) -> (Arc<RabbitTransport>, String, Box<dyn Consumer>) {
        let (transport, topic) = (self.transport(name).await, self.unique(name));
        let consumer = consuming(&transport, server_queue(&topic, "s", false)).await;
        (transport, topic, consumer)
    }

    /// User, password and `host:port` of the URL.
    pub fn parts(&self) -> (String, String, String) {
        let url = TransportUrl::parse(&self.url).expect("the broker's URL");
        let host = &url.hosts[0];
        (host.user.clone(), host.password.clone(), format!("{}:{}", host.host, host.port))
    }

    /// Messages that wait in a queue for a consumer; `None` if there is no such queue. Sees no exclusive queues.
    pub async fn depth(&self, queue: &str) -> Option<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match self.bare().await.queue_declare(queue.into(), passive, FieldTable::default()).await {
            Ok(queue) => Some(queue.message_count()),
            Err(error) => {
                assert!(error.to_string().contains("NOT_FOUND"), "{error}");
                None
            }
        }
    }

    /// Names of the queues that begin with `prefix`, and how many messages wait in each.
    pub fn queues(&self, prefix: &str) -> Vec<(String, u32)> {
        let listed = self.ctl(&["ctl", "list_queues", "name", "messages_ready"]);
        let rows = listed.lines().filter_map(|line| line.trim().split_once('\t'));
        rows.filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, ready)| (name.to_owned(), ready.parse().expect("a number of messages")))
            .collect()
    }

    /// A connection by lapin alone, for what a test does behind the transport's back.
    pub async fn bare(&self) -> lapin::Channel {
        let (user, password, address) = self.parts();
        let uri = format!("amqp://{user}:{password}@{address}/%2f?frame_max=131072");
        let connection = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await;
        connection.expect("the broker answers").create_channel().await.expect("a channel")
    }
}

pub fn options(url: &str, name: &str) -> RabbitOptions {
    let url = TransportUrl::parse(url).expect("a transport URL");
    // One seed for all: what differs between tests is the names of their queues.
    RabbitOptions::new(url, name, [7; 32]).expect("known options")
}

pub async fn connected(transport: &RabbitTransport) -> u64 {
    let mut states = transport.state();
    let state = states.wait_for(|state| matches!(state, ConnectionState::Connected { .. }));
    match timeout(PATIENCE, state).await.expect("connected in time").expect("the transport lives").clone() {
        ConnectionState::Connected { generation, .. } => generation,
        other => unreachable!("waited for Connected, got {other:?}"),
    }
}

/// Waits until the last error of a transport that cannot connect holds `text`.
pub async fn fails_with(transport: &RabbitTransport, text: &str) -> String {
    let mut states = transport.state();
    let with_text = |state: &ConnectionState| matches!(state, ConnectionState::Connecting { last_error: Some(error), .. } if error.contains(text));
    let state = match timeout(PATIENCE, states.wait_for(with_text)).await {
        Ok(state) => state.expect("the transport lives").clone(),
        Err(_) => panic!("no error with {text:?}: {:?}", *transport.state().borrow()),
    };
    match state {
        ConnectionState::Connecting { last_error: Some(error), .. } => error,
        other => unreachable!("waited for an error, got {other:?}"),
    }
}

pub async fn consume(transport: &RabbitTransport, queue: QueueKind) -> Box<dyn Consumer> {
    transport.consume(Subscription { queue, prefetch: 500 }).await.expect("not closed")
}

/// A consumer whose queue is there.
pub async fn consuming(transport: &RabbitTransport, queue: QueueKind) -> Box<dyn Consumer> {
    let consumer = consume(transport, queue).await;
    active(&*consumer).await;
    consumer
}

pub async fn active(consumer: &dyn Consumer) -> u64 {
    match reaches(consumer, |state| matches!(state, ConsumerState::Active { .. })).await {
        ConsumerState::Active { generation } => generation,
        other => unreachable!("waited for Active, got {other:?}"),
    }
}

pub async fn reaches(consumer: &dyn Consumer, wanted: impl FnMut(&ConsumerState) -> bool) -> ConsumerState {
    let mut states = consumer.state();
    match timeout(PATIENCE, states.wait_for(wanted)).await {
        Ok(state) => state.expect("the consumer lives").clone(),
        Err(_) => panic!("still {:?}", *consumer.state().borrow()),
    }
}

/// Consuming again, on a later connection than the `first`.
pub fn active_after(first: u64) -> impl Fn(&ConsumerState) -> bool {
    move |state| matches!(state, ConsumerState::Active { generation } if *generation > first)
}

/// Takes `count` deliveries, acknowledging each batch.
pub async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while all.len() < count {
        let from = all.len();
        let batch = tokio::time::timeout_at(deadline, consumer.next_batch(&mut all, count - from)).await;
        assert!(
            batch.unwrap_or_else(|_| panic!("{from} of {count} deliveries came")) > 0,
            "the consumer ended"
        );
        let last = all.last().expect("a batch is not empty").tag;
        consumer.settle(last, Settle::AckThrough);
    }
    all
}

/// Nothing comes for a while.
pub async fn silent(consumer: &mut dyn Consumer) {
    let mut into = Vec::new();
    let batch = timeout(Duration::from_millis(500), consumer.next_batch(&mut into, 10)).await;
    assert!(batch.is_err(), "unexpected: {into:?}");
}

pub fn message(destination: Destination, body: impl Into<Bytes>) -> Outgoing {
    let deadline = Instant::now() + PATIENCE;
    Outgoing { destination, body: body.into(), expiration: None, mandatory: false, deadline }
}

pub async fn publish(transport: &RabbitTransport, to: Destination, body: impl Into<Bytes>) {
    transport.publish(message(to, body)).await.expect("published");
}

pub fn fanout(topic: &str) -> Destination {
    Destination::Fanout { topic: topic.into() }
}

pub fn topic(topic: &str) -> Destination {
    Destination::Topic { exchange: EXCHANGE.into(), topic: topic.into() }
}

pub fn topic_queue(topic: &str) -> QueueKind {
    QueueKind::Topic { exchange: EXCHANGE.into(), topic: topic.into() }
}

pub fn server(topic: &str, server: &str) -> Destination {
    Destination::Server { exchange: EXCHANGE.into(), topic: topic.into(), server: server.into() }
}

pub fn server_queue(topic: &str, server: &str, fanout: bool) -> QueueKind {
    QueueKind::Server { exchange: EXCHANGE.into(), topic: topic.into(), server: server.into(), fanout }
}

pub fn fanout_queue(topic: &str, message_ttl: Duration, max_length: u32) -> QueueKind {
    QueueKind::Fanout { topic: topic.into(), limits: FanoutLimits { message_ttl, max_length } }
}

/// Fails unless a text has all of these parts.
#[track_caller]
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Everything logged in this process since it started.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

type Filter = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// What lapin reports as an error (a channel closed, say) is our own business to judge and to word.
pub const USUAL: &str = "debug,lapin=off";

/// The log of this process, and the handle that sets how much it holds.
pub fn log() -> &'static (Log, Filter) {
    static LOG: OnceLock<(Log, Filter)> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let (filter, handle) = reload::Layer::new(EnvFilter::new(USUAL));
        let lines = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        tracing::subscriber::set_global_default(subscriber).expect("the first subscriber");
        (log, handle)
    })
}
