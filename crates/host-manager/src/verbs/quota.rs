//! How much one broker user, and one project, may hold at a time.
//!
//! What always holds: only what is not held or claimed yet is asked about, so a request that is repeated is never refused here.
//! What ends a hold, such as a report that lists the instance, also gives back its part of the quota.
//!
//! Left out: how often a holder may ask, which depends on the clock of the scheduler and not on what is held.

use std::fmt;
use std::time::Duration;

use novella_filter_scheduler::charges;
use novella_objects::PlacementRequest;
use novella_resources::Amounts;
use uuid::Uuid;

use crate::holder::{Holder, HolderKind};
use crate::map::host_map::HostMap;
use crate::options::Quota;
use crate::policy::resolved::Resolved;
use crate::promises::held::counted;
use crate::report::services::COMPUTE;
use crate::verbs::watch::advance;

/// A request would hold more than its holder may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverQuota {
    /// Whose quota it is.
    pub kind: HolderKind,
    /// The holder's name.
    pub holder: String,
    /// Which amount is too much: `instances`, `vcpus`, `memory_mb` or `disk_gb`.
    pub amount: &'static str,
    /// How much of it is held already.
    pub held: u64,
    /// How much more the request asks for.
    pub asked: u64,
    /// How much may be held.
    pub limit: u64,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, holder, amount, held, asked, limit } = self;
        write!(
            f,
            "the {} {holder} holds {held} {amount} that no report has confirmed, asks for {asked} more, and may hold {limit}",
            kind.as_str()
        )
    }
}

/// What one holder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderUsage {
    /// What the holder is.
    pub kind: HolderKind,
    /// The holder's name.
    pub holder: String,
    /// How much is held.
    pub held: Amounts,
}

/// See [`HostManager::over_quota`](crate::HostManager::over_quota).
pub(crate) fn over_quota(map: &mut HostMap, request: &Resolved, now: Duration) -> Option<OverQuota> {
    let (holder, request) = (&request.by().holder, request.request());
    if request.dry_run {
        return None;
    }
    let PlacementRequest { instance_uuids, spec, .. } = &request.request_spec;
    let of_compute = request.service.as_deref().is_none_or(|service| service == COMPUTE);
    let one = match of_compute {
        true => counted(charges(spec).on(|| false)),
        false => Amounts { disk_gb: spec.flavor.root_gb, instances: 1, ..Amounts::default() },
    };
    // Usually there is room even if all instances are new and nothing has run out.
    exceeded(map, holder, one, instance_uuids.len())?;
    advance(map, now);
    map.holds.expire(now);
    let is_known = |uuid: &Uuid| match of_compute {
        true => map.reservations.get(uuid).is_some() || map.table.rows_with(*uuid).next().is_some(),
        false => map.holds.get(uuid).is_some(),
    };
    let new = instance_uuids.iter().filter(|uuid| !is_known(uuid)).count();
    exceeded(map, holder, one, new)
}

/// The first amount of which a holder would have too much with so many more instances.
fn exceeded(map: &HostMap, holder: &Holder, one: Amounts, new: usize) -> Option<OverQuota> {
    let quotas = [map.options.user_quota, map.options.project_quota];
    for ((kind, name), Quota { most }) in
        HolderKind::ALL.into_iter().zip([&holder.user, &holder.project]).zip(quotas)
    {
        let Some(name) = name.as_deref() else { continue };
        let held = held(map, kind, name);
        for (amount, held, each, limit) in [
            ("instances", held.instances.into(), 1, most.instances.into()),
            ("vcpus", held.vcpus, one.vcpus, most.vcpus),
            ("memory_mb", held.memory_mb, one.memory_mb, most.memory_mb),
            ("disk_gb", held.disk_gb, one.disk_gb, most.disk_gb),
        ] {
            let asked: u64 = each.saturating_mul(new as u64);
            if asked > 0 && held.saturating_add(asked) > limit {
                let holder = name.to_owned();
                return Some(OverQuota { kind, holder, amount, held, asked, limit });
            }
        }
    }
    None
}

/// What is held for a holder, on compute hosts and on services.
fn held(map: &HostMap, kind: HolderKind, name: &str) -> Amounts {
    map.reservations.held().of(kind, name).plus(map.holds.held().of(kind, name))
}

/// See [`HostManager::largest_holders`](crate::HostManager::largest_holders).
pub(crate) fn largest_holders(map: &HostMap, kind: HolderKind, most: usize) -> Vec<HolderUsage> {
    let on_hosts = map.reservations.held();
    let names = on_hosts.all(kind);
    let others = map.holds.held().all(kind).filter(|name| on_hosts.of(kind, name).instances == 0);
    let mut largest: Vec<(u32, &str)> = Vec::new();
    // The list of the largest stays short, however many holders there are.
    for name in names.chain(others) {
        let instances = held(map, kind, name).instances;
        let at = largest.partition_point(|&(other, known)| (other, name) > (instances, known));
        if at < most {
            largest.insert(at, (instances, name));
            largest.truncate(most);
        }
    }
    let usage =
        |(_, name): (u32, &str)| HolderUsage { kind, holder: name.to_owned(), held: held(map, kind, name) };
    largest.into_iter().map(usage).collect()
}
