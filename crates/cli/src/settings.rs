//! The settings of the command line, each declared once: where the bus is, and how long to wait.
//!
//! They come from options, the environment and `--config` files, in this order. Without any of them the broker of this
//! machine is used.

use std::time::Duration;

use novella_messaging::rabbit::RabbitOptions;
use novella_messaging::{DEFAULT_EXCHANGE, TransportUrl};
use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::args::DEFAULT_TRANSPORT_URL;
use novella_service::config::{Problem, Settings, check_exchange, check_topics, duration};
use novella_service::settings;

settings! {
    /// Settings of novella, the command-line client.
    pub struct CliSettings {
        /// URL of the broker.
        pub transport_url: String = DEFAULT_TRANSPORT_URL.into(), "URL", secret = true;
        /// How long one request may take. The time for connecting is part of it.
        pub timeout: Duration as "duration" = Duration::from_secs(10);
        /// AMQP exchange of topic messages. It must be the same on the daemons.
        pub control_exchange: String = DEFAULT_EXCHANGE.into(), "name";
        /// Topic on which schedulers take requests. It must be the same on the schedulers.
        pub scheduler_topic: String = SCHEDULER_TOPIC.into(), "name";
        /// Topic on which agents take commands. It must be the same on the agents.
        pub compute_topic: String = COMPUTE_TOPIC.into(), "name";
    }
}

impl CliSettings {
    /// The names on the broker. Commands do not send reports, so their topic is not needed.
    pub fn names(&self) -> Names {
        Names {
            scheduler_topic: self.scheduler_topic.clone(),
            compute_topic: self.compute_topic.clone(),
            ..Names::on(&self.control_exchange)
        }
    }
}

/// Refuses a URL that cannot be read. A command refuses later a bus that it cannot reach, such as `memory://`.
fn check_url(text: &str) -> Result<(), String> {
    let url = TransportUrl::parse(text).map_err(|error| error.to_string())?;
    RabbitOptions::new(url, "check", [0; 32]).map(drop).map_err(|error| error.to_string())
}

impl Settings for CliSettings {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(what) = check_url(&self.transport_url) {
            let fix = "write rabbit://USER:PASSWORD@HOST:5672/VHOST";
            problems.push(Problem::new(&["transport_url"], what, fix));
        }
        if self.timeout.is_zero() {
            problems.push(Problem::new(
                &["timeout"],
                "the timeout must be longer than zero",
                "write for example 10s",
            ));
        }
        check_exchange("control_exchange", &self.control_exchange, &mut problems);
        let scheduler = ("scheduler_topic", &*self.scheduler_topic);
        check_topics(("compute_topic", &self.compute_topic), &[scheduler], &mut problems);
        problems
    }
}

#[cfg(test)]
mod tests {
    use novella_service::config::shipped_table_faults;

    use super::*;

    #[test]
    fn the_table_in_the_documents_is_what_config_explain_prints() {
        let text = include_str!("../../../docs/configuration.md");
        assert_eq!(shipped_table_faults::<CliSettings>(text, "novella"), Vec::<String>::new());
    }
}
