//! The cost of a report to the scheduler: reading its text, applying it, and the memory of a host; also the cost of a
//! sweep and of a list of the fleet.
//!
//! `cargo bench -p novella-host-manager --bench apply_report`. The fleet has 1,000 hosts whose reports arrive in turn,
//! so that a report's host is not in the nearest caches. Each report has a new sequence number and other measured
//! values than the one before. `decode_only` is serde_json on the decoded inner text of `update_service_capabilities`;
//! the outer envelope is measured in the messaging crate. Before the timings, the resident memory per host is printed,
//! for 10,000 hosts.

use std::time::Duration;

use divan::Bencher;
use novella_host_manager::{HostManager, HostManagerOptions};
use novella_objects::UpdateServiceCapabilities;
use uuid::Uuid;

const HOSTS: usize = 1000;

fn main() {
    let mut kept = Vec::new(); // kept, because freed memory would hide what the next fleet takes
    for claims in [0, 5, 20] {
        let hosts = 10_000;
        let before = resident_kib();
        let manager = filled(hosts, claims);
        match (before, resident_kib()) {
            (Some(before), Some(after)) => {
                let bytes = (after - before) * 1024 / hosts;
                println!(
                    "memory: {bytes} bytes per host with {claims} claims each, {} hosts",
                    manager.table().len()
                );
            }
            _ => println!("memory: not measured, this system has no /proc/self/status"),
        }
        kept.push(manager);
    }
    drop(kept);
    divan::main();
}

/// The resident memory of this process, in bytes.
fn resident_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// The text of one report, about 700 bytes without claims.
fn text(host: usize, claims: usize, seq: u64) -> String {
    let claims: Vec<_> = (0..claims)
        .map(|at| {
            let uuid = Uuid::from_u128(0x1234_5678_9abc_def0_0000_0000_0000_0000 + (host * 100 + at) as u128);
            format!(r#"{{"uuid":"{uuid}","vcpus":1,"memory_mb":512,"disk_gb":1}}"#)
        })
        .collect();
    format!(
        concat!(
            r#"{{"service_name":"compute","host":"compute-{host:05}","capabilities":{{"vcpus":32,"vcpus_used":3,"#,
            r#""disk_total":1800,"disk_used":{used},"disk_available":{free},"host_memory_total":257000,"#,
            r#""host_memory_free":{memory},"hypervisor_version":8002000,"hypervisor_type":"QEMU","#,
            r#""hypervisor_hostname":"compute-{host:05}","cpu_info":{{"arch":"x86_64","model":"EPYC","vendor":"AMD","#,
            r#""topology":{{"cores":16,"sockets":1,"threads":2}},"features":["aes","avx2","pge"]}},"novella":{{"#,
            r#""uuid":"{uuid}","incarnation":3,"nonce":123456789,"seq":{seq},"#,
            r#""sent_at":"2026-01-01T00:00:{second:02}Z","interval_ms":10000,"availability_zone":"az1","#,
            r#""reserved":{{"vcpus":0,"memory_mb":512,"disk_gb":0}},"claims":[{claims}],"#,
            r#""traits":["HW_CPU_X86_AVX2"],"measured":{{"load_1m":0.{second:02},"memory_available_mb":{memory}}}}}}}}}"#
        ),
        host = host,
        used = 100 + seq,
        free = 1700 - seq,
        memory = 200_000 - seq,
        uuid = Uuid::from_u128(1 + host as u128),
        seq = seq,
        second = seq % 60,
        claims = claims.join(","),
    )
}

fn decode(text: &str) -> UpdateServiceCapabilities<'_> {
    serde_json::from_str(text).expect("the benchmark's own report")
}

fn apply(manager: &mut HostManager, report: &UpdateServiceCapabilities<'_>, now: Duration) {
    for caps in &report.capabilities.0 {
        let applied = manager.apply_report(None, &report.service_name, &report.host, caps, now);
        assert!(applied.is_accepted(), "{applied:?}");
    }
}

fn filled(hosts: usize, claims: usize) -> HostManager {
    let mut manager = HostManager::new(HostManagerOptions::default(), "bench");
    for host in 0..hosts {
        apply(&mut manager, &decode(&text(host, claims, 1)), Duration::ZERO);
    }
    manager
}

/// The reports of one round.
fn round(claims: usize, seq: u64) -> Vec<String> {
    (0..HOSTS).map(|host| text(host, claims, seq)).collect()
}

#[divan::bench(args = [0, 20], sample_size = 1000)]
fn decode_only(bencher: Bencher<'_, '_>, claims: usize) {
    let texts = round(claims, 2);
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 1) % texts.len();
        divan::black_box(decode(&texts[at])).host.len()
    });
}

#[divan::bench(args = [0, 20], sample_size = 1000)]
fn apply_only(bencher: Bencher<'_, '_>, claims: usize) {
    let mut manager = filled(HOSTS, claims);
    let texts: Vec<_> = (2..4).flat_map(|seq| round(claims, seq)).collect();
    let mut reports: Vec<_> = texts.iter().map(|text| decode(text)).collect();
    let (mut at, mut seq) = (0, 2);
    bencher.bench_local(|| {
        let novella = reports[at].capabilities.0[0].novella.as_mut().expect("every report has it");
        novella.seq = seq;
        apply(&mut manager, &reports[at], Duration::from_secs(seq));
        at = (at + 1) % reports.len();
        if at % HOSTS == 0 {
            seq += 1;
        }
    });
}

#[divan::bench(args = [0, 20], sample_size = 1000)]
fn decode_and_apply(bencher: Bencher<'_, '_>, claims: usize) {
    let mut manager = filled(HOSTS, claims);
    let texts: Vec<_> = (2..4).flat_map(|seq| round(claims, seq)).collect();
    let (mut at, mut seq) = (0, 2);
    bencher.bench_local(|| {
        let mut report = decode(&texts[at]);
        report.capabilities.0[0].novella.as_mut().expect("every report has it").seq = seq;
        apply(&mut manager, &report, Duration::from_secs(seq));
        at = (at + 1) % texts.len();
        if at % HOSTS == 0 {
            seq += 1;
        }
    });
}

/// The sweep that a scheduler does once a second while hosts are suspect.
#[divan::bench]
fn sweep_of_10_000_suspects(bencher: Bencher<'_, '_>) {
    let mut manager = filled(10_000, 0);
    manager.broker_lost(Duration::ZERO);
    let mut now = 1000;
    manager.expire(Duration::from_secs(now));
    bencher.bench_local(|| {
        now += 2;
        manager.expire(Duration::from_secs(now)).len()
    });
}

/// What a reader of the whole fleet does while it holds the lock.
#[divan::bench]
fn copy_of_10_000_hosts(bencher: Bencher<'_, '_>) {
    let manager = filled(10_000, 0);
    bencher.bench_local(|| manager.fleet(Duration::from_secs(1)));
}

/// What it does afterwards without the lock.
#[divan::bench]
fn list_of_10_000_hosts(bencher: Bencher<'_, '_>) {
    let manager = filled(10_000, 0);
    bencher
        .with_inputs(|| manager.fleet(Duration::from_secs(1)))
        .bench_local_values(|fleet| fleet.summaries());
}
