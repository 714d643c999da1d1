//! The supervisor: keeps one session open, whatever happens to brokers, hosts and connections.
//!
//! A session is all connections of a transport to one broker. It lives and dies as a whole: what is built on it
//! (channels, queues, consumers) belongs to it and is built anew on the next one. lapin's own recovery stays off.
//! A connection that is merely blocked (`connection.blocked`) is kept; more connections would not help the broker.

use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::{Connection, Event};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::dial::{Broker, Dialer, Link};
use super::explain;
use super::publish::Lanes;
use super::topology::Topology;
use crate::ids::Ids;
use crate::{ConnectionState, TransportError};

/// Bounds of the wait before all hosts are tried once more.
const RECONNECT_BASE: Duration = Duration::from_millis(500);
const RECONNECT_CAP: Duration = Duration::from_secs(10);
/// A session this old was a success: the next failure starts from the shortest wait.
const STABLE: Duration = Duration::from_secs(10);
/// Waiting is not worth a word before this, and worth one per interval from then on.
const SAY_WAITING_AFTER: Duration = Duration::from_secs(1);
const SAY_WAITING_EVERY: Duration = Duration::from_secs(5);
/// How often a connection is looked at that sent no event.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A connection that is gone may still have to say why.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What the supervisor, publishers and consumers of one transport share.
pub(super) struct Core {
    pub topology: Topology,
    pub prefetch: Option<NonZeroU16>,
    pub direct_mandatory_flag: bool,
    pub ids: Ids,
    /// Brokers in the order they are tried.
    brokers: Vec<Broker>,
    dialer: Dialer,
    connection_name: String,
    single_connection: bool,
    state: watch::Sender<ConnectionState>,
    session: watch::Sender<Option<Arc<Session>>>,
    /// Someone saw a connection fail: look at it now.
    suspicion: Notify,
    pub closing: CancellationToken,
}

/// Everything that is open to one broker.
pub(super) struct Session {
    /// Raised with every session.
    pub generation: u64,
    /// Who we are; the broker checks the `user_id` of messages against it.
    pub user: String,
    broker: String,
    /// Publishing channels, opened when first needed.
    pub lanes: Lanes,
    publish: Link,
    consume: Option<Link>,
}

impl Session {
    /// Carries publications. Blocked as a whole when the broker is short of memory.
    pub(super) fn publishing(&self) -> &Connection {
        &self.publish.connection
    }

    /// Carries consumers, and owns exclusive queues.
    pub(super) fn consuming(&self) -> &Connection {
        &self.consume.as_ref().unwrap_or(&self.publish).connection
    }

    pub(super) fn alive(&self) -> bool {
        self.publishing().status().connected() && self.consuming().status().connected()
    }

    /// Says goodbye to the broker on both connections. Errors mean that it is gone already.
    pub(super) async fn close(&self) {
        for connection in [self.publishing(), self.consuming()] {
            drop(
                connection
                    .close(lapin::protocol::constants::REPLY_SUCCESS, "closed by its owner".into())
                    .await,
            );
        }
    }
}

/// Settings of a [`Core`].
pub(super) struct Settings {
    pub brokers: Vec<Broker>,
    pub dialer: Dialer,
    pub connection_name: String,
    pub single_connection: bool,
    pub topology: Topology,
    pub prefetch: Option<NonZeroU16>,
    pub direct_mandatory_flag: bool,
    pub ids: Ids,
}

impl Core {
    pub(super) fn new(settings: Settings) -> Self {
        let Settings {
            brokers,
            dialer,
            connection_name,
            single_connection,
            topology,
            prefetch,
            direct_mandatory_flag,
            ids,
        } = settings;
        Self {
            topology,
            prefetch,
            direct_mandatory_flag,
            ids,
            brokers,
            dialer,
            connection_name,
            single_connection,
            state: watch::Sender::new(ConnectionState::Connecting { attempt: 0, last_error: None }),
            session: watch::Sender::new(None),
            suspicion: Notify::new(),
            closing: CancellationToken::new(),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(super) fn sessions(&self) -> watch::Receiver<Option<Arc<Session>>> {
        self.session.subscribe()
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.borrow().clone()
    }

    /// All brokers, for people.
    pub(super) fn brokers(&self) -> String {
        self.brokers.iter().map(Broker::name).collect::<Vec<_>>().join(", ")
    }

    /// Why nothing can be published now.
    pub(super) fn obstacle(&self) -> String {
        match &*self.state.borrow() {
            ConnectionState::Connecting { last_error: Some(error), .. } => error.clone(),
            ConnectionState::Connecting { last_error: None, .. } => "still connecting".into(),
            ConnectionState::Blocked { reason } => format!("the broker takes no messages: {reason}"),
            ConnectionState::Connected { .. } => "no channel was opened".into(),
            ConnectionState::Closed => "closed".into(),
        }
    }

    /// The session, as soon as it takes messages.
    pub(super) async fn ready(&self) -> Result<Arc<Session>, TransportError> {
        let mut states = self.state.subscribe();
        loop {
            match &*states.borrow_and_update() {
                ConnectionState::Closed => return Err(TransportError::Closed),
                ConnectionState::Connected { .. } => {
                    if let Some(session) = self.session().filter(|session| session.alive()) {
                        return Ok(session);
                    }
                    self.suspect();
                }
                ConnectionState::Connecting { .. } | ConnectionState::Blocked { .. } => {}
            }
            states.changed().await.map_err(|_| TransportError::Closed)?;
        }
    }

    /// Has the supervisor look at its connections at once.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Takes the session away; publishing ends with `Closed`.
    pub(super) fn shut(&self) -> Option<Arc<Session>> {
        self.closing.cancel();
        self.state.send_replace(ConnectionState::Closed);
        self.session.send_replace(None)
    }

    fn set_state(&self, state: ConnectionState) {
        self.state.send_if_modified(|now| {
            let change = *now != ConnectionState::Closed && *now != state;
            if change {
                *now = state;
            }
            change
        });
    }

    /// Runs until [`Core::closing`]. `seed` decides the waits between attempts.
    pub(super) async fn supervise(self: Arc<Self>, seed: [u8; 32]) {
        let closing = self.closing.clone();
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            () = self.keep_a_session(Backoff::new(RECONNECT_BASE, RECONNECT_CAP, seed)) => {}
        }
        self.shut();
    }

    async fn keep_a_session(&self, mut backoff: Backoff) {
        let (mut generation, mut first) = (0, 0);
        loop {
            generation += 1;
            let (session, index) = self.open_saying_so(generation, first, &mut backoff).await;
            let session = Arc::new(session);
            let broker = session.broker.clone();
            info!(%broker, generation, "connected to RabbitMQ");
            self.session.send_replace(Some(session.clone()));
            self.set_state(ConnectionState::Connected { generation, broker: broker.clone() });
            let opened = Instant::now();
            let cause = self.watch(&session).await;
            warn!(%broker, generation, %cause, "lost the connection to RabbitMQ");
            self.session.send_replace(None);
            self.set_state(ConnectionState::Connecting { attempt: 0, last_error: Some(cause) });
            // Ends what is left of it, such as the one connection when the other has failed.
            drop(session);
            if opened.elapsed() >= STABLE {
                backoff.reset();
            }
            // The next host first: this one has just let us down.
            first = index + 1;
            sleep(backoff.next()).await;
        }
    }

    /// [`Core::open`], with a line in the log every few seconds.
    async fn open_saying_so(&self, generation: u64, first: usize, backoff: &mut Backoff) -> (Session, usize) {
        let since = Instant::now();
        let mut opening = pin!(self.open(generation, first, backoff));
        let mut speak = interval_at(since + SAY_WAITING_AFTER, SAY_WAITING_EVERY);
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => return opened,
                _ = speak.tick() => {
                    let (waited, why) = (since.elapsed().as_secs(), self.obstacle());
                    warn!(brokers = %self.brokers(), "waiting for RabbitMQ for {waited} s: {why}");
                }
            }
        }
    }

    /// Tries every host at once, one after the other, and again after a wait, until one opens.
    async fn open(&self, generation: u64, first: usize, backoff: &mut Backoff) -> (Session, usize) {
        let mut attempt = 0;
        loop {
            for index in (first..first + self.brokers.len()).map(|i| i % self.brokers.len()) {
                let broker = &self.brokers[index];
                match self.open_at(broker, generation).await {
                    Ok(session) => return (session, index),
                    Err(failure) => {
                        attempt += 1;
                        let last_error = Some(format!("{}: {failure}", broker.name()));
                        self.set_state(ConnectionState::Connecting { attempt, last_error });
                    }
                }
            }
            sleep(backoff.next()).await;
        }
    }

    async fn open_at(&self, broker: &Broker, generation: u64) -> Result<Session, explain::Failure> {
        let name = &self.connection_name;
        let publish_name = if self.single_connection { name.clone() } else { format!("{name} (publishing)") };
        let publish = self.dialer.dial(broker, &publish_name).await?;
        let consume = match self.single_connection {
            true => None,
            false => Some(self.dialer.dial(broker, &format!("{name} (consuming)")).await?),
        };
        let (user, broker) = (broker.user.clone(), broker.name());
        Ok(Session { generation, user, broker, lanes: Lanes::default(), publish, consume })
    }

    /// Waits until a connection of the session fails, and says why. Shows blocking meanwhile.
    async fn watch(&self, session: &Session) -> String {
        let mut publishing = pin!(session.publishing().events_listener());
        let mut consuming = pin!(session.consume.as_ref().map(|link| link.connection.events_listener()));
        let mut check = interval(CHECK_EVERY);
        let opened = Instant::now();
        let mut last_words = None;
        loop {
            let event = tokio::select! {
                biased;
                event = publishing.next() => event,
                event = next_of(&mut consuming) => event,
                () = self.suspicion.notified(), if last_words.is_none() => None,
                _ = check.tick() => None,
                () = sleep_until(last_words.unwrap_or(opened)), if last_words.is_some() => {
                    return "the connection was closed".into();
                }
            };
            let mut cause = None;
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    warn!(broker = %session.broker, %reason, "RabbitMQ takes no messages for now");
                    self.set_state(ConnectionState::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    info!(broker = %session.broker, "RabbitMQ takes messages again");
                    let (generation, broker) = (session.generation, session.broker.clone());
                    self.set_state(ConnectionState::Connected { generation, broker });
                }
                // Errors of single channels come this way too; they are their owners' affair.
                Some(Event::Error(error)) => cause = Some(explain::words(&error)),
                _ => {}
            }
            if !session.alive() {
                if let Some(cause) = cause {
                    return cause;
                }
                last_words.get_or_insert_with(|| Instant::now() + LAST_WORDS);
            }
        }
    }
}

async fn next_of<S: futures_util::Stream<Item = Event>>(
    stream: &mut std::pin::Pin<&mut Option<S>>,
) -> Option<Event> {
    match stream.as_mut().as_pin_mut() {
        Some(mut stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
