//! Health over HTTP: `/livez` (must this process be restarted?), `/readyz` (may it get work?), `/metrics`.
//!
//! What always holds: a process is ready when every named [`Condition`] holds, and alive while every watched loop has
//! beaten within its time. Both answers list each part with its reason, so nobody has to guess. Alive never depends on
//! the broker, because restarting this process does not end an outage of the broker.
//!
//! What it leaves out: authentication and TLS. It listens on loopback unless told otherwise.

mod listen;
mod probe;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::sync::watch;

#[cfg(test)]
pub(crate) use listen::bind;
pub use listen::{BindError, bind_to, serve};
pub use probe::ask;

use crate::env::{Clock, Metrics};

/// The media type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The health of one daemon. All clones share one state.
#[derive(Clone, Debug)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    parts: Mutex<Parts>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Parts {
    conditions: BTreeMap<String, ConditionState>,
    loops: BTreeMap<String, LoopState>,
}

#[derive(Debug)]
struct ConditionState {
    holds: bool,
    reason: String,
    since: Duration,
}

#[derive(Debug)]
struct LoopState {
    timeout: Duration,
    last_beat: Duration,
    /// Whether the heartbeat was dropped without [`Heartbeat::end`], which means that the loop is gone.
    lost: bool,
}

/// The answer of `/livez` or `/readyz`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthReport {
    /// Whether every part is well.
    pub ok: bool,
    /// Each part, by name.
    pub parts: Vec<PartReport>,
}

/// One condition or loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartReport {
    /// The name of the condition or loop.
    pub name: String,
    /// Whether the condition holds, or the loop runs.
    pub ok: bool,
    /// Why it is so, for people.
    pub reason: String,
    /// Seconds since the condition last changed, or since the loop's last beat.
    pub age_s: f64,
}

impl HealthReport {
    /// What is not well, as one line: `broker: connecting to mq:5672; map: 3 of 8 hosts`.
    pub fn summary(&self) -> String {
        let bad = self.parts.iter().filter(|part| !part.ok);
        bad.map(|part| format!("{}: {}", part.name, part.reason)).collect::<Vec<_>>().join("; ")
    }
}

impl Health {
    /// Health without any condition or loop, which is ready and alive. Make the conditions before the server is started.
    pub fn new(clock: Clock) -> Health {
        Health { inner: Arc::new(Inner { clock, parts: Mutex::default(), ready: watch::Sender::new(true) }) }
    }

    /// Adds a condition that must hold before this process is ready. It does not hold until [`Condition::set`] says so. A
    /// name that exists already gives the same condition.
    pub fn condition(&self, name: &str) -> Condition {
        let since = self.inner.clock.now();
        self.change(|parts| {
            parts.conditions.entry(name.to_owned()).or_insert_with(|| ConditionState {
                holds: false,
                reason: "starting".to_owned(),
                since,
            });
        });
        Condition { health: self.clone(), name: name.to_owned() }
    }

    /// Watches a loop that promises to beat at least every `timeout`.
    pub fn watch_loop(&self, name: &str, timeout: Duration) -> Heartbeat {
        let state = LoopState { timeout, last_beat: self.inner.clock.now(), lost: false };
        self.change(|parts| parts.loops.insert(name.to_owned(), state));
        Heartbeat { health: self.clone(), name: name.to_owned() }
    }

    /// Whether every condition holds.
    pub fn ready(&self) -> HealthReport {
        let now = self.inner.clock.now();
        self.read(|parts| {
            report(parts.conditions.iter().map(|(name, state)| PartReport {
                name: name.clone(),
                ok: state.holds,
                reason: state.reason.clone(),
                age_s: now.saturating_sub(state.since).as_secs_f64(),
            }))
        })
    }

    /// Whether every watched loop is running.
    pub fn live(&self) -> HealthReport {
        let now = self.inner.clock.now();
        self.read(|parts| {
            report(parts.loops.iter().map(|(name, state)| {
                let age = now.saturating_sub(state.last_beat);
                let (ok, reason) = match (state.lost, age <= state.timeout) {
                    (true, _) => (false, "the loop has ended unexpectedly".to_owned()),
                    (false, true) => (true, "running".to_owned()),
                    (false, false) => (
                        false,
                        format!("no beat for {:.1} s, allowed are {:?}", age.as_secs_f64(), state.timeout),
                    ),
                };
                PartReport { name: name.clone(), ok, reason, age_s: age.as_secs_f64() }
            }))
        })
    }

    /// Resolves once every condition holds.
    pub async fn until_ready(&self) {
        let mut ready = self.inner.ready.subscribe();
        // The sender lives as long as self, so this cannot fail while we wait.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// The three routes, which can be served alone or merged into a larger router.
    pub fn router(&self, metrics: Metrics) -> Router {
        Router::new()
            .route("/livez", get(|State(health): State<Health>| async move { json(&health.live()) }))
            .route("/readyz", get(|State(health): State<Health>| async move { json(&health.ready()) }))
            .with_state(self.clone())
            .route("/metrics", get(|State(metrics): State<Metrics>| async move { metrics_text(&metrics) }))
            .with_state(metrics)
    }

    fn read<T>(&self, f: impl FnOnce(&Parts) -> T) -> T {
        f(&self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, f: impl FnOnce(&mut Parts) -> T) -> T {
        let mut parts = self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut parts);
        let ready = parts.conditions.values().all(|state| state.holds);
        self.inner.ready.send_if_modified(|was| std::mem::replace(was, ready) != ready);
        result
    }
}

fn report(parts: impl Iterator<Item = PartReport>) -> HealthReport {
    let parts: Vec<PartReport> = parts.collect();
    HealthReport { ok: parts.iter().all(|part| part.ok), parts }
}

fn json(report: &HealthReport) -> Response {
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(report).expect("names, reasons and finite ages are JSON");
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn metrics_text(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "cannot encode the metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "a collector failed\n").into_response()
        }
    }
}

/// Something that must hold before the process is ready.
#[derive(Clone, Debug)]
pub struct Condition {
    health: Health,
    name: String,
}

impl Condition {
    /// Sets whether it holds now, and why.
    pub fn set(&self, holds: bool, reason: impl Into<String>) {
        let (reason, now) = (reason.into(), self.health.inner.clock.now());
        self.health.change(|parts| {
            // `Health::condition` has put it there, and nothing takes it away.
            if let Some(state) = parts.conditions.get_mut(&self.name) {
                if state.holds != holds {
                    state.since = now;
                }
                (state.holds, state.reason) = (holds, reason);
            }
        });
    }

    /// Sets it to what `read` makes of each state, until nobody sends states any more.
    pub async fn follow<T>(self, mut states: watch::Receiver<T>, read: impl Fn(&T) -> (bool, String)) {
        loop {
            let (holds, reason) = read(&states.borrow_and_update());
            self.set(holds, reason);
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The pulse of one loop. When it is dropped, as by a panic, `/livez` fails for good.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    name: String,
}

impl Heartbeat {
    /// Tells that the loop is running.
    pub fn beat(&self) {
        let now = self.health.inner.clock.now();
        self.health.change(|parts| {
            if let Some(state) = parts.loops.get_mut(&self.name) {
                state.last_beat = now;
            }
        });
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.change(|parts| {
            if let Some(state) = parts.loops.get_mut(&self.name) {
                state.lost = true;
            }
        });
    }
}

#[cfg(test)]
mod tests;
