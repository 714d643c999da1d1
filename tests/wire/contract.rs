//! What a message means: the method of which API it calls or answers, and the types that its parts are read into.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use novella_messaging::{RemoteError, read_answer, read_request};
use novella_objects::{
    Capacity, CapacityQuery, ClaimAnswer, ClaimRequest, Decision, Explain, Explained, ForgottenBy,
    ForgottenHost, HostDetail, InstanceEvent, Policies, PolicyStatus, Reserve, SelectDestinations,
    ServerGroupSummary, ServiceSummary, TerminateInstance, Terminated, UpdateServiceCapabilities,
};
use novella_rpcapi::{
    AgentStatus, COMPUTE_TOPIC, CreateInstance, DecisionList, DecisionListQuery, DecisionQuery, FindInstance,
    FoundInstance, GetHostStats, HostList, HostListQuery, HostPing, HostQuery, InstanceList,
    InstanceListQuery, InstanceQuery, NovaSelection, NumaTopologyLimits, OwnPolicy, PingHost, Pong,
    PublishServiceCapabilities, Release, Released, SchedulerLimits, SchedulerStatus, ServerGroupQuery,
    SnapshotPage, SnapshotQuery,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use syn::visit::{self, Visit};

use crate::message::{Kind, Message};

/// Methods that nobody waits for.
pub const CASTS: &[&str] = &[
    "NovaSchedulerServer.delete_aggregate",
    "NovaSchedulerServer.delete_instance_info",
    "NovaSchedulerServer.sync_instance_info",
    "NovaSchedulerServer.update_aggregates",
    "NovaSchedulerServer.update_instance_info",
    "ReportHandler.update_service_capabilities",
    "SchedulerServer.reserve",
];

/// An API, by the type in rpcapi that serves it, and a method of it.
pub type Method = (String, String);

/// Every method that rpcapi serves, from its source: what `serve!` lists for a type, or the type itself if it implements
/// `Endpoint` or `BatchHandler`.
pub fn declared() -> BTreeSet<Method> {
    #[derive(Default)]
    struct Found {
        server: String,
        listing: bool,
        methods: BTreeSet<Method>,
    }
    impl<'ast> Visit<'ast> for Found {
        fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
            let of_trait = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
            let serves =
                of_trait.is_some_and(|name| name.ident == "Endpoint" || name.ident == "BatchHandler");
            if let syn::Type::Path(of) = &*item.self_ty
                && let Some(server) = of.path.segments.last()
                && serves
            {
                self.server = server.ident.to_string();
                visit::visit_item_impl(self, item);
            }
        }
        fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
            if !item.mac.path.is_ident("serve") {
                return;
            }
            // `Server<Endpoint> at VERSION, |...| { "method" => ..., ... }`
            let text = item.mac.tokens.to_string();
            let server = text.split('<').next().unwrap_or_default().trim();
            let arms = text.split("=>").filter_map(|before| before.trim_end().strip_suffix('"'));
            let methods = arms.filter_map(|before| before.rsplit('"').next());
            self.methods.extend(methods.map(|method| (server.to_owned(), method.to_owned())));
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.listing = item.sig.ident == "methods" || item.sig.ident == "method";
            visit::visit_impl_item_fn(self, item);
            self.listing = false;
        }
        fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
            if self.listing {
                self.methods.insert((self.server.clone(), literal.value()));
            }
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/rpcapi/src");
    let mut found = Found::default();
    for file in fs::read_dir(source).expect("rpcapi is beside the tests") {
        let path = file.expect("it can be listed").path();
        let text = fs::read_to_string(&path).expect("its files are sources, in one directory");
        found.visit_file(&syn::parse_file(&text).expect("it compiles"));
    }
    found.methods
}

/// The calls of one file so far, which its answers are read by.
#[derive(Default)]
pub struct Contract {
    calls: BTreeMap<String, Method>,
}

impl Contract {
    /// The method that a message calls or answers; none for an answer to a call that is not in the file.
    pub fn method(&mut self, message: &Message) -> Option<Method> {
        let inner = message.inner();
        let msg_id = inner.get("_msg_id").and_then(Value::as_str);
        let Some(method) = inner.get("method").and_then(Value::as_str) else {
            return self.calls.get(msg_id?).cloned();
        };
        let topic = message.key.split('.').next().filter(|topic| !topic.is_empty());
        let topic = topic.or_else(|| message.exchange.strip_suffix("_fanout"));
        let api = if inner.get("namespace").is_some_and(|namespace| namespace == "baseapi") {
            "BaseApi"
        } else if method == "update_service_capabilities" {
            "ReportHandler"
        } else if inner["version"].as_str().is_some_and(|version| version.starts_with("4.")) {
            "NovaSchedulerServer"
        } else if topic == Some(COMPUTE_TOPIC) {
            "ComputeServer"
        } else {
            "SchedulerServer"
        };
        let method = (api.to_owned(), method.to_owned());
        if let Some(msg_id) = msg_id {
            self.calls.insert(msg_id.to_owned(), method.clone());
        }
        Some(method)
    }

    /// Reads a message as today's code does and writes it again. What a call asks that was `refused` may be anything.
    pub fn check(&mut self, message: &Message, refused: bool) -> Result<(), String> {
        let method = self.method(message).ok_or("it answers no call of its file")?;
        let (api, method) = (method.0.as_str(), method.1.as_str());
        let (inner, body) = (message.inner(), message.bytes());
        match message.kind {
            Kind::Call | Kind::Cast => {
                let request = read_request(&body).ok_or("it is no request")?;
                let head = serde_json::json!({
                    "method": request.method, "version": request.version.to_string(),
                    "namespace": request.namespace, "unique_id": request.context.unique_id,
                });
                let wanted = serde_json::json!({
                    "method": inner["method"], "version": inner["version"], "namespace": inner["namespace"],
                    "unique_id": inner["_unique_id"],
                });
                same(&head, &wanted)?;
                let args: Box<RawValue> = request.args().parse().map_err(|error| format!("{error:?}"))?;
                match arguments(api, method, args.get()) {
                    Err(_) if refused => Ok(()),
                    args => same(&args?, &inner["args"]),
                }
            }
            Kind::Answer => {
                let result =
                    read_answer(&body).ok_or("it is no answer")?.map_err(|error| error.to_string())?;
                let result = result.unwrap_or_else(|| RawValue::NULL.to_owned());
                same(&answer(api, method, result.get())?, &inner["result"])
            }
            Kind::Failure => {
                let Some(Err(failure)) = read_answer(&body) else {
                    return Err("it is no failure".to_owned());
                };
                let RemoteError { class, module, message, traceback, args, kwargs } = *failure;
                let text = inner["failure"].as_str().ok_or("a failure is a text")?;
                let wanted: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
                let read = serde_json::json!({
                    "class": class, "module": module, "message": message, "tb": traceback, "args": args,
                    "kwargs": kwargs,
                });
                same(&read, &wanted)
            }
            Kind::Heartbeat => match read_answer(&body) {
                Some(Ok(None)) => Ok(()),
                other => Err(format!("it is read as {other:?}")),
            },
        }
    }
}

fn same(written: &Value, kept: &Value) -> Result<(), String> {
    difference("", written, kept).map_or(Ok(()), Err)
}

/// The first place where two values differ.
fn difference(place: &str, written: &Value, kept: &Value) -> Option<String> {
    match (written, kept) {
        (Value::Object(new), Value::Object(old)) => {
            let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
            keys.into_iter().find_map(|key| match (new.get(key), old.get(key)) {
                (Some(new), Some(old)) => difference(&format!("{place}/{key}"), new, old),
                (Some(new), None) => Some(format!("{place}/{key} was absent and is written as {new}")),
                (None, old) => Some(format!("{place}/{key} was {} and is lost", old.unwrap_or(&Value::Null))),
            })
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            let mut pairs = new.iter().zip(old).enumerate();
            pairs.find_map(|(at, (new, old))| difference(&format!("{place}/{at}"), new, old))
        }
        _ if written == kept => None,
        _ => Some(format!("{place} was {kept} and is written as {written}")),
    }
}

/// A value of a type, from its text and back.
fn again<'a, T: Deserialize<'a> + Serialize>(text: &'a str) -> Result<Value, String> {
    let value: T = serde_json::from_str(text).map_err(|error| error.to_string())?;
    serde_json::to_value(&value).map_err(|error| error.to_string())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn arguments(api: &str, method: &str, text: &str) -> Result<Value, String> {
    match (api, method) {
        ("BaseApi", "ping") => again::<Map<String, Value>>(text),
        ("ComputeServer", "get_host_stats") => again::<GetHostStats>(text),
        ("ComputeServer", "publish_service_capabilities") => again::<PublishServiceCapabilities>(text),
        ("ComputeServer", "ping") => again::<Nothing>(text),
        ("ComputeServer", "claim" | "hold" | "build_and_run_instance") => again::<ClaimRequest>(text),
        ("ComputeServer", "terminate_instance") => again::<TerminateInstance>(text),
        ("ComputeServer", "stop_instance" | "start_instance" | "instance_events") => {
            again::<InstanceQuery>(text)
        }
        ("ReportHandler", "update_service_capabilities") => again::<UpdateServiceCapabilities<'_>>(text),
        ("SchedulerServer", "select_destinations") => again::<SelectDestinations>(text),
        ("SchedulerServer", "reserve") => again::<Reserve>(text),
        ("SchedulerServer", "release" | "release_claims") => again::<Release>(text),
        ("SchedulerServer", "create_instance") => again::<CreateInstance>(text),
        ("SchedulerServer", "list_instances") => again::<InstanceListQuery>(text),
        ("SchedulerServer", "get_instance") => again::<FindInstance>(text),
        ("SchedulerServer", "stop_instance" | "start_instance" | "terminate_instance") => {
            again::<InstanceQuery>(text)
        }
        ("SchedulerServer", "list_decisions") => again::<DecisionListQuery>(text),
        ("SchedulerServer", "show_host" | "show_host_resources" | "forget_host" | "own_forget_host") => {
            again::<HostQuery>(text)
        }
        ("SchedulerServer", "get_decision") => again::<DecisionQuery>(text),
        ("SchedulerServer", "explain") => again::<Explain>(text),
        ("SchedulerServer", "capacity") => again::<CapacityQuery>(text),
        ("SchedulerServer", "snapshot") => again::<SnapshotQuery>(text),
        ("SchedulerServer", "own_policy") => again::<OwnPolicy>(text),
        ("SchedulerServer", "ping_host") => again::<PingHost>(text),
        ("SchedulerServer", "list_hosts") => again::<HostListQuery>(text),
        ("SchedulerServer", "list_server_groups") => again::<ServerGroupQuery>(text),
        ("SchedulerServer", _) => again::<Nothing>(text),
        // Nova writes it, and we only read it.
        ("NovaSchedulerServer", "select_destinations") => {
            let args: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            novella_nova_objects::request_spec(&args["spec_obj"]).map_err(|error| error.to_string())?;
            Ok(Value::Object(args))
        }
        ("NovaSchedulerServer", _) => again::<Map<String, Value>>(text),
        _ => Err("tests/wire/contract.rs does not know this method".to_owned()),
    }
}

fn answer(api: &str, method: &str, text: &str) -> Result<Value, String> {
    match (api, method) {
        ("BaseApi", "ping") => again::<Pong>(text),
        ("ComputeServer", "get_host_stats") => again::<novella_objects::Capabilities<'_>>(text),
        ("ComputeServer", "publish_service_capabilities") => again::<()>(text),
        ("ComputeServer", "ping") => again::<AgentStatus>(text),
        ("ComputeServer", "claim" | "hold" | "build_and_run_instance") => again::<Vec<ClaimAnswer>>(text),
        ("ComputeServer", "terminate_instance") => again::<Vec<Terminated>>(text),
        ("ComputeServer", "stop_instance" | "start_instance") => again::<()>(text),
        ("ComputeServer", "instance_events") => again::<Vec<InstanceEvent>>(text),
        ("SchedulerServer", "select_destinations" | "create_instance") => again::<Decision>(text),
        ("SchedulerServer", "release") => again::<u64>(text),
        ("SchedulerServer", "release_claims") => again::<Released>(text),
        ("SchedulerServer", "list_instances") => again::<InstanceList>(text),
        ("SchedulerServer", "get_instance") => again::<Vec<FoundInstance>>(text),
        ("SchedulerServer", "stop_instance" | "start_instance" | "terminate_instance") => again::<()>(text),
        ("SchedulerServer", "list_decisions") => again::<DecisionList>(text),
        ("SchedulerServer", "ping_host") => again::<HostPing>(text),
        ("SchedulerServer", "list_hosts") => again::<HostList>(text),
        ("SchedulerServer", "list_server_groups") => again::<Vec<ServerGroupSummary>>(text),
        ("SchedulerServer", "show_host") => again::<Option<HostDetail>>(text),
        ("SchedulerServer", "list_services") => again::<Vec<ServiceSummary>>(text),
        ("SchedulerServer", "get_decision") => again::<Option<Decision>>(text),
        ("SchedulerServer", "explain") => again::<Option<Explained>>(text),
        ("SchedulerServer", "capacity") => again::<Capacity>(text),
        ("SchedulerServer", "snapshot") => snapshot(text),
        ("SchedulerServer", "status") => again::<SchedulerStatus>(text),
        ("SchedulerServer", "reload_policy" | "get_policies") => again::<Policies>(text),
        ("SchedulerServer", "own_policy") => again::<PolicyStatus>(text),
        ("SchedulerServer", "forget_host") => again::<ForgottenHost>(text),
        ("SchedulerServer", "own_forget_host") => again::<ForgottenBy>(text),
        // As in 2012, without a form of its own.
        ("SchedulerServer", "get_host_list" | "get_service_capabilities" | "show_host_resources") => {
            again::<Value>(text)
        }
        ("NovaSchedulerServer", "select_destinations") => {
            let rows: Vec<Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            rows.iter().map(row).collect::<Option<Value>>().ok_or_else(|| "no Selection".to_owned())
        }
        _ => Err("tests/wire/contract.rs does not know the answer of this method".to_owned()),
    }
}

/// A page, and in it the parts of the document that [`SnapshotPage`] has as text.
fn snapshot(text: &str) -> Result<Value, String> {
    let page: SnapshotPage = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(head) = &page.head {
        serde_json::from_str::<novella_objects::document::Fleet<'_>>(head.get())
            .map_err(|error| error.to_string())?;
    }
    for host in &page.hosts {
        let written = again::<novella_objects::document::Host<'_>>(host.get())?;
        same(&written, &serde_json::from_str(host.get()).map_err(|error| error.to_string())?)?;
    }
    serde_json::to_value(&page).map_err(|error| error.to_string())
}

/// The selections of one instance, in either of the forms that Nova's callers take.
fn row(row: &Value) -> Option<Value> {
    match row {
        Value::Array(selections) => {
            selections.iter().map(|one| Some(selection(one)?.to_primitive())).collect()
        }
        dict => {
            let text = |key: &str| dict[key].as_str().map(str::to_owned);
            let selection = NovaSelection {
                compute_node_uuid: uuid::Uuid::nil(),
                service_host: text("host")?,
                nodename: text("nodename")?,
                cell_uuid: uuid::Uuid::nil(),
                limits: limits(&dict["limits"]),
                availability_zone: String::new(),
            };
            Some(selection.to_dict())
        }
    }
}

fn selection(primitive: &Value) -> Option<NovaSelection> {
    let data = &primitive["nova_object.data"];
    let text = |key: &str| data[key].as_str().map(str::to_owned);
    Some(NovaSelection {
        compute_node_uuid: text("compute_node_uuid")?.parse().ok()?,
        service_host: text("service_host")?,
        nodename: text("nodename")?,
        cell_uuid: text("cell_uuid")?.parse().ok()?,
        limits: limits(&data["limits"]["nova_object.data"]),
        availability_zone: text("availability_zone")?,
    })
}

fn limits(data: &Value) -> SchedulerLimits {
    let cells = &data["numa_topology"]["nova_object.data"];
    let network = &cells["network_metadata"]["nova_object.data"];
    let network_metadata =
        network.is_object().then(|| serde_json::from_value(network.clone()).expect("networks"));
    SchedulerLimits {
        vcpu: data["vcpu"].as_i64(),
        memory_mb: data["memory_mb"].as_i64(),
        disk_gb: data["disk_gb"].as_i64(),
        numa_topology: cells.is_object().then(|| NumaTopologyLimits {
            cpu_allocation_ratio: cells["cpu_allocation_ratio"].as_f64().expect("a ratio"),
            ram_allocation_ratio: cells["ram_allocation_ratio"].as_f64().expect("a ratio"),
            network_metadata,
        }),
    }
}
