//! Nova's own scheduler API, as the conductors of Nova 34 call it. It shares the topic `scheduler` with novella's methods.
//!
//! | version | method | how |
//! |---|---|---|
//! | 4.3 | `select_destinations(spec_obj)` → `[{host, nodename, limits}]` | call |
//! | 4.4 | `select_destinations(spec_obj, instance_uuids)` → the same | call |
//! | 4.5 | `select_destinations(..., return_objects, return_alternates)` → `[[Selection]]` | call |
//! | 4.1, 4.2 | `update_aggregates`, `delete_aggregate`, `update_instance_info`, `delete_instance_info`, `sync_instance_info` | fanout cast |
//!
//! With `return_objects` the answer has a list for each instance: its host first, then alternates if they are wanted. The
//! casts are taken and ignored, because the scheduler learns the same from the hosts' reports. The form of before 4.3
//! (`request_spec`, `filter_properties`) is refused as wrong arguments.

use std::sync::Arc;

use async_trait::async_trait;
use novella_messaging::{
    CallError, Endpoint, Method, MethodClass, RemoteError, RequestContext, RpcRequest, Version, answer,
};
use novella_nova_objects::{NovaRequestSpec, NovaSelection, ObjectError, request_spec};
use novella_objects::RequestSpec;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Module of the exceptions that Nova's objects raise.
const OBJECT_EXCEPTIONS: &str = "oslo_versionedobjects.exception";
/// Module of Nova's own exceptions. Callers in Nova re-raise only errors of this module as they are.
const NOVA_EXCEPTIONS: &str = "nova.exception";
/// Module of Python's own exceptions.
const BUILTINS: &str = "builtins";
/// How Nova's message of `NoValidHost` begins.
const NO_VALID_HOST: &str = "No valid host was found. ";

/// Nova's request in novella's types.
#[derive(Debug, Clone, PartialEq)]
pub struct NovaSelectDestinations {
    /// The request. It holds no instance uuids.
    pub spec: RequestSpec,
    /// The uuids of the instances that Nova names.
    pub instance_uuids: Vec<Uuid>,
    /// How many instances are to be placed. Old conductors name fewer than that.
    pub instances: u32,
    /// Whether the answer has alternates too.
    pub alternates: bool,
}

/// What a scheduler implements to serve Nova.
#[async_trait]
pub trait NovaSchedulerEndpoint: Send + Sync + 'static {
    /// Returns a list for each instance: its host first, then its alternates.
    async fn select_destinations(
        &self,
        context: &RequestContext,
        args: NovaSelectDestinations,
    ) -> Result<Vec<Vec<NovaSelection>>, CallError>;
}

/// Serves a [`NovaSchedulerEndpoint`].
pub struct NovaSchedulerServer<E>(pub Arc<E>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectDestinationsArgs {
    spec_obj: Value,
    #[serde(default)]
    instance_uuids: Option<Vec<Uuid>>,
    #[serde(default)]
    return_objects: bool,
    #[serde(default)]
    return_alternates: bool,
}

/// The exception that Nova's callers expect when no host fits. `message` is the whole sentence.
pub fn no_valid_host(message: &str) -> CallError {
    let reason = message.strip_prefix(NO_VALID_HOST).unwrap_or(message);
    let mut error = RemoteError::new(NOVA_EXCEPTIONS, "NoValidHost", format!("{NO_VALID_HOST}{reason}"));
    error.kwargs = Map::from_iter([("reason".to_owned(), reason.into()), ("code".to_owned(), 500.into())]);
    error.into()
}

/// The exception that Nova's own server raises for an object that it cannot read.
fn unreadable(error: &ObjectError) -> CallError {
    let message = error.to_string();
    let remote = |module: &str, class: &str| RemoteError::new(module, class, message.clone());
    match error {
        ObjectError::IncompatibleVersion { name, version, supported } => {
            let mut remote = remote(OBJECT_EXCEPTIONS, "IncompatibleObjectVersion");
            let kwargs = [("objname", name), ("objver", version), ("supported", supported)];
            remote.kwargs =
                kwargs.into_iter().map(|(key, text)| (key.to_owned(), text.as_str().into())).collect();
            remote.into()
        }
        ObjectError::Unsupported(objtype) => {
            let mut remote = remote(OBJECT_EXCEPTIONS, "UnsupportedObjectError");
            remote.kwargs = Map::from_iter([("objtype".to_owned(), objtype.as_str().into())]);
            remote.into()
        }
        ObjectError::NoKey { .. } => remote(BUILTINS, "KeyError").into(),
        ObjectError::Unset { .. } => remote(BUILTINS, "NotImplementedError").into(),
        ObjectError::BadValue { .. } => remote(BUILTINS, "ValueError").into(),
        ObjectError::NotServed { .. } => no_valid_host(&message),
    }
}

impl<E: NovaSchedulerEndpoint> NovaSchedulerServer<E> {
    async fn select_destinations(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        let SelectDestinationsArgs { spec_obj, instance_uuids, return_objects, return_alternates } =
            request.args().parse()?;
        let NovaRequestSpec { spec, instance_uuid, num_instances } =
            request_spec(&spec_obj).map_err(|error| unreadable(&error))?;
        let named = instance_uuids.filter(|uuids| !uuids.is_empty());
        let instances =
            named.as_ref().map_or(num_instances, |uuids| u32::try_from(uuids.len()).unwrap_or(u32::MAX));
        let args = NovaSelectDestinations {
            spec,
            instance_uuids: named.unwrap_or_else(|| instance_uuid.into_iter().collect()),
            instances,
            alternates: return_objects && return_alternates,
        };
        let selected = self.0.select_destinations(&request.context, args).await?;
        if return_objects {
            let row =
                |row: &Vec<NovaSelection>| row.iter().map(NovaSelection::to_primitive).collect::<Vec<_>>();
            answer(&selected.iter().map(row).collect::<Vec<_>>())
        } else {
            let hosts = selected.iter().filter_map(|row| row.first()).map(NovaSelection::to_dict);
            answer(&hosts.collect::<Vec<_>>())
        }
    }
}

#[async_trait]
impl<E: NovaSchedulerEndpoint> Endpoint for NovaSchedulerServer<E> {
    fn version(&self) -> Version {
        Version::new(4, 5)
    }

    fn methods(&self) -> &[Method] {
        &[
            Method { name: "select_destinations", class: MethodClass::Place, long: false },
            Method { name: "update_aggregates", class: MethodClass::Report, long: false },
            Method { name: "delete_aggregate", class: MethodClass::Report, long: false },
            Method { name: "update_instance_info", class: MethodClass::Report, long: false },
            Method { name: "delete_instance_info", class: MethodClass::Report, long: false },
            Method { name: "sync_instance_info", class: MethodClass::Report, long: false },
        ]
    }

    async fn dispatch(&self, request: &RpcRequest) -> Result<Box<RawValue>, CallError> {
        match request.method.as_str() {
            "select_destinations" => self.select_destinations(request).await,
            _ => answer(&()),
        }
    }
}
