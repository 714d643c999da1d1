//! Everything that is open to one broker.
//!
//! A session is all connections of a transport to one broker. It lives and dies as a whole: what is built on it
//! (channels, queues, consumers) is built again on the next one.

use futures_util::Stream;
use futures_util::stream::SelectAll;
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::{Connection, Event};

use super::broker::Broker;
use super::dial::{Dialer, Link};
use super::explain::DialFailure;
use super::lanes::Lanes;

/// Everything that is open to one broker.
pub(super) struct Session {
    /// Raised with every session.
    pub generation: u64,
    /// The AMQP user of this connection. The broker compares the `user_id` of messages with it.
    pub user: String,
    /// The broker as `host:port/vhost`.
    pub broker: String,
    /// The channels to publish on.
    pub lanes: Lanes,
    publish: Link,
    /// `None` if the session has a single connection.
    consume: Option<Link>,
}

impl Session {
    /// Opens the connections. They are shown as `name` in the broker's tools.
    pub(super) async fn open(
        dialer: &Dialer,
        broker: &Broker,
        name: &str,
        single_connection: bool,
        generation: u64,
    ) -> Result<Self, DialFailure> {
        let (publish, consume) = if single_connection {
            (dialer.dial(broker, name).await?, None)
        } else {
            let publish = dialer.dial(broker, &format!("{name} (publishing)")).await?;
            (publish, Some(dialer.dial(broker, &format!("{name} (consuming)")).await?))
        };
        let (user, broker) = (broker.user.clone(), broker.name());
        Ok(Self { generation, user, broker, lanes: Lanes::default(), publish, consume })
    }

    /// The connection that carries publications. The broker blocks all of it when it is short of memory.
    pub(super) fn publishing(&self) -> &Connection {
        &self.publish.connection
    }

    /// The connection that carries consumers and owns exclusive queues.
    pub(super) fn consuming(&self) -> &Connection {
        &self.consume.as_ref().unwrap_or(&self.publish).connection
    }

    pub(super) fn alive(&self) -> bool {
        self.publishing().status().connected() && self.consuming().status().connected()
    }

    /// What happens to the connections from now on.
    pub(super) fn events(&self) -> impl Stream<Item = Event> + Unpin {
        let links = std::iter::once(&self.publish).chain(&self.consume);
        links.map(|link| Box::pin(link.connection.events_listener())).collect::<SelectAll<_>>()
    }

    /// Says goodbye to the broker on both connections. An error means that the connection is gone already.
    pub(super) async fn close(&self) {
        for connection in [self.publishing(), self.consuming()] {
            drop(connection.close(REPLY_SUCCESS, "closed by its owner".into()).await);
        }
    }
}
