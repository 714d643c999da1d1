//! CPUs that a policy pins, asked by CoreFilter and AggregateCoreFilter.
//!
//! A host with an inventory of `PCPU` has been asked for an instance's own CPUs before the filters, and is asked here for
//! those that are shared; any other host is asked for all of them. See `pinning.rs`.

use novella_resources::Amount;

use crate::filters::ratios::{amount_asked, ratios_of_sets, rooms_of_sets};
use crate::filters::tally::Tally;
use crate::request::asked::Asked;
use crate::settings::filter_kind::FilterKind;
use crate::table::bitmap::above;
use crate::table::block::lane;
use crate::table::host_table::HostTable;

/// What is asked of which hosts; `None`: nothing.
#[derive(Debug)]
pub(super) struct RoomOfPinned {
    of_others: Option<i32>,
    shared: Option<i32>,
    /// As of [`Program::RoomOfSet`]; empty: no aggregate has any.
    pub(super) ratios: Vec<Option<f64>>,
}

impl RoomOfPinned {
    pub(super) fn compile(kind: FilterKind, table: &HostTable, asked: &Asked<'_>) -> Option<Self> {
        let (_, of_others, key) = amount_asked(kind, asked.spec);
        let shared = asked.pinning.cpus.map_or(0, |cpus| cpus.shared);
        let shared = (shared > 0).then(|| lane(shared as i64));
        if of_others.is_none() && shared.is_none() {
            return None;
        }
        let ratios = if kind == FilterKind::AggregateCore { ratios_of_sets(table, key) } else { Vec::new() };
        Some(Self { of_others, shared, ratios })
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
