//! The verdict of the filters on every host, and the weight of all that pass.
//!
//! For looking, not for placing: nothing is picked or consumed. The filters and weighers are those of a placement, run for
//! the request's first instance.

use novella_objects::RequestSpec;

use crate::bitmap::{bits, word_bits};
use crate::filters::{FilterError, Tally};
use crate::host_table::{BLOCK, HostTable, Row};
use crate::options::FilterKind;
use crate::placement::Placement;
use crate::select::{Failure, FilterScheduler, PickLimits, shape_of};
use crate::weighers::WeigherError;

/// What became of one host.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It passed all filters.
    Passed,
    /// It was never given to a filter: ignored, not forced, not the target, or without what is asked before the filters
    /// (traits, resource classes, aggregates).
    NotConsidered,
    /// This filter refused it.
    Refused(FilterKind),
    /// This filter could not decide, which is an error in Nova.
    Error(FilterError),
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Every host, in fleet order.
    pub verdicts: Vec<(Row, Verdict)>,
    /// Those that passed with their final weights, best first.
    pub ranking: Vec<(Row, f64)>,
    /// Hosts that passed and that a weigher could not value; they have no weight.
    pub weigher_errors: Vec<WeigherError>,
}

impl FilterScheduler {
    /// The limits that a request's filters hold these hosts against, each only if its filter runs. A request that was just
    /// selected has its compiled shape, which answers for all of them.
    pub fn limits(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        rows: &[Row],
    ) -> Result<Vec<PickLimits>, Failure> {
        let shape = shape_of(&self.options, &mut self.shapes, table, spec)?;
        Ok(rows.iter().map(|row| shape.request.limits(table, *row)).collect())
    }

    /// Asks every filter, in its order, about every host that is left, and weighs those that pass.
    pub fn evaluate(&mut self, table: &mut HostTable, spec: &RequestSpec) -> Result<Evaluation, Failure> {
        let asked = self.read(spec)?;
        let placement = Placement::compile(table, &asked, self.options())?;
        self.narrow(table, spec)?;
        let mut request = self.compile(table, &asked, placement);
        request.begin(spec.instance_uuids[0], table);
        let mut verdicts = vec![Verdict::NotConsidered; table.columns.exact.len()];
        request.placement.run(table, &mut self.work.alive, 0);
        for row in bits(&self.work.alive) {
            verdicts[row] = Verdict::Passed;
        }
        for filter in &mut request.filters {
            let (kind, group) = (filter.kind, request.group.as_ref());
            for (block, alive) in self.work.alive.iter_mut().enumerate().filter(|(_, alive)| **alive != 0) {
                let mut tally = Tally::default();
                let before = std::mem::replace(alive, filter.run(table, group, block, *alive, &mut tally));
                for bit in word_bits(before & !*alive) {
                    let mut alone = Tally::default();
                    if tally.errors > 0 {
                        filter.run(table, group, block, 1 << bit, &mut alone); // is the error this host's?
                    }
                    let verdict = alone.first_error.map_or(Verdict::Refused(kind), Verdict::Error);
                    verdicts[block * BLOCK + bit] = verdict;
                }
            }
        }
        let weigher_errors = self.rank_all(table, &asked, &mut request);
        Ok(Evaluation {
            verdicts: table.rows().map(|row| (row, verdicts[row.index()].clone())).collect(),
            ranking: self.work.ranking.best.iter().map(|host| (Row(host.row), host.weight)).collect(),
            weigher_errors: weigher_errors.into_iter().map(|(_, error)| error).collect(),
        })
    }
}
