//! What every transport promises, as tests that run on any of them.
//!
//! A transport's test file implements [`Broker`] and writes `contract_suite!(expression)`. The broker makes names unique,
//! so that many tests can share one real broker. Nothing here depends on paused time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use novella_messaging::{
    Consumer, ConsumerState, Delivery, Destination, FanoutLimits, Outgoing, QueueKind, Settle, Subscription,
    Transport, TransportError,
};
use tokio::time::{Instant, timeout};

/// A broker under test.
#[async_trait]
pub trait Broker: Send + Sync {
    /// A new connection (or pair of them).
    async fn connect(&self, name: &str) -> Arc<dyn Transport>;

    /// A name that begins with `base` and that no other test uses.
    fn unique(&self, base: &str) -> String;

    /// Breaks the connections of the transport called `name` once; it may connect again at once.
    async fn break_connection(&self, name: &str);
}

/// Longer than any transport may need for a step, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for a message that should not come.
const QUIET: Duration = Duration::from_millis(300);

pub const EXCHANGE: &str = "novella-contract";

/// One `#[tokio::test]` per promise.
#[macro_export]
macro_rules! contract_suite {
    ($broker:expr) => {
        $crate::contract_suite!(@each $broker,
            a_shared_queue_deals_each_message_once,
            a_server_queue_gets_its_own,
            a_fanout_reaches_all,
            a_reply_goes_straight_to_its_queue,
            nobody_listening_is_told_if_mandatory,
            a_declared_queue_keeps_what_comes,
            an_exclusive_queue_is_held_by_one,
            prefetch_bounds_what_is_unsettled,
            rejected_messages_are_gone,
            a_dropped_consumer_gives_back,
            a_cancelled_consumer_finishes,
            messages_expire,
            a_full_fanout_queue_drops_its_oldest,
            closing_ends_everything,
            next_batch_is_cancel_safe,
            a_publish_keeps_its_deadline,
            consumers_outlive_connections
        );
    };
    (@each $broker:expr, $($name:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            contract::$name(&$broker).await;
        })*
    };
}

/// A queue under test that is being consumed.
pub struct Tap(pub Box<dyn Consumer>);

impl Tap {
    pub async fn open(transport: &Arc<dyn Transport>, queue: QueueKind, prefetch: u16) -> Self {
        let tap = Self::pending(transport, queue, prefetch).await;
        tap.reaches(|state| matches!(state, ConsumerState::Active { .. })).await;
        tap
    }

    pub async fn pending(transport: &Arc<dyn Transport>, queue: QueueKind, prefetch: u16) -> Self {
        Self(transport.consume(Subscription { queue, prefetch }).await.expect("consume"))
    }

    pub async fn reaches(&self, wanted: impl Fn(&ConsumerState) -> bool) {
        let mut state = self.0.state();
        let reached = timeout(PATIENCE, state.wait_for(|state| wanted(state))).await;
        let last = reached.map(|state| state.map(|_| ()));
        assert!(matches!(last, Ok(Ok(()))), "the consumer stays {:?}", self.0.state().borrow());
    }

    /// Exactly the next `count` deliveries.
    pub async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        let wait = async {
            while all.len() < count {
                let left = count - all.len();
                assert!(self.0.next_batch(&mut all, left).await > 0, "ended early");
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{count} deliveries did not come"));
        all
    }

    /// Takes and acknowledges one by one; yields the bodies.
    pub async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            for delivery in self.take(1).await {
                self.0.settle(delivery.tag, Settle::Ack);
                bodies.push(text(&delivery));
            }
        }
        bodies
    }

    pub async fn stays_silent(&mut self) {
        let mut none = Vec::new();
        let came = timeout(QUIET, self.0.next_batch(&mut none, 1)).await;
        assert!(came.is_err(), "unexpected: {none:?}");
    }
}

pub fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).expect("tests send text")
}

pub fn message(destination: Destination, body: impl Into<String>) -> Outgoing {
    let body = Bytes::from(body.into());
    Outgoing { destination, body, expiration: None, mandatory: false, deadline: Instant::now() + PATIENCE }
}

pub fn to_topic(topic: &str) -> Destination {
    Destination::Topic { exchange: EXCHANGE.into(), topic: topic.into() }
}

pub fn to_server(topic: &str, server: &str) -> Destination {
    Destination::Server { exchange: EXCHANGE.into(), topic: topic.into(), server: server.into() }
}

pub fn to_queue(name: &str) -> Destination {
    Destination::Queue { name: name.into() }
}

pub fn topic_queue(topic: &str) -> QueueKind {
    QueueKind::Topic { exchange: EXCHANGE.into(), topic: topic.into() }
}

pub fn server_queue(topic: &str, server: &str, fanout: bool) -> QueueKind {
    QueueKind::Server { exchange: EXCHANGE.into(), topic: topic.into(), server: server.into(), fanout }
}

pub fn fanout_queue(topic: &str, message_ttl: Duration, max_length: u32) -> QueueKind {
    QueueKind::Fanout { topic: topic.into(), limits: FanoutLimits { message_ttl, max_length } }
}

pub async fn send(transport: &Arc<dyn Transport>, destination: Destination, body: impl Into<String>) {
    transport.publish(message(destination, body)).await.expect("publish");
}

pub async fn a_shared_queue_deals_each_message_once(broker: &impl Broker) {
    let topic = broker.unique("shared");
    let (one, two) = (broker.connect("one").await, broker.connect("two").await);
    let mut first = Tap::open(&one, topic_queue(&topic), 4).await;
    let mut second = Tap::open(&two, topic_queue(&topic), 4).await;
    for n in 0..8 {
        send(&one, to_topic(&topic), n.to_string()).await;
    }
    let mut all = first.bodies(4).await;
    all.extend(second.bodies(4).await);
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    first.stays_silent().await;
    second.stays_silent().await;
}

pub async fn a_server_queue_gets_its_own(broker: &impl Broker) {
    let topic = broker.unique("servers");
    let transport = broker.connect("agents").await;
    let mut dotted = Tap::open(&transport, server_queue(&topic, "a.example.org", false), 4).await;
    let mut other = Tap::open(&transport, server_queue(&topic, "b", false), 4).await;
    send(&transport, to_server(&topic, "a.example.org"), "for a").await;
    let taken = dotted.take(1).await;
    assert_eq!(text(&taken[0]), "for a");
    assert_eq!(taken[0].content_type.as_deref(), Some("application/json"));
    assert!(
        taken[0].user_id.as_ref().is_some_and(|user| !user.is_empty()),
        "the broker vouches for the sender"
    );
    other.stays_silent().await;
}

pub async fn a_fanout_reaches_all(broker: &impl Broker) {
    let topic = broker.unique("fan");
    let (one, two) = (broker.connect("one").await, broker.connect("two").await);
    let mut own = Tap::open(&one, fanout_queue(&topic, PATIENCE, 100), 4).await;
    let mut again = Tap::open(&two, fanout_queue(&topic, PATIENCE, 100), 4).await;
    let mut agent = Tap::open(&two, server_queue(&topic, "h", true), 4).await;
    let mut deaf = Tap::open(&two, server_queue(&topic, "deaf", false), 4).await;
    send(&one, Destination::Fanout { topic: topic.clone() }, "all").await;
    for tap in [&mut own, &mut again, &mut agent] {
        assert_eq!(tap.bodies(1).await, ["all"]);
    }
    deaf.stays_silent().await;
}

pub async fn a_reply_goes_straight_to_its_queue(broker: &impl Broker) {
    let name = broker.unique("reply");
    let (client, server) = (broker.connect("client").await, broker.connect("server").await);
    let mut tap = Tap::open(&client, QueueKind::Reply { name: name.clone() }, 4).await;
    let mut reply = message(to_queue(&name), "answer");
    reply.mandatory = true;
    server.publish(reply).await.expect("routable");
    assert_eq!(tap.bodies(1).await, ["answer"]);
}

pub async fn nobody_listening_is_told_if_mandatory(broker: &impl Broker) {
    let transport = broker.connect("lonely").await;
    let name = broker.unique("nobody");
    let topic = || name.clone();
    for destination in
        [to_topic(&name), to_server(&name, "h"), to_queue(&name), Destination::Fanout { topic: topic() }]
    {
        let mut lost = message(destination.clone(), "x");
        transport.publish(lost.clone()).await.unwrap_or_else(|error| panic!("{destination:?}: {error}"));
        lost.mandatory = true;
        let error = transport.publish(lost).await.expect_err("nobody is there");
        assert!(matches!(error, TransportError::Unroutable { .. }), "{destination:?}: {error}");
    }
}

pub async fn a_declared_queue_keeps_what_comes(broker: &impl Broker) {
    let topic = broker.unique("declared");
    let (sender, server) = (broker.connect("sender").await, broker.connect("server").await);
    let deadline = Instant::now() + PATIENCE;
    for _ in 0..2 {
        server.declare(topic_queue(&topic), deadline).await.expect("declaring twice is declaring");
    }
    for body in ["one", "two"] {
        let waits = Outgoing { mandatory: true, ..message(to_topic(&topic), body) };
        sender.publish(waits).await.expect("the queue takes it");
    }
    let mut tap = Tap::open(&server, topic_queue(&topic), 4).await;
    assert_eq!(tap.bodies(2).await, ["one", "two"]);
    // A name that another connection has for itself is refused, and nothing waits.
    let held = Tap::open(&server, server_queue(&topic, "h", false), 4).await;
    let refused = sender.declare(server_queue(&topic, "h", false), deadline).await;
    assert!(matches!(refused, Err(TransportError::Refused { .. })), "{refused:?}");
    drop(held);
}

pub async fn an_exclusive_queue_is_held_by_one(broker: &impl Broker) {
    let topic = broker.unique("held");
    let (one, two) = (broker.connect("one").await, broker.connect("two").await);
    let first = Tap::open(&one, server_queue(&topic, "h", false), 4).await;
    let mut second = Tap::pending(&two, server_queue(&topic, "h", false), 4).await;
    second.reaches(|state| *state == ConsumerState::Held).await;
    one.close(Instant::now() + PATIENCE).await;
    drop(first);
    second.reaches(|state| matches!(state, ConsumerState::Active { .. })).await;
    send(&two, to_server(&topic, "h"), "mine now").await;
    assert_eq!(second.bodies(1).await, ["mine now"]);
}

pub async fn prefetch_bounds_what_is_unsettled(broker: &impl Broker) {
    let topic = broker.unique("prefetch");
    let transport = broker.connect("slow").await;
    let mut tap = Tap::open(&transport, topic_queue(&topic), 3).await;
    for n in 0..8 {
        send(&transport, to_topic(&topic), n.to_string()).await;
    }
    let taken = tap.take(3).await;
    tap.stays_silent().await;
    tap.0.settle(taken[1].tag, Settle::Ack);
    assert_eq!(text(&tap.take(1).await[0]), "3", "one settled, one more");
    tap.stays_silent().await;
    tap.0.settle(taken[2].tag, Settle::AckThrough);
    let more = tap.take(2).await;
    assert_eq!([text(&more[0]), text(&more[1])], ["4", "5"], "two were left to settle");
    tap.stays_silent().await;
    tap.0.settle(more[1].tag, Settle::AckThrough);
    assert_eq!(tap.bodies(2).await, ["6", "7"]);
}

pub async fn rejected_messages_are_gone(broker: &impl Broker) {
    let topic = broker.unique("reject");
    let (one, two) = (broker.connect("one").await, broker.connect("two").await);
    let mut tap = Tap::open(&one, topic_queue(&topic), 4).await;
    send(&one, to_topic(&topic), "poison").await;
    let poison = tap.take(1).await;
    tap.0.settle(poison[0].tag, Settle::Reject);
    send(&one, to_topic(&topic), "next").await;
    assert_eq!(tap.bodies(1).await, ["next"]);
    drop(tap);
    one.close(Instant::now() + PATIENCE).await;
    Tap::open(&two, topic_queue(&topic), 4).await.stays_silent().await;
}

pub async fn a_dropped_consumer_gives_back(broker: &impl Broker) {
    let topic = broker.unique("dropped");
    let transport = broker.connect("both").await;
    let mut first = Tap::open(&transport, topic_queue(&topic), 4).await;
    for n in 0..3 {
        send(&transport, to_topic(&topic), n.to_string()).await;
    }
    let taken = first.take(3).await;
    first.0.settle(taken[0].tag, Settle::Ack);
    drop(first);
    let mut second = Tap::open(&transport, topic_queue(&topic), 4).await;
    let back = second.take(2).await;
    assert_eq!([text(&back[0]), text(&back[1])], ["1", "2"], "in their order");
    send(&transport, to_topic(&topic), "3").await;
    assert_eq!(second.bodies(1).await, ["3"], "the first one takes no more");
}

pub async fn a_cancelled_consumer_finishes(broker: &impl Broker) {
    let topic = broker.unique("cancelled");
    let (one, two) = (broker.connect("one").await, broker.connect("two").await);
    let mut first = Tap::open(&one, topic_queue(&topic), 4).await;
    for body in ["in hand", "handed over", "unsettled"] {
        send(&one, to_topic(&topic), body).await;
    }
    let mut held = first.take(1).await;
    timeout(PATIENCE, first.0.cancel()).await.expect("cancel is bounded");
    send(&one, to_topic(&topic), "for another").await;
    let mut second = Tap::open(&two, topic_queue(&topic), 4).await;
    assert_eq!(second.bodies(1).await, ["for another"]);
    while timeout(PATIENCE, first.0.next_batch(&mut held, 4)).await.expect("it ends") > 0 {}
    assert_eq!(held.iter().map(text).collect::<Vec<_>>(), ["in hand", "handed over", "unsettled"]);
    for delivery in &held[..2] {
        first.0.settle(delivery.tag, Settle::Ack);
    }
    drop(first);
    assert_eq!(second.bodies(1).await, ["unsettled"]);
    second.stays_silent().await;
}

pub async fn messages_expire(broker: &impl Broker) {
    let topic = broker.unique("expire");
    let transport = broker.connect("late").await;
    let mut tap = Tap::open(&transport, topic_queue(&topic), 1).await;
    send(&transport, to_topic(&topic), "busy").await;
    let busy = tap.take(1).await;
    let mut brief = message(to_topic(&topic), "brief");
    brief.expiration = Some(Duration::from_millis(50));
    transport.publish(brief).await.expect("publish");
    send(&transport, to_topic(&topic), "lasting").await;
    tokio::time::sleep(QUIET).await;
    tap.0.settle(busy[0].tag, Settle::Ack);
    assert_eq!(tap.bodies(1).await, ["lasting"]);

    let fan = broker.unique("expire-fan");
    let mut tap = Tap::open(&transport, fanout_queue(&fan, Duration::from_millis(50), 100), 1).await;
    let all = || Destination::Fanout { topic: fan.clone() };
    send(&transport, all(), "busy").await;
    let busy = tap.take(1).await;
    send(&transport, all(), "stale").await;
    tokio::time::sleep(QUIET).await;
    send(&transport, all(), "fresh").await;
    tap.0.settle(busy[0].tag, Settle::Ack);
    // "fresh" may itself be stale by now on a slow machine; "stale" must never come.
    let mut came = Vec::new();
    if timeout(QUIET, tap.0.next_batch(&mut came, 2)).await.is_ok() {
        assert_eq!(came.iter().map(text).collect::<Vec<_>>(), ["fresh"]);
    }
}

pub async fn a_full_fanout_queue_drops_its_oldest(broker: &impl Broker) {
    let topic = broker.unique("full");
    let transport = broker.connect("flooded").await;
    let mut tap = Tap::open(&transport, fanout_queue(&topic, PATIENCE, 3), 1).await;
    let all = || Destination::Fanout { topic: topic.clone() };
    send(&transport, all(), "busy").await;
    let busy = tap.take(1).await;
    for n in 0..6 {
        send(&transport, all(), n.to_string()).await;
    }
    tap.0.settle(busy[0].tag, Settle::Ack);
    assert_eq!(tap.bodies(3).await, ["3", "4", "5"]);
    tap.stays_silent().await;
}

pub async fn closing_ends_everything(broker: &impl Broker) {
    let topic = broker.unique("closed");
    let transport = broker.connect("closing").await;
    let mut tap = Tap::open(&transport, topic_queue(&topic), 4).await;
    timeout(PATIENCE, transport.close(Instant::now() + PATIENCE)).await.expect("close keeps its deadline");
    let ended = timeout(PATIENCE, tap.0.next_batch(&mut Vec::new(), 1)).await.expect("the consumer ends");
    assert_eq!(ended, 0);
    let error = transport.publish(message(to_topic(&topic), "x")).await.expect_err("closed");
    assert!(matches!(error, TransportError::Closed), "{error}");
    let queue = topic_queue(&topic);
    assert!(transport.consume(Subscription { queue, prefetch: 1 }).await.is_err());
}

pub async fn next_batch_is_cancel_safe(broker: &impl Broker) {
    const COUNT: usize = 200;
    let topic = broker.unique("cancel-safe");
    let transport = broker.connect("impatient").await;
    let mut tap = Tap::open(&transport, topic_queue(&topic), 16).await;
    let sender = transport.clone();
    let destination = to_topic(&topic);
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            send(&sender, destination.clone(), n.to_string()).await;
        }
    });
    let mut bodies = Vec::new();
    let give_up = Instant::now() + PATIENCE;
    while bodies.len() < COUNT {
        assert!(Instant::now() < give_up, "only {} of {COUNT} came", bodies.len());
        let mut some = Vec::new();
        // Whether the wait is cut short or not, what it appended counts and nothing else is lost.
        let _ = timeout(Duration::from_micros(50), tap.0.next_batch(&mut some, 3)).await;
        for delivery in some {
            tap.0.settle(delivery.tag, Settle::Ack);
            bodies.push(text(&delivery));
        }
    }
    sending.await.expect("the sender");
    assert_eq!(bodies, (0..COUNT).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub async fn a_publish_keeps_its_deadline(broker: &impl Broker) {
    let transport = broker.connect("hasty").await;
    let mut late = message(to_topic(&broker.unique("hasty")), "x");
    late.deadline = Instant::now();
    // Either answer is right, but it must not hang.
    let _ = timeout(PATIENCE, transport.publish(late)).await.expect("returns by its deadline");
}

pub async fn consumers_outlive_connections(broker: &impl Broker) {
    let (topic, reply) = (broker.unique("outlive"), broker.unique("reply"));
    let name = broker.unique("fragile");
    let (fragile, steady) = (broker.connect(&name).await, broker.connect("steady").await);
    let mut shared = Tap::open(&fragile, topic_queue(&topic), 1).await;
    let mut replies = Tap::open(&fragile, QueueKind::Reply { name: reply.clone() }, 4).await;
    send(&steady, to_topic(&topic), "in work").await;
    let old = shared.take(1).await;
    broker.break_connection(&name).await;
    shared.reaches(|state| matches!(state, ConsumerState::Active { generation } if *generation > old[0].tag.generation)).await;
    let again = shared.take(1).await;
    assert_eq!(text(&again[0]), "in work");
    shared.0.settle(old[0].tag, Settle::AckThrough);
    send(&steady, to_topic(&topic), "next").await;
    shared.stays_silent().await;
    shared.0.settle(again[0].tag, Settle::Ack);
    assert_eq!(shared.bodies(1).await, ["next"], "only the new tag settles");

    replies.reaches(|state| matches!(state, ConsumerState::Active { generation } if *generation > 1)).await;
    let mut answer = message(to_queue(&reply), "late");
    answer.mandatory = true;
    steady.publish(answer).await.expect("the reply queue has its name again");
    assert_eq!(replies.bodies(1).await, ["late"]);
}
