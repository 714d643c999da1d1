//! RPC over AMQP in the protocol of oslo.messaging: call, cast and fanout cast, with remote errors as typed errors.
//!
//! It knows nothing of hosts or instances. A message is the same bytes on every transport: `rabbit` (the only place
//! that names lapin) carries them through RabbitMQ, `in_process` through memory, with seeded delay, loss, duplication
//! and partition for simulation. Everything above [`Transport`] is shared by both.
//!
//! Time comes from tokio (so that tests can pause it) and randomness from seeds given by the caller.

mod client;
mod connect;
mod dispatcher;
mod envelope;
mod error;
mod ids;
pub mod in_process;
mod notices;
pub mod rabbit;
mod server;
mod target;
mod transport;
mod url;

pub use client::{CallOptions, RpcClient};
pub use connect::{ConnectError, connect, rabbit_options};
pub use dispatcher::{Args, CallError, Endpoint, Request, RequestContext, answer};
pub use envelope::{CONTENT_TYPE, MAX_BODY_BYTES, inflate, read_answer};
pub use error::{RemoteError, RpcError, TransportError};
pub use server::{BatchHandler, RpcServer, ServerCounters, ServerOptions};
pub use target::{Target, Version};
pub use transport::{
    ConnectionState, Consumer, ConsumerState, Delivery, DeliveryTag, Destination, FanoutLimits, Outgoing,
    QueueKind, Settle, Subscription, Transport,
};
pub use url::{BrokerHost, Scheme, TransportUrl, UrlError};
