//! What callers ask about all services together.
//!
//! These are Nova's questions of 2012: which services there are, and between which bounds their numbers lie.
//!
//! Left out: placing on a service (`verbs/place_on_service.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use novella_objects::{HostStatus, ServiceSummary};
use serde::Serialize;
use serde_json::Number;

use crate::map::host_map::HostMap;
use crate::report::liveness::Hearing;
use crate::report::services::COMPUTE;

/// How many report intervals without a report make a service's capabilities stale for the roll-up.
const STALE_INTERVALS: u32 = 3;

/// The smallest and the largest value of each numeric capability, under the key `<service>_<capability>`.
pub type RollUp = BTreeMap<String, (Number, Number)>;

/// One row of Nova's `get_host_list`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostListEntry {
    /// The name of the service, such as `compute` or `volume`.
    pub service: String,
    /// The host that runs it.
    pub host_name: String,
}

/// Nova's `get_service_capabilities`: the smallest and the largest value of every numeric capability over all hosts
/// whose service is enabled and not stale. A stale service other than compute is forgotten here, as in Nova. A stale
/// compute host is only left out, because `service_down_time` decides about its silence.
pub(crate) fn get_service_capabilities(map: &mut HostMap, now: Duration) -> RollUp {
    let limit = map.options.report_interval.saturating_mul(STALE_INTERVALS);
    let stale = |hearing: &Hearing| now.saturating_sub(hearing.heard) > limit;
    let mut roll_up = RollUp::new();
    let compute = map.records.iter().flatten().map(|r| (COMPUTE, &r.hearing, &r.reported));
    let others = map.services.iter().map(|(_, s)| (&*s.service, &s.hearing, &s.reported));
    let mut key = String::new();
    for (service, hearing, reported) in compute.chain(others) {
        if reported.disabled || stale(hearing) {
            continue;
        }
        reported.for_each_number(|capability, number| {
            key.clear();
            key.extend([service, "_", capability]);
            widen(&mut roll_up, &key, number);
        });
    }
    map.services.forget(&mut map.texts, stale);
    roll_up
}

/// Nova's `get_host_list`: every service of every host, stale ones included, in order of service and name.
pub(crate) fn get_host_list(map: &HostMap) -> Vec<HostListEntry> {
    let entry = |service: &str, host: &str| HostListEntry { service: service.into(), host_name: host.into() };
    let compute = map.table.rows().map(|row| entry(COMPUTE, map.table.host(row)));
    let mut list: Vec<_> =
        compute.chain(map.services.iter().map(|(host, s)| entry(&s.service, host))).collect();
    list.sort_unstable();
    list
}

/// Every service of every host with its state, in order of service and name.
pub(crate) fn services(map: &HostMap, now: Duration) -> Vec<ServiceSummary> {
    let summary = |service: &str, host: &str, state: HostStatus, hearing: &Hearing| ServiceSummary {
        service: service.into(),
        host: host.into(),
        state,
        report_age_s: now.saturating_sub(hearing.heard).as_secs_f64(),
    };
    let compute = map.table.rows().map(|row| {
        let status = map.table.view(row).status();
        summary(COMPUTE, map.table.host(row), status, &map.record(row).hearing)
    });
    let others = map.services.iter().map(|(host, state)| {
        let status = state.status(&map.outages, &map.options, now);
        summary(&state.service, host, status, &state.hearing)
    });
    let mut list: Vec<_> = compute.chain(others).collect();
    list.sort_unstable_by(|a, b| (&a.service, &a.host).cmp(&(&b.service, &b.host)));
    list
}

fn widen(roll_up: &mut RollUp, key: &str, number: Number) {
    match roll_up.get_mut(key) {
        Some((least, most)) => {
            if less(&number, least) {
                *least = number;
            } else if less(most, &number) {
                *most = number;
            }
        }
        None => {
            roll_up.insert(key.to_owned(), (number.clone(), number));
        }
    }
}

/// Compares two numbers. Whole numbers are compared exactly, others as `f64`.
fn less(a: &Number, b: &Number) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}
