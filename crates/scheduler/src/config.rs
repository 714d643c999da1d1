//! The scheduler's settings. `config/scheduler.toml` shows each with its unit and default.

use std::time::Duration;

use novella_filter_scheduler::{FilterKind, MAX_MULTIPLIER, MIN_MULTIPLIER, SchedulerOptions, WeigherKind};
use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::config::{
    KeyDoc, Problem, Settings, Validate, check_exchange, check_listen, check_name, check_times, check_topics,
    duration,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::manager::MAX_ALTERNATES;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Where the broker is.
    pub transport_url: String,
    /// This scheduler's name; decision ids start with it. Empty: this machine's host name.
    pub name: String,
    /// Reports and liveness.
    pub reports: ReportsConfig,
    /// The policy; empty: what [`Self::filter_scheduler`] says.
    pub policy_file: String,
    /// How hosts are chosen.
    pub filter_scheduler: FilterSchedulerConfig,
    /// Reservations.
    pub reservations: ReservationsConfig,
    /// Messaging.
    pub rpc: RpcConfig,
    /// Nova's own scheduler API.
    pub nova: NovaConfig,
    /// Health and metrics.
    pub http: HttpConfig,
}

/// Reports and liveness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportsConfig {
    /// How often agents report; the start-up waits no longer than this.
    #[serde(with = "duration")]
    pub report_interval: Duration,
    /// A host silent for longer is down.
    #[serde(with = "duration")]
    pub service_down_time: Duration,
    /// A host silent for longer is forgotten.
    #[serde(with = "duration")]
    pub forget_after: Duration,
    /// How long agents have to answer when all are asked at once.
    #[serde(with = "duration")]
    pub answer_window: Duration,
    /// How long the broker keeps an undelivered report.
    #[serde(with = "duration")]
    pub report_ttl: Duration,
    /// Hosts at most; the fanout queue holds four times as many reports.
    pub max_hosts: u32,
}

/// How hosts are chosen. Names and defaults are Nova's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterSchedulerConfig {
    /// Filters, in the order they run.
    pub enabled_filters: Vec<String>,
    /// RAMWeigher.
    pub ram_weight_multiplier: f64,
    /// CPUWeigher.
    pub cpu_weight_multiplier: f64,
    /// DiskWeigher.
    pub disk_weight_multiplier: f64,
    /// Choose at random among this many best hosts.
    pub host_subset_size: u32,
    /// Shuffle the hosts that share the best weight.
    pub shuffle_best_same_weighed_hosts: bool,
    /// Zone of hosts that name none.
    pub default_availability_zone: String,
    /// Alternates per instance unless the request says otherwise.
    pub alternates: u32,
}

/// Reservations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReservationsConfig {
    /// How long a decision holds its amounts unless a report confirms it.
    #[serde(with = "duration")]
    pub reservation_ttl: Duration,
    /// The longest hold a request may ask.
    #[serde(with = "duration")]
    pub max_hold: Duration,
}

/// Messaging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcConfig {
    /// Exchange of topic messages; must be the agents'.
    pub control_exchange: String,
    /// Topic of the schedulers.
    pub scheduler_topic: String,
    /// Topic of the agents.
    pub compute_topic: String,
    /// Topic whose fanout exchange carries the reports.
    pub report_topic: String,
    /// Requests handled at once.
    pub concurrency: u32,
    /// Reports applied and acknowledged together at most.
    pub report_batch: u16,
    /// How long a message to other services may take to be confirmed.
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
}

impl RpcConfig {
    /// Where everyone is found.
    pub(crate) fn names(&self) -> Names {
        Names {
            control_exchange: self.control_exchange.clone(),
            scheduler_topic: self.scheduler_topic.clone(),
            compute_topic: self.compute_topic.clone(),
            report_topic: self.report_topic.clone(),
        }
    }
}

/// Nova's own scheduler API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NovaConfig {
    /// Whether Nova's `select_destinations` is answered beside our own.
    pub serve: bool,
    /// The cell that all hosts are in; empty: the nil UUID.
    pub cell_uuid: String,
}

impl NovaConfig {
    /// The cell. A text that is no UUID counts as none; [`Validate`] has refused it.
    pub(crate) fn cell(&self) -> Uuid {
        self.cell_uuid.parse().unwrap_or_default()
    }
}

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address of `/livez`, `/readyz` and `/metrics`; empty: none.
    pub listen: String,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            transport_url: "rabbit://guest:guest@localhost:5672/".into(),
            name: String::new(),
            policy_file: String::new(),
            reports: ReportsConfig::default(),
            filter_scheduler: FilterSchedulerConfig::default(),
            reservations: ReservationsConfig::default(),
            rpc: RpcConfig::default(),
            nova: NovaConfig::default(),
            http: HttpConfig::default(),
        }
    }
}

impl Default for ReportsConfig {
    fn default() -> Self {
        Self {
            report_interval: Duration::from_secs(10),
            service_down_time: Duration::from_secs(60),
            forget_after: Duration::from_secs(3600),
            answer_window: Duration::from_secs(2),
            report_ttl: Duration::from_secs(30),
            max_hosts: 20_000,
        }
    }
}

impl Default for FilterSchedulerConfig {
    fn default() -> Self {
        let filters = [
            "ComputeFilter",
            "AvailabilityZoneFilter",
            "RamFilter",
            "CoreFilter",
            "DiskFilter",
            "ComputeCapabilitiesFilter",
        ];
        Self {
            enabled_filters: filters.map(str::to_owned).to_vec(),
            ram_weight_multiplier: 1.0,
            cpu_weight_multiplier: 1.0,
            disk_weight_multiplier: 1.0,
            host_subset_size: 1,
            shuffle_best_same_weighed_hosts: false,
            default_availability_zone: "nova".into(),
            alternates: 2,
        }
    }
}

impl Default for ReservationsConfig {
    fn default() -> Self {
        Self { reservation_ttl: Duration::from_secs(30), max_hold: Duration::from_secs(3600) }
    }
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            control_exchange: "nova".into(),
            scheduler_topic: SCHEDULER_TOPIC.into(),
            compute_topic: COMPUTE_TOPIC.into(),
            report_topic: SCHEDULER_TOPIC.into(),
            concurrency: 64,
            report_batch: 512,
            publish_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9780".into() }
    }
}

impl Settings for SchedulerConfig {
    const KEYS: &'static [KeyDoc] = &[
        KeyDoc::new(
            "transport_url",
            "URL",
            "Where the broker is: rabbit://USER:PASSWORD@HOST[:PORT][,...]/VHOST[?OPTION=VALUE].",
        )
        .secret(),
        KeyDoc::new(
            "name",
            "name",
            "This scheduler's name; decision ids start with it. Empty means this machine's host name.",
        ),
        KeyDoc::new(
            "policy_file",
            "path",
            "Policy: filters, weighers, aggregates, flavors, groups. Takes the place of [filter_scheduler]; empty means none.",
        ),
        KeyDoc::new(
            "reports.report_interval",
            "duration",
            "How often agents report; start-up waits no longer than this for the map to fill.",
        ),
        KeyDoc::new("reports.service_down_time", "duration", "A host silent for longer is down."),
        KeyDoc::new("reports.forget_after", "duration", "A host silent for longer leaves the map."),
        KeyDoc::new(
            "reports.answer_window",
            "duration",
            "How long agents have to answer when all are asked to report at once.",
        ),
        KeyDoc::new(
            "reports.report_ttl",
            "duration",
            "How long the broker keeps a report that was not consumed. Data is never older than this plus service_down_time.",
        ),
        KeyDoc::new(
            "reports.max_hosts",
            "hosts",
            "Hosts at most; the report queue holds four times as many messages.",
        ),
        KeyDoc::new("filter_scheduler.enabled_filters", "list of names", "Filters, in the order they run."),
        KeyDoc::new(
            "filter_scheduler.ram_weight_multiplier",
            "factor",
            "Weight of free memory; negative packs.",
        ),
        KeyDoc::new(
            "filter_scheduler.cpu_weight_multiplier",
            "factor",
            "Weight of free CPUs; negative packs.",
        ),
        KeyDoc::new(
            "filter_scheduler.disk_weight_multiplier",
            "factor",
            "Weight of free disk; negative packs.",
        ),
        KeyDoc::new(
            "filter_scheduler.host_subset_size",
            "hosts",
            "Choose at random among this many best hosts.",
        ),
        KeyDoc::new(
            "filter_scheduler.shuffle_best_same_weighed_hosts",
            "true or false",
            "Whether hosts that share the best weight are put in random order.",
        ),
        KeyDoc::new("filter_scheduler.default_availability_zone", "name", "Zone of hosts that name none."),
        KeyDoc::new(
            "filter_scheduler.alternates",
            "hosts",
            "Alternates per instance unless the request says otherwise.",
        ),
        KeyDoc::new(
            "reservations.reservation_ttl",
            "duration",
            "How long a decision holds its amounts unless a report confirms it.",
        ),
        KeyDoc::new("reservations.max_hold", "duration", "The longest hold that a request may ask for."),
        KeyDoc::new(
            "rpc.control_exchange",
            "name",
            "AMQP exchange of topic messages; the agents' must be the same.",
        ),
        KeyDoc::new(
            "rpc.scheduler_topic",
            "name",
            "Topic on which schedulers take requests. Queues are named by the topic alone: schedulers of two fleets in one virtual host need two.",
        ),
        KeyDoc::new(
            "rpc.compute_topic",
            "name",
            "Topic on which agents take commands; the agents' must be the same.",
        ),
        KeyDoc::new(
            "rpc.report_topic",
            "name",
            "Topic whose fanout exchange, NAME_fanout, carries the reports; the agents' must be the same.",
        ),
        KeyDoc::new("rpc.concurrency", "requests", "Requests handled at once."),
        KeyDoc::new("rpc.report_batch", "reports", "Reports applied and acknowledged together at most."),
        KeyDoc::new(
            "rpc.publish_timeout",
            "duration",
            "How long a message to agents or other schedulers may take to be confirmed.",
        ),
        KeyDoc::new(
            "nova.serve",
            "true or false",
            "Whether select_destinations 4.3 to 4.5 of Nova's own conductors is answered, on rpc.scheduler_topic of rpc.control_exchange beside novella's own methods.",
        ),
        KeyDoc::new(
            "nova.cell_uuid",
            "UUID",
            "The cell that Nova is told all hosts are in; empty means 00000000-0000-0000-0000-000000000000.",
        ),
        KeyDoc::new("http.listen", "address", "Address of /livez, /readyz and /metrics; empty means none."),
    ];
}

/// Longer times are slips of the pen, and some would overflow a deadline.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl Validate for SchedulerConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        self.check_times(&mut problems);
        self.check_engine(&mut problems);
        problems
    }
}

impl FilterSchedulerConfig {
    /// The engine's options. Names that are wrong are left out; [`Validate`] has refused them.
    pub(crate) fn options(&self) -> SchedulerOptions {
        SchedulerOptions {
            enabled_filters: self.enabled_filters.iter().filter_map(|name| name.parse().ok()).collect(),
            weighers: vec![
                (WeigherKind::Ram, self.ram_weight_multiplier),
                (WeigherKind::Cpu, self.cpu_weight_multiplier),
                (WeigherKind::Disk, self.disk_weight_multiplier),
            ],
            host_subset_size: self.host_subset_size as usize,
            shuffle_best_same_weighed_hosts: self.shuffle_best_same_weighed_hosts,
            max_attempts: self.alternates.saturating_add(1),
            default_availability_zone: self.default_availability_zone.clone(),
            ..SchedulerOptions::default()
        }
    }
}

impl SchedulerConfig {
    fn check_names(&self, problems: &mut Vec<Problem>) {
        if let Err(error) = novella_messaging::rabbit_options(&self.transport_url, "check", [0; 32]) {
            let fix = "write rabbit://USER:PASSWORD@HOST:5672/VHOST";
            problems.push(Problem::new(&["transport_url"], error.to_string(), fix));
        }
        check_name("name", &self.name, problems);
        let cell = &self.nova.cell_uuid;
        if !cell.is_empty() && Uuid::try_parse(cell).is_err() {
            let fix = "copy it from `nova-manage cell_v2 list_cells`";
            problems.push(Problem::new(&["nova.cell_uuid"], format!("{cell:?} is no UUID"), fix));
        }
        check_listen("http.listen", &self.http.listen, "127.0.0.1:9780", problems);
        let rpc = &self.rpc;
        check_exchange("rpc.control_exchange", &rpc.control_exchange, problems);
        let others =
            [("rpc.scheduler_topic", &*rpc.scheduler_topic), ("rpc.report_topic", &*rpc.report_topic)];
        check_topics(("rpc.compute_topic", &rpc.compute_topic), &others, problems);
    }

    fn check_times(&self, problems: &mut Vec<Problem>) {
        let reports = &self.reports;
        let times = [
            ("reports.report_interval", reports.report_interval),
            ("reports.report_ttl", reports.report_ttl),
            ("reservations.reservation_ttl", self.reservations.reservation_ttl),
            ("rpc.publish_timeout", self.rpc.publish_timeout),
        ];
        check_times(&times, problems);
        for (key, time) in [
            ("reports.forget_after", reports.forget_after),
            ("reports.report_interval", reports.report_interval),
            ("reports.report_ttl", reports.report_ttl),
            ("reservations.max_hold", self.reservations.max_hold),
            ("rpc.publish_timeout", self.rpc.publish_timeout),
        ] {
            if time > LONGEST {
                problems.push(Problem::new(
                    &[key],
                    "this is longer than any scheduler runs",
                    "write a duration of at most 365days",
                ));
            }
        }
        let pairs = [
            (
                reports.service_down_time <= reports.report_interval.saturating_mul(3),
                ["reports.service_down_time", "reports.report_interval"],
                "service_down_time must exceed three report intervals, or one lost report makes a host look down",
                "raise service_down_time, or let the agents report more often",
            ),
            (
                reports.forget_after <= reports.service_down_time,
                ["reports.forget_after", "reports.service_down_time"],
                "a host would be forgotten before it is down",
                "raise forget_after above service_down_time",
            ),
            (
                reports.answer_window >= reports.report_interval,
                ["reports.answer_window", "reports.report_interval"],
                "asking for reports would take longer than waiting for them",
                "choose an answer_window shorter than report_interval",
            ),
            (
                self.reservations.max_hold < self.reservations.reservation_ttl,
                ["reservations.max_hold", "reservations.reservation_ttl"],
                "the usual hold is longer than the longest allowed",
                "raise max_hold to reservation_ttl at least",
            ),
        ];
        for (wrong, keys, what, fix) in pairs {
            if wrong {
                problems.push(Problem::new(&keys, what, fix));
            }
        }
    }

    fn check_engine(&self, problems: &mut Vec<Problem>) {
        let engine = &self.filter_scheduler;
        if !self.policy_file.is_empty() && *engine != FilterSchedulerConfig::default() {
            let what = "the policy is said twice: the file takes the place of the section [filter_scheduler]";
            let fix = "move what the section sets into the policy file, or remove policy_file";
            problems.push(Problem::new(&["policy_file"], what, fix));
        }
        let key = "filter_scheduler.enabled_filters";
        for name in &engine.enabled_filters {
            if let Err(error) = name.parse::<FilterKind>() {
                problems.push(Problem::new(&[key], error.to_string(), "write one of these"));
            }
        }
        for (key, value) in [
            ("filter_scheduler.ram_weight_multiplier", engine.ram_weight_multiplier),
            ("filter_scheduler.cpu_weight_multiplier", engine.cpu_weight_multiplier),
            ("filter_scheduler.disk_weight_multiplier", engine.disk_weight_multiplier),
        ] {
            if value != 0.0 && !(MIN_MULTIPLIER..=MAX_MULTIPLIER).contains(&value.abs()) {
                let what =
                    format!("a multiplier is 0 or of a size from {MIN_MULTIPLIER} to {MAX_MULTIPLIER}");
                problems.push(Problem::new(&[key], what, "1.0 is usual"));
            }
        }
        if engine.alternates > MAX_ALTERNATES {
            let what = format!("at most {MAX_ALTERNATES} alternates can be answered");
            problems.push(Problem::new(&["filter_scheduler.alternates"], what, "2 is usual"));
        }
        for (key, value) in [
            ("filter_scheduler.host_subset_size", u64::from(engine.host_subset_size)),
            ("reports.max_hosts", u64::from(self.reports.max_hosts)),
            ("rpc.concurrency", u64::from(self.rpc.concurrency)),
            ("rpc.report_batch", u64::from(self.rpc.report_batch)),
        ] {
            if value == 0 {
                problems.push(Problem::new(
                    &[key],
                    "this must be at least 1",
                    "the default is in `config explain`",
                ));
            }
        }
    }
}
