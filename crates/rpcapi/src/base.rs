//! Nova's `baseapi` namespace, which every service of Nova answers: `ping`.
//!
//! 1.0 `ping(arg)` → `{service, arg}`; 1.1 is what Nova 34 announces.

use async_trait::async_trait;
use novella_messaging::{
    CallError, CallOptions, Endpoint, RpcClient, RpcError, RpcRequest, Target, Version, answer,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Answer to `ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// The service that answered.
    pub service: String,
    /// What was sent, unchanged.
    pub arg: Value,
}

#[derive(Serialize, Deserialize)]
struct PingArgs {
    #[serde(default)]
    arg: Value,
}

/// Server and client side of `baseapi`.
pub struct BaseApi {
    /// Name of the answering service.
    pub service: String,
}

impl BaseApi {
    /// Calls `ping` on whatever serves `topic` (or `topic.server`).
    pub async fn ping(
        client: &RpcClient,
        topic: Target,
        arg: Value,
        options: CallOptions,
    ) -> Result<Pong, RpcError> {
        client
            .call(&topic.namespace("baseapi").version(Version::new(1, 0)), "ping", &PingArgs { arg }, options)
            .await
    }
}

#[async_trait]
impl Endpoint for BaseApi {
    fn namespace(&self) -> Option<&str> {
        Some("baseapi")
    }

    fn version(&self) -> Version {
        Version::new(1, 1)
    }

    fn methods(&self) -> &[&'static str] {
        &["ping"]
    }

    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        let PingArgs { arg } = request.args().parse()?;
        answer(&Pong { service: self.service.clone(), arg })
    }
}
