//! Writes the explanation of a decision, from the numbers that the decision was made with.
//!
//! What always holds: the memory of an earlier explanation is used again, so that a repeated request allocates nothing
//! for it.
//!
//! Left out: when an explanation is written (`progress.rs`).

use std::borrow::Cow;

use novella_objects::{Explanation, FilterTally, HostStatus, NearestMiss, Scored, WeigherScore};
use novella_resources::{Amount, MB_PER_GB};

use crate::filters::program::Filter;
use crate::filters::tally::{Count, Measure, Tally};
use crate::prefilters::{Prefilters, Resource};
use crate::select::ranking::Weighed;
use crate::table::block::Row;
use crate::table::host_table::HostTable;
use crate::weighers::weigher::{Range, Weigher, Weighing};

/// An explanation that gives the size of the fleet and nothing about a decision.
pub(crate) fn of_fleet(table: &HostTable) -> Explanation {
    Explanation {
        hosts: table.len() as u32,
        suspect_hosts: table.count(HostStatus::Suspect),
        ..Explanation::default()
    }
}

/// Overwrites the items of an earlier answer one by one, so that their memory is used again. When dropped, it removes
/// the items that were not overwritten.
pub(crate) struct Refill<'v, T> {
    /// The items of the earlier answer, of which the first `used` are overwritten.
    items: &'v mut Vec<T>,
    /// How many items have been overwritten or added.
    used: usize,
}

impl<'v, T: Default> Refill<'v, T> {
    /// `expected` is the number of items that will be written, or more.
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

/// Writes a tally for each prefilter, up to the first one that left no host.
pub(crate) fn terms(table: &HostTable, placement: &Prefilters, told: &mut Refill<'_, FilterTally>) {
    let reached =
        placement.terms.iter().enumerate().filter(|(at, (_, tally))| *at == 0 || tally.hosts_in > 0);
    for (_, (term, tally)) in reached {
        *told.next() = FilterTally {
            filter: Cow::Owned(term.name.clone()),
            hosts_in: tally.hosts_in,
            hosts_out: tally.hosts_out,
            nearest_miss: term.resource().and_then(|resource| lack(table, resource, tally)),
        };
    }
}

/// By how much the refused host with the most room missed, if it has an inventory of the class.
pub(crate) fn lack(table: &HostTable, resource: &Resource, tally: &Tally) -> Option<NearestMiss> {
    let (row, available) = tally.nearest?;
    let (wanted, available) = (resource.sum as f64, f64::from(available));
    let (host, unit) = (table.host(row).to_owned(), Cow::Owned(resource.class.clone()));
    Some(NearestMiss { host, wanted, available, unit })
}

/// Writes a tally for each filter that ran, up to the first one that left no host.
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

/// By how much the nearest refused host missed, if the filter compares numbers.
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

/// Writes the best hosts, each with the shares of the weighers. There are no shares if `hosts`, the number of
/// candidates, is 1.
pub(crate) fn ranking(
    weighing: Weighing<'_>,
    best: &[Weighed],
    ranges: &[Range],
    hosts: u32,
    told: &mut Refill<'_, Scored>,
) {
    let Weighing { weighers, table } = weighing;
    let score = |row: u32, weigher: &Weigher, range: &Range| {
        let (unit, raw) = (weigher.rule.unit(), weigher.raw(&table.columns, row));
        WeigherScore {
            weigher: Cow::Borrowed(weigher.rule.name()),
            raw: raw * unit,
            range: (range.min * unit, range.max * unit),
            normalised: range.normalise(weigher.rule.clamp(raw)),
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
