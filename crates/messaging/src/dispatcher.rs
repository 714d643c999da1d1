//! From a request to the endpoint that serves it, and from its error to what the caller sees.
//!
//! An endpoint serves one contract: a namespace, a version and the methods in it. Several majors of an API are several
//! endpoints. Arguments reach an endpoint as JSON text and leave it as JSON text; no tree is built in between.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{RemoteError, Version};

/// Module under which oslo.messaging raises its dispatch errors: peers test the class name that goes with it.
const DISPATCHER_MODULE: &str = "oslo_messaging.rpc.dispatcher";
/// Module of Python's own exceptions.
const BUILTINS: &str = "builtins";
/// Module of errors that are ours alone; a Python caller sees them as `RemoteError`.
const OWN_MODULE: &str = "novella";

/// What came with a request beside its arguments.
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// AMQP user, as checked by the broker. Absent if the sender did not set it.
    pub user_id: Option<String>,
    /// `_unique_id`: the same in every copy of one message.
    pub unique_id: Option<String>,
}

/// One request, ready to be dispatched.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who, and on whose behalf.
    pub context: RequestContext,
    /// API namespace; absent is the null namespace.
    pub namespace: Option<String>,
    /// Version of the contract it was written against.
    pub version: Version,
    /// Method name.
    pub method: String,
    /// The inner message; `args` is the part of it that holds the arguments.
    pub(crate) text: String,
    pub(crate) args: Range<usize>,
}

impl Request {
    /// A request made by hand: tests of endpoints, and services that call themselves.
    pub fn new(method: &str, version: Version, args: &impl Serialize) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_string(args)?;
        Ok(Self {
            context: RequestContext::default(),
            namespace: None,
            version,
            method: method.into(),
            args: 0..text.len(),
            text,
        })
    }

    /// Reads the body of a message as a server does. None if it is not a request that could be dispatched.
    pub fn from_body(body: &[u8]) -> Option<Self> {
        crate::envelope::read_request(body).ok().map(|incoming| incoming.request)
    }

    /// The arguments.
    pub fn args(&self) -> Args<'_> {
        // Absent arguments are an empty object.
        let text = if self.args.is_empty() { "{}" } else { &self.text[self.args.clone()] };
        Args { method: &self.method, text }
    }
}

/// The arguments of a request: the text of a JSON object.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    method: &'a str,
    text: &'a str,
}

impl<'a> Args<'a> {
    /// Reads them as `T`, which may borrow from the request. An error names the value that was wrong.
    pub fn parse<T: Deserialize<'a>>(&self) -> Result<T, CallError> {
        serde_json::from_str(self.text).map_err(|_| self.bad_arguments::<T>())
    }

    /// Reads them once more, slowly, to learn where they are wrong; the path costs too much to keep for every report.
    fn bad_arguments<T: Deserialize<'a>>(&self) -> CallError {
        let mut text = serde_json::Deserializer::from_str(self.text);
        let reason = match serde_path_to_error::deserialize::<_, T>(&mut text) {
            Err(error) => format!("{}(): {}: {}", self.method, error.path(), error.inner()),
            Ok(_) => format!("{}(): text after the arguments", self.method),
        };
        CallError::BadArguments { reason }
    }

    /// The JSON text.
    pub fn text(&self) -> &'a str {
        self.text
    }
}

/// Why a request has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// An endpoint speaks this version, but has no such method.
    #[error("no endpoint has this method")]
    NoSuchMethod,
    /// No endpoint speaks this version (or has this namespace).
    #[error("no endpoint serves this version")]
    UnsupportedVersion,
    /// The arguments are not what the method takes.
    #[error("bad arguments: {reason}")]
    BadArguments {
        /// Method, and serde's words.
        reason: String,
    },
    /// The method's own error, passed on as it is.
    #[error(transparent)]
    Failed(#[from] Box<RemoteError>),
    /// Our fault.
    #[error("internal error: {message}")]
    Internal {
        /// What happened, without secrets: the caller sees it.
        message: String,
    },
}

impl From<RemoteError> for CallError {
    fn from(error: RemoteError) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl CallError {
    /// What the caller is told.
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
            // Python's own answer to a call with the wrong arguments.
            Self::BadArguments { reason } => RemoteError::new(BUILTINS, "TypeError", reason),
            Self::Failed(error) => *error,
            Self::Internal { message } => RemoteError::new(OWN_MODULE, "InternalError", message),
        }
    }

    /// A short name for counters and logs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchMethod => "no_such_method",
            Self::UnsupportedVersion => "unsupported_version",
            Self::BadArguments { .. } => "bad_arguments",
            Self::Failed(_) => "refused",
            Self::Internal { .. } => "internal",
        }
    }
}

/// The JSON text of a method's result.
pub fn answer(result: &impl Serialize) -> Result<Box<RawValue>, CallError> {
    serde_json::value::to_raw_value(result).map_err(|error| CallError::Internal {
        message: format!("the result cannot be written as JSON: {error}"),
    })
}

/// One contract, served.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// Namespace; none is the null namespace.
    fn namespace(&self) -> Option<&str> {
        None
    }

    /// The newest version it implements; it serves every lower minor too.
    fn version(&self) -> Version;

    /// Names of its methods.
    fn methods(&self) -> &[&'static str];

    /// Performs a request for one of its methods.
    async fn dispatch(&self, request: &Request) -> Result<Box<RawValue>, CallError>;
}

/// All endpoints of a server, in order of registration: the first that fits serves.
#[derive(Clone, Default)]
pub(crate) struct Dispatcher(Vec<Arc<dyn Endpoint>>);

impl Dispatcher {
    pub(crate) fn add(&mut self, endpoint: Arc<dyn Endpoint>) {
        self.0.push(endpoint);
    }

    pub(crate) fn resolve(&self, request: &Request) -> Result<&Arc<dyn Endpoint>, CallError> {
        let mut error = CallError::UnsupportedVersion;
        for endpoint in &self.0 {
            if endpoint.namespace() != request.namespace.as_deref()
                || !endpoint.version().serves(request.version)
            {
                continue;
            }
            error = CallError::NoSuchMethod;
            // A leading underscore marks what peers may not call, whatever an endpoint lists.
            if !request.method.starts_with('_') && endpoint.methods().contains(&request.method.as_str()) {
                return Ok(endpoint);
            }
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Option<&'static str>, Version, &'static [&'static str]);

    #[async_trait]
    impl Endpoint for Fixed {
        fn namespace(&self) -> Option<&str> {
            self.0
        }
        fn version(&self) -> Version {
            self.1
        }
        fn methods(&self) -> &[&'static str] {
            self.2
        }
        async fn dispatch(&self, _: &Request) -> Result<Box<RawValue>, CallError> {
            answer(&self.1.to_string())
        }
    }

    fn dispatcher() -> Dispatcher {
        let mut all = Dispatcher::default();
        all.add(Arc::new(Fixed(None, Version::new(1, 3), &["ping", "_private"])));
        all.add(Arc::new(Fixed(None, Version::new(2, 0), &["ping", "pong"])));
        all.add(Arc::new(Fixed(Some(""), Version::new(1, 0), &["empty"])));
        all.add(Arc::new(Fixed(Some("baseapi"), Version::new(1, 1), &["ping"])));
        all
    }

    fn resolve(namespace: Option<&str>, version: &str, method: &str) -> Result<Version, &'static str> {
        let mut request = Request::new(method, version.parse().unwrap(), &()).unwrap();
        request.namespace = namespace.map(Into::into);
        let all = dispatcher();
        all.resolve(&request).map(|e| e.version()).map_err(|e| e.kind())
    }

    #[test]
    fn the_first_endpoint_that_fits_serves() {
        assert_eq!(resolve(None, "1.0", "ping"), Ok(Version::new(1, 3)));
        assert_eq!(resolve(None, "2.0", "ping"), Ok(Version::new(2, 0)));
        assert_eq!(resolve(Some("baseapi"), "1.1", "ping"), Ok(Version::new(1, 1)));
        assert_eq!(resolve(Some(""), "1.0", "empty"), Ok(Version::new(1, 0)));
    }

    #[test]
    fn refusals_are_classed_as_peers_expect() {
        assert_eq!(resolve(None, "1.0", "pong"), Err("no_such_method"));
        assert_eq!(resolve(None, "1.0", "_private"), Err("no_such_method"));
        for (namespace, version) in [(None, "1.4"), (None, "3.0"), (None, "0.9"), (Some("other"), "1.0")] {
            assert_eq!(
                resolve(namespace, version, "ping"),
                Err("unsupported_version"),
                "{namespace:?} {version}"
            );
        }
        // The null namespace is not the empty one.
        assert_eq!(resolve(None, "1.0", "empty"), Err("no_such_method"));
        let error = CallError::NoSuchMethod.into_remote("fly", "1.0");
        assert_eq!((&*error.module, &*error.class), ("oslo_messaging.rpc.dispatcher", "NoSuchMethod"));
        assert_eq!(error.args, ["Endpoint does not support RPC method fly"]);
        let error = CallError::UnsupportedVersion.into_remote("fly", "1.9");
        assert_eq!(error.message, "Endpoint does not support RPC version 1.9. Attempted method: fly");
    }

    #[test]
    fn bad_arguments_are_named() {
        #[derive(Debug, Deserialize)]
        struct Flavor {
            #[expect(dead_code, reason = "read by serde only")]
            memory_mb: u64,
        }
        #[derive(Debug, Deserialize)]
        struct Spec {
            #[expect(dead_code, reason = "read by serde only")]
            flavor: Flavor,
        }
        let args = serde_json::json!({"flavor": {"memory_mb": -512}});
        let request = Request::new("place", Version::new(1, 0), &args).unwrap();
        let error = request.args().parse::<Spec>().unwrap_err().to_string();
        assert!(error.contains("place(): flavor.memory_mb: invalid value: integer `-512`"), "{error}");
    }

    #[test]
    fn arguments_are_text_until_parsed() {
        #[derive(Debug, Deserialize)]
        struct Wanted<'a> {
            host: &'a str,
        }
        let request = Request::new("m", Version::new(1, 0), &serde_json::json!({"host": "a"})).unwrap();
        assert_eq!(request.args().parse::<Wanted<'_>>().unwrap().host, "a");
        let bad = Request::new("m", Version::new(1, 0), &serde_json::json!({"host": 3})).unwrap();
        let error = bad.args().parse::<Wanted<'_>>().unwrap_err();
        assert!(error.to_string().contains("m(): host: invalid type: integer `3`"), "{error}");
        let deep = format!("{{\"host\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
        let deep = Request { args: 0..deep.len(), text: deep, ..request };
        assert!(deep.args().parse::<serde_json::Value>().is_err(), "recursion is limited, not fatal");
    }
}
