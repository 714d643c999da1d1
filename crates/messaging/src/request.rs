//! One request as it is handed to an endpoint.
//!
//! Arguments stay JSON text until the endpoint parses them into its own type: no tree is built in between.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::notices::shown_reason;
use crate::target::Version;
use crate::transport::MAX_ARGUMENT_BYTES;

/// What came with a request beside its arguments.
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// The AMQP user who sent the request, checked by the broker. `None` if the sender did not set it.
    pub user_id: Option<String>,
    /// `_unique_id`. Every copy of one message has the same.
    pub unique_id: Option<String>,
}

/// One request, ready to be dispatched.
#[derive(Debug, Clone)]
pub struct RpcRequest {
    /// Who sent it, and what identifies its copies.
    pub context: RequestContext,
    /// API namespace. `None` is the null namespace, which is not the empty one.
    pub namespace: Option<String>,
    /// The version of the contract that the request needs.
    pub version: Version,
    /// The method that is asked for.
    pub method: String,
    /// JSON text that holds the arguments: for a request that was received, the whole inner message.
    pub(crate) text: String,
    /// The part of `text` that is the arguments. Empty if the request has none.
    pub(crate) args: Range<usize>,
}

impl RpcRequest {
    /// A request that did not come by a transport.
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
    /// Reads the arguments as `T`, which may borrow from the request. An error names the value that is wrong. Arguments of
    /// more than [`MAX_ARGUMENT_BYTES`] are not read.
    pub fn parse<T: Deserialize<'a>>(&self) -> Result<T, CallError> {
        let (method, bytes) = (self.method, self.text.len());
        if bytes > MAX_ARGUMENT_BYTES {
            let reason = format!("{method}(): {bytes} bytes of arguments, more than {MAX_ARGUMENT_BYTES}");
            return Err(CallError::BadArguments { reason });
        }
        serde_json::from_str(self.text).map_err(|_| self.bad_arguments::<T>())
    }

    /// Reads the arguments again to learn where they are wrong. Tracking the path is too slow to do for every report.
    fn bad_arguments<T: Deserialize<'a>>(&self) -> CallError {
        let mut text = serde_json::Deserializer::from_str(self.text);
        let reason = match serde_path_to_error::deserialize::<_, T>(&mut text) {
            Err(error) => format!("{}(): {}: {}", self.method, error.path(), error.inner()),
            Ok(_) => format!("{}(): text after the arguments", self.method),
        };
        CallError::BadArguments { reason: shown_reason(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let request = RpcRequest::new("place", Version::new(1, 0), &args).unwrap();
        let error = request.args().parse::<Spec>().unwrap_err().to_string();
        assert!(error.contains("place(): flavor.memory_mb: invalid value: integer `-512`"), "{error}");
    }

    #[test]
    fn arguments_are_read_up_to_a_length() {
        let read = |bytes: usize| {
            let request = RpcRequest::new("place", Version::new(1, 0), &"x".repeat(bytes - 2)).unwrap();
            request.args().parse::<&str>().map(str::len).map_err(|error| error.to_string())
        };
        assert_eq!(read(MAX_ARGUMENT_BYTES), Ok(MAX_ARGUMENT_BYTES - 2));
        let error = read(MAX_ARGUMENT_BYTES + 1).unwrap_err();
        assert!(error.contains("place(): 1048577 bytes of arguments, more than 1048576"), "{error}");
    }

    #[test]
    fn arguments_are_text_until_parsed() {
        #[derive(Debug, Deserialize)]
        struct Wanted<'a> {
            host: &'a str,
        }
        let request = RpcRequest::new("m", Version::new(1, 0), &serde_json::json!({"host": "a"})).unwrap();
        assert_eq!(request.args().parse::<Wanted<'_>>().unwrap().host, "a");
        let bad = RpcRequest::new("m", Version::new(1, 0), &serde_json::json!({"host": 3})).unwrap();
        let error = bad.args().parse::<Wanted<'_>>().unwrap_err();
        assert!(error.to_string().contains("m(): host: invalid type: integer `3`"), "{error}");
        let deep = format!("{{\"host\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
        let deep = RpcRequest { args: 0..deep.len(), text: deep, ..request };
        assert!(deep.args().parse::<serde_json::Value>().is_err(), "recursion is limited, not fatal");
    }
}
