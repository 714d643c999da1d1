//! Keeps one session open, whatever happens to brokers, hosts and connections.
//!
//! lapin's own recovery stays off: a broken session is replaced as a whole. A connection that is merely blocked
//! (`connection.blocked`) is kept, because another connection would not help the broker.

use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Event;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::broker::Broker;
use super::dial::Dialer;
use super::explain;
use super::session::Session;
use super::topology::Topology;
use crate::error::TransportError;
use crate::ids::Ids;
use crate::transport::ConnectionState;

/// Bounds of the wait before all hosts are tried again.
const RECONNECT_BASE: Duration = Duration::from_millis(500);
const RECONNECT_CAP: Duration = Duration::from_secs(10);
/// A session that lived this long was a success: after it the waits begin with the shortest again.
const STABLE: Duration = Duration::from_secs(10);
/// When the log first says that there is no connection, and how often it repeats that.
const SAY_WAITING_AFTER: Duration = Duration::from_secs(1);
const SAY_WAITING_EVERY: Duration = Duration::from_secs(5);
/// How often the connections are looked at when there is no event.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for the event that says why a connection is gone.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What publishers and consumers of one transport share, and the task that keeps their session open.
pub(super) struct Supervisor {
    pub settings: SupervisorSettings,
    state: watch::Sender<ConnectionState>,
    session: watch::Sender<Option<Arc<Session>>>,
    /// Notified by whoever saw a connection fail, so that it is looked at immediately.
    suspicion: Notify,
    /// Changes when all queues are to be bound again.
    rebind: watch::Sender<()>,
    /// When cancelled, the session is closed for good.
    pub closing: CancellationToken,
}

/// How a [`Supervisor`] connects, and what its users need to know of the options.
pub(super) struct SupervisorSettings {
    /// Brokers in the order they are tried.
    pub brokers: Vec<Broker>,
    pub dialer: Dialer,
    pub connection_name: String,
    pub single_connection: bool,
    pub topology: Topology,
    /// Whether exchanges are declared before they are used, and not only if they are missing.
    pub declare_exchanges: bool,
    pub prefetch: Option<NonZeroU16>,
    pub direct_mandatory_flag: bool,
    pub ids: Ids,
}

impl Supervisor {
    pub(super) fn new(settings: SupervisorSettings) -> Self {
        let brokers = names(&settings.brokers);
        Self {
            settings,
            state: watch::Sender::new(ConnectionState::Connecting { brokers, attempt: 0, last_error: None }),
            session: watch::Sender::new(None),
            suspicion: Notify::new(),
            rebind: watch::Sender::new(()),
            closing: CancellationToken::new(),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(super) fn sessions(&self) -> watch::Receiver<Option<Arc<Session>>> {
        self.session.subscribe()
    }

    /// The user of each broker.
    pub(super) fn users(&self) -> Vec<String> {
        self.settings.brokers.iter().map(|broker| broker.user.clone()).collect()
    }

    /// All brokers, for people.
    pub(super) fn brokers(&self) -> String {
        names(&self.settings.brokers)
    }

    /// Why nothing can be published now.
    pub(super) fn obstacle(&self) -> String {
        match &*self.state.borrow() {
            ConnectionState::Connecting { last_error: Some(error), .. } => error.clone(),
            ConnectionState::Connecting { last_error: None, .. } => "still connecting".into(),
            ConnectionState::Blocked { reason, .. } => format!("the broker accepts no messages: {reason}"),
            ConnectionState::Connected { .. } => "no channel was opened".into(),
            ConnectionState::Closed => "closed".into(),
        }
    }

    /// Why the broker blocks publishers, if it does.
    pub(super) fn blocked(&self) -> Option<String> {
        self.state.borrow().block_reason().map(str::to_owned)
    }

    /// The error of who has waited for the broker for so long in vain.
    pub(super) fn unreachable(&self, waited: Duration) -> TransportError {
        TransportError::Unreachable { broker: self.brokers(), waited, last_error: self.obstacle() }
    }

    /// The session, as soon as it takes messages.
    pub(super) async fn ready(&self) -> Result<Arc<Session>, TransportError> {
        let mut states = self.state.subscribe();
        loop {
            match &*states.borrow_and_update() {
                ConnectionState::Closed => return Err(TransportError::Closed),
                ConnectionState::Connected { .. } => {
                    let session = self.session.borrow().clone();
                    if let Some(session) = session.filter(|session| session.alive()) {
                        return Ok(session);
                    }
                    self.suspect();
                }
                ConnectionState::Connecting { .. } | ConnectionState::Blocked { .. } => {}
            }
            states.changed().await.map_err(|_| TransportError::Closed)?;
        }
    }

    /// Has all queues bound again immediately.
    pub(super) fn rebind(&self) {
        self.rebind.send_replace(());
    }

    /// Changes whenever all queues are to be bound again.
    pub(super) fn rebinds(&self) -> watch::Receiver<()> {
        self.rebind.subscribe()
    }

    /// Has the connections looked at immediately.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Takes the session away. Publishing fails with `Closed` from now on.
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

    /// Keeps a session open until [`Supervisor::closing`]. `seed` decides the waits between attempts.
    pub(super) async fn run(self: Arc<Self>, seed: [u8; 32]) {
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
            let last_error = Some(format!("{broker}: {cause}"));
            self.set_state(ConnectionState::Connecting { brokers: self.brokers(), attempt: 0, last_error });
            // If only one of two connections has failed, this ends the other.
            drop(session);
            if opened.elapsed() >= STABLE {
                backoff.reset();
            }
            // This host has just failed, so the next one is tried first.
            first = index + 1;
            sleep(backoff.next()).await;
        }
    }

    /// As [`Supervisor::open`], with a line in the log every few seconds.
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

    /// Tries all hosts one after the other, and again after a wait, until one opens. Yields the host's index too.
    async fn open(&self, generation: u64, first: usize, backoff: &mut Backoff) -> (Session, usize) {
        let SupervisorSettings { brokers, dialer, connection_name, single_connection, .. } = &self.settings;
        let mut attempt = 0;
        loop {
            for index in (first..first + brokers.len()).map(|i| i % brokers.len()) {
                let broker = &brokers[index];
                let opened = Session::open(dialer, broker, connection_name, *single_connection, generation);
                match opened.await {
                    Ok(session) => return (session, index),
                    Err(failure) => {
                        attempt += 1;
                        let last_error = Some(format!("{}: {failure}", broker.name()));
                        let brokers = self.brokers();
                        self.set_state(ConnectionState::Connecting { brokers, attempt, last_error });
                    }
                }
            }
            sleep(backoff.next()).await;
        }
    }

    /// Waits until a connection of the session fails, and says why. Shows in the state when the broker blocks.
    async fn watch(&self, session: &Session) -> String {
        let mut events = session.events();
        let mut check = interval(CHECK_EVERY);
        let opened = Instant::now();
        let mut last_words = None;
        loop {
            let event = tokio::select! {
                biased;
                Some(event) = events.next() => Some(event),
                () = self.suspicion.notified(), if last_words.is_none() => None,
                _ = check.tick() => None,
                () = sleep_until(last_words.unwrap_or(opened)), if last_words.is_some() => {
                    return "the connection was closed".into();
                }
            };
            let mut cause = None;
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    warn!(broker = %session.broker, %reason, "RabbitMQ accepts no messages for now");
                    self.set_state(ConnectionState::Blocked { broker: session.broker.clone(), reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    info!(broker = %session.broker, "RabbitMQ takes messages again");
                    let (generation, broker) = (session.generation, session.broker.clone());
                    self.set_state(ConnectionState::Connected { generation, broker });
                }
                // Errors of single channels come here too. Those who use the channel handle them.
                Some(Event::Error(error)) => cause = Some(explain::lost(&error)),
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

/// These brokers, for people.
fn names(brokers: &[Broker]) -> String {
    brokers.iter().map(Broker::name).collect::<Vec<_>>().join(", ")
}
