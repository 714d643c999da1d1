//! Copies the map for counting what fits.
//!
//! Left out: the counting, which is done on the copy without the lock.

use std::time::Duration;

use novella_filter_scheduler::{Eligible, Failure, FilterScheduler};
use novella_resources::Amounts;

use crate::map::host_map::HostMap;
use crate::map::record::Record;
use crate::policy::resolved::Resolved;
use crate::verbs::enforce_policy::with_members;
use crate::verbs::watch::advance;

/// Which hosts may take instances like those of `request`, with their amounts; and by row what each holds back for itself.
/// Takes about as long as one placement and one listing; the counting is done on what is returned.
pub(crate) fn eligible(
    map: &mut HostMap,
    scheduler: &mut FilterScheduler,
    request: &Resolved,
    now: Duration,
) -> Result<(Eligible, Vec<Amounts>), Failure> {
    advance(map, now);
    let held_back = |record: &Option<Box<Record>>| {
        record.as_ref().map(|record| Amounts::of_reserved(&record.reserved)).unwrap_or_default()
    };
    let held_back = map.records.iter().map(held_back).collect();
    let asked = &request.request().request_spec;
    let spec = with_members(map, &asked.spec, &asked.instance_uuids)?;
    Ok((novella_filter_scheduler::eligible(scheduler, &mut map.table, &spec)?, held_back))
}
