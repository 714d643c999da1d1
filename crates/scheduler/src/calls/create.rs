//! `create_instance`: places instances as a request for claims does, and has their hosts build them.
//!
//! What always holds: the caller hears of an instance only after its host has written the claim and the build to its disk. The
//! build itself follows, and the host reports how it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use novella_host_manager::COMPUTE;
use novella_messaging::{CallError, RequestContext};
use novella_objects::{BuildRequest, Decision, SelectDestinations};
use novella_rpcapi::CreateInstance;
use uuid::Uuid;

use crate::call_errors::bad_arguments;
use crate::calls::claims;
use crate::calls::decide::{self, Asker};
use crate::manager::SchedulerManager;

/// Answers the call.
pub(crate) async fn create_instance(
    manager: &SchedulerManager,
    context: &RequestContext,
    args: CreateInstance,
) -> Result<Arc<Decision>, CallError> {
    let request = SelectDestinations { claim: true, ..args.request };
    decide::check(manager, &request)?;
    let builds = builds(&request, args.builds)?;
    decide::take(manager, &Asker::of(manager, context), &request)?;
    claims::claim(manager, context, request, builds).await
}

/// What is built for each instance of a request.
fn builds(
    request: &SelectDestinations,
    builds: Vec<BuildRequest>,
) -> Result<BTreeMap<Uuid, BuildRequest>, CallError> {
    if request.service.as_ref().is_some_and(|service| service != COMPUTE) {
        return Err(bad_arguments("instances are built by compute hosts only; leave out service"));
    }
    let uuids = &request.request_spec.instance_uuids;
    if builds.len() != uuids.len() {
        let (builds, instances) = (builds.len(), uuids.len());
        return Err(bad_arguments(format!(
            "{builds} builds for {instances} instances; give each instance one"
        )));
    }
    builds.iter().try_for_each(BuildRequest::check).map_err(bad_arguments)?;
    Ok(uuids.iter().copied().zip(builds).collect())
}
