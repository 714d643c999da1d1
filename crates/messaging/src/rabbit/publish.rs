//! Publishing with confirms: every message is confirmed, returned, refused or given up at its deadline.
//!
//! Messages are pipelined on one shared channel. Two kinds have a channel to themselves: `mandatory` ones, because lapin
//! hands a returned message to whichever confirm comes next; and those that were on a channel when the broker closed it,
//! so that the one which caused that is found and the others get through.
//!
//! A message that was on the wire when its connection broke is sent again, so it may arrive twice. The receiver knows the
//! copy by its `_unique_id`.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::declare;
use super::explain;
use super::session::Session;
use super::supervisor::Supervisor;
use super::topology;
use crate::error::TransportError;
use crate::transport::{CONTENT_TYPE, Destination, Outgoing};

/// How often one message is sent at most, whatever happens to it.
const SENDS: u32 = 5;
/// Pause after the broker rejected a message (nack), or lost the channel.
const RESEND_PAUSE: Duration = Duration::from_millis(100);
/// The AMQP delivery mode: no message of ours is worth a disk write.
const TRANSIENT: u8 = 1;

/// How one sending ended.
enum Sending {
    Confirmed,
    /// No queue took the message. This is the broker's reason.
    Returned(String),
    /// The broker rejected the message without a reason, because a queue is full or has failed.
    Nacked,
    Failed(lapin::Error),
}

/// What to do after a channel failed under a message.
enum Retry {
    AtOnce,
    AfterPause,
    /// Nobody is there to get it.
    Never,
}

/// Publishes one message. Returns by the message's deadline.
pub(super) async fn publish(supervisor: &Supervisor, message: &Outgoing) -> Result<(), TransportError> {
    let direct = matches!(message.destination, Destination::Queue { .. });
    let mandatory = message.mandatory && (supervisor.settings.direct_mandatory_flag || !direct);
    let mut publication = Publication {
        supervisor,
        message,
        mandatory,
        started: Instant::now(),
        sends: 0,
        nacked: false,
        alone: mandatory,
        declared: false,
    };
    publication.check_names()?;
    match timeout_at(message.deadline, publication.run()).await {
        Ok(result) => result,
        Err(_) => Err(publication.given_up()),
    }
}

/// Declares the exchange of a destination if it is missing, and returns whether it was.
pub(super) async fn keep_exchange(
    supervisor: &Supervisor,
    destination: &Destination,
    deadline: Instant,
) -> Result<bool, TransportError> {
    let started = Instant::now();
    let topology = &supervisor.settings.topology;
    let Some(exchange) = topology.exchange_of(destination) else { return Ok(false) };
    let kept = async {
        let session = supervisor.ready().await?;
        let kept = declare::missing_exchange(&exchange, session.publishing()).await;
        kept.map_err(|refused| explain::declaration(refused, topology))
    };
    match timeout_at(deadline, kept).await {
        Ok(result) => result,
        Err(_) => Err(supervisor.unreachable(started.elapsed())),
    }
}

/// One message on its way.
struct Publication<'a> {
    supervisor: &'a Supervisor,
    message: &'a Outgoing,
    /// Whether the message comes back if no queue takes it. The option `direct_mandatory_flag` can exempt answers.
    mandatory: bool,
    started: Instant,
    /// How often the message was sent.
    sends: u32,
    /// Whether the broker rejected the message when it was last sent.
    nacked: bool,
    /// Whether the message has a channel to itself.
    alone: bool,
    /// Whether the message's exchange was missing and has been declared.
    declared: bool,
}

impl Publication<'_> {
    async fn run(&mut self) -> Result<(), TransportError> {
        loop {
            let session = self.supervisor.ready().await?;
            let sending = self.send(&session).await;
            self.nacked = matches!(sending, Sending::Nacked);
            match sending {
                Sending::Confirmed => return Ok(()),
                Sending::Returned(reason) => {
                    debug!(to = %self.message.destination, %reason, "message returned");
                    return Err(TransportError::Unroutable {
                        destination: self.message.destination.to_string(),
                    });
                }
                Sending::Nacked => {}
                Sending::Failed(error) if !session.alive() => {
                    debug!(to = %self.message.destination, %error, "the connection broke under a message; it is sent again");
                    self.supervisor.suspect();
                }
                Sending::Failed(error) => match self.after_channel_failure(&session, &error).await? {
                    Retry::AtOnce => continue,
                    Retry::AfterPause => {}
                    Retry::Never => return Ok(()),
                },
            }
            if self.sends >= SENDS {
                return Err(self.given_up());
            }
            sleep(RESEND_PAUSE).await;
        }
    }

    /// Decides whether the message is sent again after its channel failed. An error is final.
    async fn after_channel_failure(
        &mut self,
        session: &Session,
        error: &lapin::Error,
    ) -> Result<Retry, TransportError> {
        if explain::reply_code(error).is_none() {
            // Another message had broken the channel before this one was sent.
            return Ok(Retry::AfterPause);
        }
        let topology = &self.supervisor.settings.topology;
        if let Some(exchange) = topology.exchange_of(&self.message.destination)
            && !self.declared
            && explain::is_missing(error, &exchange)
        {
            // This is usual: a fanout exchange goes with its last queue, and all transient ones with the broker.
            if !self.supervisor.settings.declare_exchanges {
                return self.without_exchange(error);
            }
            self.declared = true;
            let Ok(channel) = session.publishing().create_channel().await else {
                return Ok(Retry::AfterPause);
            };
            return match exchange.declare(&channel).await {
                Ok(()) => Ok(Retry::AtOnce),
                Err(refused) => Err(explain::declaration(refused, topology)),
            };
        }
        if self.alone {
            let reason = explain::refusal(error, topology);
            return Err(TransportError::Refused { attempted: self.attempted(), reason });
        }
        self.alone = true;
        Ok(Retry::AtOnce)
    }

    /// What becomes of a message whose exchange is missing, if it is not ours to declare. No queue is bound to a missing
    /// exchange, so nobody would get the message.
    fn without_exchange(&self, error: &lapin::Error) -> Result<Retry, TransportError> {
        match &self.message.destination {
            Destination::Fanout { .. } if !self.mandatory => Ok(Retry::Never),
            Destination::Fanout { .. } => {
                Err(TransportError::Unroutable { destination: self.message.destination.to_string() })
            }
            _ => {
                let reason = explain::refusal(error, &self.supervisor.settings.topology);
                Err(TransportError::Refused { attempted: self.attempted(), reason })
            }
        }
    }

    async fn send(&mut self, session: &Session) -> Sending {
        let lane = match session.lanes.take(session.publishing(), self.alone).await {
            Ok(lane) => lane,
            Err(error) => return Sending::Failed(error),
        };
        self.sends += 1;
        let sending = self.send_on(lane.channel(), &session.user).await;
        if !matches!(sending, Sending::Failed(_)) {
            lane.keep();
        }
        sending
    }

    async fn send_on(&self, channel: &Channel, user: &str) -> Sending {
        let (exchange, key) = topology::address(&self.message.destination);
        let options = BasicPublishOptions { mandatory: self.mandatory, immediate: false };
        let properties = self.properties(user);
        let (exchange, key) = (topology::short(&exchange), topology::short(&key));
        let sent = channel.basic_publish(exchange, key, options, &self.message.body, properties).await;
        let confirmation = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmation {
            Ok(Confirmation::Ack(Some(returned))) => Sending::Returned(returned.reply_text.to_string()),
            Ok(Confirmation::Ack(None)) => Sending::Confirmed,
            Ok(Confirmation::Nack(_)) => Sending::Nacked,
            Ok(Confirmation::NotRequested) => unreachable!("confirm.select precedes every use of a channel"),
            Err(error) => Sending::Failed(error),
        }
    }

    fn properties(&self, user: &str) -> BasicProperties {
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
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
            Some(reason) => Err(TransportError::Refused { attempted: self.attempted(), reason }),
            None => Ok(()),
        }
    }

    fn attempted(&self) -> String {
        format!("a message of {} bytes to {}", self.message.body.len(), self.message.destination)
    }

    fn given_up(&self) -> TransportError {
        let (destination, waited) = (self.message.destination.to_string(), self.started.elapsed());
        if let Some(reason) = self.supervisor.blocked() {
            return TransportError::Blocked { destination, reason, waited };
        }
        if self.nacked {
            return TransportError::Rejected { destination, times: self.sends, waited };
        }
        if self.sends > 0 {
            return TransportError::Unconfirmed { destination, waited };
        }
        self.supervisor.unreachable(waited)
    }
}
