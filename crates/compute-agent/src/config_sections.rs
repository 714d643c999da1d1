//! The sections of the agent's settings, each setting declared once.
//!
//! What always holds: names and defaults are Nova's where Nova has the setting.
//!
//! What it leaves out: the settings at the top and the checks, which are in [`crate::config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use novella_messaging::DEFAULT_EXCHANGE;
use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::config::{Size, duration};
use novella_service::settings;
use novella_virt::{FakeDevices, MemPages};
use serde::{Deserialize, Serialize};

settings! {
    /// Timers of the reports.
    pub struct ReportConfig {
        /// Longest time between reports. It must be shorter than a third of `report.service_down_time`.
        pub periodic_interval: Duration as "duration" = Duration::from_secs(10);
        /// Time between readings of the driver.
        pub host_state_interval: Duration as "duration" = Duration::from_secs(10);
        /// The timers start after a random delay of at most this time, so that hosts do not all report at once.
        pub periodic_fuzzy_delay: Duration as "duration" = Duration::from_secs(10);
        /// How long one probe of the driver may take. After that time its last value is reported instead.
        pub probe_timeout: Duration as "duration" = Duration::from_secs(5);
        /// After how long the schedulers call a silent host down. The schedulers' own setting is what counts. The agent only
        /// checks its interval against this one.
        pub service_down_time: Duration as "duration" = Duration::from_secs(60);
    }
}

settings! {
    /// Which driver reads the host, and what it looks at.
    pub struct DriverConfig {
        /// The compute driver: `linux` (this machine) or `fake` (a host of the size in `[driver.fake]`).
        pub name: String = "linux".into(), "name";
        /// The file system of this path is the host's disk.
        pub disk_path: PathBuf = "/".into(), "path";
        /// Values to report instead of the detected ones, by the names that `compute-agent probe` prints.
        pub overrides: BTreeMap<String, serde_json::Value> = BTreeMap::new(), "table", example = "{ vcpus = 16 }";
        section fake: FakeConfig;
    }
}

settings! {
    /// Size of a fake host.
    pub struct FakeConfig {
        /// CPUs of a fake host.
        pub vcpus: u32 = novella_virt::FakeConfig::default().vcpus, "CPUs";
        /// Memory of a fake host.
        pub memory_mb: u64 = novella_virt::FakeConfig::default().memory_mb, "MiB";
        /// Disk of a fake host.
        pub disk_gb: u64 = novella_virt::FakeConfig::default().disk_gb, "GiB";
        /// NUMA nodes of a fake host, which share its CPUs and memory evenly. With 0 it reports no NUMA nodes.
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
    }
}

impl FakeConfig {
    /// The fake driver's own settings for a host of this size.
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
            ..novella_virt::FakeConfig::default()
        }
    }
}

settings! {
    /// What the operator says of the host beyond what is detected.
    pub struct PlacementConfig {
        /// Availability zone of the host. Empty means the schedulers' default zone.
        pub availability_zone: String = String::new(), "name";
        /// Traits of the host in addition to the detected ones.
        pub traits: Vec<String> = Vec::new(), "list of names", example = r#"["CUSTOM_GOLD"]"#;
        /// Why the host takes no new instances. Empty means that it does take them.
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
        /// Virtual CPUs given out per physical CPU.
        pub cpu: f64 = 4.0, "ratio";
        /// Memory given out per memory of the host.
        pub ram: f64 = 1.0, "ratio";
        /// Disk given out per disk of the host.
        pub disk: f64 = 1.0, "ratio";
    }
}

settings! {
    /// Which CPUs are for which instances.
    pub struct ComputeConfig {
        /// CPUs for instances that share CPUs. Empty means all CPUs, or none if there is a dedicated set.
        ///
        /// Their number is the host's VCPU amount.
        pub cpu_shared_set: String = String::new(), "CPU set";
        /// CPUs for instances that have CPUs to themselves (`hw:cpu_policy` dedicated and mixed).
        ///
        /// Their number is the host's PCPU amount. With neither set every CPU is for both kinds, and all count as VCPUs.
        /// A host that has a dedicated set alone has 0 VCPUs: instances that share CPUs go elsewhere.
        ///
        /// Sets are written as in Nova: "4-15,^8" is 4 to 15 without 8.
        pub cpu_dedicated_set: String = String::new(), "CPU set";
    }
}

settings! {
    /// Networks near NUMA nodes.
    pub struct NeutronConfig {
        /// Physical networks by name, each with the NUMA nodes that it is near.
        pub physnets: BTreeMap<String, Vec<u32>> = BTreeMap::new(), "table",
            example = "{ physnet0 = [0], physnet1 = [0, 1] }";
        /// The NUMA nodes that tunnelled networks are near (Nova's `[neutron_tunnel] numa_nodes`).
        pub tunnel_numa_nodes: Vec<u32> = Vec::new(), "list of nodes", example = "[0]";
    }
}

settings! {
    /// PCI devices for instances.
    pub struct PciConfig {
        /// Which PCI devices instances may have, by `vendor_id`, `product_id` and `address`. `*` means any.
        ///
        /// The first entry that matches a device counts. All other keys become tags that requests can ask for.
        ///
        /// `compute-agent probe` shows the devices of this host, and the pools that the entries make of them.
        pub device_spec: Vec<BTreeMap<String, serde_json::Value>> = Vec::new(), "list of tables",
            example = r#"[{ vendor_id = "8086", address = "*:81:*.*", physical_network = "physnet0" }, { vendor_id = "10de" }]"#;
    }
}

settings! {
    /// Messaging.
    pub struct RpcConfig {
        /// AMQP exchange of topic messages. The schedulers' must be the same.
        pub control_exchange: String = DEFAULT_EXCHANGE.into(), "name";
        /// Topic on which agents take commands. The schedulers' must be the same.
        pub compute_topic: String = COMPUTE_TOPIC.into(), "name";
        /// Topic whose fanout exchange, NAME_fanout, carries the reports. The schedulers' must be the same.
        pub report_topic: String = SCHEDULER_TOPIC.into(), "name";
        /// How long the broker may take to confirm a report. After that time a newer report replaces it.
        pub publish_timeout: Duration as "duration" = Duration::from_secs(10);
        /// Broker users whose commands are obeyed. Empty means any user.
        ///
        /// Commands of other users are dropped and counted.
        pub accept_commands_from: Vec<String> = Vec::new(), "list of names",
            example = r#"["scheduler", "operator"]"#;
    }
}

impl RpcConfig {
    /// The names on the broker. An agent sends schedulers nothing but reports, so their own topic does not matter here.
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
