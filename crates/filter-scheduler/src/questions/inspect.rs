//! Looks closely at one host: asks every filter about it, and finds the rank that it has or would have.
//!
//! The filters are the compiled ones of a placement, run on a block of which only this host's bit is set, so they cannot
//! decide differently from a placement. No filter is skipped because another one refused. Everything is about
//! one instance; nothing is picked or consumed.

use std::cmp::Ordering;

use novella_objects::{FilterOutcome, FilterVerdict, HostVerdict, RequestSpec};
use uuid::Uuid;

use crate::filters::program::Filter;
use crate::filters::refusal::HostContext;
use crate::filters::tally::Tally;
use crate::prefilters::{PrefilterTerm, Prefilters};
use crate::request::asked::{self, Asked};
use crate::request::failure::Failure;
use crate::select::compiled::Compiled;
use crate::select::explanation::{self, Refill};
use crate::select::ranking::Weighed;
use crate::select::select::FilterScheduler;
use crate::table::bitmap::bits;
use crate::table::block::{BLOCK, Row, set};
use crate::table::host_table::HostTable;

/// Asks a prefilter term about one host.
pub(crate) fn ask_term(term: &PrefilterTerm, table: &HostTable, row: Row) -> FilterVerdict {
    let mut tally = Tally::default();
    let passes = term.run(table, row.index() / BLOCK, 1 << (row.index() % BLOCK), &mut tally) != 0;
    FilterVerdict {
        filter: term.name.clone(),
        verdict: if passes { FilterOutcome::Passes } else { FilterOutcome::Refuses },
        reason: (!passes).then(|| term.refusal(table, row)),
        miss: term.resource().and_then(|resource| explanation::lack(table, resource, &tally)),
    }
}

/// Asks a filter about one host.
pub(crate) fn ask_filter(filter: &mut Filter, context: HostContext<'_>) -> FilterVerdict {
    let HostContext { table, group, row, .. } = context;
    let mut tally = Tally::default();
    let passes = filter.run(table, group, row.index() / BLOCK, 1 << (row.index() % BLOCK), &mut tally) != 0;
    let (verdict, reason) = match &tally.first_error {
        _ if passes => (FilterOutcome::Passes, None),
        Some(error) => (FilterOutcome::Error, Some(error.reason.clone())),
        None => (FilterOutcome::Refuses, Some(filter.refusal(context))),
    };
    let miss = explanation::nearest_miss(table, filter, &tally);
    FilterVerdict { filter: filter.kind.name().to_owned(), verdict, reason, miss }
}

/// Returns what all filters and weighers say about one host. Fails if the request could not be asked about any host.
pub fn inspect(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instance: Uuid,
    row: Row,
) -> Result<HostVerdict, Failure> {
    let asked = asked::read(engine.options(), spec)?;
    let not_considered = not_considered(engine, table, spec, row);
    let prefilters = Prefilters::compile(table, &asked, engine.options())?;
    let mut compiled = Compiled::new(engine.options(), table, &asked, prefilters, None);
    compiled.begin(instance, table);
    let context =
        HostContext { table, asked: &asked, group: compiled.group.as_ref(), options: engine.options(), row };
    let of_terms = compiled.prefilters.terms.iter().map(|(term, _)| ask_term(term, table, row));
    let of_filters = compiled.filters.iter_mut().map(|filter| ask_filter(filter, context));
    let filters: Vec<_> = of_terms.chain(of_filters).collect();
    let passes =
        not_considered.is_none() && filters.iter().all(|filter| filter.verdict == FilterOutcome::Passes);
    let mut verdict = HostVerdict {
        host: table.host(row).to_owned(),
        state: table.view(row).status(),
        not_considered,
        passes,
        filters,
        weight: None,
        rank: None,
        candidates: 0,
        weighers: Vec::new(),
        weigher_error: None,
    };
    place_among_candidates(engine, table, &asked, &mut compiled, row, &mut verdict);
    Ok(verdict)
}

/// Why the request does not consider the host at all, if it does not. Leaves the hosts that it considers in the working
/// memory. There are none if a host that it names does not exist.
fn not_considered(
    engine: &mut FilterScheduler,
    table: &HostTable,
    spec: &RequestSpec,
    row: Row,
) -> Option<String> {
    if engine.whole_fleet.narrow(table, spec).is_err() {
        engine.whole_fleet.clear(table);
    }
    if engine.whole_fleet.alive[row.index() / BLOCK] & (1 << (row.index() % BLOCK)) != 0 {
        return None;
    }
    let host = table.host(row);
    let ignored = spec.ignore_hosts.iter().any(|name| table.rows_of_any_case(name).any(|of| of == row));
    let by = match &spec.target_host {
        _ if ignored => "the request ignores it".to_owned(),
        Some(target) if target != host => format!("the request allows only {target}"),
        Some(_) => format!("the request allows only its node {}", spec.target_node.as_deref().unwrap_or("")),
        None => "the request forces other hosts".to_owned(),
    };
    Some(by)
}

/// Weighs the host among all considered hosts that pass, as if it passed too, and writes its weight and rank into the
/// verdict.
fn place_among_candidates(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    asked: &Asked<'_>,
    compiled: &mut Compiled,
    row: Row,
    verdict: &mut HostVerdict,
) {
    compiled.prefilters.run(table, &mut engine.whole_fleet.alive, 0);
    engine.whole_fleet.scan(table, compiled);
    set(&mut engine.whole_fleet.alive, row);
    let (hosts, errors) = engine.whole_fleet.value_all(&engine.options, table, asked, compiled);
    let ranges = &engine.whole_fleet.ranking.ranges;
    verdict.candidates = hosts as u32;
    if let Some((_, error)) = errors.into_iter().find(|(of, _)| *of == row) {
        verdict.weigher_error = Some(error.to_string());
        return;
    }
    let weighing = compiled.weighing(table);
    let weight = |row: u32| if hosts < 2 { 0.0 } else { weighing.weight(ranges, row) };
    let own = Weighed { row: row.0, weight: weight(row.0) };
    // The rank is found by counting, because sorting all candidates would hold the table for too long.
    let stands_before = |other: &usize| match weight(*other as u32).total_cmp(&own.weight) {
        Ordering::Equal => *other < row.index(),
        order => order == Ordering::Greater,
    };
    let before = bits(&engine.whole_fleet.alive).filter(stands_before).count();
    verdict.rank = Some(before as u32 + 1);
    verdict.weight = Some(own.weight);
    let mut scored = Vec::new();
    explanation::ranking(weighing, &[own], ranges, hosts as u32, &mut Refill::new(&mut scored, 1));
    verdict.weighers = scored.into_iter().flat_map(|scored| scored.weighers).collect();
}
