//! NUMA nodes, PCI devices, guests and CPU times on invented trees.

use novella_virt::{MemPages, NumaNode, PciDevType};

use crate::host::{Host, NODES};

const DEVICES: &str = "sys/bus/pci/devices";

fn pages(size_kb: u64, total: u64) -> MemPages {
    MemPages { size_kb, total }
}

#[tokio::test]
async fn cells_have_sockets_siblings_and_pages() {
    let mut host = Host::two_sockets();
    for (size_kb, total) in [(1_048_576, "2\n"), (2_048, "512\n")] {
        host = host
            .with(&format!("{NODES}/node0/hugepages/hugepages-{size_kb}kB/nr_hugepages"), total)
            .with(&format!("{NODES}/node1/hugepages/hugepages-{size_kb}kB/nr_hugepages"), "0\n");
    }
    let nodes = host.stats().await.numa.value;
    let first = NumaNode {
        id: 0,
        cpus: vec![0, 1, 4, 5],
        memory_mb: 8_192,
        socket: Some(0),
        siblings: vec![vec![0, 4], vec![1, 5]],
        // 3 of 8 GiB are in huge pages.
        mempages: vec![pages(4, 5 << 18), pages(2_048, 512), pages(1_048_576, 2)],
    };
    assert_eq!(nodes[0], first);
    assert_eq!((nodes[1].socket, &nodes[1].siblings), (Some(1), &vec![vec![2, 6], vec![3, 7]]));
    assert_eq!(nodes[1].mempages, [pages(4, 8 << 18), pages(2_048, 0), pages(1_048_576, 0)]);
}

#[tokio::test]
async fn threads_that_are_switched_off_are_no_siblings() {
    let mut host = Host::two_sockets()
        .with("sys/devices/system/cpu/online", "0-3\n")
        .with(&format!("{NODES}/node0/cpulist"), "0-1\n")
        .with(&format!("{NODES}/node1/cpulist"), "2-3\n");
    for cpu in 0..4 {
        host = host.place(cpu, &format!("{}\n", cpu / 2), &format!("{cpu}\n"));
    }
    let stats = host.stats().await;
    assert_eq!((stats.vcpus.value, stats.cpu_info.value.topology.threads), (4, 1));
    assert_eq!(stats.numa.value[1].siblings, [vec![2], vec![3]]);
}

#[tokio::test]
async fn a_cell_over_two_sockets_or_none_has_no_socket() {
    let host = Host::two_sockets().place(1, "1\n", "1,5\n");
    assert_eq!(host.stats().await.numa.value[0].socket, None, "of two");
    let host = Host::two_sockets()
        .with(&format!("{NODES}/online"), "0-1,3\n")
        .with(&format!("{NODES}/node3/cpulist"), "\n")
        .with(&format!("{NODES}/node3/meminfo"), "Node 3 MemTotal: 4096 kB\n");
    let nodes = host.stats().await.numa.value;
    let memory_only =
        NumaNode { id: 3, memory_mb: 4, mempages: vec![pages(4, 1_024)], ..NumaNode::default() };
    assert_eq!(nodes[2], memory_only);
}

#[tokio::test]
async fn without_numa_the_kernel_s_huge_pages_are_the_cell_s() {
    let host = Host::new(2).with("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1000\n");
    let nodes = host.stats().await.numa.value;
    assert_eq!(nodes[0].mempages, [pages(4, 16_384_000 / 4 - 512_000), pages(2_048, 1_000)]);
}

fn device(host: Host, address: &str, vendor: &str, product: &str, node: &str) -> Host {
    let dir = format!("{DEVICES}/{address}");
    host.with(&format!("{dir}/vendor"), &format!("{vendor}\n"))
        .with(&format!("{dir}/device"), &format!("{product}\n"))
        .with(&format!("{dir}/class"), "0x020000\n")
        .with(&format!("{dir}/numa_node"), &format!("{node}\n"))
}

#[tokio::test]
async fn devices_are_what_sr_iov_says() {
    let mut host = device(Host::new(1), "0000:81:00.0", "0x8086", "0x1572", "1")
        .with(&format!("{DEVICES}/0000:81:00.0/sriov_totalvfs"), "64\n");
    for function in ["0000:81:02.0", "0000:81:02.1", "0000:81:02.2"] {
        host = device(host, function, "0x8086", "0x154c", "1")
            .linked(&format!("{DEVICES}/{function}/physfn"), "../0000:81:00.0");
    }
    let host = host.with(&format!("{DEVICES}/0000:81:02.2/vdpa0/dev"), "");
    // This device could have virtual functions if its firmware allowed it. The firmware does not name its node either.
    let host = device(host, "0000:02:00.0", "0x15b3", "0x1017", "-1")
        .with(&format!("{DEVICES}/0000:02:00.0/sriov_totalvfs"), "0\n");
    let devices = host.stats().await.pci_devices.value;
    let seen: Vec<_> = devices.iter().map(|d| (d.address.as_str(), d.dev_type, d.numa_node)).collect();
    assert_eq!(
        seen,
        [
            ("0000:02:00.0", PciDevType::Standard, None),
            ("0000:81:00.0", PciDevType::Physical, Some(1)),
            ("0000:81:02.0", PciDevType::Virtual, Some(1)),
            ("0000:81:02.1", PciDevType::Virtual, Some(1)),
            ("0000:81:02.2", PciDevType::Vdpa, Some(1)),
        ]
    );
    let function = &devices[2];
    assert_eq!((function.vendor_id.as_str(), function.product_id.as_str()), ("8086", "154c"));
    assert_eq!((function.class.as_str(), function.parent.as_deref()), ("020000", Some("0000:81:00.0")));
}

#[tokio::test]
async fn a_device_that_goes_while_it_is_read_is_left_out_in_silence() {
    let host = device(Host::new(1), "0000:00:01.0", "0x8086", "0x1", "0")
        .with(&format!("{DEVICES}/0000:00:02.0/vendor"), "0x8086\n");
    assert_eq!(host.stats().await.pci_devices.value.len(), 1);
    assert_eq!(host.stats().await.warnings, [""; 0]);
    let none = Host::new(1).stats().await.pci_devices;
    assert!(none.value.is_empty() && none.source == "no /sys/bus/pci/devices", "{none:?}");
}

#[tokio::test]
async fn guests_are_of_kvm_and_of_what_emulators_there_are() {
    assert!(Host::new(1).stats().await.supported_instances.value.is_empty());
    let host = Host::new(1).with("dev/kvm", "").with("usr/bin/qemu-system-aarch64", "");
    assert_eq!(
        host.stats().await.supported_instances.value,
        [
            ["x86_64", "kvm", "hvm"],
            ["i686", "kvm", "hvm"],
            ["aarch64", "qemu", "hvm"],
            ["armv7l", "qemu", "hvm"]
        ]
    );
    let hidden = Host::new(1).with("sys/class/misc/kvm/dev", "10:232");
    assert_eq!(hidden.stats().await.supported_instances.value[0], ["x86_64", "kvm", "hvm"]);
    let arm = Host::new(1).with("proc/sys/kernel/arch", "aarch64").with("usr/libexec/qemu-kvm", "");
    assert_eq!(arm.stats().await.supported_instances.value, [["aarch64", "qemu", "hvm"]]);
}

#[tokio::test]
async fn cpu_times_are_counted_as_libvirt_counts_them() {
    let cpuinfo = "processor : 0\ncpu MHz : 2300.123\n\n";
    let stats = Host::new(1).with("proc/cpuinfo", cpuinfo).stats().await.cpu_stats.unwrap().value;
    // A tick is 10 ms.
    let ticks = [stats.user_ns, stats.kernel_ns, stats.idle_ns, stats.iowait_ns].map(|ns| ns / 10_000_000);
    assert_eq!(ticks, [120, 43, 400, 50]);
    assert_eq!(stats.frequency_mhz, Some(2_300));
    for damage in ["", "cpu  1 2 3\n", "cpu  1 2 3 4 5 6 many\n"] {
        let stats = Host::new(1).with("proc/stat", damage).stats().await;
        let [stale] = &stats.stale[..] else { panic!("{damage:?}: one probe is stale: {:?}", stats.stale) };
        let said = stale.reason.contains("it has no line `cpu <seven or more numbers>`");
        assert!(said && stats.cpu_stats.is_none(), "{damage:?}: {stale:?}");
    }
}
