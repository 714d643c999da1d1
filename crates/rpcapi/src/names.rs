//! Under which names the services of one fleet find each other on a broker.
//!
//! All programs of a fleet are given the same. A second fleet on one virtual host needs topics of its own: queues are
//! named by the topic alone, whatever the exchange.

use novella_messaging::Target;

use crate::{COMPUTE_TOPIC, SCHEDULER_TOPIC};

/// Exchange and topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Exchange of topic messages.
    pub control_exchange: String,
    /// Where schedulers take requests, and tell one another what they decided.
    pub scheduler_topic: String,
    /// Where agents take commands.
    pub compute_topic: String,
    /// Where reports go: to all who take this topic's fanout casts.
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

    /// The agents.
    pub fn compute(&self) -> Target {
        self.target(&self.compute_topic)
    }

    /// All who read reports.
    pub fn reports(&self) -> Target {
        self.target(&self.report_topic).fanout()
    }

    fn target(&self, topic: &str) -> Target {
        Target { exchange: self.control_exchange.clone(), ..Target::topic(topic) }
    }
}
