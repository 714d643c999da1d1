//! Allocation ratios that aggregates set in place of a host's own, for AggregateRamFilter, AggregateCoreFilter and
//! AggregateDiskFilter.

use novella_objects::RequestSpec;
use novella_resources::{Amount, Capacity, Demand};

use crate::filters::tally::room_column;
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::Exact;
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, lane};
use crate::table::host_table::HostTable;

/// How much of an amount would fit on a host if its ratio were this one.
pub(crate) fn room_with(exact: &Exact, amount: Amount, ratio: f64) -> i32 {
    let mut capacity = exact.capacity();
    set_ratio(&mut capacity, amount, ratio);
    let room = capacity.room(&exact.used());
    lane(match amount {
        Amount::Vcpus => room.vcpus,
        Amount::MemoryMb => room.memory_mb,
        Amount::DiskMb => room.disk_mb,
    })
}

pub(crate) fn set_ratio(capacity: &mut Capacity, amount: Amount, ratio: f64) {
    match amount {
        Amount::Vcpus => capacity.ratios.cpu = ratio,
        Amount::MemoryMb => capacity.ratios.ram = ratio,
        Amount::DiskMb => capacity.ratios.disk = ratio,
    }
}

/// How much of an amount fits on each host of a block. For the hosts `alive`, the ratio of their set of aggregates is
/// used if it has one.
pub(super) fn rooms_of_sets(
    table: &HostTable,
    amount: Amount,
    ratios: &[Option<f64>],
    block: usize,
    alive: u64,
) -> [i32; BLOCK] {
    let columns = &table.columns;
    let mut room = room_column(columns, amount).rooms.as_chunks::<BLOCK>().0[block];
    for bit in word_bits(alive) {
        let row = block * BLOCK + bit;
        if let Some(ratio) = ratios[table.aggregates.set_of(row) as usize] {
            room[bit] = room_with(&columns.exact[row], amount, ratio);
        }
    }
    room
}

/// The smallest ratio that the metadata of each set of aggregates give, if any, by the symbol of the set. `None` if the
/// filter does not look at aggregates.
pub(super) fn ratios_of_sets(kind: FilterKind, table: &HostTable) -> Option<Vec<Option<f64>>> {
    let key = kind.aggregate_key()?;
    Some(table.aggregates.facts().iter().map(|facts| facts.ratio(key)).collect())
}

/// The amount that a filter compares, and how much of it the request asks for, if anything.
pub(super) fn amount_asked(kind: FilterKind, request: &RequestSpec) -> (Amount, Option<i32>) {
    let demand = Demand::of_flavor(&request.local_flavor());
    let (amount, wanted) = match kind {
        FilterKind::Core | FilterKind::AggregateCore => (Amount::Vcpus, demand.vcpus),
        FilterKind::Disk | FilterKind::AggregateDisk => (Amount::DiskMb, demand.disk_mb),
        _ => (Amount::MemoryMb, demand.memory_mb),
    };
    let lane =
        |wanted| i32::try_from(wanted).expect("requests beyond a lane are refused before filters compile");
    (amount, wanted.map(lane))
}
