//! The agent's settings, and whether they can be used. `config/compute-agent.toml` lists all of them.
//!
//! What always holds: the whole configuration is checked before any connection is made. What the host itself must have
//! is checked when it has been read, by [`Offer::problems`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use novella_objects::Inventory;
use novella_service::args::DEFAULT_TRANSPORT_URL;
use novella_service::config::{
    MAX_NAME, Problem, Settings, check_exchange, check_listen, check_name, check_times, check_topics,
    check_users,
};
use novella_service::settings;
use novella_virt::DriverError;

use crate::config_sections::{
    ComputeConfig, DriverConfig, HttpConfig, NeutronConfig, PciConfig, PlacementConfig, RatioConfig,
    ReportConfig, ReservedConfig, RpcConfig,
};
use crate::monitors::CPU_MONITOR;
use crate::offer::Offer;

settings! {
    /// Settings of compute-agent, the daemon on every host.
    pub struct AgentConfig {
        /// Where the broker is: `rabbit://USER:PASSWORD@HOST[:PORT][,...]/VHOST[?OPTION=VALUE]`, or `amqps://` for TLS.
        ///
        /// Further hosts are tried if the first cannot be reached. The options are those of oslo.messaging. Percent-encode
        /// special characters of a password: `%40` for `@`, `%2F` for `/`.
        pub transport_url: String = DEFAULT_TRANSPORT_URL.into(), "URL", secret = true;
        /// Host name in reports. It may contain letters, digits, `.`, `_` and `-`. Empty means the name of this machine.
        pub host: String = String::new(), "name";
        /// IP address in reports. Empty means the local address of this machine's default route, as in Nova. It is looked up
        /// again for each report.
        pub my_ip: String = String::new(), "address";
        /// Directory of the identity file. It must survive restarts, and no other agent may use it.
        pub state_dir: PathBuf = "/var/lib/novella/compute-agent".into(), "path";
        /// Monitors whose metrics are reported. As in Nova, the only one is `cpu.virt_driver`.
        pub compute_monitors: Vec<String> = Vec::new(), "list of names", example = r#"["cpu.virt_driver"]"#;
        /// Custom resource classes of the host, each with its total amount.
        ///
        /// An entry may also set reserved, min_unit, max_unit, step_size and allocation_ratio.
        pub resources: BTreeMap<String, Inventory> = BTreeMap::new(), "table",
            example = "{ CUSTOM_GPU = { total = 4 } }";
        /// Facts about the host, under any keys. `novella host show` shows them, and extra specs of flavors can match them.
        pub facts: BTreeMap<String, serde_json::Value> = BTreeMap::new(), "table", example = r#"{ rack = "a1" }"#;
        section report: ReportConfig;
        section driver: DriverConfig;
        section placement: PlacementConfig;
        section reserved: ReservedConfig;
        section allocation_ratio: RatioConfig;
        section compute: ComputeConfig;
        section neutron: NeutronConfig;
        section pci: PciConfig;
        section rpc: RpcConfig;
        section http: HttpConfig;
    }
}

impl Settings for AgentConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        self.check_timers(&mut problems);
        self.check_amounts(&mut problems);
        self.check_offer(&mut problems);
        self.check_fake(&mut problems);
        problems
    }
}

impl AgentConfig {
    /// What the host offers to instances, or every problem in that part of the settings.
    pub fn offer(&self) -> Result<Offer, Vec<Problem>> {
        let monitors = !self.compute_monitors.is_empty();
        Offer::new(&self.compute, &self.reserved.huge_pages, &self.neutron, &self.pci, monitors)
    }

    /// These settings with those values of `wanted` that can change while the agent runs: what it reports about its host,
    /// and what the host offers. All other settings are used only when the agent starts.
    pub fn reloaded(&self, wanted: &Self) -> Self {
        let wanted = wanted.clone();
        Self {
            resources: wanted.resources,
            facts: wanted.facts,
            driver: DriverConfig { overrides: wanted.driver.overrides, ..self.driver.clone() },
            placement: wanted.placement,
            reserved: wanted.reserved,
            allocation_ratio: wanted.allocation_ratio,
            compute: wanted.compute,
            neutron: wanted.neutron,
            ..self.clone()
        }
    }

    fn check_names(&self, problems: &mut Vec<Problem>) {
        if let Err(problem) = novella_messaging::rabbit_options(&self.transport_url, "check", [0; 32]) {
            problems.push(Problem::new(
                &["transport_url"],
                problem.to_string(),
                "write rabbit://USER:PASSWORD@HOST:5672/VHOST",
            ));
        }
        check_name("host", &self.host, problems);
        check_users("rpc.accept_commands_from", &self.rpc.accept_commands_from, problems);
        if !self.my_ip.is_empty() && self.my_ip.parse::<IpAddr>().is_err() {
            problems.push(Problem::new(&["my_ip"], "not an IP address", "write for example 10.0.0.7"));
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
            let what = format!("{name:?} is not a trait name");
            problems.push(Problem::new(
                &["placement.traits"],
                what,
                "use capitals, digits and _, such as CUSTOM_GOLD",
            ));
        }
        check_listen("http.listen", &self.http.listen, &HttpConfig::default().listen, problems);
        let rpc = &self.rpc;
        check_exchange("rpc.control_exchange", &rpc.control_exchange, problems);
        let reports = ("rpc.report_topic", &*rpc.report_topic);
        check_topics(("rpc.compute_topic", &rpc.compute_topic), &[reports], problems);
    }

    fn check_offer(&self, problems: &mut Vec<Problem>) {
        if let Err(found) = self.offer() {
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

    fn check_fake(&self, problems: &mut Vec<Problem>) {
        if let Err(DriverError::InvalidOption { option, value, expected, .. }) =
            self.driver.fake.sized().check()
        {
            problems.push(Problem::new(
                &[&format!("driver.{option}")],
                format!("it cannot be {value}"),
                expected,
            ));
        }
    }

    fn check_timers(&self, problems: &mut Vec<Problem>) {
        let report = &self.report;
        let times = [
            ("report.periodic_interval", report.periodic_interval),
            ("report.host_state_interval", report.host_state_interval),
            ("report.probe_timeout", report.probe_timeout),
            ("driver.spawn_timeout", self.driver.spawn_timeout),
            ("driver.destroy_timeout", self.driver.destroy_timeout),
            ("driver.power_timeout", self.driver.power_timeout),
            ("rpc.publish_timeout", self.rpc.publish_timeout),
        ];
        check_times(&times, problems);
        if report.service_down_time <= report.periodic_interval * 3 {
            problems.push(Problem::new(
                &["report.periodic_interval", "report.service_down_time"],
                "service_down_time must exceed three report intervals, so that a lost report does not make a host look down",
                "lower report.periodic_interval, or raise service_down_time here and on every scheduler",
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
                    "the ratio must be a number above 0",
                    "write 1.0 for no overcommit",
                ));
            }
        }
        for (name, inventory) in &self.resources {
            let what = if !(is_upper_name(name) && name.starts_with("CUSTOM_")) {
                format!("{name:?} is not a custom resource class")
            } else if inventory.reserved > inventory.total {
                format!("{name}: reserved ({}) is more than total ({})", inventory.reserved, inventory.total)
            } else if inventory.step_size == 0 || inventory.min_unit > inventory.max_unit {
                format!("{name}: step_size must be above 0, and min_unit must not exceed max_unit")
            } else if !(inventory.allocation_ratio.is_finite() && inventory.allocation_ratio > 0.0) {
                format!("{name}: allocation_ratio must be a number above 0")
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
