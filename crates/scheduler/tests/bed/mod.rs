//! A scheduler's manager with hosts and a policy of the test's own, without a broker.

use std::sync::Arc;

use novella_filter_scheduler::FilterScheduler;
use novella_host_manager::{HostManager, HostManagerOptions, PolicyFile};
use novella_objects::UpdateServiceCapabilities;
use novella_rpcapi::{ReceivedReport, ReportSink};
use novella_scheduler::{ManagerOptions, PolicySource, SchedulerManager};
use novella_service::Env;
use novella_service::health::Health;
use serde_json::json;
use uuid::Uuid;

/// Hosts `h0`, `h1` and so on, each of 64 CPUs and 256 GiB, under a policy.
pub fn manager(env: &Env, policy: &str, hosts: usize) -> Arc<SchedulerManager> {
    let policy = Arc::new(PolicyFile::parse(policy).expect("a good policy"));
    let engine = FilterScheduler::new(policy.options.clone()).expect("good options");
    let mut map = HostManager::new(HostManagerOptions::default(), "s1");
    map.set_policy(policy);
    let options = ManagerOptions {
        name: "s1".to_owned(),
        policy: PolicySource::default(),
        max_hold: HostManagerOptions::default().max_hold,
        nova_cell: Uuid::nil(),
        authority: Default::default(),
        request_quotas: Default::default(),
    };
    let health = Health::new(env.clock.clone());
    let (manager, _reserves) = SchedulerManager::new(options, env.clone(), map, engine, health);
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
    manager
}

fn report(host: usize) -> String {
    let identity = Uuid::from_u128(host as u128 + 1);
    json!({"service_name": "compute", "host": format!("h{host}"), "capabilities": {
        "vcpus": 64, "vcpus_used": 0, "host_memory_total": 262_144, "host_memory_free": 262_144,
        "disk_total": 4_000, "disk_used": 0, "disk_available": 4_000,
        "hypervisor_hostname": format!("node-{host}"),
        "novella": {"uuid": identity, "incarnation": 1, "nonce": 1, "seq": 1, "sent_at": "", "interval_ms": 10_000},
    }})
    .to_string()
}
