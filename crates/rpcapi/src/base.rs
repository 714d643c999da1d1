//! `ping` in Nova's namespace `baseapi`, which every service of Nova answers.
//!
//! 1.0 has `ping(arg)` → `{service, arg}`. Nova 34 announces 1.1, so this does too.

use async_trait::async_trait;
use novella_messaging::{
    CallError, CallOptions, Endpoint, RpcClient, RpcError, RpcRequest, Target, Version, answer,
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
    /// The name that the service answers with.
    pub service: String,
}

impl BaseApi {
    /// Calls `ping` on whatever serves `target`, which is a topic or one of its servers.
    pub async fn ping(
        client: &RpcClient,
        target: Target,
        arg: Value,
        options: CallOptions,
    ) -> Result<Pong, RpcError> {
        let target = target.namespace("baseapi").version(Version::new(1, 0));
        client.call(&target, "ping", &PingArgs { arg }, options).await
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
