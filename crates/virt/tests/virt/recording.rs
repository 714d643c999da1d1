//! A recorded host reads like the host itself.

use std::process::Command;
use std::sync::Arc;

use novella_virt::{ComputeDriver, DriverOptions, HostStats, LinuxDriver, Recording};

use crate::host::{Host, NODES};
use crate::inline;

async fn read(options: &DriverOptions) -> HostStats {
    LinuxDriver::new(options).get_host_stats(true).await.expect("this host can be read")
}

/// Records a reading with these options, and reads the recording. Yields both readings, and the names in the archive.
async fn recorded(mut options: DriverOptions) -> (HostStats, HostStats, String) {
    options.pci_devices = true;
    options.cpu_stats = true;
    let recording = Arc::new(Recording::default());
    let live = read(&DriverOptions { recording: Some(Arc::clone(&recording)), ..options.clone() }).await;
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("host.tar.gz");
    recording.write_tar_gz(std::fs::File::create(&archive).unwrap()).unwrap();
    let tar = |args: &[&str]| {
        let output = Command::new("tar").args(args).arg(&archive).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tar(&["-xzf"]);
    let again = read(&DriverOptions { root: dir.path().to_owned(), ..options }).await;
    (live, again, tar(&["-tzf"]))
}

#[tokio::test]
async fn a_recorded_tree_gives_the_same_reading() {
    let devices = "sys/bus/pci/devices";
    let mut host = Host::two_sockets()
        .with("dev/kvm", "")
        .with("usr/bin/qemu-system-x86_64", "a large program")
        .with("etc/shadow", "secret")
        .with(&format!("{NODES}/node0/hugepages/hugepages-2048kB/nr_hugepages"), "512\n");
    for (address, device) in [("0000:81:00.0", "0x1572"), ("0000:81:02.0", "0x154c")] {
        for (file, text) in
            [("vendor", "0x8086"), ("device", device), ("class", "0x020000"), ("numa_node", "1")]
        {
            host = host.with(&format!("{devices}/{address}/{file}"), text);
        }
    }
    let host = host
        .with(&format!("{devices}/0000:81:00.0/sriov_totalvfs"), "64")
        .linked(&format!("{devices}/0000:81:02.0/physfn"), "../0000:81:00.0")
        .with(&format!("{devices}/0000:81:02.0/vdpa0/dev"), "");
    let options = DriverOptions { root: host.root.path().to_owned(), ..DriverOptions::new("x", inline()) };
    let (mut live, again, names) = recorded(options).await;
    assert_eq!(live.hypervisor_hostname.value, "cmp7");
    assert_eq!(again.hypervisor_hostname.value, "recorded", "a name is nobody's business");
    live.hypervisor_hostname = again.hypervisor_hostname.clone();
    assert_eq!(live, again);
    assert!(names.contains("novella/statvfs") && names.contains("proc/meminfo"), "{names}");
    assert!(!names.contains("shadow"), "only what the driver reads: {names}");
}

#[tokio::test]
async fn this_machine_can_be_recorded() {
    let (live, again, names) = recorded(DriverOptions::new("x", inline())).await;
    assert_eq!(live.cpu_info.value, again.cpu_info.value);
    assert_eq!((&live.numa.value, &live.pci_devices.value), (&again.numa.value, &again.pci_devices.value));
    assert_eq!(live.disk_total_gb.value, again.disk_total_gb.value);
    assert_eq!(live.supported_instances.value, again.supported_instances.value);
    assert_eq!(live.memory_total_mb.value, again.memory_total_mb.value);
    assert!(names.lines().all(|name| !name.starts_with('/')), "{names}");
}
