//! What can go wrong between a caller and its answer.

use std::time::Duration;

/// The transport could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// No connection within the deadline.
    #[error("no connection to {broker} within {waited:?} (last error: {last_error})")]
    Unreachable {
        /// `host:port/vhost`, of each host in turn.
        broker: String,
        /// How long it was tried.
        waited: Duration,
        /// Why the last attempt failed.
        last_error: String,
    },
    /// Published, but no confirm within the deadline: it may or may not have arrived.
    #[error("no confirm from the broker for a message to {destination} within {waited:?}")]
    Unconfirmed {
        /// Where to.
        destination: String,
        /// How long it was waited.
        waited: Duration,
    },
    /// `mandatory`, and no queue took it.
    #[error("nobody listens at {destination}")]
    Unroutable {
        /// Where to.
        destination: String,
    },
    /// The broker refused for good (403, 404, 406, too large ...).
    #[error("the broker refused {attempted}: {reason}")]
    Refused {
        /// What was attempted on what.
        attempted: String,
        /// The broker's words, and what to do.
        reason: String,
    },
    /// Closed by us.
    #[error("the transport is closed")]
    Closed,
}

/// A call or cast failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RpcError {
    /// Could not be sent.
    #[error("could not send {method} to {target}")]
    Send {
        /// Method.
        method: String,
        /// Topic or topic.server.
        target: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// No answer in time.
    #[error("no answer to {method} from {target} within {waited:?}")]
    Timeout {
        /// Method.
        method: String,
        /// Topic or topic.server.
        target: String,
        /// The deadline that passed.
        waited: Duration,
    },
    /// The other side answered with an error.
    #[error("{target} failed in {method}")]
    Remote {
        /// Method.
        method: String,
        /// Topic or topic.server.
        target: String,
        /// Its error.
        #[source]
        source: Box<RemoteError>,
    },
    /// The answer was not what the method promises, or the arguments could not be written as JSON.
    #[error("{what} of {method} is malformed: {reason}")]
    Malformed {
        /// `the result` or `an argument`.
        what: &'static str,
        /// Method.
        method: String,
        /// serde's words.
        reason: String,
    },
}

/// An error raised by the other side. Never turned back into code by name: callers match `class`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{class}: {message}")]
pub struct RemoteError {
    /// Bare class name, such as `NoValidHost`.
    pub class: String,
    /// Dotted module, such as `nova.exception`.
    pub module: String,
    /// Its message.
    pub message: String,
    /// Traceback lines, if it sent any.
    pub traceback: Vec<String>,
    /// Positional arguments of the exception.
    pub args: Vec<serde_json::Value>,
    /// Keyword arguments of the exception.
    pub kwargs: serde_json::Map<String, serde_json::Value>,
}

impl RemoteError {
    /// An error to be raised at the caller, without traceback; its message is its one argument, as Python has it.
    pub fn new(module: impl Into<String>, class: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class: class.into(),
            module: module.into(),
            args: vec![message.clone().into()],
            message,
            traceback: Vec::new(),
            kwargs: serde_json::Map::new(),
        }
    }
}
