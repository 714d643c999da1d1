//! Counts how many more instances of a flavor fit, host by host.
//!
//! There are two steps, and only the first needs the table. [`eligible`] runs the filters that do not count, like one
//! placement, and copies the amounts. [`Eligible::count`] counts on the copy. A filter that counts has a closed form
//! for how often it would pass the same request on a host. That is the number after which it refuses when instances are
//! placed there one by one; a property test compares the two. NUMA cells and PCI devices have no closed form. For them,
//! instances are placed one after another on a copy of what a host has left, once for all hosts that have the same
//! left.
//!
//! What always holds: counting does not touch the table.
//!
//! The first instance of a server group with `affinity` decides where all others go. So the host is chosen that it would
//! get now, and the instances are counted on that host. If the settings say that an error of a filter fails the request,
//! the first instance is tried as well, so that such an error does not count as a refusal of some hosts.
//!
//! Left out: filters whose answer changes with each instance in another way. They are asked for the first instance
//! only, and the answer names them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use novella_objects::{
    FilterTally, Flavor, FlavorCapacity, GroupCapacity, Grouping, Limit, RequestSpec, ReservedCapacity,
};
use novella_resources::{Allocation, Amounts, Demand, Devices};
use uuid::Uuid;

use crate::filters::bound::Bound;
use crate::filters::devices::DeviceBound;
use crate::prefilters::{ClassLimit, Prefilters};
use crate::questions::moving::{Running, free_memory, move_to_others};
use crate::questions::unread::unread;
use crate::request::asked::{self, Wanted};
use crate::request::failure::Failure;
use crate::select::answer::Terms;
use crate::select::compiled::Compiled;
use crate::select::explanation::{self, Refill};
use crate::select::select::FilterScheduler;
use crate::settings::filter_kind::FilterKind;
use crate::settings::options::{OnFilterError, SchedulerOptions};
use crate::table::amounts::Exact;
use crate::table::bitmap::bits;
use crate::table::block::{BLOCK, Row};
use crate::table::devices::left_after;
use crate::table::host_table::HostTable;
use crate::table::view::{HostState, Snapshot};

/// How many instances one host is said to take at most, if nothing limits it.
pub const MAX_ON_A_HOST: u64 = 100_000;

/// The fleet at one instant, and the hosts that a flavor may be placed on.
#[derive(Debug)]
pub struct Eligible {
    /// The names, states and amounts of all hosts.
    hosts: Snapshot,
    /// One bit per row, set if every filter that does not count passes the host.
    passed: Vec<u64>,
    /// What the filters that do not count refused.
    refused: Vec<FilterTally>,
    /// The filters that count, each with its closed form.
    bounds: Vec<(FilterKind, Bound)>,
    /// The limits of further resource classes.
    classes: Vec<ClassLimit>,
    /// The limits of NUMA cells and PCI devices, if the flavor asks for any.
    devices: Option<DeviceLimits>,
    /// The filters that were asked for the first instance only.
    asked_once: Vec<String>,
    /// What the flavor asks for and no enabled filter looks at, with the reason.
    not_asked: Vec<String>,
    /// The flavor of one instance.
    flavor: Flavor,
    /// What one instance asks for and takes on a host with an inventory of `PCPU`.
    of_dedicating: (Demand, Amounts),
    /// What one instance asks for and takes on a host without an inventory of `PCPU`.
    of_others: (Demand, Amounts),
    /// For each row, the symbol of its set of aggregates.
    sets: Vec<u32>,
    /// For each symbol, the names of the aggregates.
    set_names: Vec<Vec<String>>,
    /// The zone of hosts that have none.
    default_zone: String,
}

/// The filters of NUMA cells and PCI devices, and what each host has left of them.
#[derive(Debug)]
struct DeviceLimits {
    /// The filters. The first number is how many filters that count run before it.
    filters: Vec<(usize, FilterKind, DeviceBound)>,
    wanted: Wanted,
    /// The different sets of cells and devices that hosts have left.
    kinds: Vec<Arc<Devices>>,
    /// For each row, the index in `kinds` of what the host has left.
    of_row: Vec<u32>,
}

/// How many instances fit into cells and devices one after another, and the index of the filter that refuses the next.
/// The index is `None` if one more than was asked about fits.
type Fitting = (u64, Option<usize>);

/// The results found so far, by what a host has left and its ratios of CPU and memory. The first number of a result is
/// how many instances were asked about.
type KnownFittings = HashMap<(u32, [u64; 2]), (u64, Fitting)>;

/// One eligible host.
struct Counted<'a> {
    host: HostState<'a>,
    /// How many more instances fit.
    fits: u64,
    /// The index of the limit that is reached first. Bounds are numbered first, then classes, then filters of devices.
    limit: Option<usize>,
}

/// Which hosts may take instances like those of `spec`. An error is a request that
/// could be asked of no host.
pub fn eligible(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
) -> Result<Eligible, Failure> {
    let asked = asked::read(engine.options(), spec)?;
    let begins = begins_affinity(engine.options(), spec);
    let mut first = None;
    if begins || engine.options().on_filter_error == OnFilterError::FailRequest {
        let terms = Terms { dry_run: true, alternates: Some(0), unexplained: true, ..Terms::default() };
        let selected = engine.select(table, spec, &[Uuid::nil()], &terms);
        if let Some(failure) = selected.failure.filter(|why| !matches!(why, Failure::NoValidHost { .. })) {
            return Err(failure);
        }
        first = selected.picks.first().map(|pick| pick.row);
    }
    let mut passed = match engine.whole_fleet.narrow(table, spec) {
        Ok(()) => true,
        Err(Failure::NoValidHost { .. }) => false,
        Err(failure) => return Err(failure),
    };
    passed &= !table.is_empty();
    if !passed {
        engine.whole_fleet.clear(table);
    }
    let mut prefilters = Prefilters::compile(table, &asked, engine.options())?;
    let classes = prefilters.take_limits(table);
    prefilters.run(table, &mut engine.whole_fleet.alive, 0);
    let mut refused = Vec::new();

    let mut compiled = Compiled::new(engine.options(), table, &asked, prefilters, None);
    let mut bounds = Vec::new();
    let mut of_devices = Vec::new();
    compiled.filters.retain_mut(|filter| {
        if let Some(bound) = filter.bound(compiled.group.as_ref()) {
            bounds.push((filter.kind, bound));
        } else if let Some(bound) = filter.take_device_bound() {
            of_devices.push((bounds.len(), filter.kind, bound));
        } else {
            return true;
        }
        false
    });
    let devices = (!of_devices.is_empty())
        .then(|| DeviceLimits::of(table, &engine.whole_fleet.alive, of_devices, asked.wanted.clone()));
    compiled.begin(Uuid::nil(), table);
    engine.whole_fleet.scan(table, &mut compiled);
    let ran = compiled.filters.iter().zip(&engine.whole_fleet.tallies);
    let mut told = Refill::new(&mut refused, compiled.filters.len());
    explanation::terms(table, &compiled.prefilters, &mut told);
    explanation::filters(table, ran, &mut told);
    drop(told);
    let flavor = spec.local_flavor();
    let (demand, allocation) = (Demand::of_flavor(&flavor), Allocation::of_flavor(&flavor));
    let of_others = (demand, allocation.amounts);
    let of_dedicating = asked
        .pinning
        .cpus
        .map_or(of_others, |pinned| (pinned.demand(demand), pinned.allocation(&allocation).amounts));
    let mut passed = engine.whole_fleet.alive.clone();
    if begins {
        passed.iter_mut().enumerate().for_each(|(block, passed)| *passed &= only(first, block));
    }
    Ok(Eligible {
        hosts: table.snapshot(),
        passed,
        refused,
        asked_once: compiled
            .filters
            .iter()
            .filter(|filter| filter.changes_with_instances())
            .map(|filter| filter.kind.name().to_owned())
            .collect(),
        not_asked: unread(spec, engine.options()).iter().map(ToString::to_string).collect(),
        bounds,
        classes,
        devices,
        sets: table.aggregates.rows().to_vec(),
        set_names: table.aggregates.names(),
        default_zone: engine.options().default_availability_zone.clone(),
        of_dedicating,
        of_others,
        flavor: spec.flavor.clone(),
    })
}

/// Whether the first instance decides where all others go: those of a server group with `affinity` that has no host yet.
fn begins_affinity(options: &SchedulerOptions, spec: &RequestSpec) -> bool {
    let affinity = spec
        .instance_group
        .as_ref()
        .is_some_and(|group| group.policy == "affinity" && group.hosts.is_empty());
    let forced = !spec.force_hosts.is_empty() || !spec.force_nodes.is_empty();
    affinity && !forced && options.enabled_filters.contains(&FilterKind::ServerGroupAffinity)
}

/// The bits of one block of rows, in which no row but `row` is set.
fn only(row: Option<Row>, block: usize) -> u64 {
    row.filter(|row| row.index() / BLOCK == block).map_or(0, |row| 1 << (row.index() % BLOCK))
}

impl Eligible {
    /// Counts how many instances fit. `running` is what moves if a part of the fleet is lost.
    pub fn count(
        &self,
        by: Option<Grouping>,
        reserve: Option<Grouping>,
        running: &Running,
    ) -> FlavorCapacity {
        let mut known = KnownFittings::new();
        let hosts = self.hosts.hosts();
        let counted: Vec<_> = hosts.filter_map(|host| self.count_on(host, &mut known)).collect();
        FlavorCapacity {
            flavor: self.flavor.clone(),
            error: None,
            fits: counted.iter().map(|host| host.fits).sum(),
            hosts: self.hosts.hosts().count() as u32,
            eligible: counted.len() as u32,
            open: counted.iter().filter(|host| host.fits > 0).count() as u32,
            refused: self.refused.clone(),
            limits: self.limits(counted.iter()),
            asked_once: self.asked_once.clone(),
            not_asked: self.not_asked.clone(),
            groups: by.map_or_else(Vec::new, |by| self.by(by, &counted)),
            reserve: reserve.and_then(|by| self.reserve(by, &counted, running, &mut known)),
        }
    }

    fn count_on<'a>(&self, host: HostState<'a>, known: &mut KnownFittings) -> Option<Counted<'a>> {
        let row = host.row().index();
        if self.passed[row / BLOCK] & (1 << (row % BLOCK)) == 0 {
            return None;
        }
        let (demand, taken) = self.asked_of(&host);
        let set = self.sets[row] as usize;
        let of_bounds = self.bounds.iter().map(|(_, bound)| bound.times(&host, set, &demand, &taken));
        let of_classes = self.classes.iter().map(|class| Some(class.times[row]));
        let mut counted = Counted { host, fits: MAX_ON_A_HOST, limit: None };
        for (at, times) in of_bounds.chain(of_classes).enumerate() {
            if let Some(fits) = times.filter(|times| *times < counted.fits) {
                counted = Counted { fits, limit: Some(at), ..counted };
            }
        }
        if let Some(devices) = &self.devices {
            let ratios = counted.host.reported().ratios;
            let (fits, refused) = devices.fitting(known, row, (ratios.cpu, ratios.ram), counted.fits);
            // If two limits are equal, the filter that runs first is named.
            let first = |at: &usize| {
                let before = counted.limit.is_some_and(|limit| limit < devices.filters[*at].0);
                fits < counted.fits || !before
            };
            if let Some(at) = refused.filter(first) {
                let limit = self.bounds.len() + self.classes.len() + at;
                counted = Counted { fits, limit: Some(limit), ..counted };
            }
        }
        Some(counted)
    }

    /// What one instance asks for and takes on this host.
    fn asked_of(&self, host: &HostState<'_>) -> (Demand, Amounts) {
        if host.exact().has_pcpus { self.of_dedicating } else { self.of_others }
    }

    /// For each limit, on how many hosts it is reached first; the most frequent first.
    fn limits<'c, 'h: 'c>(&self, hosts: impl Iterator<Item = &'c Counted<'h>>) -> Vec<Limit> {
        let devices = self.devices.as_ref().map_or(&[][..], |devices| &devices.filters);
        let mut times = vec![0; self.bounds.len() + self.classes.len() + devices.len()];
        hosts.filter_map(|host| host.limit).for_each(|at| times[at] += 1);
        let bounds = self.bounds.iter().map(|(kind, bound)| (kind.name(), bound.name()));
        let classes = self.classes.iter().map(|class| (class.line.as_str(), class.class.as_str()));
        let devices = devices.iter().map(|(_, kind, bound)| (kind.name(), bound.name()));
        let named = bounds.chain(classes).chain(devices).zip(times).filter(|(_, hosts)| *hosts > 0);
        let limit = |((filter, amount), hosts): ((&str, &str), u32)| Limit {
            filter: filter.to_owned(),
            amount: amount.to_owned(),
            hosts,
        };
        let mut limits: Vec<_> = named.map(limit).collect();
        limits.sort_by_key(|limit| std::cmp::Reverse(limit.hosts));
        limits
    }

    /// The names of the groups that a host belongs to.
    fn parts(&self, by: Grouping, host: &HostState<'_>) -> Vec<String> {
        let set = self.sets[host.row().index()] as usize;
        match by {
            Grouping::Host => vec![host.host().to_owned()],
            Grouping::Zone => vec![host.zone().unwrap_or(&self.default_zone).to_owned()],
            Grouping::Aggregate => self.set_names[set].clone(),
        }
    }

    /// What fits in each group of hosts.
    fn by(&self, by: Grouping, hosts: &[Counted<'_>]) -> Vec<GroupCapacity> {
        let mut parts: BTreeMap<String, Vec<&Counted<'_>>> = BTreeMap::new();
        for counted in hosts {
            let mut names = self.parts(by, &counted.host);
            if names.is_empty() {
                names.push(String::new());
            }
            for name in names {
                parts.entry(name).or_default().push(counted);
            }
        }
        let group = |(name, hosts): (String, Vec<&Counted<'_>>)| GroupCapacity {
            name,
            eligible: hosts.len() as u32,
            fits: hosts.iter().map(|host| host.fits).sum(),
            limit: self.limits(hosts.into_iter()).into_iter().next().map(|limit| limit.amount),
        };
        parts.into_iter().map(group).collect()
    }

    /// Finds the part whose loss leaves the least room, and how many instances then still fit. If several are equal, the
    /// first by name counts.
    fn reserve(
        &self,
        by: Grouping,
        hosts: &[Counted<'_>],
        running: &Running,
        known: &mut KnownFittings,
    ) -> Option<ReservedCapacity> {
        let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, counted) in hosts.iter().enumerate() {
            for name in self.parts(by, &counted.host) {
                parts.entry(name).or_default().push(at);
            }
        }
        let mut emptiest: Vec<usize> = (0..hosts.len()).collect();
        emptiest.sort_by_key(|at| std::cmp::Reverse(free_memory(hosts[*at].host.exact())));
        let mut lost = vec![false; hosts.len()];
        let left = |reserve: &ReservedCapacity| i128::from(reserve.fits) - i128::from(reserve.short);
        let mut worst: Option<ReservedCapacity> = None;
        for (name, part) in parts {
            part.iter().for_each(|at| lost[*at] = true);
            let reserve = self.without(name, &part, hosts, (&emptiest, &lost), running, known);
            part.iter().for_each(|at| lost[*at] = false);
            if worst.as_ref().is_none_or(|worst| left(&reserve) < left(worst)) {
                worst = Some(reserve);
            }
        }
        worst
    }

    /// What still fits without a part of the fleet, after its instances have moved to the other hosts that the flavor
    /// may be placed on.
    fn without(
        &self,
        name: String,
        part: &[usize],
        hosts: &[Counted<'_>],
        (emptiest, lost): (&[usize], &[bool]),
        running: &Running,
        known: &mut KnownFittings,
    ) -> ReservedCapacity {
        let instances: Vec<_> =
            part.iter().flat_map(|at| self.instances_on(&hosts[*at].host, running)).collect();
        let count = instances.len() as u64;
        // Nobody knows which instance takes how much of a further class, so its sum is counted in instances of the flavor.
        let of_class = |class: &ClassLimit| {
            let used = part.iter().map(|at| class.used[hosts[*at].host.row().index()]);
            used.map(|used| slots(used, class.sum)).sum::<u64>()
        };
        let of_classes = self.classes.iter().map(of_class).max().unwrap_or(0);
        let fits = |at: usize, exact: &Exact, size: &Amounts| {
            let host = hosts[at].host.with_amounts(exact);
            let set = self.sets[host.row().index()] as usize;
            self.bounds.iter().all(|(_, bound)| bound.passes_other(&host, set, size))
        };
        let moved = move_to_others(instances, emptiest, lost, |at| *hosts[at].host.exact(), fits);
        let others =
            hosts.iter().zip(lost).filter(|(_, lost)| !**lost).map(|(host, _)| host.fits).sum::<u64>();
        let taken = moved.after.iter().map(|(at, exact)| {
            let after = self.count_on(hosts[*at].host.with_amounts(exact), known);
            hosts[*at].fits.saturating_sub(after.map_or(0, |after| after.fits))
        });
        let left = others.saturating_sub(taken.sum()).min(others.saturating_sub(of_classes));
        let short = moved.left.max(of_classes.saturating_sub(others));
        // If an instance that must move cannot be placed, there is no room for new ones.
        let fits = if short == 0 { left } else { 0 };
        ReservedCapacity { lost: name, moved: count.max(of_classes), fits, short }
    }

    /// The sizes of the instances on a host. What is used beyond those that are known is counted in instances of the
    /// flavor.
    fn instances_on(&self, host: &HostState<'_>, running: &Running) -> Vec<Amounts> {
        let row = host.row().index();
        let mut instances = running.instances.get(row).cloned().unwrap_or_default();
        let known = instances.iter().fold(Amounts::default(), |sum, size| sum.plus(*size));
        let held_back = running.held_back.get(row).copied().unwrap_or_default();
        let (rest, (_, taken)) = (host.used().minus(held_back).minus(known), self.asked_of(host));
        let further = slots(rest.vcpus, taken.vcpus)
            .max(slots(rest.memory_mb, taken.memory_mb))
            .max(slots(rest.disk_gb, taken.disk_gb));
        instances.extend(std::iter::repeat_n(taken, further as usize));
        instances
    }
}

/// How many instances that each take `taken` are as large as `used`.
fn slots(used: u64, taken: u64) -> u64 {
    if taken == 0 { 0 } else { used.div_ceil(taken) }
}

impl DeviceLimits {
    fn of(
        table: &HostTable,
        alive: &[u64],
        filters: Vec<(usize, FilterKind, DeviceBound)>,
        wanted: Wanted,
    ) -> Self {
        let mut limits = Self { filters, wanted, kinds: vec![Arc::default()], of_row: Vec::new() };
        limits.of_row.resize(alive.len() * BLOCK, 0);
        let mut known = HashMap::new();
        for row in bits(alive) {
            if let Some((devices, serial)) = table.devices.at(row) {
                limits.of_row[row] = *known.entry(serial).or_insert_with(|| {
                    limits.kinds.push(Arc::clone(devices));
                    limits.kinds.len() as u32 - 1
                });
            }
        }
        limits
    }

    /// How many instances, of at most `most`, fit on the host of a row.
    fn fitting(&self, known: &mut KnownFittings, row: usize, ratios: (f64, f64), most: u64) -> Fitting {
        let key = (self.of_row[row], [ratios.0.to_bits(), ratios.1.to_bits()]);
        match known.get(&key) {
            Some((_, (fits, refused @ Some(_)))) if *fits <= most => (*fits, *refused),
            Some((asked, _)) if *asked >= most => (most, None),
            _ => {
                let fitting = self.place(&self.kinds[key.0 as usize], ratios, most);
                known.insert(key, (most, fitting));
                fitting
            }
        }
    }

    /// Places instances one after another, each as a request of its own, until a filter refuses.
    fn place(&self, devices: &Devices, ratios: (f64, f64), most: u64) -> Fitting {
        let mut left = devices.clone();
        let by_cells = self.filters.iter().any(|(_, _, bound)| matches!(bound, DeviceBound::Cells(_)));
        for placed in 0..=most {
            let refuses = |(_, _, bound): &(usize, FilterKind, DeviceBound)| !bound.passes(&left, ratios);
            if let Some(at) = self.filters.iter().position(refuses) {
                return (placed, Some(at));
            }
            let limited = by_cells && self.wanted.cells.is_some() && left.cells().is_some();
            let after = left_after(&left, &self.wanted, limited.then_some(ratios));
            if after == left {
                break; // nothing is taken, so any number fits
            }
            left = after;
        }
        (most, None)
    }
}
