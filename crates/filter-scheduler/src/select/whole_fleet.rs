//! Filters and weighs the whole fleet for one request. This is the working memory of the questions (`questions/`).
//!
//! What always holds: the filters and weighers are those of a placement. Nothing is picked or consumed.
//!
//! Left out: everything that is kept between requests (`scan.rs`, `shape.rs`).

use novella_objects::RequestSpec;

use crate::filters::tally::Tally;
use crate::request::asked::Asked;
use crate::request::failure::{Failure, WeigherError};
use crate::select::compiled::{Compiled, named};
use crate::select::history::History;
use crate::select::ranking::{Ranking, Weighed};
use crate::settings::options::SchedulerOptions;
use crate::table::bitmap::bits;
use crate::table::block::{BLOCK, Row, clear};
use crate::table::host_table::HostTable;
use crate::weighers::of_request::{self, WeigherContext};
use crate::weighers::weigher::Range;

/// The hosts that are left of the fleet, and what the filters and weighers said.
#[derive(Debug, Default)]
pub(crate) struct WholeFleet {
    /// The hosts that are left, one bit per row.
    pub(crate) alive: Vec<u64>,
    /// What each filter did, in the order of the filters.
    pub(crate) tallies: Vec<Tally>,
    pub(crate) ranking: Ranking,
    history: History,
}

impl WholeFleet {
    /// Starts with the hosts that the request names or does not exclude. Fails if a host that it names does not exist.
    pub(crate) fn narrow(&mut self, table: &HostTable, request: &RequestSpec) -> Result<(), Failure> {
        let named = named(table, request)?;
        self.alive.clear();
        self.alive.extend_from_slice(&table.columns.present);
        for (alive, named) in self.alive.iter_mut().zip(named.iter().flatten()) {
            *alive &= named;
        }
        Ok(())
    }

    /// Starts with no host at all.
    pub(crate) fn clear(&mut self, table: &HostTable) {
        self.alive.clear();
        self.alive.resize(table.columns.present.len(), 0);
    }

    /// Runs the filters over all blocks.
    pub(crate) fn scan(&mut self, table: &HostTable, compiled: &mut Compiled) {
        let group = compiled.group.as_ref();
        self.tallies.clear();
        self.tallies.resize_with(compiled.filters.len(), Tally::default);
        for (block, alive) in self.alive.iter_mut().enumerate().filter(|(_, alive)| **alive != 0) {
            for (filter, tally) in compiled.filters.iter_mut().zip(&mut self.tallies) {
                if *alive != 0 {
                    tally.hosts_in += alive.count_ones();
                    *alive = filter.run(table, group, block, *alive, tally);
                    tally.hosts_out += alive.count_ones();
                }
            }
        }
    }

    /// Compiles the weighers and computes their ranges among the hosts that are left. A single host is not weighed.
    /// Returns how many hosts are left, and the hosts that were taken out because a weigher cannot value them.
    pub(crate) fn value_all(
        &mut self,
        options: &SchedulerOptions,
        table: &mut HostTable,
        asked: &Asked<'_>,
        compiled: &mut Compiled,
    ) -> (usize, Vec<(Row, WeigherError)>) {
        let Self { alive, ranking, .. } = self;
        let count = |alive: &[u64]| alive.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        ranking.best.clear();
        ranking.ranges.clear();
        let mut errors = Vec::new();
        if count(alive) >= 2 {
            let context = WeigherContext { asked, group: compiled.group.as_ref(), options, alive };
            let (weighers, refused) = of_request::compile(&context, table);
            for (row, _) in &refused {
                clear(alive, *row);
            }
            (compiled.weighers, errors) = (Some(weighers), refused);
        }
        let hosts = count(alive);
        if hosts >= 2 {
            let weighing = compiled.weighing(table);
            ranking.start(weighing, alive);
            ranking.measure(weighing, alive);
        } else {
            ranking.ranges.resize(options.weighers.len(), Range::default());
        }
        (hosts, errors)
    }

    /// Ranks all hosts that are left, best first. Returns the hosts that were taken out because a weigher cannot value
    /// them.
    pub(crate) fn rank_all(
        &mut self,
        options: &SchedulerOptions,
        table: &mut HostTable,
        asked: &Asked<'_>,
        compiled: &mut Compiled,
    ) -> Vec<(Row, WeigherError)> {
        let (hosts, errors) = self.value_all(options, table, asked, compiled);
        let Self { alive, ranking, history, .. } = self;
        if hosts < 2 {
            ranking.best.extend(bits(alive).map(|row| Weighed { row: row as u32, weight: 0.0 }));
            return errors;
        }
        let weighing = compiled.weighing(table);
        history.reset(table.columns.exact.len());
        ranking.rank(weighing, alive, history, hosts.max(alive.len() * BLOCK));
        errors
    }
}
