//! The hosts that the filters of a shape are asked about: those that the request names or does not exclude, and that
//! satisfy its prefilters. They are remembered block by block, so that a later request looks again only at blocks that
//! changed.
//!
//! What always holds: after [`Considered::refresh`], the hosts and the tallies of the prefilters are the same as if every
//! prefilter had run over the whole fleet.
//!
//! Left out: whether the prefilters are still right for the table (`shape.rs`).

use crate::filters::tally::Tally;
use crate::prefilters::Prefilters;
use crate::table::block::refill;
use crate::table::host_table::HostTable;

/// The hosts of each block that are considered.
#[derive(Debug, Default)]
pub(crate) struct Considered {
    /// The hosts, one bit per row. There are none before the first refresh.
    rows: Vec<u64>,
    /// For each block, the number of its hosts before the first prefilter and after each of them.
    counts: Vec<u8>,
    /// The sums of `counts` over all blocks.
    totals: Vec<u32>,
    /// The table's revision at the last refresh. `None` if all blocks must be looked at.
    seen: Option<u64>,
}

impl Considered {
    /// The hosts; `None` if they were never asked for.
    pub(crate) fn rows(&self) -> Option<&[u64]> {
        self.seen.map(|_| &*self.rows)
    }

    /// How many bytes are kept for the blocks.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.counts)
    }

    /// Runs the prefilters for the first instance of a request. Looks at every block that changed since the last refresh.
    pub(crate) fn refresh(
        &mut self,
        table: &HostTable,
        named: Option<&[u64]>,
        Prefilters { terms }: &mut Prefilters,
    ) {
        let (blocks, stages) = (table.columns.present.len(), 1 + terms.len());
        if self.seen.is_none() {
            refill(&mut self.rows, blocks, 0);
            refill(&mut self.counts, blocks * stages, 0);
            refill(&mut self.totals, stages, 0);
        }
        terms.iter_mut().for_each(|(_, tally)| *tally = Tally::default());
        for block in 0..blocks {
            if self.seen.is_some_and(|seen| table.stamps.blocks[block] <= seen) {
                continue;
            }
            let counts = &mut self.counts[block * stages..][..stages];
            let mut note = |stage: usize, alive: u64| {
                let count = alive.count_ones() as u8;
                let before = std::mem::replace(&mut counts[stage], count);
                self.totals[stage] = self.totals[stage] + u32::from(count) - u32::from(before);
            };
            let mut alive = table.columns.present[block] & named.map_or(u64::MAX, |named| named[block]);
            note(0, alive);
            for (stage, (term, tally)) in terms.iter_mut().enumerate() {
                if alive != 0 {
                    alive = term.run(table, block, alive, tally);
                }
                note(1 + stage, alive);
            }
            self.rows[block] = alive;
        }
        self.seen = Some(table.stamps.revision);
        for ((_, tally), totals) in terms.iter_mut().zip(self.totals.windows(2)) {
            (tally.hosts_in, tally.hosts_out) = (totals[0], totals[1]);
        }
    }
}
