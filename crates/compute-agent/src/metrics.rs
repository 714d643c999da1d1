//! The agent's metrics at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use novella_messaging::{ConnectionState, CounterFamily, RpcServer};
use novella_service::{Metrics, Sample};
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
    let (manager, publisher) = (Arc::downgrade(manager), Arc::downgrade(publisher));
    metrics.sampled("agent", move |out| {
        let (Some(manager), Some(publisher)) = (manager.upgrade(), publisher.upgrade()) else { return };
        let holder = *manager.standing().borrow() == Standing::Holder;
        out.push(Sample::gauge(
            "holds_host_name",
            "1 if the queue of this host is ours",
            f64::from(u8::from(holder)),
        ));
        if let Some(age) = manager.report_age() {
            out.push(Sample::gauge(
                "report_age_seconds",
                "Age of the last report handed over",
                age.as_secs_f64(),
            ));
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &publisher.counters;
        let reports = [
            ("published", count(&counters.published)),
            ("failed", count(&counters.failed)),
            ("replaced", count(&counters.replaced)),
        ];
        out.extend(Sample::counters("reports", "Reports, by what became of them", "outcome", reports));
    });
    let counters = server.counters();
    metrics.sampled("rpc", move |out| {
        for CounterFamily { name, help, label, counts } in counters.families() {
            out.extend(Sample::counters(name, help, label, counts));
        }
    });
    let connections = AtomicU64::new(0);
    metrics.sampled("broker", move |out| out.extend(broker(&connection.borrow(), &connections)));
    metrics.sampled("build", |out| {
        let info = Sample::gauge("info", "The version of this program", 1.0);
        out.push(info.label("version", env!("CARGO_PKG_VERSION")));
    });
}

/// What is known of the connection to the broker. `connections` remembers their number while there is none.
fn broker(state: &ConnectionState, connections: &AtomicU64) -> [Sample; 3] {
    if let ConnectionState::Connected { generation, .. } = state {
        connections.store(*generation, Ordering::Relaxed);
    }
    let blocked = matches!(state, ConnectionState::Blocked { .. });
    let connected = blocked || matches!(state, ConnectionState::Connected { .. });
    let is = |holds: bool| f64::from(u8::from(holds));
    [
        Sample::gauge("connected", "1 if there is a connection to the broker", is(connected)),
        Sample::gauge("blocked", "1 if the broker takes no messages for now", is(blocked)),
        Sample::counter(
            "connections",
            "Connections to the broker since the start",
            connections.load(Ordering::Relaxed),
        ),
    ]
}
