//! The agent's manager: reads the driver on a timer, publishes the readings, and answers calls to its host.
//!
//! What always holds:
//! - nothing is published before the agent holds the queue `compute.<host>`: the broker gives it to one agent at a time;
//! - a report goes out every `periodic_interval`; while the driver hangs or fails, it has the last reading;
//! - the settings in force are replaced as a whole, and only by settings that this host can offer;
//! - at most one request to publish is answered in each window, and every request is answered within its own window. A
//!   scheduler that asks just after an answer went out may have missed it, so it gets the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use novella_messaging::{CallError, RequestContext};
use novella_objects::{ClaimAnswer, ClaimRequest, InstanceEvent, TerminateInstance, Terminated};
use novella_periodic_task::{TaskError, periodic_tasks};
use novella_resources::HostLimits;
use novella_rpcapi::{AgentStatus, ComputeEndpoint, GetHostStats, InstanceQuery, PublishServiceCapabilities};
use novella_service::Env;
use novella_service::config::{Invalid, Settings, changed_keys};
use novella_service::exit::chain;
use novella_service::health::Heartbeat;
use novella_virt::{ComputeDriver, DriverError, HostStats};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::claims::tracker::{ReportedClaims, ResourceTracker};
use crate::config::AgentConfig;
use crate::instances::manager::Instances;
use crate::monitors::CpuMonitor;
use crate::overrides::{self, OverrideError};
use crate::publisher::{Pending, Publisher, Standing};
use crate::report::{Reading, ReportTemplate};

/// Longest window that a request to publish may set. A longer one is shortened, so that no peer can delay the answer.
const MAX_ANSWER_WINDOW: Duration = Duration::from_secs(60);

/// Before the last reading is published again, the reading of the same tick is awaited for a quarter of the report
/// interval. Most readings take milliseconds. Without waiting, each tick would send two reports.
const PATIENCE: u32 = 4;

/// Shortest time between two reports that are sent because claims have changed.
const CLAIMS_GAP: Duration = Duration::from_millis(100);

/// Why the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// An override of the operator cannot be applied.
    #[error("cannot apply an override")]
    Override(#[from] OverrideError),
}

/// The agent's manager, which owns the driver and the last reading.
pub struct ComputeManager {
    host: String,
    /// The settings at the start, for what does not change while the agent runs.
    config: Arc<AgentConfig>,
    in_force: Mutex<Arc<InForce>>,
    env: Env,
    driver: Arc<dyn ComputeDriver>,
    tracker: Arc<ResourceTracker>,
    instances: Arc<Instances>,
    publisher: Arc<Publisher>,
    started: Duration,
    seq: AtomicU64,
    state: Mutex<State>,
    standing: tokio::sync::watch::Sender<Standing>,
    heartbeat: OnceLock<Heartbeat>,
    stopping: CancellationToken,
}

/// The settings that reports are made from.
struct InForce {
    config: Arc<AgentConfig>,
    template: ReportTemplate,
}

/// What a reload of the settings changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// The keys that have changed and are in force.
    pub applied: Vec<String>,
    /// The keys that have changed, but are only used when an agent starts.
    pub after_restart: Vec<String>,
}

#[derive(Default)]
struct State {
    last_capabilities: Option<Reading>,
    host_ip: Option<String>,
    /// The current warnings of the driver. Each was logged when it first appeared.
    warnings: Vec<String>,
    monitor: CpuMonitor,
    /// When a report was last handed to the publisher.
    last_offer: Option<Instant>,
    /// Whether a request to publish is being answered. The same answer serves requests that arrive meanwhile.
    answer_due: bool,
    /// Time before which no further request to publish is answered.
    answered_until: Option<Instant>,
}

#[periodic_tasks]
impl ComputeManager {
    /// Reads the driver, keeps the reading, and publishes it. The first reading is made when the agent starts.
    #[periodic_task(spacing = self.config.report.host_state_interval)]
    async fn report_driver_status(&self) -> Result<(), TaskError> {
        let read = self.read_driver(true).await;
        // The last reading is published after a failure too, because a host is not down when its driver fails.
        self.publish_last_capabilities();
        Ok(read?)
    }

    /// Publishes the last reading again if no fresh one went out in time. The driver may be slow or stuck, or it may be read
    /// less often than reports are due.
    #[periodic_task]
    async fn publish_service_capabilities(&self) {
        if let Some(heartbeat) = self.heartbeat.get() {
            heartbeat.beat();
        }
        let patience = self.config.report.periodic_interval / PATIENCE;
        let recent = |limit| self.report_age().is_some_and(|age| age <= limit);
        // After the wait the limit is doubled: the report of this tick may be as old as the wait, and timers may be late.
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
        instances: Arc<Instances>,
        template: ReportTemplate,
        publisher: Arc<Publisher>,
    ) -> Arc<Self> {
        let started = env.clock.now();
        let host_ip = Some(config.my_ip.clone()).filter(|address| !address.is_empty());
        let in_force = InForce { config: config.clone(), template };
        Arc::new(Self {
            host,
            config,
            in_force: Mutex::new(Arc::new(in_force)),
            env,
            driver,
            tracker: instances.tracker().clone(),
            instances,
            publisher,
            started,
            seq: AtomicU64::new(0),
            state: Mutex::new(State { host_ip, ..State::default() }),
            standing: tokio::sync::watch::Sender::new(Standing::Waiting),
            heartbeat: OnceLock::new(),
            stopping: CancellationToken::new(),
        })
    }

    /// Starts to report, because this agent now holds its host name.
    pub(crate) fn take_name(&self) {
        self.standing.send_replace(Standing::Holder);
        self.publish_last_capabilities();
    }

    /// Stops reporting, because this agent does not hold its host name, or may no longer hold it.
    pub(crate) fn give_up_name(&self) {
        self.stand(Standing::Waiting);
    }

    /// Notes that the broker refuses the queue of this host.
    pub(crate) fn refuse_name(&self, reason: &str) {
        self.stand(Standing::Refused(reason.into()));
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_replace(standing);
        self.publisher.withdraw();
    }

    /// Sets the heartbeat of the publishing task.
    pub(crate) fn attach(&self, heartbeat: Heartbeat) {
        if self.heartbeat.set(heartbeat).is_err() {
            unreachable!("an agent attaches one heartbeat, when it starts");
        }
    }

    /// Ends all waiting, because the agent stops.
    pub(crate) fn begin_stop(&self) {
        self.stopping.cancel();
    }

    /// Whether the agent may report. The receiver sees changes.
    pub fn standing(&self) -> tokio::sync::watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Age of the last report that was handed to the publisher.
    pub fn report_age(&self) -> Option<Duration> {
        self.state().last_offer.map(|at| at.elapsed())
    }

    /// The report that tells the schedulers that this process ends. `None` if the host was never read.
    pub(crate) fn goodbye(&self) -> Option<Pending> {
        let state = self.state();
        let reading = state.last_capabilities.as_ref()?;
        let claimed = self.claimed();
        let capabilities =
            self.in_force().template.goodbye(reading, claimed, self.next_seq(), self.env.clock.rfc3339());
        Some(Pending { host: self.host.clone(), capabilities })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the manager's state is held")
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.lock().expect("no panic while the settings are held").clone()
    }

    /// Sets the address of the host. Returns whether it has changed.
    pub fn set_host_ip(&self, address: &str) -> bool {
        let mut state = self.state();
        if state.host_ip.as_deref() == Some(address) {
            return false;
        }
        state.host_ip = Some(address.to_owned());
        if let Some(reading) = &mut state.last_capabilities {
            reading.host_ip = Some(address.to_owned());
        }
        true
    }

    /// Applies those new settings that can change while the agent runs, and sends a report at once. If they do not match the
    /// hardware of this host, the previous settings stay in force.
    pub async fn reload(&self, wanted: &AgentConfig) -> Result<Reload, Invalid> {
        let before = self.in_force();
        let config = before.config.reloaded(wanted);
        let applied = changed_keys(&*before.config, &config);
        let after_restart = changed_keys(&config, wanted);
        if applied.is_empty() {
            return Ok(Reload { applied, after_restart });
        }
        match config.validate() {
            problems if problems.is_empty() => {}
            problems => return Err(Invalid { problems }),
        }
        let template = ReportTemplate::new(&config, before.template.identity().clone());
        self.check_offer(&template)?;
        *self.in_force.lock().expect("no panic while the settings are held") =
            Arc::new(InForce { config: Arc::new(config), template });
        if let Err(error) = self.read_driver(true).await {
            tracing::warn!(
                error = chain(&error),
                "cannot read the host after the reload; reporting the last reading"
            );
        }
        self.publish_last_capabilities();
        Ok(Reload { applied, after_restart })
    }

    fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits until `then`. Returns false if the agent stops before that.
    async fn pause_until(&self, then: Instant) -> bool {
        tokio::select! { biased;
            () = self.stopping.cancelled() => false,
            () = tokio::time::sleep_until(then) => true,
        }
    }

    /// Reads the driver, keeps the reading, and compares the instances with their guests. If `refresh` is false, the driver may return its last one.
    pub(crate) async fn read_driver(&self, refresh: bool) -> Result<(), ReadError> {
        let mut stats = self.driver.get_host_stats(refresh).await?;
        for (key, value) in &self.in_force().config.driver.overrides {
            overrides::apply(&mut stats, key, value)?;
        }
        for stale in &stats.stale {
            // The probe itself has logged a warning once.
            tracing::debug!(
                probe = stale.probe,
                age_ms = stale.age.as_millis() as u64,
                reason = stale.reason,
                "a probe returned no value in time; reporting its last value, if there is one"
            );
        }
        self.keep(stats);
        self.instances.sync().await;
        Ok(())
    }

    /// Keeps a reading, and tells what is new in its warnings.
    fn keep(&self, stats: HostStats) {
        let mut state = self.state();
        if let Some(cpus) = stats.cpu_stats.as_ref().filter(|_| !self.config.compute_monitors.is_empty()) {
            state.monitor.observe(&cpus.value, self.driver.name(), &self.env.clock.rfc3339());
        }
        for warning in stats.warnings.iter().filter(|warning| !state.warnings.contains(warning)) {
            tracing::warn!(host = self.host, "{warning}");
        }
        for over in state.warnings.iter().filter(|warning| !stats.warnings.contains(warning)) {
            tracing::info!(host = self.host, "resolved: {over}");
        }
        state.warnings.clone_from(&stats.warnings);
        let (metrics, host_ip) = (state.monitor.metrics().cloned(), state.host_ip.clone());
        let reading = Reading { stats, metrics, host_ip };
        self.set_limits(&reading);
        state.last_capabilities = Some(reading);
    }

    /// Limits claims to what the host reports that it has.
    fn set_limits(&self, reading: &Reading) {
        let report = self.in_force().template.report(reading, ReportedClaims::default(), 0, String::new());
        match HostLimits::of_report(&report) {
            Ok(limits) => self.tracker.set_limits(limits, self.driver.abilities().lists_instances),
            Err(error) => {
                tracing::error!(host = self.host, %error, "cannot limit claims by the new reading; keeping the old limits");
            }
        }
    }

    /// Publishes soon after claims have changed, until dropped.
    pub(crate) async fn publish_claims(self: Arc<Self>) {
        loop {
            self.tracker.changed().await;
            self.publish_last_capabilities();
            tokio::time::sleep(CLAIMS_GAP).await;
        }
    }

    /// What reports list of claims and instances.
    fn claimed(&self) -> ReportedClaims {
        let mut claimed = self.tracker.reported();
        self.instances.add_to(&mut claimed);
        claimed
    }

    /// The instances of this host.
    pub(crate) fn instances(&self) -> &Instances {
        &self.instances
    }

    /// What the host has granted.
    pub fn tracker(&self) -> &ResourceTracker {
        &self.tracker
    }

    /// Checks the settings at the start against the hardware of the host as last read.
    pub(crate) fn check_first_offer(&self) -> Result<(), Invalid> {
        self.check_offer(&self.in_force().template)
    }

    fn check_offer(&self, template: &ReportTemplate) -> Result<(), Invalid> {
        let state = self.state();
        let Some(Reading { stats, .. }) = &state.last_capabilities else { return Ok(()) };
        let offer = template.offer();
        for entry in offer.idle_device_specs(stats) {
            tracing::warn!(entry, "no device of this host matches this entry of pci.device_spec");
        }
        match offer.problems(stats) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Invalid { problems }),
        }
    }

    /// Hands a report of the last reading to the publisher, if there is a reading and this agent holds its host name.
    fn publish_last_capabilities(&self) {
        if *self.standing.borrow() != Standing::Holder {
            return;
        }
        let mut state = self.state();
        let Some(reading) = &state.last_capabilities else { return };
        let (in_force, claimed) = (self.in_force(), self.claimed());
        let capabilities =
            in_force.template.report(reading, claimed, self.next_seq(), self.env.clock.rfc3339());
        state.last_offer = Some(Instant::now());
        // The state is locked, so that reports are handed over in the order of their numbers.
        self.publisher.offer(Pending { host: self.host.clone(), capabilities });
    }

    /// When to answer a request to publish. `None` if an answer is already scheduled.
    fn answer_at(&self, window: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        if state.answer_due {
            return None;
        }
        let begin = state.answered_until.map_or(now, |until| until.max(now));
        // The scheduler starts placing when its window has passed, so it must have the answer by then.
        let end = begin.max(now + window);
        state.answer_due = true;
        state.answered_until = Some(begin + window);
        // Answers are spread over the window, because thousands of agents get the same request in the same millisecond.
        Some(begin + (end - begin).mul_f64(self.env.random.unit()))
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
        let claimed = self.claimed();
        let capabilities = self.in_force().template.report(reading, claimed, seq, self.env.clock.rfc3339());
        serde_json::to_value(&capabilities).map_err(|error| internal(error.into()))
    }

    async fn claim(&self, _: &RequestContext, args: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        self.tracker.claim(args).await
    }

    async fn build_and_run_instance(
        &self,
        _: &RequestContext,
        args: ClaimRequest,
    ) -> Result<Vec<ClaimAnswer>, CallError> {
        self.instances.build(args).await
    }

    async fn stop_instance(&self, _: &RequestContext, args: InstanceQuery) -> Result<(), CallError> {
        self.instances.stop(args.instance_uuid).await
    }

    async fn start_instance(&self, _: &RequestContext, args: InstanceQuery) -> Result<(), CallError> {
        self.instances.power_on(args.instance_uuid).await
    }

    async fn instance_events(
        &self,
        _: &RequestContext,
        args: InstanceQuery,
    ) -> Result<Vec<InstanceEvent>, CallError> {
        self.instances.events(args.instance_uuid)
    }

    async fn hold(&self, _: &RequestContext, args: ClaimRequest) -> Result<Vec<ClaimAnswer>, CallError> {
        self.tracker.hold(&args)
    }

    async fn terminate_instance(
        &self,
        _: &RequestContext,
        args: TerminateInstance,
    ) -> Result<Vec<Terminated>, CallError> {
        self.instances.terminate(&args).await
    }

    async fn ping(&self, _: &RequestContext) -> Result<AgentStatus, CallError> {
        let in_force = self.in_force();
        let identity = in_force.template.identity();
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
