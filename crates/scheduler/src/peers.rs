//! Tells the other schedulers what was reserved here and what was released.
//!
//! What always holds: a release is sent after the reservation that it ends, and before anything that was decided later.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use novella_objects::Reserve;
use novella_rpcapi::SchedulerApi;
use novella_service::exit::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Maximum number of messages in flight. Reservations are small and concern different instances, so the broker may
/// confirm them in any order.
const IN_FLIGHT: usize = 64;

/// Publishes reservations until `stop` is cancelled and all that were waiting then are sent.
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
                    "could not tell the other schedulers of a decision; the hosts' claims will correct their maps"
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
