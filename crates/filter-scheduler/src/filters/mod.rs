//! Filters: a request becomes operations on blocks of columns.
//!
//! A filter is compiled once per request into a [`Program`]; running it on a block takes the hosts that are still there,
//! one bit each, and returns those it lets pass. Nothing is looked up or dispatched per host. Filters run in the
//! configured order on each block, which gives every filter the same hosts as running it over the whole list would.
//!
//! To add one: a variant in `FilterKind`, how it compiles and runs here, a rule in the reference engine of
//! `tests/reference.rs`.

mod attributes;
mod bound;
mod by_aggregate;
mod compute_capabilities;
mod devices;
mod image;
mod json_query;
mod network;
mod pinned;
mod ratios;
mod refusal;

use novella_objects::RequestSpec;
use novella_resources::{Amount, Demand};
use serde_json::Value;
use uuid::Uuid;

use crate::aggregates::{Facts, ZONE_KEY};
use crate::bitmap::{above, below_f32, either, largest, split, word_bits};
use crate::capability_columns::Kind;
use crate::columns::{RawColumn, RoomColumn};
use crate::devices::Wanted;
use crate::group::{Group, Policy as GroupPolicy};
use crate::host_table::{BLOCK, Columns, Exact, HostTable, NO_ZONE, Row, lane};
use crate::image::ImageProperties;
use crate::json::Json;
use crate::options::{FilterKind, OnFilterError, SchedulerOptions, ratios};
use crate::pinning::Pinning;
use crate::python;
pub(crate) use bound::Bound;
use compute_capabilities::Questions;
pub(crate) use devices::DeviceBound;
use devices::{CellQuestion, DeviceQuestion};
use image::Support;
use json_query::Query;
use network::Network;
use pinned::RoomOfPinned;
use ratios::{ratios_of_sets, rooms_of_sets};
pub(crate) use ratios::{room_with, set_ratio};
pub(crate) use refusal::Scene;

/// What a request asks, read once.
#[derive(Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) spec: &'r RequestSpec,
    pub(crate) image: ImageProperties,
    /// Of NUMA cells and PCI devices, by its first instance.
    pub(crate) wanted: Wanted,
    /// Of CPUs, where not all are shared.
    pub(crate) pinning: Pinning,
}

impl Asked<'_> {
    /// Whether the request is a check of an instance that is rebuilt where it is: only few rules have a say about it.
    pub(crate) fn is_rebuild(&self) -> bool {
        match self.spec.scheduler_hints.get("_nova_check_type") {
            Some(Value::Array(items)) => items.len() == 1 && items[0] == "rebuild",
            Some(text) => text == "rebuild",
            None => false,
        }
    }
}

/// One filter, compiled for one request.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) kind: FilterKind,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// The request asks nothing that this filter looks at.
    PassAll,
    Serving,
    /// Hosts with one of two zone symbols.
    Zone(u32, u32),
    /// The same, where a set of aggregates does not name zones itself: then, by set, whether it names the one wanted.
    ZoneOfSet(Vec<Option<bool>>, u32, u32),
    /// Hosts with room for `wanted`.
    Room {
        amount: Amount,
        wanted: i32,
    },
    /// The same, with the ratios of aggregates, by set, where they have one.
    RoomOfSet {
        amount: Amount,
        wanted: i32,
        ratios: Vec<Option<f64>>,
    },
    /// Hosts with room for CPUs of which an instance has some for itself.
    RoomOfPinned(Box<RoomOfPinned>),
    Capabilities(Questions),
    /// Hosts whose bit is set, which follows from [`Filter::lasts`] and nothing else.
    Rows(Vec<u64>),
    /// Hosts of the group.
    Together,
    /// Hosts with few of the group.
    Apart,
    /// Hosts with fewer than `limit` of something.
    Fewer {
        count: Count,
        limit: i64,
    },
    /// The same, with limits by set of aggregates.
    FewerOfSet {
        count: Count,
        limits: Vec<i64>,
    },
    /// The verdicts by set of aggregates.
    Sets(Vec<by_aggregate::Verdict>),
    /// The verdicts by value of an attribute.
    Values(Box<Values>),
    Image(Box<Support>),
    Query(Query),
    /// Hosts with instances of this flavor only.
    Flavor(Box<str>),
    /// What it asks changes with every instance of the request that is placed.
    Cells(Box<CellQuestion>),
    Devices(DeviceQuestion),
    /// Nova raises the same exception at every host.
    Broken(String),
}

/// How long a compiled filter holds, its table's keys, zones and aggregates staying as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lasts {
    /// Through every change of a host.
    Always,
    /// Until a host is added, removed or renamed.
    UntilNames,
    /// Until that, or until an instance appears or disappears somewhere.
    UntilInstances,
    /// For one request.
    Once,
}

/// What is counted on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    IoOps,
    Instances,
}

/// What a filter compares with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// How much of it fits.
    Amount(Amount),
    /// How many more of it a host may have.
    Count(Count),
    /// How many more of its group a host may have.
    Members,
}

/// A rule asked once of every distinct value of an attribute.
#[derive(Debug)]
struct Values {
    rule: Rule,
    key: Option<u32>,
    /// By symbol, once known.
    verdicts: Vec<Option<Result<bool, String>>>,
}

#[derive(Debug)]
enum Rule {
    /// `host_ip` is in the network.
    Inside(Network),
    /// `metrics` has all these names.
    Metrics(Vec<String>),
}

/// What one filter did to the hosts it was given.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) hosts_in: u32,
    pub(crate) hosts_out: u32,
    /// Of the refused, the first in fleet order with the most room, in the unit of [`Filter::measure`].
    pub(crate) nearest: Option<(Row, i32)>,
    /// Hosts that it could not decide about, which count as refused.
    pub(crate) errors: u32,
    /// What happened at the first of them.
    pub(crate) first_error: Option<FilterError>,
    /// Misses with less room are of no interest: a bound of theirs will do.
    pub(crate) interesting: i32,
    /// The largest room of misses that were of no interest.
    pub(crate) bound: Option<i32>,
}

/// A host that a filter could not decide about; Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{filter} could not decide about host {host}: {reason}")]
pub struct FilterError {
    /// Which filter.
    pub filter: FilterKind,
    /// At which host.
    pub host: String,
    /// Why.
    pub reason: String,
}

impl Filter {
    /// Symbols and thresholds that a request stands for in `table`.
    pub(crate) fn compile(
        kind: FilterKind,
        table: &mut HostTable,
        asked: &Asked<'_>,
        group: Option<&Group>,
        options: &SchedulerOptions,
    ) -> Self {
        let request = asked.spec;
        let program = match kind {
            FilterKind::AllHosts => Program::PassAll,
            FilterKind::Compute => Program::Serving,
            FilterKind::AvailabilityZone => zone(table, request, options),
            FilterKind::Core | FilterKind::AggregateCore if asked.pinning.cpus.is_some() => {
                RoomOfPinned::compile(kind, table, asked)
            }
            FilterKind::Ram | FilterKind::Core | FilterKind::Disk => match room(kind, request) {
                (amount, Some(wanted), _) => Program::Room { amount, wanted },
                _ => Program::PassAll,
            },
            FilterKind::AggregateRam | FilterKind::AggregateCore | FilterKind::AggregateDisk => {
                let (amount, wanted, key) = room(kind, request);
                match wanted {
                    Some(wanted) => Program::RoomOfSet { amount, wanted, ratios: ratios_of_sets(table, key) },
                    None => Program::PassAll,
                }
            }
            FilterKind::ComputeCapabilities if request.flavor.extra_specs.is_empty() => Program::PassAll,
            FilterKind::ComputeCapabilities => {
                Program::Capabilities(Questions::compile(&request.flavor.extra_specs, table))
            }
            FilterKind::ImageProperties => Support::compile(asked, table, &options.policy),
            FilterKind::ServerGroupAntiAffinity => match group.map(|group| group.policy) {
                Some(GroupPolicy::AntiAffinity) => Program::Apart,
                _ => Program::PassAll,
            },
            FilterKind::ServerGroupAffinity => match group.map(|group| group.policy) {
                Some(GroupPolicy::Affinity) => Program::Together,
                _ => Program::PassAll,
            },
            FilterKind::IsolatedHosts => isolated(table, request, options),
            FilterKind::AggregateImagePropertiesIsolation if request.image.is_none() => Program::PassAll,
            FilterKind::AggregateImagePropertiesIsolation => {
                sets(table, |facts| by_aggregate::image_properties(facts, &asked.image, &options.policy))
            }
            FilterKind::AggregateInstanceExtraSpecs if request.flavor.extra_specs.is_empty() => {
                Program::PassAll
            }
            FilterKind::AggregateInstanceExtraSpecs => {
                sets(table, |facts| by_aggregate::extra_specs(facts, &request.flavor.extra_specs))
            }
            FilterKind::AggregateMultiTenancyIsolation => {
                sets(table, |facts| by_aggregate::tenancy(facts, request.project_id.as_deref()))
            }
            FilterKind::AggregateTypeAffinity => {
                sets(table, |facts| by_aggregate::flavor(facts, &request.flavor.name))
            }
            FilterKind::DifferentHost => with_instances(table, request, "different_host", false),
            FilterKind::SameHost => with_instances(table, request, "same_host", true),
            FilterKind::SimpleCidrAffinity => {
                let hint = |name| request.scheduler_hints.get(name);
                match Network::of_hints(hint("build_near_host_ip"), hint("cidr")) {
                    None => Program::PassAll,
                    Some(Ok(network)) => {
                        Program::Values(Box::new(Values::compile(Rule::Inside(network), "host_ip", table)))
                    }
                    Some(Err(reason)) => Program::Broken(reason),
                }
            }
            FilterKind::IoOps => {
                Program::Fewer { count: Count::IoOps, limit: options.policy.max_io_ops_per_host }
            }
            FilterKind::NumInstances => {
                Program::Fewer { count: Count::Instances, limit: options.policy.max_instances_per_host }
            }
            FilterKind::AggregateIoOps => {
                limits(table, Count::IoOps, "max_io_ops_per_host", options.policy.max_io_ops_per_host)
            }
            FilterKind::AggregateNumInstances => limits(
                table,
                Count::Instances,
                "max_instances_per_host",
                options.policy.max_instances_per_host,
            ),
            FilterKind::Json => match Query::of_hint(request.scheduler_hints.get("query")) {
                Query::None => Program::PassAll,
                query => Program::Query(query),
            },
            FilterKind::Metrics => {
                let names: Vec<_> =
                    ratios(&options.policy.metrics_weight_setting).map(|(name, _)| name.to_owned()).collect();
                if names.is_empty() {
                    Program::PassAll
                } else {
                    Program::Values(Box::new(Values::compile(Rule::Metrics(names), "metrics", table)))
                }
            }
            FilterKind::Retry => {
                let tried = request.retry.iter().flat_map(|retry| &retry.hosts);
                let rows = tried.filter_map(|(host, node)| {
                    table.row_of(host).filter(|row| table.view(*row).nodename() == node)
                });
                Program::Rows(bitmap(table, rows, false))
            }
            // An image is never missing in Nova's own use, not even of a volume.
            FilterKind::NumaTopology
                if request.image.is_none() && options.on_filter_error == OnFilterError::FailRequest =>
            {
                Program::Broken("the request has no image".to_owned())
            }
            FilterKind::NumaTopology => CellQuestion::compile(asked, &asked.wanted)
                .map_or(Program::PassAll, |question| Program::Cells(Box::new(question))),
            FilterKind::PciPassthrough => {
                DeviceQuestion::compile(&asked.wanted).map_or(Program::PassAll, Program::Devices)
            }
            FilterKind::TypeAffinity => Program::Flavor(request.flavor.identity().into()),
        };
        Self { kind, program }
    }

    /// The next instance of the request wants this of NUMA cells and PCI devices.
    pub(crate) fn wants(&mut self, wanted: &Wanted) {
        if let Program::Cells(question) = &mut self.program {
            question.wants(wanted);
        }
    }

    /// Whether its verdict on a host holds until that host reports something new besides amounts, and takes more to find
    /// than a comparison.
    pub(crate) fn is_steady(&self) -> bool {
        match &self.program {
            Program::Capabilities(questions) => questions.is_steady(),
            Program::Image(_) | Program::Values(_) | Program::Sets(_) | Program::ZoneOfSet(..) => true,
            _ => false,
        }
    }

    /// See [`Lasts`].
    pub(crate) fn lasts(&self) -> Lasts {
        match (&self.program, self.kind) {
            (Program::Rows(_), FilterKind::IsolatedHosts | FilterKind::Retry) => Lasts::UntilNames,
            (Program::Rows(_), FilterKind::SameHost | FilterKind::DifferentHost) => Lasts::UntilInstances,
            (Program::Rows(_) | Program::Together | Program::Apart, _) => Lasts::Once,
            (Program::Cells(_) | Program::Devices(_), _) => Lasts::Once,
            _ => Lasts::Always,
        }
    }

    /// Some value symbols stand for other values than before.
    pub(crate) fn forget_values(&mut self, symbols: usize) {
        match &mut self.program {
            Program::Capabilities(questions) => questions.forget_values(symbols),
            Program::Values(values) => refill(&mut values.verdicts, symbols),
            Program::Image(support) => support.forget_values(symbols),
            _ => {}
        }
    }

    /// Of the hosts `alive` in a block, those that pass. Counting them is the caller's.
    #[inline]
    pub(crate) fn run(
        &mut self,
        table: &HostTable,
        group: Option<&Group>,
        block: usize,
        alive: u64,
        tally: &mut Tally,
    ) -> u64 {
        let columns = &table.columns;
        let pass = match &mut self.program {
            Program::PassAll => return alive,
            Program::Serving => columns.serving[block],
            Program::Room { amount, wanted } => {
                let column = room_column(columns, *amount);
                if column.low[block] >= *wanted {
                    return alive;
                }
                fitting(&column.rooms.as_chunks::<BLOCK>().0[block], *wanted, block, alive, tally)
            }
            Program::Zone(a, b) => either(&columns.zone.as_chunks::<BLOCK>().0[block], *a, *b),
            Program::Capabilities(questions) => questions.run(table, block, alive, tally),
            Program::Rows(rows) => rows[block],
            _ => self.run_rare(table, group, block, alive, tally),
        };
        alive & pass
    }

    /// The programs that do more than compare columns, kept out of the loop over those that do not.
    #[inline(never)]
    fn run_rare(
        &mut self,
        table: &HostTable,
        group: Option<&Group>,
        block: usize,
        alive: u64,
        tally: &mut Tally,
    ) -> u64 {
        let columns = &table.columns;
        let set_of = |row: usize| table.aggregates.set_of(row) as usize;
        let mut each = Each { kind: self.kind, table, block, alive, tally };
        match &mut self.program {
            Program::RoomOfSet { amount, wanted, ratios } => {
                let room = rooms_of_sets(table, *amount, ratios, block, alive);
                let fits = above(&room, *wanted - 1);
                tally.note_nearest(&room, block, alive & !fits);
                fits
            }
            Program::RoomOfPinned(asked) => asked.run(table, block, alive, tally),
            Program::Together => group.map_or(u64::MAX, |group| group.together(block)),
            Program::Apart => match group.map_or(Ok(u64::MAX), |group| group.apart(block)) {
                Ok(apart) => {
                    each.note_nearest(apart, |row| group.map_or(0, |group| group.room_on(row as u32)));
                    apart
                }
                Err(text) => {
                    each.ask(|_| Err(format!("max_server_per_host is {text:?}, which is no number")))
                }
            },
            Program::Fewer { count, limit } => {
                let pass = match count.column(columns) {
                    // Rounding keeps order, and moves no number across one that it keeps as it is.
                    column if limit.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS => {
                        below_f32(&column.rounded.as_chunks::<BLOCK>().0[block], *limit as f32)
                    }
                    _ => each.ask(|row| Ok(count.of(&columns.exact[row]) < i128::from(*limit))),
                };
                each.note_nearest(pass, |row| count.room(&columns.exact[row], *limit));
                pass
            }
            Program::FewerOfSet { count, limits } => {
                let limit = |row| limits[set_of(row)];
                let pass = each.ask(|row| Ok(count.of(&columns.exact[row]) < i128::from(limit(row))));
                each.note_nearest(pass, |row| count.room(&columns.exact[row], limit(row)));
                pass
            }
            Program::ZoneOfSet(sets, a, b) => each.ask(|row| {
                let own = || columns.zone[row] == *a || columns.zone[row] == *b;
                Ok(sets[set_of(row)].unwrap_or_else(own))
            }),
            Program::Sets(verdicts) => each.ask(|row| verdicts[set_of(row)].clone()),
            Program::Values(values) => each.ask(|row| values.ask(table, row)),
            Program::Image(support) => each.ask(|row| support.ask(table, row)),
            Program::Query(query) => each.ask(|row| query.ask(table, Row(row as u32))),
            Program::Flavor(wanted) => each.ask(|row| {
                let flavors =
                    table.instances.kinds_on(row).map(|kind| kind.and_then(|kind| kind.flavor.as_deref()));
                Ok(flavors.into_iter().all(|flavor| flavor == Some(&**wanted)))
            }),
            Program::Cells(question) => each.ask(|row| question.ask(table, row)),
            Program::Devices(question) => each.ask(|row| question.ask(table, row)),
            Program::Broken(reason) => each.ask(|_| Err(reason.clone())),
            program => unreachable!("{program:?} has run"),
        }
    }

    /// Whether it compares numbers, so that misses are near or far.
    pub(crate) fn compares(&self) -> bool {
        matches!(
            self.program,
            Program::Room { .. }
                | Program::RoomOfSet { .. }
                | Program::RoomOfPinned(_)
                | Program::Fewer { .. }
                | Program::FewerOfSet { .. }
                | Program::Apart
        )
    }

    /// What this filter compares, if it [compares](Self::compares) anything, and how much of it is asked of a host.
    pub(crate) fn measure(&self, table: &HostTable, row: Row) -> Option<(Measure, i32)> {
        match &self.program {
            Program::RoomOfPinned(asked) => {
                let wanted = asked.of(table.has_pcpus(row)).unwrap_or(0);
                Some((Measure::Amount(Amount::Vcpus), wanted))
            }
            Program::Room { amount, wanted } | Program::RoomOfSet { amount, wanted, .. } => {
                Some((Measure::Amount(*amount), *wanted))
            }
            Program::Fewer { count, .. } | Program::FewerOfSet { count, .. } => {
                Some((Measure::Count(*count), 1))
            }
            Program::Apart => Some((Measure::Members, 1)),
            _ => None,
        }
    }

    /// The metadata that aggregates may give their own ratio or limit in, for this filter.
    pub(crate) fn aggregate_key(&self) -> Option<&'static str> {
        match self.kind {
            FilterKind::AggregateCore => Some("cpu_allocation_ratio"),
            FilterKind::AggregateRam => Some("ram_allocation_ratio"),
            FilterKind::AggregateDisk => Some("disk_allocation_ratio"),
            FilterKind::AggregateIoOps => Some("max_io_ops_per_host"),
            FilterKind::AggregateNumInstances => Some("max_instances_per_host"),
            _ => None,
        }
    }

    /// The ratio that this filter counted with, if an aggregate of the host gave one.
    pub(crate) fn ratio(&self, table: &HostTable, row: Row) -> Option<f64> {
        let ratios = match &self.program {
            Program::RoomOfSet { ratios, .. } => ratios,
            Program::RoomOfPinned(asked) => &asked.ratios,
            _ => return None,
        };
        ratios.get(table.aggregates.set_of(row.index()) as usize).copied().flatten()
    }
}

/// The hosts of a block, to be asked one by one.
struct Each<'a> {
    kind: FilterKind,
    table: &'a HostTable,
    block: usize,
    alive: u64,
    tally: &'a mut Tally,
}

impl Each<'_> {
    /// Notes how much room those had that do not pass.
    fn note_nearest(&mut self, pass: u64, room: impl Fn(usize) -> i32) {
        for bit in word_bits(self.alive & !pass) {
            let row = self.block * BLOCK + bit;
            let room = room(row);
            if self.tally.nearest.is_none_or(|(_, best)| room > best) {
                self.tally.nearest = Some((Row(row as u32), room));
            }
        }
    }

    /// Those that pass. An error counts as a refusal, and the first is kept.
    fn ask(&mut self, mut verdict: impl FnMut(usize) -> Result<bool, String>) -> u64 {
        let mut pass = 0;
        for bit in word_bits(self.alive) {
            let row = self.block * BLOCK + bit;
            match verdict(row) {
                Ok(passes) => pass |= u64::from(passes) << bit,
                Err(reason) => {
                    self.tally.errors += 1;
                    let host = || self.table.host(Row(row as u32)).to_owned();
                    self.tally.first_error.get_or_insert_with(|| FilterError {
                        filter: self.kind,
                        host: host(),
                        reason,
                    });
                }
            }
        }
        pass
    }
}

impl Count {
    fn column(self, columns: &Columns) -> &RawColumn {
        match self {
            Self::IoOps => &columns.num_io_ops,
            Self::Instances => &columns.num_instances,
        }
    }

    fn of(self, exact: &Exact) -> i128 {
        match self {
            Self::IoOps => exact.num_io_ops().into(),
            Self::Instances => exact.used().instances.into(),
        }
    }

    /// How many more a host may have before it reaches `limit`; negative beyond it.
    fn room(self, exact: &Exact, limit: i64) -> i32 {
        let room = i128::from(limit) - self.of(exact);
        lane(room.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }
}

impl Values {
    fn compile(rule: Rule, attribute: &str, table: &mut HostTable) -> Self {
        let key = table.capabilities.key(Kind::Attribute, attribute);
        if let Some(key) = key {
            table.capabilities.build_column(key);
        }
        Self { rule, key, verdicts: vec![None; table.capabilities.values()] }
    }

    fn ask(&mut self, table: &HostTable, row: usize) -> Result<bool, String> {
        let Some(symbol) = table.capabilities.symbols(self.key).at(row) else {
            return self.rule.ask(&Json::Null);
        };
        let verdict = &mut self.verdicts[symbol as usize];
        verdict.get_or_insert_with(|| self.rule.ask(&table.capabilities.value(symbol).value)).clone()
    }
}

impl Rule {
    fn ask(&self, value: &Json) -> Result<bool, String> {
        match self {
            Self::Inside(network) => network.holds(value),
            Self::Metrics(names) => Ok(names.iter().all(|name| metric(value, name).is_some())),
        }
    }
}

/// One of a host's metrics, `[{"name": .., "value": ..}, ..]`, as reported.
pub(crate) fn metric<'v>(metrics: &'v Json, name: &str) -> Option<&'v Json> {
    let Json::List(metrics) = metrics else { return None };
    let named = |metric: &&Json| matches!(metric.get("name"), Some(Json::Text(text)) if &**text == name);
    metrics.iter().rfind(named)
}

/// Hosts of a zone: that of their aggregates' metadata if they have any, else the one they report, else the default.
fn zone(table: &HostTable, request: &RequestSpec, options: &SchedulerOptions) -> Program {
    let zone = match request.availability_zone.as_deref() {
        None | Some("") => return Program::PassAll,
        Some(zone) => zone,
    };
    // A zone that no host names has a symbol that no row holds.
    let named = table.zones.find(zone).unwrap_or(NO_ZONE - 1);
    let unnamed = if zone == options.default_availability_zone { NO_ZONE } else { named };
    let facts = table.aggregates.facts();
    if facts.iter().all(|facts| facts.split(ZONE_KEY).is_none()) {
        return Program::Zone(named, unnamed);
    }
    let sets = facts.iter().map(|facts| facts.split(ZONE_KEY).map(|zones| zones.contains(zone))).collect();
    Program::ZoneOfSet(sets, named, unnamed)
}

/// Of a block's hosts, those with room. Among the others, notes the nearest miss, or a bound of those of no interest.
fn fitting(rooms: &[i32; BLOCK], wanted: i32, block: usize, alive: u64, tally: &mut Tally) -> u64 {
    let (fits, below) = split(rooms, wanted);
    let refused = alive & !fits;
    if refused == 0 || below >= tally.interesting {
        tally.note_nearest(rooms, block, refused);
    } else {
        tally.bound = Some(below);
    }
    fits
}

/// What is compared, how much is asked of it if anything, and what its ratio is called.
fn room(kind: FilterKind, request: &RequestSpec) -> (Amount, Option<i32>, &'static str) {
    let demand = Demand::of_flavor(&request.local_flavor());
    let (amount, wanted, key) = match kind {
        FilterKind::Core | FilterKind::AggregateCore => (Amount::Vcpus, demand.vcpus, "cpu_allocation_ratio"),
        FilterKind::Disk | FilterKind::AggregateDisk => {
            (Amount::DiskMb, demand.disk_mb, "disk_allocation_ratio")
        }
        _ => (Amount::MemoryMb, demand.memory_mb, "ram_allocation_ratio"),
    };
    let lane =
        |wanted| i32::try_from(wanted).expect("requests beyond a lane are refused before filters compile");
    (amount, wanted.map(lane), key)
}

fn sets(table: &HostTable, verdict: impl FnMut(&Facts) -> by_aggregate::Verdict) -> Program {
    Program::Sets(table.aggregates.facts().iter().map(verdict).collect())
}

fn limits(table: &HostTable, count: Count, key: &str, configured: i64) -> Program {
    let limit = |facts: &Facts| {
        let own = facts.smallest(key, python::int);
        own.map_or(configured, |own| own.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    };
    Program::FewerOfSet { count, limits: table.aggregates.facts().iter().map(limit).collect() }
}

/// Rows as a bitmap: those listed, or all others.
fn bitmap(table: &HostTable, rows: impl Iterator<Item = Row>, listed: bool) -> Vec<u64> {
    let mut words = vec![if listed { 0 } else { u64::MAX }; table.columns.present.len()];
    for row in rows {
        let (word, bit) = (&mut words[row.index() / BLOCK], 1 << (row.index() % BLOCK));
        *word = if listed { *word | bit } else { *word & !bit };
    }
    words
}

/// SameHostFilter and DifferentHostFilter: hosts that have one of the instances hinted at, or none. What is no uuid is
/// the name of no instance.
fn with_instances(table: &HostTable, request: &RequestSpec, hint: &str, same: bool) -> Program {
    let uuids: Vec<Option<Uuid>> = match request.scheduler_hints.get(hint) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().and_then(|text| text.parse().ok())).collect()
        }
        Some(Value::String(text)) => vec![text.parse().ok()],
        Some(_) => vec![None],
    };
    if uuids.is_empty() {
        return Program::PassAll;
    }
    let rows = uuids.into_iter().flatten().flat_map(|uuid| table.instances.rows_of(uuid)).map(Row);
    Program::Rows(bitmap(table, rows, same))
}

fn isolated(table: &HostTable, request: &RequestSpec, options: &SchedulerOptions) -> Program {
    let policy = &options.policy;
    let id = request.image.as_ref().and_then(|image| image.id.as_ref());
    let image = id.is_some_and(|id| policy.isolated_images.contains(id));
    let hosts = || policy.isolated_hosts.iter().filter_map(|host| table.row_of(host));
    let restrict = policy.restrict_isolated_hosts_to_isolated_images;
    match (policy.isolated_images.is_empty(), restrict, image) {
        (true, false, _) | (false, false, false) => Program::PassAll,
        (true, true, _) | (false, true, false) => Program::Rows(bitmap(table, hosts(), false)),
        (false, _, true) => Program::Rows(bitmap(table, hosts(), true)),
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            hosts_in: 0,
            hosts_out: 0,
            nearest: None,
            errors: 0,
            first_error: None,
            interesting: i32::MIN,
            bound: None,
        }
    }
}

impl Tally {
    /// Ready for another run, its memory kept.
    pub(crate) fn clear(&mut self) {
        (self.hosts_in, self.hosts_out, self.errors) = (0, 0, 0);
        (self.nearest, self.first_error) = (None, None);
        (self.interesting, self.bound) = (i32::MIN, None);
    }

    /// Of the `refused`, keeps the one with the most room.
    pub(crate) fn note_nearest(&mut self, room: &[i32; BLOCK], block: usize, refused: u64) {
        if refused == 0 {
            return;
        }
        let (bit, most) = largest(room, refused);
        if self.nearest.is_none_or(|(_, best)| most > best) {
            self.nearest = Some((Row((block * BLOCK + bit) as u32), most));
        }
    }
}

/// As many unknown verdicts as there are symbols.
fn refill<T: Clone>(verdicts: &mut Vec<Option<T>>, symbols: usize) {
    verdicts.clear();
    verdicts.resize(symbols, None);
}

fn room_column(columns: &Columns, amount: Amount) -> &RoomColumn {
    match amount {
        Amount::Vcpus => &columns.room_vcpus,
        Amount::MemoryMb => &columns.room_memory_mb,
        Amount::DiskMb => &columns.room_disk_mb,
    }
}
