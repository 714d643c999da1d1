//! The linux driver on small trees of other architectures, each with the facts that only that architecture has.

use std::fmt::Write as _;

use novella_virt::{CpuTopology, HostStats};

use crate::host::Host;

fn topology(sockets: u32, cores: u32, threads: u32, cells: u32) -> CpuTopology {
    CpuTopology { sockets, cores, threads, cells }
}

/// A machine of this architecture with this `/proc/cpuinfo` and these online CPUs.
fn machine(arch: &str, cpuinfo: &str, online: &str) -> Host {
    Host::new(1)
        .with("proc/sys/kernel/arch", arch)
        .with("proc/cpuinfo", cpuinfo)
        .with("sys/devices/system/cpu/online", online)
}

fn kind(stats: &HostStats) -> (&str, &str, Vec<&str>, Option<u64>) {
    let cpu = &stats.cpu_info.value;
    let frequency = stats.cpu_stats.as_ref().and_then(|times| times.value.frequency_mhz);
    (&cpu.vendor, &cpu.model, cpu.features.iter().map(String::as_str).collect(), frequency)
}

const S390: &str = "vendor_id       : IBM/S390\n# processors    : 3\nbogomips per cpu: 3000.00\nmax thread id   : 0\n\
    features\t: esan3 zarch vx \nfacilities      : 0 1 2\ncache0          : level=1 type=Data\n\
    processor 0: version = 00,  identification = 123456,  machine = 8561\n\
    processor 1: version = 00,  identification = 123456,  machine = 8561\n\
    processor 2: version = 00,  identification = 123456,  machine = 8561\n";

#[tokio::test]
async fn s390_says_what_all_cpus_have_before_the_first() {
    let blocks: String = (0..3)
        .map(|cpu| format!("\ncpu number      : {cpu}\nmachine         : 8561\ncpu MHz dynamic : 5200\n"))
        .collect();
    let stats = machine("s390x", &format!("{S390}{blocks}"), "0-2").stats().await;
    assert_eq!(kind(&stats), ("IBM/S390", "8561", vec!["esan3", "vx", "zarch"], Some(5_200)));
    assert_eq!(stats.cpu_info.value.topology, topology(1, 3, 1, 1));
    assert_eq!((stats.vcpus.value, stats.warnings.len()), (3, 0));

    // Kernels before 4.10 have no more than these lines, and a container may hide sysfs.
    let stats = machine("s390x", S390, "0").without("sys/devices/system/cpu/online").stats().await;
    assert_eq!(kind(&stats), ("IBM/S390", "8561", vec!["esan3", "vx", "zarch"], None));
    assert_eq!((stats.vcpus.value, &*stats.vcpus.source), (3, "/proc/cpuinfo processor"));
}

#[tokio::test]
async fn arm_before_3_8_says_it_after_the_last() {
    let cpuinfo = "Processor\t: ARMv7 Processor rev 3 (v7l)\nprocessor\t: 0\nBogoMIPS\t: 1.0\n\nprocessor\t: 1\n\
        BogoMIPS\t: 1.0\n\nFeatures\t: swp half neon\nCPU implementer\t: 0x41\nCPU architecture: 7\nCPU part\t: \
        0xc0f\n\nHardware\t: Some board\nSerial\t\t: 0000000000000000\n";
    let stats = machine("armv7l", cpuinfo, "0-1").stats().await;
    assert_eq!(kind(&stats), ("ARM", "ARMv7 Processor rev 3 (v7l)", vec!["half", "neon", "swp"], None));
    let single = cpuinfo.replace("processor\t: 0\n", "").replace("processor\t: 1\n", "");
    let stats = machine("armv7l", &single, "0").without("sys/devices/system/cpu/online").stats().await;
    assert_eq!((stats.vcpus.value, kind(&stats).0), (1, "ARM"));
}

#[tokio::test]
async fn loongarch_has_names_of_its_own() {
    let mut cpuinfo = "system type\t\t: generic-loongson-machine\n".to_owned();
    for cpu in 0..2 {
        writeln!(
            cpuinfo,
            "\nprocessor\t\t: {cpu}\npackage\t\t\t: {cpu}\ncore\t\t\t: 0\nCPU Family\t\t: Loongson-64bit\n\
             Model Name\t\t: Loongson-3A5000\nCPU MHz\t\t\t: 2500.00\nFeatures\t\t: cpucfg lsx lasx"
        )
        .expect("writing to a string");
    }
    let stats = machine("loongarch64", &cpuinfo, "0-1").stats().await;
    assert_eq!(kind(&stats), ("Loongson", "Loongson-3A5000", vec!["cpucfg", "lasx", "lsx"], Some(2_500)));
    assert_eq!(stats.cpu_info.value.topology, topology(2, 1, 1, 1), "the packages are from /proc/cpuinfo");
}

#[tokio::test]
async fn power_risc_v_and_sparc64() {
    let power = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 2300.000000MHz\n\nprocessor\t: 1\n\
        cpu\t\t: POWER9, altivec supported\nclock\t\t: 2300.000000MHz\n\ntimebase\t: 512000000\n\
        platform\t: PowerNV\nmachine\t\t: PowerNV 0000\n";
    let stats = machine("ppc64le", power, "0-1").stats().await;
    assert_eq!(kind(&stats), ("IBM", "POWER9, altivec supported", vec![], Some(2_300)));

    let risc_v = "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\nuarch\t\t: sifive,u74-mc\n\
        mvendorid\t: 0x489\nmarchid\t\t: 0x8000000000000007\n";
    assert_eq!(
        kind(&machine("riscv64", risc_v, "0").stats().await),
        ("SiFive", "sifive,u74-mc", vec![], None)
    );

    let sparc = "cpu\t\t: SPARC-M7\nfpu\t\t: SPARC-M7 integrated FPU\ntype\t\t: sun4v\nncpus probed\t: 2\n\
        ncpus active\t: 2\ncpucaps\t\t: flush,stbar,vis3\nCpu0ClkTck\t: 00000000f6380970\nMMU Type\t: Hypervisor \
        (sun4v)\nState:\nCPU0:\t\tonline\nCPU1:\t\tonline\n";
    let stats = machine("sparc64", sparc, "0").without("sys/devices/system/cpu/online").stats().await;
    assert_eq!(kind(&stats), ("Oracle", "SPARC-M7", vec!["flush", "stbar", "vis3"], Some(4_130)));
    assert_eq!(stats.vcpus.value, 2);
}

#[tokio::test]
async fn a_vendor_is_libvirt_s_and_a_model_is_whole() {
    for (implementer, vendor) in
        [("0x70", "Phytium"), ("0x42", "Broadcom"), ("0x50", "APM"), ("0x99", "0x99")]
    {
        let cpuinfo = format!("processor : 0\nCPU implementer : {implementer}\nCPU part : 0x662\n");
        assert_eq!(kind(&machine("aarch64", &cpuinfo, "0").stats().await).0, vendor);
    }
    let stats = machine("x86_64", "processor : 0\nmodel name : Some CPU: 2 GHz: new\n", "0").stats().await;
    assert_eq!(kind(&stats).1, "Some CPU: 2 GHz: new");
}

#[tokio::test]
async fn an_empty_list_of_siblings_is_no_core() {
    let mut cpuinfo = String::new();
    for cpu in 0..4 {
        writeln!(cpuinfo, "processor : {cpu}\nphysical id : 0\ncore id : {cpu}\n").expect("a string");
    }
    let mut host = machine("x86_64", &cpuinfo, "0-3");
    for cpu in 0..4 {
        host = host.place(cpu, "0\n", "\n");
    }
    let stats = host.stats().await;
    assert_eq!(stats.cpu_info.value.topology, topology(1, 4, 1, 1));
    assert_eq!(stats.numa.value[0].siblings, [[0], [1], [2], [3]]);
}

#[tokio::test]
async fn dies_without_sysfs_are_not_threads() {
    let mut cpuinfo = String::new();
    for cpu in 0..4 {
        let core = cpu % 2;
        writeln!(
            cpuinfo,
            "processor : {cpu}\nphysical id : 0\nsiblings : 4\ncore id : {core}\ncpu cores : 4\napicid : {cpu}\n"
        )
        .expect("a string");
    }
    let stats = Host::new(1).with("proc/cpuinfo", &cpuinfo).stats().await;
    assert_eq!(stats.cpu_info.value.topology, topology(1, 4, 1, 1));
    assert_eq!(stats.numa.value[0].siblings, [[0], [1], [2], [3]]);
}

#[tokio::test]
async fn a_socket_of_two_cells_counts_in_each() {
    let mut host = Host::two_sockets();
    for cpu in 0..8 {
        host = host.place(cpu, "0\n", &format!("{cpu}\n"));
    }
    let stats = host.stats().await;
    assert_eq!(stats.cpu_info.value.topology, topology(1, 4, 1, 2), "2 cells of 1 socket of 4 cores");
    let sockets: Vec<_> = stats.numa.value.iter().map(|node| node.socket).collect();
    assert_eq!(sockets, [Some(0), Some(0)]);
}
