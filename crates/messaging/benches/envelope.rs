//! What a report costs before the host map sees it: from the body of one delivery to typed arguments.
//!
//! `cargo bench -p novella-messaging --bench envelope`

use std::hint::black_box;

use divan::Bencher;
use novella_messaging::{Authority, MethodClass, read_request};
use serde::Deserialize;
use serde_json::json;

fn main() {
    divan::main();
}

/// The arguments of a report, its capabilities left as text.
#[derive(Deserialize)]
struct Report<'a> {
    service_name: &'a str,
    host: &'a str,
    #[serde(borrow)]
    capabilities: &'a serde_json::value::RawValue,
}

fn sealed_report(claims: usize) -> Vec<u8> {
    let claims: Vec<_> = (0..claims)
        .map(|n| json!({"uuid": format!("cccccccc-0000-4000-8000-{n:012}"), "vcpus": 2, "memory_mb": 4096, "disk_gb": 20}))
        .collect();
    let inner = json!({
        "method": "update_service_capabilities",
        "version": "1.0",
        "args": {"service_name": "compute", "host": "cmp1", "capabilities": {
            "vcpus": 16, "vcpus_used": 2, "disk_total": 500, "disk_used": 20, "disk_available": 480,
            "host_memory_total": 65536, "host_memory_free": 60000, "hypervisor_type": "QEMU",
            "hypervisor_version": 1_000_000, "hypervisor_hostname": "cmp1",
            "cpu_info": {"arch": "x86_64", "model": "Nehalem", "features": ["vmx"], "topology": {"cores": 8, "threads": 2}},
            "novella": {"uuid": "dddddddd-0000-4000-8000-000000000001", "incarnation": 3, "seq": 17, "claims": claims},
        }},
        "_unique_id": "aa62b37c45d248c981b3ed539684a9b7",
    });
    json!({"oslo.version": "2.0", "oslo.message": inner.to_string()}).to_string().into_bytes()
}

/// Reads the envelope and the arguments. Without claims the body has about 700 bytes.
#[divan::bench(args = [0, 20])]
fn report(bencher: Bencher<'_, '_>, claims: usize) {
    let body = sealed_report(claims);
    bencher.counter(divan::counter::BytesCount::new(body.len())).bench(|| {
        let request = read_request(black_box(&body)).expect("a valid report");
        let report: Report<'_> = request.args().parse().expect("its arguments");
        black_box(report.service_name.len() + report.host.len() + report.capabilities.get().len())
    });
}

/// Checks whether the user of a report may report, with the shipped lists and one user for each host.
#[divan::bench(args = ["agent", "agent-cmp-0417", "nobody"])]
fn authority(bencher: Bencher<'_, '_>, user: &str) {
    let lists = [
        (MethodClass::Report, vec!["agent", "agent-*"]),
        (MethodClass::Place, vec!["operator"]),
        (MethodClass::Read, vec!["operator"]),
        (MethodClass::Administer, vec!["admin"]),
        (MethodClass::Peers, vec!["scheduler"]),
    ];
    let authority = lists.into_iter().fold(Authority::default(), |all, (class, users)| {
        let users: Vec<_> = users.into_iter().map(str::to_owned).collect();
        all.list(class, "authority", &users)
    });
    bencher.bench(|| black_box(&authority).permits(black_box(Some(user)), MethodClass::Report));
}

/// Reads the envelope only, as dispatch needs it.
#[divan::bench(args = [0, 20])]
fn envelope(bencher: Bencher<'_, '_>, claims: usize) {
    let body = sealed_report(claims);
    bencher.bench(|| black_box(read_request(black_box(&body)).expect("a valid report")));
}
