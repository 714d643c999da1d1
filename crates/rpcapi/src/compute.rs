//! The API of the agents. The topic is `compute`, and an agent's server name is its host name.
//!
//! | version | method | how |
//! |---|---|---|
//! | 1.0 | `get_host_stats(refresh)` → capabilities | call |
//! | 1.0 | `publish_service_capabilities(window_ms)`: report at some time within the window | cast, fanout cast |
//! | 1.1 | `ping()` → [`AgentStatus`] | call |
//! | 1.2 | `claim(decision_id, user, instances)` → a list of [`ClaimAnswer`]: room until it is ended; answered once it is on the host's disk | call |
//! | 1.2 | `hold(decision_id, user, hold_ms, instances)` → a list of [`ClaimAnswer`]: room for a while; 0 ms ends the decision's holds | call, cast |
//! | 1.2 | `build_and_run_instance(...)` as `claim`, with a build for each instance, which the host starts itself | call |
//! | 1.2 | `stop_instance(instance_uuid)`, `start_instance(instance_uuid)`; answered once the host has noted it | call |
//! | 1.2 | `instance_events(instance_uuid)` → a list of [`InstanceEvent`], oldest first | call |
//! | 1.2 | `terminate_instance(instance_uuids, up_to_rank)` → a list of [`Terminated`]: ends claims; answered once that is on the host's disk | call |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{
    CallError, CallOptions, Endpoint, Method, MethodClass, RequestContext, RpcClient, RpcError, RpcRequest,
    Target, Version, answer,
};
use novella_objects::{ClaimAnswer, ClaimRequest, InstanceEvent, TerminateInstance, Terminated};
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

/// The arguments of methods about one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceQuery {
    /// The instance.
    pub instance_uuid: Uuid,
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

    /// Asks `host` to keep room for instances until they are ended.
    pub async fn claim(
        &self,
        host: &str,
        request: &ClaimRequest,
        options: CallOptions,
    ) -> Result<Vec<ClaimAnswer>, RpcError> {
        self.client.call(&self.granting(host), "claim", request, options).await
    }

    /// Asks `host` to keep room for instances and to build them.
    pub async fn build_and_run_instance(
        &self,
        host: &str,
        request: &ClaimRequest,
        options: CallOptions,
    ) -> Result<Vec<ClaimAnswer>, RpcError> {
        self.client.call(&self.granting(host), "build_and_run_instance", request, options).await
    }

    /// Asks `host` to stop the guest of an instance.
    pub async fn stop_instance(&self, host: &str, uuid: Uuid, options: CallOptions) -> Result<(), RpcError> {
        let args = InstanceQuery { instance_uuid: uuid };
        self.client.call(&self.granting(host), "stop_instance", &args, options).await
    }

    /// Asks `host` to start the guest of an instance.
    pub async fn start_instance(&self, host: &str, uuid: Uuid, options: CallOptions) -> Result<(), RpcError> {
        let args = InstanceQuery { instance_uuid: uuid };
        self.client.call(&self.granting(host), "start_instance", &args, options).await
    }

    /// What happened to an instance on `host`.
    pub async fn instance_events(
        &self,
        host: &str,
        uuid: Uuid,
        options: CallOptions,
    ) -> Result<Vec<InstanceEvent>, RpcError> {
        let args = InstanceQuery { instance_uuid: uuid };
        self.client.call(&self.granting(host), "instance_events", &args, options).await
    }

    /// Asks `host` to keep room for instances for a while.
    pub async fn hold(
        &self,
        host: &str,
        request: &ClaimRequest,
        options: CallOptions,
    ) -> Result<Vec<ClaimAnswer>, RpcError> {
        self.client.call(&self.granting(host), "hold", request, options).await
    }

    /// Tells `host` what is held there. It does not answer. Returns whether its queue took the message. `timeout` bounds the
    /// wait for the broker.
    pub async fn tell_hold(
        &self,
        host: &str,
        request: &ClaimRequest,
        timeout: Duration,
    ) -> Result<bool, RpcError> {
        self.client.cast_heard(&self.granting(host), "hold", request, timeout).await
    }

    /// Ends claims and holds of instances on `host`.
    pub async fn terminate_instance(
        &self,
        host: &str,
        request: &TerminateInstance,
        options: CallOptions,
    ) -> Result<Vec<Terminated>, RpcError> {
        self.client.call(&self.granting(host), "terminate_instance", request, options).await
    }

    /// The agent of `host`, if it knows claims.
    fn granting(&self, host: &str) -> Target {
        self.target.clone().server(host).version(Version::new(1, 2))
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

    /// Keeps room for instances until they are ended. Answers once that is durable.
    async fn claim(
        &self,
        context: &RequestContext,
        args: ClaimRequest,
    ) -> Result<Vec<ClaimAnswer>, CallError>;

    /// Keeps room for instances and builds them. Answers once that is durable; the build follows.
    async fn build_and_run_instance(
        &self,
        context: &RequestContext,
        args: ClaimRequest,
    ) -> Result<Vec<ClaimAnswer>, CallError>;

    /// Stops the guest of an instance. Answers once that is noted.
    async fn stop_instance(&self, context: &RequestContext, args: InstanceQuery) -> Result<(), CallError>;

    /// Starts the guest of an instance. Answers once that is noted.
    async fn start_instance(&self, context: &RequestContext, args: InstanceQuery) -> Result<(), CallError>;

    /// What happened to an instance, oldest first.
    async fn instance_events(
        &self,
        context: &RequestContext,
        args: InstanceQuery,
    ) -> Result<Vec<InstanceEvent>, CallError>;

    /// Keeps room for instances for a while, or ends what a decision holds.
    async fn hold(&self, context: &RequestContext, args: ClaimRequest)
    -> Result<Vec<ClaimAnswer>, CallError>;

    /// Ends claims and holds. Answers once that is durable.
    async fn terminate_instance(
        &self,
        context: &RequestContext,
        args: TerminateInstance,
    ) -> Result<Vec<Terminated>, CallError>;

    /// The agent's identity and state.
    async fn ping(&self, context: &RequestContext) -> Result<AgentStatus, CallError>;
}

/// Serves a [`ComputeEndpoint`].
pub struct ComputeServer<E>(pub Arc<E>);

serve!(ComputeServer<ComputeEndpoint> at Version::new(1, 2), |context, args, endpoint| {
    Administer "publish_service_capabilities" => endpoint.publish_service_capabilities(context, args.parse()?).await?,
    Read "get_host_stats" => endpoint.get_host_stats(context, args.parse()?).await?,
    Place "claim" => endpoint.claim(context, args.parse()?).await?,
    Place "build_and_run_instance" => endpoint.build_and_run_instance(context, args.parse()?).await?,
    Place "stop_instance" => endpoint.stop_instance(context, args.parse()?).await?,
    Place "start_instance" => endpoint.start_instance(context, args.parse()?).await?,
    Read "instance_events" => endpoint.instance_events(context, args.parse()?).await?,
    Place "hold" => endpoint.hold(context, args.parse()?).await?,
    Place "terminate_instance" => endpoint.terminate_instance(context, args.parse()?).await?,
    Read "ping" => endpoint.ping(context).await?,
});
