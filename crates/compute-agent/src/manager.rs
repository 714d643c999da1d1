//! The agent itself: reads the driver on its timer, publishes what it read, answers for its host.
//!
//! Always holds:
//! - nothing is published before the agent holds the queue `compute.<host>`: the broker decides who is that host;
//! - a report goes out every `periodic_interval`, even while the driver hangs or fails: then with the last reading;
//! - of requests to publish, at most one is answered per window, and each has an answer within its own: a scheduler that
//!   asks just after an answer went out may not have been listening yet, so it gets the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{CallError, RequestContext};
use novella_periodic_task::{TaskError, periodic_tasks};
use novella_rpcapi::{AgentStatus, ComputeEndpoint, GetHostStats, PublishServiceCapabilities};
use novella_service::Env;
use novella_service::config::Invalid;
use novella_service::exit::chain;
use novella_service::health::Heartbeat;
use novella_virt::{ComputeDriver, DriverError};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::monitors::CpuMonitor;
use crate::overrides::{self, OverrideError};
use crate::publisher::{Pending, Publisher};
use crate::report::{Reading, ReportTemplate};

/// The longest window that a request to publish may name; a longer one is cut, so that no peer can silence an answer.
const MAX_ANSWER_WINDOW: Duration = Duration::from_secs(60);

/// The part of a report interval in which the reading of the same tick is waited for before the last one is published
/// again. Most readings take milliseconds; without this patience each tick would bring two reports.
const PATIENCE: u32 = 4;

/// The host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A value could not be replaced as the operator wants.
    #[error("cannot apply an override")]
    Override(#[from] OverrideError),
}

/// Whether the agent may report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    stopping: CancellationToken,
}

#[derive(Default)]
struct State {
    last_capabilities: Option<Reading>,
    monitor: CpuMonitor,
    /// When a report was last handed to the publisher.
    last_offer: Option<Instant>,
    /// A request to publish is being answered; it serves those that come meanwhile.
    answer_due: bool,
    /// No further request to publish is answered before this.
    answered_until: Option<Instant>,
}

#[periodic_tasks]
impl ComputeManager {
    /// Reads the driver, keeps what it said, and publishes it. The first reading is made by [`crate::start`].
    #[periodic_task(spacing = self.config.report.host_state_interval)]
    async fn report_driver_status(&self) -> Result<(), TaskError> {
        let read = self.read_driver(true).await;
        // After a failure too: the host is not down because its driver stumbles.
        self.publish_last_capabilities();
        Ok(read?)
    }

    /// Publishes the last reading again when no fresh one went out in time: the driver is slow, stuck, or read less
    /// often than reports are due.
    #[periodic_task]
    async fn publish_service_capabilities(&self) {
        if let Some(heartbeat) = self.heartbeat.get() {
            heartbeat.beat();
        }
        let patience = self.config.report.periodic_interval / PATIENCE;
        let recent = |limit| self.report_age().is_some_and(|age| age <= limit);
        // Afterwards, twice as long: the reading of this very tick is as old as the patience by then, and a timer is late.
        if !recent(patience) && self.pause_until(Instant::now() + patience).await && !recent(patience * 2) {
            self.publish_last_capabilities();
        }
    }
}

impl ComputeManager {
    /// A manager that has read nothing yet.
    pub(crate) fn new(
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
            stopping: CancellationToken::new(),
        })
    }

    /// This agent holds its host name: it reports, now and from now on.
    pub(crate) fn take_name(&self) {
        self.standing.send_replace(Standing::Holder);
        self.publish_last_capabilities();
    }

    /// This agent does not hold its host name, or not for certain: it is silent.
    pub(crate) fn give_up_name(&self) {
        self.standing.send_replace(Standing::Waiting);
        self.publisher.withdraw();
    }

    /// The heartbeat of the publishing task.
    pub(crate) fn attach(&self, heartbeat: Heartbeat) {
        if self.heartbeat.set(heartbeat).is_err() {
            unreachable!("an agent attaches one heartbeat, when it starts");
        }
    }

    /// Ends what waits: the agent stops.
    pub(crate) fn begin_stop(&self) {
        self.stopping.cancel();
    }

    /// Whether it may report, now and as it changes.
    pub fn standing(&self) -> tokio::sync::watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Age of the last reading handed to the publisher.
    pub fn report_age(&self) -> Option<Duration> {
        self.state().last_offer.map(|at| at.elapsed())
    }

    /// The report that says this process ends; none if nothing was ever read.
    pub(crate) fn goodbye(&self) -> Option<Pending> {
        let state = self.state();
        let reading = state.last_capabilities.as_ref()?;
        let capabilities = self.template.goodbye(reading, self.next_seq(), self.env.clock.rfc3339());
        Some(Pending { host: self.host.clone(), capabilities })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the manager's state is held")
    }

    fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits until then. False if the agent stops before that.
    async fn pause_until(&self, then: Instant) -> bool {
        tokio::select! { biased;
            () = self.stopping.cancelled() => false,
            () = tokio::time::sleep_until(then) => true,
        }
    }

    /// Reads the driver, anew if `refresh`, and keeps what it said.
    pub(crate) async fn read_driver(&self, refresh: bool) -> Result<(), ReadError> {
        let mut stats = self.driver.get_host_stats(refresh).await?;
        for (key, value) in &self.config.driver.overrides {
            overrides::apply(&mut stats, key, value)?;
        }
        for stale in &stats.stale {
            // The probe itself has warned, once.
            tracing::debug!(
                probe = stale.probe,
                age_ms = stale.age.as_millis() as u64,
                reason = stale.reason,
                "a probe gave no value in time; reporting its last one"
            );
        }
        let mut state = self.state();
        if let Some(cpus) = stats.cpu_stats.as_ref().filter(|_| !self.config.compute_monitors.is_empty()) {
            state.monitor.observe(&cpus.value, self.driver.name(), &self.env.clock.rfc3339());
        }
        let metrics = state.monitor.metrics().cloned();
        state.last_capabilities = Some(Reading { stats, metrics });
        Ok(())
    }

    /// Whether the host, as last read, can offer what the operator wants it to.
    pub(crate) fn check_offer(&self) -> Result<(), Invalid> {
        let state = self.state();
        let Some(Reading { stats, .. }) = &state.last_capabilities else { return Ok(()) };
        let offer = self.template.offer();
        for entry in offer.idle_device_specs(stats) {
            tracing::warn!(entry, "no device of this host matches this entry of pci.device_spec");
        }
        match offer.problems(stats) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Invalid { problems }),
        }
    }

    /// Offers a report of the last reading, if there is one and this agent is its host.
    fn publish_last_capabilities(&self) {
        if *self.standing.borrow() != Standing::Holder {
            return;
        }
        let mut state = self.state();
        let Some(reading) = &state.last_capabilities else { return };
        let capabilities = self.template.report(reading, self.next_seq(), self.env.clock.rfc3339());
        state.last_offer = Some(Instant::now());
        // Under the lock, so that reports are offered in the order of their numbers.
        self.publisher.offer(Pending { host: self.host.clone(), capabilities });
    }

    /// When to answer a request to publish; none if an answer is due already.
    fn answer_at(&self, window: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        if state.answer_due {
            return None;
        }
        let begin = state.answered_until.map_or(now, |until| until.max(now));
        // The asker takes requests when its window has passed, so it must have its answer by then.
        let end = begin.max(now + window);
        state.answer_due = true;
        state.answered_until = Some(begin + window);
        // Spread the answers: thousands of agents hear the same question in the same millisecond.
        Some(begin + (end - begin).mul_f64((self.env.random.u64() >> 11) as f64 / (1u64 << 53) as f64))
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
        if let Some(then) = self.answer_at(window)
            && self.pause_until(then).await
        {
            self.state().answer_due = false;
            self.publish_last_capabilities();
        }
        Ok(())
    }

    async fn get_host_stats(&self, _: &RequestContext, args: GetHostStats) -> Result<Value, CallError> {
        let internal = |error: TaskError| CallError::Internal { message: chain(&*error) };
        if args.refresh || self.state().last_capabilities.is_none() {
            self.read_driver(args.refresh).await.map_err(|error| internal(error.into()))?;
        }
        let state = self.state();
        let reading = state.last_capabilities.as_ref().expect("read_driver has kept a reading");
        let seq = self.seq.load(Ordering::Relaxed);
        let capabilities = self.template.report(reading, seq, self.env.clock.rfc3339());
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
