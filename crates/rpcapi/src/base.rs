//! `ping` in Nova's namespace `baseapi`, which every service of Nova answers.
//!
//! 1.0 has `ping(arg)` → `{service, arg}`. Nova 34 announces 1.1, so this does too.

use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{
    CallError, CallOptions, Endpoint, Method, MethodClass, RpcClient, RpcError, RpcRequest, Target, Version,
    answer,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The answer to `ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// Name of the service that answered.
    pub service: String,
    /// What was sent, unchanged.
    pub arg: Value,
}

#[derive(Serialize, Deserialize)]
struct PingArgs {
    #[serde(default)]
    arg: Value,
}

/// The server and the client of `baseapi`.
pub struct BaseApi {
    service: String,
    /// Is told the argument of each ping that arrives.
    on_ping: Box<dyn Fn(&Value) + Send + Sync>,
}

impl BaseApi {
    /// The server of a service. `service` is the name that it answers with.
    pub fn new(service: &str) -> Self {
        Self::listening(service, |_| {})
    }

    /// The server of a service that looks at the argument of each ping, cast or called.
    pub fn listening(service: &str, on_ping: impl Fn(&Value) + Send + Sync + 'static) -> Self {
        Self { service: service.to_owned(), on_ping: Box::new(on_ping) }
    }

    /// Calls `ping` on whatever serves `target`, which is a topic or one of its servers.
    pub async fn ping(
        client: &RpcClient,
        target: Target,
        arg: Value,
        options: CallOptions,
    ) -> Result<Pong, RpcError> {
        client.call(&at(target), "ping", &PingArgs { arg }, options).await
    }

    /// Casts `ping` to whatever serves `target`, which may be the fanout of a topic. Nobody answers. Returns whether any queue
    /// took it.
    pub async fn tell(
        client: &RpcClient,
        target: Target,
        arg: Value,
        timeout: Duration,
    ) -> Result<bool, RpcError> {
        client.cast_heard(&at(target), "ping", &PingArgs { arg }, timeout).await
    }
}

fn at(target: Target) -> Target {
    target.namespace("baseapi").version(Version::new(1, 0))
}

#[async_trait]
impl Endpoint for BaseApi {
    fn namespace(&self) -> Option<&str> {
        Some("baseapi")
    }

    fn version(&self) -> Version {
        Version::new(1, 1)
    }

    fn methods(&self) -> &[Method] {
        &[Method { name: "ping", class: MethodClass::Read, long: false }]
    }

    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        let PingArgs { arg } = request.args().parse()?;
        (self.on_ping)(&arg);
        answer(&Pong { service: self.service.clone(), arg })
    }
}
