//! What really is: who runs, who is connected since when, and what was given away to whose knowledge.
//!
//! Where the bus leaves it open who heard what, the model keeps both bounds: what a scheduler certainly knows, and what
//! it may know at most.

use std::collections::BTreeMap;
use std::time::Duration;

use novella_compute_agent::AgentConfig;
use novella_objects::{Flavor, SelectDestinations};
use novella_scheduler::SchedulerConfig;
use uuid::Uuid;

use crate::cluster::Size;

/// The longest hold that the simulation asks for; shorter than any host is remembered.
pub const MAX_HOLD: Duration = Duration::from_secs(60);
/// A message that was sent so long ago has arrived, unless its receiver was not connected.
const ARRIVED: Duration = Duration::from_secs(1);
/// The map's own clock ticks once a second; messages take a moment.
const TICK: Duration = Duration::from_secs(2);
/// Whoever has been connected for so long has heard of everybody else who has, and is heard of. Covers a scheduler's
/// start and an agent's answer.
const SETTLED: Duration = Duration::from_secs(15);
/// How long hosts that were lost together stay candidates.
const SUSPECT_LIMIT: Duration = Duration::from_secs(300);

/// What instances take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amounts {
    pub vcpus: u64,
    pub memory_mb: u64,
    pub disk_gb: u64,
}

impl Amounts {
    pub fn of(flavor: &Flavor) -> Self {
        Self { vcpus: flavor.vcpus.into(), memory_mb: flavor.memory_mb, disk_gb: flavor.root_gb }
    }

    pub fn at_least(&self, other: &Self) -> bool {
        self.vcpus >= other.vcpus && self.memory_mb >= other.memory_mb && self.disk_gb >= other.disk_gb
    }

    fn add(&mut self, other: &Self) {
        self.vcpus += other.vcpus;
        self.memory_mb += other.memory_mb;
        self.disk_gb += other.disk_gb;
    }
}

/// A host as it is.
#[derive(Debug)]
pub struct HostModel {
    pub size: Size,
    pub disabled: bool,
    pub running: bool,
    pub connected: Option<Duration>,
    /// When it could last be heard.
    last_heard: Duration,
    /// Schedulers (with their start) that certainly heard its goodbye.
    goodbye_heard: Vec<(String, Duration)>,
}

impl HostModel {
    pub fn start(&mut self, now: Duration) {
        (self.running, self.connected) = (true, Some(now));
        self.goodbye_heard.clear();
    }

    pub fn disconnect(&mut self, now: Duration) {
        if self.connected.take().is_some() {
            self.last_heard = now;
        }
    }
}

/// A scheduler as it is.
#[derive(Debug)]
pub struct SchedulerModel {
    pub started: Duration,
    connected: Option<Duration>,
    cut_at: Duration,
    /// All that it was without a broker, and the end of the last time.
    outages: Vec<(Duration, Duration)>,
}

impl SchedulerModel {
    pub fn disconnect(&mut self, now: Duration) {
        if self.connected.take().is_some() {
            self.cut_at = now;
        }
    }

    pub fn connect(&mut self, now: Duration) {
        self.connected = Some(now);
        self.outages.push((self.cut_at, now));
    }

    fn outage_since(&self, since: Duration, now: Duration) -> Duration {
        let open = self.connected.is_none().then_some((self.cut_at, now));
        self.outages.iter().chain(&open).map(|(from, to)| to.saturating_sub((*from).max(since))).sum()
    }
}

/// One instance's reservation.
#[derive(Debug, Clone)]
pub struct Held {
    pub decision_id: String,
    pub by: String,
    /// Schedulers, with their start, that heard of it.
    pub told: Vec<(String, Duration)>,
    pub host: String,
    pub amounts: Amounts,
    pub decided: Duration,
    pub expires: Duration,
    /// Until when its host may list it. A host that starts again goes on with the holds that it had written.
    pub host_until: Duration,
    /// Whether its host certainly heard of the release.
    pub host_heard_release: bool,
    /// When, and who heard of it.
    pub released: Option<(Duration, Vec<(String, Duration)>)>,
    pub request: SelectDestinations,
}

impl Held {
    /// Whether a scheduler certainly counts it now.
    pub fn surely_known(&self, model: &Model, scheduler: &str, now: Duration) -> bool {
        let Some(known) = model.schedulers.get(scheduler) else { return false };
        let told = self.told.contains(&(scheduler.to_owned(), known.started));
        let arrived = self.by == scheduler || now >= self.decided + ARRIVED;
        told && arrived && self.released.is_none() && now + TICK < self.expires
    }

    /// Whether a scheduler may count it now.
    fn maybe_known(&self, model: &Model, scheduler: &str, now: Duration) -> bool {
        let Some(known) = model.schedulers.get(scheduler) else { return false };
        let surely_let_go = self.released.as_ref().is_some_and(|(at, heard)| {
            heard.contains(&(scheduler.to_owned(), known.started)) && now >= *at + ARRIVED
        });
        // A host that did not hear of the release lists the hold again.
        let gone = surely_let_go && self.host_heard_release;
        !gone && now < self.expires.max(self.host_until) + TICK
    }
}

/// See the module.
pub struct Model {
    pub hosts: BTreeMap<String, HostModel>,
    pub schedulers: BTreeMap<String, SchedulerModel>,
    pub held: BTreeMap<Uuid, Held>,
    pub reserved: Amounts,
    ratios: (f64, f64, f64),
    down_time: Duration,
}

impl Model {
    pub fn new(agents: &AgentConfig, schedulers: &SchedulerConfig) -> Self {
        let (reserved, ratio) = (&agents.reserved, &agents.allocation_ratio);
        Self {
            hosts: BTreeMap::new(),
            schedulers: BTreeMap::new(),
            held: BTreeMap::new(),
            reserved: Amounts {
                vcpus: reserved.vcpus.into(),
                memory_mb: reserved.memory_mb,
                disk_gb: reserved.disk_gb,
            },
            ratios: (ratio.cpu, ratio.ram, ratio.disk),
            down_time: schedulers.reports.service_down_time,
        }
    }

    // Who is there.

    pub fn join(&mut self, name: &str, size: Size, disabled: bool, now: Duration) {
        let host = HostModel {
            size,
            disabled,
            running: false,
            connected: None,
            last_heard: now,
            goodbye_heard: Vec::new(),
        };
        self.hosts.insert(name.to_owned(), host);
    }

    pub fn host(&mut self, name: &str) -> &mut HostModel {
        self.hosts.get_mut(name).expect("a host of the model")
    }

    pub fn hosts_that(&self, fits: impl Fn(&HostModel) -> bool) -> Vec<String> {
        self.hosts.iter().filter(|(_, host)| fits(host)).map(|(name, _)| name.clone()).collect()
    }

    /// A host's process ends, with a goodbye if it could still be said.
    pub fn lose(&mut self, name: &str, goodbye: bool, now: Duration) {
        let heard =
            if goodbye && self.hosts[name].connected.is_some() { self.who_listens() } else { Vec::new() };
        let host = self.host(name);
        host.disconnect(now);
        host.running = false;
        host.goodbye_heard = heard;
    }

    pub fn start_scheduler(&mut self, name: &str, now: Duration) {
        let new = SchedulerModel { started: now, connected: Some(now), cut_at: now, outages: Vec::new() };
        self.schedulers.insert(name.to_owned(), new);
    }

    pub fn scheduler(&mut self, name: &str) -> &mut SchedulerModel {
        self.schedulers.get_mut(name).expect("a scheduler of the model")
    }

    pub fn running_schedulers(&self) -> Vec<String> {
        self.schedulers.keys().cloned().collect()
    }

    pub fn absent_schedulers(&self) -> Vec<String> {
        ["s1", "s2"]
            .map(str::to_owned)
            .into_iter()
            .filter(|name| !self.schedulers.contains_key(name))
            .collect()
    }

    pub fn connected_schedulers(&self) -> Vec<String> {
        self.schedulers.iter().filter(|(_, s)| s.connected.is_some()).map(|(name, _)| name.clone()).collect()
    }

    pub fn cut_schedulers(&self) -> Vec<String> {
        self.schedulers.iter().filter(|(_, s)| s.connected.is_none()).map(|(name, _)| name.clone()).collect()
    }

    /// Schedulers that certainly take requests.
    pub fn settled_schedulers(&self, now: Duration) -> Vec<String> {
        let settled = |s: &SchedulerModel| s.connected.is_some_and(|since| since + SETTLED <= now);
        self.schedulers.iter().filter(|(_, s)| settled(s)).map(|(name, _)| name.clone()).collect()
    }

    /// Who hears what is said now.
    fn who_listens(&self) -> Vec<(String, Duration)> {
        let connected = self.schedulers.iter().filter(|(_, s)| s.connected.is_some());
        connected.map(|(name, s)| (name.clone(), s.started)).collect()
    }

    /// Who hears what this scheduler says now; itself in any case.
    pub fn who_hears(&self, by: &str) -> Vec<(String, Duration)> {
        let speaker = &self.schedulers[by];
        if speaker.connected.is_some() { self.who_listens() } else { vec![(by.to_owned(), speaker.started)] }
    }

    // What was given away.

    pub fn release(&mut self, decision_id: &str, heard: &[(String, Duration)], now: Duration) {
        for held in self.held.values_mut().filter(|held| held.decision_id == decision_id) {
            held.released.get_or_insert_with(|| (now, heard.to_vec()));
            held.host_heard_release |= self.hosts[&held.host].connected.is_some();
        }
    }

    /// A host that was away since `lost` starts again, with the whole time of the holds that it had. What ended a moment before,
    /// by itself or by a release, may still have been on its disk.
    pub fn holds_go_on(&mut self, host: &str, lost: Duration, now: Duration) {
        for held in self.held.values_mut().filter(|held| held.host == host && held.host_until + TICK > lost) {
            if held.host_heard_release {
                let written = held.released.as_ref().is_some_and(|(at, _)| *at + ARRIVED < lost);
                if written {
                    continue;
                }
                held.host_heard_release = false;
            }
            held.host_until = now + (held.expires - held.decided);
        }
    }

    /// When a host could last be heard.
    pub fn last_heard(&self, host: &str) -> Duration {
        self.hosts[host].last_heard
    }

    pub fn forget_ended(&mut self, now: Duration) {
        let Self { hosts, held, .. } = self;
        held.retain(|_, held| {
            // A host that is away has its holds on its disk.
            let host = &hosts[&held.host];
            let waits = !host.running && held.host_until + TICK > host.last_heard;
            waits || now < held.expires.max(held.host_until) + TICK
        });
    }

    /// The least and the most that a scheduler may count as used on a host.
    pub fn used(&self, host: &str, scheduler: &str, now: Duration) -> (Amounts, Amounts) {
        let (mut least, mut most) = (self.reserved, self.reserved);
        for held in self.held.values().filter(|held| held.host == host) {
            if held.surely_known(self, scheduler, now) {
                least.add(&held.amounts);
            }
            if held.maybe_known(self, scheduler, now) {
                most.add(&held.amounts);
            }
        }
        (least, most)
    }

    fn limits(&self, host: &HostModel) -> (f64, f64, f64) {
        let (cpu, ram, disk) = self.ratios;
        let Size { vcpus, memory_mb, disk_gb } = host.size;
        (f64::from(vcpus) * cpu, memory_mb as f64 * ram, disk_gb as f64 * disk)
    }

    /// What a scheduler has certainly given away of a host must be there.
    pub fn within_limits(&self, host: &str, scheduler: &str, now: Duration) -> Result<(), String> {
        let (used, _) = self.used(host, scheduler, now);
        let limits = self.limits(&self.hosts[host]);
        let fits = used.vcpus as f64 <= limits.0
            && used.memory_mb as f64 <= limits.1
            && used.disk_gb as f64 <= limits.2;
        if fits { Ok(()) } else { Err(format!("{used:?} of {limits:?}")) }
    }

    // What an answer may be.

    /// Why a host must not be chosen by a scheduler, if it must not.
    pub fn may_be_chosen(&self, name: &str, by: &str, now: Duration) -> Result<(), String> {
        let Some(host) = self.hosts.get(name) else { return Err("there is no such host".into()) };
        let scheduler = &self.schedulers[by];
        if host.disabled {
            return Err("it is disabled".into());
        }
        let heard = host.goodbye_heard.contains(&(by.to_owned(), scheduler.started));
        if !host.running && heard && now >= host.last_heard + ARRIVED {
            return Err(format!("it said goodbye at {:?}", host.last_heard));
        }
        if host.connected.is_none() {
            let outage = scheduler.outage_since(host.last_heard, now);
            let allowed = 2 * self.down_time + SUSPECT_LIMIT + outage + TICK;
            if now > host.last_heard + allowed {
                return Err(format!(
                    "it was last heard at {:?}, and {allowed:?} is allowed",
                    host.last_heard
                ));
            }
        }
        Ok(())
    }

    /// How many instances certainly fit, counting only hosts that the scheduler certainly knows to be up, and on them
    /// everything that may be given away.
    pub fn slots(&self, by: &str, needs: &Amounts, ignored: &[String], now: Duration) -> u64 {
        let settled = |since: Option<Duration>| since.is_some_and(|since| since + SETTLED <= now);
        if !settled(self.schedulers[by].connected) {
            return 0;
        }
        let candidates = self.hosts.iter().filter(|(name, host)| {
            // As in Nova, no instance is larger than the host: overcommit is among instances.
            let small = needs.vcpus <= host.size.vcpus.into() && needs.memory_mb <= host.size.memory_mb;
            small && host.running && !host.disabled && settled(host.connected) && !ignored.contains(name)
        });
        // On a host that two schedulers overfilled nothing fits, however small.
        let fit = |free: f64, need: u64| match need {
            _ if free < 0.0 => 0,
            0 => u64::MAX,
            need => (free / need as f64) as u64,
        };
        candidates
            .map(|(name, host)| {
                let (_, used) = self.used(name, by, now);
                let (cpu, ram, disk) = self.limits(host);
                fit(cpu - used.vcpus as f64, needs.vcpus)
                    .min(fit(ram - used.memory_mb as f64, needs.memory_mb))
                    .min(fit(disk - used.disk_gb as f64, needs.disk_gb))
            })
            .sum()
    }
}
