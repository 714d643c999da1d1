//! RabbitMQ, put through the contract of all transports.

#[path = "../../crates/messaging/tests/contract/mod.rs"]
mod contract;

use std::sync::Arc;

use async_trait::async_trait;
use novella_messaging::Transport;
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_service::Env;
use tokio::sync::OnceCell;

use crate::contract_suite;
use crate::daemons_rig::make_vhost;
use crate::support::*;

/// The contract's own virtual host: what one run leaves in it, the next one deletes.
const VHOST: &str = "contract";

struct Rabbit {
    broker: Broker,
    url: String,
    env: Env,
}

impl Rabbit {
    async fn find() -> Option<Self> {
        static URL: OnceCell<String> = OnceCell::const_new();
        let broker = broker("contract").await?;
        let make = async || {
            if broker.ctl(&["ctl", "list_vhosts", "--quiet"]).lines().any(|name| name == VHOST) {
                broker.ctl(&["ctl", "delete_vhost", VHOST]);
            }
            make_vhost(&broker, VHOST).await
        };
        let url = URL.get_or_init(make).await.clone();
        Some(Self { broker, url, env: Env::system(None).expect("entropy") })
    }
}

#[async_trait]
impl contract::Broker for Rabbit {
    async fn connect(&self, name: &str) -> Arc<dyn Transport> {
        let seed = self.env.random.fork(name);
        let transport = RabbitTransport::start(RabbitOptions { seed, ..options(&self.url, name) });
        connected(&transport).await;
        transport
    }

    fn unique(&self, base: &str) -> String {
        self.broker.unique(base)
    }

    async fn break_connection(&self, name: &str) {
        let list = self.broker.ctl(&["ctl", "list_connections", "pid", "client_properties"]);
        let mut broken = 0;
        for line in list.lines().filter(|line| line.contains(name)) {
            let pid = line.split_whitespace().next().expect("a process id");
            self.broker.ctl(&["ctl", "close_connection", pid, "contract"]);
            broken += 1;
        }
        assert_eq!(broken, 2, "one for publishing, one for consuming:\n{list}");
    }
}

contract_suite!(match Rabbit::find().await {
    Some(rabbit) => rabbit,
    None => return,
});
