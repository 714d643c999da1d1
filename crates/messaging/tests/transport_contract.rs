//! Runs the contract of all transports on the in-process broker.

mod contract;

use std::sync::Arc;

use async_trait::async_trait;
use contract::Broker;
use novella_messaging::Transport;
use novella_messaging::in_process::{InProcessBroker, InProcessOptions};

struct InProcess(Arc<InProcessBroker>);

impl InProcess {
    fn new() -> Self {
        Self(InProcessBroker::new(InProcessOptions::default()))
    }
}

#[async_trait]
impl Broker for InProcess {
    async fn connect(&self, name: &str) -> Arc<dyn Transport> {
        self.0.connect(name)
    }

    /// Nothing to do, because each test has a broker of its own.
    fn unique(&self, base: &str) -> String {
        base.to_owned()
    }

    async fn break_connection(&self, name: &str) {
        self.0.partition(name, true);
        self.0.partition(name, false);
    }
}

contract_suite!(InProcess::new());
