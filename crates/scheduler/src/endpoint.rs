//! The methods of the schedulers' API, each answered by its file in `calls/` or in a line or two here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use novella_host_manager::{
    Amounts, HolderUsage, HostManager, ListingInProgress, RollUpInProgress, ServiceListing,
    ServicesInProgress,
};
use novella_messaging::{CallError, RemoteError, RequestContext};
use novella_objects::{
    Capacity, CapacityQuery, Decision, Explain, Explained, ForgottenBy, ForgottenHost, HostDetail, Policies,
    PolicyStatus, Reserve, SelectDestinations, ServerGroupSummary, ServiceSummary,
};
use novella_rpcapi::{
    CreateInstance, DecisionList, DecisionListQuery, DecisionQuery, FindInstance, FoundInstance,
    HolderStatus, HostList, HostListQuery, HostPing, HostQuery, InstanceList, InstanceListQuery,
    InstanceQuery, OwnPolicy, PingHost, Release, Released, SchedulerEndpoint, SchedulerStatus,
    ServerGroupQuery, SnapshotPage, SnapshotQuery,
};
use serde_json::Value;

use crate::call_errors::internal;
use crate::calls::{capacity, create, explain, forget, instances, ping, place, policy, release, snapshot};
use crate::manager::{SchedulerManager, count_by_state};

#[async_trait]
impl SchedulerEndpoint for SchedulerManager {
    async fn select_destinations(
        &self,
        context: &RequestContext,
        args: SelectDestinations,
    ) -> Result<Arc<Decision>, CallError> {
        place::select_destinations(self, context, args).await
    }

    async fn reserve(&self, _: &RequestContext, args: Reserve) -> Result<(), CallError> {
        if args.scheduler != self.options.name {
            self.with_hosts(|hosts, now| hosts.reserve(&args, now));
        }
        Ok(())
    }

    async fn release(&self, context: &RequestContext, args: Release) -> Result<u64, CallError> {
        release::release(self, context, &args).await
    }

    async fn release_claims(&self, context: &RequestContext, args: Release) -> Result<Released, CallError> {
        release::release_claims(self, context, &args).await
    }

    async fn create_instance(
        &self,
        context: &RequestContext,
        args: CreateInstance,
    ) -> Result<Arc<Decision>, CallError> {
        create::create_instance(self, context, args).await
    }

    async fn list_instances(&self, args: InstanceListQuery) -> Result<InstanceList, CallError> {
        Ok(instances::list(self, args))
    }

    async fn get_instance(&self, args: FindInstance) -> Result<Vec<FoundInstance>, CallError> {
        instances::get(self, args).await
    }

    async fn stop_instance(&self, context: &RequestContext, args: InstanceQuery) -> Result<(), CallError> {
        instances::stop(self, context, args.instance_uuid).await
    }

    async fn start_instance(&self, context: &RequestContext, args: InstanceQuery) -> Result<(), CallError> {
        instances::start(self, context, args.instance_uuid).await
    }

    async fn terminate_instance(
        &self,
        context: &RequestContext,
        args: InstanceQuery,
    ) -> Result<(), CallError> {
        instances::terminate(self, context, args.instance_uuid).await
    }

    async fn list_decisions(&self, args: DecisionListQuery) -> Result<DecisionList, CallError> {
        Ok(instances::decisions(self, args))
    }

    async fn list_hosts(&self, args: HostListQuery) -> Result<HostList, CallError> {
        // The rows are copied in steps while the map is locked and written out afterwards, so that listing ten thousand hosts
        // does not delay placements.
        let listing = self.ask_in_steps(
            ListingInProgress::new(args.facts),
            |hosts, listing, _| hosts.list_some(listing),
            |core, listing, now| core.hosts.finish_list(listing, now),
        );
        let mut hosts = listing.summaries();
        let clocks = self.host_clocks.offsets();
        if !clocks.is_empty() {
            hosts.iter_mut().for_each(|host| host.clock_offset_s = clocks.get(&host.host).copied());
        }
        Ok(HostList { scheduler: self.options.name.clone(), hosts })
    }

    async fn list_server_groups(&self, args: ServerGroupQuery) -> Result<Vec<ServerGroupSummary>, CallError> {
        let hosts = &self.ask().0.hosts;
        Ok(match &args.group {
            Some(name) => hosts.server_group(name).into_iter().collect(),
            None => hosts.server_groups(),
        })
    }

    async fn show_host(&self, args: HostQuery) -> Result<Option<HostDetail>, CallError> {
        let mut detail = {
            let (core, now) = self.ask();
            core.hosts.detail(&args.host, now)
        };
        if let Some(detail) = &mut detail {
            detail.summary.clock_offset_s = self.host_clocks.offsets().remove(&args.host);
        }
        Ok(detail)
    }

    async fn list_services(&self) -> Result<Vec<ServiceSummary>, CallError> {
        Ok(self.service_listing().services())
    }

    async fn get_decision(&self, args: DecisionQuery) -> Result<Option<Arc<Decision>>, CallError> {
        let (core, _) = self.ask();
        Ok(core.decisions.get(&args.decision_id).map(|decided| Arc::clone(&decided.decision)))
    }

    async fn explain(&self, args: Explain) -> Result<Option<Explained>, CallError> {
        explain::explain(self, args).await
    }

    async fn capacity(&self, args: CapacityQuery) -> Result<Capacity, CallError> {
        capacity::capacity(self, args).await
    }

    async fn snapshot(&self, args: SnapshotQuery) -> Result<SnapshotPage, CallError> {
        snapshot::snapshot(self, args.cursor)
    }

    async fn status(&self) -> Result<SchedulerStatus, CallError> {
        let (hosts, reservations, reports, policy_hash) = self.with_hosts(|hosts, _| {
            let (reservations, accepted) = (hosts.reservations() as u64, hosts.counters().accepted);
            (count_by_state(hosts), reservations, accepted, hosts.policy_hash().to_owned())
        });
        let ready = self.health.ready();
        Ok(SchedulerStatus {
            scheduler: self.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.env.clock.now().saturating_sub(self.started).as_secs_f64(),
            ready: ready.ok,
            waiting_for: (!ready.ok).then(|| ready.summary()),
            hosts,
            reports,
            decisions: self.requests.decisions.load(Ordering::Relaxed),
            refusals: self.requests.refusals.load(Ordering::Relaxed),
            reservations,
            policy_hash,
            policy_refused: self.policy.refused(),
            largest_holders: self.quotas.largest().into_iter().flatten().map(holder_status).collect(),
        })
    }

    async fn ping_host(&self, args: PingHost) -> Result<HostPing, CallError> {
        ping::ping_host(self, args).await
    }

    async fn reload_policy(&self) -> Result<Policies, CallError> {
        policy::all_policies(self, true).await
    }

    async fn get_policies(&self) -> Result<Policies, CallError> {
        policy::all_policies(self, false).await
    }

    async fn own_policy(&self, args: OwnPolicy) -> Result<PolicyStatus, CallError> {
        Ok(policy::own_policy(self, &args).await)
    }

    async fn forget_host(&self, args: HostQuery) -> Result<ForgottenHost, CallError> {
        forget::everywhere(self, &args).await
    }

    async fn own_forget_host(&self, args: HostQuery) -> Result<ForgottenBy, CallError> {
        Ok(forget::own(self, &args))
    }

    async fn get_host_list(&self) -> Result<Value, CallError> {
        serde_json::to_value(self.service_listing().host_list()).map_err(internal)
    }

    async fn get_service_capabilities(&self) -> Result<Value, CallError> {
        let capabilities = self.ask_in_steps(
            RollUpInProgress::default(),
            HostManager::roll_up_some,
            |core, rolling, now| core.hosts.finish_roll_up(rolling, now),
        );
        serde_json::to_value(capabilities).map_err(internal)
    }

    async fn show_host_resources(&self, args: HostQuery) -> Result<Value, CallError> {
        self.with_hosts(|hosts, _| hosts.show_host_resources(&args.host)).ok_or_else(|| {
            // Nova's own manager raised this class. Callers check for it by name.
            CallError::Failed(Box::new(RemoteError {
                class: "ComputeHostNotFound".into(),
                module: "nova.exception".into(),
                message: format!("Compute host {} could not be found.", args.host),
                traceback: Vec::new(),
                args: Vec::new(),
                kwargs: serde_json::Map::from_iter([("host".to_owned(), args.host.clone().into())]),
            }))
        })
    }
}

fn holder_status(usage: HolderUsage) -> HolderStatus {
    let HolderUsage { kind, holder, held: Amounts { instances, vcpus, memory_mb, disk_gb } } = usage;
    HolderStatus { of: kind.as_str().to_owned(), holder, instances, vcpus, memory_mb, disk_gb }
}

impl SchedulerManager {
    fn service_listing(&self) -> ServiceListing {
        self.ask_in_steps(
            ServicesInProgress::default(),
            |hosts, listing, _| hosts.services_some(listing),
            |core, listing, now| core.hosts.finish_services(listing, now),
        )
    }
}
