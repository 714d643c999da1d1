//! Who waits for the map gets it while a batch of reports is applied.

mod bed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use novella_objects::UpdateServiceCapabilities;
use novella_rpcapi::{ReceivedReport, ReportSink};
use novella_scheduler::SchedulerManager;
use novella_service::Env;
use serde_json::{Value, json};
use uuid::Uuid;

const HOSTS: usize = 60;
const CLAIMS: usize = 1000;

/// The reports of large hosts, which in each round list other claims.
fn batch(round: usize) -> Vec<String> {
    let claim = |host: usize, at: usize| {
        let uuid = Uuid::from_u128((((round * HOSTS) + host) * CLAIMS + at + 1) as u128);
        json!({"uuid": uuid, "vcpus": 1, "memory_mb": 1, "disk_gb": 1})
    };
    let report = |host| {
        json!({"service_name": "compute", "host": format!("large{host}"), "capabilities": {"novella": {
            "uuid": Uuid::from_u128(1000 + host as u128), "incarnation": 1, "nonce": 1, "seq": round, "sent_at": "",
            "interval_ms": 10_000, "claims": (0..CLAIMS).map(|at| claim(host, at)).collect::<Value>()}}})
        .to_string()
    };
    (0..HOSTS).map(report).collect()
}

/// How long the batch takes, and how long the longest wait for the map is meanwhile.
#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn times(manager: &SchedulerManager, batch: &[ReceivedReport<'_>]) -> (Duration, Duration) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                manager.with_hosts(|_, _| ());
                longest = longest.max(began.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        let began = Instant::now();
        manager.apply_reports(batch);
        let whole = began.elapsed();
        over.store(true, Ordering::Relaxed);
        (whole, waiter.join().expect("the waiter does not panic"))
    })
}

#[test]
fn a_batch_of_large_reports_gives_the_map_back_meanwhile() {
    let env = Env::system(None).expect("randomness");
    let manager = bed::manager(&env, "", 1);
    let mut seen = Vec::new();
    for round in 1..=5 {
        let texts = batch(round);
        let read = |text| serde_json::from_str::<UpdateServiceCapabilities<'_>>(text).expect("a report");
        let reports: Vec<_> = texts.iter().map(|text: &String| read(text).into()).collect();
        let (whole, longest) = times(&manager, &reports);
        if longest < whole / 4 {
            return;
        }
        seen.push((whole, longest)); // the machine may have been busy
    }
    panic!("the batches and the longest waits: {seen:?}");
}
