//! The linux driver on trees in which one file is missing: it costs the values of that file and no other.

use novella_virt::{HostStats, NumaNode};

use crate::host::{Host, NODES};

/// The reading of a host of two sockets with all files.
async fn whole() -> HostStats {
    Host::two_sockets().stats().await
}

/// The readings of one host with all its files and after `change`.
async fn before_and_after(change: impl FnOnce(Host) -> Host) -> (HostStats, HostStats) {
    let host = Host::two_sockets();
    let before = host.stats().await;
    (before, change(host).stats().await)
}

#[tokio::test]
async fn load_and_uptime_cost_themselves() {
    let (mut expected, stats) = before_and_after(|host| host.without("proc/loadavg")).await;
    (expected.load_1m.value, expected.load_1m.source) = (None, "no /proc/loadavg".into());
    assert_eq!(stats, expected);
    let (mut expected, stats) = before_and_after(|host| host.without("proc/uptime")).await;
    (expected.uptime_s.value, expected.uptime_s.source) = (None, "no /proc/uptime".into());
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn lines_of_meminfo_cost_what_they_say() {
    let meminfo = "MemTotal:       16384000 kB\nCached: 9 kB\n";
    let (mut expected, stats) = before_and_after(|host| host.with("proc/meminfo", meminfo)).await;
    expected.memory_available_mb.value = None;
    expected.memory_available_mb.source = "/proc/meminfo has neither MemAvailable nor MemFree".into();
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn cpu_times_cost_themselves_and_are_told_of() {
    let (mut expected, mut stats) = before_and_after(|host| host.without("proc/stat")).await;
    let [stale] = &stats.stale[..] else { panic!("one probe: {:?}", stats.stale) };
    assert!(stale.probe == "cpu times" && stale.reason.contains("proc/stat"), "{stale:?}");
    (stats.stale, expected.cpu_stats) = (Vec::new(), None);
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn without_cpuinfo_the_cpus_are_counted_but_not_described() {
    let mut stats = Host::two_sockets().without("proc/cpuinfo").stats().await;
    let cpu = stats.cpu_info.value.clone();
    assert_eq!((cpu.vendor.as_str(), cpu.model.as_str(), cpu.features.len()), ("unknown", "unknown", 0));
    assert!(stats.cpu_info.source.starts_with("no /proc/cpuinfo; "), "{}", stats.cpu_info.source);
    let [told] = &stats.warnings[..] else { panic!("one warning: {:?}", stats.warnings) };
    assert!(told.starts_with("/proc/cpuinfo is missing"), "{told}");
    (stats.warnings, stats.cpu_info) = (Vec::new(), whole().await.cpu_info);
    assert_eq!((stats.vcpus.value, &stats.numa), (8, &whole().await.numa));
    assert_eq!(cpu.topology, stats.cpu_info.value.topology);

    let neither = Host::new(2).without("proc/cpuinfo").error().await;
    assert!(neither.contains("proc/cpuinfo"), "nothing else counts the CPUs: {neither}");
}

/// The nodes of the host without one file of its second node, and the warnings about it.
async fn nodes_without(file: &str) -> (Vec<NumaNode>, Vec<String>) {
    let stats = Host::two_sockets().without(&format!("{NODES}/node1/{file}")).stats().await;
    assert_eq!((stats.vcpus.value, stats.memory_total_mb.value), (8, 16_000));
    (stats.numa.value, stats.warnings)
}

#[tokio::test]
async fn a_file_of_one_node_costs_that_node_its_cpus_or_its_memory() {
    let nodes = whole().await.numa.value;
    let (without_memory, told) = nodes_without("meminfo").await;
    assert!(told[0].contains("node1/meminfo is missing") && told[0].contains("without memory"), "{told:?}");
    assert_eq!((&without_memory[0], &without_memory[1].cpus), (&nodes[0], &nodes[1].cpus));
    assert_eq!((told.len(), without_memory[1].memory_mb), (1, 0));

    let (without_cpus, told) = nodes_without("cpulist").await;
    assert!(told[0].contains("node1/cpulist is missing") && told[0].contains("without CPUs"), "{told:?}");
    assert!(told[1].starts_with("CPUs 2-3,6-7 are in no NUMA node"), "{told:?}");
    assert_eq!((&without_cpus[0], without_cpus[1].memory_mb), (&nodes[0], 8_192));
    assert_eq!((told.len(), without_cpus[1].cpus.len()), (2, 0));
}

#[tokio::test]
async fn an_only_node_has_all_cpus_whatever_is_missing_of_it() {
    let stats = Host::new(2).with(&format!("{NODES}/online"), "0").stats().await;
    assert_eq!((stats.numa.value[0].cpus.as_slice(), stats.numa.value[0].memory_mb), (&[0, 1][..], 16_000));
    assert_eq!(stats.warnings, [""; 0]);
}

#[tokio::test]
async fn a_recorded_host_without_its_disk_has_not_the_disk_of_this_machine() {
    let stats = Host::two_sockets().without("novella/statvfs").stats().await;
    assert_eq!((stats.disk_total_gb.value, stats.disk_available_gb.value), (0, 0));
    assert_eq!(stats.disk_total_gb.source, "no novella/statvfs");
    assert!(stats.warnings[0].contains("its disk is not known"), "{:?}", stats.warnings);
    assert_eq!((stats.cpu_info, stats.numa), (whole().await.cpu_info, whole().await.numa));
}

#[tokio::test]
async fn one_pci_device_that_makes_no_sense_costs_itself() {
    let devices = "sys/bus/pci/devices";
    let mut host = Host::two_sockets();
    for (address, vendor) in [("0000:01:00.0", "0x8086"), ("0000:02:00.0", "broken")] {
        for (file, text) in [("vendor", vendor), ("device", "0x1572"), ("class", "0x020000")] {
            host = host.with(&format!("{devices}/{address}/{file}"), text);
        }
    }
    let stats = host.stats().await;
    let addresses: Vec<_> = stats.pci_devices.value.iter().map(|device| device.address.as_str()).collect();
    assert_eq!(addresses, ["0000:01:00.0"]);
    let [told] = &stats.warnings[..] else { panic!("one warning: {:?}", stats.warnings) };
    assert!(told.starts_with("the PCI device 0000:02:00.0 is left out: "), "{told}");
    assert!(told.contains("0000:02:00.0/vendor: expected a number like 0x8086, found \"broken\""), "{told}");
}
