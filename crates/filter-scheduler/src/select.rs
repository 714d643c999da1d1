//! The heart: filter, weigh, pick, consume, once per instance.
//!
//! Each instance of a request starts from the hosts that passed for the one before, sees what that one consumed, and
//! takes the best. All or nothing: if one finds no host, everything is given back.
//!
//! What always holds: same table, request, terms and options, same answer, whatever was asked before; after a failure or a
//! dry run the table is as it was; every host is looked at, or was and has not changed since, or is proven irrelevant.
//!
//! Left out: who asked, repeated requests, how long a reservation holds.

use novella_objects::{Explanation, RequestSpec};
use novella_resources::{Charges, Demand};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::bitmap::bits;
use crate::devices::Wanted;
use crate::explain::{self, Refill};
use crate::filters::{Asked, Filter, FilterError, Tally};
use crate::group::{Group, Policy};
use crate::host_table::{BLOCK, HostTable, MAX_AMOUNT, Row};
use crate::image::{BadImage, ImageProperties};
use crate::instance_topology::{self, BadDevices};
use crate::options::{BadOptions, FilterKind, OnFilterError, SchedulerOptions};
use crate::order::History;
use crate::pinning::{Pinning, charges};
use crate::placement::{BadFeature, Placement};
use crate::ranking::{Ranking, Weighed};
use crate::scan::Sieve;
use crate::shape::{Request, Shape, Shapes};
use crate::weighers::{self, Scene, WeigherError};
use crate::weights::{Range, Weighing};

/// Most instances of one request: bounds the time that one decision holds the table.
pub const MAX_INSTANCES: usize = 10_000;

/// Finds places for instances; see the module's text. Keeps what it worked out about shapes of requests (`shape.rs`).
#[derive(Debug)]
pub struct FilterScheduler {
    pub(crate) options: SchedulerOptions,
    pub(crate) shapes: Shapes,
    history: History,
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
    /// Leaves the explanation empty, which shows what it costs.
    pub unexplained: bool,
}

/// The answer.
#[derive(Debug, Clone, Default)]
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
        /// `flavor`, `server group` or `PCI alias`.
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
    /// Features of a host that cannot be asked for like this.
    #[error(transparent)]
    Feature(BadFeature),
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

/// The working memory of whole looks at the fleet, which are for looking, not for placing.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// One bit per row that is still a candidate.
    pub(crate) alive: Vec<u64>,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) ranking: Ranking,
}

impl Request {
    /// The turn of an instance has come.
    pub(crate) fn begin(&mut self, instance: Uuid, table: &HostTable) {
        if let Some(group) = &mut self.group {
            group.begin(instance, table);
        }
    }

    /// What the filters held the host against.
    pub(crate) fn limits(&self, table: &HostTable, row: Row) -> PickLimits {
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

    /// Takes what an instance gets of its host's NUMA cells and PCI devices; the next one may want other ones.
    fn take_devices(&mut self, table: &mut HostTable, instance: Uuid, pick: &mut Pick) {
        let Some(wanted) = &mut self.wanted else { return };
        let ratios = |limits: NumaLimits| (limits.cpu_allocation_ratio, limits.ram_allocation_ratio);
        let limits = pick.limits.numa_topology.map(ratios);
        pick.took_devices = table.take_devices(pick.row, instance, wanted, limits);
        for filter in &mut self.filters {
            filter.wants(wanted);
        }
    }

    /// That instance has got a host.
    fn placed(&mut self, instance: Uuid, row: Row) {
        if let Some(group) = &mut self.group {
            group.placed(instance, row);
            weighers::placed(self.weighers.as_deref_mut().unwrap_or_default(), group, row);
        }
    }

    fn sieve(&mut self) -> Sieve<'_> {
        Sieve { filters: &mut self.filters, group: self.group.as_ref(), named: self.named.as_deref() }
    }
}

impl Shape {
    /// Looks at the fleet for the first instance of a request.
    fn refresh(&mut self, table: &HostTable) {
        let Request { placement, named, .. } = &mut self.request;
        if placement.runs(0) {
            // The shape is not kept, so what is left here is for this request alone.
            let mut left = table.columns.present.clone();
            for (left, named) in left.iter_mut().zip(named.iter().flatten()) {
                *left &= named;
            }
            placement.run(table, &mut left, 0);
            *named = Some(left);
        }
        self.scan.refresh(table, &mut self.request.sieve());
        self.note_changes(table);
    }

    /// Looks again at what the last pick may have changed for the next instance, that at `index`.
    fn again(&mut self, table: &HostTable, picked: Row, index: usize) {
        let groups = self.request.group.as_ref().map(|group| group.policy);
        let asks = self.request.placement.runs(index);
        if asks {
            self.scan.hosts = self.request.placement.run(table, &mut self.scan.alive, index);
        }
        let wants = self.request.wanted.is_some();
        if asks || wants || matches!(groups, Some(Policy::Affinity | Policy::AntiAffinity)) {
            self.scan.again(table, &mut self.request.sieve(), 0..table.columns.present.len() as u32);
        } else {
            let block = (picked.index() / BLOCK) as u32;
            self.scan.again(table, &mut self.request.sieve(), std::iter::once(block));
        }
        self.note_changes(table);
    }

    fn note_changes(&mut self, table: &HostTable) {
        if let Some(weighers) = &self.request.weighers {
            self.ranking.changed(Weighing { weighers, table }, &self.scan.alive, &self.scan.looked_at);
        }
    }

    /// Compiles the weighers if there are first two hosts to tell apart. Returns which hosts are gone because a weigher
    /// cannot value them.
    fn value(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        options: &SchedulerOptions,
    ) -> Vec<(Row, WeigherError)> {
        if self.scan.hosts < 2 || self.request.weighers.is_some() {
            return Vec::new();
        }
        let image = std::mem::take(&mut self.image);
        let asked = Asked { spec, image, wanted: Wanted::default(), pinning: Pinning::default() };
        let group = self.request.group.as_ref();
        let scene = Scene { asked: &asked, group, options, alive: &self.scan.alive };
        let (weighers, errors) = weighers::compile(&scene, table);
        self.image = asked.image;
        if !errors.is_empty() || weighers.iter().any(|weigher| weigher.is_computed()) {
            self.forget();
        }
        self.scan.take_out(errors.iter().map(|(row, _)| *row));
        self.ranking.start(Weighing { weighers: &weighers, table }, &self.scan.alive);
        self.request.weighers = Some(weighers);
        errors
    }

    fn weighing<'a>(&'a self, table: &'a HostTable) -> Weighing<'a> {
        Weighing { weighers: self.request.weighers.as_deref().unwrap_or_default(), table }
    }

    /// Computes the ranges of the candidates; of a single one, nothing is weighed.
    fn measure(&mut self, table: &HostTable, options: &SchedulerOptions) {
        if self.scan.hosts == 1 {
            self.ranking.ranges.clear();
            self.ranking.ranges.resize(options.weighers.len(), Range::default());
            return;
        }
        let weighers = self.request.weighers.as_deref().unwrap_or_default();
        self.ranking.measure(Weighing { weighers, table }, &self.scan.alive);
    }

    /// Ranks the chosen host and at least `others` next best ones, in order.
    fn rank(&mut self, round: &mut Round<'_>, table: &HostTable, others: usize) {
        let Round { options, history, rng, .. } = round;
        if self.scan.hosts == 1 {
            self.ranking.best.clear();
            let only = self.scan.only().map(|row| Weighed { row, weight: 0.0 });
            self.ranking.best.extend(only);
            return;
        }
        let shuffle = options.shuffle_best_same_weighed_hosts;
        let hosts = self.scan.hosts as usize;
        let keep = if shuffle { hosts } else { (1 + others).max(options.host_subset_size) };
        let weighers = self.request.weighers.as_deref().unwrap_or_default();
        self.ranking.rank(Weighing { weighers, table }, &self.scan.alive, history, keep);
        let Some(rng) = rng else { return };
        let best = &mut self.ranking.best;
        if shuffle {
            let top = best[0].weight;
            let equals = best.partition_point(|host| host.weight == top);
            best[..equals].shuffle(rng);
        }
        let chosen = rng.random_range(0..options.host_subset_size.min(best.len()));
        best[..=chosen].rotate_right(1);
    }
}

/// What stays the same from instance to instance of a request.
struct Round<'a> {
    options: &'a SchedulerOptions,
    history: &'a mut History,
    rng: Option<ChaCha8Rng>,
    alternates: usize,
    unexplained: bool,
}

impl Round<'_> {
    /// Lets the next round know the order that this one left.
    fn remember(&mut self, ranking: &Ranking) {
        if self.options.shuffle_best_same_weighed_hosts {
            self.history.restart(ranking.best.iter().map(|host| host.row)); // all candidates are in `best`
        } else {
            self.history.round(&ranking.ranges, ranking.best[0].row);
        }
    }

    /// Says what the filters did if it is the last word on it, and what they could not decide.
    fn tell(
        &self,
        table: &HostTable,
        shape: &mut Shape,
        index: usize,
        last: bool,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        let mut error = None;
        for (filter, tally) in shape.request.filters.iter().zip(&mut shape.scan.tallies) {
            let Some(first) = tally.first_error.take_if(|_| runs(filter, index)) else { continue };
            if self.options.on_filter_error == OnFilterError::FailRequest {
                error = Some(Failure::Filter(first));
                break;
            }
            selected.filter_errors.push((tally.errors, first));
        }
        // Where nothing is left before the filters, none of them runs.
        let placement = &shape.request.placement;
        let unasked = placement.ran(index).last().is_some_and(|(_, tally)| tally.hosts_out == 0);
        // Until the weighers are compiled, one of them may end it here.
        let may_end = shape.request.weighers.is_none() || shape.scan.hosts == 0;
        let final_word = last || may_end || error.is_some();
        if final_word && !self.unexplained {
            let ran = shape.request.filters.iter().zip(&shape.scan.tallies);
            let ran = ran.filter(|(filter, _)| runs(filter, index));
            let told = &mut Refill::new(&mut selected.explanation.filters, shape.request.filters.len());
            explain::terms(table, &shape.request.placement, index, told);
            if !unasked {
                explain::filters(table, ran, told);
            }
        }
        error.map_or(Ok(()), Err)
    }

    /// The next best hosts. After several instances the fleet is weighed once more, as the last one left it.
    fn alternates(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        shape: &mut Shape,
        selected: &mut Selected,
    ) {
        let instances = selected.picks.len();
        if self.alternates == 0 {
            return;
        }
        let mut wanted = self.alternates;
        if instances > 1 {
            shape.again(table, selected.picks[instances - 1].row, instances - 1);
            shape.value(table, spec, self.options);
            if shape.scan.hosts == 0 {
                return;
            }
            shape.measure(table, self.options);
            if self.rng.is_none() && shape.scan.hosts > 1 {
                // Picked hosts count for the ranges and are no alternates. Their blocks have changed, so that the next
                // request finds them again.
                for pick in &selected.picks {
                    shape.scan.alive[pick.row.index() / BLOCK] &= !(1 << (pick.row.index() % BLOCK));
                }
                wanted -= 1;
            } else {
                wanted += instances;
            }
            shape.rank(self, table, wanted);
        }
        let picks = &selected.picks;
        let others = shape.ranking.best.iter().map(|host| Row(host.row));
        let others = others.filter(|row| !picks.iter().any(|pick| pick.row == *row));
        selected.alternates.extend(others.take(self.alternates));
    }
}

impl FilterScheduler {
    /// A scheduler with these settings.
    pub fn new(options: SchedulerOptions) -> Result<Self, BadOptions> {
        options.check()?;
        let (shapes, history, work) = (Shapes::default(), History::default(), Work::default());
        Ok(Self { options, shapes, history, work })
    }

    /// The settings.
    pub fn options(&self) -> &SchedulerOptions {
        &self.options
    }

    /// Chooses a host for each instance of `request` and consumes it in the table, unless `terms` ask for a dry run.
    pub fn select(&mut self, table: &mut HostTable, request: &RequestSpec, terms: &Terms) -> Selected {
        let mut selected = Selected::default();
        self.select_into(table, request, terms, &mut selected);
        selected
    }

    /// The same, in the memory of an earlier answer, which is overwritten.
    pub fn select_into(
        &mut self,
        table: &mut HostTable,
        request: &RequestSpec,
        terms: &Terms,
        selected: &mut Selected,
    ) {
        selected.picks.clear();
        selected.alternates.clear();
        selected.filter_errors.clear();
        selected.weigher_errors.clear();
        let fleet = explain::of_fleet(table);
        (selected.explanation.hosts, selected.explanation.suspect_hosts) = (fleet.hosts, fleet.suspect_hosts);
        let failure = self.place(table, request, terms, selected).err();
        if (failure.is_some() || terms.dry_run) && !selected.picks.is_empty() {
            let charges = charges(request);
            for (pick, uuid) in selected.picks.iter().zip(&request.instance_uuids).rev() {
                table.discharge(pick.row, &charges);
                if pick.took_devices {
                    table.give_back_devices(pick.row, *uuid);
                }
            }
        }
        if terms.unexplained {
            selected.explanation.filters.clear();
        }
        if failure.is_some() || terms.unexplained {
            selected.explanation.ranking.clear();
        }
        if failure.is_some() {
            selected.picks.clear();
        }
        selected.failure = failure;
    }

    fn place(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        terms: &Terms,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        let Self { options, shapes, history, .. } = self;
        let shape =
            shape_of(options, shapes, table, spec).inspect_err(|_| selected.explanation.filters.clear())?;
        history.reset(table.columns.exact.len());
        let random = options.host_subset_size > 1 || options.shuffle_best_same_weighed_hosts;
        let mut round = Round {
            options,
            history,
            rng: random.then(|| ChaCha8Rng::seed_from_u64(terms.seed)),
            alternates: terms.alternates.unwrap_or(options.max_attempts - 1) as usize,
            unexplained: terms.unexplained,
        };
        let charges = Charges::new(&spec.local_flavor(), shape.request.pinned.as_ref());
        let instances = spec.instance_uuids.len();
        for (index, &instance) in spec.instance_uuids.iter().enumerate() {
            let last = index + 1 == instances;
            shape.request.begin(instance, table);
            match selected.picks.last() {
                None => shape.refresh(table),
                Some(pick) => shape.again(table, pick.row, index),
            }
            round.tell(table, shape, index, last, selected)?;
            value_candidates(&round, table, spec, shape, selected)?;
            if shape.scan.hosts == 0 {
                // Before the first instance, nothing left is what Nova has no words for: the service that it asked
                // returned nothing.
                let mut before = shape.request.placement.ran(index);
                let nothing = index == 0 && before.any(|(_, tally)| tally.hosts_out == 0);
                let reason = if nothing { "" } else { "There are not enough hosts available." }.to_owned();
                return Err(Failure::NoValidHost { reason, placeable: selected.picks.len() as u32 });
            }
            let runners_up = if last { options.runners_up } else { 0 };
            let alternates = if instances == 1 { round.alternates } else { 0 };
            shape.measure(table, options);
            shape.rank(&mut round, table, runners_up.max(alternates));
            if last && !round.unexplained {
                let ranking = &shape.ranking;
                let best = &ranking.best[..ranking.best.len().min(1 + runners_up)];
                let scored = &mut Refill::new(&mut selected.explanation.ranking, best.len());
                explain::ranking(shape.weighing(table), best, &ranking.ranges, shape.scan.hosts, scored);
            }
            let Weighed { row, weight } = shape.ranking.best[0];
            let limits = shape.request.limits(table, Row(row));
            let mut pick = Pick { row: Row(row), weight, limits, took_devices: false };
            table.charge(pick.row, &charges);
            shape.request.take_devices(table, instance, &mut pick);
            selected.picks.push(pick);
            shape.request.placed(instance, Row(row));
            if !last || (instances > 1 && round.alternates > 0) {
                round.remember(&shape.ranking);
            }
        }
        round.alternates(table, spec, shape, selected);
        Ok(())
    }

    /// Reads what no host has a say about.
    pub(crate) fn read<'r>(&self, spec: &'r RequestSpec) -> Result<Asked<'r>, Failure> {
        read(&self.options, spec)
    }

    /// Leaves the hosts that the request names or does not exclude.
    pub(crate) fn narrow(&mut self, table: &HostTable, request: &RequestSpec) -> Result<(), Failure> {
        let named = named(table, request)?;
        self.work.alive.clear();
        self.work.alive.extend_from_slice(&table.columns.present);
        for (alive, named) in self.work.alive.iter_mut().zip(named.iter().flatten()) {
            *alive &= named;
        }
        Ok(())
    }

    /// Compiles a request that is looked at once.
    pub(crate) fn compile(&self, table: &mut HostTable, asked: &Asked<'_>, placement: Placement) -> Request {
        compile(&self.options, table, asked, placement, None)
    }

    /// Runs the filters over all blocks.
    pub(crate) fn scan(&mut self, table: &HostTable, request: &mut Request) {
        let (work, group) = (&mut self.work, request.group.as_ref());
        work.tallies.clear();
        work.tallies.resize_with(request.filters.len(), Tally::default);
        for (block, alive) in work.alive.iter_mut().enumerate().filter(|(_, alive)| **alive != 0) {
            for (filter, tally) in request.filters.iter_mut().zip(&mut work.tallies) {
                if *alive != 0 {
                    tally.hosts_in += alive.count_ones();
                    *alive = filter.run(table, group, block, *alive, tally);
                    tally.hosts_out += alive.count_ones();
                }
            }
        }
    }

    /// Values all that are left, so that they can be weighed; a single one is not. Returns how many these are, and
    /// those that a weigher cannot value, which are left out.
    pub(crate) fn value_all(
        &mut self,
        table: &mut HostTable,
        asked: &Asked<'_>,
        request: &mut Request,
    ) -> (usize, Vec<(Row, WeigherError)>) {
        let Work { alive, ranking, .. } = &mut self.work;
        let count = |alive: &[u64]| alive.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        ranking.best.clear();
        ranking.ranges.clear();
        let mut errors = Vec::new();
        if count(alive) >= 2 {
            let scene = Scene { asked, group: request.group.as_ref(), options: &self.options, alive };
            let (weighers, refused) = weighers::compile(&scene, table);
            for (row, _) in &refused {
                alive[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
            }
            (request.weighers, errors) = (Some(weighers), refused);
        }
        let hosts = count(alive);
        if hosts >= 2 {
            let weighing = Weighing { weighers: request.weighers.as_deref().unwrap_or_default(), table };
            ranking.start(weighing, alive);
            ranking.measure(weighing, alive);
        } else {
            ranking.ranges.resize(self.options.weighers.len(), Range::default());
        }
        (hosts, errors)
    }

    /// Weighs all that are left, best first. Returns those that a weigher cannot value, which are left out.
    pub(crate) fn rank_all(
        &mut self,
        table: &mut HostTable,
        asked: &Asked<'_>,
        request: &mut Request,
    ) -> Vec<(Row, WeigherError)> {
        let (hosts, errors) = self.value_all(table, asked, request);
        let Work { alive, ranking, .. } = &mut self.work;
        if hosts < 2 {
            ranking.best.extend(bits(alive).map(|row| Weighed { row: row as u32, weight: 0.0 }));
            return errors;
        }
        let weighing = Weighing { weighers: request.weighers.as_deref().unwrap_or_default(), table };
        self.history.reset(table.columns.exact.len());
        ranking.rank(weighing, alive, &self.history, hosts.max(alive.len() * BLOCK));
        errors
    }
}

fn read<'r>(options: &SchedulerOptions, spec: &'r RequestSpec) -> Result<Asked<'r>, Failure> {
    check(spec)?;
    let image = spec.image.as_ref().map(ImageProperties::read).transpose().map_err(Failure::Image)?;
    let image = image.unwrap_or_default();
    let wanted = Wanted {
        cells: instance_topology::of_request(spec, &image).map_err(Failure::Devices)?,
        pci_requests: instance_topology::pci_requests(spec, &image).map_err(Failure::Devices)?,
        network: spec.network_metadata.as_ref().map(instance_topology::network),
        packing: options.policy.packing_host_numa_cells_allocation_strategy,
    };
    Ok(Asked { pinning: Pinning::read(spec, &image).map_err(Failure::Devices)?, spec, image, wanted })
}

/// The shape of a request, compiled for the table as it is.
pub(crate) fn shape_of<'s>(
    options: &SchedulerOptions,
    shapes: &'s mut Shapes,
    table: &mut HostTable,
    spec: &RequestSpec,
) -> Result<&'s mut Shape, Failure> {
    check(spec)?;
    let shape = shapes.of(spec);
    if !shape.holds(table) {
        shape.forget();
        let asked = read(options, spec)?;
        let placement = Placement::compile(table, &asked, options)?;
        let named = named(table, spec)?;
        let request = compile(options, table, &asked, placement, named);
        shape.set(table, asked.image, request);
    }
    Ok(shape)
}

/// The hosts that the request names or does not exclude, one bit per row, if it says anything about that.
fn named(table: &HostTable, request: &RequestSpec) -> Result<Option<Vec<u64>>, Failure> {
    let no_such_host = |host: Option<&String>, node: Option<&String>| {
        let name = |name: Option<&String>| name.map_or("None".to_owned(), Clone::clone);
        let reason = format!("No such host - host: {} node: {} ", name(host), name(node));
        Failure::NoValidHost { reason, placeable: 0 }
    };
    let words = table.columns.present.len();
    let mut left: Option<Vec<u64>> = None;
    if let Some(target) = &request.target_host {
        let node = request.target_node.as_ref();
        let of_node = |row: &Row| node.is_none_or(|node| table.view(*row).nodename() == node);
        let row = table.row_of(target).filter(of_node);
        let mut only = vec![0; words];
        set(&mut only, row.ok_or_else(|| no_such_host(Some(target), node))?);
        left = Some(only);
    }
    for row in request.ignore_hosts.iter().flat_map(|host| table.rows_of_any_case(host)) {
        left.get_or_insert_with(|| vec![u64::MAX; words])[row.index() / BLOCK] &=
            !(1 << (row.index() % BLOCK));
    }
    let mut keep = |rows: &mut dyn Iterator<Item = Row>| {
        let mut kept = vec![0; words];
        rows.for_each(|row| set(&mut kept, row));
        let any = kept.iter().any(|word| *word != 0);
        let left = left.get_or_insert_with(|| vec![u64::MAX; words]);
        left.iter_mut().zip(&kept).for_each(|(left, kept)| *left &= kept);
        any
    };
    if let Some(first) = request.force_hosts.first()
        && !keep(&mut request.force_hosts.iter().flat_map(|host| table.rows_of_any_case(host)))
    {
        return Err(no_such_host(Some(first), request.force_nodes.first()));
    }
    if let Some(first) = request.force_nodes.first() {
        let named = |row: &Row| request.force_nodes.iter().any(|node| node == table.view(*row).nodename());
        if !keep(&mut table.rows().filter(named)) {
            return Err(no_such_host(request.force_hosts.first(), Some(first)));
        }
    }
    // A name that is not there may come, and a host that is ignored may come back under its name.
    let says = request.target_host.is_some()
        || !(request.ignore_hosts.is_empty()
            && request.force_hosts.is_empty()
            && request.force_nodes.is_empty());
    Ok(left.or_else(|| says.then(|| vec![u64::MAX; words])))
}

fn compile(
    options: &SchedulerOptions,
    table: &mut HostTable,
    asked: &Asked<'_>,
    placement: Placement,
    named: Option<Vec<u64>>,
) -> Request {
    let spec = asked.spec;
    // A forced host is taken as it is, unless an existing instance is checked; but, as by Placement, not beyond its room.
    let forced = !spec.force_hosts.is_empty() || !spec.force_nodes.is_empty();
    let check = spec.scheduler_hints.get("_nova_check_type");
    let check = check.filter(|hint| hint.as_array().is_none_or(|words| !words.is_empty()));
    let forced = forced && check.is_none();
    let rebuild = asked.is_rebuild();
    let runs = |kind: &&FilterKind| {
        (!forced || options.placement && kind.judges_room()) && (!rebuild || kind.runs_on_rebuild())
    };
    let enabled = options.enabled_filters.iter().filter(runs);
    let group = Group::of(spec, table);
    let mut filters = Vec::with_capacity(options.enabled_filters.len());
    filters.extend(enabled.map(|&kind| Filter::compile(kind, table, asked, group.as_ref(), options)));
    let wanted = (!asked.wanted.is_nothing()).then(|| Box::new(asked.wanted.clone()));
    Request { named, placement, filters, group, wanted, pinned: asked.pinning.cpus, weighers: None }
}

/// Compiles the weighers if need be; hosts without a value fail the request or are told.
fn value_candidates(
    round: &Round<'_>,
    table: &mut HostTable,
    spec: &RequestSpec,
    shape: &mut Shape,
    selected: &mut Selected,
) -> Result<(), Failure> {
    let mut errors = shape.value(table, spec, round.options);
    if !errors.is_empty() {
        let count = errors.len() as u32;
        let first = errors.swap_remove(0).1;
        if round.options.on_filter_error == OnFilterError::FailRequest {
            return Err(Failure::Weigher(first));
        }
        selected.weigher_errors.push((count, first));
    }
    Ok(())
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
    let demand = Demand::of_flavor(&request.local_flavor());
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
