//! The agent's settings. `config/compute-agent.toml` shows each with its unit and default.
//!
//! Times are written `10s`; sizes are MiB and GiB, as in Nova. The whole configuration is checked before any connection
//! is made.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use novella_objects::Inventory;
use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::config::{
    KeyDoc, MAX_NAME, Problem, Settings, Size, Validate, check_exchange, check_listen, check_name,
    check_times, check_topics, duration,
};
use novella_virt::{FakeDevices, MemPages};
use serde::{Deserialize, Serialize};

use crate::monitors::CPU_MONITOR;
use crate::offer::Offer;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Where the broker is.
    pub transport_url: String,
    /// Host name in reports; empty: this machine's.
    pub host: String,
    /// Address in reports; empty: that of the default route.
    pub my_ip: String,
    /// Where the identity file lives.
    pub state_dir: PathBuf,
    /// Monitors whose metrics are reported.
    pub compute_monitors: Vec<String>,
    /// Timers.
    pub report: ReportConfig,
    /// What is probed.
    pub driver: DriverConfig,
    /// What the host says of itself beyond what is detected.
    pub placement: PlacementConfig,
    /// Held back for the host itself.
    pub reserved: ReservedConfig,
    /// Overcommit.
    pub allocation_ratio: RatioConfig,
    /// Which CPUs are for which instances.
    pub compute: ComputeConfig,
    /// Networks near NUMA nodes.
    pub neutron: NeutronConfig,
    /// PCI devices for instances.
    pub pci: PciConfig,
    /// Custom resource classes by name.
    pub resources: BTreeMap<String, Inventory>,
    /// Any facts.
    pub facts: BTreeMap<String, serde_json::Value>,
    /// Messaging.
    pub rpc: RpcConfig,
    /// Health and metrics.
    pub http: HttpConfig,
}

/// Timers of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Time between reports at most.
    #[serde(with = "duration")]
    pub periodic_interval: Duration,
    /// Time between readings of the driver.
    #[serde(with = "duration")]
    pub host_state_interval: Duration,
    /// Random delay of the timers, so that a fleet does not march in step.
    #[serde(with = "duration")]
    pub periodic_fuzzy_delay: Duration,
    /// How long one probe may take before its last value is reported instead.
    #[serde(with = "duration")]
    pub probe_timeout: Duration,
    /// When the schedulers call a host down. Theirs is what counts; here it is only checked against the interval.
    #[serde(with = "duration")]
    pub service_down_time: Duration,
}

/// Which driver, and what it looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriverConfig {
    /// `linux` or `fake`.
    pub name: String,
    /// Whose file system is the host's disk.
    pub disk_path: PathBuf,
    /// Values to report instead of the detected ones, by capability key.
    pub overrides: BTreeMap<String, serde_json::Value>,
    /// Size of a fake host.
    pub fake: FakeConfig,
}

/// Size of a fake host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeConfig {
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// GiB.
    pub disk_gb: u64,
    /// NUMA nodes; 0: it does not say.
    pub numa_nodes: u32,
    /// Threads in a core.
    pub threads: u32,
    /// Huge pages of each NUMA node.
    pub huge_pages: Vec<MemPages>,
    /// PCI devices.
    pub pci_devices: Vec<FakeDevices>,
    /// How busy its CPUs are.
    pub cpu_percent: u32,
}

/// What an operator adds to a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlacementConfig {
    /// Availability zone; empty: the schedulers' default zone.
    pub availability_zone: String,
    /// Traits beside those detected.
    pub traits: Vec<String>,
    /// Not empty: the host takes no new instances, and this says why.
    pub disabled_reason: String,
}

/// Held back for the host itself; counts as used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReservedConfig {
    /// CPUs.
    pub vcpus: u32,
    /// MiB.
    pub memory_mb: u64,
    /// GiB.
    pub disk_gb: u64,
    /// Huge pages.
    pub huge_pages: Vec<ReservedPages>,
}

/// Huge pages of one NUMA node held back for the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedPages {
    /// The node.
    pub node: u32,
    /// Size of a page.
    pub size: Size,
    /// How many pages.
    pub count: u64,
}

/// Which CPUs are for which instances, in Nova's notation: `0-3,^2,8`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeConfig {
    /// For instances that share CPUs; empty: all, or none where there is a dedicated set.
    pub cpu_shared_set: String,
    /// For instances that have CPUs to themselves.
    pub cpu_dedicated_set: String,
}

/// Networks near NUMA nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeutronConfig {
    /// Physical networks by name, each with the nodes that it is near.
    pub physnets: BTreeMap<String, Vec<u32>>,
    /// The nodes that tunnelled networks are near.
    pub tunnel_numa_nodes: Vec<u32>,
}

/// PCI devices for instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PciConfig {
    /// Which devices, and what is said of them.
    pub device_spec: Vec<BTreeMap<String, serde_json::Value>>,
}

/// How far each amount may be overcommitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatioConfig {
    /// CPUs.
    pub cpu: f64,
    /// Memory.
    pub ram: f64,
    /// Disk.
    pub disk: f64,
}

/// Messaging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcConfig {
    /// Exchange of topic messages; must be the schedulers'.
    pub control_exchange: String,
    /// Topic of the agents.
    pub compute_topic: String,
    /// Topic whose fanout exchange carries the reports.
    pub report_topic: String,
    /// How long a report may take to be confirmed before a newer one replaces it.
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
    /// Broker users whose commands are obeyed; empty: any.
    pub accept_commands_from: Vec<String>,
}

impl RpcConfig {
    /// Where everyone is found. An agent asks nothing of schedulers: their own topic is of no interest.
    pub(crate) fn names(&self) -> Names {
        Names {
            compute_topic: self.compute_topic.clone(),
            report_topic: self.report_topic.clone(),
            ..Names::on(&self.control_exchange)
        }
    }
}

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address of `/livez`, `/readyz` and `/metrics`; empty: none.
    pub listen: String,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            transport_url: "rabbit://guest:guest@localhost:5672/".into(),
            host: String::new(),
            my_ip: String::new(),
            state_dir: "/var/lib/novella/compute-agent".into(),
            compute_monitors: Vec::new(),
            report: ReportConfig::default(),
            driver: DriverConfig::default(),
            placement: PlacementConfig::default(),
            reserved: ReservedConfig::default(),
            allocation_ratio: RatioConfig::default(),
            compute: ComputeConfig::default(),
            neutron: NeutronConfig::default(),
            pci: PciConfig::default(),
            resources: BTreeMap::new(),
            facts: BTreeMap::new(),
            rpc: RpcConfig::default(),
            http: HttpConfig::default(),
        }
    }
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            periodic_interval: Duration::from_secs(10),
            host_state_interval: Duration::from_secs(10),
            periodic_fuzzy_delay: Duration::from_secs(10),
            probe_timeout: Duration::from_secs(5),
            service_down_time: Duration::from_secs(60),
        }
    }
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            name: "linux".into(),
            disk_path: "/".into(),
            overrides: BTreeMap::new(),
            fake: FakeConfig::default(),
        }
    }
}

impl Default for FakeConfig {
    fn default() -> Self {
        let fake = novella_virt::FakeConfig::default();
        Self {
            vcpus: fake.vcpus,
            memory_mb: fake.memory_mb,
            disk_gb: fake.disk_gb,
            numa_nodes: fake.numa_nodes,
            threads: fake.threads,
            huge_pages: fake.huge_pages,
            pci_devices: fake.pci_devices,
            cpu_percent: fake.cpu_percent,
        }
    }
}

impl FakeConfig {
    /// A fake driver of this size.
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

impl Default for ReservedConfig {
    /// Nova's `reserved_host_memory_mb` of 512 and no CPU or disk.
    fn default() -> Self {
        Self { vcpus: 0, memory_mb: 512, disk_gb: 0, huge_pages: Vec::new() }
    }
}

impl Default for RatioConfig {
    /// Nova's `initial_*_allocation_ratio` since 27.0.0.
    fn default() -> Self {
        Self { cpu: 4.0, ram: 1.0, disk: 1.0 }
    }
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            control_exchange: "nova".into(),
            compute_topic: COMPUTE_TOPIC.into(),
            report_topic: SCHEDULER_TOPIC.into(),
            publish_timeout: Duration::from_secs(10),
            accept_commands_from: Vec::new(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9781".into() }
    }
}

impl Settings for AgentConfig {
    const KEYS: &'static [KeyDoc] = &[
        KeyDoc::new(
            "transport_url",
            "URL",
            "Where the broker is: rabbit://USER:PASSWORD@HOST[:PORT][,...]/VHOST[?OPTION=VALUE].",
        )
        .secret(),
        KeyDoc::new("host", "name", "Host name in reports; empty means this machine's."),
        KeyDoc::new(
            "my_ip",
            "address",
            "Address in reports; empty means the local one of this machine's default route, as in Nova.",
        ),
        KeyDoc::new(
            "state_dir",
            "path",
            "Directory of the identity file. It must survive restarts and must not be shared.",
        ),
        KeyDoc::new(
            "compute_monitors",
            "list of names",
            "Monitors whose metrics are reported. There is one, as in Nova: cpu.virt_driver.",
        ),
        KeyDoc::new(
            "resources",
            "table",
            "Custom resource classes: CUSTOM_NAME = { total = 4 }, also reserved, min_unit, max_unit, step_size, allocation_ratio.",
        ),
        KeyDoc::new(
            "facts",
            "table",
            "Any key = value; shown by `novella host show`, and matched by flavor extra specs.",
        ),
        KeyDoc::new("report.periodic_interval", "duration", "Longest time between reports."),
        KeyDoc::new("report.host_state_interval", "duration", "Time between readings of the driver."),
        KeyDoc::new(
            "report.periodic_fuzzy_delay",
            "duration",
            "Timers start after a random delay up to this, so that a fleet does not march in step.",
        ),
        KeyDoc::new(
            "report.probe_timeout",
            "duration",
            "How long one probe may take before its last value is reported instead.",
        ),
        KeyDoc::new(
            "report.service_down_time",
            "duration",
            "When the schedulers call a silent host down; theirs decides, here it is checked against the interval.",
        ),
        KeyDoc::new(
            "driver.name",
            "name",
            "Compute driver: linux (this machine) or fake (as large as [driver.fake] says).",
        ),
        KeyDoc::new("driver.disk_path", "path", "The file system of this path is the host's disk."),
        KeyDoc::new(
            "driver.overrides",
            "table",
            "Values to report instead of the detected ones, by the names that `compute-agent probe` prints.",
        ),
        KeyDoc::new("driver.fake.vcpus", "CPUs", "CPUs of a fake host."),
        KeyDoc::new("driver.fake.memory_mb", "MiB", "Memory of a fake host."),
        KeyDoc::new("driver.fake.disk_gb", "GiB", "Disk of a fake host."),
        KeyDoc::new(
            "driver.fake.numa_nodes",
            "nodes",
            "NUMA nodes of a fake host, which divide its CPUs and memory; 0 means that it reports none.",
        ),
        KeyDoc::new("driver.fake.threads", "CPUs", "Threads in a core of a fake host."),
        KeyDoc::new(
            "driver.fake.huge_pages",
            "list of tables",
            "Huge pages of each NUMA node of a fake host.",
        ),
        KeyDoc::new(
            "driver.fake.pci_devices",
            "list of tables",
            "PCI devices of a fake host; dev_type is type-PCI, type-PF, type-VF or vdpa.",
        ),
        KeyDoc::new("driver.fake.cpu_percent", "percent", "How busy the CPUs of a fake host are."),
        KeyDoc::new(
            "placement.availability_zone",
            "name",
            "Availability zone; empty means the schedulers' default zone.",
        ),
        KeyDoc::new(
            "placement.traits",
            "list of names",
            "Traits beside those detected, such as CUSTOM_GOLD.",
        ),
        KeyDoc::new(
            "placement.disabled_reason",
            "text",
            "Not empty: the host takes no new instances, and this says why.",
        ),
        KeyDoc::new(
            "reserved.vcpus",
            "CPUs",
            "CPUs held back for the host itself (Nova's reserved_host_cpus); they count as used.",
        ),
        KeyDoc::new("reserved.memory_mb", "MiB", "Memory held back for the host itself; it counts as used."),
        KeyDoc::new("reserved.disk_gb", "GiB", "Disk held back for the host itself; it counts as used."),
        KeyDoc::new(
            "reserved.huge_pages",
            "list of tables",
            "Huge pages held back for the host itself (Nova's reserved_huge_pages), by NUMA node and size.",
        ),
        KeyDoc::new("allocation_ratio.cpu", "ratio", "Virtual CPUs given out per physical one."),
        KeyDoc::new("allocation_ratio.ram", "ratio", "Memory given out per memory there is."),
        KeyDoc::new("allocation_ratio.disk", "ratio", "Disk given out per disk there is."),
        KeyDoc::new(
            "compute.cpu_shared_set",
            "CPU set",
            "CPUs for instances that share them: their number is the host's VCPUs. Empty means all, or none with a \
             dedicated set.",
        ),
        KeyDoc::new(
            "compute.cpu_dedicated_set",
            "CPU set",
            "CPUs for instances that have them to themselves: their number is the host's PCPUs, which \
             hw:cpu_policy=dedicated and mixed ask for. With neither set every CPU is for both kinds, and all count as \
             VCPUs.",
        ),
        KeyDoc::new(
            "neutron.physnets",
            "table",
            "Physical networks, each with the NUMA nodes that it is near.",
        ),
        KeyDoc::new(
            "neutron.tunnel_numa_nodes",
            "list of nodes",
            "The NUMA nodes that tunnelled networks are near (Nova's [neutron_tunnel] numa_nodes).",
        ),
        KeyDoc::new(
            "pci.device_spec",
            "list of tables",
            "PCI devices for instances, by vendor_id, product_id and address with * for anything; the first entry that \
             matches a device counts. All else becomes a tag that requests can ask for.",
        ),
        KeyDoc::new(
            "rpc.control_exchange",
            "name",
            "AMQP exchange of topic messages; the schedulers' must be the same.",
        ),
        KeyDoc::new(
            "rpc.compute_topic",
            "name",
            "Topic on which agents take commands; the schedulers' must be the same.",
        ),
        KeyDoc::new(
            "rpc.report_topic",
            "name",
            "Topic whose fanout exchange, NAME_fanout, carries the reports; the schedulers' must be the same.",
        ),
        KeyDoc::new(
            "rpc.publish_timeout",
            "duration",
            "How long a report may take to be confirmed before a newer one replaces it.",
        ),
        KeyDoc::new(
            "rpc.accept_commands_from",
            "list of names",
            "Broker users whose commands are obeyed; empty means any. Others' are dropped and counted.",
        ),
        KeyDoc::new("http.listen", "address", "Address of /livez, /readyz and /metrics; empty means none."),
    ];
}

impl Validate for AgentConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        self.check_timers(&mut problems);
        self.check_amounts(&mut problems);
        self.check_offer(&mut problems);
        problems
    }
}

impl AgentConfig {
    fn check_names(&self, problems: &mut Vec<Problem>) {
        if let Err(problem) = novella_messaging::rabbit_options(&self.transport_url, "check", [0; 32]) {
            problems.push(Problem::new(
                &["transport_url"],
                problem.to_string(),
                "write rabbit://USER:PASSWORD@HOST:5672/VHOST",
            ));
        }
        check_name("host", &self.host, problems);
        if !self.my_ip.is_empty() && self.my_ip.parse::<IpAddr>().is_err() {
            problems.push(Problem::new(&["my_ip"], "this is no IP address", "write for example 10.0.0.7"));
        }
        if let Some(name) = self.compute_monitors.iter().find(|name| *name != CPU_MONITOR) {
            let what = format!("there is no monitor {name:?}");
            problems.push(Problem::new(&["compute_monitors"], what, format!("write [\"{CPU_MONITOR}\"]")));
        }
        let registry = novella_virt::Registry::default();
        if !registry.names().any(|name| name == self.driver.name) {
            let known: Vec<&str> = registry.names().collect();
            let fix = format!("write one of: {}", known.join(", "));
            problems.push(Problem::new(&["driver.name"], "there is no such driver", fix));
        }
        let bad_trait = |name: &&String| !is_upper_name(name);
        if let Some(name) = self.placement.traits.iter().find(bad_trait) {
            let what = format!("{name:?} is no trait name");
            problems.push(Problem::new(
                &["placement.traits"],
                what,
                "use capitals, digits and _, such as CUSTOM_GOLD",
            ));
        }
        check_listen("http.listen", &self.http.listen, "127.0.0.1:9781", problems);
        let rpc = &self.rpc;
        check_exchange("rpc.control_exchange", &rpc.control_exchange, problems);
        let reports = ("rpc.report_topic", &*rpc.report_topic);
        check_topics(("rpc.compute_topic", &rpc.compute_topic), &[reports], problems);
    }

    fn check_offer(&self, problems: &mut Vec<Problem>) {
        if let Err(found) = Offer::new(self) {
            problems.extend(found);
        }
        let sets = [
            ("compute.cpu_shared_set", &self.compute.cpu_shared_set),
            ("compute.cpu_dedicated_set", &self.compute.cpu_dedicated_set),
        ];
        if let Some((set, _)) = sets.into_iter().find(|(_, set)| !set.is_empty())
            && self.driver.overrides.contains_key("vcpus")
        {
            problems.push(Problem::new(
                &["driver.overrides", set],
                "the number of VCPUs follows from the CPU sets",
                "remove vcpus from the overrides",
            ));
        }
    }

    fn check_timers(&self, problems: &mut Vec<Problem>) {
        let report = &self.report;
        let times = [
            ("report.periodic_interval", report.periodic_interval),
            ("report.host_state_interval", report.host_state_interval),
            ("report.probe_timeout", report.probe_timeout),
            ("rpc.publish_timeout", self.rpc.publish_timeout),
        ];
        check_times(&times, problems);
        if report.service_down_time <= report.periodic_interval * 3 {
            problems.push(Problem::new(
                &["report.periodic_interval", "report.service_down_time"],
                "service_down_time must exceed three report intervals, or one lost report makes a host look down",
                "report more often, or raise service_down_time here and on every scheduler",
            ));
        }
    }

    fn check_amounts(&self, problems: &mut Vec<Problem>) {
        let ratios = &self.allocation_ratio;
        for (key, ratio) in [
            ("allocation_ratio.cpu", ratios.cpu),
            ("allocation_ratio.ram", ratios.ram),
            ("allocation_ratio.disk", ratios.disk),
        ] {
            if !(ratio.is_finite() && ratio > 0.0) {
                problems.push(Problem::new(
                    &[key],
                    "a ratio is a number above 0",
                    "write 1.0 for no overcommit",
                ));
            }
        }
        for (name, inventory) in &self.resources {
            let what = if !(is_upper_name(name) && name.starts_with("CUSTOM_")) {
                format!("{name:?} is no custom resource class")
            } else if inventory.reserved > inventory.total {
                format!(
                    "{name}: more is reserved ({}) than there is ({})",
                    inventory.reserved, inventory.total
                )
            } else if inventory.step_size == 0 || inventory.min_unit > inventory.max_unit {
                format!("{name}: step_size must not be 0, and min_unit not above max_unit")
            } else if !(inventory.allocation_ratio.is_finite() && inventory.allocation_ratio > 0.0) {
                format!("{name}: allocation_ratio is a number above 0")
            } else {
                continue;
            };
            problems.push(Problem::new(&["resources"], what, "write for example CUSTOM_GPU = { total = 4 }"));
        }
        for (key, value) in &self.driver.overrides {
            if let Err(error) = crate::overrides::check(key, value) {
                let fix = "`compute-agent probe` prints every name and value";
                problems.push(Problem::new(&["driver.overrides"], error.to_string(), fix));
            }
        }
    }
}

/// Capitals, digits and underscores: the form of traits and resource classes in Placement.
fn is_upper_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
