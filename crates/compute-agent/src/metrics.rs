//! The agent's metrics at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use novella_messaging::RpcServer;
use novella_service::{Metrics, Sample};

use crate::manager::ComputeManager;
use crate::publisher::{Publisher, Standing};

/// Registers the agent's metrics.
pub fn register(
    metrics: &Metrics,
    manager: &Arc<ComputeManager>,
    publisher: &Arc<Publisher>,
    server: &RpcServer,
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
        let counters = &publisher.counters;
        for (outcome, count) in [
            ("published", &counters.published),
            ("failed", &counters.failed),
            ("replaced", &counters.replaced),
        ] {
            let count = count.load(Ordering::Relaxed);
            out.push(Sample::counter("reports", "Reports by outcome", count).label("outcome", outcome));
        }
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
