//! Brokers that die, freeze or run short of memory: everything comes back by itself, and what was confirmed is kept.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{
    ConnectionState, Consumer, ConsumerState, Destination, Outgoing, Settle, Transport, TransportError,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// Publishes numbers one after the other and notes which were confirmed, and when.
struct Stream {
    confirmed: Arc<Mutex<Vec<(u64, Instant)>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Each message may take this long.
const EACH: Duration = Duration::from_secs(3);

impl Stream {
    fn start(transport: Arc<RabbitTransport>, to: Destination) -> Self {
        let (confirmed, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, end) = (confirmed.clone(), stop.clone());
        let task = tokio::spawn(async move {
            for number in 0.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let started = Instant::now();
                let one = Outgoing { deadline: started + EACH, ..message(to.clone(), number.to_string()) };
                let result = transport.publish(one).await;
                let late = started.elapsed().saturating_sub(EACH);
                assert!(late < Duration::from_secs(1), "{number} came back {late:?} after its deadline");
                match result {
                    Ok(()) => log.lock().expect("no panic").push((number, Instant::now())),
                    Err(TransportError::Unconfirmed { .. } | TransportError::Unreachable { .. }) => {}
                    Err(other) => panic!("{number}: {other}"),
                }
                sleep(Duration::from_millis(1)).await;
            }
        });
        Self { confirmed, stop, task }
    }

    async fn end(self) -> Vec<(u64, Instant)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the stream did not panic");
        let confirmed = self.confirmed.lock().expect("no panic");
        confirmed.clone()
    }
}

/// Takes and acknowledges whatever comes, until nothing has come for three seconds after `stop`.
fn drain(mut consumer: Box<dyn Consumer>, stop: Arc<AtomicBool>) -> JoinHandle<BTreeSet<u64>> {
    tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        let mut batch = Vec::new();
        loop {
            let taken = timeout(Duration::from_secs(3), consumer.next_batch(&mut batch, 100)).await;
            if taken.is_err() && stop.load(Ordering::Relaxed) {
                return seen;
            }
            for delivery in batch.drain(..) {
                let text = String::from_utf8(delivery.body.to_vec()).expect("a number");
                seen.insert(text.parse().expect("a number"));
                consumer.settle(delivery.tag, Settle::AckThrough);
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_in_mid_stream_is_found_again() {
    let Some(broker) = broker_alone("kill -9").await else { return };
    let publisher = broker.transport("publisher").await;
    let receiver = broker.transport("receiver").await;
    let name = broker.unique("k");
    let consumer = consume(&receiver, server_queue(&name, "s", true)).await;
    let first = active(&*consumer).await;
    let mut states = consumer.state();
    let stop = Arc::new(AtomicBool::new(false));
    let drained = drain(consumer, stop.clone());
    let stream = Stream::start(publisher.clone(), server(&name, "s"));
    sleep(Duration::from_secs(1)).await;
    broker.ctl(&["kill9"]);
    let killed = Instant::now();
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(*publisher.state().borrow(), ConnectionState::Connecting { .. }));
    broker.ctl(&["start"]);
    let resumed = states.wait_for(active_after(first));
    timeout(PATIENCE, resumed).await.expect("consuming again").expect("the consumer lives");
    let resumed = Instant::now();
    connected(&publisher).await;
    sleep(Duration::from_secs(2)).await;
    let confirmed = stream.end().await;
    stop.store(true, Ordering::Relaxed);
    let seen = drained.await.expect("drained");
    // Messages are transient: a broker that is killed takes along what it holds, a fraction of a second of messages
    // here. Before that and after the queue is back, confirmed is delivered.
    let settled = |at: Instant| at + Duration::from_millis(500) < killed || at > resumed + EACH;
    let lost: Vec<_> =
        confirmed.iter().filter(|(number, at)| settled(*at) && !seen.contains(number)).collect();
    assert!(lost.is_empty(), "confirmed, not delivered: {lost:?}");
    let after = confirmed.iter().filter(|(_, at)| *at > resumed).count();
    assert!(after > 100, "only {after} messages after the restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_loses_nothing_that_it_confirmed() {
    let Some(broker) = broker_alone("SIGSTOP").await else { return };
    let mut options = broker.options("frozen");
    // The freeze is to outlast it: connections have to be given up, queues to be held against their own ghosts.
    options.heartbeat = Duration::from_secs(2);
    let transport = RabbitTransport::start(options);
    connected(&transport).await;
    let name = broker.unique("z");
    let consumer = consume(&transport, topic_queue(&name)).await;
    let exclusive = consume(&transport, server_queue(&name, "s", true)).await;
    active(&*consumer).await;
    let first = active(&*exclusive).await;
    let mut states = consumer.state();
    let stop = Arc::new(AtomicBool::new(false));
    let drained = drain(consumer, stop.clone());
    let stream = Stream::start(transport.clone(), topic(&name));
    sleep(Duration::from_millis(500)).await;
    broker.ctl(&["pause"]);
    let mut connection = transport.state();
    let given_up = connection.wait_for(|state| matches!(state, ConnectionState::Connecting { .. }));
    let given_up = timeout(PATIENCE, given_up).await;
    sleep(Duration::from_secs(1)).await;
    broker.ctl(&["resume"]);
    given_up.expect("missing heartbeats are noticed").expect("the transport lives");
    let again = timeout(PATIENCE, states.wait_for(active_after(first))).await;
    again.expect("consuming again").expect("the consumer lives");
    reaches(&*exclusive, active_after(first)).await;
    sleep(Duration::from_secs(1)).await;
    let confirmed = stream.end().await;
    stop.store(true, Ordering::Relaxed);
    let seen = drained.await.expect("drained");
    let lost: Vec<_> = confirmed.iter().filter(|(number, _)| !seen.contains(number)).collect();
    assert!(lost.is_empty(), "confirmed, not delivered: {lost:?}");
    assert!(confirmed.len() > 100, "{}", confirmed.len());
    let bare = broker.bare().await;
    bare.queue_delete(name.into(), lapin::options::QueueDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_memory_is_waited_for() {
    let Some(broker) = broker_alone("memory alarm").await else { return };
    let (transport, name, mut consumer) = broker.serving("blocked").await;
    publish(&transport, server(&name, "s"), "before").await;
    let generation = connected(&transport).await;
    broker.ctl(&["ctl", "set_vm_memory_high_watermark", "absolute", "1MB"]);
    // A connection is blocked by its first publication under the alarm.
    let soon = || Instant::now() + Duration::from_secs(1);
    let late = transport.publish(Outgoing { deadline: soon(), ..message(server(&name, "s"), "late") }).await;
    assert!(
        matches!(late, Err(TransportError::Unconfirmed { .. } | TransportError::Blocked { .. })),
        "{late:?}"
    );
    let mut states = transport.state();
    let blocked = states.wait_for(|state| matches!(state, ConnectionState::Blocked { .. }));
    let blocked = timeout(PATIENCE, blocked).await.expect("shown").expect("the transport lives").clone();
    let said = blocked.to_string();
    assert!(
        said.contains(&broker.parts().2) && said.ends_with("accepts no messages: low on memory"),
        "{said}"
    );
    let started = Instant::now();
    let later =
        transport.publish(Outgoing { deadline: soon(), ..message(server(&name, "s"), "later") }).await;
    let later = later.expect_err("not published");
    assert!(matches!(later, TransportError::Blocked { .. }), "{later:?}");
    assert!(later.to_string().contains("the broker has blocked publishers (low on memory)"), "{later}");
    assert!(started.elapsed() < Duration::from_secs(2));
    // Consuming goes on: its connection is another one.
    assert_eq!(&take(&mut *consumer, 1).await[0].body[..], b"before");
    assert!(matches!(*consumer.state().borrow(), ConsumerState::Active { .. }));
    let patient = tokio::spawn({
        let (transport, to) = (transport.clone(), server(&name, "s"));
        async move { transport.publish(message(to, "patient")).await }
    });
    broker.ctl(&["ctl", "set_vm_memory_high_watermark", "0.4"]);
    timeout(PATIENCE, patient).await.expect("in time").expect("no panic").expect("published after all");
    assert_eq!(connected(&transport).await, generation, "the connection was kept");
    // `late` was on the wire already and arrives, once; `later` never was.
    let bodies: Vec<_> = take(&mut *consumer, 2).await.into_iter().map(|delivery| delivery.body).collect();
    assert_eq!(bodies, ["late", "patient"]);
    silent(&mut *consumer).await;
}

#[tokio::test]
async fn a_forced_close_is_answered_by_a_new_connection() {
    let Some(broker) = broker_alone("forced close").await else { return };
    let transport = broker.transport("forced").await;
    let name = broker.unique("x");
    let mut consumer = consume(&transport, server_queue(&name, "s", false)).await;
    let mut to_all = consume(&transport, fanout_queue(&name, Duration::from_secs(30), 10)).await;
    let first = active(&*consumer).await;
    active(&*to_all).await;
    let queues = || broker.queues(&format!("{name}_fanout_"));
    let before = queues();
    broker.ctl(&["ctl", "close_all_connections", "test"]);
    reaches(&*consumer, active_after(first)).await;
    reaches(&*to_all, active_after(first)).await;
    let after = queues();
    assert!(before.len() == 1 && after.len() == 1 && before != after, "a new name per connection: {after:?}");
    assert!(log().0.text().contains("CONNECTION_FORCED"));
    publish(&transport, server(&name, "s"), "1").await;
    publish(&transport, fanout(&name), "2").await;
    assert_eq!(&take(&mut *consumer, 1).await[0].body[..], b"1");
    assert_eq!(&take(&mut *to_all, 1).await[0].body[..], b"2");
}

#[tokio::test]
async fn one_lost_connection_takes_the_other_along() {
    let Some(broker) = broker_alone("half lost").await else { return };
    let name = broker.unique("half");
    let transport = broker.transport(&name).await;
    let mut consumer = consume(&transport, server_queue(&name, "s", false)).await;
    let first = active(&*consumer).await;
    let list = || broker.ctl(&["ctl", "list_connections", "pid", "client_properties"]);
    let publishing = format!("{name} (publishing)");
    // While the broker is busy, a listing may lack a connection that an earlier one had.
    let mut lines = String::new();
    eventually("both connections are listed", async || {
        lines = list();
        lines.matches(&name).count() == 2 && lines.contains(&publishing)
    })
    .await;
    let publishing = lines.lines().find(|line| line.contains(&publishing)).expect("listed");
    let pid = publishing.split_whitespace().next().expect("a process id");
    broker.ctl(&["ctl", "close_connection", pid, "test"]);
    reaches(&*consumer, active_after(first)).await;
    connected(&transport).await;
    publish(&transport, server(&name, "s"), "1").await;
    assert_eq!(&take(&mut *consumer, 1).await[0].body[..], b"1");
    eventually("the old consuming connection is gone", async || list().matches(&name).count() == 2).await;
}
