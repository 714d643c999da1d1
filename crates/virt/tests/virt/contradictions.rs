//! Hosts whose files contradict each other: the operator is told, and no CPU is offered twice.

use crate::host::{Host, NODES};

/// The warnings of a host, which has each CPU at most once.
async fn warnings(host: &Host) -> Vec<String> {
    let stats = host.stats().await;
    let mut cpus: Vec<u32> = stats.numa.value.iter().flat_map(|node| node.cpus.clone()).collect();
    let mut threads: Vec<u32> = stats.numa.value.iter().flat_map(|node| node.siblings.concat()).collect();
    cpus.sort_unstable();
    threads.sort_unstable();
    assert!(cpus.windows(2).all(|two| two[0] < two[1]), "a CPU is in two cells: {cpus:?}");
    assert_eq!(cpus, threads, "each CPU is in one core of its cell");
    stats.warnings
}

#[tokio::test]
async fn a_host_in_order_has_no_warnings() {
    assert_eq!(warnings(&Host::two_sockets()).await, [""; 0]);
    assert_eq!(warnings(&Host::new(3)).await, [""; 0]);
}

#[tokio::test]
async fn a_cpu_of_two_cells_counts_for_the_first() {
    // With numa=fake, the kernel gives all CPUs of a real node to each of its parts.
    let host = Host::two_sockets().with(&format!("{NODES}/node1/cpulist"), "0-3,6-7\n");
    let [told] = &warnings(&host).await[..] else { panic!("one warning") };
    assert!(
        told.starts_with("CPUs 0-1 are in NUMA node 0 and in NUMA node 1; they count for node 0"),
        "{told}"
    );
    assert!(told.contains("numa=fake"), "{told}");
    let nodes = host.stats().await.numa.value;
    assert_eq!((nodes[0].cpus.as_slice(), nodes[1].cpus.as_slice()), (&[0, 1, 4, 5][..], &[2, 3, 6, 7][..]));
}

#[tokio::test]
async fn a_core_over_two_cells_is_divided() {
    let host = Host::two_sockets().place(1, "0\n", "0-1\n").place(2, "1\n", "1-2\n");
    assert_eq!(warnings(&host).await, [""; 0]);
}

#[tokio::test]
async fn a_cell_that_names_cpus_that_are_offline_does_not_get_them() {
    let host = Host::two_sockets().with("sys/devices/system/cpu/online", "0-1,4\n");
    let told = warnings(&host).await;
    assert!(told[0].starts_with("NUMA node 0 names CPUs 5, which are not online"), "{told:?}");
    assert!(told[1].starts_with("NUMA node 1 names CPUs 2-3,6-7, which are not online"), "{told:?}");
    let stats = host.stats().await;
    assert_eq!((stats.vcpus.value, stats.numa.value[0].cpus.as_slice()), (3, &[0, 1, 4][..]));
    // The memory of the second cell is still there.
    assert_eq!((stats.numa.value[1].cpus.len(), stats.numa.value[1].memory_mb), (0, 8_192));
}

#[tokio::test]
async fn a_cpu_of_no_cell_is_named() {
    let host = Host::two_sockets().with(&format!("{NODES}/node1/cpulist"), "2-3\n");
    let [told] = &warnings(&host).await[..] else { panic!("one warning") };
    assert!(told.starts_with("CPUs 6-7 are in no NUMA node"), "{told}");
}

#[tokio::test]
async fn cells_larger_than_the_host_are_not_believed() {
    let small = "MemTotal: 4194304 kB\nMemAvailable: 4000000 kB\n";
    let host = Host::two_sockets().with("proc/meminfo", small);
    let [told] = &warnings(&host).await[..] else { panic!("one warning") };
    assert!(told.contains("have 16384 MiB, but the host has 4096 MiB") && told.contains("lxcfs"), "{told}");
    let numa = host.stats().await.numa;
    let [node] = &numa.value[..] else { panic!("one node") };
    assert_eq!((node.memory_mb, node.cpus.len()), (4_096, 8));
    assert!(numa.source.contains("contradicts it"), "{}", numa.source);
}

#[tokio::test]
async fn a_cpuinfo_with_fewer_cpus_than_are_online_is_named() {
    let two = "processor : 0\n\nprocessor : 1\n\n";
    let [told] = &warnings(&Host::two_sockets().with("proc/cpuinfo", two)).await[..] else { panic!("one") };
    assert!(told.starts_with("/proc/cpuinfo lists 2 CPUs, but 8 are online"), "{told}");
}
