//! How fast a filled queue is drained, beside a bare lapin consumer that only counts: same messages, prefetch and
//! acknowledgements, in turn, in one run.
//!
//! Needs a broker: `NOVELLA_TEST_RABBIT_URL`, see `scripts/rabbitmq.sh env`.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{
    Consumer, Destination, Outgoing, QueueKind, Settle, Subscription, Transport, TransportUrl,
};
use tokio::time::{Duration, Instant};

const QUEUE: &str = "novella-bench-drain";
const MESSAGES: usize = 50_000;
const BODY: usize = 700;
const PREFETCH: u16 = 1000;
const ACK_EVERY: usize = 500;
const ROUNDS: usize = 9;

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Ok(url) = std::env::var("NOVELLA_TEST_RABBIT_URL") else {
        eprintln!("SKIPPED: drain: NOVELLA_TEST_RABBIT_URL is not set");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(&url));
}

async fn run(url: &str) {
    let url = TransportUrl::parse(url).expect("a transport URL");
    let host = &url.hosts[0];
    let uri =
        format!("amqp://{}:{}@{}:{}/%2f?frame_max=131072", host.user, host.password, host.host, host.port);
    let connection =
        lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.expect("connected");
    let options = RabbitOptions::new(url.clone(), "bench", [1; 32]).expect("known options");
    let transport = RabbitTransport::start(options);
    let mut ratios = Vec::new();
    let (mut bare_rates, mut our_rates) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Who goes first takes turns too: the broker's garbage is then nobody's disadvantage.
        let (mut bare_rate, mut our_rate) = (0.0, 0.0);
        for step in [round, round + 1] {
            fill(&transport).await;
            match step % 2 {
                0 => bare_rate = bare(&connection).await,
                _ => our_rate = ours(&transport).await,
            }
        }
        let (bare, ours) = (bare_rate, our_rate);
        println!(
            "round {round}: bare lapin {bare:.0}/s, RabbitTransport {ours:.0}/s, ratio {:.2}",
            ours / bare
        );
        ratios.push(ours / bare);
        bare_rates.push(bare);
        our_rates.push(ours);
    }
    let delete = connection.create_channel().await.expect("a channel");
    delete.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.expect("deleted");
    let (bare, ours, ratio) = (median(bare_rates), median(our_rates), median(ratios));
    println!("median of {ROUNDS}: bare lapin {bare:.0}/s, RabbitTransport {ours:.0}/s, ratio {ratio:.2}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn queue() -> QueueKind {
    QueueKind::Topic { exchange: "novella-bench".into(), topic: QUEUE.into() }
}

async fn fill(transport: &Arc<RabbitTransport>) {
    // Declares and binds the queue; nothing is in it yet.
    let consumer = transport.consume(Subscription { queue: queue(), prefetch: 1 }).await.expect("open");
    let mut states = consumer.state();
    let active = states.wait_for(|state| matches!(state, novella_messaging::ConsumerState::Active { .. }));
    active.await.expect("the consumer lives");
    drop(consumer);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let body = bytes::Bytes::from(vec![b'x'; BODY]);
    for _ in 0..MESSAGES / 1000 {
        let publish = |_| {
            transport.publish(Outgoing {
                destination: Destination::Queue { name: QUEUE.into() },
                body: body.clone(),
                expiration: None,
                mandatory: false,
                deadline: Instant::now() + Duration::from_secs(60),
            })
        };
        for result in join_all((0..1000).map(publish)).await {
            result.expect("published");
        }
    }
    assert_eq!(transport.queue_depth(QUEUE).await, Some(MESSAGES as u32));
}

/// Messages per second after the first.
fn rate(first: Option<Instant>) -> f64 {
    (MESSAGES - 1) as f64 / first.expect("messages came").elapsed().as_secs_f64()
}

async fn bare(connection: &lapin::Connection) -> f64 {
    let channel = connection.create_channel().await.expect("a channel");
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("qos");
    let consumed =
        channel.basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = consumed.await.expect("consuming");
    let (mut count, mut first) = (0, None);
    while count < MESSAGES {
        let delivery = consumer.next().await.expect("more").expect("a delivery");
        first.get_or_insert_with(Instant::now);
        count += 1;
        if count % ACK_EVERY == 0 {
            delivery.acker.ack(BasicAckOptions { multiple: true }).await.expect("acknowledged");
        }
    }
    rate(first)
}

async fn ours(transport: &Arc<RabbitTransport>) -> f64 {
    let subscription = Subscription { queue: queue(), prefetch: PREFETCH };
    let mut consumer: Box<dyn Consumer> = transport.consume(subscription).await.expect("open");
    let (mut count, mut first, mut batch) = (0, None, Vec::with_capacity(ACK_EVERY));
    while count < MESSAGES {
        let room = ACK_EVERY - batch.len();
        assert!(consumer.next_batch(&mut batch, room).await > 0, "the consumer ended");
        first.get_or_insert_with(Instant::now);
        if batch.len() == ACK_EVERY {
            consumer.settle(batch[ACK_EVERY - 1].tag, Settle::AckThrough);
            count += batch.len();
            batch.clear();
        }
    }
    rate(first)
}
