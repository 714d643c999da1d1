//! Answers to `explain`: looks at the map under its lock, one look or trial at a time, and leaves it as it was.

use std::sync::Arc;

use novella_filter_scheduler::{NearMisses, search_fixes};
use novella_messaging::CallError;
use novella_objects::{Decision, Explain, Explained, Fixes, Refusal, RequestSpec, SelectDestinations};

use crate::call_errors::{bad_arguments, internal};
use crate::manager::{Core, POISONED, SchedulerManager};

impl SchedulerManager {
    /// See `SchedulerEndpoint::explain`.
    pub(crate) async fn explained(&self, args: Explain) -> Result<Option<Explained>, CallError> {
        let found = match (args.decision_id, args.request_spec) {
            (Some(id), None) => self.core().0.decisions.get_with_request(&id),
            (None, Some(spec)) => Some(self.would_decide(spec, args.flavor)?),
            _ => return Err(bad_arguments("name either a decision_id or a request_spec")),
        };
        let Some((decision, request_spec)) = found else { return Ok(None) };
        let host = match &args.host {
            None => None,
            Some(host) => {
                let (mut guard, now) = self.core();
                let core = &mut *guard;
                core.hosts
                    .inspect(&mut core.engine, &request_spec, host, now)
                    .map_err(|failure| self.policy_faults.call_error(&failure))?
            }
        };
        let refused = matches!(decision.refusal, Some(Refusal::NoValidHost { .. }));
        let misses = if args.fix || (refused && args.host.is_none()) {
            let (mut guard, now) = self.core();
            let core = &mut *guard;
            core.hosts
                .near_misses(&mut core.engine, &request_spec, now)
                .map_err(|failure| self.policy_faults.call_error(&failure))?
        } else {
            None
        };
        let near = misses.as_ref().map(NearMisses::told).unwrap_or_default();
        let fixes = match misses {
            _ if !args.fix => None,
            None => Some(Fixes { fits: true, ..Fixes::default() }),
            Some(misses) => Some(self.fixes(&request_spec, misses).await?),
        };
        Ok(Some(Explained { decision: Arc::unwrap_or_clone(decision), request_spec, host, near, fixes }))
    }

    /// Searches with the lock held for one trial placement at a time, so that others wait for no more than that.
    async fn fixes(&self, spec: &RequestSpec, misses: NearMisses) -> Result<Fixes, CallError> {
        let (shared, spec) = (self.shared(), spec.clone());
        let search = move || {
            search_fixes(&spec, &misses, |changes| {
                let mut core = shared.lock().expect(POISONED);
                let Core { hosts, engine, .. } = &mut *core;
                hosts.try_changes(engine, &spec, changes)
            })
        };
        let found = self.env.blocking.run(search).await;
        found.map_err(internal)
    }

    /// What a request would get now, remembered like any decision.
    fn would_decide(
        &self,
        request_spec: RequestSpec,
        flavor: Option<String>,
    ) -> Result<(Arc<Decision>, RequestSpec), CallError> {
        let request =
            SelectDestinations { request_spec, dry_run: true, flavor, ..SelectDestinations::default() };
        self.check(&request)?;
        let (id, seed) = (self.decision_id(), self.seed());
        let (mut guard, now) = self.core();
        let core = &mut *guard;
        let request = self.resolve(core, request)?;
        let decided = core.hosts.select_destinations(&mut core.engine, &request, id.clone(), seed, now);
        let decision = Arc::new(decided.map_err(|failure| self.policy_faults.call_error(&failure))?);
        if decision.decision_id == id {
            core.decisions.push(decision.clone(), request.request_spec.clone());
        }
        Ok((decision, request.request_spec))
    }
}
