//! Answers to `capacity`: a copy of the map under its lock for each flavor, and the counting beside it.

use novella_messaging::CallError;
use novella_objects::{Capacity, CapacityQuery, Grouping, RequestSpec};

use crate::manager::SchedulerManager;

/// Flavors in one question at most.
const MAX_FLAVORS: usize = 1_000;
/// Rows of an answer at most: flavors times hosts, where hosts are asked for one by one.
const MAX_ROWS: usize = 200_000;

impl SchedulerManager {
    /// See `SchedulerEndpoint::capacity`.
    pub(crate) async fn counted(&self, query: CapacityQuery) -> Result<Capacity, CallError> {
        let bad = |reason: String| CallError::BadArguments { reason };
        let CapacityQuery { mut flavors, names, request_spec, by, reserve } = query;
        let (named, hosts) = self.with_hosts(|hosts, _| {
            let policy = hosts.policy();
            let named: Result<Vec<_>, String> = if flavors.is_empty() && names.is_empty() {
                Ok(policy.flavors.values().cloned().collect())
            } else {
                names.into_iter().map(|name| policy.flavor(&name).cloned().ok_or(name)).collect()
            };
            (named, hosts.len())
        });
        flavors.extend(named.map_err(|name| bad(format!("the policy in force has no flavor {name:?}")))?);
        if flavors.is_empty() {
            return Err(bad("the policy in force lists no flavor: say what is to be counted".to_owned()));
        }
        if flavors.len() > MAX_FLAVORS {
            return Err(bad(format!(
                "{} flavors in one question; at most {MAX_FLAVORS} are allowed",
                flavors.len()
            )));
        }
        if by == Some(Grouping::Host) && flavors.len() * hosts > MAX_ROWS {
            return Err(bad(format!(
                "{} flavors on {hosts} hosts one by one; at most {MAX_ROWS} rows are answered. Ask for fewer flavors, or by \
                 zone",
                flavors.len()
            )));
        }
        let mut answer = Capacity { scheduler: self.options.name.clone(), flavors: Vec::new() };
        for flavor in flavors {
            let mut spec = RequestSpec { flavor, ..request_spec.clone() };
            let (eligible, held_back) = {
                let (mut guard, now) = self.core();
                let core = &mut *guard;
                let devices =
                    core.hosts.policy().pci_requests(&spec.flavor, spec.image.as_ref(), &spec.pci_requests);
                if let Some(devices) = devices.map_err(|failure| bad(failure.to_string()))? {
                    spec.pci_requests = devices;
                }
                let eligible = core.hosts.eligible(&mut core.engine, &spec, now);
                eligible.map_err(|failure| bad(failure.to_string()))?
            };
            let counted = self.env.blocking.run(move || eligible.count(by, reserve, &held_back)).await;
            answer
                .flavors
                .push(counted.map_err(|panicked| CallError::Internal { message: panicked.to_string() })?);
        }
        Ok(answer)
    }
}
