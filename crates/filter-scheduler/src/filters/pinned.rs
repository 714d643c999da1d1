//! CPUs that a policy pins, asked by CoreFilter and AggregateCoreFilter.
//!
//! A host with an inventory of `PCPU` has been asked for an instance's own CPUs before the filters, and is asked here for
//! those that are shared; any other host is asked for all of them. See `pinning.rs`.

use novella_resources::Amount;

use super::{Asked, Program, Tally, ratios_of_sets, room, rooms_of_sets};
use crate::bitmap::above;
use crate::host_table::{HostTable, lane};
use crate::options::FilterKind;

/// What is asked of which hosts; `None`: nothing.
#[derive(Debug)]
pub(super) struct RoomOfPinned {
    of_others: Option<i32>,
    shared: Option<i32>,
    /// As of [`Program::RoomOfSet`]; empty: no aggregate has any.
    pub(super) ratios: Vec<Option<f64>>,
}

impl RoomOfPinned {
    pub(super) fn compile(kind: FilterKind, table: &HostTable, asked: &Asked<'_>) -> Program {
        let (_, of_others, key) = room(kind, asked.spec);
        let shared = asked.pinning.cpus.map_or(0, |cpus| cpus.shared);
        let shared = (shared > 0).then(|| lane(shared as i64));
        if of_others.is_none() && shared.is_none() {
            return Program::PassAll;
        }
        let ratios = if kind == FilterKind::AggregateCore { ratios_of_sets(table, key) } else { Vec::new() };
        Program::RoomOfPinned(Box::new(Self { of_others, shared, ratios }))
    }

    /// How many CPUs are asked of a host.
    pub(super) fn of(&self, has_pcpus: bool) -> Option<i32> {
        if has_pcpus { self.shared } else { self.of_others }
    }

    pub(super) fn run(&self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        let with_ratios = if self.ratios.is_empty() { 0 } else { alive };
        let room = rooms_of_sets(table, Amount::Vcpus, &self.ratios, block, with_ratios);
        let with = table.columns.has_pcpus[block];
        let fits = |wanted: Option<i32>| wanted.map_or(u64::MAX, |wanted| above(&room, wanted - 1));
        let fits = fits(self.shared) & with | fits(self.of_others) & !with;
        tally.note_nearest(&room, block, alive & !fits);
        fits
    }
}
