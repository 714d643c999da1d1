//! Publishing with confirms: every message is confirmed, returned, refused or given up at its deadline.
//!
//! Messages go out pipelined on one shared channel. Two kinds go alone on a channel of their own, taken from a small
//! pool: `mandatory` ones, because lapin hands a returned message to whichever confirm comes next; and messages that
//! were on a channel when the broker closed it, because that way the culprit is found and the others get through.
//!
//! A message that was on the wire when its connection broke is sent again, so it may arrive twice: the protocol above
//! knows it by its `_unique_id`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::explain::{self, NOT_FOUND};
use super::session::{Core, Session};
use super::topology::{self, place};
use crate::{Destination, Outgoing, TransportError};

/// Unconfirmed messages on the shared channel at most; more wait for their turn.
const PIPELINE: usize = 1024;
/// Channels for messages that go alone, and so such messages in flight at most.
const SOLO_CHANNELS: usize = 16;
/// How often one message is sent at most, whatever happens to it.
const SENDS: u32 = 5;
/// Pause after the broker refused a message without a reason (nack), or lost the channel.
const RESEND_PAUSE: Duration = Duration::from_millis(100);
/// Our messages are not worth a disk write.
const TRANSIENT: u8 = 1;

/// The publishing channels of one session.
pub(super) struct Lanes {
    shared: Mutex<Option<Arc<Channel>>>,
    idle: Mutex<Vec<Arc<Channel>>>,
    /// One opener of the shared channel at a time.
    opening: Semaphore,
    pipeline: Semaphore,
    solo: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            shared: Mutex::default(),
            idle: Mutex::default(),
            opening: Semaphore::new(1),
            pipeline: Semaphore::new(PIPELINE),
            solo: Semaphore::new(SOLO_CHANNELS),
        }
    }
}

/// How one sending ended.
enum Outcome {
    Confirmed,
    /// The broker's reason.
    Returned(String),
    Nacked,
    Failed(lapin::Error),
}

/// Publishes one message; returns by its deadline.
pub(super) async fn publish(core: &Core, message: &Outgoing) -> Result<(), TransportError> {
    let started = Instant::now();
    let mut delivery =
        Delivery { core, message, started, sends: 0, alone: mandatory(core, message), declared: false };
    delivery.check_names()?;
    match timeout_at(message.deadline, delivery.deliver()).await {
        Ok(result) => result,
        Err(_) => Err(delivery.given_up()),
    }
}

/// Whether the message is to come back if no queue takes it. Answers may be exempt from that.
fn mandatory(core: &Core, message: &Outgoing) -> bool {
    let direct = matches!(message.destination, Destination::Queue { .. });
    message.mandatory && (core.direct_mandatory_flag || !direct)
}

/// One message on its way.
struct Delivery<'a> {
    core: &'a Core,
    message: &'a Outgoing,
    started: Instant,
    sends: u32,
    /// On a channel of its own.
    alone: bool,
    /// Its exchange was missing and has been declared.
    declared: bool,
}

impl Delivery<'_> {
    async fn deliver(&mut self) -> Result<(), TransportError> {
        loop {
            let session = self.core.ready().await?;
            match self.send(&session).await {
                Outcome::Confirmed => return Ok(()),
                Outcome::Returned(reason) => {
                    debug!(to = %self.place(), %reason, "message returned");
                    return Err(TransportError::Unroutable { destination: self.place() });
                }
                Outcome::Nacked => {}
                Outcome::Failed(error) if !session.alive() => {
                    debug!(to = %self.place(), %error, "connection lost under a message; it is sent again");
                    self.core.suspect();
                }
                Outcome::Failed(error) => {
                    if self.may_retry(&session, &error).await? {
                        continue;
                    }
                }
            }
            if self.sends >= SENDS {
                return Err(self.given_up());
            }
            sleep(RESEND_PAUSE).await;
        }
    }

    /// After a channel-level failure: `true` to send again at once, `false` after a pause, or the final refusal.
    async fn may_retry(&mut self, session: &Session, error: &lapin::Error) -> Result<bool, TransportError> {
        let Some(code) = explain::reply_code(error) else {
            // The channel was going down for another message's sake before this one was sent.
            return Ok(false);
        };
        let exchange = self.core.topology.exchange_of(&self.message.destination);
        if let Some(exchange) = exchange
            && code == NOT_FOUND
            && !self.declared
            && explain::words(error).contains(&format!("exchange '{}'", exchange.name))
        {
            // A fanout exchange is gone with its last queue, all transient ones with the broker: nothing to speak of.
            self.declared = true;
            let Ok(channel) = session.publishing().create_channel().await else { return Ok(false) };
            if let Err(refusal) = exchange.declare(&channel).await {
                let (attempted, reason) =
                    (refusal.attempted, explain::refusal(&refusal.error, &self.core.topology));
                return Err(TransportError::Refused { attempted, reason });
            }
            return Ok(true);
        }
        if self.alone {
            return Err(self.refused(error));
        }
        self.alone = true;
        Ok(true)
    }

    async fn send(&mut self, session: &Session) -> Outcome {
        let lanes = &session.lanes;
        // Closed only with the process: permits are never refused.
        let _permit = if self.alone { lanes.solo.acquire().await } else { lanes.pipeline.acquire().await };
        let connection = session.publishing();
        let opened = if self.alone { lanes.take(connection).await } else { lanes.shared(connection).await };
        let mut lane = match opened {
            Ok(channel) => Lane { lanes, channel, alone: self.alone, kept: false },
            Err(error) => return Outcome::Failed(error),
        };
        self.sends += 1;
        let outcome = self.send_on(&lane.channel, &session.user).await;
        lane.kept = !matches!(outcome, Outcome::Failed(_));
        outcome
    }

    async fn send_on(&self, channel: &Channel, user: &str) -> Outcome {
        let (exchange, key) = topology::address(&self.message.destination);
        let options = BasicPublishOptions { mandatory: mandatory(self.core, self.message), immediate: false };
        let properties = self.properties(user);
        let (exchange, key) = (topology::short(&exchange), topology::short(&key));
        let sent = channel.basic_publish(exchange, key, options, &self.message.body, properties).await;
        let confirmation = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmation {
            Ok(Confirmation::Ack(Some(returned))) => Outcome::Returned(returned.reply_text.to_string()),
            Ok(Confirmation::Ack(None)) => Outcome::Confirmed,
            Ok(Confirmation::Nack(_)) => Outcome::Nacked,
            Ok(Confirmation::NotRequested) => unreachable!("confirm.select precedes every use of a channel"),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn properties(&self, user: &str) -> BasicProperties {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_headers(FieldTable::default())
            .with_delivery_mode(TRANSIENT)
            .with_priority(0)
            .with_user_id(user.into());
        match self.message.expiration {
            Some(expiration) => properties.with_expiration(expiration.as_millis().to_string().into()),
            None => properties,
        }
    }

    fn check_names(&self) -> Result<(), TransportError> {
        let (exchange, key) = topology::address(&self.message.destination);
        match topology::too_long(&exchange).or_else(|| topology::too_long(&key)) {
            Some(reason) => Err(TransportError::Refused { attempted: self.attempt(), reason }),
            None => Ok(()),
        }
    }

    fn place(&self) -> String {
        place(&self.message.destination)
    }

    fn attempt(&self) -> String {
        format!("a message of {} bytes to {}", self.message.body.len(), self.place())
    }

    fn refused(&self, error: &lapin::Error) -> TransportError {
        TransportError::Refused {
            attempted: self.attempt(),
            reason: explain::refusal(error, &self.core.topology),
        }
    }

    fn given_up(&self) -> TransportError {
        let waited = self.started.elapsed();
        if self.sends > 0 {
            return TransportError::Unconfirmed { destination: self.place(), waited };
        }
        TransportError::Unreachable { broker: self.core.brokers(), waited, last_error: self.core.obstacle() }
    }
}

impl Lanes {
    /// The channel for pipelined messages.
    async fn shared(&self, connection: &Connection) -> lapin::Result<Arc<Channel>> {
        let open = || lock(&self.shared).clone().filter(|channel| channel.status().connected());
        if let Some(channel) = open() {
            return Ok(channel);
        }
        let _one_at_a_time = self.opening.acquire().await;
        if let Some(channel) = open() {
            return Ok(channel);
        }
        let channel = Arc::new(confirming_channel(connection).await?);
        *lock(&self.shared) = Some(channel.clone());
        Ok(channel)
    }

    /// A channel for one message, which nobody else uses.
    async fn take(&self, connection: &Connection) -> lapin::Result<Arc<Channel>> {
        loop {
            let idle = lock(&self.idle).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => return confirming_channel(connection).await.map(Arc::new),
            }
        }
    }
}

async fn confirming_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A channel in use. Unless kept, it is given up: an answer still under way would be taken for another message's, and
/// lapin would remember an unanswered message for as long as the channel lives.
struct Lane<'a> {
    lanes: &'a Lanes,
    channel: Arc<Channel>,
    alone: bool,
    kept: bool,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if self.alone {
            if self.kept {
                lock(&self.lanes.idle).push(self.channel.clone());
            }
        } else if !self.kept {
            let mut shared = lock(&self.lanes.shared);
            if shared.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.channel)) {
                *shared = None;
            }
        }
    }
}
