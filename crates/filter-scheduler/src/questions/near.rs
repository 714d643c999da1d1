//! Hosts that nearly pass: those which one filter or two refuse.
//!
//! All filters, and all that is asked before them (traits, resource classes, aggregates), are run on all hosts, none skipped
//! because another refused, as the fleet stands when as many instances as fit have been placed. Of the hosts that the same
//! filters refuse only the nearest few are kept. A host that the request does not consider (ignored, not the target, not
//! forced) is not near.

use hashbrown::HashMap;
use novella_objects::{FilterVerdict, HostState as Status, Inventory, NearHost, RequestSpec};
use novella_resources::{Amount, Amounts, inventory};

use crate::filters::group::Group;
use crate::filters::program::Filter;
use crate::filters::ratios::room_with;
use crate::filters::refusal::HostContext;
use crate::filters::tally::{Measure, Tally};
use crate::nova::python;
use crate::prefilters::{Prefilters, Resource, Term};
use crate::questions::inspect::{ask_filter, ask_term};
use crate::request::asked;
use crate::request::failure::Failure;
use crate::request::pinning::charges;
use crate::select::answer::{Pick, Terms};
use crate::select::compiled::Compiled;
use crate::select::select::FilterScheduler;
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::{MAX_RATIO, Resources};
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;

/// Hosts kept of those that the same filters refuse.
const KEPT: usize = 3;
/// Most hosts told to people.
const TOLD: usize = 10;

/// How far a request is from fitting.
#[derive(Debug, Clone, Default)]
pub struct NearMisses {
    /// Instances that fit.
    pub(crate) placeable: u32,
    /// Hosts in the table.
    pub(crate) hosts: u64,
    /// The nearest first, fewer filters before more.
    pub(crate) near: Vec<Near>,
}

impl NearMisses {
    /// The nearest few, for people.
    pub fn told(&self) -> Vec<NearHost> {
        let told = |near: &Near| NearHost {
            host: near.host.clone(),
            state: near.status,
            refused: near.told.clone(),
        };
        self.near.iter().take(TOLD).map(told).collect()
    }
}

/// One host that nearly passes.
#[derive(Debug, Clone)]
pub(crate) struct Near {
    pub(crate) host: String,
    pub(crate) status: Status,
    pub(crate) reported: Resources,
    pub(crate) used: Amounts,
    /// By one filter or two; by one entry where two compare the same.
    pub(crate) refused: Vec<Refused>,
    /// The same for people, with each filter's words.
    told: Vec<FilterVerdict>,
}

/// By how much something refuses it.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) by: By,
    pub(crate) miss: Option<Miss>,
}

/// Who refuses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum By {
    Filter(FilterKind),
    /// What is asked before the filters, by its name.
    Term(String),
}

/// What is compared, what is asked of it, and what there is.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    pub(crate) what: What,
    pub(crate) wanted: i64,
    pub(crate) has: i64,
    /// The number that decides, if it is an aggregate's.
    pub(crate) aggregate: Option<Own>,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Measure(Measure),
    /// Members of the group, of which a host may have so many.
    Members(u64),
    Class(Class),
}

/// A resource class of a host that reports it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) inventory: Inventory,
    pub(crate) used: u64,
    /// Whether the amounts are such as the inventory gives out at all.
    pub(crate) allowed: bool,
}

/// A ratio or a limit in the metadata of one aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) id: u32,
    pub(crate) aggregate: String,
    pub(crate) key: &'static str,
    /// As written.
    pub(crate) text: String,
    /// Steps to one: a ratio is counted in hundredths.
    pub(crate) steps: u64,
    /// The least that is enough for one more instance.
    pub(crate) enough: u64,
}

impl Refused {
    /// Of one amount.
    pub(crate) fn amount(&self) -> Option<Amount> {
        match self.miss {
            Some(Miss { what: What::Measure(Measure::Amount(amount)), .. }) => Some(amount),
            _ => None,
        }
    }

    /// Of one resource class.
    pub(crate) fn class(&self) -> Option<&Class> {
        match &self.miss {
            Some(Miss { what: What::Class(class), .. }) => Some(class),
            _ => None,
        }
    }

    /// The share that is missing; a refusal without numbers counts as a whole.
    fn share(&self) -> f64 {
        self.miss.as_ref().map_or(1.0, |miss| (miss.wanted - miss.has) as f64 / miss.wanted.max(1) as f64)
    }
}

/// The hosts nearest to taking the instance that is the first not to fit; `None` if all fit. Nothing stays placed.
pub fn near_misses(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
) -> Result<Option<NearMisses>, Failure> {
    let dry = Terms { dry_run: true, ..Terms::default() };
    let placeable = match engine.select(table, spec, &dry).failure {
        None => return Ok(None),
        Some(Failure::NoValidHost { placeable, .. }) => placeable,
        Some(Failure::Filter(_) | Failure::Weigher(_)) => 0,
        Some(failure) => return Err(failure),
    };
    let mut first = spec.clone();
    first.instance_uuids.truncate(placeable as usize);
    let placed =
        if placeable > 0 { engine.select(table, &first, &Terms::default()).picks } else { Vec::new() };
    let near = nearest(engine, table, spec, &placed);
    let charges = charges(spec);
    for (pick, uuid) in placed.iter().zip(&spec.instance_uuids) {
        table.discharge(pick.row, &charges);
        if pick.took_devices {
            table.give_back_devices(pick.row, *uuid);
        }
    }
    Ok(Some(NearMisses { placeable, hosts: table.len() as u64, near: near? }))
}

/// The hosts nearest to taking the next instance when the first ones have been placed.
fn nearest(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    placed: &[Pick],
) -> Result<Vec<Near>, Failure> {
    let asked = asked::read(engine.options(), spec)?;
    if engine.whole_fleet.narrow(table, spec).is_err() {
        return Ok(Vec::new());
    }
    let prefilters = Prefilters::compile(table, &asked, engine.options())?;
    let mut compiled = Compiled::new(engine.options(), table, &asked, prefilters, None);
    if let Some(group) = &mut compiled.group {
        for (pick, uuid) in placed.iter().zip(&spec.instance_uuids) {
            group.begin(*uuid, table);
            group.placed(*uuid, pick.row);
        }
    }
    let next = spec.instance_uuids.get(placed.len()).unwrap_or(&spec.instance_uuids[0]);
    compiled.begin(*next, table);
    let group = compiled.group.as_ref();
    let terms = &compiled.prefilters.terms;
    let mut near: HashMap<(usize, usize), Vec<Kept>> = HashMap::new();
    for (block, &alive) in engine.whole_fleet.alive.iter().enumerate().filter(|(_, alive)| **alive != 0) {
        let by_terms = terms.iter().map(|(term, _)| term.run(table, block, alive, &mut Tally::default()));
        let mut pass: Vec<u64> = by_terms.collect();
        pass.extend(
            compiled
                .filters
                .iter_mut()
                .map(|filter| filter.run(table, group, block, alive, &mut Tally::default())),
        );
        // Of each bit: refused at least once, twice, three times.
        let (mut once, mut twice, mut thrice) = (0, 0, 0);
        for refused in pass.iter().map(|pass| alive & !pass) {
            thrice |= twice & refused;
            twice |= once & refused;
            once |= refused;
        }
        for bit in word_bits(once & !thrice) {
            let row = Row((block * BLOCK + bit) as u32);
            let mut refused = Vec::with_capacity(2);
            let by = refusing(&pass, bit);
            for at in [by.0, by.1] {
                match terms.get(at) {
                    Some((term, _)) => refused.push(of_term(term, table, row)),
                    None => {
                        let Some(filter) = compiled.filters.get_mut(at - terms.len()) else { continue };
                        add(&mut refused, of_filter(filter, table, group, row));
                    }
                }
            }
            let share: f64 = refused.iter().map(Refused::share).sum();
            let kept = near.entry(by).or_default();
            let place = kept.partition_point(|(other, _, _)| *other <= share);
            if place < KEPT {
                kept.insert(place, (share, row, refused));
                kept.truncate(KEPT);
            }
        }
    }
    let mut near: Vec<_> =
        near.into_iter().flat_map(|(by, near)| near.into_iter().map(move |near| (by, near))).collect();
    near.sort_by(|(_, (a, x, of_a)), (_, (b, y, of_b))| {
        of_a.len().cmp(&of_b.len()).then(a.total_cmp(b)).then(x.cmp(y))
    });
    let near = near.into_iter().map(|(by, (_, row, refused))| {
        let context = HostContext { table, asked: &asked, group, options: engine.options(), row };
        let mut told = Vec::with_capacity(2);
        for at in [by.0, by.1] {
            match terms.get(at) {
                Some((term, _)) => told.push(ask_term(term, table, row)),
                None => {
                    let filter = compiled.filters.get_mut(at - terms.len());
                    told.extend(filter.map(|filter| ask_filter(filter, context)));
                }
            }
        }
        let view = table.view(row);
        Near {
            host: view.host().to_owned(),
            status: view.status(),
            reported: *view.reported(),
            used: view.used(),
            refused,
            told,
        }
    });
    Ok(near.collect())
}

/// What is missing in all, where, and by whom.
type Kept = (f64, Row, Vec<Refused>);

/// Which one or two refuse the host of this bit; the second is no index if there is none.
fn refusing(pass: &[u64], bit: usize) -> (usize, usize) {
    let mut by = (0..pass.len()).filter(|at| pass[*at] & (1 << bit) == 0);
    (by.next().unwrap_or(pass.len()), by.next().unwrap_or(pass.len()))
}

/// Two filters that compare the same are one refusal, by the larger lack.
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

/// By how much a filter refuses a host.
fn of_filter(filter: &mut Filter, table: &HostTable, group: Option<&Group>, row: Row) -> Refused {
    let mut tally = Tally::default();
    filter.run(table, group, row.index() / BLOCK, 1 << (row.index() % BLOCK), &mut tally);
    let miss = filter.measure(table, row).zip(tally.nearest).map(|((measure, wanted), (_, has))| Miss {
        what: match (measure, group.and_then(Group::most)) {
            (Measure::Members, Some(most)) => What::Members(most),
            (measure, _) => What::Measure(measure),
        },
        wanted: wanted.into(),
        has: has.into(),
        aggregate: filter
            .aggregate_key()
            .and_then(|key| Own::of(table, row, key, measure, (wanted.into(), has.into()))),
    });
    Refused { by: By::Filter(filter.kind), miss }
}

/// By how much what is asked before the filters refuses a host.
fn of_term(term: &Term, table: &HostTable, row: Row) -> Refused {
    let miss = |resource: &Resource| {
        let held = table.inventories(row).find(|held| held.class == resource.class)?;
        let (inventory, used) = (held.inventory?, held.used);
        let allowed = resource.sum <= inventory.max_unit
            && resource.each.iter().all(|amount| inventory::allows(&inventory, *amount));
        let class = Class { name: resource.class.clone(), inventory, used, allowed };
        let has = most_of(&inventory, used, resource.sum);
        Some(Miss {
            what: What::Class(class),
            wanted: i64::try_from(resource.sum).unwrap_or(i64::MAX),
            has: i64::try_from(has).unwrap_or(i64::MAX),
            aggregate: None,
        })
    };
    Refused { by: By::Term(term.name.clone()), miss: term.resource().and_then(miss) }
}

/// The largest amount up to `asked` that an inventory gives out beside what is used; 0 if it gives out none.
fn most_of(inventory: &Inventory, used: u64, asked: u64) -> u64 {
    let room = u64::try_from(inventory::room(inventory, used)).unwrap_or(0).min(asked);
    let most = room - room.checked_rem(inventory.step_size).unwrap_or(room);
    if inventory::fits(inventory, used, most) { most } else { 0 }
}

impl Own {
    /// The aggregate whose number decides about a host, if it is one aggregate's alone.
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

/// The smallest ratio in hundredths of those that `fits`; `None` if none does that a host may have.
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
