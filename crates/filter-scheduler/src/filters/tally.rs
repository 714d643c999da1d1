//! What one filter did to the hosts it was given, and the loops that count it.

use novella_resources::Amount;

use crate::request::failure::FilterError;
use crate::settings::filter_kind::FilterKind;
use crate::table::amounts::Exact;
use crate::table::bitmap::{largest, split, word_bits};
use crate::table::block::{BLOCK, Row, lane};
use crate::table::columns::{RawColumn, RoomColumn};
use crate::table::host_table::{Columns, HostTable};

/// Whether a host passes, or why the filter cannot decide about it.
pub(super) type Passes = Result<bool, String>;

/// What one filter did to the hosts it was given.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) hosts_in: u32,
    pub(crate) hosts_out: u32,
    /// The refused host with the most room (the first in fleet order), and its room in the unit of `Filter::measure`.
    pub(crate) nearest: Option<(Row, i32)>,
    /// The number of hosts that the filter could not decide about, which count as refused.
    pub(crate) errors: u32,
    /// What went wrong at the first of these hosts.
    pub(crate) first_error: Option<FilterError>,
    /// The least room that makes a refused host worth finding. Where all have less, `bound` is enough.
    pub(crate) interesting: i32,
    /// An upper bound of the room of refused hosts that were not worth finding.
    pub(crate) bound: Option<i32>,
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
    /// Makes the tally ready for another run.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Keeps the host with the most room, of the `refused` and of those seen before.
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

/// The hosts of a block with room for `wanted`. Takes note of the refused host with the most room, or of a bound if it
/// is not worth finding.
pub(super) fn fitting(rooms: &[i32; BLOCK], wanted: i32, block: usize, alive: u64, tally: &mut Tally) -> u64 {
    let (fits, below) = split(rooms, wanted);
    let refused = alive & !fits;
    if refused == 0 || below >= tally.interesting {
        tally.note_nearest(rooms, block, refused);
    } else {
        tally.bound = Some(below);
    }
    fits
}

/// The hosts of a block, to be asked one by one.
pub(super) struct Each<'a> {
    pub(super) kind: FilterKind,
    pub(super) table: &'a HostTable,
    pub(super) block: usize,
    pub(super) alive: u64,
    pub(super) tally: &'a mut Tally,
}

impl Each<'_> {
    /// Keeps the host with the most room, of those that do not pass and of those seen before.
    pub(super) fn note_nearest(&mut self, pass: u64, room: impl Fn(usize) -> i32) {
        for bit in word_bits(self.alive & !pass) {
            let row = self.block * BLOCK + bit;
            let room = room(row);
            if self.tally.nearest.is_none_or(|(_, best)| room > best) {
                self.tally.nearest = Some((Row(row as u32), room));
            }
        }
    }

    /// The hosts that pass. An error counts as a refusal, and the first is kept.
    pub(super) fn ask(&mut self, mut verdict: impl FnMut(usize) -> Passes) -> u64 {
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

/// What is counted on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Instances that are building, resizing and the like.
    IoOps,
    /// All instances.
    Instances,
}

impl Count {
    pub(super) fn column(self, columns: &Columns) -> &RawColumn {
        match self {
            Self::IoOps => &columns.num_io_ops,
            Self::Instances => &columns.num_instances,
        }
    }

    pub(super) fn of(self, exact: &Exact) -> i128 {
        match self {
            Self::IoOps => exact.num_io_ops().into(),
            Self::Instances => exact.used().instances.into(),
        }
    }

    /// How many more a host may have before it reaches `limit`. Negative beyond it.
    pub(super) fn room(self, exact: &Exact, limit: i64) -> i32 {
        let room = i128::from(limit) - self.of(exact);
        lane(room.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }
}

/// What a filter that compares numbers measures on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// How much of this amount fits.
    Amount(Amount),
    /// How many more of these instances the host may have.
    Count(Count),
    /// How many more members of the server group the host may have.
    Members,
}

pub(super) fn room_column(columns: &Columns, amount: Amount) -> &RoomColumn {
    match amount {
        Amount::Vcpus => &columns.room_vcpus,
        Amount::MemoryMb => &columns.room_memory_mb,
        Amount::DiskMb => &columns.room_disk_mb,
    }
}
