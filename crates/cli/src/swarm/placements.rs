//! Placements asked for while a swarm reports: at a steady rate, however long the answers take.
//!
//! The time of a request starts when it is due. So a client that falls behind shows in the times, and not in a lower
//! rate. Requests are dry runs and do not change the fleet. Sizes change from one request to the next, because a
//! scheduler answers a repeated one faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use novella_messaging::RpcError;
use novella_objects::{Decision, Flavor, PlacementRequest, RequestSpec, SelectDestinations};
use novella_service::Random;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use crate::connect::Bus;
use crate::latencies::Latencies;

/// Maximum number of requests without an answer. Further ones wait, and the wait counts as part of their time.
const UNDER_WAY: usize = 1024;
/// The sizes to draw from: CPUs, GiB of memory and GiB of disk.
const SIZES: [(u32, u64, u64); 4] = [(1, 2, 10), (2, 4, 20), (4, 8, 40), (8, 16, 80)];

/// A client that asks for placements and counts the answers.
pub struct Asker {
    bus: Bus,
    per_second: u32,
    random: Random,
    under_way: FuturesUnordered<BoxFuture<'static, (Instant, Result<Decision, RpcError>)>>,
    answers: Arc<Answers>,
}

/// The answers so far.
#[derive(Default)]
pub struct Answers {
    times: Latencies,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// The answers of the whole run.
#[derive(Debug, Serialize)]
pub struct PlacementSummary {
    /// Requests that were answered.
    pub answered: u64,
    /// Answered requests for which no host fits.
    pub refused: u64,
    /// Requests without an answer in time.
    pub failed: u64,
    /// The time within which half of the answers came.
    pub p50_ms: Option<f64>,
    /// The time within which 99 of 100 answers came.
    pub p99_ms: Option<f64>,
    /// The longest time to an answer.
    pub max_ms: f64,
}

impl Asker {
    /// A client that asks for this many placements per second, once it is started.
    pub fn new(bus: Bus, per_second: u32, random: Random) -> Self {
        let answers = Arc::new(Answers::default());
        Self { bus, per_second, random, under_way: FuturesUnordered::new(), answers }
    }

    /// The answers so far, shared.
    pub fn answers(&self) -> Arc<Answers> {
        self.answers.clone()
    }

    /// Asks until `work` is done.
    pub async fn during(&mut self, work: impl Future<Output = ()>) {
        tokio::pin!(work);
        let mut due = tokio::time::interval(Duration::from_secs(1) / self.per_second);
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! { biased;
                () = &mut work => return,
                Some((since, answer)) = self.under_way.next() => self.answers.count(since, answer),
                since = due.tick(), if self.under_way.len() < UNDER_WAY => self.ask(since),
            }
        }
    }

    /// Waits for the answers that are still to come, each of which has its deadline, and closes the connection.
    pub async fn finish(mut self) {
        while let Some((since, answer)) = self.under_way.next().await {
            self.answers.count(since, answer);
        }
        self.bus.close().await;
    }

    fn ask(&self, since: Instant) {
        let number = self.random.u64();
        let (vcpus, memory_gb, root_gb) = SIZES[(number % SIZES.len() as u64) as usize];
        let flavor = Flavor { vcpus, memory_mb: memory_gb * 1024, root_gb, ..Flavor::default() };
        let request_spec = PlacementRequest {
            instance_uuids: vec![self.random.uuid()],
            spec: RequestSpec { flavor, ..RequestSpec::default() },
            attempt: 1,
        };
        let request = SelectDestinations { request_spec, dry_run: true, ..SelectDestinations::default() };
        let (api, options) = (self.bus.scheduler().clone(), self.bus.options());
        self.under_way
            .push(Box::pin(async move { (since, api.select_destinations(&request, options).await) }));
    }
}

impl Answers {
    fn count(&self, since: Instant, answer: Result<Decision, RpcError>) {
        match answer {
            Ok(decision) => {
                self.times.record(since.elapsed());
                self.refused.fetch_add(u64::from(decision.refusal.is_some()), Ordering::Relaxed);
            }
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The time within which this share (0 to 1) of the answers came.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        self.times.quantile(share)
    }

    /// The summary of all answers.
    pub fn summary(&self) -> PlacementSummary {
        PlacementSummary {
            answered: self.times.count(),
            refused: self.refused.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            p50_ms: self.times.quantile_ms(0.5),
            p99_ms: self.times.quantile_ms(0.99),
            max_ms: self.times.max_ms(),
        }
    }
}
