//! Hosts that nearly pass: those which one filter or two refuse.
//!
//! All filters are run on all hosts, none skipped because another refused, as the fleet stands when as many instances as
//! fit have been placed. Of the hosts that the same filters refuse only the nearest few are kept. A host that is none of
//! the candidates that filters are given is not near.

use hashbrown::HashMap;
use novella_objects::RequestSpec;
use novella_resources::Amount;

use crate::bitmap::word_bits;
use crate::filters::{Filter, Measure, Tally};
use crate::host_table::{BLOCK, HostTable, Row};
use crate::options::FilterKind;
use crate::placement::Placement;
use crate::select::{Failure, FilterScheduler, Terms};
use crate::{Allocation, Amounts, Resources, Status};

/// Hosts kept of those that the same filters refuse.
const KEPT: usize = 3;

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

/// One host that nearly passes.
#[derive(Debug, Clone)]
pub(crate) struct Near {
    pub(crate) host: String,
    pub(crate) status: Status,
    pub(crate) reported: Resources,
    pub(crate) used: Amounts,
    /// By one filter or two; by one entry where two compare the same.
    pub(crate) refused: Vec<Refused>,
}

/// By how much a filter refuses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub(crate) kind: FilterKind,
    /// What it compares, what is asked of it, and what there is.
    pub(crate) miss: Option<(Measure, i32, i32)>,
}

impl Refused {
    /// Of one amount.
    pub(crate) fn amount(&self) -> Option<Amount> {
        match self.miss {
            Some((Measure::Amount(amount), _, _)) => Some(amount),
            _ => None,
        }
    }

    /// The share that is missing; a refusal without numbers counts as a whole.
    fn share(&self) -> f64 {
        self.miss
            .map_or(1.0, |(_, wanted, has)| (f64::from(wanted) - f64::from(has)) / f64::from(wanted.max(1)))
    }
}

impl FilterScheduler {
    /// The hosts nearest to taking the instance that is the first not to fit; `None` if all fit. Nothing stays placed.
    pub fn near_misses(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
    ) -> Result<Option<NearMisses>, Failure> {
        let dry = Terms { dry_run: true, ..Terms::default() };
        let placeable = match self.select(table, spec, &dry).failure {
            None => return Ok(None),
            Some(Failure::NoValidHost { placeable, .. }) => placeable,
            Some(Failure::Filter(_) | Failure::Weigher(_)) => 0,
            Some(failure) => return Err(failure),
        };
        let mut first = spec.clone();
        first.instance_uuids.truncate(placeable as usize);
        let placed =
            if placeable > 0 { self.select(table, &first, &Terms::default()).picks } else { Vec::new() };
        let near = self.nearest(table, spec);
        let allocation = Allocation::of_flavor(&spec.flavor);
        placed.iter().for_each(|pick| table.deallocate(pick.row, &allocation));
        Ok(Some(NearMisses { placeable, hosts: table.len() as u64, near: near? }))
    }

    fn nearest(&mut self, table: &mut HostTable, spec: &RequestSpec) -> Result<Vec<Near>, Failure> {
        let asked = self.read(spec)?;
        if self.narrow(table, spec).is_err() {
            return Ok(Vec::new());
        }
        let mut placement = Placement::compile(table, &asked, self.options())?;
        placement.run(table, &mut self.work.alive, 0);
        let mut request = self.compile(table, &asked, placement);
        request.begin(spec.instance_uuids[0], table);
        let group = request.group.as_ref();
        let mut near: HashMap<u64, Vec<(f64, Row, Vec<Refused>)>> = HashMap::new();
        for (block, &alive) in self.work.alive.iter().enumerate().filter(|(_, alive)| **alive != 0) {
            let pass: Vec<u64> = request
                .filters
                .iter_mut()
                .map(|filter| filter.run(table, group, block, alive, &mut Tally::default()))
                .collect();
            // Of each bit: refused at least once, twice, three times.
            let (mut once, mut twice, mut thrice) = (0, 0, 0);
            for refused in pass.iter().map(|pass| alive & !pass) {
                thrice |= twice & refused;
                twice |= once & refused;
                once |= refused;
            }
            for bit in word_bits(once & !thrice) {
                let row = Row((block * BLOCK + bit) as u32);
                let mut mask = 0;
                let mut refused = Vec::with_capacity(2);
                for (at, filter) in
                    request.filters.iter_mut().enumerate().filter(|(at, _)| pass[*at] & (1 << bit) == 0)
                {
                    mask |= 1 << at;
                    let by = look(filter, |filter, tally| {
                        filter.run(table, group, block, 1 << bit, tally);
                    });
                    add(&mut refused, by);
                }
                let share: f64 = refused.iter().map(Refused::share).sum();
                let kept = near.entry(mask).or_default();
                let place = kept.partition_point(|(other, _, _)| *other <= share);
                if place < KEPT {
                    kept.insert(place, (share, row, refused));
                    kept.truncate(KEPT);
                }
            }
        }
        let mut near: Vec<_> = near.into_values().flatten().collect();
        near.sort_by(|(a, x, of_a), (b, y, of_b)| {
            of_a.len().cmp(&of_b.len()).then(a.total_cmp(b)).then(x.cmp(y))
        });
        let near = near.into_iter().map(|(_, row, refused)| {
            let view = table.view(row);
            Near {
                host: view.host().to_owned(),
                status: view.status(),
                reported: *view.reported(),
                used: view.used(),
                refused,
            }
        });
        Ok(near.collect())
    }
}

/// Two filters that compare the same are one refusal, by the larger lack.
fn add(refused: &mut Vec<Refused>, by: Refused) {
    let same = |other: &&mut Refused| match (other.miss, by.miss) {
        (Some((a, _, _)), Some((b, _, _))) => a == b,
        _ => false,
    };
    match refused.iter_mut().find(same) {
        None => refused.push(by),
        Some(other) if by.share() > other.share() => *other = by,
        Some(_) => {}
    }
}

/// By how much a filter refuses the one host that it is run on.
fn look(filter: &mut Filter, run: impl FnOnce(&mut Filter, &mut Tally)) -> Refused {
    let mut tally = Tally::default();
    run(filter, &mut tally);
    let miss = filter.measure().zip(tally.nearest);
    Refused { kind: filter.kind, miss: miss.map(|((measure, wanted), (_, has))| (measure, wanted, has)) }
}
