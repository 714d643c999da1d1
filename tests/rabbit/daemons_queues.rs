//! How much the queues of a fleet keep, with the shipped policies: little of what nobody reads, and the sender of a request
//! hears that it was not taken.

use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::BasicProperties;
use lapin::Confirmation;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use novella_messaging::{CallOptions, RpcClient, RpcError, TransportError};
use novella_rpcapi::{Names, SchedulerApi};
use tokio::time::Instant;

use crate::daemons_process::*;
use crate::daemons_rig::*;
use crate::process::Process;
use crate::support::*;

/// The length of what is parked here.
const PIECE: usize = 1 << 20;
/// Several of them, as many as may be unconfirmed.
const AT_ONCE: usize = 20;

/// Publishes pieces to a queue through the default exchange. Returns how many the broker took.
async fn park(channel: &lapin::Channel, queue: &str, pieces: usize) -> usize {
    let piece = vec![b'x'; PIECE];
    let mut taken = 0;
    for _ in 0..pieces / AT_ONCE {
        let sent = (0..AT_ONCE).map(async |_| {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            channel.basic_publish("".into(), queue.into(), options, &piece, properties).await?.await
        });
        let confirmed = try_join_all(sent).await.expect("this user may publish there");
        taken += confirmed.iter().filter(|how| matches!(how, Confirmation::Ack(None))).count();
    }
    taken
}

/// A channel of this shipped user on which publications are confirmed.
async fn confirming(house: &House, user: &str) -> (lapin::Connection, lapin::Channel) {
    let connection = connection(&house.url_of(user)).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("every broker can confirm");
    (connection, channel)
}

/// How many messages a queue has.
fn messages(house: &House, queue: &str) -> usize {
    let listed =
        house.broker.ctl(&["ctl", "list_queues", "-p", &house.vhost, "name", "messages", "--silent"]);
    let row = listed.lines().find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'));
    row.unwrap_or_else(|| panic!("no {queue} in {listed}")).parse().expect("a number of messages")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_queue_of_an_agents_own_keeps_little() {
    let Some(house) = House::shared("daemons parked messages").await else { return };
    house.allow_the_shipped_users().await;
    let (_connection, channel) = confirming(&house, "agent").await;
    for kind in ["classic", "quorum", "stream"] {
        let queue = format!("compute.parked-{kind}");
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        // Limits of its own do not widen those of the policy.
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(1 << 40));
        if kind == "stream" {
            arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(1 << 30));
        }
        channel.queue_declare(queue.as_str().into(), durable, arguments).await.expect("it may declare that");
        park(&channel, &queue, 300).await;
        let few = async || messages(&house, &queue) <= 64;
        eventually(&format!("{queue} keeps at most 64 MiB"), few).await;
    }
    // The policies are for our own names: a stream of somebody else keeps what it wants.
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let administrator = connection(&house.url).await;
    let channel = administrator.create_channel().await.expect("a channel");
    for name in ["journal", "notifications.info", "my-scheduler"] {
        channel
            .queue_declare(name.into(), durable, FieldTable::default())
            .await
            .expect("it may do everything");
    }
    let listed = house.broker.ctl(&["ctl", "list_queues", "-p", &house.vhost, "name", "policy", "--silent"]);
    for line in listed.lines().filter(|line| !line.starts_with("compute.")) {
        let (name, policy) = line.split_once('\t').expect("two columns");
        assert_eq!(policy, "", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_hears_that_the_queue_of_requests_is_full() {
    let Some(house) = House::shared("daemons full queue of requests").await else { return };
    house.allow_the_shipped_users().await;
    let start = || {
        let down_time = Duration::from_secs(60);
        Process::scheduler(&house.url_of("scheduler"), "s1", down_time, &SHIPPED_LISTS)
    };
    let (mut scheduler, _) = start();
    scheduler.wait_for(SERVES);
    scheduler.stop();
    let (_connection, agent) = confirming(&house, "agent").await;
    let taken = park(&agent, "scheduler", 100).await;
    assert!((60..=66).contains(&taken), "the queue takes 64 MiB, and {taken} pieces were taken");

    let operator = house.url_of("operator");
    let began = Instant::now();
    let (code, _, err) = novella(&operator, "place --vcpus 1 --ram 64M --timeout 30s");
    assert_eq!(code, 7, "{err}");
    has(
        &err,
        &["the broker rejected the request", "its queue is full", "scheduler is full", "then try again"],
    );
    assert!(began.elapsed() < Duration::from_secs(15), "it is told at once: {:?}", began.elapsed());
    let transport = house.transport("operator").await;
    let api = SchedulerApi::new(RpcClient::new(transport, [3; 32]), &Names::on(EXCHANGE));
    let error = api.status(CallOptions::new(PATIENCE)).await.expect_err("nobody is there");
    assert!(matches!(error, RpcError::Send { source: TransportError::Rejected { .. }, .. }), "{error:?}");

    // A scheduler refuses what was parked, and then takes requests.
    let (scheduler, _) = start();
    let served = async || novella(&operator, "host list").0 == 0;
    eventually("requests are taken again", served).await;
    scheduler.stop();
}
