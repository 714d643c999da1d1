//! Questions about placements that need the map, and change nothing in it.

use std::time::Duration;

use novella_objects::{Change, FilterOutcome, HostVerdict, RequestSpec, SelectDestinations};

use super::HostManager;
use crate::{Failure, FilterKind, FilterScheduler, NearMisses, Status};

impl HostManager {
    /// The request with the flavor and the PCI aliases that it names, so that it can be asked again whatever the policy is then.
    pub fn resolve(&self, request: SelectDestinations) -> Result<SelectDestinations, Failure> {
        Ok(self.with_names(&request)?.unwrap_or(request))
    }

    /// The request with all that the map knows about its server group.
    pub(super) fn asked_now(&self, spec: &RequestSpec) -> Result<RequestSpec, Failure> {
        let instance_group = self.with_members(spec)?.or_else(|| spec.instance_group.clone());
        Ok(RequestSpec { instance_group, ..spec.clone() })
    }

    /// What all filters and weighers say of one host; `None` if there is no such host. An error is a request that could
    /// be asked of no host.
    pub fn inspect(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        host: &str,
        now: Duration,
    ) -> Result<Option<HostVerdict>, Failure> {
        self.advance(now);
        let Some(row) = self.table.row_of(host) else { return Ok(None) };
        let spec = self.asked_now(spec)?;
        let mut verdict = scheduler.inspect(&mut self.table, &spec, row)?;
        let record = self.record(row);
        let why = match verdict.state {
            Status::Disabled => record.reported.disabled_reason().map(str::to_owned),
            Status::Down if record.hearing.goodbye => Some("it said goodbye".to_owned()),
            Status::Down => {
                let silent = now.saturating_sub(record.hearing.heard).as_secs();
                Some(format!("silent for {silent} s"))
            }
            Status::Up | Status::Suspect => None,
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

    /// The hosts nearest to taking the first instance that does not fit; `None` if all fit.
    pub fn near_misses(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        now: Duration,
    ) -> Result<Option<NearMisses>, Failure> {
        self.advance(now);
        let spec = self.asked_now(spec)?;
        scheduler.near_misses(&mut self.table, &spec)
    }

    /// Where the first instance would go after these changes; see [`FilterScheduler::try_changes`].
    pub fn try_changes(
        &mut self,
        scheduler: &mut FilterScheduler,
        spec: &RequestSpec,
        changes: &[Change],
    ) -> Option<String> {
        let spec = self.asked_now(spec).ok()?;
        scheduler.try_changes(&mut self.table, &spec, changes)
    }
}
