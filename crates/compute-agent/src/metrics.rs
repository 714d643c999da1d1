//! The agent's metrics at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use novella_messaging::{ConnectionState, CounterFamily, RpcServer};
use novella_service::{BrokerLink, Metrics, Sample};
use tokio::sync::watch;

use crate::manager::ComputeManager;
use crate::publisher::{Publisher, Standing};

/// Registers the agent's metrics.
pub fn register(
    metrics: &Metrics,
    manager: &Arc<ComputeManager>,
    publisher: &Arc<Publisher>,
    server: &RpcServer,
    connection: watch::Receiver<ConnectionState>,
) {
    let store = manager.tracker().writer().metrics().clone();
    let (manager, publisher) = (Arc::downgrade(manager), Arc::downgrade(publisher));
    metrics.sampled("agent", move |out| {
        let (Some(manager), Some(publisher)) = (manager.upgrade(), publisher.upgrade()) else { return };
        let holder = *manager.standing().borrow() == Standing::Holder;
        out.push(Sample::gauge(
            "holds_host_name",
            "1 if this agent holds the queue of its host",
            f64::from(u8::from(holder)),
        ));
        if let Some(age) = manager.report_age() {
            out.push(Sample::gauge(
                "report_age_seconds",
                "Age of the last report that was handed over for sending",
                age.as_secs_f64(),
            ));
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &publisher.counters;
        let reports = [
            ("published", count(&counters.published)),
            ("unheard", count(&counters.unheard)),
            ("failed", count(&counters.failed)),
            ("replaced", count(&counters.replaced)),
        ];
        out.extend(Sample::counters("reports", "Reports, by outcome", "outcome", reports));
        let tracker = manager.tracker();
        let (claims, holds) = tracker.counts();
        out.push(Sample::gauge("claims", "Claims that this host has granted", claims as f64));
        out.push(Sample::gauge("holds", "Holds that this host has granted", holds as f64));
        let counters = &tracker.counters;
        let decided = [("granted", counters.granted()), ("ended", counters.ended())];
        out.extend(Sample::counters(
            "claims_decided",
            "Claims and holds granted and ended",
            "outcome",
            decided,
        ));
        let instances = manager.instances();
        let counters = instances.counters();
        out.extend(Sample::counters(
            "builds",
            "Builds, by what became of them",
            "outcome",
            counters.builds(),
        ));
        out.push(Sample::counter(
            "destroy_retries",
            "Attempts to destroy a guest that have failed and were repeated",
            counters.destroy_retries(),
        ));
        for (state, count) in instances.by_vm_state() {
            let gauge = Sample::gauge("instances", "Instances of this host, by vm_state", count as f64);
            out.push(gauge.label("vm_state", state.name()));
        }
        let counters = &tracker.counters;
        let help = "Claims and holds refused, by what was lacking";
        out.extend(Sample::counters("claims_refused", help, "reason", counters.refused()));
    });
    store.register(metrics);
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
