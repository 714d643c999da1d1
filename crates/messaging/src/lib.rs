//! RPC over AMQP in the protocol of oslo.messaging: call, cast and fanout cast, with remote errors as typed errors.
//!
//! The crate knows nothing of hosts or instances. A message is the same bytes on every transport: `rabbit` carries them
//! through RabbitMQ, and `in_process` through memory, with seeded delay, loss, duplication and partition for simulation.
//! Everything else is shared by both. Time comes from tokio, so that tests can pause it, and randomness from seeds given
//! by the caller.
//!
//! # Layout
//!
//! From the bottom up. A module imports only modules above it in this table.
//!
//! | module | what it is |
//! |---|---|
//! | `error` | what can go wrong between a caller and its answer |
//! | `authority` | which broker users may call the methods of which class |
//! | `target` | where a request goes, and at which version |
//! | `url` | the transport URL |
//! | `ids` | identifiers from a seed |
//! | `notices` | log lines about peers, at a bounded rate |
//! | `transport` | the trait of what carries messages, with its words: destination, queue, delivery |
//! | [`in_process`] | a broker in memory |
//! | [`rabbit`] | RabbitMQ |
//! | `connect` | from a URL to a transport |
//! | `request` | one request as an endpoint gets it |
//! | `endpoint` | what a daemon implements to be called |
//! | `envelope` | messages as bytes |
//! | `client` | makes calls and casts |
//! | `server` | takes requests, has endpoints perform them, and answers |

mod authority;
mod client;
mod connect;
mod endpoint;
mod envelope;
mod error;
mod ids;
pub mod in_process;
mod notices;
pub mod rabbit;
mod request;
mod server;
mod target;
mod transport;
mod url;

pub use authority::{ANONYMOUS, Authority, MethodClass};
pub use client::{CallOptions, RpcClient};
pub use connect::{ConnectError, connect, rabbit_options};
pub use endpoint::{BatchHandler, Endpoint, Method, answer};
pub use envelope::{read_answer, read_request};
pub use error::{BUSY, CallError, FORBIDDEN, RemoteError, RpcError, TransportError};
pub use notices::beginning;
pub use request::{Args, RequestContext, RpcRequest};
pub use server::{CounterFamily, Driver, RpcServer, ServerCounters, ServerOptions};
pub use target::{DEFAULT_EXCHANGE, Target, Version};
pub use transport::{
    ConnectionState, Consumer, ConsumerState, Delivery, DeliveryTag, Destination, FanoutLimits,
    MAX_ARGUMENT_BYTES, MAX_BODY_BYTES, Outgoing, QueueKind, Settle, Subscription, Transport,
};
pub use url::{BrokerHost, Scheme, TransportUrl, UrlError};
