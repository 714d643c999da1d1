//! CoreFilter and AggregateCoreFilter for instances whose CPUs are pinned.
//!
//! A host with an inventory of `PCPU` was asked for an instance's own CPUs before the filters, so it is asked here only
//! for those that are shared. Any other host is asked for all of them. See `request/pinning.rs`.

use novella_resources::Amount;

use crate::filters::ratios::{amount_asked, ratios_of_sets, rooms_of_sets};
use crate::filters::tally::Tally;
use crate::request::asked::Asked;
use crate::settings::filter_kind::FilterKind;
use crate::table::bitmap::above;
use crate::table::block::lane;
use crate::table::host_table::HostTable;

/// How many CPUs are asked of which hosts. `None` asks for nothing.
#[derive(Debug)]
pub(super) struct RoomOfPinned {
    /// The number of CPUs that is asked of hosts without an inventory of `PCPU`.
    of_others: Option<i32>,
    /// The number of CPUs that is asked of hosts with an inventory of `PCPU`.
    shared: Option<i32>,
    /// The ratios of aggregates, by the symbol of a set. Empty for CoreFilter, which does not look at aggregates.
    pub(super) ratios: Vec<Option<f64>>,
}

impl RoomOfPinned {
    pub(super) fn compile(kind: FilterKind, table: &HostTable, asked: &Asked<'_>) -> Option<Self> {
        let (_, of_others) = amount_asked(kind, asked.spec);
        let shared = asked.pinning.cpus.map_or(0, |cpus| cpus.shared);
        let shared = (shared > 0).then(|| lane(shared as i64));
        if of_others.is_none() && shared.is_none() {
            return None;
        }
        Some(Self { of_others, shared, ratios: ratios_of_sets(kind, table).unwrap_or_default() })
    }

    /// How many CPUs are asked of a host, with or without an inventory of `PCPU`.
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
