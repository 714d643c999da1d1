//! Tells the other schedulers what was reserved here and what was let go.
//!
//! What always holds: what is let go is told after the reservation that it ends, and before whatever was decided after it.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use novella_objects::Reserve;
use novella_rpcapi::SchedulerApi;
use novella_service::exit::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Most messages that are published at once. Reservations are small and concern different instances, so the broker may
/// confirm them in any order.
const IN_FLIGHT: usize = 64;

/// Publishes reservations until `stop` is cancelled and those that waited then are told.
pub async fn tell_reserves(
    api: SchedulerApi,
    mut reserves: mpsc::Receiver<Reserve>,
    timeout: Duration,
    stop: CancellationToken,
) {
    let tell = |reserve: Reserve| {
        let api = api.clone();
        async move {
            if let Err(error) = api.reserve(&reserve, timeout).await {
                let decision_id = reserve.decision_id;
                warn!(
                    decision_id,
                    error = chain(&error),
                    "other schedulers were not told of a decision; host claims will settle it"
                );
            }
        }
    };
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! { biased;
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
            reserve = reserves.recv(), if in_flight.len() < IN_FLIGHT => {
                let Some(reserve) = reserve else { return };
                let lets_go = reserve.ttl_ms == 0;
                if lets_go {
                    while in_flight.next().await.is_some() {}
                }
                in_flight.push(tell(reserve));
                if lets_go {
                    while in_flight.next().await.is_some() {}
                }
            }
            () = stop.cancelled(), if in_flight.is_empty() => return,
        }
    }
}
