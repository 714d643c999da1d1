//! The verdict of the filters on every host, and the weight of every host that passes.
//!
//! For looking, not for placing: nothing is picked or consumed. The filters and weighers are those of a placement, run for
//! one instance.

use novella_objects::RequestSpec;
use uuid::Uuid;

use crate::filters::tally::Tally;
use crate::prefilters::Prefilters;
use crate::request::asked;
use crate::request::failure::{Failure, FilterError, WeigherError};
use crate::select::compiled::Compiled;
use crate::select::select::FilterScheduler;
use crate::settings::filter_kind::FilterKind;
use crate::table::bitmap::{bits, word_bits};
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;

/// What the filters decided about one host.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It passed all filters.
    Passed,
    /// No filter was asked about it, because it is ignored, not forced, not the target, or refused by a prefilter
    /// (traits, resource classes, aggregates).
    NotConsidered,
    /// This filter refused it.
    Refused(FilterKind),
    /// This filter could not decide, which is an error in Nova.
    Error(FilterError),
}

/// The verdicts on all hosts, and the weights of those that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The verdict on every host, in fleet order.
    pub verdicts: Vec<(Row, Verdict)>,
    /// The hosts that passed with their weights, best first.
    pub ranking: Vec<(Row, f64)>,
    /// The hosts that passed but that a weigher could not value. They have no weight.
    pub weigher_errors: Vec<WeigherError>,
}

/// Asks every filter in order about every host that is left, and weighs those that pass. Fails if the request cannot be
/// answered at all.
pub fn evaluate(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instance: Uuid,
) -> Result<Evaluation, Failure> {
    let asked = asked::read(engine.options(), spec)?;
    let prefilters = Prefilters::compile(table, &asked, engine.options())?;
    engine.whole_fleet.narrow(table, spec)?;
    let mut compiled = Compiled::new(engine.options(), table, &asked, prefilters, None);
    compiled.begin(instance, table);
    let mut verdicts = vec![Verdict::NotConsidered; table.columns.exact.len()];
    compiled.prefilters.run(table, &mut engine.whole_fleet.alive, 0);
    for row in bits(&engine.whole_fleet.alive) {
        verdicts[row] = Verdict::Passed;
    }
    for filter in &mut compiled.filters {
        let (kind, group) = (filter.kind, compiled.group.as_ref());
        for (block, alive) in
            engine.whole_fleet.alive.iter_mut().enumerate().filter(|(_, alive)| **alive != 0)
        {
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
    let weigher_errors = engine.whole_fleet.rank_all(&engine.options, table, &asked, &mut compiled);
    Ok(Evaluation {
        verdicts: table.rows().map(|row| (row, verdicts[row.index()].clone())).collect(),
        ranking: engine.whole_fleet.ranking.best.iter().map(|host| (Row(host.row), host.weight)).collect(),
        weigher_errors: weigher_errors.into_iter().map(|(_, error)| error).collect(),
    })
}
