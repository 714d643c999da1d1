//! What the hosts of a decision are asked to keep, and where claims are that hosts have reported.
//!
//! What always holds: a host is asked for exactly what is subtracted from it here, so both count the same.
//!
//! Left out: asking. The scheduler does that without the map.

use std::collections::BTreeMap;
use std::time::Duration;

use novella_filter_scheduler::{Row, server_group};
use novella_objects::{
    CellUsage, Claim, ClaimRequest, Decision, InstanceClaim, PciPool, Rank, RequestSpec, ReserveEntry,
};
use uuid::Uuid;

use crate::map::host_map::HostMap;
use crate::policy::resolved::Resolved;
use crate::promises::entry::entry;
use crate::promises::spec_hash::spec_hash;
use crate::report::grants::GrantRef;

/// What the hosts of a decision are asked.
#[derive(Debug, Default, PartialEq)]
pub struct HostClaims {
    /// For each host that grants claims, what it is asked to keep.
    pub asked: BTreeMap<String, ClaimRequest>,
    /// The hosts that do not grant claims, because their agent is of 2012, or older than claims.
    pub not_granting: Vec<String>,
}

/// What the hosts of a decision are asked to keep: as holds for the time that is left of its reservations, or as claims of
/// this rank. For claims, holds that hosts have reported already are asked for too.
pub(crate) fn host_claims(
    map: &HostMap,
    decision: &Decision,
    request: &Resolved,
    claim: Option<Rank>,
    now: Duration,
) -> HostClaims {
    let spec = &request.request().request_spec.spec;
    let max_in_group = max_in_group(map, spec);
    let rank = claim.unwrap_or_default();
    let user = request.by().owner.as_deref();
    let mut claims = HostClaims::default();
    for selection in &decision.selections {
        let uuid = selection.instance_uuid;
        let row = map.table.row_of(&selection.host);
        if !row.is_some_and(|row| map.record(row).grants_claims) {
            if !claims.not_granting.contains(&selection.host) {
                claims.not_granting.push(selection.host.clone());
            }
            continue;
        }
        let reservation = map.reservations.get(&uuid);
        let (instance, left) = match (reservation, claim, row) {
            (Some(reserved), _, _) => {
                (entry(uuid, &selection.host, reserved), reserved.expires.saturating_sub(now))
            }
            (None, Some(_), Some(row)) => match reported(map, row, uuid, spec_hash(spec)) {
                Some(known) => (known, Duration::ZERO),
                None => continue,
            },
            _ => continue,
        };
        let hold_ms = claim.is_none().then(|| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let asked = claims.asked.entry(selection.host.clone()).or_insert_with(|| ClaimRequest {
            decision_id: decision.decision_id.clone(),
            user: user.map(str::to_owned),
            hold_ms,
            instances: Vec::new(),
        });
        let image = spec.image.clone();
        asked.instances.push(InstanceClaim {
            instance,
            rank,
            max_in_group,
            image,
            build: None,
            migration: None,
        });
    }
    claims
}

/// How many members of the request's server group one host may have.
fn max_in_group(map: &HostMap, spec: &RequestSpec) -> Option<u32> {
    let name = server_group::name(spec).filter(|name| !name.is_empty())?;
    let most = |policy: &str, most: u32| (policy == "anti-affinity").then_some(most);
    match spec.instance_group.as_ref().filter(|group| !group.policy.is_empty()) {
        Some(group) => {
            let rule = group.rules.get("max_server_per_host");
            most(&group.policy, rule.and_then(|rule| rule.trim().parse().ok()).unwrap_or(1))
        }
        None => {
            let rule = map.policy.server_group(name)?;
            most(&rule.policy, rule.max_server_per_host)
        }
    }
}

/// What a reported claim takes, in the form in which a host is asked for it.
fn reported(map: &HostMap, row: Row, uuid: Uuid, spec_hash: u64) -> Option<ReserveEntry> {
    let record = map.record(row);
    let claim = record.claims.list().into_iter().find(|claim| claim.uuid == uuid)?;
    let Claim { vcpus, memory_mb, disk_gb, .. } = claim;
    let cells = claim.numa_topology.as_ref().map(|text| serde_json::from_str::<Vec<CellUsage>>(text.get()));
    let pci = claim.pci.as_ref().map(|text| serde_json::from_str::<Vec<PciPool>>(text.get()));
    Some(ReserveEntry {
        uuid,
        host: map.table.host(row).to_owned(),
        vcpus,
        memory_mb,
        disk_gb,
        resources: claim.resources.iter().map(|(class, amount)| (class.to_owned(), *amount)).collect(),
        spec_hash,
        group: claim.group.map(Into::into),
        flavor: claim.flavor.map(Into::into),
        // The report was refused if these were malformed.
        numa_topology: cells.and_then(Result::ok).unwrap_or_default(),
        pci: pci.and_then(Result::ok).unwrap_or_default(),
        not_building: false,
        service: None,
    })
}

/// A claim that a host has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedClaim {
    /// The host.
    pub host: String,
    /// The instance.
    pub uuid: Uuid,
    /// The decision that chose the host, if the host says so.
    pub decision: Option<String>,
    /// The broker user to whom the instance belongs, if it belongs to one.
    pub user: Option<String>,
    /// Whether the host grants claims, and so can end this one.
    pub granted: bool,
    /// Whether the host's driver builds an instance for it. Such a claim is deleted, not released.
    pub built: bool,
}

/// The claims of these instances that hosts have reported.
pub(crate) fn claims_of(map: &HostMap, uuids: &[Uuid]) -> Vec<ReportedClaim> {
    let mut found = Vec::new();
    for (uuid, claims) in map.claimed(uuids) {
        for (row, claim) in claims {
            found.push(reported_claim(map, row, uuid, map.record(row).grants.at(claim.position)));
        }
    }
    found.sort_unstable_by(|one, other| (one.uuid, &one.host).cmp(&(other.uuid, &other.host)));
    found
}

/// The claims of a decision that the hosts from this row on have reported, at most `most` rows of them. Also returns
/// the row to go on with, if there are more.
pub(crate) fn claims_of_decision(
    map: &HostMap,
    decision_id: &str,
    from: usize,
    most: usize,
) -> (Vec<ReportedClaim>, Option<usize>) {
    let mut found = Vec::new();
    let rows = map.table.rows().skip_while(|row| row.index() < from);
    for (seen, row) in rows.enumerate() {
        if seen == most {
            return (found, Some(row.index()));
        }
        let record = map.record(row);
        for (at, grant) in record.grants.iter() {
            if grant.decision == Some(decision_id) {
                found.push(reported_claim(map, row, record.claims.rows()[at].uuid, Some(grant)));
            }
        }
    }
    (found, None)
}

fn reported_claim(map: &HostMap, row: Row, uuid: Uuid, grant: Option<GrantRef<'_>>) -> ReportedClaim {
    ReportedClaim {
        host: map.table.host(row).to_owned(),
        uuid,
        decision: grant.and_then(|grant| grant.decision).map(str::to_owned),
        user: grant.and_then(|grant| grant.user).map(str::to_owned),
        granted: grant.is_some() && map.record(row).grants_claims,
        built: grant.is_some_and(|grant| grant.instance.is_some()),
    }
}
