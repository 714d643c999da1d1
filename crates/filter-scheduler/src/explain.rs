//! What a decision says about itself, from the numbers that made it.

use novella_objects::{Explanation, FilterTally, HostState as Status, NearestMiss, Scored, WeigherScore};
use novella_resources::{Amount, MB_PER_GB};

use crate::filters::{Count, Filter, Measure, Tally};
use crate::host_table::{HostTable, Row};
use crate::placement::{Placement, Resource};
use crate::select::Weighed;
use crate::weights::{Range, Weigher, Weighing};

/// The fleet, before anything was decided.
pub(crate) fn of_fleet(table: &HostTable) -> Explanation {
    Explanation {
        hosts: table.len() as u32,
        suspect_hosts: table.count(Status::Suspect),
        ..Explanation::default()
    }
}

/// Appends what was asked before the filters: all up to what left no host.
pub(crate) fn terms(table: &HostTable, placement: &Placement, index: usize, out: &mut Vec<FilterTally>) {
    let reached = placement.ran(index).enumerate().filter(|(at, (_, tally))| *at == 0 || tally.hosts_in > 0);
    out.extend(reached.map(|(_, (term, tally))| FilterTally {
        filter: term.name.clone(),
        hosts_in: tally.hosts_in,
        hosts_out: tally.hosts_out,
        nearest_miss: term.resource().and_then(|resource| lack(table, resource, tally)),
    }));
}

/// By how much the nearest refused host missed, where it has any of the class.
pub(crate) fn lack(table: &HostTable, resource: &Resource, tally: &Tally) -> Option<NearestMiss> {
    let (row, available) = tally.nearest?;
    let (wanted, available) = (resource.sum as f64, f64::from(available));
    let host = table.host(row).to_owned();
    let text = format!("{host} short by {} {}", wanted - available, resource.class);
    Some(NearestMiss { host, wanted, available, unit: resource.class.clone(), text })
}

/// Appends the filters that ran: all up to the one that left no host.
pub(crate) fn filters<'f>(
    table: &HostTable,
    ran: impl Iterator<Item = (&'f Filter, &'f Tally)>,
    out: &mut Vec<FilterTally>,
) {
    let reached = ran.enumerate().filter(|(at, (_, tally))| *at == 0 || tally.hosts_in > 0);
    out.extend(reached.map(|(_, (filter, tally))| FilterTally {
        filter: filter.kind.name().to_owned(),
        hosts_in: tally.hosts_in,
        hosts_out: tally.hosts_out,
        nearest_miss: nearest_miss(table, filter, tally),
    }));
}

/// By how much the nearest refused host missed, where the filter compares numbers.
pub(crate) fn nearest_miss(table: &HostTable, filter: &Filter, tally: &Tally) -> Option<NearestMiss> {
    let ((measure, wanted), (row, available)) = filter.measure().zip(tally.nearest)?;
    let (unit, scale) = match measure {
        Measure::Amount(Amount::Vcpus) => ("vcpus", 1.0),
        Measure::Amount(Amount::MemoryMb) => ("MiB", 1.0),
        Measure::Amount(Amount::DiskMb) => ("GiB", MB_PER_GB as f64),
        Measure::Count(Count::Instances) => ("instances", 1.0),
        Measure::Count(Count::IoOps) => ("I/O operations", 1.0),
        Measure::Members => ("members of the group", 1.0),
    };
    let (wanted, available) = (f64::from(wanted) / scale, f64::from(available) / scale);
    let host = table.host(row).to_owned();
    let text = match measure {
        Measure::Amount(_) => format!("{host} short by {} {unit}", wanted - available),
        Measure::Count(_) | Measure::Members if available == 0.0 => {
            format!("{host} is at its limit of {unit}")
        }
        Measure::Count(_) | Measure::Members => format!("{host} has {} {unit} too many", -available),
    };
    Some(NearestMiss { host, wanted, available, unit: unit.to_owned(), text })
}

/// The best hosts with each weigher's share. A single candidate is not weighed.
pub(crate) fn ranking(weighing: Weighing<'_>, best: &[Weighed], ranges: &[Range], hosts: u32) -> Vec<Scored> {
    let Weighing { weighers, table } = weighing;
    let score = |row: u32, weigher: &Weigher, range: &Range| {
        let unit = weigher.kind.unit();
        WeigherScore {
            weigher: weigher.kind.name().to_owned(),
            raw: weigher.raw(&table.columns, row) * unit,
            range: (range.min * unit, range.max * unit),
            normalised: range.normalise(weigher.clamped(&table.columns, row)),
            multiplier: weigher.multiplier(table, row),
        }
    };
    best.iter()
        .map(|host| Scored {
            host: table.host(Row(host.row)).to_owned(),
            weight: host.weight,
            weighers: if hosts == 1 {
                Vec::new()
            } else {
                weighers.iter().zip(ranges).map(|(weigher, range)| score(host.row, weigher, range)).collect()
            },
        })
        .collect()
}
