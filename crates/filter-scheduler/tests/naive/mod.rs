//! The scheduler's rules, written as simply as possible. This is slow on purpose.

pub mod devices;
pub mod explained;
pub mod numa;
pub mod pinning;
pub mod placement;
pub mod policy;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use novella_filter_scheduler::{
    Aggregate, FilterKind, OnFilterError, Resources, SchedulerOptions, Terms, WeigherKind,
};
use novella_objects::document::{NumaTopology, PciPool};
use novella_objects::{HostStatus, Inventory, RequestSpec};
use pinning::has_pcpus;
use policy::{GroupState, smallest};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub struct Host {
    pub name: String,
    /// What it reported. In the amounts that are used, also what was placed since.
    pub resources: Resources,
    pub status: HostStatus,
    pub zone: Option<String>,
    /// The `arch` in `cpu_info`.
    pub arch: Option<String>,
    /// The value of a fact.
    pub rack: Option<u64>,
    /// The ids of its aggregates.
    pub aggregates: BTreeSet<u32>,
    pub instances: BTreeSet<Uuid>,
    /// The flavors of the instances, if they are known.
    pub instance_flavors: Vec<String>,
    /// The properties of the instances' images.
    pub instance_images: Vec<Vec<(String, String)>>,
    /// The instances placed here since the report.
    pub placed: u32,
    pub hypervisor_version: i64,
    pub numa: Option<NumaTopology>,
    pub pools: Vec<PciPool>,
    /// How many of the placed instances did not get their cells or devices.
    pub not_building: u32,
    /// Whether something placed here asked for cells or devices.
    pub took_devices: bool,
    pub cell: Option<String>,
    pub ip: Option<String>,
    pub supported: Option<Vec<[String; 3]>>,
    pub metrics: BTreeMap<String, i64>,
    pub traits: Vec<String>,
    /// For each class, the inventory, if there is one, and how much is used.
    pub inventories: BTreeMap<String, (Option<Inventory>, u64)>,
    /// Whether something placed here took of a class.
    pub took_classes: bool,
}

impl Host {
    /// A host of which nothing more is known.
    pub fn new(name: String, resources: Resources, status: HostStatus) -> Self {
        Self {
            name,
            resources,
            status,
            zone: None,
            arch: None,
            rack: None,
            aggregates: BTreeSet::new(),
            instances: BTreeSet::new(),
            instance_flavors: Vec::new(),
            instance_images: Vec::new(),
            placed: 0,
            hypervisor_version: 0,
            numa: None,
            pools: Vec::new(),
            not_building: 0,
            took_devices: false,
            cell: None,
            ip: None,
            supported: None,
            metrics: BTreeMap::new(),
            traits: Vec::new(),
            inventories: BTreeMap::new(),
            took_classes: false,
        }
    }

    pub fn num_instances(&self) -> i64 {
        i64::from(self.resources.num_instances + self.placed)
    }

    pub fn io_ops(&self) -> i64 {
        i64::from(self.resources.num_io_ops + self.placed - self.not_building)
    }
}

/// The tally of a filter: name, hosts in, hosts out, and the nearest miss (host, wanted, available).
pub type Tally = (String, u32, u32, Option<(String, f64, f64)>);

#[derive(Debug)]
pub enum Outcome {
    Placed {
        picks: Vec<(String, f64)>,
        alternates: Vec<String>,
        tallies: Vec<Tally>,
        ranking: Vec<(String, f64)>,
    },
    Failed {
        placeable: u32,
        tallies: Vec<Tally>,
    },
    Error {
        filter: FilterKind,
    },
}

/// The filters that run for each instance of a request, besides those of [`ROOM`].
const REPEATED: [FilterKind; 12] = [
    FilterKind::NumaTopology,
    FilterKind::PciPassthrough,
    FilterKind::ServerGroupAffinity,
    FilterKind::ServerGroupAntiAffinity,
    FilterKind::IoOps,
    FilterKind::AggregateIoOps,
    FilterKind::NumInstances,
    FilterKind::AggregateNumInstances,
    FilterKind::Json,
    FilterKind::Metrics,
    FilterKind::Retry,
    FilterKind::TypeAffinity,
];

/// The filters for what Nova leaves to Placement.
const ROOM: [FilterKind; 6] = [
    FilterKind::Ram,
    FilterKind::Core,
    FilterKind::Disk,
    FilterKind::AggregateRam,
    FilterKind::AggregateCore,
    FilterKind::AggregateDisk,
];

pub struct Naive<'a> {
    pub options: &'a SchedulerOptions,
    pub request: &'a RequestSpec,
    pub instances: &'a [Uuid],
    pub terms: &'a Terms,
    pub aggregates: &'a [Aggregate],
    /// The cells that the instance asks for, in the state that earlier instances left.
    pub guest: RefCell<Option<numa::Guest>>,
}

/// The verdict of a filter about one host. A refusal has the number that was found instead, if it is about a number.
enum Verdict {
    Pass,
    Reject(Option<(f64, f64)>),
    Error,
}

fn plain(pass: bool) -> Verdict {
    if pass { Verdict::Pass } else { Verdict::Reject(None) }
}

/// Keeps the hosts that pass. Returns the tally, and whether some host could not be decided about.
fn keep(
    name: String,
    hosts: &[Host],
    list: &mut Vec<usize>,
    verdict: impl Fn(&Host) -> Verdict,
) -> (Tally, bool) {
    let hosts_in = list.len() as u32;
    let mut nearest: Option<(usize, f64, f64)> = None;
    let mut undecided = false;
    list.retain(|&at| match verdict(&hosts[at]) {
        Verdict::Pass => true,
        Verdict::Reject(None) => false,
        Verdict::Reject(Some((wanted, available))) => {
            let better =
                |(near, _, room): (usize, f64, f64)| available > room || (available == room && at < near);
            if nearest.is_none_or(better) {
                nearest = Some((at, wanted, available));
            }
            false
        }
        Verdict::Error => {
            undecided = true;
            false
        }
    });
    let miss = nearest.map(|(at, wanted, available)| (hosts[at].name.clone(), wanted, available));
    ((name, hosts_in, list.len() as u32, miss), undecided)
}

impl Naive<'_> {
    pub fn select(&self, hosts: &mut [Host]) -> Outcome {
        let mut rng = ChaCha8Rng::seed_from_u64(self.terms.seed);
        let Some(mut list) = self.narrow(hosts) else {
            return Outcome::Failed { placeable: 0, tallies: Vec::new() };
        };
        let count = self.instances.len();
        let mut group = self.request.instance_group.as_ref().map(|group| GroupState {
            policy: group.policy.clone(),
            members: group.members.iter().copied().collect(),
            hosts: group.hosts.iter().cloned().collect(),
            most: group.rules.get("max_server_per_host").map_or(1, |text| text.parse().unwrap()),
        });
        let before = hosts.to_vec();
        let mut picks: Vec<(usize, f64)> = Vec::new();
        *self.guest.borrow_mut() = numa::Guest::of(self.request);
        let (mut tallies, mut ranking) = (Vec::new(), Vec::new());
        for index in 0..count {
            let Some((candidates, asked)) = self.placement(hosts, &list, index) else {
                return Outcome::Failed { placeable: 0, tallies: Vec::new() };
            };
            // Of a later instance, too, it is told what became of every host.
            let told = |tallies| {
                if index > 0 { self.of_all(hosts, &before, index, group.as_ref()) } else { tallies }
            };
            if !asked.is_empty() && candidates.is_empty() {
                return Outcome::Failed { placeable: index as u32, tallies: told(asked) };
            }
            let ran =
                self.filter((hosts, hosts), &candidates, index > 0, group.as_ref(), self.instances[index]);
            let (filtered, ran) = match ran {
                Ok(filtered) => filtered,
                Err(filter) => return Outcome::Error { filter },
            };
            list = filtered;
            if list.is_empty() || index + 1 == count {
                tallies = told([asked, ran].concat());
            }
            if list.is_empty() {
                return Outcome::Failed { placeable: index as u32, tallies };
            }
            let weighed = self.sort(hosts, &list, group.as_ref(), &mut rng);
            list = weighed.iter().map(|(host, _)| *host).collect();
            let named = |(host, weight): &(usize, f64)| (hosts[*host].name.clone(), *weight);
            ranking = weighed.iter().take(1 + self.options.runners_up).map(named).collect();
            let (host, weight) = weighed[0];
            picks.push((host, weight));
            let sizes = placement::sizes(self.request, &hosts[host]);
            hosts[host].resources.vcpus_used += sizes.vcpus.unwrap_or(0);
            hosts[host].resources.memory_mb_used += sizes.memory_mb.unwrap_or(0);
            hosts[host].resources.disk_gb_used += sizes.disk_gb_taken;
            hosts[host].placed += 1;
            for (class, amount) in sizes.classes {
                hosts[host].inventories.entry(class).or_default().1 += amount;
                hosts[host].took_classes = true;
            }
            hosts[host].took_devices |=
                self.guest.borrow().is_some() || !self.request.pci_requests.is_empty();
            hosts[host].not_building += u32::from(self.take_devices(&mut hosts[host]).is_err());
            if let Some(group) = &mut group {
                group.hosts.insert(hosts[host].name.clone());
                hosts[host].instances.insert(self.instances[index]);
            }
        }
        let wanted = self.terms.alternates.unwrap_or(self.options.max_attempts - 1) as usize;
        if count > 1 && wanted > 0 {
            if let Some((candidates, _)) = self.placement(hosts, &list, count - 1) {
                list = candidates;
            }
            list = match self.filter((hosts, hosts), &list, true, group.as_ref(), self.instances[count - 1]) {
                Ok((filtered, _)) => filtered,
                Err(filter) => return Outcome::Error { filter },
            };
            if !list.is_empty() {
                let weighed = self.sort(hosts, &list, group.as_ref(), &mut rng);
                list = weighed.into_iter().map(|(host, _)| host).collect();
            }
        }
        let others = list.into_iter().filter(|host| !picks.iter().any(|(picked, _)| picked == host));
        Outcome::Placed {
            alternates: others.take(wanted).map(|host| hosts[host].name.clone()).collect(),
            picks: picks.iter().map(|(host, weight)| (hosts[*host].name.clone(), *weight)).collect(),
            tallies,
            ranking,
        }
    }

    fn narrow(&self, hosts: &[Host]) -> Option<Vec<usize>> {
        let request = self.request;
        let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        if let Some(target) = &request.target_host
            && !hosts.iter().any(|h| h.name == *target)
        {
            return None;
        }
        let forced = |h: &Host| request.force_hosts.iter().any(|name| same(name, &h.name));
        if !request.force_hosts.is_empty() && !hosts.iter().any(forced) {
            return None;
        }
        let keep = |h: &Host| {
            request.target_host.as_ref().is_none_or(|target| h.name == *target)
                && !request.ignore_hosts.iter().any(|name| same(name, &h.name))
                && (request.force_hosts.is_empty() || forced(h))
        };
        Some((0..hosts.len()).filter(|&at| keep(&hosts[at])).collect())
    }

    /// What the filters say about every host when the instance at `index` is placed. `before` is the fleet before the
    /// request, which the filters that run once per request look at.
    fn of_all(
        &self,
        hosts: &[Host],
        before: &[Host],
        index: usize,
        group: Option<&GroupState>,
    ) -> Vec<Tally> {
        let list = self.narrow(hosts).expect("it was narrowed before");
        let (candidates, asked) = self.placement(hosts, &list, 0).expect("it was read before");
        if !asked.is_empty() && candidates.is_empty() {
            return asked;
        }
        let ran = self.filter((hosts, before), &candidates, false, group, self.instances[index]);
        [asked, ran.expect("the first instance was not undecided").1].concat()
    }

    fn filter(
        &self,
        (hosts, before): (&[Host], &[Host]),
        list: &[usize],
        again: bool,
        group: Option<&GroupState>,
        instance: Uuid,
    ) -> Result<(Vec<usize>, Vec<Tally>), FilterKind> {
        let mut list = list.to_vec();
        let mut tallies = Vec::new();
        let forced = self.is_forced();
        for &kind in &self.options.enabled_filters {
            // A forced host is asked only what Nova leaves to Placement.
            if forced && !(self.options.placement && ROOM.contains(&kind)) {
                continue;
            }
            let once = !REPEATED.contains(&kind) && !ROOM.contains(&kind);
            if again && once {
                continue;
            }
            let hosts = if once { before } else { hosts };
            let verdict = |host: &Host| self.verdict(kind, host, group, instance);
            let (tally, undecided) = keep(kind.name().to_owned(), hosts, &mut list, verdict);
            if undecided && self.options.on_filter_error == OnFilterError::FailRequest {
                return Err(kind);
            }
            tallies.push(tally);
            if list.is_empty() {
                break;
            }
        }
        Ok((list, tallies))
    }

    fn verdict(&self, kind: FilterKind, host: &Host, group: Option<&GroupState>, instance: Uuid) -> Verdict {
        let (sizes, has) = (placement::sizes(self.request, host), &host.resources);
        let ratio = |key: &str, own: f64| match kind {
            FilterKind::Ram | FilterKind::Core | FilterKind::Disk => own,
            _ => smallest(self.aggregates, host, key, own),
        };
        // The limit is total × ratio. Use counts against it, and one instance cannot be larger than the host.
        let fits = |total: f64, ratio: f64, used: f64, wanted: Option<u64>, unit: f64| {
            let Some(wanted) = wanted.map(|wanted| wanted as f64) else { return Verdict::Pass };
            if wanted <= total && total * ratio - used >= wanted {
                return Verdict::Pass;
            }
            let available = (total * ratio - used).floor().min(total);
            Verdict::Reject(Some((wanted / unit, available / unit)))
        };
        match kind {
            FilterKind::Compute => plain(matches!(host.status, HostStatus::Up | HostStatus::Suspect)),
            FilterKind::AvailabilityZone => {
                let zones = policy::zones(self.aggregates, host);
                let own = host.zone.as_ref().unwrap_or(&self.options.default_availability_zone);
                let is_in = |zone: &String| zones.as_ref().map_or(zone == own, |all| all.contains(&**zone));
                plain(self.request.availability_zone.as_ref().is_none_or(|z| z.is_empty() || is_in(z)))
            }
            FilterKind::Ram | FilterKind::AggregateRam => {
                let ratio = ratio("ram_allocation_ratio", has.ratios.ram);
                fits(has.memory_mb_total as f64, ratio, has.memory_mb_used as f64, sizes.memory_mb, 1.0)
            }
            // The host does not say how many it has.
            FilterKind::Core | FilterKind::AggregateCore if has.vcpus_total == 0 && !has_pcpus(host) => {
                Verdict::Pass
            }
            FilterKind::Core | FilterKind::AggregateCore => {
                let ratio = ratio("cpu_allocation_ratio", has.ratios.cpu);
                fits(has.vcpus_total as f64, ratio, has.vcpus_used as f64, sizes.vcpus, 1.0)
            }
            FilterKind::Disk | FilterKind::AggregateDisk => {
                let ratio = ratio("disk_allocation_ratio", has.ratios.disk);
                let (total, used) = ((has.disk_gb_total * 1024) as f64, (has.disk_gb_used * 1024) as f64);
                fits(total, ratio, used, sizes.disk_mb, 1024.0)
            }
            FilterKind::NumaTopology => self.numa_topology(host),
            FilterKind::PciPassthrough => {
                let requests = &self.request.pci_requests;
                let granted = numa::grant(&mut host.pools.clone(), requests, None, None);
                granted.map_or(Verdict::Error, plain)
            }
            FilterKind::ComputeCapabilities => self.capabilities(host),
            other => self.policy_verdict(other, host, group, instance),
        }
    }

    fn numa_topology(&self, host: &Host) -> Verdict {
        if self.request.image.is_none() && self.options.on_filter_error == OnFilterError::FailRequest {
            return Verdict::Error;
        }
        let says = |name: &str, word: &str| {
            let image = self.request.image.as_ref();
            let of_image = image.and_then(|image| image.properties.get(&format!("hw_{name}")));
            let of_flavor = self.request.flavor.extra_specs.get(&format!("hw:{name}"));
            of_image.is_some_and(|value| value == word) || of_flavor.is_some_and(|value| value == word)
        };
        let numa = host.numa.as_ref().filter(|topology| !topology.cells.is_empty());
        let threads = |numa: &NumaTopology| numa.cells.iter().flat_map(|c| &c.siblings).any(|s| s.len() > 1);
        if says("cpu_policy", "dedicated")
            && says("cpu_thread_policy", "require")
            && numa.is_some_and(|numa| !threads(numa))
        {
            return Verdict::Reject(None);
        }
        let Some(mut guest) = self.guest.borrow().clone() else { return Verdict::Pass };
        let Some(numa) = numa else { return Verdict::Reject(None) };
        let limits = self.numa_limits(host);
        let (requests, packing) = (&self.request.pci_requests, self.packing());
        let fits = numa::fit(numa, &host.pools, &mut guest, Some(&limits), requests, packing);
        fits.map_or(Verdict::Error, plain)
    }

    fn is_forced(&self) -> bool {
        let check = self.request.scheduler_hints.contains_key("_nova_check_type");
        !self.request.force_hosts.is_empty() && !check
    }

    fn packing(&self) -> bool {
        self.options.policy.packing_host_numa_cells_allocation_strategy
    }

    fn numa_limits(&self, host: &Host) -> numa::Limits<'_> {
        let network = self.request.network_metadata.as_ref();
        numa::Limits { cpu: host.resources.ratios.cpu, ram: host.resources.ratios.ram, network }
    }

    fn take_devices(&self, host: &mut Host) -> Result<(), numa::Raises> {
        let mut state = self.guest.borrow_mut();
        let (requests, packing) = (&self.request.pci_requests, self.packing());
        let filtered = !self.is_forced() && self.options.enabled_filters.contains(&FilterKind::NumaTopology);
        if let (Some(numa), Some(guest)) = (&host.numa, &mut *state)
            && !numa.cells.is_empty()
        {
            let limits = self.numa_limits(host);
            let limits = filtered.then_some(&limits);
            if !numa::fit(numa, &host.pools, guest, limits, requests, packing)? {
                *state = None;
            }
        }
        if let (Some(numa), Some(guest)) = (&mut host.numa, &*state)
            && !numa.cells.is_empty()
        {
            numa::take(numa, guest)?;
        }
        let ids: Option<Vec<u32>> =
            state.as_ref().map(|guest| guest.asked.cells.iter().map(|cell| cell.id).collect());
        let granted = numa::grant(&mut host.pools, requests, ids.as_deref(), host.numa.as_ref())?;
        if granted { Ok(()) } else { Err(numa::Raises) }
    }

    /// The few extra specs that requests of this test have.
    fn capabilities(&self, host: &Host) -> Verdict {
        for (key, requirement) in &self.request.flavor.extra_specs {
            let rack = host.rack.map(|rack| rack.to_string());
            let value = match key.as_str() {
                "aggregate_instance_extra_specs:tier" | "group_policy" => continue,
                // Nova's HostState has no attribute `vcpus`, and a method `update`.
                "vcpus" => continue,
                "update" => Some("<bound method HostState.update of".to_owned()),
                scoped
                    if ["resources", "trait", "hw:", "os:"].iter().any(|word| scoped.starts_with(word)) =>
                {
                    continue;
                }
                "rack" if rack.is_none() => continue,
                "rack" | "capabilities:rack" => rack,
                "capabilities:cpu_info:arch" => host.arch.clone(),
                other => panic!("the test does not generate {other}"),
            };
            let Some(value) = value else { return Verdict::Reject(None) };
            let number = || value.parse::<f64>().ok();
            let holds = match requirement.as_str() {
                "= 1" | ">= 1" => number().map(|n| n >= 1.0),
                "== 2" => number().map(|n| n == 2.0),
                "<in> 1" => Some(value.contains('1')),
                "s== aarch64" => Some(value == "aarch64"),
                "<or> x86_64 <or> aarch64" => Some(value == "x86_64" || value == "aarch64"),
                text => Some(value == text),
            };
            match holds {
                Some(true) => {}
                Some(false) => return Verdict::Reject(None),
                None => return Verdict::Error,
            }
        }
        Verdict::Pass
    }

    fn sort(
        &self,
        hosts: &[Host],
        list: &[usize],
        group: Option<&GroupState>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<(usize, f64)> {
        if let [only] = list {
            return vec![(*only, 0.0)];
        }
        let mut weights = vec![0.0; list.len()];
        for &(kind, configured) in &self.options.weighers {
            let sign = if kind == WeigherKind::BuildFailure { -1.0 } else { 1.0 };
            let own =
                |at: &usize| sign * smallest(self.aggregates, &hosts[*at], kind.multiplier_key(), configured);
            let multipliers: Vec<f64> = list.iter().map(own).collect();
            let minval =
                [WeigherKind::Ram, WeigherKind::Cpu, WeigherKind::Disk, WeigherKind::IoOps].contains(&kind);
            let raws: Vec<f64> = list
                .iter()
                .zip(&multipliers)
                .map(|(&at, multiplier)| {
                    let (host, has) = (&hosts[at], &hosts[at].resources);
                    let raw = match kind {
                        WeigherKind::Ram => has.memory_mb_total as f64 - has.memory_mb_used as f64,
                        WeigherKind::Cpu => has.vcpus_total as f64 * has.ratios.cpu - has.vcpus_used as f64,
                        WeigherKind::Disk => 1024.0 * (has.disk_gb_total as f64 - has.disk_gb_used as f64),
                        _ => self.policy_raw((kind, configured), host, group, *multiplier),
                    };
                    if minval { raw.max(0.0) } else { raw }
                })
                .collect();
            let max = raws.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let min = if minval { 0.0 } else { raws.iter().copied().fold(f64::INFINITY, f64::min) };
            for ((weight, raw), multiplier) in weights.iter_mut().zip(raws).zip(multipliers) {
                *weight += multiplier * if max == min { 0.0 } else { (raw - min) / (max - min) };
            }
        }
        self.put_suspects_last(hosts, list, &mut weights);
        let mut sorted: Vec<(usize, f64)> = list.iter().copied().zip(weights).collect();
        sorted.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no weight is NaN"));
        if self.options.shuffle_best_same_weighed_hosts {
            let equals = sorted.iter().take_while(|(_, weight)| *weight == sorted[0].1).count();
            sorted[..equals].shuffle(rng);
        }
        if self.options.host_subset_size > 1 || self.options.shuffle_best_same_weighed_hosts {
            let among = self.options.host_subset_size.min(sorted.len());
            let suspects = sorted[..among].iter().filter(|(at, _)| hosts[*at].status == HostStatus::Suspect);
            let others = among - suspects.count();
            let chosen = sorted.remove(rng.random_range(0..if others > 0 { others } else { among }));
            sorted.insert(0, chosen);
        }
        sorted
    }

    /// Takes from each suspect host more than all weighers can give it, if there are other hosts.
    fn put_suspects_last(&self, hosts: &[Host], list: &[usize], weights: &mut [f64]) {
        let suspect = |at: &usize| hosts[*at].status == HostStatus::Suspect;
        if list.iter().all(suspect) {
            return;
        }
        let mut most = 0.0;
        for &(kind, configured) in &self.options.weighers {
            let told = self.aggregates.iter().filter_map(|a| a.metadata.get(kind.multiplier_key()));
            let told = told.filter_map(|text| text.parse::<f64>().ok());
            most += told.map(f64::abs).fold(f64::abs(configured), f64::max);
        }
        for (weight, at) in weights.iter_mut().zip(list) {
            *weight -= if suspect(at) { 1.0 + 4.0 * most } else { 0.0 };
        }
    }
}
