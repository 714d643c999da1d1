//! An invented `/proc` and `/sys` in a temporary directory.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use novella_virt::{BlockingExecutor, ComputeDriver, DriverOptions, HostStats, LinuxDriver};

use crate::{chain, inline};

pub const NODES: &str = "sys/devices/system/node";

pub const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree:         1024000 kB\nMemAvailable:    8192000 kB\n\
                       Buffers:          102400 kB\nCached:          2048000 kB\n";

/// A `/proc` and `/sys` in a temporary directory.
pub struct Host {
    pub root: tempfile::TempDir,
}

impl Host {
    /// A host of `cpus` x86 CPUs, each a core of one socket, with everything else that the driver needs.
    pub fn new(cpus: u32) -> Self {
        let host = Self { root: tempfile::tempdir().expect("a temporary directory") };
        let mut cpuinfo = String::new();
        for cpu in 0..cpus {
            writeln!(
                cpuinfo,
                "processor\t: {cpu}\nvendor_id\t: GenuineIntel\nmodel name\t: Example CPU @ 2.10GHz\n\
                 flags\t\t: fpu sse2 avx2 aes\n"
            )
            .expect("writing to a string");
        }
        host.with("proc/cpuinfo", &cpuinfo)
            .with("proc/meminfo", MEMINFO)
            .with("proc/stat", "cpu  100 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3\nintr 5\n")
            .with("proc/loadavg", "0.29 0.78 0.52 1/122 12342\n")
            .with("proc/uptime", "731.35 822.04\n")
            .with("novella/statvfs", "4096 26214400 13107200 11796480 0\n")
            .with("proc/sys/kernel/hostname", "cmp7\n")
            .with("proc/sys/kernel/osrelease", "6.1.99-amd64\n")
            .with("proc/sys/kernel/arch", "x86_64\n")
    }

    /// A host with two sockets of two cores with two threads each, and one node for each socket.
    pub fn two_sockets() -> Self {
        let mut host = Self::new(8)
            .with("sys/devices/system/cpu/online", "0-7\n")
            .with(&format!("{NODES}/online"), "0-1\n")
            .with(&format!("{NODES}/node0/cpulist"), "0-1,4-5\n")
            .with(&format!("{NODES}/node1/cpulist"), "2-3,6-7\n");
        for cpu in 0..8 {
            let core = cpu % 4;
            host = host.place(cpu, &format!("{}\n", core / 2), &format!("{core},{}\n", core + 4));
        }
        for node in 0..2 {
            let meminfo = format!("Node {node} MemTotal:        8388608 kB\n");
            host = host.with(&format!("{NODES}/node{node}/meminfo"), &meminfo);
        }
        host
    }

    pub fn with(self, file: &str, text: &str) -> Self {
        self.write(file, text.as_bytes());
        self
    }

    pub fn without(self, file: &str) -> Self {
        fs::remove_file(self.path(file)).expect("it was there");
        self
    }

    /// Adds a symbolic link, of which sysfs has many.
    pub fn linked(self, file: &str, target: &str) -> Self {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("made");
        std::os::unix::fs::symlink(target, path).expect("linked");
        self
    }

    pub fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    pub fn place(self, cpu: u32, package: &str, siblings: &str) -> Self {
        let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        self.with(&format!("{dir}/physical_package_id"), package)
            .with(&format!("{dir}/thread_siblings_list"), siblings)
    }

    pub fn driver(&self, executor: BlockingExecutor) -> LinuxDriver {
        let mut options = DriverOptions::new("unused", executor);
        options.root = self.root.path().to_owned();
        options.disk_path = self.root.path().to_owned();
        options.pci_devices = true;
        options.cpu_stats = true;
        LinuxDriver::new(&options)
    }

    pub async fn stats(&self) -> HostStats {
        self.driver(inline()).get_host_stats(true).await.expect("this host can be read")
    }

    pub async fn error(&self) -> String {
        let result = self.driver(inline()).init_host().await;
        chain(&result.expect_err("this host cannot be read"))
    }
}
