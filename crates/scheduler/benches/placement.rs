//! One placement as a caller gets it: checked, decided, reserved, remembered and told to the other schedulers.
//!
//! `cargo bench -p novella-scheduler --bench placement`. The fleet is filled by reports of hosts of three sizes at all
//! degrees of use; explanation and alternates are on, as by default. `select_and_reserve` consumes what it decides, and the
//! reservations of one sample are let go before the next; `dry_run` decides only.

use std::cell::RefCell;
use std::sync::Arc;

use divan::Bencher;
use futures_util::FutureExt;
use novella_filter_scheduler::{FilterScheduler, SchedulerOptions};
use novella_host_manager::{HostManager, HostManagerOptions};
use novella_messaging::RequestContext;
use novella_objects::{
    Flavor, PlacementRequest, RequestSpec, Reserve, SelectDestinations, UpdateServiceCapabilities,
};
use novella_rpcapi::{ReceivedReport, Release, ReportSink, SchedulerEndpoint};
use novella_scheduler::{ManagerOptions, PolicySource, SchedulerManager};
use novella_service::Env;
use novella_service::health::Health;
use tokio::sync::mpsc;
use uuid::Uuid;

fn main() {
    divan::main();
}

const SIZES: [usize; 2] = [1_000, 10_000];
/// Instances on the hosts before the first placement: none to this many.
const INSTANCES: usize = 24;

fn fleet(hosts: usize) -> (Arc<SchedulerManager>, mpsc::Receiver<Reserve>) {
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
    let map = HostManager::new(HostManagerOptions::default(), "bench");
    let (manager, reserves) = SchedulerManager::new(options, env, map, engine, health);
    let texts: Vec<_> = (0..hosts).map(report).collect();
    let reports: Vec<ReceivedReport<'_>> = texts
        .iter()
        .map(|text| {
            let report: UpdateServiceCapabilities<'_> = serde_json::from_str(text).expect("its own report");
            ReceivedReport::from(report)
        })
        .collect();
    manager.apply_reports(&reports);
    assert_eq!(manager.report_counters().accepted, hosts as u64);
    (manager, reserves)
}

fn report(host: usize) -> String {
    let (vcpus, memory, disk) = [(32, 131_072, 1_000), (64, 262_144, 2_000), (128, 524_288, 4_000)][host % 3];
    let zone = ["az1", "az2", "az3"][host / 3 % 3];
    let uuid = |part: usize| Uuid::from_u128((host * 100 + part + 1) as u128);
    let claims: Vec<_> = (1..=host * 7 % (INSTANCES + 1))
        .map(|claim| serde_json::json!({"uuid": uuid(claim), "vcpus": 4, "memory_mb": 4096, "disk_gb": 40}))
        .collect();
    serde_json::json!({"service_name": "compute", "host": format!("compute-{host:05}"), "capabilities": {
        "vcpus": vcpus, "vcpus_used": 0, "host_memory_total": memory, "host_memory_free": memory,
        "disk_total": disk, "disk_used": 0, "disk_available": disk, "hypervisor_type": "QEMU",
        "hypervisor_version": 8_002_000, "hypervisor_hostname": format!("compute-{host:05}"),
        "cpu_info": {"arch": "x86_64", "model": "EPYC", "features": ["aes", "avx2"]},
        "novella": {
            "uuid": uuid(0), "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "", "interval_ms": 10_000,
            "availability_zone": zone, "claims": claims,
        },
    }})
    .to_string()
}

/// Reservations that are let go together.
const HELD: u32 = 10;

fn place(bencher: Bencher<'_, '_>, hosts: usize, dry_run: bool) {
    let (manager, reserves) = fleet(hosts);
    let (reserves, made) = (RefCell::new(reserves), RefCell::new(Vec::<String>::new()));
    let context = RequestContext::default();
    let mut next = 1 << 64;
    let request = || {
        for decision_id in made.borrow_mut().drain(..) {
            let release = Release { decision_id, instance_uuids: Vec::new() };
            let released = manager.release(&context, release).now_or_never().expect("it never waits");
            assert_eq!(released.expect("released"), u64::from(!dry_run));
        }
        while reserves.borrow_mut().try_recv().is_ok() {}
        next += 1;
        SelectDestinations {
            request_spec: PlacementRequest {
                instance_uuids: vec![Uuid::from_u128(next)],
                spec: RequestSpec {
                    flavor: Flavor { vcpus: 4, memory_mb: 8192, root_gb: 80, ..Flavor::default() },
                    ..RequestSpec::default()
                },
                attempt: 1,
            },
            dry_run,
            ..SelectDestinations::default()
        }
    };
    bencher.with_inputs(request).bench_local_values(|request| {
        let decision = manager.select_destinations(&context, request).now_or_never().expect("it never waits");
        let decision = decision.expect("a good request");
        assert!(decision.refusal.is_none() && !decision.explanation.filters.is_empty());
        made.borrow_mut().push(decision.decision_id.clone());
        decision
    });
}

#[divan::bench(args = SIZES, sample_size = HELD)]
fn select_and_reserve(bencher: Bencher<'_, '_>, hosts: usize) {
    place(bencher, hosts, false);
}

#[divan::bench(args = SIZES, sample_size = HELD)]
fn dry_run(bencher: Bencher<'_, '_>, hosts: usize) {
    place(bencher, hosts, true);
}
