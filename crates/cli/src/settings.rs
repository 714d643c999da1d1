//! The command line's own settings: where the bus is, and how long to wait.
//!
//! Flags, environment and `--config` files, in this order; without any of them the broker of this machine.

use std::time::Duration;

use novella_service::config::{KeyDoc, Problem, Settings, Validate, duration};
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
}

impl Default for CliSettings {
    fn default() -> Self {
        Self {
            transport_url: "rabbit://guest:guest@localhost:5672/".into(),
            timeout: Duration::from_secs(10),
            control_exchange: "nova".into(),
        }
    }
}

impl Settings for CliSettings {
    const KEYS: &'static [KeyDoc] = &[
        KeyDoc::new("transport_url", "URL", "Where the message bus is.").secret(),
        KeyDoc::new("timeout", "duration", "How long one request may take, connecting included."),
        KeyDoc::new("control_exchange", "name", "Exchange of topic messages; must be the daemons'."),
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
        if self.control_exchange.is_empty() {
            problems.push(Problem::new(&["control_exchange"], "the exchange has no name", "write nova"));
        }
        problems
    }
}
