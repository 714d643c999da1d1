//! The agents of a swarm: started, counted and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use novella_compute_agent::{Agent, AgentConfig, IDENTITY_FILE, Standing};
use novella_messaging::Transport;
use novella_messaging::rabbit::RabbitTransport;
use novella_service::exit::Failure;
use novella_service::shutdown::Shutdown;
use novella_service::{Env, Random, StoreError};
use novella_virt::{DEFAULT_PROBE_DEADLINE, FakeConfig, FakeDriver};
use serde_json::json;
use tokio::time::Instant;

use super::meter::Metered;
use crate::connect::{denied, is_denial};
use crate::exit_codes::{CONFLICT, INTERNAL, TIMEOUT};
use crate::latencies::Latencies;

/// How many agents start, or stop, at the same time. More would only wait in line at the broker.
pub const AT_ONCE: usize = 256;
/// How long one agent may wait for its queue.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one agent, and one connection, may take to stop in order.
const GRACE: Duration = Duration::from_secs(5);

/// What all agents of the swarm share.
pub struct Swarm {
    /// How many agents there are to be.
    pub hosts: u32,
    /// The beginning of each host's name; its number follows.
    pub name_prefix: String,
    /// The settings of each agent.
    pub agent_config: AgentConfig,
    /// The environment from which each agent's environment is derived.
    pub env: Env,
    /// The connections that the agents share.
    pub connections: Vec<Arc<RabbitTransport>>,
    /// The times from sending a report to the broker's confirm.
    pub confirms: Arc<Latencies>,
}

impl Swarm {
    /// Starts the agents, until one cannot start or `shutdown` is requested.
    pub async fn start(&self, shutdown: &Shutdown) -> (Vec<Agent>, Option<Failure>) {
        let bar = progress(self.hosts.into(), "starting");
        let fake = Arc::new(self.agent_config.driver.fake.sized());
        let mut starting = stream::iter(0..self.hosts)
            .take_until(Box::pin(shutdown.requested()))
            .map(|index| self.start_one(index, fake.clone(), shutdown))
            .buffer_unordered(AT_ONCE);
        let mut agents = Vec::with_capacity(self.hosts as usize);
        let mut failed = None;
        while let Some(started) = starting.next().await {
            match started {
                Ok(Some(agent)) => {
                    agents.push(agent);
                    bar.inc(1);
                }
                Ok(None) => {}
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        bar.finish_and_clear();
        (agents, failed)
    }

    /// Starts one agent and waits until it holds its queue. Returns `None` if `shutdown` is requested meanwhile.
    async fn start_one(
        &self,
        index: u32,
        fake: Arc<FakeConfig>,
        shutdown: &Shutdown,
    ) -> Result<Option<Agent>, Failure> {
        let host = format!("{}{index:05}", self.name_prefix);
        let cannot = || Failure::new(INTERNAL, format!("cannot start agent {host}"));
        let driver =
            FakeDriver::new(host.clone(), fake, DEFAULT_PROBE_DEADLINE).map_err(|e| cannot().because(e))?;
        let shared = self.connections[index as usize % self.connections.len()].share();
        let transport: Arc<dyn Transport> = Arc::new(Metered::new(shared, self.confirms.clone()));
        let env = self.env.child(&host);
        write_identity(&env, &host).map_err(|error| cannot().because(error))?;
        let agent = novella_compute_agent::start(
            self.agent_config.clone(),
            host.clone(),
            env,
            Arc::new(driver),
            transport,
        );
        let agent = agent.await.map_err(|error| cannot().because(error))?;
        let mut standing = agent.manager().standing();
        let settled = |standing: &Standing| match standing {
            Standing::Holder => true,
            Standing::Refused(reason) => is_denial(reason),
            Standing::Waiting => false,
        };
        let outcome = tokio::select! { biased;
            () = shutdown.requested() => Ok(None),
            settled = tokio::time::timeout(START_TIMEOUT, standing.wait_for(settled)) => {
                match settled.ok().and_then(Result::ok).as_deref() {
                    Some(Standing::Holder) => return Ok(Some(agent)),
                    Some(Standing::Refused(reason)) => Err(denied(reason).next(
                        "a swarm needs the permissions of the broker user `agent`, and with --placements also those of `operator`; \
                         config/rabbitmq/README.md lists them",
                    )),
                    _ => Err(self.not_held(&host)),
                }
            }
        };
        agent.stop(GRACE).await;
        outcome
    }

    fn not_held(&self, host: &str) -> Failure {
        let waited = humantime::format_duration(START_TIMEOUT);
        if self.connected() == self.connections.len() {
            Failure::new(CONFLICT, format!("agent {host} did not get its queue within {waited}"))
                .next("another swarm or agent may use these names: use another --name-prefix")
        } else {
            Failure::new(TIMEOUT, format!("the broker was unreachable for more than {waited}"))
                .next("check the broker's log")
        }
    }

    /// How many connections are up.
    pub fn connected(&self) -> usize {
        let up = |c: &&Arc<RabbitTransport>| c.state().borrow().takes_messages();
        self.connections.iter().filter(up).count()
    }

    /// Stops the agents in order, and then the connections.
    pub async fn stop(&self, agents: Vec<Agent>) {
        let bar = progress(agents.len() as u64, "stopping");
        let stopped = stream::iter(agents).map(|agent| agent.stop(GRACE)).buffer_unordered(AT_ONCE);
        stopped.for_each(|()| async { bar.inc(1) }).await;
        bar.finish_and_clear();
        for connection in &self.connections {
            connection.close(Instant::now() + GRACE).await;
        }
    }
}

/// Writes the identity of a host. Its uuid is derived from its name, and its incarnation from the time. So schedulers see
/// the hosts of an earlier swarm as restarted, and not as replaced by unknown ones.
fn write_identity(env: &Env, host: &str) -> Result<(), StoreError> {
    let uuid = Random::from_seed(Random::from_number(0).fork(host)).uuid();
    let identity = json!({ "uuid": uuid, "incarnation": env.clock.unix_ms() });
    env.store.write_durable(IDENTITY_FILE, identity.to_string().as_bytes())
}

/// Counts of reports over all agents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Reports that the broker confirmed.
    pub reports: u64,
    /// Attempts to send a report that failed.
    pub failures: u64,
    /// Reports that newer ones replaced before they were sent.
    pub replaced: u64,
}

impl Totals {
    /// Adds up the counters of all agents.
    pub fn of(agents: &[Agent]) -> Self {
        agents.iter().fold(Self::default(), |sum, agent| {
            let counters = agent.publish_counters();
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            Self {
                reports: sum.reports + read(&counters.published),
                failures: sum.failures + read(&counters.failed),
                replaced: sum.replaced + read(&counters.replaced),
            }
        })
    }

    /// What was added since an earlier count.
    pub fn since(self, before: Self) -> Self {
        Self {
            reports: self.reports - before.reports,
            failures: self.failures - before.failures,
            replaced: self.replaced - before.replaced,
        }
    }
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is right"))
        .with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_swarm_run_again_is_the_same_hosts_restarted() {
        let identity = |env: &Env, host: &str| {
            let child = env.child(host);
            write_identity(&child, host).unwrap();
            let bytes = child.store.read(IDENTITY_FILE).unwrap().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            (json["uuid"].as_str().unwrap().to_owned(), json["incarnation"].as_u64().unwrap())
        };
        let first = identity(&Env::simulated(1), "swarm-00001");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (again, other) = (Env::simulated(2), Env::simulated(3));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(identity(&again, "swarm-00001").0, first.0);
        assert!(identity(&again, "swarm-00001").1 > first.1);
        assert_ne!(identity(&other, "swarm-00002").0, first.0);
    }
}
