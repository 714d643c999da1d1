//! The API of the schedulers. The topic is `scheduler`. Any one of several schedulers answers, unless one is named.
//!
//! | version | method | how |
//! |---|---|---|
//! | 1.0 | `update_service_capabilities(service_name, host, capabilities)` | fanout cast |
//! | 1.0 | `get_host_list()` → `[{service, host_name}]` | call |
//! | 1.0 | `get_service_capabilities()` → `{"<service>_<capability>": [min, max]}` | call |
//! | 1.0 | `show_host_resources(host)` → `{resource, usage}` | call |
//! | 1.1 | `select_destinations(request_spec, dry_run, hold_s, alternates)` → [`Decision`] | call |
//! | 1.1 | `reserve(decision_id, scheduler, ttl_ms, entries)`: tells the other schedulers of a decision | fanout cast |
//! | 1.1 | `release(decision_id, instance_uuids)` → how many reservations were released | call |
//! | 1.1 | `list_hosts()`, `show_host(host)`, `list_services()`, `get_decision(decision_id)`, `status()` | call |
//! | 1.2 | `explain(decision_id \| request_spec, host, fix)` → [`Explained`], or null if the decision is forgotten | call |
//! | 1.2 | `capacity(flavors, request_spec, by, reserve)` → [`Capacity`] | call |
//! | 1.4 | `select_destinations(..., flavor)`, `reserve` with groups and flavors | as before |
//! | 1.4 | `reload_policy()`, `get_policies()` → [`Policies`] of all schedulers: the one that takes the call asks the others | call |
//! | 1.4 | `own_policy(reload)` → [`PolicyStatus`] of one scheduler | fanout, answered by all |
//! | 1.5 | `reserve` with NUMA cells and PCI devices | as before |
//! | 1.5 | `snapshot(cursor)` → [`SnapshotPage`]: the map as a document, page by page (in 1.3, all at once) | call |
//! | 1.6 | `select_destinations(..., service)`, `reserve` with services: placement on services other than compute | as before |
//! | 1.7 | `ping_host(host, timeout_ms)` → [`HostPing`]: whether the agent of a host answers, for callers whose broker user may not ask agents | call |
//! | 1.8 | `list_hosts(facts)`: the rows have capacity, what is held and aggregates, and facts if `facts` is true | call |
//! | 1.8 | `list_server_groups(group)` → a list of [`ServerGroupSummary`], with the members if one is named | call |
//! | 1.9 | `reserve` with the broker user who placed the instances | as before |
//! | 1.10 | `forget_host(host)` → [`ForgottenHost`]: all schedulers forget a host; the one that takes the call asks the others | call |
//! | 1.10 | `own_forget_host(host)` → [`ForgottenBy`] of one scheduler | fanout, answered by all |
//! | 1.11 | `select_destinations(..., claim)`: hosts are asked for claims | as before |
//! | 1.11 | `release_claims(decision_id, instance_uuids)` → [`Released`]: ends holds and claims, here and on hosts | call |
//! | 1.11 | `create_instance(request, builds)` → [`Decision`]: hosts are asked for claims and build the instances | call |
//! | 1.11 | `list_instances(host, name, all)` → [`InstanceList`]: what hosts reported last | call |
//! | 1.11 | `get_instance(instance)` → a list of [`FoundInstance`]: those with this name or uuid, with their events | call |
//! | 1.11 | `stop_instance(instance_uuid)`, `start_instance(instance_uuid)`; answered once the host has noted it | call |
//! | 1.11 | `terminate_instance(instance_uuid)`; answered once the end is on the host's disk | call |
//! | 1.11 | `list_decisions(limit)` → [`DecisionList`]: the last decisions of one scheduler, newest first | call |
//!
//! Reports have a topic of their own, which is the schedulers' topic unless a fleet is configured otherwise ([`Names`]).
//!
//! The 1.0 methods keep the names and shapes that Nova's scheduler had in 2012. The others are novella's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{
    BatchHandler, CallError, CallOptions, Endpoint, Method, MethodClass, RemoteError, RequestContext,
    RpcClient, RpcError, RpcRequest, Target, Version, answer,
};
use novella_objects::{
    BuildRequest, Capabilities, Capacity, CapacityQuery, Decision, DecisionSummary, Explain, Explained,
    ForgottenBy, ForgottenHost, HostDetail, HostSummary, InstanceEvent, InstanceSummary, Policies,
    PolicyStatus, Reserve, ReserveEntry, SelectDestinations, ServerGroupSummary, ServiceSummary,
    UpdateServiceCapabilities,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::compute::{AgentStatus, InstanceQuery};
use crate::names::Names;
use crate::serve::serve;

/// Class of the remote error that a request gets when the scheduler's policy is at fault. The operator must correct the
/// policy at the key that `kwargs` name. The caller cannot avoid the error by another request.
pub const POLICY_ERROR: &str = "PolicyError";
/// Module of [`POLICY_ERROR`]. Nova and oslo.messaging know no such module and raise `RemoteError`.
const OWN_MODULE: &str = "novella";

/// A [`POLICY_ERROR`]: what is wrong, and the key of the policy where it is wrong.
pub fn policy_error(key: &str, reason: &str) -> CallError {
    let message = format!("{reason}. The operator of the scheduler must correct {key} in its policy");
    let mut error = RemoteError::new(OWN_MODULE, POLICY_ERROR, message);
    let kwargs = [("key", key), ("reason", reason)];
    error.kwargs = kwargs.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    error.into()
}

/// Class of the remote error of a request that exceeds a quota. Its `kwargs` are those of [`Exceeded`], without the message.
pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";

/// A quota that a request exceeds.
pub struct Exceeded<'a> {
    /// `user` for a broker user, or `project`.
    pub of: &'static str,
    /// Whose quota it is.
    pub holder: &'a str,
    /// What is limited: `instances`, `vcpus`, `memory_mb`, `disk_gb` or `requests_per_s`.
    pub amount: &'static str,
    /// How much of it is held or used already.
    pub used: u64,
    /// How much more was asked for.
    pub asked: u64,
    /// How much is allowed.
    pub limit: u64,
    /// The scheduler's setting with the limit.
    pub setting: &'static str,
    /// All of that, for people.
    pub message: &'a str,
}

/// A [`QUOTA_EXCEEDED`].
pub fn quota_exceeded(exceeded: &Exceeded<'_>) -> CallError {
    let Exceeded { of, holder, amount, used, asked, limit, setting, message } = *exceeded;
    let mut error = RemoteError::new(OWN_MODULE, QUOTA_EXCEEDED, message);
    let texts = [("of", of), ("holder", holder), ("amount", amount), ("setting", setting)];
    error.kwargs = texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    for (name, number) in [("used", used), ("asked", asked), ("limit", limit)] {
        error.kwargs.insert(name.to_owned(), number.into());
    }
    error.into()
}

/// Class of the remote error about an instance that no host has reported and nothing is held for. It is Nova's.
pub const INSTANCE_NOT_FOUND: &str = "InstanceNotFound";

/// An [`INSTANCE_NOT_FOUND`], in Nova's words.
pub fn instance_not_found(uuid: Uuid) -> CallError {
    let message = format!("Instance {uuid} could not be found.");
    let mut error = RemoteError::new("nova.exception", INSTANCE_NOT_FOUND, message);
    error.kwargs.insert("instance_id".to_owned(), uuid.to_string().into());
    error.into()
}

/// Class of the remote error of a command that is meant for instances and was used on claims, or the other way round. Its
/// `kwargs` have the command to use under `next`.
pub const OTHER_COMMAND: &str = "OtherCommand";

/// An [`OTHER_COMMAND`].
pub fn other_command(message: &str, next: &str) -> CallError {
    let mut error = RemoteError::new(OWN_MODULE, OTHER_COMMAND, format!("{message}; {next}"));
    for (name, text) in [("reason", message), ("next", next)] {
        error.kwargs.insert(name.to_owned(), text.into());
    }
    error.into()
}

/// Class of the remote error of a request that a host was to carry out and could not be asked for.
pub const HOST_UNREACHABLE: &str = "HostUnreachable";
/// Class of the remote error of a request that a host refused to carry out.
pub const HOST_REFUSED: &str = "HostRefused";

/// A [`HOST_UNREACHABLE`], or a [`HOST_REFUSED`] if the host has answered. Its `kwargs` have the host.
pub fn host_failed(host: &str, answered: bool, message: String) -> CallError {
    let class = if answered { HOST_REFUSED } else { HOST_UNREACHABLE };
    let mut error = RemoteError::new(OWN_MODULE, class, message);
    error.kwargs.insert("host".to_owned(), host.into());
    error.into()
}

/// The arguments of `create_instance`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateInstance {
    /// Where the instances may go, and what they take.
    pub request: SelectDestinations,
    /// What is built for each of them, in the order of the request's uuids.
    pub builds: Vec<BuildRequest>,
}

/// The arguments of `list_instances`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceListQuery {
    /// Only instances on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only instances of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether claims and holds are listed too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// The answer to `list_instances`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceList {
    /// Name of the scheduler that answered.
    pub scheduler: String,
    /// The instances, host by host.
    pub instances: Vec<InstanceSummary>,
    /// How many more there are, which the list leaves out because it would be too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The arguments of `get_instance`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindInstance {
    /// A name or a uuid. Several instances may have the same name.
    pub instance: String,
}

/// One instance of the answer to `get_instance`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundInstance {
    /// What its host reported last.
    pub summary: InstanceSummary,
    /// What happened to it on its host, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<InstanceEvent>,
    /// Why the host did not tell its events, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_missing: Option<String>,
}

/// The arguments of `list_decisions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionListQuery {
    /// How many decisions are wanted at most. Absent: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The answer to `list_decisions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionList {
    /// Name of the scheduler that answered. It remembers only its own decisions.
    pub scheduler: String,
    /// The decisions, newest first.
    pub decisions: Vec<DecisionSummary>,
}

/// The answer to `list_hosts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostList {
    /// Name of the scheduler that answered.
    pub scheduler: String,
    /// One row per compute host, in the order of the map.
    pub hosts: Vec<HostSummary>,
}

/// The arguments of `list_hosts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostListQuery {
    /// Whether the rows have the facts that the hosts reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub facts: bool,
}

/// The arguments of `list_server_groups`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerGroupQuery {
    /// Name of the only group that is wanted. If it is absent, all groups are listed without their members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// The arguments of methods about one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostQuery {
    /// Host name.
    pub host: String,
}

/// The arguments of `get_decision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionQuery {
    /// The decision's id.
    pub decision_id: String,
}

/// The arguments of `ping_host`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PingHost {
    /// Host name.
    pub host: String,
    /// How long the agent may take to answer, milliseconds.
    pub timeout_ms: u64,
}

/// The answer to `ping_host`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum HostPing {
    /// The agent answered.
    Answered(AgentStatus),
    /// No agent listens as this host.
    NobodyListens,
    /// An agent listens, and did not answer in time.
    NoAnswer,
}

/// The arguments of `own_policy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnPolicy {
    /// Whether the scheduler reads its policy file again before it answers.
    #[serde(default)]
    pub reload: bool,
}

/// The arguments of `snapshot`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotQuery {
    /// The page that is wanted, as named by the page before it. `None` asks for the first page of a new snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<SnapshotCursor>,
}

/// The place of a page in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCursor {
    /// Name of the scheduler that holds the snapshot. No other can be asked for its pages.
    pub scheduler: String,
    /// Which of that scheduler's snapshots it is.
    pub id: u64,
    /// Index of the page's first host.
    pub from: usize,
}

/// One page of a snapshot, as JSON text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// The document ([`Fleet`](novella_objects::document::Fleet)) without its hosts. Only the first page has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Box<RawValue>>,
    /// One [`Host`](novella_objects::document::Host) of the document each.
    pub hosts: Vec<Box<RawValue>>,
    /// Where the next page is. `None` in the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SnapshotCursor>,
}

/// The arguments of `release`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The decision whose reservations are released. `release_claims` takes an empty one, for whatever decision it was.
    pub decision_id: String,
    /// The instances that are released. If empty, all of the decision.
    #[serde(default)]
    pub instance_uuids: Vec<Uuid>,
}

/// The answer to `release_claims`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// How many holds ended.
    pub holds: u64,
    /// How many claims ended.
    pub claims: u64,
    /// The hosts that keep claims which should have ended, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, String>,
}

/// The answer to `status`: the state of a scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerStatus {
    /// The scheduler's name.
    pub scheduler: String,
    /// The scheduler's version of novella.
    pub version: String,
    /// Seconds since the scheduler started.
    pub uptime_s: f64,
    /// Whether it takes requests.
    pub ready: bool,
    /// Why it does not take requests, if it does not.
    pub waiting_for: Option<String>,
    /// How many hosts are in each state.
    pub hosts: BTreeMap<String, u64>,
    /// How many reports were applied.
    pub reports: u64,
    /// How many decisions were made, refusals included.
    pub decisions: u64,
    /// How many of the decisions were refusals.
    pub refusals: u64,
    /// How many reservations are held now.
    pub reservations: u64,
    /// Hash of the policy in force.
    #[serde(default)]
    pub policy_hash: String,
    /// Why the last reload of the policy was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_refused: Option<String>,
    /// The broker users and the projects for which the most instances were held a second ago, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub largest_holders: Vec<HolderStatus>,
}

/// What is held for a broker user or a project. No report has confirmed it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStatus {
    /// `user` for a broker user, or `project`.
    pub of: String,
    /// The name of the user or the project.
    pub holder: String,
    /// Number of instances.
    pub instances: u32,
    /// Number of CPUs.
    pub vcpus: u64,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Disk, GiB.
    pub disk_gb: u64,
}

/// Client of the schedulers.
#[derive(Clone)]
pub struct SchedulerApi {
    client: RpcClient,
    target: Target,
    reports: Target,
}

impl SchedulerApi {
    /// A client of any scheduler under these names.
    pub fn new(client: RpcClient, names: &Names) -> Self {
        Self { client, target: names.scheduler(), reports: names.reports() }
    }

    /// A client of the scheduler of this name only.
    pub fn of(&self, scheduler: &str) -> Self {
        Self { target: self.target.clone().server(scheduler), ..self.clone() }
    }

    fn at(&self, minor: u32) -> Target {
        self.target.clone().version(Version::new(1, minor))
    }

    /// Tells every scheduler what a host has. Returns whether the queue of any scheduler took it. `timeout` bounds the wait
    /// for the broker.
    pub async fn update_service_capabilities(
        &self,
        service_name: &str,
        host: &str,
        capabilities: &Capabilities<'_>,
        timeout: Duration,
    ) -> Result<bool, RpcError> {
        #[derive(Serialize)]
        struct Args<'a> {
            service_name: &'a str,
            host: &'a str,
            capabilities: &'a Capabilities<'a>,
        }
        let args = Args { service_name, host, capabilities };
        let target = self.reports.clone().version(Version::new(1, 0));
        self.client.cast_heard(&target, "update_service_capabilities", &args, timeout).await
    }

    /// Tells every scheduler of a decision.
    pub async fn reserve(&self, reserve: &Reserve, timeout: Duration) -> Result<(), RpcError> {
        let any = |has: fn(&ReserveEntry) -> bool| reserve.entries.iter().any(has);
        let minor = if reserve.user.is_some() {
            9
        } else if any(|entry| entry.service.is_some()) {
            6
        } else if any(|entry| !entry.numa_topology.is_empty() || !entry.pci.is_empty() || entry.not_building)
        {
            5
        } else if any(|entry| entry.group.is_some() || entry.flavor.is_some()) {
            4
        } else {
            1
        };
        let target = self.at(minor).fanout();
        self.client.cast(&target, "reserve", reserve, timeout).await
    }

    /// Asks where to place what `args` describe.
    pub async fn select_destinations(
        &self,
        args: &SelectDestinations,
        options: CallOptions,
    ) -> Result<Decision, RpcError> {
        let minor = match (&args.service, &args.flavor) {
            _ if args.claim => 11,
            (Some(_), _) => 6,
            (None, Some(_)) => 4,
            (None, None) => 1,
        };
        let target = self.at(minor);
        self.client.call(&target, "select_destinations", args, options).await
    }

    /// Releases reservations, and returns how many.
    pub async fn release(&self, args: &Release, options: CallOptions) -> Result<u64, RpcError> {
        self.client.call(&self.at(1), "release", args, options).await
    }

    /// Ends holds and claims, here and on hosts. The decision may be empty if instances are named.
    pub async fn release_claims(&self, args: &Release, options: CallOptions) -> Result<Released, RpcError> {
        self.client.call(&self.at(11), "release_claims", args, options).await
    }

    /// Places instances, and has their hosts claim the room and build them.
    pub async fn create_instance(
        &self,
        args: &CreateInstance,
        options: CallOptions,
    ) -> Result<Decision, RpcError> {
        self.client.call(&self.at(11), "create_instance", args, options).await
    }

    /// The instances that hosts have reported.
    pub async fn list_instances(
        &self,
        args: &InstanceListQuery,
        options: CallOptions,
    ) -> Result<InstanceList, RpcError> {
        self.client.call(&self.at(11), "list_instances", args, options).await
    }

    /// The instances with this name or uuid.
    pub async fn get_instance(
        &self,
        instance: &str,
        options: CallOptions,
    ) -> Result<Vec<FoundInstance>, RpcError> {
        let args = FindInstance { instance: instance.to_owned() };
        self.client.call(&self.at(11), "get_instance", &args, options).await
    }

    /// Has the guest of an instance stopped.
    pub async fn stop_instance(&self, instance_uuid: Uuid, options: CallOptions) -> Result<(), RpcError> {
        self.client.call(&self.at(11), "stop_instance", &InstanceQuery { instance_uuid }, options).await
    }

    /// Has the guest of an instance started.
    pub async fn start_instance(&self, instance_uuid: Uuid, options: CallOptions) -> Result<(), RpcError> {
        self.client.call(&self.at(11), "start_instance", &InstanceQuery { instance_uuid }, options).await
    }

    /// Has an instance destroyed.
    pub async fn terminate_instance(
        &self,
        instance_uuid: Uuid,
        options: CallOptions,
    ) -> Result<(), RpcError> {
        self.client.call(&self.at(11), "terminate_instance", &InstanceQuery { instance_uuid }, options).await
    }

    /// The last decisions of a scheduler, newest first.
    pub async fn list_decisions(
        &self,
        args: &DecisionListQuery,
        options: CallOptions,
    ) -> Result<DecisionList, RpcError> {
        self.client.call(&self.at(11), "list_decisions", args, options).await
    }

    /// All compute hosts.
    pub async fn list_hosts(&self, options: CallOptions) -> Result<HostList, RpcError> {
        self.client.call(&self.at(1), "list_hosts", &NoArgs {}, options).await
    }

    /// All compute hosts, with the facts that they reported.
    pub async fn list_hosts_with_facts(&self, options: CallOptions) -> Result<HostList, RpcError> {
        self.client.call(&self.at(8), "list_hosts", &HostListQuery { facts: true }, options).await
    }

    /// The server groups that the policy of a scheduler defines or that have members. If one is named, only this one,
    /// with its members.
    pub async fn list_server_groups(
        &self,
        group: Option<&str>,
        options: CallOptions,
    ) -> Result<Vec<ServerGroupSummary>, RpcError> {
        let query = ServerGroupQuery { group: group.map(str::to_owned) };
        self.client.call(&self.at(8), "list_server_groups", &query, options).await
    }

    /// One host with all that it reported. `None` if the scheduler does not know it.
    pub async fn show_host(&self, host: &str, options: CallOptions) -> Result<Option<HostDetail>, RpcError> {
        self.client.call(&self.at(1), "show_host", &HostQuery { host: host.to_owned() }, options).await
    }

    /// All services that report.
    pub async fn list_services(&self, options: CallOptions) -> Result<Vec<ServiceSummary>, RpcError> {
        self.client.call(&self.at(1), "list_services", &NoArgs {}, options).await
    }

    /// A past decision. `None` if it is no longer remembered.
    pub async fn get_decision(
        &self,
        decision_id: &str,
        options: CallOptions,
    ) -> Result<Option<Decision>, RpcError> {
        let args = DecisionQuery { decision_id: decision_id.to_owned() };
        self.client.call(&self.at(1), "get_decision", &args, options).await
    }

    /// Explains a past decision, or what would be decided. `None` if the decision is no longer remembered.
    pub async fn explain(&self, args: &Explain, options: CallOptions) -> Result<Option<Explained>, RpcError> {
        self.client.call(&self.at(2), "explain", args, options).await
    }

    /// How many more instances fit.
    pub async fn capacity(&self, args: &CapacityQuery, options: CallOptions) -> Result<Capacity, RpcError> {
        self.client.call(&self.at(2), "capacity", args, options).await
    }

    /// The map at one instant, put together from its pages. `options` are for each page.
    pub async fn snapshot(&self, options: CallOptions) -> Result<SnapshotPage, RpcError> {
        let mut query = SnapshotQuery::default();
        let mut whole: SnapshotPage =
            self.client.call(&self.at(5), "snapshot", &query, options.clone()).await?;
        while let Some(cursor) = whole.next.take() {
            let api = self.of(&cursor.scheduler);
            query.cursor = Some(cursor);
            let page: SnapshotPage =
                self.client.call(&api.at(5), "snapshot", &query, options.clone()).await?;
            whole.hosts.extend(page.hosts);
            whole.next = page.next;
        }
        Ok(whole)
    }

    /// Asks for the status of the scheduler.
    pub async fn status(&self, options: CallOptions) -> Result<SchedulerStatus, RpcError> {
        self.client.call(&self.at(1), "status", &NoArgs {}, options).await
    }

    /// Asks a scheduler to ask the agent of a host, which may take `timeout`.
    pub async fn ping_host(
        &self,
        host: &str,
        timeout: Duration,
        options: CallOptions,
    ) -> Result<HostPing, RpcError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let args = PingHost { host: host.to_owned(), timeout_ms };
        self.client.call(&self.at(7), "ping_host", &args, options).await
    }

    /// Makes every scheduler read its policy file again, and returns the outcomes.
    pub async fn reload_policy(&self, options: CallOptions) -> Result<Policies, RpcError> {
        self.client.call(&self.at(4), "reload_policy", &NoArgs {}, options).await
    }

    /// The policy of every scheduler.
    pub async fn get_policies(&self, options: CallOptions) -> Result<Policies, RpcError> {
        self.client.call(&self.at(4), "get_policies", &NoArgs {}, options).await
    }

    /// Asks all schedulers at once for their own policies. Ends when no further answer came for `quiet`.
    pub async fn own_policies(
        &self,
        args: &OwnPolicy,
        options: CallOptions,
        quiet: Duration,
    ) -> Result<Vec<Result<PolicyStatus, RpcError>>, RpcError> {
        self.client.gather(&self.at(4), "own_policy", args, options, quiet).await
    }

    /// Makes every scheduler forget a host, so that whoever reports it next has it.
    pub async fn forget_host(&self, host: &str, options: CallOptions) -> Result<ForgottenHost, RpcError> {
        let args = HostQuery { host: host.to_owned() };
        self.client.call(&self.at(10), "forget_host", &args, options).await
    }

    /// Asks all schedulers at once to forget a host. Ends when no further answer came for `quiet`.
    pub async fn own_forget_host(
        &self,
        host: &str,
        options: CallOptions,
        quiet: Duration,
    ) -> Result<Vec<Result<ForgottenBy, RpcError>>, RpcError> {
        let args = HostQuery { host: host.to_owned() };
        self.client.gather(&self.at(10), "own_forget_host", &args, options, quiet).await
    }

    /// Nova 2012: every service on every host.
    pub async fn get_host_list(&self, options: CallOptions) -> Result<Value, RpcError> {
        self.client.call(&self.at(0), "get_host_list", &NoArgs {}, options).await
    }

    /// Nova 2012: smallest and largest value of each numeric capability.
    pub async fn get_service_capabilities(&self, options: CallOptions) -> Result<Value, RpcError> {
        self.client.call(&self.at(0), "get_service_capabilities", &NoArgs {}, options).await
    }

    /// Nova 2012: totals and usage of one host.
    pub async fn show_host_resources(&self, host: &str, options: CallOptions) -> Result<Value, RpcError> {
        let args = HostQuery { host: host.to_owned() };
        self.client.call(&self.at(0), "show_host_resources", &args, options).await
    }
}

#[derive(Serialize)]
struct NoArgs {}

/// What a scheduler implements. Reports go to [`ReportSink`] instead, in batches.
#[async_trait]
pub trait SchedulerEndpoint: Send + Sync + 'static {
    /// Decides where instances go, and reserves the room for them.
    async fn select_destinations(
        &self,
        context: &RequestContext,
        args: SelectDestinations,
    ) -> Result<Arc<Decision>, CallError>;
    /// Subtracts what another scheduler has reserved.
    async fn reserve(&self, context: &RequestContext, args: Reserve) -> Result<(), CallError>;
    /// Releases reservations, and returns how many.
    async fn release(&self, context: &RequestContext, args: Release) -> Result<u64, CallError>;
    /// Ends holds and claims, here and on hosts.
    async fn release_claims(&self, context: &RequestContext, args: Release) -> Result<Released, CallError>;
    /// Places instances, and has their hosts claim the room and build them.
    async fn create_instance(
        &self,
        context: &RequestContext,
        args: CreateInstance,
    ) -> Result<Arc<Decision>, CallError>;
    /// The instances that hosts have reported.
    async fn list_instances(&self, args: InstanceListQuery) -> Result<InstanceList, CallError>;
    /// The instances with this name or uuid.
    async fn get_instance(&self, args: FindInstance) -> Result<Vec<FoundInstance>, CallError>;
    /// Has the guest of an instance stopped.
    async fn stop_instance(&self, context: &RequestContext, args: InstanceQuery) -> Result<(), CallError>;
    /// Has the guest of an instance started.
    async fn start_instance(&self, context: &RequestContext, args: InstanceQuery) -> Result<(), CallError>;
    /// Has an instance destroyed.
    async fn terminate_instance(
        &self,
        context: &RequestContext,
        args: InstanceQuery,
    ) -> Result<(), CallError>;
    /// The last decisions of this scheduler.
    async fn list_decisions(&self, args: DecisionListQuery) -> Result<DecisionList, CallError>;
    /// All compute hosts.
    async fn list_hosts(&self, args: HostListQuery) -> Result<HostList, CallError>;
    /// The server groups, or the one that is named with its members.
    async fn list_server_groups(&self, args: ServerGroupQuery) -> Result<Vec<ServerGroupSummary>, CallError>;
    /// One host with all that it reported.
    async fn show_host(&self, args: HostQuery) -> Result<Option<HostDetail>, CallError>;
    /// All services that report.
    async fn list_services(&self) -> Result<Vec<ServiceSummary>, CallError>;
    /// A past decision, if it is remembered.
    async fn get_decision(&self, args: DecisionQuery) -> Result<Option<Arc<Decision>>, CallError>;
    /// Explains a past decision, or what would be decided, and what would help.
    async fn explain(&self, args: Explain) -> Result<Option<Explained>, CallError>;
    /// Counts how many more instances fit.
    async fn capacity(&self, args: CapacityQuery) -> Result<Capacity, CallError>;
    /// One page of the map as a document.
    async fn snapshot(&self, args: SnapshotQuery) -> Result<SnapshotPage, CallError>;
    /// The status of this scheduler.
    async fn status(&self) -> Result<SchedulerStatus, CallError>;
    /// Whether the agent of a host answers.
    async fn ping_host(&self, args: PingHost) -> Result<HostPing, CallError>;
    /// Makes all schedulers, including this one, read their policy files again.
    async fn reload_policy(&self) -> Result<Policies, CallError>;
    /// The policies of all schedulers.
    async fn get_policies(&self) -> Result<Policies, CallError>;
    /// This scheduler's own policy.
    async fn own_policy(&self, args: OwnPolicy) -> Result<PolicyStatus, CallError>;
    /// Makes all schedulers, including this one, forget a host.
    async fn forget_host(&self, args: HostQuery) -> Result<ForgottenHost, CallError>;
    /// Makes this scheduler forget a host.
    async fn own_forget_host(&self, args: HostQuery) -> Result<ForgottenBy, CallError>;
    /// Nova 2012: every service on every host.
    async fn get_host_list(&self) -> Result<Value, CallError>;
    /// Nova 2012: smallest and largest value of each numeric capability.
    async fn get_service_capabilities(&self) -> Result<Value, CallError>;
    /// Nova 2012: totals and usage of one host. As there, an unknown host is an error.
    async fn show_host_resources(&self, args: HostQuery) -> Result<Value, CallError>;
}

/// Serves a [`SchedulerEndpoint`].
pub struct SchedulerServer<E>(pub Arc<E>);

serve!(SchedulerServer<SchedulerEndpoint> at Version::new(1, 11), |context, args, endpoint| {
    Place "select_destinations" => *endpoint.select_destinations(context, args.parse()?).await?,
    Peers "reserve" => endpoint.reserve(context, args.parse()?).await?,
    Place "release" => endpoint.release(context, args.parse()?).await?,
    Place "release_claims" => endpoint.release_claims(context, args.parse()?).await?,
    Place "create_instance" => *endpoint.create_instance(context, args.parse()?).await?,
    Read long "list_instances" => endpoint.list_instances(args.parse()?).await?,
    Read long "get_instance" => endpoint.get_instance(args.parse()?).await?,
    Place "stop_instance" => endpoint.stop_instance(context, args.parse()?).await?,
    Place "start_instance" => endpoint.start_instance(context, args.parse()?).await?,
    Place "terminate_instance" => endpoint.terminate_instance(context, args.parse()?).await?,
    Read long "list_decisions" => endpoint.list_decisions(args.parse()?).await?,
    Read long "list_hosts" => endpoint.list_hosts(args.parse()?).await?,
    Read long "list_server_groups" => endpoint.list_server_groups(args.parse()?).await?,
    Read long "show_host" => endpoint.show_host(args.parse()?).await?,
    Read long "list_services" => endpoint.list_services().await?,
    Read long "get_decision" => endpoint.get_decision(args.parse()?).await?.as_deref(),
    Read long "explain" => endpoint.explain(args.parse()?).await?,
    Read long "capacity" => endpoint.capacity(args.parse()?).await?,
    Read long "snapshot" => endpoint.snapshot(args.parse()?).await?,
    Read "status" => endpoint.status().await?,
    Read "ping_host" => endpoint.ping_host(args.parse()?).await?,
    Administer "reload_policy" => endpoint.reload_policy().await?,
    Read "get_policies" => endpoint.get_policies().await?,
    Peers "own_policy" => endpoint.own_policy(args.parse()?).await?,
    Administer "forget_host" => endpoint.forget_host(args.parse()?).await?,
    Peers "own_forget_host" => endpoint.own_forget_host(args.parse()?).await?,
    Read long "get_host_list" => endpoint.get_host_list().await?,
    Read long "get_service_capabilities" => endpoint.get_service_capabilities().await?,
    Read "show_host_resources" => endpoint.show_host_resources(args.parse()?).await?,
});

/// A report, and the broker user who sent it.
#[derive(Debug)]
pub struct ReceivedReport<'a> {
    /// The user for whom the broker vouches. `None` if the message names none.
    pub user: Option<&'a str>,
    /// The report.
    pub report: UpdateServiceCapabilities<'a>,
}

impl<'a> From<UpdateServiceCapabilities<'a>> for ReceivedReport<'a> {
    /// A report of which no user is known.
    fn from(report: UpdateServiceCapabilities<'a>) -> Self {
        Self { user: None, report }
    }
}

/// Takes reports in batches, so that it locks its map once per batch.
pub trait ReportSink: Send + Sync + 'static {
    /// Applies the reports in order.
    fn apply_reports(&self, reports: &[ReceivedReport<'_>]);
    /// Told of a report whose arguments could not be read. `reason` names the value.
    fn bad_report(&self, context: &RequestContext, reason: &CallError);
}

/// Feeds `update_service_capabilities` of one major version to a [`ReportSink`].
pub struct ReportHandler<S> {
    sink: Arc<S>,
    version: Version,
}

impl<S> ReportHandler<S> {
    /// One handler for each major version that reporters use: 1.x as in Folsom, and 2.4 as in Grizzly, where capabilities
    /// are a list. Either form is read at either version.
    pub fn all(sink: &Arc<S>) -> [Self; 2] {
        [Version::new(1, u32::MAX), Version::new(2, 4)].map(|version| Self { sink: sink.clone(), version })
    }
}

impl<S: ReportSink> BatchHandler for ReportHandler<S> {
    fn method(&self) -> &str {
        "update_service_capabilities"
    }

    fn class(&self) -> MethodClass {
        MethodClass::Report
    }

    fn version(&self) -> Version {
        self.version
    }

    fn handle(&self, requests: &[RpcRequest]) {
        let mut reports = Vec::with_capacity(requests.len());
        for request in requests {
            match request.args().parse() {
                Ok(report) => {
                    reports.push(ReceivedReport { user: request.context.user_id.as_deref(), report })
                }
                Err(error) => self.sink.bad_report(&request.context, &error),
            }
        }
        self.sink.apply_reports(&reports);
    }
}
