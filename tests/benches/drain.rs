//! How fast a filled queue of reports is drained into the map, beside a bare lapin consumer that only counts.
//!
//! Same queue and messages, prefetch and acknowledgements, in turn, in one run: `bare` parses nothing, `transport` is the
//! rabbit transport with nothing above it, `scheduler` the RPC server with the scheduler's report handler, so that
//! every report is read, judged and applied to the map of its fleet. Rates count from the request to consume to the last
//! report.
//!
//! Needs a broker: `NOVELLA_TEST_RABBIT_URL`, see `scripts/rabbitmq.sh env`; `scripts/measure.py drain` brings its own.

mod common;

use std::sync::Arc;

use common::median;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};
use novella_filter_scheduler::{FilterScheduler, SchedulerOptions};
use novella_host_manager::{HostManager, HostManagerOptions};
use novella_messaging::rabbit::{RabbitOptions, RabbitTransport};
use novella_messaging::{QueueKind, RpcServer, ServerOptions, Settle, Subscription, Transport, TransportUrl};
use novella_rpcapi::ReportHandler;
use novella_scheduler::{ManagerOptions, PolicySource, SchedulerManager};
use novella_service::Env;
use novella_service::health::Health;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

const QUEUE: &str = "novella-bench-drain";
const EXCHANGE: &str = "novella-bench";
const MESSAGES: usize = 100_000;
const HOSTS: usize = 1_000;
/// The scheduler's own defaults for its queue of reports.
const BATCH: usize = 256;
const PREFETCH: u16 = 512;
const ROUNDS: usize = 5;
const CONTENDERS: [&str; 3] = ["bare", "transport", "scheduler"];

fn main() {
    common::run("drain", async |url| Bench::new(&url).await.run().await);
}

struct Bench {
    connection: Connection,
    channel: Channel,
    transport: Arc<RabbitTransport>,
    manager: Arc<SchedulerManager>,
    /// Messages sent to each contender: sequence numbers rise without gaps.
    sent: [usize; CONTENDERS.len()],
}

impl Bench {
    async fn new(url: &str) -> Self {
        let connection = common::connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        let url = TransportUrl::parse(url).expect("a transport URL");
        let options = RabbitOptions::new(url, "bench", [1; 32]).expect("known options");
        let transport = RabbitTransport::start(options);
        // Declares and binds the queue.
        let consumer = transport.consume(Subscription { queue: queue(), prefetch: 1 }).await.expect("open");
        let mut states = consumer.state();
        let active =
            states.wait_for(|state| matches!(state, novella_messaging::ConsumerState::Active { .. }));
        active.await.expect("the consumer lives");
        drop(consumer);
        sleep(Duration::from_millis(300)).await;
        Self { connection, channel, transport, manager: manager(), sent: [0; CONTENDERS.len()] }
    }

    async fn run(mut self) {
        println!("{MESSAGES} reports of {} bytes each round", body(0).len());
        let mut rates: [Vec<f64>; CONTENDERS.len()] = Default::default();
        for round in 0..ROUNDS {
            // Who goes first takes turns too: the broker's garbage is then nobody's disadvantage.
            for turn in 0..CONTENDERS.len() {
                let contender = (round + turn) % CONTENDERS.len();
                self.fill(contender).await;
                let began = Instant::now();
                match CONTENDERS[contender] {
                    "bare" => self.bare().await,
                    "transport" => self.transport().await,
                    _ => self.scheduler().await,
                }
                rates[contender].push(MESSAGES as f64 / began.elapsed().as_secs_f64());
            }
            let line =
                CONTENDERS.iter().zip(&rates).map(|(name, rates)| format!("{name} {:.0}/s", rates[round]));
            println!("round {}: {}", round + 1, line.collect::<Vec<_>>().join("  "));
        }
        let counters = self.manager.report_counters();
        assert_eq!(counters.accepted, (MESSAGES * ROUNDS) as u64, "every report is in the map: {counters:?}");
        for (name, own) in CONTENDERS.iter().zip(&rates).skip(1) {
            let ratio = median(own.iter().zip(&rates[0]).map(|(own, bare)| own / bare).collect());
            let (own, bare) = (median(own.clone()), median(rates[0].clone()));
            println!("median of {ROUNDS}: bare {bare:.0}/s, {name} {own:.0}/s, ratio {ratio:.3}");
        }
        self.channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.expect("deleted");
    }

    async fn fill(&mut self, contender: usize) {
        self.channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await.expect("purged");
        let first = self.sent[contender];
        self.sent[contender] += MESSAGES;
        for number in first..first + MESSAGES {
            let body = body(number);
            let properties = BasicProperties::default().with_content_type("application/json".into());
            let published = self.channel.basic_publish(
                "".into(),
                QUEUE.into(),
                BasicPublishOptions::default(),
                &body,
                properties,
            );
            published.await.expect("published");
        }
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        loop {
            let queue = self.channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await;
            match queue.expect("the queue is there").message_count() {
                count if count as usize == MESSAGES => break,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn bare(&self) {
        let channel = self.connection.create_channel().await.expect("a channel");
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("qos");
        let options = BasicConsumeOptions::default();
        let consumed = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default());
        let mut consumer = consumed.await.expect("consuming");
        for count in 1..=MESSAGES {
            let delivery = consumer.next().await.expect("more").expect("a delivery");
            if count % BATCH == 0 || count == MESSAGES {
                delivery.acker.ack(BasicAckOptions { multiple: true }).await.expect("acknowledged");
            }
        }
        channel.close(200, "done".into()).await.expect("closed");
    }

    async fn transport(&self) {
        let subscription = Subscription { queue: queue(), prefetch: PREFETCH };
        let mut consumer = self.transport.consume(subscription).await.expect("open");
        let (mut count, mut batch) = (0, Vec::with_capacity(BATCH));
        while count < MESSAGES {
            assert!(consumer.next_batch(&mut batch, BATCH).await > 0, "the consumer ended");
            count += batch.len();
            consumer.settle(batch[batch.len() - 1].tag, Settle::AckThrough);
            batch.clear();
        }
        consumer.cancel().await;
    }

    async fn scheduler(&self) {
        let all = self.manager.report_counters().accepted + MESSAGES as u64;
        let options =
            ServerOptions { prefetch: PREFETCH, report_batch: BATCH, ..ServerOptions::new([2; 32]) };
        let [handler, _] = ReportHandler::all(&self.manager);
        let server = RpcServer::new(self.transport.clone(), options).batch(Arc::new(handler));
        server.listen(queue()).await.expect("open");
        while self.manager.report_counters().accepted < all {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(server.shutdown(Instant::now() + Duration::from_secs(10)).await, "it stopped in order");
    }
}

fn queue() -> QueueKind {
    QueueKind::Topic { exchange: EXCHANGE.into(), topic: QUEUE.into() }
}

fn manager() -> Arc<SchedulerManager> {
    let env = Env::system(None).expect("entropy");
    let health = Health::new(env.clock.clone());
    let map = HostManagerOptions::default();
    let options = ManagerOptions {
        name: "bench".to_owned(),
        policy: PolicySource::default(),
        max_hold: map.max_hold,
        nova_cell: uuid::Uuid::nil(),
        authority: Default::default(),
        request_quotas: Default::default(),
    };
    let engine = FilterScheduler::new(SchedulerOptions::default()).expect("the defaults are good");
    SchedulerManager::new(options, env, HostManager::new(map, "bench"), engine, health).0
}

/// The report with this number: host after host, each time with the next sequence number. About 700 bytes.
fn body(number: usize) -> Vec<u8> {
    let (host, seq) = (number % HOSTS, number / HOSTS + 1);
    let name = format!("compute-{host:05}");
    let inner = json!({
        "method": "update_service_capabilities",
        "args": {"service_name": "compute", "host": name, "capabilities": {
            "vcpus": 32, "vcpus_used": 3, "disk_total": 1800, "disk_used": 100 + seq % 100,
            "disk_available": 1700 - seq % 100, "host_memory_total": 257_000, "host_memory_free": 200_000 - seq % 1000,
            "hypervisor_type": "QEMU", "hypervisor_version": 8_002_000, "hypervisor_hostname": name,
            "novella": {
                "uuid": Uuid::from_u128(0x1234_5678_9abc_4def_8000_0000_0000_0000 + host as u128), "incarnation": 3,
                "nonce": 1_234_567, "seq": seq, "sent_at": "2026-01-01T00:00:00Z", "interval_ms": 10_000, "claims": [],
            },
        }},
        "version": "1.0",
        "_unique_id": format!("{number:032x}"),
    });
    json!({"oslo.version": "2.0", "oslo.message": inner.to_string()}).to_string().into_bytes()
}
