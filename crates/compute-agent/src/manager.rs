//! The agent itself: reads the driver on its timer, publishes what it read, answers for its host.
//!
//! Always holds:
//! - nothing is published before the agent holds the queue `compute.<host>`: the broker decides who is that host;
//! - a report goes out every `periodic_interval`, even while the driver hangs: then with the last reading;
//! - of requests to publish, at most one is answered per window.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{CallError, RequestContext};
use novella_periodic_task::{TaskError, periodic_tasks};
use novella_rpcapi::{AgentStatus, ComputeEndpoint, GetHostStats, PublishServiceCapabilities};
use novella_service::Env;
use novella_service::health::Heartbeat;
use novella_virt::{ComputeDriver, HostStats};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::AgentConfig;
use crate::overrides;
use crate::publisher::{Pending, Publisher};
use crate::report::ReportTemplate;

/// The longest window that a request to publish may name; a longer one is cut, so that no peer can silence an answer.
const MAX_ANSWER_WINDOW: Duration = Duration::from_secs(60);

/// Why the agent is not reporting yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Waiting for the queue `compute.<host>`.
    Waiting,
    /// Holds it.
    Holder,
}

/// The agent's manager: owner of the driver and of the last capabilities.
pub struct ComputeManager {
    host: String,
    config: Arc<AgentConfig>,
    env: Env,
    driver: Arc<dyn ComputeDriver>,
    template: ReportTemplate,
    publisher: Arc<Publisher>,
    started: Duration,
    seq: AtomicU64,
    state: Mutex<State>,
    standing: tokio::sync::watch::Sender<Standing>,
    heartbeat: OnceLock<Heartbeat>,
}

#[derive(Default)]
struct State {
    /// The driver's last reading, operator's overrides applied.
    last_capabilities: Option<HostStats>,
    /// When a report was last handed to the publisher.
    last_offer: Option<Instant>,
    /// No further request to publish is answered before this.
    answered_until: Option<Instant>,
}

#[periodic_tasks]
impl ComputeManager {
    /// Reads the driver, keeps what it said, and publishes it.
    #[periodic_task(spacing = self.config.report.host_state_interval, run_immediately)]
    async fn report_driver_status(&self) -> Result<(), TaskError> {
        self.read_driver(true).await?;
        self.publish_last_capabilities();
        Ok(())
    }

    /// Publishes the last reading again when no fresh one went out in time: the driver is slow, stuck, or read less
    /// often than reports are due.
    #[periodic_task]
    async fn publish_service_capabilities(&self) {
        if let Some(heartbeat) = self.heartbeat.get() {
            heartbeat.beat();
        }
        let late = self.config.report.periodic_interval / 2;
        let due = self.state().last_offer.is_none_or(|at| at.elapsed() >= late);
        if due {
            self.publish_last_capabilities();
        }
    }
}

impl ComputeManager {
    /// A manager that has read nothing yet.
    pub fn new(
        host: String,
        config: Arc<AgentConfig>,
        env: Env,
        driver: Arc<dyn ComputeDriver>,
        template: ReportTemplate,
        publisher: Arc<Publisher>,
    ) -> Arc<Self> {
        let started = env.clock.now();
        Arc::new(Self {
            host,
            config,
            env,
            driver,
            template,
            publisher,
            started,
            seq: AtomicU64::new(0),
            state: Mutex::new(State::default()),
            standing: tokio::sync::watch::Sender::new(Standing::Waiting),
            heartbeat: OnceLock::new(),
        })
    }

    /// Whether it may report.
    pub fn set_standing(&self, standing: Standing) {
        self.standing.send_if_modified(|now| std::mem::replace(now, standing.clone()) != standing);
    }

    /// The heartbeat of the publishing task.
    pub fn attach(&self, heartbeat: Heartbeat) {
        self.heartbeat.set(heartbeat).ok();
    }

    /// Whether it may report, now and as it changes.
    pub fn standing(&self) -> tokio::sync::watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Age of the last reading handed to the publisher.
    pub fn report_age(&self) -> Option<Duration> {
        self.state().last_offer.map(|at| at.elapsed())
    }

    /// The report that says this process ends.
    pub fn goodbye(&self) -> Pending {
        let capabilities = self.template.goodbye(self.next_seq(), self.env.clock.rfc3339());
        Pending { host: self.host.clone(), capabilities }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the manager's state is held")
    }

    fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn read_driver(&self, refresh: bool) -> Result<(), TaskError> {
        let mut stats = self.driver.get_host_stats(refresh).await?;
        for (key, value) in &self.config.driver.overrides {
            overrides::apply(&mut stats, key, value)?;
        }
        for stale in &stats.stale {
            tracing::warn!(
                probe = stale.probe,
                age_ms = stale.age.as_millis() as u64,
                reason = stale.reason,
                "a probe gave no value in time; reporting its last one"
            );
        }
        self.state().last_capabilities = Some(stats);
        Ok(())
    }

    /// Offers a report of the last reading, if there is one and this agent is its host.
    fn publish_last_capabilities(&self) {
        if *self.standing.borrow() != Standing::Holder {
            return;
        }
        let mut state = self.state();
        let Some(stats) = &state.last_capabilities else { return };
        let capabilities = self.template.report(stats, self.next_seq(), self.env.clock.rfc3339());
        state.last_offer = Some(Instant::now());
        drop(state);
        self.publisher.offer(Pending { host: self.host.clone(), capabilities });
    }

    /// Publishes at once: the agent has become the holder of its host name.
    pub fn publish_now(&self) {
        self.publish_last_capabilities();
    }
}

#[async_trait]
impl ComputeEndpoint for ComputeManager {
    async fn publish_service_capabilities(
        &self,
        _: &RequestContext,
        args: PublishServiceCapabilities,
    ) -> Result<(), CallError> {
        let window = Duration::from_millis(args.window_ms).min(MAX_ANSWER_WINDOW);
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.answered_until.is_some_and(|until| now < until) {
                return Ok(());
            }
            state.answered_until = Some(now + window);
        }
        // Spread the answers: thousands of agents hear the same question in the same millisecond.
        let jitter = window.mul_f64((self.env.random.u64() >> 11) as f64 / (1u64 << 53) as f64);
        tokio::time::sleep(jitter).await;
        self.publish_last_capabilities();
        Ok(())
    }

    async fn get_host_stats(&self, _: &RequestContext, args: GetHostStats) -> Result<Value, CallError> {
        let internal = |error: TaskError| CallError::Internal { message: error.to_string() };
        if args.refresh || self.state().last_capabilities.is_none() {
            self.read_driver(args.refresh).await.map_err(internal)?;
        }
        let state = self.state();
        let stats = state.last_capabilities.as_ref().expect("read_driver has kept a reading");
        let seq = self.seq.load(Ordering::Relaxed);
        let capabilities = self.template.report(stats, seq, self.env.clock.rfc3339());
        serde_json::to_value(&capabilities).map_err(|error| internal(error.into()))
    }

    async fn ping(&self, _: &RequestContext) -> Result<AgentStatus, CallError> {
        let identity = self.template.identity();
        Ok(AgentStatus {
            host: self.host.clone(),
            uuid: identity.uuid,
            incarnation: identity.incarnation,
            pid: std::process::id(),
            driver: self.driver.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: (self.env.clock.now().saturating_sub(self.started)).as_secs_f64(),
            reports: self.publisher.counters.published.load(Ordering::Relaxed),
        })
    }
}
