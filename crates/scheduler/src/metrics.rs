//! What `/metrics` shows of a scheduler. Counts are read when somebody asks for them, and nothing is counted twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use novella_host_manager::Counters;
use novella_messaging::RpcServer;
use novella_objects::PolicyReload;
use novella_service::{Metrics, Sample};

use crate::manager::{SchedulerManager, count_by_state};

/// Registers the scheduler's metrics.
pub fn register(metrics: &Metrics, manager: &Arc<SchedulerManager>, server: &Arc<RpcServer>) {
    let help = "Seconds from the making of a report until it is in the map, by the wall clocks of both hosts";
    metrics.register("scheduler_report_lag_seconds", help, manager.report_lag.0.clone());
    let map = Arc::downgrade(manager);
    metrics.sampled("scheduler", move |out| {
        let Some(manager) = map.upgrade() else { return };
        let (states, reservations, counters, hash) = manager.with_hosts(|hosts, _| {
            let hash = hosts.policy_hash().to_owned();
            (count_by_state(hosts), hosts.reservations(), *hosts.counters(), hash)
        });
        for (state, count) in states {
            out.push(Sample::gauge("hosts", "Hosts in the map", count as f64).label("state", state));
        }
        out.push(Sample::gauge("reservations", "Reservations held", reservations as f64));
        for (outcome, count) in reports(&counters) {
            out.push(
                Sample::counter("reports", "Reports by what became of them", count).label("outcome", outcome),
            );
        }
        for (event, count) in events(&counters) {
            out.push(Sample::counter("events", "What changed in the map", count).label("event", event));
        }
        let requests = &manager.requests;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let unreadable = manager.refused_reports.unreadable();
        for (name, help, count) in [
            ("decisions", "Answers to select_destinations, refusals included", load(&requests.decisions)),
            ("refusals", "Answers that placed nothing", load(&requests.refusals)),
            (
                "reserve_overflow",
                "Reservations not told to other schedulers",
                load(&requests.reserve_overflow),
            ),
            ("policy_faults", "Requests that failed because of the policy", manager.policy_faults()),
            ("unreadable_reports", "Reports whose arguments could not be read", unreadable),
        ] {
            out.push(Sample::counter(name, help, count));
        }
        for outcome in [PolicyReload::Applied, PolicyReload::Unchanged, PolicyReload::Refused] {
            let count = manager.policy.counters.of(outcome);
            let help = "Reloads of the policy by what became of them";
            out.push(Sample::counter("policy_reloads", help, count).label("outcome", outcome.as_str()));
        }
        let refused = if manager.policy.refused().is_some() { 1.0 } else { 0.0 };
        out.push(Sample::gauge(
            "policy_refused",
            "Whether the last reload of the policy was refused",
            refused,
        ));
        out.push(Sample::gauge("policy", "The policy in force, by its hash", 1.0).label("hash", hash));
    });
    let counters = server.counters();
    metrics.sampled("rpc", move |out| {
        for (name, count) in counters.snapshot() {
            out.push(
                Sample::counter("messages", "Messages received, by what became of them", count)
                    .label("outcome", name),
            );
        }
    });
}

fn reports(c: &Counters) -> [(&'static str, u64); 8] {
    [
        ("accepted", c.accepted),
        ("missed", c.missed),
        ("stale", c.stale),
        ("cloned", c.cloned),
        ("duplicate_name", c.duplicate_name),
        ("no_identity_ignored", c.no_identity_ignored),
        ("too_many", c.too_many),
        ("bad", c.bad),
    ]
}

fn events(c: &Counters) -> [(&'static str, u64); 15] {
    [
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
        ("released", c.released),
        ("expired", c.expired),
        ("repeated", c.repeated),
        ("conflict", c.conflict),
    ]
}
