//! Finds hosts that nearly pass: those that one or two filters refuse.
//!
//! All filters and all prefilter terms (traits, resource classes, aggregates) are run on all hosts. None is skipped
//! because another refused. The fleet is in the state that it has when as many instances as fit have been placed. Of
//! the hosts that the same filters refuse, only the nearest few are kept.
//!
//! What always holds: the table is afterwards as it was before.
//!
//! Left out: hosts that the request does not consider (ignored, not the target, not forced), and what would help
//! (`fix.rs`).

use std::collections::BTreeSet;

use hashbrown::HashMap;
use novella_objects::{FilterVerdict, Inventory, NearHost, RequestSpec};
use novella_resources::{Amount, inventory};
use uuid::Uuid;

use crate::filters::group::Group;
use crate::filters::program::Filter;
use crate::filters::ratios::room_with;
use crate::filters::refusal::HostContext;
use crate::filters::tally::{Measure, Tally};
use crate::nova::python;
use crate::prefilters::{PrefilterTerm, Prefilters, Resource};
use crate::questions::inspect::{ask_filter, ask_term};
use crate::request::asked;
use crate::request::failure::Failure;
use crate::select::answer::{Pick, Terms};
use crate::select::compiled::Compiled;
use crate::select::select::{FilterScheduler, give_back};
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::{Exact, MAX_RATIO};
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;

/// How many hosts are kept of those that the same filters refuse.
const KEPT: usize = 3;
/// How many hosts people are shown at most.
const TOLD: usize = 10;

/// How far a request is from fitting.
#[derive(Debug, Clone, Default)]
pub struct NearMisses {
    /// How many instances fit.
    pub(crate) placeable: u32,
    /// How many hosts the table has.
    pub(crate) hosts: u64,
    /// The near hosts: those with one refusal before those with two, and then the nearest first.
    pub(crate) near: Vec<Near>,
    /// The sizes of memory pages that hosts have, in MiB, if the request asks for NUMA cells. A smaller page is 1 MiB here,
    /// because memory is asked for in MiB.
    pub(crate) page_sizes_mb: BTreeSet<u64>,
}

impl NearMisses {
    /// The nearest few hosts, for people.
    pub fn told(&self) -> Vec<NearHost> {
        self.near.iter().take(TOLD).map(|near| near.told.clone()).collect()
    }
}

/// One host that nearly passes.
#[derive(Debug, Clone)]
pub(crate) struct Near {
    /// The host and its refusals for people, in the words of each filter.
    pub(crate) told: NearHost,
    /// What the host has and uses.
    pub(crate) exact: Exact,
    /// The refusals of the host, one or two. Two filters that compare the same amount are one refusal.
    pub(crate) refused: Vec<Refused>,
}

/// One refusal of a host.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) by: Refuser,
    /// By how much the host misses, if numbers are compared.
    pub(crate) miss: Option<Miss>,
}

/// What refuses a host: a filter or a prefilter term.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refuser {
    Filter(FilterKind),
    /// A prefilter term, by its name.
    Term(String),
}

/// By how much a host misses.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    /// The amount that is compared.
    pub(crate) what: Compared,
    /// How much is asked for, in the unit of `what`.
    pub(crate) wanted: i64,
    /// How much the host has left. It may be negative.
    pub(crate) has: i64,
    /// The number in an aggregate's metadata that decides, if one does.
    pub(crate) aggregate: Option<AggregateNumber>,
}

/// The amount that is compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Compared {
    Measure(Measure),
    /// Members of the server group. The number is how many a host may have.
    Members(u64),
    Class(Class),
}

/// A resource class, as the host reports it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) inventory: Inventory,
    /// How much of the class is in use.
    pub(crate) used: u64,
    /// Whether the inventory gives out amounts of this size at all, by its units and steps.
    pub(crate) allowed: bool,
}

/// A ratio or a limit in the metadata of one aggregate.
#[derive(Debug, Clone)]
pub(crate) struct AggregateNumber {
    /// The id of the aggregate.
    pub(crate) id: u32,
    /// The name of the aggregate.
    pub(crate) aggregate: String,
    /// The key in the metadata.
    pub(crate) key: &'static str,
    /// The number as it is written in the metadata.
    pub(crate) text: String,
    /// How many steps make 1. A ratio is counted in hundredths, a limit in ones.
    pub(crate) steps: u64,
    /// The smallest number, in steps, that is enough for one more instance.
    pub(crate) enough: u64,
}

impl Refused {
    /// The amount of which the host has too little, if it is CPUs, memory or disk.
    pub(crate) fn amount(&self) -> Option<Amount> {
        match self.miss {
            Some(Miss { what: Compared::Measure(Measure::Amount(amount)), .. }) => Some(amount),
            _ => None,
        }
    }

    /// The resource class of which the host has too little, if it is one.
    pub(crate) fn class(&self) -> Option<&Class> {
        match &self.miss {
            Some(Miss { what: Compared::Class(class), .. }) => Some(class),
            _ => None,
        }
    }

    /// The fraction of the asked amount that the host lacks. A refusal without numbers counts as 1.
    fn share(&self) -> f64 {
        self.miss.as_ref().map_or(1.0, |miss| (miss.wanted - miss.has) as f64 / miss.wanted.max(1) as f64)
    }
}

/// The hosts that are nearest to taking the first instance that does not fit; `None` if all instances fit. Nothing
/// stays placed. Fails if the request cannot be answered at all.
pub fn near_misses(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instances: &[Uuid],
) -> Result<Option<NearMisses>, Failure> {
    let dry = Terms { dry_run: true, ..Terms::default() };
    let placeable = match engine.select(table, spec, instances, &dry).failure {
        None => return Ok(None),
        Some(Failure::NoValidHost { placeable, .. }) => placeable,
        Some(Failure::Filter(_) | Failure::Weigher(_)) => 0,
        Some(failure) => return Err(failure),
    };
    let first = &instances[..placeable as usize];
    let placed = if first.is_empty() {
        Vec::new()
    } else {
        engine.select(table, spec, first, &Terms::default()).picks
    };
    let near = nearest(engine, table, spec, instances, &placed);
    give_back(table, spec, first, &placed);
    let page_sizes_mb = page_sizes_mb(engine, table, spec)?;
    Ok(Some(NearMisses { placeable, hosts: table.len() as u64, near: near?, page_sizes_mb }))
}

fn page_sizes_mb(
    engine: &FilterScheduler,
    table: &HostTable,
    spec: &RequestSpec,
) -> Result<BTreeSet<u64>, Failure> {
    if asked::read(engine.options(), spec)?.wanted.cells.is_none() {
        return Ok(BTreeSet::new());
    }
    let topologies = table.rows().filter_map(|row| table.devices(row)?.cells());
    let pages = topologies.flat_map(|topology| &topology.cells).flat_map(|cell| &cell.mempages);
    Ok(pages.map(|pages| whole_mb(pages.size_kb)).collect())
}

/// The smallest number of MiB that pages of this size fill without a rest.
pub(crate) fn whole_mb(page_size_kb: i64) -> u64 {
    let size = page_size_kb.unsigned_abs().max(1);
    size >> size.trailing_zeros().min(10) // in KiB, divided by what it shares with 1024
}

/// The hosts that are nearest to taking the next instance, when the instances in `placed` have been placed.
fn nearest(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instances: &[Uuid],
    placed: &[Pick],
) -> Result<Vec<Near>, Failure> {
    let asked = asked::read(engine.options(), spec)?;
    if engine.whole_fleet.narrow(table, spec).is_err() {
        return Ok(Vec::new());
    }
    let prefilters = Prefilters::compile(table, &asked, engine.options())?;
    let mut compiled = Compiled::new(engine.options(), table, &asked, prefilters, None);
    if let Some(group) = &mut compiled.group {
        for (pick, uuid) in placed.iter().zip(instances) {
            group.begin(*uuid, table);
            group.placed(*uuid, pick.row);
        }
    }
    compiled.begin(instances[placed.len()], table);
    let kept = keep_nearest(table, &engine.whole_fleet.alive, &mut compiled);
    let near = in_order(kept).into_iter().map(|(refusers, KeptHost { row, refused, .. })| {
        let group = compiled.group.as_ref();
        let context = HostContext { table, asked: &asked, group, options: engine.options(), row };
        let view = table.view(row);
        let told = NearHost {
            host: view.host().to_owned(),
            state: view.status(),
            refused: verdicts(&compiled.prefilters, &mut compiled.filters, refusers, context),
        };
        Near { told, exact: *view.exact(), refused }
    });
    Ok(near.collect())
}

/// The positions of the one or two that refuse a host, among the terms and then the filters. The second is past the end if
/// only one refuses it.
type Refusers = (usize, usize);

/// A host that is among the nearest of those with the same refusers.
struct KeptHost {
    /// The sum of the shares that the host lacks, 1 for each refusal without numbers.
    share: f64,
    row: Row,
    refused: Vec<Refused>,
}

/// Asks every term and every filter about every host, and keeps the nearest hosts of those with the same refusers.
fn keep_nearest(
    table: &HostTable,
    alive: &[u64],
    compiled: &mut Compiled,
) -> HashMap<Refusers, Vec<KeptHost>> {
    let Compiled { prefilters: Prefilters { terms }, filters, group, .. } = compiled;
    let group = group.as_ref();
    let mut near: HashMap<Refusers, Vec<KeptHost>> = HashMap::new();
    let of_status = (
        terms.iter().position(|(term, _)| term.is_of_status()),
        filters.iter().position(|filter| filter.kind == FilterKind::Compute),
    );
    for (block, &alive) in alive.iter().enumerate().filter(|(_, alive)| **alive != 0) {
        let by_terms = terms.iter().map(|(term, _)| term.run(table, block, alive, &mut Tally::default()));
        let mut pass: Vec<u64> = by_terms.collect();
        let run = |filter: &mut Filter| filter.run(table, group, block, alive, &mut Tally::default());
        pass.extend(filters.iter_mut().map(run));
        if let (Some(term), Some(filter)) = of_status {
            pass[term] |= !pass[terms.len() + filter]; // ComputeFilter says it too, and that is one refusal
        }
        for bit in word_bits(refused_once_or_twice(&pass, alive)) {
            let row = Row((block * BLOCK + bit) as u32);
            let refusers = refusers(&pass, bit);
            let mut refused = Vec::with_capacity(2);
            for at in [refusers.0, refusers.1] {
                match terms.get(at) {
                    Some((term, _)) => refused.push(of_term(term, table, row)),
                    None => {
                        let Some(filter) = filters.get_mut(at - terms.len()) else { continue };
                        add(&mut refused, of_filter(filter, table, group, row));
                    }
                }
            }
            let share: f64 = refused.iter().map(Refused::share).sum();
            let kept = near.entry(refusers).or_default();
            let place = kept.partition_point(|other| other.share <= share);
            if place < KEPT {
                kept.insert(place, KeptHost { share, row, refused });
                kept.truncate(KEPT);
            }
        }
    }
    near
}

/// The hosts in `alive` that one or two refuse. `pass` has the hosts that pass, for each term and filter.
fn refused_once_or_twice(pass: &[u64], alive: u64) -> u64 {
    let (mut once, mut twice, mut thrice) = (0, 0, 0);
    for refused in pass.iter().map(|pass| alive & !pass) {
        thrice |= twice & refused;
        twice |= once & refused;
        once |= refused;
    }
    once & !thrice
}

fn refusers(pass: &[u64], bit: usize) -> Refusers {
    let mut refusing = (0..pass.len()).filter(|at| pass[*at] & (1 << bit) == 0);
    (refusing.next().unwrap_or(pass.len()), refusing.next().unwrap_or(pass.len()))
}

/// The nearest hosts first; hosts with fewer refusals come before those with more.
fn in_order(kept: HashMap<Refusers, Vec<KeptHost>>) -> Vec<(Refusers, KeptHost)> {
    let each =
        |(refusers, hosts): (Refusers, Vec<KeptHost>)| hosts.into_iter().map(move |host| (refusers, host));
    let mut near: Vec<_> = kept.into_iter().flat_map(each).collect();
    near.sort_by(|(_, a), (_, b)| {
        let fewer = a.refused.len().cmp(&b.refused.len());
        fewer.then(a.share.total_cmp(&b.share)).then(a.row.cmp(&b.row))
    });
    near
}

/// What the refusers of a host say about it, with reasons for people.
fn verdicts(
    prefilters: &Prefilters,
    filters: &mut [Filter],
    refusers: Refusers,
    context: HostContext<'_>,
) -> Vec<FilterVerdict> {
    let terms = &prefilters.terms;
    let ask = |at: usize| match terms.get(at) {
        Some((term, _)) => Some(ask_term(term, context.table, context.row)),
        None => filters.get_mut(at - terms.len()).map(|filter| ask_filter(filter, context)),
    };
    [refusers.0, refusers.1].into_iter().filter_map(ask).collect()
}

/// Adds a refusal. Two filters that compare the same amount are one refusal, and the one that lacks more is kept.
fn add(refused: &mut Vec<Refused>, by: Refused) {
    let same = |other: &&mut Refused| match (&other.miss, &by.miss) {
        (Some(a), Some(b)) => a.what == b.what,
        _ => false,
    };
    match refused.iter_mut().find(same) {
        None => refused.push(by),
        Some(other) if by.share() > other.share() => *other = by,
        Some(_) => {}
    }
}

/// The refusal of a host by a filter.
fn of_filter(filter: &mut Filter, table: &HostTable, group: Option<&Group>, row: Row) -> Refused {
    let mut tally = Tally::default();
    filter.run(table, group, row.index() / BLOCK, 1 << (row.index() % BLOCK), &mut tally);
    let miss = filter.measure(table, row).zip(tally.nearest).map(|((measure, wanted), (_, has))| Miss {
        what: match (measure, group.and_then(Group::most)) {
            (Measure::Members, Some(most)) => Compared::Members(most),
            (measure, _) => Compared::Measure(measure),
        },
        wanted: wanted.into(),
        has: has.into(),
        aggregate: filter
            .kind
            .aggregate_key()
            .and_then(|key| AggregateNumber::of(table, row, key, measure, (wanted.into(), has.into()))),
    });
    Refused { by: Refuser::Filter(filter.kind), miss }
}

/// The refusal of a host by a prefilter term.
fn of_term(term: &PrefilterTerm, table: &HostTable, row: Row) -> Refused {
    let miss = |resource: &Resource| {
        let held = table.inventories(row).find(|held| held.class == resource.class)?;
        let (inventory, used) = (held.inventory?, held.used);
        let allowed = resource.sum <= inventory.max_unit
            && resource.each.iter().all(|amount| inventory::allows(&inventory, *amount));
        let class = Class { name: resource.class.clone(), inventory, used, allowed };
        let has = most_of(&inventory, used, resource.sum);
        Some(Miss {
            what: Compared::Class(class),
            wanted: i64::try_from(resource.sum).unwrap_or(i64::MAX),
            has: i64::try_from(has).unwrap_or(i64::MAX),
            aggregate: None,
        })
    };
    Refused { by: Refuser::Term(term.name.clone()), miss: term.resource().and_then(miss) }
}

/// The largest amount, up to `asked`, that an inventory can still give out when `used` is in use; 0 if it can give out
/// none.
fn most_of(inventory: &Inventory, used: u64, asked: u64) -> u64 {
    let room = u64::try_from(inventory::room(inventory, used)).unwrap_or(0).min(asked);
    let most = room - room.checked_rem(inventory.step_size).unwrap_or(room);
    if inventory::fits(inventory, used, most) { most } else { 0 }
}

impl AggregateNumber {
    /// The number that decides about a host, if it is in the metadata of exactly one aggregate.
    fn of(
        table: &HostTable,
        row: Row,
        key: &'static str,
        measure: Measure,
        (wanted, has): (i64, i64),
    ) -> Option<Self> {
        let facts = &table.aggregates.facts()[table.aggregates.set_of(row.index()) as usize];
        let (steps, enough) = match measure {
            Measure::Amount(amount) => {
                facts.smallest(key, python::float).filter(|ratio| ratio.is_finite())?;
                let exact = &table.columns.exact[row.index()];
                let fits = |ratio| i64::from(room_with(exact, amount, ratio)) >= wanted;
                (100, smallest_hundredths(fits)?)
            }
            Measure::Count(_) => {
                let limit = facts.smallest(key, python::int)?;
                (1, u64::try_from(limit.checked_add(i128::from(wanted - has))?).ok()?)
            }
            Measure::Members => return None,
        };
        let ids = table.aggregates.ids(row.index());
        let too_small = table.aggregates.defined().filter_map(|aggregate| {
            let text = aggregate.metadata.get(key).filter(|_| ids.contains(&aggregate.id))?;
            let small = python::float(text)? < enough as f64 / steps as f64;
            small.then_some((aggregate, text))
        });
        let [(aggregate, text)] = too_small.collect::<Vec<_>>()[..] else { return None };
        let (id, text, aggregate) = (aggregate.id, text.clone(), aggregate.name.clone());
        Some(Self { id, aggregate, key, text, steps, enough })
    }
}

/// The smallest ratio, in hundredths, for which `fits` is true; `None` if it is false for the largest ratio that a host
/// may have.
pub(crate) fn smallest_hundredths(fits: impl Fn(f64) -> bool) -> Option<u64> {
    let (mut bad, mut good) = (0, (MAX_RATIO * 100.0) as u64);
    if !fits(good as f64 / 100.0) {
        return None;
    }
    while good - bad > 1 {
        let middle = good.midpoint(bad);
        if fits(middle as f64 / 100.0) { good = middle } else { bad = middle }
    }
    Some(good)
}
