//! What `/metrics` shows of a scheduler. Counts that exist elsewhere are read when the metrics are collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use novella_host_manager::{Counters, HolderKind, ZoneUsage};
use novella_messaging::{ConnectionState, CounterFamily, RpcServer};
use novella_objects::PolicyReload;
use novella_service::{BrokerLink, Metrics, Sample};
use tokio::sync::watch;

use crate::decisions;
use crate::manager::{SchedulerManager, count_by_state};
use crate::request_metrics::RequestMetrics;

/// Registers the scheduler's metrics.
pub fn register(
    metrics: &Metrics,
    manager: &Arc<SchedulerManager>,
    server: &Arc<RpcServer>,
    connection: watch::Receiver<ConnectionState>,
) {
    let help = "Seconds from when a report was made until it is in the map, by the wall clocks of both hosts";
    metrics.register("scheduler_report_lag_seconds", help, manager.report_lag.0.clone());
    let RequestMetrics { seconds, refused_by } = manager.request_metrics.clone();
    metrics.register("scheduler_decision_seconds", "Seconds that a decision took", seconds);
    let help = "Refused requests, by the filter that left no host";
    metrics.register("scheduler_refusals_by_filter", help, refused_by);
    let map = Arc::downgrade(manager);
    metrics.sampled("scheduler", move |out| {
        if let Some(manager) = map.upgrade() {
            sample(&manager, out);
        }
    });
    let counters = server.counters();
    metrics.sampled("rpc", move |out| {
        for CounterFamily { name, help, label, counts } in counters.families() {
            out.extend(Sample::counters(name, help, label, counts));
        }
    });
    metrics.common(env!("CARGO_PKG_VERSION"), move || {
        let state = connection.borrow();
        BrokerLink {
            connected: state.has_connection(),
            blocked: state.is_blocked(),
            connections: state.generation(),
        }
    });
}

fn sample(manager: &SchedulerManager, out: &mut Vec<Sample>) {
    let (states, usage, reservations, unlisted, counters, conflicts, hash) =
        manager.with_hosts(|hosts, _| {
            let hash = hosts.policy_hash().to_owned();
            let (usage, reservations, unlisted) =
                (hosts.usage(), hosts.reservations(), hosts.unlisted_claims());
            (count_by_state(hosts), usage, reservations, unlisted, *hosts.counters(), hosts.conflicts(), hash)
        });
    let zones = usage.by_zone();
    for (state, count) in states {
        out.push(Sample::gauge("hosts", "Hosts in the map", count as f64).label("state", state));
    }
    let amounts = |help, of: fn(&ZoneUsage) -> [f64; 3], name: &'static str| {
        let sample = move |(zone, resource, value): (&str, &'static str, f64)| {
            Sample::gauge(name, help, value).label("zone", zone).label("resource", resource)
        };
        let rows = zones.iter().flat_map(move |(zone, usage)| {
            let named = ["vcpus", "memory_mb", "disk_gb"].into_iter().zip(of(usage));
            named.map(move |(resource, value)| (zone.as_str(), resource, value))
        });
        rows.map(sample).collect::<Vec<_>>()
    };
    let help = "Amount in use on hosts that can be chosen, reservations included";
    out.extend(amounts(help, |usage| usage.used, "capacity_used"));
    let help = "Amount that may be in use on hosts that can be chosen, overcommit included";
    out.extend(amounts(help, |usage| usage.total, "capacity"));
    out.push(Sample::gauge("reservations", "Reservations held", reservations as f64));
    for (kind, count) in [
        ("cloned_identity", conflicts.cloned_identity),
        ("duplicate_name", conflicts.duplicate_name),
        ("other_user", conflicts.other_user),
    ] {
        let help = "Hosts whose identity or name another process uses too";
        out.push(Sample::gauge("host_conflicts", help, count as f64).label("kind", kind));
    }
    let ((map, max_map), (reserved, max_reserved), (decisions, too_large)) = {
        let core = manager.core().0;
        let of_map = (core.hosts.kept_bytes(), core.hosts.max_kept_bytes());
        (of_map, core.hosts.reserved_bytes(), (core.decisions.bytes(), core.decisions.too_large()))
    };
    for (of, bytes, most) in [
        ("map", map, max_map),
        ("reservations", reserved, max_reserved),
        ("decisions", decisions, decisions::MAX_BYTES),
    ] {
        let help = "Bytes that are kept of reports, of reservations and of decisions, by estimate";
        out.push(Sample::gauge("kept_bytes", help, bytes as f64).label("of", of));
        let help = "Bytes that may be kept of reports, of reservations and of decisions";
        out.push(Sample::gauge("kept_bytes_limit", help, most as f64).label("of", of));
    }
    let help = "Decisions that were too large to be remembered";
    out.push(Sample::counter("decisions_not_remembered", help, too_large));
    let help = "Claims of instances that so many hosts claim that filters do not see them on this host";
    out.push(Sample::gauge("unlisted_claims", help, unlisted as f64));
    let off = manager.host_clocks.offsets().len();
    out.push(Sample::gauge("hosts_clock_off", "Hosts whose clock differs from this machine's", off as f64));
    out.extend(Sample::counters("reports", "Reports, by outcome", "outcome", reports(&counters)));
    out.extend(Sample::counters("events", "Changes in the map, by kind", "event", events(&counters)));
    let requests = &manager.requests;
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let unreadable = manager.refused_reports.unreadable();
    for (name, help, count) in [
        ("decisions", "Answers to select_destinations, refusals included", load(&requests.decisions)),
        ("refusals", "Answers that placed nothing", load(&requests.refusals)),
        (
            "reserve_overflow",
            "Reservations that could not be sent to other schedulers",
            load(&requests.reserve_overflow),
        ),
        ("policy_faults", "Requests that failed because of the policy", manager.policy_faults()),
        ("unreadable_reports", "Reports whose arguments could not be read", unreadable),
    ] {
        out.push(Sample::counter(name, help, count));
    }
    for (kind, amount, refused) in manager.quotas.refused() {
        let help = "Requests refused because they exceed a quota, by whose it is and what it limits";
        let sample = Sample::counter("over_quota", help, refused);
        out.push(sample.label("of", kind.as_str()).label("amount", amount));
    }
    for (kind, holders) in HolderKind::ALL.into_iter().zip(manager.quotas.largest()) {
        let held = holders.first().map(|holder| holder.held).unwrap_or_default();
        for (amount, value) in [
            ("instances", f64::from(held.instances)),
            ("vcpus", held.vcpus as f64),
            ("memory_mb", held.memory_mb as f64),
            ("disk_gb", held.disk_gb as f64),
        ] {
            let help =
                "What is held for the holder of the most instances and not yet confirmed, by kind of holder";
            let sample = Sample::gauge("largest_holder", help, value);
            out.push(sample.label("of", kind.as_str()).label("amount", amount));
        }
    }
    let reloads = [PolicyReload::Applied, PolicyReload::Unchanged, PolicyReload::Refused];
    let reloads = reloads.map(|outcome| (outcome.as_str(), manager.policy.counters.of(outcome)));
    let help = "Reloads of the policy, by outcome";
    out.extend(Sample::counters("policy_reloads", help, "outcome", reloads));
    let refused = f64::from(u8::from(manager.policy.refused().is_some()));
    out.push(Sample::gauge("policy_refused", "1 if the last reload of the policy was refused", refused));
    out.push(Sample::gauge("policy", "The current policy, by its hash", 1.0).label("hash", hash));
}

fn reports(c: &Counters) -> [(&'static str, u64); 10] {
    [
        ("accepted", c.accepted),
        ("stale", c.stale),
        ("cloned", c.cloned),
        ("duplicate_name", c.duplicate_name),
        ("other_user", c.other_user),
        ("too_far", c.too_far),
        ("no_identity_ignored", c.no_identity_ignored),
        ("too_many", c.too_many),
        ("too_many_new", c.too_many_new),
        ("bad", c.bad),
    ]
}

fn events(c: &Counters) -> [(&'static str, u64); 17] {
    [
        ("missed", c.missed),
        ("new_host", c.new),
        ("goodbye", c.goodbye),
        ("renamed", c.renamed),
        ("taken_over", c.taken_over),
        ("down", c.down),
        ("suspect", c.suspect),
        ("forgotten", c.forgotten),
        ("reserved", c.reserved),
        ("peer_reserved", c.peer_reserved),
        ("peer_refused", c.peer_refused),
        ("settled", c.settled),
        ("unsettled", c.unsettled),
        ("released", c.released),
        ("expired", c.expired),
        ("repeated", c.repeated),
        ("conflict", c.conflict),
    ]
}
