//! The API of the agents. The topic is `compute`, and an agent's server name is its host name.
//!
//! | version | method | how |
//! |---|---|---|
//! | 1.0 | `get_host_stats(refresh)` → capabilities | call |
//! | 1.0 | `publish_service_capabilities(window_ms)`: report at some time within the window | cast, fanout cast |
//! | 1.1 | `ping()` → [`AgentStatus`] | call |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{
    CallError, CallOptions, Endpoint, Method, MethodClass, RequestContext, RpcClient, RpcError, RpcRequest,
    Target, Version, answer,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::names::Names;
use crate::serve::serve;

/// The answer to `ping`: the agent's identity and state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The agent's host name.
    pub host: String,
    /// The host's identity, which stays when the host is renamed.
    pub uuid: Uuid,
    /// Raised each time an agent starts on this host.
    pub incarnation: u64,
    /// Process id, to find the agent on its host.
    pub pid: u32,
    /// Name of the driver, such as `linux`.
    pub driver: String,
    /// The agent's version of novella.
    pub version: String,
    /// Seconds since the agent started.
    pub uptime_s: f64,
    /// How many reports this process has sent.
    pub reports: u64,
}

/// The arguments of `publish_service_capabilities`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishServiceCapabilities {
    /// The answers are spread over this window, in milliseconds. An agent answers at most one such request per window.
    #[serde(default)]
    pub window_ms: u64,
}

/// The arguments of `get_host_stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GetHostStats {
    /// Whether the driver probes the host again instead of answering from its last reading.
    #[serde(default)]
    pub refresh: bool,
}

/// Client of the agents.
#[derive(Clone)]
pub struct ComputeApi {
    client: RpcClient,
    target: Target,
}

impl ComputeApi {
    /// A client of the agents under these names.
    pub fn new(client: RpcClient, names: &Names) -> Self {
        Self { client, target: names.compute() }
    }

    /// Asks all agents to report within `window`.
    pub async fn publish_service_capabilities(
        &self,
        window: Duration,
        timeout: Duration,
    ) -> Result<(), RpcError> {
        let args = PublishServiceCapabilities { window_ms: window.as_millis() as u64 };
        self.client.cast(&self.target.clone().fanout(), "publish_service_capabilities", &args, timeout).await
    }

    /// Asks one agent to report now.
    pub async fn publish_service_capabilities_of(
        &self,
        host: &str,
        timeout: Duration,
    ) -> Result<(), RpcError> {
        let (target, args) = (self.target.clone().server(host), PublishServiceCapabilities::default());
        self.client.cast(&target, "publish_service_capabilities", &args, timeout).await
    }

    /// What the driver of `host` reports.
    pub async fn get_host_stats(
        &self,
        host: &str,
        refresh: bool,
        options: CallOptions,
    ) -> Result<Value, RpcError> {
        let target = self.target.clone().server(host);
        self.client.call(&target, "get_host_stats", &GetHostStats { refresh }, options).await
    }

    /// Asks the agent of `host` for its identity and state.
    pub async fn ping(&self, host: &str, options: CallOptions) -> Result<AgentStatus, RpcError> {
        let target = self.target.clone().server(host).version(Version::new(1, 1));
        self.client.call(&target, "ping", &serde_json::Map::new(), options).await
    }
}

/// What an agent implements.
#[async_trait]
pub trait ComputeEndpoint: Send + Sync + 'static {
    /// Makes the agent report at some time within the window.
    async fn publish_service_capabilities(
        &self,
        context: &RequestContext,
        args: PublishServiceCapabilities,
    ) -> Result<(), CallError>;

    /// The host's capabilities, as JSON.
    async fn get_host_stats(&self, context: &RequestContext, args: GetHostStats) -> Result<Value, CallError>;

    /// The agent's identity and state.
    async fn ping(&self, context: &RequestContext) -> Result<AgentStatus, CallError>;
}

/// Serves a [`ComputeEndpoint`].
pub struct ComputeServer<E>(pub Arc<E>);

serve!(ComputeServer<ComputeEndpoint> at Version::new(1, 1), |context, args, endpoint| {
    Administer "publish_service_capabilities" => endpoint.publish_service_capabilities(context, args.parse()?).await?,
    Read "get_host_stats" => endpoint.get_host_stats(context, args.parse()?).await?,
    Read "ping" => endpoint.ping(context).await?,
});
