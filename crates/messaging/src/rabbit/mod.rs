//! RabbitMQ, by lapin. This is the only place that names it.
//!
//! A [`RabbitTransport`] keeps two connections to one broker, one for publishing and one for consuming, because a broker
//! short of memory stops reading from connections that publish, and acknowledgements must get through meanwhile. With
//! `single_connection` it keeps one; together with [`RabbitTransport::share`], which gives further handles on the same
//! connections, thousands of agents fit on a few sockets (lapin runs a thread per connection).
//!
//! What always holds:
//! - connections, channels, queues and consumers come back after any failure, under back-off with full jitter;
//! - every wait for the broker has a deadline, every queue a bound;
//! - passwords are in no log line, error or `Debug` text.

mod backoff;
mod consume;
mod dial;
mod explain;
mod options;
mod publish;
mod session;
mod topology;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Semaphore, TryAcquireError, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use dial::TlsFiles;
pub use options::{BadOption, RabbitOptions};
pub use topology::{OsloOptions, Topology};

use self::dial::{Broker, Dialer};
use self::session::{Core, Settings};
use crate::ids::Ids;
use crate::{
    ConnectionState, Consumer, Outgoing, QueueKind, Subscription, Transport, TransportError, TransportUrl,
};

/// Publications of one handle that may be under way or waiting for a connection. More are refused at once.
const PENDING: u32 = 8192;

/// A handle on connections to RabbitMQ that heal themselves. Dropping the last one closes them.
pub struct RabbitTransport {
    connections: Arc<Connections>,
    /// The handle that opened the connections closes them; shared ones only end their own consumers.
    owner: bool,
    closing: CancellationToken,
    pending: Semaphore,
}

/// Ends the supervisor when no handle is left.
struct Connections(Arc<Core>);

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.closing.cancel();
    }
}

impl RabbitTransport {
    /// Starts connecting and returns at once; [`Transport::state`] tells how it goes. Needs a tokio runtime.
    pub fn start(options: RabbitOptions) -> Arc<Self> {
        let mut rng = ChaCha8Rng::from_seed(options.seed);
        let mut brokers = brokers(&options.url);
        brokers.shuffle(&mut rng);
        let mut seed = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        let dialer = Dialer {
            heartbeat: options.heartbeat,
            frame_max: options.frame_max,
            connect_timeout: options.connect_timeout,
            tls: options.url.tls.then_some(options.tls),
        };
        let core = Arc::new(Core::new(Settings {
            brokers,
            dialer,
            connection_name: options.connection_name,
            single_connection: options.single_connection,
            topology: options.topology,
            prefetch: options.prefetch,
            direct_mandatory_flag: options.direct_mandatory_flag,
            ids: Ids::new(seed()),
        }));
        tokio::spawn(core.clone().supervise(seed()));
        Arc::new(Self {
            closing: core.closing.child_token(),
            connections: Arc::new(Connections(core)),
            owner: true,
            pending: Semaphore::new(PENDING as usize),
        })
    }

    /// A further handle on the same connections, for another client in this process: its consumers have channels of
    /// their own, and closing it ends those and leaves the connections to the others.
    pub fn share(&self) -> Arc<Self> {
        Arc::new(Self {
            connections: self.connections.clone(),
            owner: false,
            closing: self.core().closing.child_token(),
            pending: Semaphore::new(PENDING as usize),
        })
    }

    fn core(&self) -> &Arc<Core> {
        &self.connections.0
    }
}

fn brokers(url: &TransportUrl) -> Vec<Broker> {
    url.hosts
        .iter()
        .map(|host| Broker {
            host: host.host.clone(),
            port: host.port,
            user: host.user.clone(),
            password: host.password.clone(),
            vhost: url.vhost.clone(),
        })
        .collect()
}

#[async_trait]
impl Transport for RabbitTransport {
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let _pending = match self.pending.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(TransportError::Closed),
            Err(TryAcquireError::NoPermits) => {
                let attempted = format!("a message to {}", topology::place(&message.destination));
                let reason = format!("{PENDING} messages wait already: {}", self.core().obstacle());
                return Err(TransportError::Refused { attempted, reason });
            }
        };
        tokio::select! {
            biased;
            result = publish::publish(self.core(), &message) => result,
            () = self.closing.cancelled(), if !self.owner => Err(TransportError::Closed),
        }
    }

    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        consume::declare(self.core(), &queue, deadline).await
    }

    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        if self.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        Ok(Box::new(consume::start(self.core().clone(), subscription, self.closing.child_token())))
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.core().state()
    }

    async fn close(&self, deadline: Instant) {
        // All permits back: nothing is under way any more.
        drop(timeout_at(deadline, self.pending.acquire_many(PENDING)).await);
        self.pending.close();
        self.closing.cancel();
        if self.owner
            && let Some(session) = self.core().shut()
            && timeout_at(deadline, session.close()).await.is_err()
        {
            debug!("the broker did not answer connection.close in time");
        }
    }
}

impl fmt::Debug for RabbitTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitTransport").field("brokers", &self.core().brokers()).finish_non_exhaustive()
    }
}
