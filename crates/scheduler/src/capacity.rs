//! Answers to `capacity`: a copy of the map under its lock for each flavor, and the counting beside it.

use novella_messaging::CallError;
use novella_objects::{Capacity, CapacityQuery, Grouping, RequestSpec};

use crate::call_errors::{bad_arguments, internal};
use crate::manager::SchedulerManager;

/// Flavors in one question at most.
const MAX_FLAVORS: usize = 1_000;
/// Rows of an answer at most: flavors times hosts, where hosts are asked for one by one.
const MAX_ROWS: usize = 200_000;

impl SchedulerManager {
    /// See `SchedulerEndpoint::capacity`.
    pub(crate) async fn counted(&self, query: CapacityQuery) -> Result<Capacity, CallError> {
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
        let given = flavors.len();
        flavors.extend(
            named.map_err(|name| bad_arguments(format!("the policy in force has no flavor {name:?}")))?,
        );
        if flavors.is_empty() {
            return Err(bad_arguments("the policy in force lists no flavor: say what is to be counted"));
        }
        if flavors.len() > MAX_FLAVORS {
            return Err(bad_arguments(format!(
                "{} flavors in one question; at most {MAX_FLAVORS} are allowed",
                flavors.len()
            )));
        }
        if by == Some(Grouping::Host) && flavors.len() * hosts > MAX_ROWS {
            return Err(bad_arguments(format!(
                "{} flavors on {hosts} hosts one by one; at most {MAX_ROWS} rows are answered. Ask for fewer flavors, or by \
                 zone",
                flavors.len()
            )));
        }
        let mut answer = Capacity { scheduler: self.options.name.clone(), flavors: Vec::new() };
        for (at, flavor) in flavors.into_iter().enumerate() {
            let mut spec = RequestSpec { flavor, ..request_spec.clone() };
            let (eligible, held_back) = {
                let (mut guard, now) = self.core();
                let core = &mut *guard;
                let devices =
                    core.hosts.policy().pci_requests(&spec.flavor, spec.image.as_ref(), &spec.pci_requests);
                let of_policy = (at >= given).then_some(&*spec.flavor.name);
                let devices =
                    devices.map_err(|failure| self.policy_faults.unresolved(&failure, of_policy))?;
                if let Some(devices) = devices {
                    spec.pci_requests = devices;
                }
                let eligible = core.hosts.eligible(&mut core.engine, &spec, now);
                eligible.map_err(|failure| self.policy_faults.call_error(&failure))?
            };
            let counted = self.env.blocking.run(move || eligible.count(by, reserve, &held_back)).await;
            answer.flavors.push(counted.map_err(internal)?);
        }
        Ok(answer)
    }
}
