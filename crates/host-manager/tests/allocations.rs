//! Checks that a report that changes no words is applied without an allocation.

use std::time::Duration;

use novella_host_manager::{HostManager, HostManagerOptions};
use novella_objects::Capabilities;

/// A report as an agent with the linux driver sends it.
fn report(host: u32, seq: u64) -> String {
    let free = 30_000 + (host as u64 * 7919 + seq * 104_729) % 200_000;
    let disk = 100 + (host as u64 * 31 + seq * 17) % 1_000;
    format!(
        concat!(
            r#"{{"vcpus":64,"vcpus_used":0,"disk_total":1800,"disk_used":{used},"disk_available":{disk},"#,
            r#""host_memory_total":257000,"host_memory_free":{free},"hypervisor_version":6001000,"#,
            r#""hypervisor_type":"linux","hypervisor_hostname":"host-{host}","cpu_info":{{"arch":"x86_64","#,
            r#""model":"EPYC","vendor":"AMD","features":["aes","avx2","pge"],"#,
            r#""topology":{{"sockets":1,"cores":32,"threads":2,"cells":1}}}},"novella":{{"#,
            r#""uuid":"00000000-0000-0000-0000-{host:012}","incarnation":3,"nonce":5,"seq":{seq},"#,
            r#""sent_at":"2026-01-01T00:00:{second:02}.000Z","interval_ms":10000,"#,
            r#""availability_zone":"az1","reserved":{{"vcpus":0,"memory_mb":512,"disk_gb":0}},"#,
            r#""claims":[{{"uuid":"00000000-0000-0000-0001-{host:012}","vcpus":2,"memory_mb":2048,"disk_gb":20}}],"#,
            r#""traits":["HW_ARCH_X86_64","HW_CPU_X86_AVX2"],"#,
            r#""resources":{{"CUSTOM_FPGA":{{"total":4,"reserved":0,"min_unit":1,"max_unit":4,"step_size":1,"allocation_ratio":1.0}}}},"#,
            r#""facts":{{"rack":"r1"}},"host_ip":"192.0.2.1","#,
            r#""numa_topology":{{"cells":[{{"id":0,"cpuset":[0,1],"pcpuset":[0,1],"memory_mb":257000,"mempages":[],"siblings":[[0],[1]],"socket":0}}]}},"#,
            r#""measured":{{"load_1m":0.{second:02},"memory_available_mb":{free},"disk_free_gb":{disk},"uptime_s":{seq}}}}}}}"#
        ),
        host = host,
        used = 1800 - disk,
        disk = disk,
        free = free,
        seq = seq,
        second = seq % 60,
    )
}

#[test]
fn a_report_of_other_measured_values_allocates_nothing() {
    const HOSTS: u32 = 100;
    let mut manager = HostManager::new(HostManagerOptions::default(), "s1");
    let texts: Vec<_> = (1..4).flat_map(|seq| (1..=HOSTS).map(move |host| report(host, seq))).collect();
    let reports: Vec<Capabilities<'_>> =
        texts.iter().map(|text| serde_json::from_str(text).expect("a good report")).collect();
    let mut send = |first: usize, last: usize| {
        for report in &reports[first..last] {
            let name = report.hypervisor_hostname.as_deref().expect("it has a name");
            let applied = manager.apply_report(None, "compute", name, report, Duration::from_secs(1));
            assert!(applied.is_accepted(), "{applied:?}");
        }
    };
    let hosts = HOSTS as usize;
    send(0, 2 * hosts);
    let allocated = allocation_counter::measure(|| send(2 * hosts, 3 * hosts));
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}
