//! What a decision says about itself, from the numbers that made it.

use std::borrow::Cow;

use novella_objects::{Explanation, FilterTally, HostState as Status, NearestMiss, Scored, WeigherScore};
use novella_resources::{Amount, MB_PER_GB};

use crate::filters::program::Filter;
use crate::filters::tally::{Count, Measure, Tally};
use crate::prefilters::{Prefilters, Resource};
use crate::select::ranking::Weighed;
use crate::table::block::Row;
use crate::table::host_table::HostTable;
use crate::weighers::weigher::{Range, Weigher, Weighing};

/// The fleet, before anything was decided.
pub(crate) fn of_fleet(table: &HostTable) -> Explanation {
    Explanation {
        hosts: table.len() as u32,
        suspect_hosts: table.count(Status::Suspect),
        ..Explanation::default()
    }
}

/// Writes into the items of an earlier answer, so that their memory is used again; cuts what is left when it is dropped.
pub(crate) struct Refill<'v, T> {
    items: &'v mut Vec<T>,
    used: usize,
}

impl<'v, T: Default> Refill<'v, T> {
    /// `expected` is how many items there will be, or more.
    pub(crate) fn new(items: &'v mut Vec<T>, expected: usize) -> Self {
        items.reserve(expected.saturating_sub(items.len()));
        Self { items, used: 0 }
    }

    fn next(&mut self) -> &mut T {
        self.used += 1;
        if self.items.len() < self.used {
            self.items.push(T::default());
        }
        &mut self.items[self.used - 1]
    }
}

impl<T> Drop for Refill<'_, T> {
    fn drop(&mut self) {
        self.items.truncate(self.used);
    }
}

/// What was asked before the filters: all up to what left no host.
pub(crate) fn terms(
    table: &HostTable,
    placement: &Prefilters,
    index: usize,
    told: &mut Refill<'_, FilterTally>,
) {
    let reached = placement.ran(index).enumerate().filter(|(at, (_, tally))| *at == 0 || tally.hosts_in > 0);
    for (_, (term, tally)) in reached {
        *told.next() = FilterTally {
            filter: Cow::Owned(term.name.clone()),
            hosts_in: tally.hosts_in,
            hosts_out: tally.hosts_out,
            nearest_miss: term.resource().and_then(|resource| lack(table, resource, tally)),
        };
    }
}

/// By how much the nearest refused host missed, where it has any of the class.
pub(crate) fn lack(table: &HostTable, resource: &Resource, tally: &Tally) -> Option<NearestMiss> {
    let (row, available) = tally.nearest?;
    let (wanted, available) = (resource.sum as f64, f64::from(available));
    let (host, unit) = (table.host(row).to_owned(), Cow::Owned(resource.class.clone()));
    Some(NearestMiss { host, wanted, available, unit })
}

/// The filters that ran: all up to the one that left no host.
pub(crate) fn filters<'f>(
    table: &HostTable,
    ran: impl Iterator<Item = (&'f Filter, &'f Tally)>,
    told: &mut Refill<'_, FilterTally>,
) {
    let reached = ran.enumerate().filter(|(at, (_, tally))| *at == 0 || tally.hosts_in > 0);
    for (_, (filter, tally)) in reached {
        let told = told.next();
        told.filter = Cow::Borrowed(filter.kind.name());
        (told.hosts_in, told.hosts_out) = (tally.hosts_in, tally.hosts_out);
        let nearest = tally.nearest.and_then(|near| Some((filter.measure(table, near.0)?, near)));
        match nearest {
            Some((asked, near)) => {
                let miss = told.nearest_miss.get_or_insert_default();
                write_miss(table, miss, asked, near);
            }
            None => told.nearest_miss = None,
        }
    }
}

/// By how much the nearest refused host missed, where the filter compares numbers.
pub(crate) fn nearest_miss(table: &HostTable, filter: &Filter, tally: &Tally) -> Option<NearestMiss> {
    let nearest = tally.nearest?;
    let asked = filter.measure(table, nearest.0)?;
    let mut miss = NearestMiss::default();
    write_miss(table, &mut miss, asked, nearest);
    Some(miss)
}

fn write_miss(
    table: &HostTable,
    miss: &mut NearestMiss,
    (measure, wanted): (Measure, i32),
    (row, available): (Row, i32),
) {
    let (unit, scale) = match measure {
        Measure::Amount(Amount::Vcpus) => ("vcpus", 1.0),
        Measure::Amount(Amount::MemoryMb) => ("MiB", 1.0),
        Measure::Amount(Amount::DiskMb) => ("GiB", MB_PER_GB as f64),
        Measure::Count(Count::Instances) => ("instances", 1.0),
        Measure::Count(Count::IoOps) => ("I/O operations", 1.0),
        Measure::Members => ("members of the group", 1.0),
    };
    miss.host.clear();
    miss.host.push_str(table.host(row));
    (miss.wanted, miss.available) = (f64::from(wanted) / scale, f64::from(available) / scale);
    miss.unit = Cow::Borrowed(unit);
}

/// The best hosts with each weigher's share. A single candidate is not weighed.
pub(crate) fn ranking(
    weighing: Weighing<'_>,
    best: &[Weighed],
    ranges: &[Range],
    hosts: u32,
    told: &mut Refill<'_, Scored>,
) {
    let Weighing { weighers, table } = weighing;
    let score = |row: u32, weigher: &Weigher, range: &Range| {
        let (unit, raw) = (weigher.kind.unit(), weigher.raw(&table.columns, row));
        WeigherScore {
            weigher: Cow::Borrowed(weigher.kind.name()),
            raw: raw * unit,
            range: (range.min * unit, range.max * unit),
            normalised: range.normalise(weigher.kind.clamp(raw)),
            multiplier: weigher.multiplier(table, row),
        }
    };
    for host in best {
        let told = told.next();
        told.host.clear();
        told.host.push_str(table.host(Row(host.row)));
        told.weight = host.weight;
        told.weighers.clear();
        if hosts > 1 {
            let scores = weighers.iter().zip(ranges).map(|(weigher, range)| score(host.row, weigher, range));
            told.weighers.extend(scores);
        }
    }
}
