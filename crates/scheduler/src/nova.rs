//! Placements that Nova's own conductors ask for.
//!
//! They are decided, reserved and told to the peers as our own are. Two things differ. Nova asks again when it wants
//! another answer, so that what an earlier decision holds for the same instances is let go first. And Nova takes
//! nothing from a decision but the hosts: that nothing fits, or that a report shows the instance elsewhere, is its
//! exception NoValidHost.
//!
//! Before it rebuilds an instance with another image, Nova asks whether its host takes it. That is decided by the filters
//! that run on a rebuild, and holds nothing: the instance has its place.

use async_trait::async_trait;
use novella_filter_scheduler::PickLimits;
use novella_host_manager::Destination;
use novella_messaging::{CallError, RequestContext};
use novella_objects::document::NetworkMetadata;
use novella_objects::{Refusal, RequestSpec, SelectDestinations};
use novella_rpcapi::{
    NovaSchedulerEndpoint, NovaSelectDestinations, NovaSelection, NumaTopologyLimits, SchedulerLimits,
    no_valid_host,
};
use uuid::Uuid;

use crate::manager::{MAX_INSTANCES, SchedulerManager};

#[async_trait]
impl NovaSchedulerEndpoint for SchedulerManager {
    async fn select_destinations(
        &self,
        _: &RequestContext,
        args: NovaSelectDestinations,
    ) -> Result<Vec<Vec<NovaSelection>>, CallError> {
        let NovaSelectDestinations { mut spec, mut instance_uuids, instances, alternates } = args;
        // What is asked beyond the limit is refused when it is decided; one more than it is enough for that.
        let wanted = (instances as usize).min(MAX_INSTANCES + 1);
        let rebuild = is_rebuild(&spec);
        if rebuild {
            // Under their own names they would be found where they are, and no filter asked.
            instance_uuids.clear();
        }
        while instance_uuids.len() < wanted {
            instance_uuids.push(self.env.random.uuid());
        }
        spec.instance_uuids = instance_uuids;
        let request = SelectDestinations {
            request_spec: spec,
            alternates: if alternates { None } else { Some(0) },
            dry_run: rebuild,
            ..SelectDestinations::default()
        };
        self.check(&request)?;
        // Nova is told of the hosts as the decision found them, so the map is held until they are described.
        let (decision, destinations, network, began) = {
            let (mut guard, now) = self.core();
            let core = &mut *guard;
            let spec = request.request_spec.clone();
            if !rebuild {
                for told in core.hosts.release_instances(&spec.instance_uuids) {
                    self.tell(told);
                }
            }
            let decision = self.decide(core, request, now)?;
            let destinations = core.hosts.destinations(&mut core.engine, &spec, &decision.selections);
            let destinations = destinations.map_err(|failure| self.policy_faults.call_error(&failure))?;
            (decision, destinations, spec.network_metadata, now)
        };
        self.decided(&decision, began);
        match &decision.refusal {
            None => {}
            Some(Refusal::NoValidHost { reason, .. } | Refusal::Conflict { reason, .. }) => {
                return Err(no_valid_host(reason));
            }
        }
        let cell = self.options.nova_cell;
        let selection = |host| nova_selection(host, cell, network.as_ref());
        Ok(destinations.into_iter().map(|hosts| hosts.into_iter().map(selection).collect()).collect())
    }
}

/// Whether this is Nova's question before a rebuild.
fn is_rebuild(spec: &RequestSpec) -> bool {
    spec.scheduler_hints.get("_nova_check_type").is_some_and(|kind| *kind == serde_json::json!(["rebuild"]))
}

/// Whole numbers, as Nova's limits are; its conversion cuts off.
fn whole(limit: f64) -> i64 {
    limit as i64
}

fn nova_selection(
    destination: Destination,
    cell_uuid: Uuid,
    network: Option<&NetworkMetadata>,
) -> NovaSelection {
    let PickLimits { vcpus, memory_mb, disk_gb, numa_topology } = destination.limits;
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
