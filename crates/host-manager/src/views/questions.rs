//! Questions about placements that need the map.
//!
//! What always holds: they change nothing in the map, except that time passes.
//!
//! Left out: the answers themselves, which the engine gives; and counting what fits, which is done without the lock.

use std::time::Duration;

use novella_filter_scheduler::{Eligible, Failure, FilterKind, FilterScheduler, NearMisses, Running};
use novella_objects::{Change, FilterOutcome, HostStatus, HostVerdict, PlacementRequest};
use novella_resources::Amounts;

use crate::map::host_map::HostMap;
use crate::map::record::Record;
use crate::policy::resolved::Resolved;
use crate::report::claims::ClaimRow;
use crate::verbs::enforce_policy::with_members;
use crate::verbs::watch::advance;

/// What all filters and weighers say of one host; `None` if there is no such host. An error is a request that could
/// be asked of no host.
pub(crate) fn inspect(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    request: &Resolved,
    host: &str,
    now: Duration,
) -> Result<Option<HostVerdict>, Failure> {
    advance(map, now);
    let Some(row) = map.table.row_of(host) else { return Ok(None) };
    let PlacementRequest { spec, instance_uuids, .. } = &request.request().request_spec;
    let spec = with_members(map, spec, instance_uuids)?;
    let mut verdict =
        novella_filter_scheduler::inspect(scheduler, &mut map.table, &spec, instance_uuids[0], row)?;
    let record = map.record(row);
    let why = match verdict.state {
        HostStatus::Disabled => record.reported.disabled_reason().map(str::to_owned),
        HostStatus::Down if record.hearing.goodbye => Some("its agent was stopped".to_owned()),
        HostStatus::Down => {
            let silent = now.saturating_sub(record.hearing.heard).as_secs();
            Some(format!("silent for {silent} s"))
        }
        HostStatus::Up | HostStatus::Suspect => None,
    };
    let compute = verdict.filters.iter_mut().find(|filter| filter.filter == FilterKind::Compute.name());
    if let (Some(why), Some(compute)) = (why, compute)
        && compute.verdict == FilterOutcome::Refuses
        && let Some(reason) = &mut compute.reason
    {
        *reason = format!("{reason}: {why}");
    }
    Ok(Some(verdict))
}

/// The hosts that are nearest to taking the first instance that does not fit; `None` if all instances fit.
pub(crate) fn near_misses(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    request: &Resolved,
    now: Duration,
) -> Result<Option<NearMisses>, Failure> {
    advance(map, now);
    let PlacementRequest { spec, instance_uuids, .. } = &request.request().request_spec;
    let spec = with_members(map, spec, instance_uuids)?;
    novella_filter_scheduler::near_misses(scheduler, &mut map.table, &spec, instance_uuids)
}

/// The host that the first instance would get after these changes; see [`novella_filter_scheduler::try_changes`].
pub(crate) fn try_changes(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    request: &Resolved,
    changes: &[Change],
) -> Option<String> {
    let PlacementRequest { spec, instance_uuids, .. } = &request.request().request_spec;
    let spec = with_members(map, spec, instance_uuids).ok()?;
    novella_filter_scheduler::try_changes(scheduler, &mut map.table, &spec, instance_uuids, changes)
}

/// Which hosts may take instances like those of `request`, with their amounts. Takes about as long as one placement and
/// one listing; the counting is done on what is returned.
pub(crate) fn eligible(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    request: &Resolved,
    now: Duration,
) -> Result<Eligible, Failure> {
    advance(map, now);
    let PlacementRequest { spec, instance_uuids, .. } = &request.request().request_spec;
    let spec = with_members(map, spec, instance_uuids)?;
    novella_filter_scheduler::eligible(scheduler, &mut map.table, &spec)
}

/// What runs on each host: the instances that it lists, and those that are promised to it.
pub(crate) fn running(map: &HostMap) -> Running {
    let of_record = |record: &Record| {
        let claimed: Vec<_> = record.claims.rows().iter().map(ClaimRow::amounts).collect();
        (Amounts::of_reserved(&record.reserved), claimed)
    };
    let of_row = |record: &Option<Box<Record>>| record.as_deref().map(of_record).unwrap_or_default();
    let (held_back, mut instances): (Vec<_>, Vec<_>) = map.records.iter().map(of_row).unzip();
    for (row, allocation) in map.reservations.counted() {
        instances[row.index()].push(allocation.amounts);
    }
    Running { held_back, instances }
}
