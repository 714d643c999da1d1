//! What can go wrong between a caller and its answer, on either side.
//!
//! An error of the other side arrives as a [`RemoteError`] and is never turned back into code by its name. No text here
//! holds a password.

use std::time::Duration;

use serde::Serialize;

/// Module under which oslo.messaging raises its dispatch errors. Python callers test the class name that goes with it.
const DISPATCHER_MODULE: &str = "oslo_messaging.rpc.dispatcher";
/// Module of Python's own exceptions.
pub(crate) const BUILTINS: &str = "builtins";
/// Module of errors that only novella raises. A Python caller sees them as `RemoteError`.
const OWN_MODULE: &str = "novella";
/// Class of the remote error of a user who may not do what was attempted. Its `kwargs` name the `user`, the `class` of the
/// method, and the `setting` that lists who may.
pub const FORBIDDEN: &str = "Forbidden";
/// Class of the remote error of a question that came while too many others waited. Its `kwargs` name the `limit`.
pub const BUSY: &str = "Busy";

/// The transport could not carry a message.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// There was no connection until the deadline.
    #[error("no connection to {broker} within {waited:?} (last error: {last_error})")]
    Unreachable {
        /// All brokers that were tried, each as `host:port/vhost`.
        broker: String,
        /// How long the transport tried.
        waited: Duration,
        /// Why the last attempt failed.
        last_error: String,
    },
    /// The message was published but not confirmed before the deadline. It may have arrived or not.
    #[error("the broker did not confirm a message to {destination} within {waited:?}")]
    Unconfirmed {
        /// Where the message was sent.
        destination: String,
        /// How long the transport waited.
        waited: Duration,
    },
    /// The broker has blocked publishers until the deadline. The message may arrive when it takes messages again, or not.
    #[error(
        "the broker has blocked publishers ({reason}); the message to {destination} has waited for {waited:?}"
    )]
    Blocked {
        /// Where the message was sent.
        destination: String,
        /// The broker's words, such as `low on disk`.
        reason: String,
        /// How long the transport waited.
        waited: Duration,
    },
    /// A queue rejected the message again and again, because it is as full as its policy allows, or has failed.
    #[error(
        "{destination} is full, or its queue has failed: the broker rejected the message {times} times within {waited:?}"
    )]
    Rejected {
        /// Where the message was sent.
        destination: String,
        /// How often it was sent.
        times: u32,
        /// How long the transport tried.
        waited: Duration,
    },
    /// The message was `mandatory`, and no queue took it.
    #[error("nobody listens at {destination}")]
    Unroutable {
        /// Where the message was sent.
        destination: String,
    },
    /// The broker refused for good: 403, 404, 406, a message that is too large, and the like.
    #[error("the broker refused {attempted}: {reason}")]
    Refused {
        /// What was attempted, and on which queue or exchange.
        attempted: String,
        /// The broker's words, and what to do.
        reason: String,
    },
    /// This process has closed the transport.
    #[error("the transport is closed")]
    Closed,
}

/// A call or a cast failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RpcError {
    /// The request could not be sent.
    #[error("could not send {method} to {target}")]
    Send {
        /// The method that was asked for.
        method: String,
        /// `topic` or `topic.server`.
        target: String,
        /// Why it could not be sent.
        #[source]
        source: TransportError,
    },
    /// There was no answer in time.
    #[error("no answer to {method} from {target} within {waited:?}")]
    Timeout {
        /// The method that was asked for.
        method: String,
        /// `topic` or `topic.server`.
        target: String,
        /// The caller's timeout, or its monitor's if that ended the call.
        waited: Duration,
    },
    /// The other side answered with an error.
    #[error("{target} failed in {method}")]
    Remote {
        /// The method that was asked for.
        method: String,
        /// `topic` or `topic.server`.
        target: String,
        /// The error that the other side raised.
        #[source]
        source: Box<RemoteError>,
    },
    /// The answer was not what the method promises, or the arguments could not be written as JSON.
    #[error("{what} of {method} is malformed: {reason}")]
    Malformed {
        /// `the result`, `the answer` or `an argument`.
        what: &'static str,
        /// The method that was asked for.
        method: String,
        /// What is wrong, in the words of the JSON library where it found it.
        reason: String,
    },
}

/// An error raised by the other side. Callers match `class`. Its JSON form is the failure in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[error("{class}: {message}")]
pub struct RemoteError {
    /// Bare class name, such as `NoValidHost`.
    pub class: String,
    /// Dotted module of the class, such as `nova.exception`.
    pub module: String,
    /// The text of the error.
    pub message: String,
    /// Lines of the traceback, if the other side sent one.
    #[serde(rename = "tb")]
    pub traceback: Vec<String>,
    /// Positional arguments of the exception.
    pub args: Vec<serde_json::Value>,
    /// Keyword arguments of the exception.
    pub kwargs: serde_json::Map<String, serde_json::Value>,
}

impl RemoteError {
    /// An error for the caller, without traceback. The message is its only argument, as in Python.
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

/// Why a request that was received has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// An endpoint serves this version, but none has the method.
    #[error("no endpoint has this method")]
    NoSuchMethod,
    /// No endpoint serves this version in this namespace.
    #[error("no endpoint serves this version")]
    UnsupportedVersion,
    /// The arguments are not what the method takes.
    #[error("bad arguments: {reason}")]
    BadArguments {
        /// The method, and what is wrong where in its arguments.
        reason: String,
    },
    /// The sender may not do this.
    #[error("the broker user {user} may not {attempted}: that is for the users in {setting} (class {class})")]
    Forbidden {
        /// The user of the message, which the broker has checked.
        user: String,
        /// What the user tried, such as `call status`.
        attempted: String,
        /// The class of what the user tried.
        class: &'static str,
        /// The setting that lists the users who may.
        setting: &'static str,
    },
    /// Too many questions wait already.
    #[error("{limit} questions wait or are being answered, and no more than that may")]
    Busy {
        /// How many may wait or be in progress.
        limit: usize,
    },
    /// The method raised this error, which is passed on unchanged.
    #[error(transparent)]
    Failed(#[from] Box<RemoteError>),
    /// A defect of novella.
    #[error("internal error: {message}")]
    Internal {
        /// What happened. The caller sees it, so it holds no secrets.
        message: String,
    },
}

impl From<RemoteError> for CallError {
    fn from(error: RemoteError) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl CallError {
    /// The error for the caller.
    pub(crate) fn into_remote(self, method: &str, version: &str) -> RemoteError {
        match self {
            Self::NoSuchMethod => RemoteError::new(
                DISPATCHER_MODULE,
                "NoSuchMethod",
                format!("Endpoint does not support RPC method {method}"),
            ),
            Self::UnsupportedVersion => RemoteError::new(
                DISPATCHER_MODULE,
                "UnsupportedVersion",
                format!("Endpoint does not support RPC version {version}. Attempted method: {method}"),
            ),
            // A Python function answers a call with wrong arguments like this.
            Self::BadArguments { reason } => RemoteError::new(BUILTINS, "TypeError", reason),
            Self::Forbidden { ref user, class, setting, .. } => {
                let message = self.to_string();
                let kwargs = [("user", &**user), ("class", class), ("setting", setting)];
                let kwargs = kwargs.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
                RemoteError { kwargs, ..RemoteError::new(OWN_MODULE, FORBIDDEN, message) }
            }
            Self::Busy { limit } => {
                let kwargs = [("limit".to_owned(), limit.into())].into_iter().collect();
                RemoteError { kwargs, ..RemoteError::new(OWN_MODULE, BUSY, self.to_string()) }
            }
            Self::Failed(error) => *error,
            Self::Internal { message } => RemoteError::new(OWN_MODULE, "InternalError", message),
        }
    }

    /// Short name for counters and logs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchMethod => "no_such_method",
            Self::UnsupportedVersion => "unsupported_version",
            Self::BadArguments { .. } => "bad_arguments",
            Self::Forbidden { .. } => "forbidden",
            Self::Busy { .. } => "busy",
            Self::Failed(_) => "refused",
            Self::Internal { .. } => "internal",
        }
    }
}
