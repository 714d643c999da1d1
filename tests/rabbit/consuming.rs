//! Consuming: queues in the right shape, held ones waited for, lost ones made anew.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use novella_messaging::rabbit::{OsloOptions, RabbitTransport, Topology};
use novella_messaging::{ConsumerState, Outgoing, QueueKind, Settle, Transport, TransportError};
use tokio::time::{Instant, sleep};

use crate::support::*;

#[tokio::test]
async fn an_exclusive_queue_is_held_by_one_and_taken_over_by_the_next() {
    let Some(broker) = broker("held queue").await else { return };
    let (first, second) = (broker.transport("first").await, broker.transport("second").await);
    let name = broker.unique("h");
    let holder = consuming(&first, server_queue(&name, "s", true)).await;
    let mut waiting = consume(&second, server_queue(&name, "s", true)).await;
    reaches(&*waiting, |state| *state == ConsumerState::Held).await;
    assert!(log().0.text().contains("another connection holds the queue"));
    // The holder works on.
    publish(&first, server(&name, "s"), "1").await;
    let mut holder = holder;
    take(&mut *holder, 1).await;
    drop(holder);
    active(&*waiting).await;
    publish(&first, server(&name, "s"), "2").await;
    publish(&first, fanout(&name), "3").await;
    let bodies = take(&mut *waiting, 2).await;
    assert_eq!(bodies.iter().map(|d| &d.body[..]).collect::<Vec<_>>(), [b"2", b"3"]);
}

#[tokio::test]
async fn another_shape_is_named_with_ours_and_taken_once_it_is_gone() {
    let Some(broker) = broker("406").await else { return };
    let name = broker.unique("shape");
    let bare = broker.bare().await;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    bare.queue_declare(name.as_str().into(), durable, quorum).await.expect("declared");
    let transport = broker.transport("shape").await;
    let consumer = consume(&transport, topic_queue(&name)).await;
    let failed = reaches(&*consumer, |state| matches!(state, ConsumerState::Failed { .. })).await;
    let ConsumerState::Failed { reason } = failed else { unreachable!("{failed:?}") };
    let ours = format!("queue {name:?} (ours: durable)");
    has(&reason, &[&ours, "PRECONDITION_FAILED", "'quorum'", "topology=oslo&rabbit_quorum_queue=true"]);
    bare.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    active(&*consumer).await;
    drop(consumer);
    bare.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test]
async fn a_deleted_queue_is_made_anew() {
    let Some(broker) = broker("deleted queue").await else { return };
    let transport = broker.transport("deleted").await;
    let name = broker.unique("d");
    let mut consumer = consume(&transport, topic_queue(&name)).await;
    let generation = active(&*consumer).await;
    let bare = broker.bare().await;
    for body in ["1", "unread"] {
        publish(&transport, topic(&name), body).await;
    }
    let old = take(&mut *consumer, 1).await[0].tag;
    bare.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    let again = Outgoing { mandatory: true, ..message(topic(&name), "2") };
    eventually("the queue is gone", async || transport.publish(again.clone()).await.is_err()).await;
    // The last delivery and the end of the queue are there by now, and come in one batch.
    let mut unread = Vec::new();
    consumer.next_batch(&mut unread, 10).await;
    assert_eq!(unread.iter().map(|delivery| &delivery.body[..]).collect::<Vec<_>>(), [b"unread"]);
    let next = async {
        let mut into = Vec::new();
        consumer.next_batch(&mut into, 10).await;
        (consumer, into)
    };
    let resend = async {
        eventually("the queue is back", async || broker.depth(&name).await.is_some()).await;
        eventually("it is bound", async || transport.publish(again.clone()).await.is_ok()).await;
    };
    let ((mut consumer, received), ()) = tokio::join!(next, resend);
    assert_eq!(&received[0].body[..], b"2");
    assert_eq!(active(&*consumer).await, generation, "the connection was not given up for it");
    assert!(received[0].tag.generation > old.generation);
    // To no effect: on the new channel it would be an unknown tag and close it.
    consumer.settle(old, Settle::AckThrough);
    consumer.settle(received[0].tag, Settle::Ack);
    publish(&transport, topic(&name), "3").await;
    assert_eq!(&take(&mut *consumer, 1).await[0].body[..], b"3");
    drop(consumer);
    bare.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test]
async fn a_fanout_queue_drops_the_expired_and_goes_with_its_consumer() {
    let Some(broker) = broker("expiry").await else { return };
    let transport = broker.transport("fanout").await;
    let name = broker.unique("o");
    let queue = fanout_queue(&name, Duration::from_secs(2), 10);
    let subscription = novella_messaging::Subscription { queue, prefetch: 1 };
    let mut consumer = transport.consume(subscription).await.expect("open");
    active(&*consumer).await;
    let mut unsettled = Vec::new();
    for i in 0..5 {
        publish(&transport, fanout(&name), format!("{i}")).await;
    }
    consumer.next_batch(&mut unsettled, 1).await;
    let queues = || broker.queues(&format!("{name}_fanout_"));
    eventually("the other four expire", async || queues().iter().all(|(_, waiting)| *waiting == 0)).await;
    assert_eq!(queues().len(), 1);
    drop(consumer);
    eventually("the queue goes with its consumer", async || queues().is_empty()).await;
}

#[tokio::test]
async fn a_cancelled_consumer_is_drained_and_its_address_is_free() {
    let Some(broker) = broker("cancel").await else { return };
    let transport = broker.transport("cancel").await;
    let name = broker.unique("c");
    let mut consumer = consuming(&transport, server_queue(&name, "s", true)).await;
    for i in 0..5 {
        publish(&transport, server(&name, "s"), format!("{i}")).await;
    }
    let mut received = Vec::new();
    consumer.next_batch(&mut received, 1).await;
    // The broker has handed over the other four by the time it answers.
    consumer.cancel().await;
    let mandatory = Outgoing { mandatory: true, ..message(server(&name, "s"), "late") };
    let late = transport.publish(mandatory).await;
    assert!(matches!(late, Err(TransportError::Unroutable { .. })), "{late:?}");
    while consumer.next_batch(&mut received, 1).await > 0 {}
    assert_eq!(received.len(), 5);
    for delivery in &received {
        consumer.settle(delivery.tag, Settle::Ack);
    }
    drop(consumer);
    let again = broker.transport("successor").await;
    drop(consuming(&again, server_queue(&name, "s", true)).await);
}

#[tokio::test]
async fn many_clients_share_one_socket() {
    let Some(broker) = broker("sharing").await else { return };
    let mut options = broker.options(&broker.unique("swarm"));
    options.single_connection = true;
    let owner = RabbitTransport::start(options);
    let name = broker.unique("w");
    let mut clients = Vec::new();
    for i in 0..50 {
        let handle = owner.share();
        let consumer = consume(&handle, server_queue(&name, &format!("{i}"), true)).await;
        clients.push((handle, consumer));
    }
    for (_, consumer) in &clients {
        active(&**consumer).await;
    }
    publish(&owner, fanout(&name), "all").await;
    for (handle, consumer) in &mut clients {
        assert_eq!(&take(&mut **consumer, 1).await[0].body[..], b"all");
        publish(handle, topic("nobody"), "{}").await;
    }
    let listed = broker.ctl(&["ctl", "list_connections", "client_properties"]);
    assert_eq!(listed.matches(&broker.unique("swarm")).count(), 1);
    let (handle, mut gone) = clients.pop().expect("fifty");
    handle.close(Instant::now() + PATIENCE).await;
    assert_eq!(gone.next_batch(&mut Vec::new(), 1).await, 0);
    drop(gone);
    let closed = handle.publish(message(topic("nobody"), "{}")).await;
    assert!(matches!(closed, Err(TransportError::Closed)), "{closed:?}");
    // The others have lost nothing.
    let (handle, consumer) = clients.first_mut().expect("forty-nine");
    publish(handle, server(&name, "0"), "still").await;
    assert_eq!(&take(&mut **consumer, 1).await[0].body[..], b"still");
}

#[tokio::test]
async fn a_compressed_body_arrives_inflated() {
    let Some(broker) = broker("compression").await else { return };
    let (_transport, name, mut consumer) = broker.serving("compressed").await;
    // zlib's frame around "{}", as Python's zlib.compress writes it.
    let zlib = [0x78, 0x9c, 0xab, 0xae, 0x05, 0x00, 0x01, 0x75, 0x00, 0xf9];
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-gzip".into()));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    let bare = broker.bare().await;
    let queue = format!("{name}.s");
    let published =
        bare.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), &zlib, properties).await;
    published.expect("published");
    assert_eq!(&take(&mut *consumer, 1).await[0].body[..], b"{}");
}

#[tokio::test]
async fn oslo_shapes_are_those_an_oslo_server_declares() {
    let Some(broker) = broker("oslo topology").await else { return };
    let name = broker.unique("oslo");
    let bare = broker.bare().await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = format!("{name}.s");
    bare.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.expect("declared");
    let mut options = broker.options("oslo");
    options.topology = Topology::Oslo(OsloOptions { amqp_durable_queues: true, ..OsloOptions::default() });
    let transport = RabbitTransport::start(options);
    let exchange = broker.unique("oslo-exchange");
    let server = "s".to_owned();
    let shape = QueueKind::Server { exchange: exchange.clone(), topic: name, server, fanout: false };
    drop(consuming(&transport, shape).await);
    bare.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
    let options = lapin::options::ExchangeDeleteOptions::default();
    bare.exchange_delete(exchange.into(), options).await.expect("deleted");
}

#[tokio::test]
async fn a_queue_that_costs_the_connection_is_tried_seldom() {
    let Some(broker) = broker_alone("541").await else { return };
    let name = broker.unique("denied");
    let mut options = broker.options("denied");
    options.topology = Topology::Oslo(OsloOptions::default());
    let transport = RabbitTransport::start(options);
    let shared = consume(&transport, server_queue(&name, "transient", false)).await;
    let settled = |state: &ConsumerState| !matches!(state, ConsumerState::Pending);
    let bare = broker.bare().await;
    match reaches(&*shared, settled).await {
        // RabbitMQ before 4.3 takes transient shared queues, unless told not to.
        ConsumerState::Active { .. } => {
            drop(shared);
            let queue = format!("{name}.transient");
            bare.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
        }
        ConsumerState::Failed { reason } => {
            assert!(
                reason.contains("transient_nonexcl_queues") && reason.contains("see `topology`"),
                "{reason}"
            );
            let generation = connected(&transport).await;
            transport.publish(message(topic("nobody"), "{}")).await.expect("published meanwhile");
            sleep(Duration::from_secs(2)).await;
            assert!(connected(&transport).await <= generation + 1, "not one connection after the other");
        }
        other => panic!("{other:?}"),
    }
}
