//! What a daemon implements to be called: an endpoint for each contract, and a batch handler for its reports.
//!
//! An endpoint serves one contract: a namespace, a version and the methods in it. Several majors of an API are several
//! endpoints.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::authority::MethodClass;
use crate::error::CallError;
use crate::request::RpcRequest;
use crate::target::Version;

/// The JSON text of a method's result.
pub fn answer(result: &impl Serialize) -> Result<Box<RawValue>, CallError> {
    serde_json::value::to_raw_value(result).map_err(|error| CallError::Internal {
        message: format!("the result cannot be written as JSON: {error}"),
    })
}

/// A method of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Decides who may call it.
    pub class: MethodClass,
    /// Whether an answer may take long to compute or to write. Only a few such methods run at a time, beside all others.
    pub long: bool,
}

/// One contract, served.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// The contract's namespace. `None` is the null namespace.
    fn namespace(&self) -> Option<&str> {
        None
    }

    /// The newest version it implements. It serves every lower minor too.
    fn version(&self) -> Version;

    /// All its methods.
    fn methods(&self) -> &[Method];

    /// Performs a request for one of its methods.
    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError>;
}

/// Handles consecutive requests of one method together. This is for reports, where a lock and an acknowledgement for each
/// would cost more than the work. A caller among the senders is answered null.
pub trait BatchHandler: Send + Sync {
    /// The method it takes, in the null namespace.
    fn method(&self) -> &str;

    /// Decides who may call the method.
    fn class(&self) -> MethodClass;

    /// The newest version it takes. Requests at other versions go to the endpoints.
    fn version(&self) -> Version;

    /// Handles the requests in order of arrival. Must not block. After a panic it is given the same ones again, one by
    /// one.
    fn handle(&self, requests: &[RpcRequest]);
}
