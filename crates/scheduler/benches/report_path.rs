//! What a report costs inside the scheduler: from the body of a delivery to the map, in the steps the server takes.
//!
//! `cargo bench -p novella-scheduler --bench report_path`. Every figure is per report; the argument is the number of
//! claims in it. `decode_and_apply` reads the doubly encoded envelope and hands batches of 256 to the scheduler's own
//! handler, which parses the arguments and applies them under one lock. `serde_json_alone` only turns the same bodies
//! into the same types. A fleet reports in turn, so that each report finds its host out of the nearest caches, and each
//! has a new sequence number and other measured values than the one before.

use std::sync::Arc;

use divan::Bencher;
use novella_filter_scheduler::FilterScheduler;
use novella_filter_scheduler::SchedulerOptions;
use novella_host_manager::HostManager;
use novella_host_manager::HostManagerOptions;
use novella_messaging::BatchHandler;
use novella_messaging::read_request;
use novella_objects::UpdateServiceCapabilities;
use novella_rpcapi::ReportHandler;
use novella_scheduler::{ManagerOptions, PolicySource, SchedulerManager};
use novella_service::Env;
use novella_service::health::Health;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// The server's own default.
const BATCH: usize = 256;
/// Whole batches, so that what a batch costs falls on each of its reports alike; one, because a sample of a millisecond
/// mostly runs without being interrupted by other work on the machine.
const SAMPLE: u32 = BATCH as u32;
const SAMPLES: u32 = 1000;
const HOSTS: usize = 1000;

fn main() {
    for claims in [0, 20] {
        println!("body with {claims} claims: {} bytes", Reports::new(claims).next().len());
    }
    divan::main();
}

/// The bodies of a fleet's reports, host after host.
struct Reports {
    claims: usize,
    sent: usize,
}

impl Reports {
    fn new(claims: usize) -> Self {
        Self { claims, sent: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        let (host, seq) = (self.sent % HOSTS, self.sent / HOSTS + 1);
        self.sent += 1;
        let uuid =
            |part: usize| Uuid::from_u128((0x1234_5678_9abc_4def_8000 << 48) + (host * 100 + part) as u128);
        let claims: Vec<_> = (1..=self.claims)
            .map(|claim| json!({"uuid": uuid(claim), "vcpus": 1, "memory_mb": 512, "disk_gb": 1}))
            .collect();
        let name = format!("compute-{host:05}");
        let inner = json!({
            "method": "update_service_capabilities",
            "args": {"service_name": "compute", "host": name, "capabilities": {
                "vcpus": 32, "vcpus_used": 3, "disk_total": 1800, "disk_used": 100 + seq % 100, "disk_available": 1700 - seq % 100,
                "host_memory_total": 257_000, "host_memory_free": 200_000 - seq % 1000, "hypervisor_version": 8_002_000,
                "cpu_info": {"arch": "x86_64", "model": "EPYC", "features": ["aes", "avx2"]},
                "hypervisor_type": "QEMU", "hypervisor_hostname": name,
                "novella": {
                    "uuid": uuid(0), "incarnation": 3, "nonce": 1_234_567, "seq": seq,
                    "sent_at": "2026-01-01T00:00:00Z", "interval_ms": 10_000, "claims": claims,
                    "measured": {"load_1m": (seq % 100) as f64 / 100.0},
                },
            }},
            "version": "1.0",
            "_unique_id": format!("{:032x}", self.sent),
        });
        json!({"oslo.version": "2.0", "oslo.message": inner.to_string()}).to_string().into_bytes()
    }
}

fn manager() -> Arc<SchedulerManager> {
    let env = Env::system(None).expect("entropy");
    let health = Health::new(env.clock.clone());
    let options = ManagerOptions {
        name: "bench".to_owned(),
        policy: PolicySource::default(),
        max_hold: HostManagerOptions::default().max_hold,
        nova_cell: uuid::Uuid::nil(),
        authority: Default::default(),
        request_quotas: Default::default(),
    };
    let engine = FilterScheduler::new(SchedulerOptions::default()).expect("the defaults are good");
    let hosts = HostManager::new(HostManagerOptions::default(), "bench");
    SchedulerManager::new(options, env, hosts, engine, health).0
}

#[divan::bench(args = [0, 20], sample_count = SAMPLES, sample_size = SAMPLE)]
fn decode_and_apply(bencher: Bencher<'_, '_>, claims: usize) {
    let manager = manager();
    let [handler, _] = ReportHandler::all(&manager);
    let (mut reports, mut batch) = (Reports::new(claims), Vec::with_capacity(BATCH));
    let mut handled = 0;
    bencher.with_inputs(|| reports.next()).bench_local_refs(|body| {
        batch.push(read_request(body).expect("the benchmark's own report"));
        if batch.len() == BATCH {
            handler.handle(&batch);
            handled += batch.len() as u64;
            batch.clear();
        }
    });
    let counters = manager.report_counters();
    assert_eq!(counters.accepted, handled, "{counters:?}");
}

#[divan::bench(args = [0, 20], sample_count = SAMPLES, sample_size = SAMPLE)]
fn decode(bencher: Bencher<'_, '_>, claims: usize) {
    let mut reports = Reports::new(claims);
    bencher.with_inputs(|| reports.next()).bench_local_refs(|body| {
        let request = read_request(body).expect("the benchmark's own report");
        let report: UpdateServiceCapabilities<'_> = request.args().parse().expect("its arguments");
        divan::black_box(report.capabilities.0.len())
    });
}

#[divan::bench(args = [0, 20], sample_count = SAMPLES, sample_size = SAMPLE)]
fn serde_json_alone(bencher: Bencher<'_, '_>, claims: usize) {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "oslo.version")]
        version: &'a str,
        #[serde(rename = "oslo.message")]
        message: String,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        method: &'a str,
        version: &'a str,
        #[serde(borrow)]
        args: UpdateServiceCapabilities<'a>,
    }
    let mut reports = Reports::new(claims);
    bencher.with_inputs(|| reports.next()).bench_local_refs(|body| {
        let envelope: Envelope<'_> = serde_json::from_slice(body).expect("the benchmark's own report");
        let message: Message<'_> = serde_json::from_str(&envelope.message).expect("its message");
        divan::black_box((envelope.version, message.method, message.version));
        divan::black_box(message.args.capabilities.0.len())
    });
}
