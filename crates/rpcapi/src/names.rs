//! The names under which the services of one fleet find each other on a broker.
//!
//! All programs of a fleet use the same names. A second fleet on the same virtual host needs its own topics, because
//! queues are named by the topic alone, without the exchange.

use novella_messaging::Target;

/// The usual topic of the schedulers.
pub const SCHEDULER_TOPIC: &str = "scheduler";
/// The usual topic of the agents.
pub const COMPUTE_TOPIC: &str = "compute";

/// The exchange and the topics of one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The exchange that messages to a topic go through.
    pub control_exchange: String,
    /// The topic on which schedulers take requests, and tell one another what they decided.
    pub scheduler_topic: String,
    /// The topic on which agents take commands.
    pub compute_topic: String,
    /// The topic whose fanout casts are the reports of hosts.
    pub report_topic: String,
}

impl Names {
    /// The usual topics on this exchange.
    pub fn on(exchange: &str) -> Self {
        Self {
            control_exchange: exchange.to_owned(),
            scheduler_topic: SCHEDULER_TOPIC.to_owned(),
            compute_topic: COMPUTE_TOPIC.to_owned(),
            report_topic: SCHEDULER_TOPIC.to_owned(),
        }
    }

    /// Any scheduler.
    pub fn scheduler(&self) -> Target {
        self.target(&self.scheduler_topic)
    }

    /// Any agent.
    pub fn compute(&self) -> Target {
        self.target(&self.compute_topic)
    }

    /// All readers of reports.
    pub fn reports(&self) -> Target {
        self.target(&self.report_topic).fanout()
    }

    fn target(&self, topic: &str) -> Target {
        Target { exchange: self.control_exchange.clone(), ..Target::topic(topic) }
    }
}
