//! Publishing: confirmed, returned, refused in clear words, never hanging.

use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use novella_messaging::rabbit::RabbitTransport;
use novella_messaging::{Destination, Outgoing, Transport, TransportError};
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn mandatory_messages_come_back_when_nobody_listens() {
    let Some(broker) = broker("mandatory").await else { return };
    let transport = broker.transport("mandatory").await;
    let name = broker.unique("m");
    let mut consumer = consuming(&transport, server_queue(&name, "here", false)).await;
    // Interleaved and all at once: each must get its own verdict, and not a neighbour's.
    let sendings = (0..200).map(|i| {
        let transport = transport.clone();
        let to = server(&name, if i % 3 == 0 { "absent" } else { "here" });
        async move { transport.publish(Outgoing { mandatory: true, ..message(to, format!("{i}")) }).await }
    });
    for (i, result) in join_all(sendings).await.into_iter().enumerate() {
        match result {
            Ok(()) => assert_ne!(i % 3, 0, "{i} went nowhere"),
            Err(TransportError::Unroutable { destination }) => {
                assert_eq!(i % 3, 0, "{i} was delivered");
                assert_eq!(destination, format!("{name}.absent"));
            }
            Err(other) => panic!("{i}: {other}"),
        }
    }
    assert_eq!(take(&mut *consumer, 133).await.len(), 133);
}

#[tokio::test]
async fn a_missing_fanout_exchange_is_made_quietly() {
    let Some(broker) = broker_alone("missing exchange").await else { return };
    let transport = broker.transport("quiet").await;
    let name = broker.unique("f");
    let before = log().0.text().len();
    // Many at once: the broker closes the channel under all of them.
    let sendings = (0..50).map(|i| {
        let to = if i % 2 == 0 { fanout(&name) } else { topic("nobody") };
        transport.publish(message(to, "{}"))
    });
    for result in join_all(sendings).await {
        result.expect("published");
    }
    let mut consumer = consuming(&transport, fanout_queue(&name, Duration::from_secs(30), 10)).await;
    publish(&transport, fanout(&name), "1").await;
    take(&mut *consumer, 1).await;
    drop(consumer);
    let bare = broker.bare().await;
    let gone = || async {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let kind = lapin::ExchangeKind::Fanout;
        let exchange = format!("{name}_fanout");
        broker
            .bare()
            .await
            .exchange_declare(exchange.into(), kind, options, FieldTable::default())
            .await
            .is_err()
    };
    eventually("the exchange goes with its last queue", async || gone().await).await;
    publish(&transport, fanout(&name), "2").await;
    assert!(!gone().await, "declared again");
    let logged = log().0.text()[before..].to_owned();
    let loud = logged.lines().find(|line| line.contains("WARN") || line.contains("ERROR"));
    assert!(loud.is_none(), "{loud:?}");
    let exchange = format!("{name}_fanout");
    bare.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test]
async fn the_control_exchange_is_made_when_missing() {
    let Some(broker) = broker("control exchange").await else { return };
    let transport = broker.transport("control").await;
    let exchange = broker.unique("control");
    let to = Destination::Topic { exchange: exchange.clone(), topic: "t".into() };
    publish(&transport, to, "{}").await;
    let bare = broker.bare().await;
    bare.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test]
async fn the_broker_vouches_for_the_sender() {
    let Some(broker) = broker("user_id").await else { return };
    let (transport, name, mut consumer) = broker.serving("user").await;
    let expiring =
        Outgoing { expiration: Some(Duration::from_secs(60)), ..message(server(&name, "s"), "{}") };
    transport.publish(expiring).await.expect("published");
    let received = take(&mut *consumer, 1).await;
    let (user, _, _) = broker.parts();
    assert_eq!(received[0].user_id.as_deref(), Some(user.as_str()));
    assert_eq!(received[0].content_type.as_deref(), Some("application/json"));
    // The broker refuses another's name: what a receiver reads there is true.
    let channel = broker.bare().await;
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.expect("confirms");
    let forged = lapin::BasicProperties::default().with_user_id("scheduler".into());
    let options = lapin::options::BasicPublishOptions::default();
    let published =
        channel.basic_publish("".into(), format!("{name}.s").into(), options, b"{}", forged).await;
    let refused = published.expect("sent").await.expect_err("refused");
    assert!(refused.to_string().contains("user_id property set to 'scheduler'"), "{refused}");
    silent(&mut *consumer).await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_said_in_full_and_hurts_nobody_else() {
    let Some(broker) = broker("refusals").await else { return };
    let user = broker.unique("limited");
    broker.ctl(&["ctl", "add_user", &user, "pw"]);
    broker.ctl(&["ctl", "set_permissions", &user, "^$", "^allowed", "^$"]);
    let (_, _, address) = broker.parts();
    let transport = RabbitTransport::start(options(&format!("rabbit://{user}:pw@{address}/"), "limited"));
    connected(&transport).await;
    let bare = broker.bare().await;
    let allowed = broker.unique("allowed");
    let options = ExchangeDeclareOptions { auto_delete: false, ..ExchangeDeclareOptions::default() };
    let kind = lapin::ExchangeKind::Topic;
    bare.exchange_declare(allowed.as_str().into(), kind, options, FieldTable::default())
        .await
        .expect("declared");
    let good = || Destination::Topic { exchange: allowed.clone(), topic: "t".into() };
    let bad = || Destination::Queue { name: "x".into() };
    let sendings =
        (0..60).map(|i| transport.publish(message(if i % 10 == 3 { bad() } else { good() }, "{}")));
    for (i, result) in join_all(sendings).await.into_iter().enumerate() {
        match result {
            Ok(()) => assert_ne!(i % 10, 3, "{i}"),
            Err(TransportError::Refused { attempted, reason }) => {
                assert_eq!(i % 10, 3, "{i}: {reason}");
                assert_eq!(attempted, "a message of 2 bytes to x");
                assert!(
                    reason.contains("ACCESS_REFUSED") && reason.contains("permissions of this broker user"),
                    "{reason}"
                );
            }
            Err(other) => panic!("{i}: {other}"),
        }
    }
    // A missing exchange that this user may not make.
    let missing = Destination::Topic { exchange: "allowed-not-there".into(), topic: "t".into() };
    let refused = transport.publish(message(missing, "{}")).await.expect_err("refused").to_string();
    assert!(refused.contains(r#"declaring exchange "allowed-not-there""#), "{refused}");
    let long = Destination::Queue { name: "n".repeat(256) };
    let refused = transport.publish(message(long, "{}")).await.expect_err("refused").to_string();
    assert!(refused.contains("at most 255 bytes"), "{refused}");
    transport.publish(message(good(), "{}")).await.expect("still published");
    bare.exchange_delete(allowed.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    broker.ctl(&["ctl", "delete_user", &user]);
}

#[tokio::test]
async fn twenty_megabytes_pass() {
    let Some(broker) = broker("20 MB").await else { return };
    let (transport, name, mut consumer) = broker.serving("large").await;
    let large = vec![b'x'; 20 << 20];
    // RabbitMQ 4 takes 16 MiB by default, and then says so.
    match transport.publish(message(server(&name, "s"), large.clone())).await {
        Ok(()) => assert!(take(&mut *consumer, 1).await[0].body == large),
        Err(TransportError::Refused { reason, .. }) => {
            assert!(reason.contains("max_message_size"), "{reason}")
        }
        Err(other) => panic!("{other}"),
    }
    publish(&transport, server(&name, "s"), "{}").await;
    take(&mut *consumer, 1).await;
}

#[tokio::test]
async fn a_thousand_publications_at_once_are_all_confirmed() {
    let Some(broker) = broker("pipelining").await else { return };
    let (transport, name, mut consumer) = broker.serving("pipeline").await;
    let results =
        join_all((0..3000).map(|i| transport.publish(message(server(&name, "s"), format!("{i}"))))).await;
    assert!(results.iter().all(Result::is_ok));
    let bodies = take(&mut *consumer, 3000).await.into_iter().map(|delivery| delivery.body);
    assert_eq!(bodies.collect::<std::collections::BTreeSet<_>>().len(), 3000, "each once");
}

#[tokio::test]
async fn without_a_broker_publishing_ends_at_its_deadline() {
    let transport = RabbitTransport::start(options("rabbit://127.0.0.1:1/", "absent"));
    let deadline = Instant::now() + Duration::from_millis(300);
    let sendings = (0..8300).map(|_| transport.publish(Outgoing { deadline, ..message(topic("t"), "{}") }));
    let results = join_all(sendings).await;
    let late = Instant::now() - deadline;
    assert!(late < Duration::from_secs(2), "{late:?}");
    let full = results.iter().filter(|r| matches!(r, Err(TransportError::Refused { .. }))).count();
    let unreachable = results.iter().filter(|r| matches!(r, Err(TransportError::Unreachable { .. }))).count();
    assert_eq!((full, unreachable), (108, 8192), "the rest is refused at once");
}

#[tokio::test]
async fn a_shared_durable_queue_keeps_what_nobody_took_yet() {
    let Some(broker) = broker("shared queue").await else { return };
    let name = broker.unique("shared");
    let first = broker.transport("first").await;
    drop(consuming(&first, topic_queue(&name)).await);
    first.close(Instant::now() + PATIENCE).await;
    let second = broker.transport("second").await;
    publish(&second, topic(&name), "kept").await;
    assert_eq!(broker.depth(&name).await, Some(1));
    let mut late = consume(&second, topic_queue(&name)).await;
    assert_eq!(&take(&mut *late, 1).await[0].body[..], b"kept");
    broker.bare().await.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("deleted");
}
