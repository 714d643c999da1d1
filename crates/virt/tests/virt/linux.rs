//! The linux driver on invented trees: ordinary hosts, odd ones and damaged ones.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use novella_virt::{
    BlockingExecutor, ComputeDriver, CpuTopology, DriverOptions, LinuxDriver, MemPages, NumaNode, cpu_traits,
};

use crate::host::{Host, MEMINFO};
use crate::{chain, inline};

fn topology(sockets: u32, cores: u32, threads: u32, cells: u32) -> CpuTopology {
    CpuTopology { sockets, cores, threads, cells }
}

#[tokio::test]
async fn a_two_socket_server_with_threads_and_numa() {
    let stats = Host::two_sockets().stats().await;

    assert_eq!(stats.vcpus.value, 8);
    assert_eq!(stats.vcpus.source, "/sys/devices/system/cpu/online");
    let cpu = &stats.cpu_info.value;
    assert_eq!(cpu.topology, topology(1, 2, 2, 2), "sockets are those of one cell");
    assert_eq!((cpu.arch.as_str(), cpu.vendor.as_str()), ("x86_64", "Intel"));
    assert_eq!(cpu.model, "Example CPU @ 2.10GHz");
    assert_eq!(cpu.features, ["aes", "avx2", "fpu", "sse2"]);
    assert!(cpu_traits(cpu).contains(&"HW_CPU_HYPERTHREADING".into()));
    let nodes: Vec<_> = stats.numa.value.iter().map(|n| (n.id, n.cpus.as_slice(), n.memory_mb)).collect();
    assert_eq!(nodes, [(0, &[0, 1, 4, 5][..], 8_192), (1, &[2, 3, 6, 7][..], 8_192)]);
    assert_eq!((stats.memory_total_mb.value, stats.memory_available_mb.value), (16_000, Some(8_000)));
    assert_eq!(stats.memory_total_mb.source, "/proc/meminfo MemTotal");
    assert_eq!((stats.load_1m.value, stats.uptime_s.value), (Some(0.29), Some(731)));
    assert_eq!(stats.hypervisor_hostname.value, "cmp7");
    assert_eq!((stats.hypervisor_type.value.as_str(), stats.hypervisor_version.value), ("linux", 6_001_099));
    assert_eq!(stats.kernel_release.value, "6.1.99-amd64");
}

#[tokio::test]
async fn an_arm_server() {
    let mut cpuinfo = String::new();
    for cpu in 0..4 {
        // Two little cores lack one feature.
        let sve = if cpu < 2 { "" } else { " sve" };
        writeln!(
            cpuinfo,
            "processor\t: {cpu}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd aes crc32{sve}\nCPU implementer\t: 0x41\n\
             CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n"
        )
        .expect("writing to a string");
    }
    let mut host = Host::new(4)
        .with("proc/cpuinfo", &cpuinfo)
        .with("proc/sys/kernel/arch", "aarch64\n")
        .with("sys/devices/system/cpu/online", "0-3\n");
    for cpu in 0..4 {
        // Some ARM firmware does not number its packages.
        host = host.place(cpu, "-1\n", &format!("{cpu}\n"));
    }
    let cpu = host.stats().await.cpu_info.value;
    assert_eq!((cpu.arch.as_str(), cpu.vendor.as_str(), cpu.model.as_str()), ("aarch64", "ARM", "0xd0c"));
    assert_eq!(cpu.features, ["aes", "asimd", "crc32", "fp"], "only what every core has");
    assert_eq!(cpu.topology, topology(1, 4, 1, 1));
    assert!(cpu_traits(&cpu).contains(&"HW_CPU_AARCH64_ASIMD".into()));
}

#[tokio::test]
async fn without_numa_all_is_one_node() {
    let stats = Host::new(3).stats().await;
    let node = NumaNode {
        cpus: vec![0, 1, 2],
        memory_mb: 16_000,
        siblings: vec![vec![0], vec![1], vec![2]],
        mempages: vec![MemPages { size_kb: 4, total: 4_096_000 }],
        ..NumaNode::default()
    };
    assert_eq!(stats.numa.value, [node]);
    assert!(stats.numa.source.contains("taken as one node"), "{}", stats.numa.source);
}

#[tokio::test]
async fn offline_cpus_do_not_count() {
    let mut host = Host::new(4).with("sys/devices/system/cpu/online", "0,2-3\n");
    for (cpu, siblings) in [(0, "0"), (2, "2-3"), (3, "2-3")] {
        host = host.place(cpu, "0", siblings);
    }
    let stats = host.stats().await;
    assert_eq!(stats.vcpus.value, 3);
    assert_eq!(stats.cpu_info.value.topology, topology(1, 2, 2, 1));
}

#[tokio::test]
async fn a_cpu_that_comes_online_is_seen_and_nothing_is_read_in_vain() {
    let host = Host::new(4).with("sys/devices/system/cpu/online", "0-1");
    let driver = host.driver(inline());
    assert_eq!(driver.get_host_stats(true).await.unwrap().vcpus.value, 2);
    host.write("proc/cpuinfo", b"");
    let again = driver.get_host_stats(true).await.unwrap();
    assert_eq!(again.cpu_info.value.vendor, "Intel", "the same CPUs are not described anew");
    host.write("sys/devices/system/cpu/online", b"0-3");
    let more = driver.get_host_stats(true).await.unwrap();
    assert_eq!((more.vcpus.value, more.cpu_info.value.vendor.as_str()), (4, "unknown"));
}

#[tokio::test]
async fn a_container_that_hides_sys_and_names_nothing() {
    let bare = "processor\t: 0\n\nprocessor\t: 1\n\n";
    let host = Host::new(2)
        .with("proc/cpuinfo", bare)
        .with("proc/meminfo", "MemTotal:  2097152 kB\nMemFree:  1048576 kB\n")
        .without("proc/sys/kernel/hostname")
        .with("novella/nodename", "box7")
        .without("proc/sys/kernel/arch");
    let stats = host.stats().await;
    assert_eq!((stats.vcpus.value, stats.vcpus.source.as_ref()), (2, "/proc/cpuinfo processor"));
    let cpu = &stats.cpu_info.value;
    assert_eq!((cpu.model.as_str(), cpu.vendor.as_str(), cpu.features.len()), ("unknown", "unknown", 0));
    assert_eq!(cpu.topology, topology(1, 2, 1, 1));
    assert_eq!(stats.memory_available_mb.value, Some(1_024));
    assert_eq!(stats.memory_available_mb.source, "/proc/meminfo MemFree + Buffers + Cached");
    let name = &stats.hypervisor_hostname;
    assert_eq!((name.value.as_str(), name.source.as_ref()), ("box7", "uname nodename"));
    assert_eq!(cpu.arch, "unknown", "a recorded host has not the architecture of this machine");
}

#[tokio::test]
async fn topology_from_cpuinfo_where_sysfs_has_none() {
    let mut cpuinfo = String::new();
    for cpu in 0..8 {
        let (package, core) = (cpu / 4, cpu % 4 / 2);
        writeln!(cpuinfo, "processor : {cpu}\nphysical id : {package}\ncore id : {core}\n")
            .expect("a string");
    }
    let stats = Host::new(8).with("proc/cpuinfo", &cpuinfo).stats().await;
    assert_eq!(stats.cpu_info.value.topology, topology(2, 2, 2, 1));
}

#[tokio::test]
async fn a_single_node_has_the_host_s_memory() {
    let host = Host::new(2)
        .with("sys/devices/system/node/online", "0")
        .with("sys/devices/system/node/node0/cpulist", "0-1")
        .with("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 4096000 kB\n");
    let numa = host.stats().await.numa;
    assert_eq!((numa.value[0].cpus.as_slice(), numa.value[0].memory_mb), (&[0, 1][..], 16_000));
    assert!(numa.source.ends_with("memory from /proc/meminfo MemTotal"), "{}", numa.source);
}

#[tokio::test]
async fn damage_is_named_by_file() {
    for (file, text, says) in [
        ("proc/meminfo", "no numbers here", "it has no line `MemTotal: <number> kB`"),
        ("proc/meminfo", "MemTotal: many kB", "it has no line `MemTotal: <number> kB`"),
        ("proc/meminfo", "MemTotal: 99999999999999999999999 kB", "it has no line `MemTotal: <number> kB`"),
        ("proc/cpuinfo", "\u{0}\u{1} garbage", "it lists no CPU"),
        ("sys/devices/system/cpu/online", "0-4294967295", "expected a list like 0-3,8"),
        ("sys/devices/system/cpu/online", "", "it lists no CPU"),
        ("sys/devices/system/node/online", "zero", "expected a list like 0-3,8"),
    ] {
        let error = Host::new(1).with(file, text).error().await;
        assert!(error.contains(says), "{file} {text:?}: {error}");
        assert!(error.contains("check that /proc and /sys are mounted"), "{error}");
    }
    for (file, text, says) in [
        ("proc/loadavg", "busy", "unexpected content in"),
        ("proc/loadavg", "NaN NaN NaN 1/2 3", "the load is not a number"),
        ("proc/uptime", "", "unexpected content in"),
    ] {
        let stats = Host::new(1).with(file, text).stats().await;
        let [stale] = &stats.stale[..] else { panic!("one probe is stale: {:?}", stats.stale) };
        assert!(stale.probe == "load" && stale.reason.contains(says), "{file} {text:?}: {stale:?}");
        assert_eq!((stats.load_1m.value, stats.uptime_s.value), (None, None), "never read");
    }
    let host = Host::new(1);
    host.write("proc/cpuinfo", b"processor : 0\nmodel name : \xff\xfe odd\nflags : a\n\n");
    assert_eq!(host.stats().await.cpu_info.value.model, "\u{fffd}\u{fffd} odd");
}

#[tokio::test]
async fn a_missing_file_says_probe_file_and_next_step() {
    let host = Host::new(1).without("proc/meminfo");
    let shown = host.path("proc/meminfo");
    assert_eq!(
        host.error().await,
        format!(
            "host probe memory has no value yet: cannot read the memory size; check that /proc and /sys are mounted \
             and readable here: cannot read {}: No such file or directory (os error 2)",
            shown.display()
        )
    );
}

#[tokio::test]
async fn a_missing_disk_path_says_what_to_set() {
    let host = Host::new(1);
    let mut options = DriverOptions::new("unused", inline());
    options.disk_path = host.path("no/such/place");
    let error = LinuxDriver::new(&options).init_host().await.unwrap_err();
    let shown = options.disk_path.display();
    assert_eq!(
        chain(&error),
        format!(
            "host probe disk has no value yet: cannot measure the file system at {shown}; set the disk path to an \
             existing directory on the disk that holds instances: cannot read the size of the file system at {shown}: No \
             such file or directory (os error 2)"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn one_failing_probe_leaves_the_others_fresh() {
    let host = Host::new(2);
    let driver = host.driver(inline());
    driver.init_host().await.unwrap();
    host.write("proc/loadavg", b"damage");
    host.write("proc/meminfo", MEMINFO.replace("8192000", "1024").as_bytes());
    tokio::time::advance(Duration::from_secs(30)).await;
    let stats = driver.get_host_stats(true).await.unwrap();
    assert_eq!(stats.load_1m.value, Some(0.29));
    assert_eq!(stats.memory_available_mb.value, Some(1));
    let stale: Vec<_> = stats.stale.iter().map(|s| (s.probe, s.age.as_secs())).collect();
    assert_eq!(stale, [("load", 30)]);
    assert!(stats.stale[0].reason.contains("proc/loadavg"), "{}", stats.stale[0].reason);
    host.write("proc/loadavg", b"3.50 0 0 1/1 1");
    let stats = driver.get_host_stats(true).await.unwrap();
    assert_eq!((stats.load_1m.value, stats.stale.len()), (Some(3.5), 0));
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_stops_answering_stops_no_report() {
    type Jobs = Vec<Box<dyn FnOnce() + Send>>;
    let held: Arc<Mutex<Jobs>> = Arc::default();
    let stuck = Arc::new(AtomicBool::new(false));
    let executor: BlockingExecutor = {
        let (held, stuck) = (Arc::clone(&held), Arc::clone(&stuck));
        Arc::new(move |job| if stuck.load(Ordering::SeqCst) { held.lock().unwrap().push(job) } else { job() })
    };
    let host = Host::new(2);
    let driver = host.driver(executor);
    driver.init_host().await.unwrap();
    stuck.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let stats = driver.get_host_stats(true).await.unwrap();
        let stale: Vec<_> = stats.stale.iter().map(|s| s.probe).collect();
        assert_eq!(stale, ["cpu", "memory", "numa", "disk", "load", "host", "pci", "cpu times"]);
    }
    assert_eq!(held.lock().unwrap().len(), 8, "each probe waits on one job");
    stuck.store(false, Ordering::SeqCst);
    for job in std::mem::take(&mut *held.lock().unwrap()) {
        job();
    }
    assert!(driver.get_host_stats(true).await.unwrap().stale.is_empty());
}
