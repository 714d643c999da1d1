//! Filters: a request becomes operations on blocks of columns.
//!
//! A filter is compiled once per request into a [`Program`]; running it on a block takes the hosts that are still there,
//! one bit each, and returns those it lets pass. Nothing is looked up or dispatched per host. Filters run in the
//! configured order on each block, which gives every filter the same hosts as running it over the whole list would.
//!
//! To add one: a variant in `FilterKind`, how it compiles and runs here, a rule in the reference engine of
//! `tests/reference.rs`.

mod compute_capabilities;

use novella_objects::RequestSpec;
use novella_resources::{Amount, Demand};

use crate::bitmap::{above, either, word_bits};
use crate::host_table::{BLOCK, Columns, HostTable, NO_ZONE, Row};
use crate::options::{FilterKind, SchedulerOptions};
use compute_capabilities::Questions;

/// One filter, compiled for one request.
#[derive(Debug)]
pub(crate) struct Filter<'r> {
    pub(crate) kind: FilterKind,
    program: Program<'r>,
}

#[derive(Debug)]
enum Program<'r> {
    /// The request asks nothing that this filter looks at.
    PassAll,
    Serving,
    /// Hosts with one of two zone symbols.
    Zone(u32, u32),
    /// Hosts with room for `wanted`.
    Room { amount: Amount, wanted: i32 },
    Capabilities(Questions<'r>),
}

/// What one filter did to the hosts it was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) hosts_in: u32,
    pub(crate) hosts_out: u32,
    /// Of the refused, the first in fleet order with the most room.
    pub(crate) nearest: Option<(Row, i32)>,
    /// Hosts that it could not decide about, which count as refused.
    pub(crate) errors: u32,
    /// What happened at the first of them.
    pub(crate) first_error: Option<FilterError>,
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

impl<'r> Filter<'r> {
    /// Symbols and thresholds that `request` stands for in `table`.
    pub(crate) fn compile(
        kind: FilterKind,
        table: &mut HostTable,
        request: &'r RequestSpec,
        options: &SchedulerOptions,
    ) -> Self {
        let demand = Demand::of_flavor(&request.flavor);
        let room = |amount, wanted| Program::Room {
            amount,
            wanted: i32::try_from(wanted).expect("requests beyond a lane are refused before filters compile"),
        };
        let program = match kind {
            FilterKind::Compute => Program::Serving,
            FilterKind::AvailabilityZone => match request.availability_zone.as_deref() {
                None | Some("") => Program::PassAll,
                Some(zone) => {
                    // A zone that no host names has a symbol that no row holds.
                    let named = table.zones.find(zone).unwrap_or(NO_ZONE - 1);
                    Program::Zone(named, if zone == options.default_availability_zone { NO_ZONE } else { named })
                }
            },
            FilterKind::Ram => room(Amount::MemoryMb, demand.memory_mb),
            FilterKind::Core => room(Amount::Vcpus, demand.vcpus),
            FilterKind::Disk => room(Amount::DiskMb, demand.disk_mb),
            FilterKind::ComputeCapabilities if request.flavor.extra_specs.is_empty() => Program::PassAll,
            FilterKind::ComputeCapabilities => {
                Program::Capabilities(Questions::compile(&request.flavor.extra_specs, table))
            }
        };
        Self { kind, program }
    }

    /// Of the hosts `alive` in a block, those that pass.
    pub(crate) fn run(&mut self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        let columns = &table.columns;
        let pass = alive
            & match &mut self.program {
                Program::PassAll => u64::MAX,
                Program::Serving => columns.serving[block],
                Program::Zone(a, b) => either(&columns.zone.as_chunks::<BLOCK>().0[block], *a, *b),
                Program::Room { amount, wanted } => {
                    let room = &room_column(columns, *amount).as_chunks::<BLOCK>().0[block];
                    let fits = above(room, *wanted - 1);
                    tally.note_nearest(room, block, alive & !fits);
                    fits
                }
                Program::Capabilities(questions) => questions.run(table, block, alive, tally),
            };
        tally.hosts_in += alive.count_ones();
        tally.hosts_out += pass.count_ones();
        pass
    }

    /// The amount that this filter compares, and how much is asked of it.
    pub(crate) fn amount(&self) -> Option<(Amount, i32)> {
        match self.program {
            Program::Room { amount, wanted } => Some((amount, wanted)),
            _ => None,
        }
    }
}

impl Tally {
    fn note_nearest(&mut self, room: &[i32; BLOCK], block: usize, refused: u64) {
        if refused == 0 {
            return;
        }
        let nearer = match self.nearest {
            Some((_, best)) => refused & above(room, best),
            None => refused,
        };
        for bit in word_bits(nearer) {
            if self.nearest.is_none_or(|(_, best)| room[bit] > best) {
                self.nearest = Some((Row((block * BLOCK + bit) as u32), room[bit]));
            }
        }
    }
}

fn room_column(columns: &Columns, amount: Amount) -> &[i32] {
    match amount {
        Amount::Vcpus => &columns.room_vcpus,
        Amount::MemoryMb => &columns.room_memory_mb,
        Amount::DiskMb => &columns.room_disk_mb,
    }
}
