//! The scheduler's settings, each declared once, and the checks of their values. `config/scheduler.toml` lists them all.
//!
//! What always holds: defaults that the host map or the engine also has are taken from there. Names and defaults are
//! Nova's where Nova has the setting.

use std::path::Path;
use std::time::Duration;

use novella_filter_scheduler::{FilterKind, MAX_MULTIPLIER, MIN_MULTIPLIER, SchedulerOptions, WeigherKind};
use novella_host_manager::{Amounts, HostManagerOptions, MB_PER_GB, Quota};
use novella_messaging::{Authority, DEFAULT_EXCHANGE, MethodClass};
use novella_objects::{MAX_ALTERNATES, MAX_HOST_NAME};
use novella_rpcapi::{COMPUTE_TOPIC, Names, SCHEDULER_TOPIC};
use novella_service::args::DEFAULT_TRANSPORT_URL;
use novella_service::config::{
    CheckedFiles, MAX_NAME, Problem, Settings, check_exchange, check_listen, check_name, check_times,
    check_topics, check_users, duration,
};
use novella_service::settings;
use uuid::Uuid;

use crate::policy_file;
use crate::quotas::RequestQuotas;

// A host that may be configured must be able to report. The crate of the settings knows nothing of reports.
const _: () = assert!(MAX_NAME == MAX_HOST_NAME, "settings and reports agree on how long a name may be");

settings! {
    /// Settings of scheduler, the central daemon.
    pub struct SchedulerConfig {
        /// Where the broker is: `rabbit://USER:PASSWORD@HOST[:PORT][,...]/VHOST[?OPTION=VALUE]`, or `amqps://` for TLS.
        ///
        /// Further hosts are tried if the first cannot be reached. The options are those of oslo.messaging. Percent-encode
        /// special characters of a password: `%40` for `@`, `%2F` for `/`.
        pub transport_url: String = DEFAULT_TRANSPORT_URL.into(), "URL", secret = true;
        /// Name of this scheduler. Its decision ids start with it. Empty means the host name of this machine.
        pub name: String = String::new(), "name";
        /// The policy file, which sets filters, weighers, aggregates, flavors and groups. It replaces `[filter_scheduler]`.
        /// Empty means no policy file.
        pub policy_file: String = String::new(), "path";
        section reports: ReportsConfig;
        section filter_scheduler: FilterSchedulerConfig;
        section reservations: ReservationsConfig;
        section rpc: RpcConfig;
        section authority: AuthorityConfig;
        section quotas: QuotasConfig;
        section nova: NovaConfig;
        section http: HttpConfig;
    }
}

settings! {
    /// How reports are received, and when a silent host counts as down.
    pub struct ReportsConfig {
        /// Time between reports of an agent. At start the scheduler waits at most this long for its map to fill.
        pub report_interval: Duration as "duration" = HostManagerOptions::default().report_interval;
        /// A host that has been silent for longer than this is down. It must exceed three report intervals.
        pub service_down_time: Duration as "duration" = HostManagerOptions::default().service_down_time;
        /// A host that has been silent for longer than this is removed from the map. It must exceed service_down_time.
        pub forget_after: Duration as "duration" = HostManagerOptions::default().forget_after;
        /// How long agents may take to report when all of them are asked to report at once.
        pub answer_window: Duration as "duration" = Duration::from_secs(2);
        /// How long the broker keeps a report that no scheduler has read.
        ///
        /// The data that a placement uses is never older than this time plus service_down_time.
        pub report_ttl: Duration as "duration" = Duration::from_secs(30);
        /// Maximum number of hosts. The report queue holds four messages per host.
        pub max_hosts: u32 = as_u32(HostManagerOptions::default().max_hosts), "hosts";
        /// How many new hosts each broker user may report within a minute. Reports of further ones are refused.
        ///
        /// It does not count while the map fills after a start.
        pub new_hosts_per_minute: u32 = HostManagerOptions::default().new_hosts_per_minute, "hosts";
    }
}

settings! {
    /// How hosts are chosen.
    pub struct FilterSchedulerConfig {
        /// Filters, in the order in which they run.
        pub enabled_filters: Vec<String> = FilterKind::DEFAULT.map(|kind| kind.name().to_owned()).to_vec(),
            "list of names";
        /// Weight of free memory. A positive weight spreads instances over hosts; a negative one packs them onto few hosts.
        pub ram_weight_multiplier: f64 = WeigherKind::Ram.default_multiplier(), "factor";
        /// Weight of free CPUs. A positive weight spreads instances over hosts; a negative one packs them onto few hosts.
        pub cpu_weight_multiplier: f64 = WeigherKind::Cpu.default_multiplier(), "factor";
        /// Weight of free disk. A positive weight spreads instances over hosts; a negative one packs them onto few hosts.
        pub disk_weight_multiplier: f64 = WeigherKind::Disk.default_multiplier(), "factor";
        /// The host is chosen at random among this many best hosts. 1 always takes the best.
        pub host_subset_size: u32 = as_u32(SchedulerOptions::default().host_subset_size), "hosts";
        /// Whether hosts with the same best weight are put in random order.
        pub shuffle_best_same_weighed_hosts: bool = SchedulerOptions::default().shuffle_best_same_weighed_hosts,
            "true or false";
        /// Availability zone of hosts that do not name one.
        pub default_availability_zone: String = SchedulerOptions::default().default_availability_zone, "name";
        /// Number of alternates per instance, unless the request asks for another number.
        pub alternates: u32 = SchedulerOptions::default().max_attempts - 1, "hosts";
    }
}

settings! {
    /// How long a decision holds room before a report confirms it.
    pub struct ReservationsConfig {
        /// How long a decision holds its CPUs, memory and disk, unless a report of its host confirms it earlier.
        pub reservation_ttl: Duration as "duration" = HostManagerOptions::default().reservation_ttl;
        /// The longest hold that a request may ask for.
        pub max_hold: Duration as "duration" = HostManagerOptions::default().max_hold;
    }
}

settings! {
    /// Messaging.
    pub struct RpcConfig {
        /// AMQP exchange of topic messages. It must be the same on the agents.
        pub control_exchange: String = DEFAULT_EXCHANGE.into(), "name";
        /// Topic on which schedulers take requests.
        ///
        /// Queues are named by the topic alone, so the schedulers of two fleets in one virtual host need two topics.
        pub scheduler_topic: String = SCHEDULER_TOPIC.into(), "name";
        /// Topic on which agents take commands. It must be the same on the agents.
        pub compute_topic: String = COMPUTE_TOPIC.into(), "name";
        /// Topic of the reports. They arrive through the fanout exchange NAME_fanout. It must be the same on the agents.
        pub report_topic: String = SCHEDULER_TOPIC.into(), "name";
        /// Maximum number of requests that are handled at once. Questions do not count: 64 of them may wait or be answered.
        pub concurrency: u32 = 64, "requests";
        /// Maximum number of reports that are applied and acknowledged together.
        pub report_batch: u16 = 512, "reports";
        /// How long the broker may take to confirm a message to agents or to other schedulers.
        pub publish_timeout: Duration as "duration" = Duration::from_secs(5);
    }
}

impl RpcConfig {
    /// The names on the broker.
    pub(crate) fn names(&self) -> Names {
        Names {
            control_exchange: self.control_exchange.clone(),
            scheduler_topic: self.scheduler_topic.clone(),
            compute_topic: self.compute_topic.clone(),
            report_topic: self.report_topic.clone(),
        }
    }
}

settings! {
    /// Which broker users may ask this scheduler for what.
    pub struct AuthorityConfig {
        /// Broker users that may report hosts and services. Empty means any user.
        ///
        /// In this section, `agent-*` means all users whose names start with `agent-`, and `anonymous` means senders without
        /// a user, as all of oslo.messaging. The call of a user who is not listed is answered with `Forbidden`, and a cast is
        /// dropped. Both are counted. The users of this scheduler's own transport_url are always among the schedulers.
        pub report: Vec<String> = Vec::new(), "list of names", example = r#"["agent"]"#;
        /// The broker user of each host, with `{host}` in place of the name of the host. Empty means that a host belongs to
        /// the user who first reported it.
        ///
        /// Reports of other users are refused, counted and shown. `novella host forget` settles to whom a host belongs if
        /// its user has changed.
        pub host_user: String = String::new(), "name with {host}", example = r#""agent-{host}""#;
        /// Broker users that may place instances, and release what they placed themselves. Empty means any user.
        pub place: Vec<String> = Vec::new(), "list of names", example = r#"["operator"]"#;
        /// Broker users that may ask questions, such as for hosts, decisions and snapshots. Empty means any user.
        pub read: Vec<String> = Vec::new(), "list of names", example = r#"["operator"]"#;
        /// Broker users that may reload the policy and make schedulers forget hosts. Those who may also place may release what others placed. Empty means
        /// any user.
        pub administer: Vec<String> = Vec::new(), "list of names", example = r#"["scheduler"]"#;
        /// Broker users of the schedulers, which tell each other what they reserved. They may also read. Empty means any
        /// user.
        pub schedulers: Vec<String> = Vec::new(), "list of names", example = r#"["scheduler"]"#;
    }
}

impl AuthorityConfig {
    /// The lists, each with its class and its key.
    fn by_class(&self) -> [(MethodClass, &'static str, &[String]); MethodClass::ALL.len()] {
        [
            (MethodClass::Report, "authority.report", &self.report),
            (MethodClass::Place, "authority.place", &self.place),
            (MethodClass::Read, "authority.read", &self.read),
            (MethodClass::Administer, "authority.administer", &self.administer),
            (MethodClass::Peers, "authority.schedulers", &self.schedulers),
        ]
    }

    /// What the lists say.
    pub fn lists(&self) -> Authority {
        let by_class = self.by_class().into_iter();
        by_class.fold(Authority::default(), |all, (class, key, users)| all.list(class, key, users))
    }

    /// What the lists say, for a scheduler with these users. It sends messages to itself and to other schedulers, so it may
    /// always do that. Schedulers ask each other for signs of life, so all of them may read.
    pub(crate) fn for_scheduler(&self, own_users: &[String]) -> Authority {
        let lists = own_users.iter().fold(self.lists(), |all, user| all.allow(MethodClass::Peers, user));
        let schedulers = own_users.iter().chain(&self.schedulers);
        schedulers.fold(lists, |all, user| all.allow(MethodClass::Read, user))
    }
}

settings! {
    /// How much one broker user, and one project, may hold and ask for.
    pub struct QuotasConfig {
        /// Number of instances that may be held for one broker user at a time.
        ///
        /// What is held counts in this section from the decision until a report lists the instance, or until the hold is
        /// released or runs out. A request that would exceed a limit is answered with `QuotaExceeded`. 0 means no limit.
        /// Senders without a user are the user `anonymous`.
        pub user_instances: u32 = 50_000, "instances";
        /// Number of CPUs that may be held for one broker user at a time. 0 means no limit.
        pub user_vcpus: u64 = 500_000, "CPUs";
        /// Memory that may be held for one broker user at a time. 0 means no limit.
        pub user_memory_gb: u64 = 2_000_000, "GiB";
        /// Disk that may be held for one broker user at a time. 0 means no limit.
        pub user_disk_gb: u64 = 10_000_000, "GiB";
        /// Number of placements and releases that one broker user may ask for in a second, on average over two seconds. 0 means no
        /// limit.
        pub user_requests_per_s: u32 = 5_000, "requests per second";
        /// Number of instances that may be held for one project at a time. 0 means no limit.
        pub project_instances: u32 = 50_000, "instances";
        /// Number of CPUs that may be held for one project at a time. 0 means no limit.
        pub project_vcpus: u64 = 500_000, "CPUs";
        /// Memory that may be held for one project at a time. 0 means no limit.
        pub project_memory_gb: u64 = 2_000_000, "GiB";
        /// Disk that may be held for one project at a time. 0 means no limit.
        pub project_disk_gb: u64 = 10_000_000, "GiB";
        /// Number of placements that may be asked for one project in a second, on average over two seconds. 0 means no limit.
        pub project_requests_per_s: u32 = 5_000, "requests per second";
    }
}

impl QuotasConfig {
    /// How much may be held for a broker user, and for a project.
    pub(crate) fn held(&self) -> [Quota; 2] {
        let quota = |instances: u32, vcpus: u64, memory_gb: u64, disk_gb: u64| {
            let limit = |limit: u64| if limit == 0 { u64::MAX } else { limit };
            Quota {
                most: Amounts {
                    instances: if instances == 0 { u32::MAX } else { instances },
                    vcpus: limit(vcpus),
                    memory_mb: limit(memory_gb.saturating_mul(MB_PER_GB)),
                    disk_gb: limit(disk_gb),
                },
            }
        };
        [
            quota(self.user_instances, self.user_vcpus, self.user_memory_gb, self.user_disk_gb),
            quota(self.project_instances, self.project_vcpus, self.project_memory_gb, self.project_disk_gb),
        ]
    }

    /// How many requests a second a broker user and a project may make.
    pub(crate) fn requests(&self) -> RequestQuotas {
        RequestQuotas { user: self.user_requests_per_s, project: self.project_requests_per_s }
    }
}

settings! {
    /// Nova's own scheduler API.
    pub struct NovaConfig {
        /// Whether calls of select_destinations 4.3 to 4.5 by Nova's conductors are answered.
        ///
        /// They are answered on rpc.scheduler_topic of rpc.control_exchange, like novella's own methods.
        pub serve: bool = false, "true or false";
        /// Cell that is reported to Nova for every host. Empty means 00000000-0000-0000-0000-000000000000.
        pub cell_uuid: String = String::new(), "UUID";
    }
}

impl NovaConfig {
    /// The cell. [`Settings::validate`] refuses text that is not a UUID, so it is never seen here.
    pub(crate) fn cell(&self) -> Uuid {
        self.cell_uuid.parse().unwrap_or_default()
    }
}

settings! {
    /// Health and metrics.
    pub struct HttpConfig {
        /// Address of `/livez`, `/readyz` and `/metrics`. `none` switches them off.
        pub listen: String = "127.0.0.1:9780".into(), "address";
    }
}

/// A default of the engine in the type of the setting. It always fits.
fn as_u32(default: usize) -> u32 {
    u32::try_from(default).expect("a default fits into 32 bits")
}

impl Settings for SchedulerConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        self.check_times(&mut problems);
        self.check_engine(&mut problems);
        problems
    }

    fn check_files(&self) -> CheckedFiles {
        match self.policy_file.as_str() {
            "" => CheckedFiles::default(),
            file => policy_file::check(Path::new(file)),
        }
    }
}

impl FilterSchedulerConfig {
    /// The engine's options. Unknown names are left out, because [`Settings::validate`] has refused them already.
    pub(crate) fn options(&self) -> SchedulerOptions {
        let multiplier = |kind: WeigherKind| match kind {
            WeigherKind::Ram => self.ram_weight_multiplier,
            WeigherKind::Cpu => self.cpu_weight_multiplier,
            WeigherKind::Disk => self.disk_weight_multiplier,
            other => other.default_multiplier(),
        };
        SchedulerOptions {
            enabled_filters: self.enabled_filters.iter().filter_map(|name| name.parse().ok()).collect(),
            weighers: WeigherKind::DEFAULT.map(|kind| (kind, multiplier(kind))).to_vec(),
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
        for (_, key, users) in self.authority.by_class() {
            check_users(key, users, problems);
        }
        let rule = &self.authority.host_user;
        if !rule.is_empty() && rule.matches(novella_host_manager::HOST_IN_RULE).count() != 1 {
            let what = format!("{rule:?} does not name the host once");
            problems.push(Problem::new(&["authority.host_user"], what, "write for example agent-{host}"));
        }
        let cell = &self.nova.cell_uuid;
        if !cell.is_empty() && Uuid::try_parse(cell).is_err() {
            let fix = "copy it from `nova-manage cell_v2 list_cells`";
            problems.push(Problem::new(&["nova.cell_uuid"], format!("{cell:?} is not a UUID"), fix));
        }
        check_listen("http.listen", &self.http.listen, &HttpConfig::default().listen, problems);
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
        let pairs = [
            (
                reports.service_down_time <= reports.report_interval.saturating_mul(3),
                ["reports.service_down_time", "reports.report_interval"],
                "service_down_time must exceed three report intervals, so that a lost report does not make a host look down",
                "raise service_down_time, or lower the report interval here and on every agent",
            ),
            (
                reports.forget_after <= reports.service_down_time,
                ["reports.forget_after", "reports.service_down_time"],
                "a host would be removed from the map before it is down",
                "raise forget_after above service_down_time",
            ),
            (
                reports.answer_window >= reports.report_interval,
                ["reports.answer_window", "reports.report_interval"],
                "the answer window must be shorter than the time between two reports",
                "lower answer_window, or raise report_interval",
            ),
            (
                self.reservations.max_hold < self.reservations.reservation_ttl,
                ["reservations.max_hold", "reservations.reservation_ttl"],
                "the default hold is longer than the longest hold that is allowed",
                "raise max_hold to at least reservation_ttl",
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
            let what = "the policy is set twice: the file replaces the section [filter_scheduler]";
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
                let what = format!(
                    "a multiplier must be 0, or have an absolute value from {MIN_MULTIPLIER} to {MAX_MULTIPLIER}"
                );
                problems.push(Problem::new(&[key], what, "1.0 is usual"));
            }
        }
        if engine.alternates > MAX_ALTERNATES {
            let what = format!("at most {MAX_ALTERNATES} alternates are allowed");
            problems.push(Problem::new(&["filter_scheduler.alternates"], what, "2 is usual"));
        }
        for (key, value) in [
            ("filter_scheduler.host_subset_size", u64::from(engine.host_subset_size)),
            ("reports.max_hosts", u64::from(self.reports.max_hosts)),
            ("reports.new_hosts_per_minute", u64::from(self.reports.new_hosts_per_minute)),
            ("rpc.concurrency", u64::from(self.rpc.concurrency)),
            ("rpc.report_batch", u64::from(self.rpc.report_batch)),
        ] {
            if value == 0 {
                problems.push(Problem::new(
                    &[key],
                    "must be at least 1",
                    "the default is in `config explain`",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_without_settings_decides_by_the_engines_defaults() {
        assert_eq!(FilterSchedulerConfig::default().options(), SchedulerOptions::default());
    }

    #[test]
    fn a_multiplier_replaces_the_one_of_its_weigher_only() {
        let config =
            FilterSchedulerConfig { disk_weight_multiplier: -2.5, ..FilterSchedulerConfig::default() };
        let mut wanted = SchedulerOptions::default();
        let disk = wanted.weighers.iter_mut().find(|(kind, _)| *kind == WeigherKind::Disk);
        disk.expect("Nova weighs disk").1 = -2.5;
        assert_eq!(config.options(), wanted);
    }
}
