//! `select_destinations` as Nova's own conductors call it.
//!
//! Such a request is decided, reserved and sent to the peers like novella's own requests. Two things differ. Nova repeats
//! a request when it wants another answer, so what an earlier decision of the same user holds for the same instances is released
//! first. And Nova understands only hosts: if nothing fits, or a report shows the instance elsewhere, the answer is
//! NoValidHost.
//!
//! Before Nova rebuilds an instance with another image, it asks whether the instance's host takes that image. The filters
//! that run on a rebuild decide that. Nothing is held, because the instance already has its room.

use std::sync::Arc;

use async_trait::async_trait;
use novella_filter_scheduler::FilterLimits;
use novella_host_manager::NovaDestination;
use novella_messaging::{CallError, RequestContext};
use novella_objects::document::NetworkMetadata;
use novella_objects::{MAX_INSTANCES, PlacementRequest, Refusal, RequestSpec, SelectDestinations};
use novella_rpcapi::{
    NovaSchedulerEndpoint, NovaSelectDestinations, NovaSelection, NumaTopologyLimits, SchedulerLimits,
    no_valid_host,
};
use uuid::Uuid;

use crate::calls::claims;
use crate::calls::decide::{self, Asker};
use crate::calls::owner::only_of;
use crate::manager::SchedulerManager;

#[async_trait]
impl NovaSchedulerEndpoint for SchedulerManager {
    async fn select_destinations(
        &self,
        context: &RequestContext,
        args: NovaSelectDestinations,
    ) -> Result<Vec<Vec<NovaSelection>>, CallError> {
        let NovaSelectDestinations { spec, mut instance_uuids, instances, alternates } = args;
        let rebuild = is_rebuild(&spec);
        if rebuild {
            // With its own uuid, the instance would be found on its host, and no filter would run.
            instance_uuids.clear();
        }
        // A request for too many instances is refused below; one more than the limit is enough for that.
        let wanted = (instances as usize).min(MAX_INSTANCES + 1);
        while instance_uuids.len() < wanted {
            instance_uuids.push(self.env.random.uuid());
        }
        let attempt = spec.retry.as_ref().map_or(1, |retry| retry.num_attempts);
        let request = SelectDestinations {
            request_spec: PlacementRequest { instance_uuids, spec, attempt },
            alternates: if alternates { None } else { Some(0) },
            dry_run: rebuild,
            ..SelectDestinations::default()
        };
        decide::check(self, &request)?;
        let asker = Asker::of(self, context);
        decide::take(self, &asker, &request)?;
        // The map stays locked until the chosen hosts are described, so that Nova sees them as they were when chosen.
        let (decided, destinations, holds, began) = {
            let (mut guard, now) = self.core();
            let core = &mut *guard;
            if !rebuild {
                let (uuids, by) = (&request.request_spec.instance_uuids, only_of(self, context));
                for reserve in core.hosts.release_instances(uuids, by) {
                    self.tell_peers(reserve);
                }
            }
            let (decided, rows) = decide::decide(self, core, &asker, request, now)?;
            let spec = &decided.request.request().request_spec.spec;
            let destinations = core.hosts.destinations(&mut core.engine, spec, &rows);
            let destinations = destinations.map_err(|failure| self.policy_faults.call_error(&failure))?;
            let holds = decide::holds(core, &decided, now);
            (decided, destinations, holds, now)
        };
        decide::log(self, &decided.decision, began);
        // Nova has no word for a host that could not be told, so that is only logged.
        claims::tell(self, Arc::clone(&decided.decision), holds).await?;
        match &decided.decision.refusal {
            None => {}
            Some(Refusal::NoValidHost { reason, .. } | Refusal::Conflict { reason, .. }) => {
                return Err(no_valid_host(reason));
            }
        }
        let (cell, network) =
            (self.options.nova_cell, decided.request.request().request_spec.spec.network_metadata.as_ref());
        let selection = |host| nova_selection(host, cell, network);
        Ok(destinations.into_iter().map(|hosts| hosts.into_iter().map(selection).collect()).collect())
    }
}

/// Whether this is the question that Nova asks before a rebuild.
fn is_rebuild(spec: &RequestSpec) -> bool {
    spec.scheduler_hints.get("_nova_check_type").is_some_and(|kind| *kind == serde_json::json!(["rebuild"]))
}

/// Nova's limits are whole numbers. Its conversion drops the fraction, and so does this one.
fn whole(limit: f64) -> i64 {
    limit as i64
}

fn nova_selection(
    destination: NovaDestination,
    cell_uuid: Uuid,
    network: Option<&NetworkMetadata>,
) -> NovaSelection {
    let FilterLimits { vcpus, memory_mb, disk_gb, numa_topology } = destination.limits;
    NovaSelection {
        compute_node_uuid: destination.uuid.unwrap_or_default(),
        service_host: destination.host,
        nodename: destination.nodename,
        cell_uuid,
        limits: SchedulerLimits {
            vcpu: vcpus.map(whole),
            memory_mb: memory_mb.map(whole),
            disk_gb: disk_gb.map(whole),
            numa_topology: numa_topology.map(|limits| NumaTopologyLimits {
                cpu_allocation_ratio: limits.cpu_allocation_ratio,
                ram_allocation_ratio: limits.ram_allocation_ratio,
                network_metadata: network.cloned(),
            }),
        },
        availability_zone: destination.availability_zone,
    }
}
