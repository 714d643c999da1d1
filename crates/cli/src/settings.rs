//! The command line's own settings: where the bus is, and how long to wait.
//!
//! Flags, environment and `--config` files, in this order; without any of them the broker of this machine.

use std::time::Duration;

use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::config::{KeyDoc, Problem, Settings, Validate, check_exchange, check_topics, duration};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CliSettings {
    /// Where the broker is.
    pub transport_url: String,
    /// How long one request may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Exchange of topic messages; must be the daemons'.
    pub control_exchange: String,
    /// Topic of the schedulers.
    pub scheduler_topic: String,
    /// Topic of the agents.
    pub compute_topic: String,
}

impl CliSettings {
    /// Where everyone is found. A command sends no reports.
    pub fn names(&self) -> Names {
        Names {
            scheduler_topic: self.scheduler_topic.clone(),
            compute_topic: self.compute_topic.clone(),
            ..Names::on(&self.control_exchange)
        }
    }
}

impl Default for CliSettings {
    fn default() -> Self {
        Self {
            transport_url: "rabbit://guest:guest@localhost:5672/".into(),
            timeout: Duration::from_secs(10),
            control_exchange: "nova".into(),
            scheduler_topic: SCHEDULER_TOPIC.into(),
            compute_topic: COMPUTE_TOPIC.into(),
        }
    }
}

impl Settings for CliSettings {
    const KEYS: &'static [KeyDoc] = &[
        KeyDoc::new("transport_url", "URL", "Where the message bus is.").secret(),
        KeyDoc::new("timeout", "duration", "How long one request may take, connecting included."),
        KeyDoc::new("control_exchange", "name", "Exchange of topic messages; must be the daemons'."),
        KeyDoc::new("scheduler_topic", "name", "Topic of the schedulers; must be theirs."),
        KeyDoc::new("compute_topic", "name", "Topic of the agents; must be theirs."),
    ];
}

impl Validate for CliSettings {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.timeout.is_zero() {
            problems.push(Problem::new(
                &["timeout"],
                "nothing can be done in no time",
                "write for example 10s",
            ));
        }
        check_exchange("control_exchange", &self.control_exchange, &mut problems);
        let scheduler = ("scheduler_topic", &*self.scheduler_topic);
        check_topics(("compute_topic", &self.compute_topic), &[scheduler], &mut problems);
        problems
    }
}
