//! The heart: filter, weigh, pick, consume, once per instance.
//!
//! Each instance of a request starts from the hosts that passed for the one before, sees what that one consumed, and
//! takes the best. All or nothing: if one finds no host, everything is given back.
//!
//! What always holds: same table, request, terms and options, same answer; after a failure or a dry run the table is as it
//! was; every host is looked at.
//!
//! Left out: who asked, repeated requests, how long a reservation holds.

use std::cmp::Ordering;

use novella_objects::{Explanation, RequestSpec};
use novella_resources::{Allocation, Demand};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::bitmap::{bits, word_bits};
use crate::devices::Wanted;
use crate::explain;
use crate::filters::{Asked, Filter, FilterError, Tally};
use crate::group::Group;
use crate::host_table::{BLOCK, HostTable, MAX_AMOUNT, Row};
use crate::image::{BadImage, ImageProperties};
use crate::instance_topology::{self, BadDevices};
use crate::options::{BadOptions, FilterKind, OnFilterError, SchedulerOptions};
use crate::order::History;
use crate::placement::Placement;
use crate::weighers::{self, Scene, WeigherError};
use crate::weights::{Estimate, Range, Weigher, Weighing};

/// Most instances of one request: bounds the time that one decision holds the table.
pub const MAX_INSTANCES: usize = 10_000;

/// Finds places for instances; see the module's text. Keeps its working memory from request to request.
#[derive(Debug)]
pub struct FilterScheduler {
    options: SchedulerOptions,
    pub(crate) work: Work,
}

/// How a request is to be answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// For `host_subset_size` and `shuffle_best_same_weighed_hosts`.
    pub seed: u64,
    /// Decide, but leave the table as it was.
    pub dry_run: bool,
    /// Alternates per instance; absent: `max_attempts - 1`.
    pub alternates: Option<u32>,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Selected {
    /// One per instance, in the request's order; empty when `failure` is set.
    pub picks: Vec<Pick>,
    /// The next best hosts, best first; the same for all instances, none of them picked.
    pub alternates: Vec<Row>,
    /// How it came about, for the instance decided last.
    pub explanation: Explanation,
    /// Hosts that filters could not decide about, by filter, with the first of each.
    pub filter_errors: Vec<(u32, FilterError)>,
    /// Candidates that weighers could not value and that were left out for it, with the first of each weigher.
    pub weigher_errors: Vec<(u32, WeigherError)>,
    /// Why nothing was placed.
    pub failure: Option<Failure>,
}

/// One instance's host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// Which.
    pub row: Row,
    /// Its weight among the candidates; 0 when it was the only one, because then nothing is weighed.
    pub weight: f64,
    /// What its filters looked at.
    pub limits: PickLimits,
    /// Whether NUMA cells or PCI devices of the host were taken for it.
    pub took_devices: bool,
}

/// The limits that the filters decided by, each only if its filter ran; the host's own claim may hold them again.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PickLimits {
    /// CPUs.
    pub vcpus: Option<f64>,
    /// MiB.
    pub memory_mb: Option<f64>,
    /// GiB.
    pub disk_gb: Option<f64>,
    /// Of NUMA cells, where the instance has any.
    pub numa_topology: Option<NumaLimits>,
}

/// How far shared CPUs and memory of a NUMA cell may be overcommitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumaLimits {
    /// The host's.
    pub cpu_allocation_ratio: f64,
    /// The host's.
    pub ram_allocation_ratio: f64,
}

/// Why nothing was placed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Too few hosts; the text is Nova's.
    #[error("No valid host was found. {reason}")]
    NoValidHost {
        /// What follows Nova's first sentence.
        reason: String,
        /// How many instances had found a host.
        placeable: u32,
    },
    /// A filter could not decide, and the settings say that this fails the request.
    #[error(transparent)]
    Filter(FilterError),
    /// The same of a weigher.
    #[error(transparent)]
    Weigher(WeigherError),
    /// An image that cannot be understood.
    #[error(transparent)]
    Image(BadImage),
    /// A name that the policy does not know.
    #[error("the policy in force has no {what} {name:?}; {}", if known.is_empty() { "it lists none".to_owned() } else { format!("known are {known}") })]
    Unknown {
        /// `flavor` or `server group`.
        what: &'static str,
        /// As given.
        name: String,
        /// All that there are.
        known: String,
    },
    /// A server group whose policy would mean nothing; the text is Nova's.
    #[error("{missing} not configured, which the server group's policy {policy} needs")]
    NotConfigured {
        /// Filter or weigher.
        missing: &'static str,
        /// Of the group.
        policy: String,
    },
    /// NUMA cells or PCI devices that cannot be asked for like this.
    #[error(transparent)]
    Devices(BadDevices),
    /// A request that no fleet could satisfy.
    #[error("{what} is {value}; it must be {bound}")]
    Invalid {
        /// Which part of the request.
        what: &'static str,
        /// As given.
        value: u64,
        /// What would do.
        bound: String,
    },
}

/// Reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// One bit per row that is still a candidate.
    pub(crate) alive: Vec<u64>,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) ranges: Vec<Range>,
    /// The best hosts of a round, best first.
    pub(crate) best: Vec<Weighed>,
    history: History,
}

/// A host with its weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighed {
    pub(crate) row: u32,
    pub(crate) weight: f64,
}

/// What a request is compiled to.
pub(crate) struct Request<'r> {
    spec: &'r RequestSpec,
    /// Asked before the filters.
    pub(crate) placement: Placement,
    pub(crate) filters: Vec<Filter>,
    pub(crate) group: Option<Group>,
    /// Compiled when there are first two hosts to tell apart.
    pub(crate) weighers: Vec<Weigher>,
    allocation: Allocation,
    /// Of NUMA cells and PCI devices, by the next instance; absent: nothing.
    wanted: Option<Box<Wanted>>,
    instances: usize,
    alternates: usize,
    rng: Option<ChaCha8Rng>,
}

impl Request<'_> {
    /// The turn of the instance at `index` has come.
    pub(crate) fn begin(&mut self, table: &HostTable, index: usize) {
        if let Some(group) = &mut self.group {
            group.begin(self.spec.instance_uuids[index], table);
        }
    }

    /// What the filters held the host against.
    fn limits(&self, table: &HostTable, row: Row) -> PickLimits {
        let of_host = table.view(row).limits();
        // Nova keeps the limit of the filter that ran last.
        let total_by_ratio = |plain: FilterKind, own: FilterKind, limit: f64, total: f64| {
            let ran = self.filters.iter().rev().find(|filter| filter.kind == plain || filter.kind == own)?;
            Some(ran.ratio(table, row).map_or(limit, |ratio| total * ratio))
        };
        let reported = *table.view(row).reported();
        let (vcpus, memory) = (reported.vcpus_total as f64, reported.memory_mb_total as f64);
        let vcpus = total_by_ratio(FilterKind::Core, FilterKind::AggregateCore, of_host.vcpus, vcpus);
        let disk = reported.disk_gb_total as f64;
        let cells = || table.devices(row).is_some_and(|devices| devices.cells().is_some());
        let wants_cells = self.wanted.as_ref().is_some_and(|wanted| wanted.cells.is_some());
        let fitted = wants_cells
            && self.filters.iter().any(|filter| filter.kind == FilterKind::NumaTopology)
            && cells();
        PickLimits {
            vcpus: vcpus.filter(|limit| *limit > 0.0),
            memory_mb: total_by_ratio(FilterKind::Ram, FilterKind::AggregateRam, of_host.memory_mb, memory),
            disk_gb: total_by_ratio(FilterKind::Disk, FilterKind::AggregateDisk, of_host.disk_gb, disk),
            numa_topology: fitted.then_some(NumaLimits {
                cpu_allocation_ratio: reported.ratios.cpu,
                ram_allocation_ratio: reported.ratios.ram,
            }),
        }
    }

    /// Takes what the instance at `index` gets from its host.
    fn consume(&mut self, table: &mut HostTable, index: usize, pick: &mut Pick) {
        table.allocate(pick.row, &self.allocation);
        let Some(wanted) = &mut self.wanted else { return };
        let ratios = |limits: NumaLimits| (limits.cpu_allocation_ratio, limits.ram_allocation_ratio);
        let limits = pick.limits.numa_topology.map(ratios);
        let uuid = self.spec.instance_uuids[index];
        pick.took_devices = table.take_devices(pick.row, uuid, wanted, limits);
        for filter in &mut self.filters {
            filter.wants(wanted);
        }
    }

    /// That instance has got a host.
    fn placed(&mut self, index: usize, row: Row) {
        if let Some(group) = &mut self.group {
            group.placed(self.spec.instance_uuids[index], row);
            weighers::placed(&mut self.weighers, group, row);
        }
    }
}

impl FilterScheduler {
    /// A scheduler with these settings.
    pub fn new(options: SchedulerOptions) -> Result<Self, BadOptions> {
        options.check()?;
        Ok(Self { options, work: Work::default() })
    }

    /// The settings.
    pub fn options(&self) -> &SchedulerOptions {
        &self.options
    }

    /// Chooses a host for each instance of `request` and consumes it in the table, unless `terms` ask for a dry run.
    pub fn select(&mut self, table: &mut HostTable, request: &RequestSpec, terms: &Terms) -> Selected {
        let mut selected = Selected {
            picks: Vec::with_capacity(request.instance_uuids.len().min(MAX_INSTANCES)),
            alternates: Vec::new(),
            explanation: explain::of_fleet(table),
            filter_errors: Vec::new(),
            weigher_errors: Vec::new(),
            failure: None,
        };
        let failure = self.place(table, request, terms, &mut selected).err();
        if (failure.is_some() || terms.dry_run) && !selected.picks.is_empty() {
            let allocation = Allocation::of_flavor(&request.flavor);
            for (pick, uuid) in selected.picks.iter().zip(&request.instance_uuids).rev() {
                table.deallocate(pick.row, &allocation);
                if pick.took_devices {
                    table.give_back_devices(pick.row, *uuid);
                }
            }
        }
        if failure.is_some() {
            selected.picks.clear();
        }
        selected.failure = failure;
        selected
    }

    fn place(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        terms: &Terms,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        let asked = self.read(spec)?;
        let placement = Placement::compile(table, &asked, &self.options)?;
        self.narrow(table, spec)?;
        let mut request = self.compile(table, &asked, placement, terms);
        self.work.reset_history(table);
        for index in 0..request.instances {
            let last = index + 1 == request.instances;
            request.begin(table, index);
            self.ask_placement(table, &mut request, index, selected)?;
            let hosts = self.filter(table, &mut request, index, selected)?;
            let hosts = self.value_candidates(table, &asked, &mut request, hosts, selected)?;
            if hosts == 0 {
                let reason = "There are not enough hosts available.".to_owned();
                return Err(Failure::NoValidHost { reason, placeable: selected.picks.len() as u32 });
            }
            let runners_up = if last { self.options.runners_up } else { 0 };
            let alternates = if request.instances == 1 { request.alternates } else { 0 };
            self.rank(table, &request.weighers, hosts, runners_up.max(alternates), &mut request.rng);
            if last {
                let ranking = &self.work.best[..self.work.best.len().min(1 + runners_up)];
                let weighing = Weighing { weighers: &request.weighers, table };
                selected.explanation.ranking = explain::ranking(weighing, ranking, &self.work.ranges, hosts);
            }
            let Weighed { row, weight } = self.work.best[0];
            let limits = request.limits(table, Row(row));
            selected.picks.push(Pick { row: Row(row), weight, limits, took_devices: false });
            request.consume(table, index, &mut selected.picks[index]);
            request.placed(index, Row(row));
            if !last || (request.instances > 1 && request.alternates > 0) {
                self.remember();
            }
        }
        self.alternates(table, &asked, &mut request, selected)
    }

    /// Reads what no host has a say about.
    pub(crate) fn read<'r>(&self, spec: &'r RequestSpec) -> Result<Asked<'r>, Failure> {
        check(spec)?;
        let image = spec.image.as_ref().map(ImageProperties::read).transpose().map_err(Failure::Image)?;
        let image = image.unwrap_or_default();
        let wanted = Wanted {
            cells: instance_topology::of_request(spec, &image).map_err(Failure::Devices)?,
            pci_requests: instance_topology::pci_requests(spec, &image).map_err(Failure::Devices)?,
            network: spec.network_metadata.as_ref().map(instance_topology::network),
            packing: self.options.policy.packing_host_numa_cells_allocation_strategy,
        };
        Ok(Asked { spec, image, wanted })
    }

    /// The next best hosts. After several instances the fleet is weighed once more, as the last one left it.
    fn alternates(
        &mut self,
        table: &mut HostTable,
        asked: &Asked<'_>,
        request: &mut Request<'_>,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        if request.alternates == 0 {
            return Ok(());
        }
        let mut picked: Vec<Row> = selected.picks.iter().map(|pick| pick.row).collect();
        if request.instances > 1 {
            let last = request.instances - 1;
            if request.placement.runs(last) {
                request.placement.run(table, &mut self.work.alive, last);
            }
            let hosts = self.scan(table, request, last);
            let (hosts, _) = self.value(table, asked, request, hosts);
            if hosts == 0 {
                return Ok(());
            }
            let wanted = request.alternates + picked.len();
            self.rank(table, &request.weighers, hosts, wanted, &mut request.rng);
        }
        picked.sort_unstable();
        let others = self.work.best.iter().map(|host| Row(host.row));
        let others = others.filter(|row| picked.binary_search(row).is_err());
        selected.alternates.extend(others.take(request.alternates));
        Ok(())
    }

    /// Leaves the hosts that the request names or does not exclude.
    pub(crate) fn narrow(&mut self, table: &HostTable, request: &RequestSpec) -> Result<(), Failure> {
        let alive = &mut self.work.alive;
        alive.clear();
        let no_such_host = |host: Option<&String>, node: Option<&String>| {
            let name = |name: Option<&String>| name.map_or("None".to_owned(), Clone::clone);
            let reason = format!("No such host - host: {} node: {} ", name(host), name(node));
            Failure::NoValidHost { reason, placeable: 0 }
        };
        if let Some(target) = &request.target_host {
            let node = request.target_node.as_ref();
            let of_node = |row: &Row| node.is_none_or(|node| table.view(*row).nodename() == node);
            let row = table.row_of(target).filter(of_node);
            alive.resize(table.columns.present.len(), 0);
            set(alive, row.ok_or_else(|| no_such_host(Some(target), node))?);
        } else {
            alive.extend_from_slice(&table.columns.present);
        }
        for row in request.ignore_hosts.iter().flat_map(|host| table.rows_of_any_case(host)) {
            alive[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
        }
        let mut keep = |rows: &mut dyn Iterator<Item = Row>| {
            let mut kept = vec![0; alive.len()];
            rows.for_each(|row| set(&mut kept, row));
            alive.iter_mut().zip(&kept).for_each(|(alive, kept)| *alive &= kept);
            kept.iter().any(|word| *word != 0)
        };
        if let Some(first) = request.force_hosts.first()
            && !keep(&mut request.force_hosts.iter().flat_map(|host| table.rows_of_any_case(host)))
        {
            return Err(no_such_host(Some(first), request.force_nodes.first()));
        }
        if let Some(first) = request.force_nodes.first() {
            let named =
                |row: &Row| request.force_nodes.iter().any(|node| node == table.view(*row).nodename());
            if !keep(&mut table.rows().filter(named)) {
                return Err(no_such_host(request.force_hosts.first(), Some(first)));
            }
        }
        Ok(())
    }

    pub(crate) fn compile<'r>(
        &self,
        table: &mut HostTable,
        asked: &Asked<'r>,
        placement: Placement,
        terms: &Terms,
    ) -> Request<'r> {
        let spec = asked.spec;
        // A forced host is taken as it is, unless the request is a check of an existing instance.
        let forced = !spec.force_hosts.is_empty() || !spec.force_nodes.is_empty();
        let check = spec.scheduler_hints.get("_nova_check_type");
        let check = check.filter(|hint| hint.as_array().is_none_or(|words| !words.is_empty()));
        let enabled: &[FilterKind] =
            if forced && check.is_none() { &[] } else { &self.options.enabled_filters };
        let rebuild = asked.is_rebuild();
        let enabled = enabled.iter().filter(|kind| !rebuild || kind.runs_on_rebuild());
        let group = Group::of(spec, table);
        let random = self.options.host_subset_size > 1 || self.options.shuffle_best_same_weighed_hosts;
        Request {
            spec,
            placement,
            filters: enabled
                .map(|&kind| Filter::compile(kind, table, asked, group.as_ref(), &self.options))
                .collect(),
            group,
            weighers: Vec::new(),
            allocation: Allocation::of_flavor(&spec.flavor),
            wanted: (!asked.wanted.is_nothing()).then(|| Box::new(asked.wanted.clone())),
            instances: spec.instance_uuids.len(),
            alternates: terms.alternates.unwrap_or(self.options.max_attempts - 1) as usize,
            rng: random.then(|| ChaCha8Rng::seed_from_u64(terms.seed)),
        }
    }

    /// Compiles the weighers if there are first two hosts to tell apart. Returns how many hosts are left when those are
    /// gone that a weigher cannot value, and these.
    pub(crate) fn value(
        &mut self,
        table: &mut HostTable,
        asked: &Asked<'_>,
        request: &mut Request<'_>,
        hosts: u32,
    ) -> (u32, Vec<(Row, WeigherError)>) {
        if hosts < 2 || !request.weighers.is_empty() {
            return (hosts, Vec::new());
        }
        let scene =
            Scene { asked, group: request.group.as_ref(), options: &self.options, alive: &self.work.alive };
        let (weighers, errors) = weighers::compile(&scene, table);
        request.weighers = weighers;
        for (row, _) in &errors {
            self.work.alive[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
        }
        (hosts - errors.len() as u32, errors)
    }

    /// The same, where errors fail the request or are told.
    fn value_candidates(
        &mut self,
        table: &mut HostTable,
        asked: &Asked<'_>,
        request: &mut Request<'_>,
        hosts: u32,
        selected: &mut Selected,
    ) -> Result<u32, Failure> {
        let (hosts, mut errors) = self.value(table, asked, request, hosts);
        if !errors.is_empty() {
            let count = errors.len() as u32;
            let first = errors.swap_remove(0).1;
            if self.options.on_filter_error == OnFilterError::FailRequest {
                return Err(Failure::Weigher(first));
            }
            selected.weigher_errors.push((count, first));
        }
        Ok(hosts)
    }

    /// Leaves the hosts that have what the filters do not look at, and explains it. Before the first instance, no host
    /// left is what Nova has no words for: the service that it asked returned nothing.
    fn ask_placement(
        &mut self,
        table: &HostTable,
        request: &mut Request<'_>,
        index: usize,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        selected.explanation.filters.clear();
        if !request.placement.runs(index) {
            return Ok(());
        }
        let hosts = request.placement.run(table, &mut self.work.alive, index);
        explain::terms(table, &request.placement, index, &mut selected.explanation.filters);
        if hosts > 0 {
            return Ok(());
        }
        let reason = if index == 0 { "" } else { "There are not enough hosts available." };
        Err(Failure::NoValidHost { reason: reason.to_owned(), placeable: selected.picks.len() as u32 })
    }

    /// Runs the filters of one round and explains them; returns how many hosts are left.
    fn filter(
        &mut self,
        table: &HostTable,
        request: &mut Request<'_>,
        index: usize,
        selected: &mut Selected,
    ) -> Result<u32, Failure> {
        let hosts = self.scan(table, request, index);
        let ran = request.filters.iter().zip(&self.work.tallies).filter(|(filter, _)| runs(filter, index));
        explain::filters(table, ran.clone(), &mut selected.explanation.filters);
        for (_, tally) in ran {
            let Some(error) = &tally.first_error else { continue };
            if self.options.on_filter_error == OnFilterError::FailRequest {
                return Err(Failure::Filter(error.clone()));
            }
            selected.filter_errors.push((tally.errors, error.clone()));
        }
        Ok(hosts)
    }

    /// Runs the filters of one round over all blocks.
    pub(crate) fn scan(&mut self, table: &HostTable, request: &mut Request<'_>, index: usize) -> u32 {
        let (work, group) = (&mut self.work, request.group.as_ref());
        let filters = &mut request.filters;
        work.tallies.clear();
        work.tallies.resize_with(filters.len(), Tally::default);
        let mut hosts = 0;
        for (block, alive) in work.alive.iter_mut().enumerate().filter(|(_, alive)| **alive != 0) {
            for (filter, tally) in filters.iter_mut().zip(&mut work.tallies) {
                if runs(filter, index) && *alive != 0 {
                    *alive = filter.run(table, group, block, *alive, tally);
                }
            }
            hosts += alive.count_ones();
        }
        hosts
    }

    /// Puts the chosen host and at least `others` next best ones into `best`, in order.
    pub(crate) fn rank(
        &mut self,
        table: &HostTable,
        weighers: &[Weigher],
        hosts: u32,
        others: usize,
        rng: &mut Option<ChaCha8Rng>,
    ) {
        let work = &mut self.work;
        work.best.clear();
        work.ranges.clear();
        if hosts == 1 {
            let only = bits(&work.alive).next().expect("one host is left");
            work.best.push(Weighed { row: only as u32, weight: 0.0 });
            work.ranges.resize(self.options.weighers.len(), Range::default());
            return;
        }
        work.ranges.extend(weighers.iter().map(|weigher| weigher.range(&table.columns, &work.alive)));
        let shuffle = self.options.shuffle_best_same_weighed_hosts;
        let keep = if shuffle { hosts as usize } else { (1 + others).max(self.options.host_subset_size) };
        work.keep_best(Weighing { weighers, table }, keep);
        let Some(rng) = rng else { return };
        if shuffle {
            let top = work.best[0].weight;
            let equals = work.best.partition_point(|host| host.weight == top);
            work.best[..equals].shuffle(rng);
        }
        let subset = self.options.host_subset_size.min(work.best.len());
        let chosen = rng.random_range(0..subset);
        work.best[..=chosen].rotate_right(1);
    }

    /// Lets the next round know the order that this one left.
    fn remember(&mut self) {
        let Work { best, history, ranges, .. } = &mut self.work;
        if self.options.shuffle_best_same_weighed_hosts {
            history.restart(best.iter().map(|host| host.row)); // all candidates are in `best`
        } else {
            history.round(ranges, best[0].row);
        }
    }
}

impl Work {
    /// A new request begins: equal weights stand in fleet order.
    pub(crate) fn reset_history(&mut self, table: &HostTable) {
        self.history.reset(table.columns.exact.len());
    }

    /// The `keep` best candidates, in order.
    fn keep_best(&mut self, weighing: Weighing<'_>, keep: usize) {
        let estimate = Estimate::new(weighing, &self.ranges);
        let history = &self.history;
        let order = |a: &Weighed, b: &Weighed| match b.weight.total_cmp(&a.weight) {
            Ordering::Equal => history.order(weighing, a.row, b.row),
            unequal => unequal,
        };
        if keep >= self.alive.len() * BLOCK / 2 {
            let all = bits(&self.alive).map(|row| row as u32);
            let ranges = &self.ranges;
            self.best.extend(all.map(|row| Weighed { row, weight: weighing.weight(ranges, row) }));
            self.best.sort_unstable_by(order);
            self.best.truncate(keep);
            return;
        }
        let mut threshold = f32::NEG_INFINITY;
        for (block, &alive) in self.alive.iter().enumerate() {
            if alive == 0 {
                continue;
            }
            let mut near = alive & estimate.above(block, threshold);
            if near != 0 && self.best.len() == keep {
                // In a fleet of equal hosts nearly all are near, and lose by their place in the fleet alone.
                near &= !(estimate.twins(block, self.best[keep - 1].row) & history.untouched(block));
            }
            for bit in word_bits(near) {
                let row = (block * BLOCK + bit) as u32;
                let host = Weighed { row, weight: weighing.weight(&self.ranges, row) };
                if self.best.len() == keep {
                    if order(&host, &self.best[keep - 1]) != Ordering::Less {
                        continue;
                    }
                    self.best.pop();
                }
                let place = self.best.partition_point(|kept| order(kept, &host) == Ordering::Less);
                self.best.insert(place, host);
                if self.best.len() == keep {
                    threshold = estimate.threshold(self.best[keep - 1].weight);
                }
            }
        }
    }
}

/// Whether a filter runs for this instance of a request.
fn runs(filter: &Filter, index: usize) -> bool {
    index == 0 || !filter.kind.once()
}

fn set(words: &mut [u64], row: Row) {
    words[row.index() / BLOCK] |= 1 << (row.index() % BLOCK);
}

/// Refuses what no fleet could hold, so that every later comparison stays within its lanes.
fn check(request: &RequestSpec) -> Result<(), Failure> {
    let demand = Demand::of_flavor(&request.flavor);
    for (what, value) in [
        ("vcpus", demand.vcpus),
        ("memory_mb", demand.memory_mb),
        ("disk with swap, in MiB,", demand.disk_mb),
    ] {
        if let Some(value) = value.filter(|value| *value > MAX_AMOUNT) {
            return Err(Failure::Invalid { what, value, bound: format!("at most {MAX_AMOUNT}") });
        }
    }
    let instances = request.instance_uuids.len();
    if !(1..=MAX_INSTANCES).contains(&instances) {
        let bound = format!("from 1 to {MAX_INSTANCES}");
        return Err(Failure::Invalid { what: "the number of instances", value: instances as u64, bound });
    }
    Ok(())
}
