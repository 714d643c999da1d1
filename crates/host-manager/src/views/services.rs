//! What callers ask about all services together.
//!
//! These are Nova's questions of 2012: which services there are, and between which bounds their numbers lie.
//!
//! Left out: placing on a service (`verbs/place_on_service.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use novella_filter_scheduler::{Row, Snapshot};
use novella_objects::ServiceSummary;
use serde::Serialize;
use serde_json::Number;

use crate::map::host_map::HostMap;
use crate::report::liveness::Hearing;
use crate::report::reported::Reported;
use crate::report::services::COMPUTE;
use crate::views::gathering::Gathering;

/// How many report intervals without a report make a service's capabilities stale for the roll-up.
const STALE_INTERVALS: u32 = 3;

/// How many hosts are looked at in one step of a roll-up. It takes tens of microseconds.
const ROLLED_UP_AT_A_TIME: usize = 64;

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

/// A roll-up of some of the hosts. It takes several steps, so that the map is never locked for long.
#[derive(Debug, Default)]
pub struct RollUpInProgress {
    roll_up: RollUp,
    /// The first row that is not looked at yet.
    next: usize,
}

/// See [`HostManager::roll_up_some`](crate::HostManager::roll_up_some).
pub(crate) fn roll_up_some(map: &HostMap, rolling: &mut RollUpInProgress, now: Duration) -> bool {
    let last = rolling.next.saturating_add(ROLLED_UP_AT_A_TIME).min(map.records.len());
    for record in map.records[rolling.next.min(last)..last].iter().flatten() {
        roll_up(&mut rolling.roll_up, map, COMPUTE, &record.hearing, &record.reported, now);
    }
    rolling.next = last;
    last == map.records.len()
}

/// See [`HostManager::finish_roll_up`](crate::HostManager::finish_roll_up).
pub(crate) fn finish_roll_up(map: &mut HostMap, rolling: RollUpInProgress, now: Duration) -> RollUp {
    let mut all = rolling.roll_up;
    for (_, state) in map.services.iter() {
        roll_up(&mut all, map, &state.service, &state.hearing, &state.reported, now);
    }
    let limit = longest_silence(map);
    map.services.forget(&mut map.texts, |hearing| now.saturating_sub(hearing.heard) > limit);
    all
}

/// How long a service may be silent before its capabilities are stale.
fn longest_silence(map: &HostMap) -> Duration {
    map.options.report_interval.saturating_mul(STALE_INTERVALS)
}

/// Widens a roll-up by what a service on a host reported, unless it is disabled or stale.
fn roll_up(
    all: &mut RollUp,
    map: &HostMap,
    service: &str,
    hearing: &Hearing,
    reported: &Reported,
    now: Duration,
) {
    if reported.disabled || now.saturating_sub(hearing.heard) > longest_silence(map) {
        return;
    }
    let mut key = String::new();
    reported.for_each_number(|capability, number| {
        key.clear();
        key.extend([service, "_", capability]);
        widen(all, &key, number);
    });
}

/// The hosts that were copied so far for a list of services. It takes several steps, so that the map is never locked for
/// long.
#[derive(Debug, Default)]
pub struct ServicesInProgress(Gathering<Duration>);

/// What is needed to list all services, at one instant.
#[derive(Debug)]
pub struct ServiceListing {
    table: Snapshot,
    /// When each host was last heard.
    heard: Gathering<Duration>,
    /// The services other than compute.
    others: Vec<ServiceSummary>,
    now: Duration,
}

/// See [`HostManager::services_some`](crate::HostManager::services_some).
pub(crate) fn services_some(map: &HostMap, listing: &mut ServicesInProgress) -> bool {
    listing.0.step(map, heard)
}

/// See [`HostManager::finish_services`](crate::HostManager::finish_services).
pub(crate) fn finish_services(map: &HostMap, listing: ServicesInProgress, now: Duration) -> ServiceListing {
    let ServicesInProgress(mut gathered) = listing;
    gathered.finish(map, heard);
    let others = map.services.iter().map(|(host, state)| ServiceSummary {
        service: (&*state.service).into(),
        host: host.into(),
        state: state.status(&map.outages, &map.options, now),
        report_age_s: now.saturating_sub(state.hearing.heard).as_secs_f64(),
    });
    ServiceListing { table: map.table.snapshot(), heard: gathered, others: others.collect(), now }
}

fn heard(map: &HostMap, row: Row) -> Duration {
    map.record(row).hearing.heard
}

impl ServiceListing {
    /// Every service of every host with its state, in order of service and name.
    pub fn services(self) -> Vec<ServiceSummary> {
        let Self { table, heard, mut others, now } = self;
        let compute = table.hosts().zip(heard.into_values()).map(|(host, heard)| ServiceSummary {
            service: COMPUTE.into(),
            host: host.host().into(),
            state: host.status(),
            report_age_s: now.saturating_sub(heard).as_secs_f64(),
        });
        others.extend(compute);
        others.sort_unstable_by(|a, b| (&a.service, &a.host).cmp(&(&b.service, &b.host)));
        others
    }

    /// Nova's `get_host_list`: every service of every host, stale ones included, in order of service and name.
    pub fn host_list(self) -> Vec<HostListEntry> {
        let entry = |summary: ServiceSummary| HostListEntry {
            service: summary.service.to_string(),
            host_name: summary.host.to_string(),
        };
        self.services().into_iter().map(entry).collect()
    }
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
