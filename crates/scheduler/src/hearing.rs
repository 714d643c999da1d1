//! Makes sure that what others send to this scheduler arrives: it sends messages to itself the way they do, and listens.
//!
//! A binding can be lost in the broker while queue and consumer stay. Then nothing arrives, and nothing says so: reports and
//! requests are just absent. So the scheduler pings itself by its name, any scheduler by the topic of requests, and all
//! schedulers by each fanout that it consumes. `ping` of Nova's `baseapi` is answered by every peer, so nobody else minds.
//!
//! What always holds: while a way stays silent, `/readyz` says which one, and why. A lost message is the sign to bind all
//! queues again at once. After the way is heard again, the scheduler is ready again, and the agents are asked to report.
//!
//! Agents may not declare exchanges, so the scheduler also declares the one that leads commands to all of them, if it is
//! missing. The other exchanges are declared with the scheduler's own queues.
//!
//! Left out: the periodic binding, which the transport does. While the connection is lost or the broker takes no messages,
//! nothing is judged here, because other conditions say so.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use novella_messaging::{CallOptions, Destination, RpcClient, RpcError, Target, Transport, TransportError};
use novella_rpcapi::{BaseApi, Names};
use novella_service::exit::chain;
use novella_service::health::Condition;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// How often the scheduler sends itself messages.
const EVERY: Duration = Duration::from_secs(5);
/// The same while some do not arrive.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a message to oneself may be under way.
const PATIENCE: Duration = Duration::from_secs(4);
/// So many times in a row a way must stay silent before the scheduler is not ready. Once may be a busy moment. A message that
/// the broker has no queue for is no such moment, and counts at once.
const SILENT_MAX: u32 = 2;

/// Notices this scheduler's own messages among the pings of a fanout.
#[derive(Clone)]
pub struct Ear {
    /// The name of this scheduler, by which it knows its own messages.
    name: Arc<str>,
    /// The newest message that was heard, for each fanout.
    heard: watch::Sender<Vec<(String, u64)>>,
}

impl Ear {
    /// The ear of the scheduler of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), heard: watch::Sender::default() }
    }

    /// The argument of a ping that other schedulers do not take for theirs.
    fn message(&self, topic: &str, number: u64) -> Value {
        json!({"scheduler": &*self.name, "fanout": topic, "number": number})
    }

    /// Takes note of a ping, if it is one of this scheduler's own.
    pub fn hear(&self, arg: &Value) {
        let (Some(topic), Some(number)) = (arg["fanout"].as_str(), arg["number"].as_u64()) else { return };
        if arg["scheduler"].as_str() != Some(&self.name) {
            return;
        }
        self.heard.send_if_modified(|heard| match heard.iter_mut().find(|(of, _)| of == topic) {
            Some((_, newest)) => std::mem::replace(newest, number) != number,
            // Only those that were sent are waited for, so a stranger cannot make this list grow.
            None => false,
        });
    }
}

/// The task that sends the messages. See the module's text.
pub struct Hearing {
    /// Sends them.
    pub client: RpcClient,
    /// Binds the queues of this scheduler again.
    pub transport: Arc<dyn Transport>,
    /// The exchange and the topics.
    pub names: Names,
    /// Notices what arrives by fanout, and has the name of this scheduler.
    pub ear: Ear,
    /// The health condition that says whether messages arrive.
    pub arrive: Condition,
}

/// Why a message to oneself did not arrive.
enum Silence {
    /// It did not come in time.
    Late(String),
    /// No queue took it.
    Lost(String),
    /// The permissions of this scheduler's broker user do not let it ask.
    MayNotAsk,
}

/// The ways that stayed silent.
#[derive(Default)]
struct Silent {
    /// Each way, and why nothing came.
    ways: Vec<String>,
    /// Whether a message was lost for certain.
    certain: bool,
}

impl Hearing {
    /// Sends messages again and again, until dropped. Notifies `heard_again` after a silence, because reports may have been
    /// missed.
    pub async fn run(&self, heard_again: &Notify) -> Infallible {
        let fanouts = self.fanouts();
        self.ear.heard.send_replace(fanouts.iter().map(|fanout| (fanout.topic.clone(), 0)).collect());
        self.arrive.set(true, "not tried yet");
        let connection = self.transport.state();
        let (mut silent, mut number) = (0, 0);
        loop {
            sleep(if silent > 0 { AGAIN } else { EVERY }).await;
            if !connection.borrow().takes_messages() {
                silent = 0;
                continue;
            }
            number += 1;
            let Silent { ways, certain } = self.try_all(&fanouts, number).await;
            if ways.is_empty() {
                if silent >= SILENT_MAX {
                    info!("messages to this scheduler arrive again");
                    heard_again.notify_one();
                }
                silent = 0;
                continue;
            }
            self.transport.rebind();
            let before = silent;
            silent = if certain { SILENT_MAX.max(silent + 1) } else { silent + 1 };
            let ways = ways.join("; ");
            if before < SILENT_MAX && silent >= SILENT_MAX {
                warn!(lost = ways, "messages to this scheduler do not arrive; its queues are bound again");
            }
            if silent >= SILENT_MAX {
                self.arrive.set(false, ways);
            }
        }
    }

    /// Declares the exchange that leads commands to all agents, if it is missing.
    async fn keep_the_exchange_of_agents(&self) -> Result<(), Silence> {
        let agents = Destination::Fanout { topic: self.names.compute_topic.clone() };
        match self.transport.keep_exchange(&agents, Instant::now() + PATIENCE).await {
            Ok(false) => {}
            Ok(true) => info!(exchange = %agents, "an exchange was missing and is declared again"),
            Err(error @ TransportError::Refused { .. }) => return Err(Silence::Lost(chain(&error))),
            Err(error) => return Err(Silence::Late(chain(&error))),
        }
        Ok(())
    }

    /// The fanouts that the scheduler consumes: that of reports, and that of other schedulers' decisions.
    fn fanouts(&self) -> Vec<Target> {
        let mut fanouts = vec![self.names.reports(), self.names.scheduler().fanout()];
        fanouts.dedup();
        fanouts
    }

    /// Tries all ways at once, and shows that they work if they do.
    async fn try_all(&self, fanouts: &[Target], number: u64) -> Silent {
        let requests = self.names.scheduler();
        let (of_agents, by_name, by_topic, by_fanout) = tokio::join!(
            self.keep_the_exchange_of_agents(),
            self.call(requests.clone().server(&*self.ear.name)),
            self.call(requests),
            join_all(fanouts.iter().map(|fanout| self.fanout(fanout, number))),
        );
        let of_fanouts = fanouts.iter().map(|fanout| format!("messages to {fanout}")).zip(by_fanout);
        let ways = [
            ("commands to all agents".to_owned(), of_agents),
            ("requests to this scheduler".to_owned(), by_name),
            ("requests to any scheduler".to_owned(), by_topic),
        ];
        let (mut silent, mut may_not_ask) = (Silent::default(), false);
        for (what, outcome) in ways.into_iter().chain(of_fanouts) {
            match outcome {
                Ok(()) => {}
                Err(Silence::Late(why)) => silent.ways.push(format!("{what}: {why}")),
                Err(Silence::Lost(why)) => {
                    silent.ways.push(format!("{what}: {why}"));
                    silent.certain = true;
                }
                Err(Silence::MayNotAsk) => may_not_ask = true,
            }
        }
        if silent.ways.is_empty() {
            let known =
                if may_not_ask { "its broker user may not send itself messages" } else { "heard by itself" };
            self.arrive.set(true, known);
        }
        silent
    }

    async fn call(&self, target: Target) -> Result<(), Silence> {
        let options = CallOptions { mandatory: true, ..CallOptions::new(PATIENCE) };
        BaseApi::ping(&self.client, target, Value::Null, options).await.map(drop).map_err(silence)
    }

    async fn fanout(&self, fanout: &Target, number: u64) -> Result<(), Silence> {
        let mut heard = self.ear.heard.subscribe();
        let message = self.ear.message(&fanout.topic, number);
        let arrives = async {
            if !BaseApi::tell(&self.client, fanout.clone(), message, PATIENCE).await.map_err(silence)? {
                return Err(Silence::Lost("no queue is bound to its exchange".to_owned()));
            }
            let this = |(topic, newest): &(String, u64)| *topic == fanout.topic && *newest == number;
            heard.wait_for(|heard| heard.iter().any(this)).await.expect("the sender lives in `self`");
            Ok(())
        };
        let late = Err(Silence::Late(format!("nothing came within {} s", PATIENCE.as_secs())));
        tokio::time::timeout(PATIENCE, arrives).await.unwrap_or(late)
    }
}

fn silence(error: RpcError) -> Silence {
    match error {
        RpcError::Send { source: TransportError::Refused { .. }, .. } => Silence::MayNotAsk,
        error @ RpcError::Send { source: TransportError::Unroutable { .. }, .. } => {
            Silence::Lost(chain(&error))
        }
        error => Silence::Late(chain(&error)),
    }
}
