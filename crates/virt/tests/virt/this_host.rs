//! The linux driver on the machine that runs the tests, compared with other tools.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use novella_virt::{BlockingExecutor, ComputeDriver, DriverOptions, LinuxDriver, cpu_traits};

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

/// Compares two readings of something that may change between them.
fn near(ours: u64, theirs: u64, slack: u64, what: &str) {
    assert!(ours.abs_diff(theirs) <= slack, "{what}: {ours} here, {theirs} there");
}

#[tokio::test]
async fn the_driver_and_the_tools_agree() {
    let threads: BlockingExecutor = Arc::new(|job| drop(std::thread::spawn(job)));
    let options =
        DriverOptions { pci_devices: true, cpu_stats: true, ..DriverOptions::new("ignored", threads) };
    let driver = LinuxDriver::new(&options);
    driver.init_host().await.expect("this host can be read");
    let stats = driver.get_host_stats(true).await.expect("this host can be read");
    assert!(stats.stale.is_empty(), "{:?}", stats.stale);
    let about_disk = |warning: &&String| warning.starts_with("the file system at ");
    assert_eq!(stats.warnings.iter().find(|warning| !about_disk(warning)), None);

    // getconf is asked, because nproc counts only the CPUs of this process.
    assert_eq!(u64::from(stats.vcpus.value), number(&output("getconf", &["_NPROCESSORS_ONLN"])));
    assert_eq!(stats.hypervisor_hostname.value, output("uname", &["-n"]));
    assert_eq!(stats.kernel_release.value, output("uname", &["-r"]));
    assert_eq!(stats.cpu_info.value.arch, output("uname", &["-m"]));

    let pages = number(&output("getconf", &["_PHYS_PAGES"]));
    let page_kib = number(&output("getconf", &["PAGE_SIZE"])) / 1024;
    assert_eq!(stats.memory_total_mb.value, pages * page_kib / 1024);
    assert!(stats.memory_available_mb.value.is_some_and(|free| free <= stats.memory_total_mb.value));

    let df = output("df", &["-B1", "--output=size,used,avail", "/"]);
    let df: Vec<u64> = df.lines().nth(1).expect("a line").split_whitespace().map(number).collect();
    assert_eq!(stats.disk_total_gb.value, df[0] >> 30);
    near(stats.disk_used_gb.value, df[1] >> 30, 1, "disk used");
    near(stats.disk_available_gb.value, df[2] >> 30, 1, "disk available");

    let uptime = std::fs::read_to_string("/proc/uptime").expect("read");
    near(
        stats.uptime_s.value.expect("known"),
        number(uptime.split('.').next().expect("a number")),
        5,
        "uptime",
    );
    assert!(stats.load_1m.value.is_some_and(|load| load >= 0.0));

    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").expect("read");
    let model =
        cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, v)| v.trim()));
    if let Some(model) = model {
        assert_eq!(stats.cpu_info.value.model, model);
    }
    for feature in &stats.cpu_info.value.features {
        assert!(cpuinfo.contains(feature), "{feature}");
    }
    assert!(cpu_traits(&stats.cpu_info.value).iter().all(|name| name.starts_with("HW_")));

    let nodes = &stats.numa.value;
    let cpus: usize = nodes.iter().map(|node| node.cpus.len()).sum();
    assert_eq!(cpus as u64, u64::from(stats.vcpus.value), "every CPU is in one node");
    if let [node] = &nodes[..] {
        assert_eq!(node.memory_mb, stats.memory_total_mb.value);
    }
    if Path::new("/sys/devices/system/node/node0").exists() {
        let listed = std::fs::read_dir("/sys/devices/system/node").expect("read").filter(|entry| {
            let name = entry.as_ref().expect("entry").file_name();
            name.to_string_lossy().strip_prefix("node").is_some_and(|id| id.parse::<u32>().is_ok())
        });
        assert_eq!(nodes.len(), listed.count());
    }
    let cpu = &stats.cpu_info.value.topology;
    for node in nodes {
        let mut siblings: Vec<u32> = node.siblings.concat();
        siblings.sort_unstable();
        assert_eq!(siblings, node.cpus, "every CPU is in one core");
        assert!(node.siblings.iter().all(|core| core.len() <= cpu.threads as usize), "{node:?}");
        let kib: u64 = node.mempages.iter().map(|pages| pages.size_kb * pages.total).sum();
        assert_eq!(kib / 1024, node.memory_mb, "every page is of one size");
        assert_eq!(node.mempages[0].size_kb, page_kib);
    }
    let sockets: std::collections::BTreeSet<_> = nodes.iter().filter_map(|node| node.socket).collect();
    assert!(sockets.len() <= (cpu.sockets * cpu.cells) as usize, "{sockets:?}");

    for device in &stats.pci_devices.value {
        let dir = Path::new("/sys/bus/pci/devices").join(&device.address);
        let vendor = std::fs::read_to_string(dir.join("vendor")).expect("read");
        assert_eq!(vendor.trim(), format!("0x{}", device.vendor_id));
        assert!(device.numa_node.is_none_or(|node| nodes.iter().any(|n| n.id == node)), "{device:?}");
    }
    let kvm = stats.supported_instances.value.iter().any(|guest| guest[1] == "kvm");
    assert_eq!(kvm, Path::new("/sys/class/misc/kvm").exists() || Path::new("/dev/kvm").exists());

    let idle = |text: &str| -> u64 { number(text.split_whitespace().nth(4).expect("idle")) };
    let ticks_per_s = number(&output("getconf", &["CLK_TCK"]));
    let theirs = idle(&std::fs::read_to_string("/proc/stat").expect("read")) / ticks_per_s;
    let ours = stats.cpu_stats.expect("asked for").value;
    near(ours.idle_ns / 1_000_000_000, theirs, 20, "idle seconds of all CPUs");
}
