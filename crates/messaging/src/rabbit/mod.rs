//! RabbitMQ, by lapin. Nothing outside this module names lapin.
//!
//! A [`RabbitTransport`] keeps two connections to one broker, one for publishing and one for consuming: a broker that is
//! short of memory stops reading from connections that publish, and acknowledgements must get through meanwhile. With
//! `single_connection` it keeps one. Together with [`RabbitTransport::share`], which gives further handles on the same
//! connections, thousands of agents then fit on a few sockets (lapin runs a thread per connection).
//!
//! What always holds:
//! - connections, channels, queues and consumers come back after any failure, after waits with full jitter;
//! - every wait for the broker has a deadline, every queue a bound;
//! - passwords are in no log line, error or `Debug` text.
//!
//! From the bottom up: `backoff` waits between attempts · `inflate` compressed bodies · `topology` names and shapes of
//! queues and exchanges · `broker` one host with its credentials · `certificate`, `explain` refusals in words · `declare` queues and
//! exchanges · `dial` one
//! attempt at one host · `options` what the transport URL asks for · `lanes` channels to publish on · `session` all that is open to one
//! broker · `supervisor` keeps a session open · `publish` and `consume` use it.

mod backoff;
mod broker;
mod certificate;
mod consume;
mod declare;
mod dial;
mod explain;
mod inflate;
mod lanes;
mod options;
mod publish;
mod session;
mod supervisor;
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

use self::dial::Dialer;
pub use self::dial::TlsFiles;
pub use self::inflate::inflate;
pub use self::options::{BadOption, RabbitOptions};
use self::supervisor::{Supervisor, SupervisorSettings};
pub use self::topology::{OsloOptions, Topology};
use crate::error::TransportError;
use crate::ids::Ids;
use crate::transport::{
    ConnectionState, Consumer, Destination, Outgoing, QueueKind, Subscription, Transport,
};

/// How many publications of one handle may be under way or waiting for a connection. More are refused at once.
const PENDING: u32 = 8192;

/// A handle on connections to RabbitMQ that repair themselves. Dropping the last handle closes them.
pub struct RabbitTransport {
    connections: Arc<Connections>,
    /// Whether this handle opened the connections. It closes them, while shared handles only end their own consumers.
    owner: bool,
    closing: CancellationToken,
    pending: Semaphore,
}

/// Ends the supervisor when no handle is left.
struct Connections(Arc<Supervisor>);

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.closing.cancel();
    }
}

impl RabbitTransport {
    /// Starts connecting and returns at once. [`Transport::state`] shows how it goes. Needs a tokio runtime.
    pub fn start(options: RabbitOptions) -> Arc<Self> {
        let mut rng = ChaCha8Rng::from_seed(options.seed);
        let mut brokers = options.url.hosts;
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
        let supervisor = Arc::new(Supervisor::new(SupervisorSettings {
            brokers,
            dialer,
            connection_name: options.connection_name,
            single_connection: options.single_connection,
            topology: options.topology,
            declare_exchanges: options.declare_exchanges,
            prefetch: options.prefetch,
            direct_mandatory_flag: options.direct_mandatory_flag,
            ids: Ids::new(seed()),
        }));
        tokio::spawn(supervisor.clone().run(seed()));
        Arc::new(Self::handle(Arc::new(Connections(supervisor)), true))
    }

    /// A further handle on the same connections, for another client in this process. Its consumers have channels of their
    /// own. Closing it ends those, and leaves the connections to the others.
    pub fn share(&self) -> Arc<Self> {
        Arc::new(Self::handle(self.connections.clone(), false))
    }

    fn handle(connections: Arc<Connections>, owner: bool) -> Self {
        let closing = connections.0.closing.child_token();
        Self { connections, owner, closing, pending: Semaphore::new(PENDING as usize) }
    }

    fn supervisor(&self) -> &Arc<Supervisor> {
        &self.connections.0
    }
}

#[async_trait]
impl Transport for RabbitTransport {
    async fn publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let _pending = match self.pending.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(TransportError::Closed),
            Err(TryAcquireError::NoPermits) => {
                let attempted = format!("a message to {}", message.destination);
                let reason = format!("{PENDING} messages wait already: {}", self.supervisor().obstacle());
                return Err(TransportError::Refused { attempted, reason });
            }
        };
        tokio::select! {
            biased;
            result = publish::publish(self.supervisor(), &message) => result,
            () = self.closing.cancelled(), if !self.owner => Err(TransportError::Closed),
        }
    }

    async fn declare(&self, queue: QueueKind, deadline: Instant) -> Result<(), TransportError> {
        consume::declare(self.supervisor(), &queue, deadline).await
    }

    async fn keep_exchange(&self, of: &Destination, deadline: Instant) -> Result<bool, TransportError> {
        publish::keep_exchange(self.supervisor(), of, deadline).await
    }

    fn rebind(&self) {
        self.supervisor().rebind();
    }

    async fn consume(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        if self.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        Ok(Box::new(consume::start(self.supervisor().clone(), subscription, self.closing.child_token())))
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.supervisor().state()
    }

    fn users(&self) -> Vec<String> {
        self.supervisor().users()
    }

    async fn close(&self, deadline: Instant) {
        // With all permits back, nothing is under way any more.
        drop(timeout_at(deadline, self.pending.acquire_many(PENDING)).await);
        self.pending.close();
        self.closing.cancel();
        if self.owner
            && let Some(session) = self.supervisor().shut()
            && timeout_at(deadline, session.close()).await.is_err()
        {
            debug!("the broker did not answer connection.close in time");
        }
    }
}

impl fmt::Debug for RabbitTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitTransport")
            .field("brokers", &self.supervisor().brokers())
            .finish_non_exhaustive()
    }
}
