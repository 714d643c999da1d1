//! The sections of the agent's settings, each setting declared once.
//!
//! What always holds: names and defaults are Nova's where Nova has the setting.
//!
//! What it leaves out: the settings at the top and the checks, which are in [`crate::config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use novella_messaging::{Authority, DEFAULT_EXCHANGE, MethodClass};
use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::config::{Size, duration};
use novella_service::settings;
use novella_virt::{FakeDevices, FakeStep, MemPages};
use serde::{Deserialize, Serialize};

settings! {
    /// Timers of the reports.
    pub struct ReportConfig {
        /// Longest time between reports. It must be shorter than a third of `report.service_down_time`.
        pub periodic_interval: Duration as "duration" = Duration::from_secs(10);
        /// Time between two readings of the driver.
        pub host_state_interval: Duration as "duration" = Duration::from_secs(10);
        /// The timers start after a random delay of at most this time, so that hosts do not all report at once.
        pub periodic_fuzzy_delay: Duration as "duration" = Duration::from_secs(10);
        /// How long one probe of the driver may take. After that time its last value is reported instead.
        pub probe_timeout: Duration as "duration" = Duration::from_secs(5);
        /// How long a host may be silent before it counts as down. The schedulers decide this by a setting of the same name.
        /// The agent only checks that its own report interval is short enough for it.
        pub service_down_time: Duration as "duration" = Duration::from_secs(60);
    }
}

settings! {
    /// The driver that reads the host and builds instances on it.
    pub struct DriverConfig {
        /// The compute driver. `linux` reads this machine and builds no instances. `fake` is a host of the size in
        /// `[driver.fake]`, which forgets its instances when the agent ends.
        pub name: String = "linux".into(), "name";
        /// A path on the file system that is reported as the host's disk.
        pub disk_path: PathBuf = "/".into(), "path";
        /// How long a build may take. After that time it has failed, and its guest is destroyed.
        pub spawn_timeout: Duration as "duration" = Duration::from_secs(300);
        /// How long one attempt to destroy a guest may take. It is repeated until the guest is gone.
        pub destroy_timeout: Duration as "duration" = Duration::from_secs(120);
        /// How long the start or the stop of a guest may take.
        pub power_timeout: Duration as "duration" = Duration::from_secs(120);
        /// Values to report instead of the detected ones, by the names that `compute-agent probe` prints.
        pub overrides: BTreeMap<String, serde_json::Value> = BTreeMap::new(), "table", example = "{ vcpus = 16 }";
        section fake: FakeConfig;
    }
}

settings! {
    /// Size of a fake host, and how it behaves.
    pub struct FakeConfig {
        /// CPUs of a fake host.
        pub vcpus: u32 = novella_virt::FakeConfig::default().vcpus, "CPUs";
        /// Memory of a fake host.
        pub memory_mb: u64 = novella_virt::FakeConfig::default().memory_mb, "MiB";
        /// Disk of a fake host.
        pub disk_gb: u64 = novella_virt::FakeConfig::default().disk_gb, "GiB";
        /// NUMA nodes of a fake host. CPUs and memory are divided evenly among them. 0 means that it reports no NUMA nodes.
        pub numa_nodes: u32 = novella_virt::FakeConfig::default().numa_nodes, "nodes";
        /// Threads in each core of a fake host.
        pub threads: u32 = novella_virt::FakeConfig::default().threads, "CPUs";
        /// Huge pages of each NUMA node of a fake host.
        pub huge_pages: Vec<MemPages> = Vec::new(), "list of tables",
            example = "[{ size_kb = 2048, total = 512 }]";
        /// PCI devices of a fake host. `dev_type` is type-PCI, type-PF, type-VF or vdpa.
        pub pci_devices: Vec<FakeDevices> = Vec::new(), "list of tables",
            example = r#"[{ vendor_id = "8086", product_id = "154c", dev_type = "type-VF", numa_node = 0, count = 8 }]"#;
        /// CPU load that a fake host reports.
        pub cpu_percent: u32 = novella_virt::FakeConfig::default().cpu_percent, "percent";
        /// Images that instances of a fake host can be built from. An empty list means every image.
        pub images: Vec<String> = Vec::new(), "list of names", example = r#"["debian-13", "cirros"]"#;
        /// How long each build on a fake host takes.
        pub spawn_delay: Duration as "duration" = Duration::ZERO;
        /// How many of 100 builds on a fake host fail by chance, once `spawn_script` is used up.
        pub spawn_failure_percent: u32 = 0, "percent";
        /// Which builds fail by chance. It follows from this number, the name of the host and the number of the build.
        pub seed: u64 = 0, "number";
        /// What happens to the first readings of a fake host, one step for each: `ok`, `fail TEXT`, `delay MILLISECONDS` or
        /// `hang`. All later readings succeed.
        pub script: Vec<FakeStep> = Vec::new(), "list of steps", example = r#"["ok", "delay 500", "fail no answer"]"#;
        /// What happens to the first builds on a fake host. The steps are those of `script`, and `reject TEXT`, which means
        /// that no host can build this.
        pub spawn_script: Vec<FakeStep> = Vec::new(), "list of steps",
            example = r#"["fail no space left", "reject bad image"]"#;
        /// What happens when a fake host is first told to destroy instances. The steps are those of `script`.
        pub destroy_script: Vec<FakeStep> = Vec::new(), "list of steps", example = r#"["hang"]"#;
        /// What happens when a fake host is first told to start or stop instances. The steps are those of `script`.
        pub power_script: Vec<FakeStep> = Vec::new(), "list of steps", example = r#"["delay 3000", "fail no power"]"#;
    }
}

impl FakeConfig {
    /// The settings of the fake driver for a host of this size and behaviour.
    pub fn sized(&self) -> novella_virt::FakeConfig {
        novella_virt::FakeConfig {
            vcpus: self.vcpus,
            memory_mb: self.memory_mb,
            disk_gb: self.disk_gb,
            numa_nodes: self.numa_nodes,
            threads: self.threads,
            huge_pages: self.huge_pages.clone(),
            pci_devices: self.pci_devices.clone(),
            cpu_percent: self.cpu_percent,
            images: self.images.clone(),
            // A duration has at most 365 days.
            spawn_delay_ms: self.spawn_delay.as_millis() as u64,
            spawn_failure_percent: self.spawn_failure_percent,
            seed: self.seed,
            script: self.script.clone(),
            spawn_script: self.spawn_script.clone(),
            destroy_script: self.destroy_script.clone(),
            power_script: self.power_script.clone(),
            ..novella_virt::FakeConfig::default()
        }
    }
}

settings! {
    /// Properties of the host that cannot be detected.
    pub struct PlacementConfig {
        /// Availability zone of the host. Empty means the schedulers' default zone.
        pub availability_zone: String = String::new(), "name";
        /// Traits of the host in addition to the detected ones.
        pub traits: Vec<String> = Vec::new(), "list of names", example = r#"["CUSTOM_GOLD"]"#;
        /// Reason for disabling the host. A disabled host takes no new instances. Empty means that the host is enabled.
        pub disabled_reason: String = String::new(), "text";
    }
}

settings! {
    /// What is held back for the host itself.
    pub struct ReservedConfig {
        /// CPUs held back for the host itself (Nova's `reserved_host_cpus`). They count as used.
        pub vcpus: u32 = 0, "CPUs";
        /// Memory held back for the host itself (Nova's `reserved_host_memory_mb`). It counts as used.
        pub memory_mb: u64 = 512, "MiB";
        /// Disk held back for the host itself (Nova's `reserved_host_disk_mb`, but in GiB). It counts as used.
        pub disk_gb: u64 = 0, "GiB";
        /// Huge pages held back for the host itself (Nova's `reserved_huge_pages`), by NUMA node and page size.
        pub huge_pages: Vec<ReservedPages> = Vec::new(), "list of tables",
            example = r#"[{ node = 0, size = "2M", count = 64 }, { node = 1, size = "1G", count = 1 }]"#;
    }
}

/// Huge pages of one NUMA node that are held back for the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedPages {
    /// The id of the NUMA node.
    pub node: u32,
    /// The size of one page.
    pub size: Size,
    /// How many pages are held back.
    pub count: u64,
}

settings! {
    /// Overcommit. The defaults are those of Nova's `initial_*_allocation_ratio` since 27.0.0.
    pub struct RatioConfig {
        /// How many virtual CPUs may be allocated per CPU of the host.
        pub cpu: f64 = 4.0, "ratio";
        /// How much memory may be allocated, as a multiple of the host's memory.
        pub ram: f64 = 1.0, "ratio";
        /// How much disk may be allocated, as a multiple of the host's disk.
        pub disk: f64 = 1.0, "ratio";
    }
}

settings! {
    /// CPUs for instances.
    pub struct ComputeConfig {
        /// CPUs that instances share. Empty means all CPUs, or none if there is a dedicated set.
        ///
        /// Their number is the host's VCPU amount.
        pub cpu_shared_set: String = String::new(), "CPU set";
        /// CPUs for instances with dedicated CPUs (`hw:cpu_policy` dedicated and mixed).
        ///
        /// Their number is the host's PCPU amount. If neither set is given, every CPU can be shared or dedicated, and all
        /// count as VCPUs. If only the dedicated set is given, the host has 0 VCPUs, and instances that share CPUs go
        /// elsewhere.
        ///
        /// Sets are written as in Nova: "4-15,^8" is 4 to 15 without 8.
        pub cpu_dedicated_set: String = String::new(), "CPU set";
    }
}

settings! {
    /// The NUMA nodes that networks are attached to.
    pub struct NeutronConfig {
        /// Physical networks by name, each with the NUMA nodes that it is attached to.
        pub physnets: BTreeMap<String, Vec<u32>> = BTreeMap::new(), "table",
            example = "{ physnet0 = [0], physnet1 = [0, 1] }";
        /// The NUMA nodes that tunnelled networks are attached to (Nova's `[neutron_tunnel] numa_nodes`).
        pub tunnel_numa_nodes: Vec<u32> = Vec::new(), "list of nodes", example = "[0]";
    }
}

settings! {
    /// PCI devices for instances.
    pub struct PciConfig {
        /// PCI devices that instances may use, chosen by `vendor_id`, `product_id` and `address`. `*` means any.
        ///
        /// The first entry that matches a device applies to it. All other keys become tags that requests can ask for.
        ///
        /// `compute-agent probe` shows the devices of this host, and the pools that these entries form.
        pub device_spec: Vec<BTreeMap<String, serde_json::Value>> = Vec::new(), "list of tables",
            example = r#"[{ vendor_id = "8086", address = "*:81:*.*", physical_network = "physnet0" }, { vendor_id = "10de" }]"#;
    }
}

settings! {
    /// Messaging.
    pub struct RpcConfig {
        /// AMQP exchange of topic messages. It must be the same on the schedulers.
        pub control_exchange: String = DEFAULT_EXCHANGE.into(), "name";
        /// Topic on which agents take commands. It must be the same on the schedulers.
        pub compute_topic: String = COMPUTE_TOPIC.into(), "name";
        /// Topic of the reports. They go to the fanout exchange NAME_fanout. It must be the same on the schedulers.
        pub report_topic: String = SCHEDULER_TOPIC.into(), "name";
        /// How long the broker may take to confirm a report. After that time the newest report is sent instead.
        pub publish_timeout: Duration as "duration" = Duration::from_secs(10);
        /// Broker users whose commands are accepted. Empty means any user.
        ///
        /// A call of another user is answered with `Forbidden`, and a cast is dropped. Both are counted.
        pub accept_commands_from: Vec<String> = Vec::new(), "list of names",
            example = r#"["scheduler", "operator"]"#;
    }
}

impl RpcConfig {
    /// Who may command this agent. It has one list for all classes of methods.
    pub fn authority(&self) -> Authority {
        let list =
            |all: Authority, class| all.list(class, "rpc.accept_commands_from", &self.accept_commands_from);
        MethodClass::ALL.into_iter().fold(Authority::default(), list)
    }

    /// The names on the broker. An agent sends nothing but reports to schedulers, so it does not need their request topic.
    pub(crate) fn names(&self) -> Names {
        Names {
            compute_topic: self.compute_topic.clone(),
            report_topic: self.report_topic.clone(),
            ..Names::on(&self.control_exchange)
        }
    }
}

settings! {
    /// Health and metrics.
    pub struct HttpConfig {
        /// Address of `/livez`, `/readyz` and `/metrics`. `none` switches them off.
        pub listen: String = "127.0.0.1:9781".into(), "address";
    }
}
