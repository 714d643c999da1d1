//! One host looked at closely: every filter asked about it, and the place it has or would have.
//!
//! The filters are the compiled ones of a placement, run on a block of which only this host's bit is set, so they cannot
//! decide otherwise than when it is placed. None is skipped because another refused. Everything is said of the
//! request's first instance; nothing is picked or consumed.

use std::cmp::Ordering;

use novella_objects::{FilterOutcome, FilterVerdict, HostVerdict, RequestSpec};

use crate::bitmap::bits;
use crate::explain::{self, Refill};
use crate::filters::{Asked, Filter, Scene, Tally};
use crate::host_table::{BLOCK, HostTable, Row};
use crate::placement::{Placement, Term};
use crate::ranking::Weighed;
use crate::select::{Failure, FilterScheduler};
use crate::shape::Request;
use crate::weights::Weighing;

/// What is asked before the filters, asked of one host.
pub(crate) fn ask_term(term: &Term, table: &HostTable, row: Row) -> FilterVerdict {
    let mut tally = Tally::default();
    let passes = term.run(table, row.index() / BLOCK, 1 << (row.index() % BLOCK), &mut tally) != 0;
    FilterVerdict {
        filter: term.name.clone(),
        verdict: if passes { FilterOutcome::Passes } else { FilterOutcome::Refuses },
        reason: (!passes).then(|| term.refusal(table, row)),
        miss: term.resource().and_then(|resource| explain::lack(table, resource, &tally)),
    }
}

/// A filter, asked about one host.
pub(crate) fn ask_filter(filter: &mut Filter, scene: Scene<'_>) -> FilterVerdict {
    let Scene { table, group, row, .. } = scene;
    let mut tally = Tally::default();
    let passes = filter.run(table, group, row.index() / BLOCK, 1 << (row.index() % BLOCK), &mut tally) != 0;
    let (verdict, reason) = match &tally.first_error {
        _ if passes => (FilterOutcome::Passes, None),
        Some(error) => (FilterOutcome::Error, Some(error.reason.clone())),
        None => (FilterOutcome::Refuses, Some(filter.refusal(scene))),
    };
    let miss = explain::nearest_miss(table, filter, &tally);
    FilterVerdict { filter: filter.kind.name().to_owned(), verdict, reason, miss }
}

impl FilterScheduler {
    /// What all filters and weighers say of one host. An error is a request that could be asked of no host.
    pub fn inspect(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        row: Row,
    ) -> Result<HostVerdict, Failure> {
        let asked = self.read(spec)?;
        let not_considered = self.not_considered(table, spec, row);
        let placement = Placement::compile(table, &asked, self.options())?;
        let mut request = self.compile(table, &asked, placement);
        request.begin(spec.instance_uuids[0], table);
        let filters = self.ask_all(table, &asked, &mut request, row);
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
        self.place_among_candidates(table, &asked, &mut request, row, &mut verdict);
        Ok(verdict)
    }

    fn not_considered(&mut self, table: &HostTable, spec: &RequestSpec, row: Row) -> Option<String> {
        let refused = self.narrow(table, spec).err().map(|failure| failure.to_string());
        let alive = self.work.alive.get(row.index() / BLOCK).copied().unwrap_or_default();
        let considered = refused.is_none() && alive & (1 << (row.index() % BLOCK)) != 0;
        if considered {
            return None;
        }
        let host = table.host(row);
        let ignored = spec.ignore_hosts.iter().any(|name| table.rows_of_any_case(name).any(|of| of == row));
        let by = match &spec.target_host {
            _ if ignored => "it is among the hosts to ignore".to_owned(),
            Some(target) if target != host => format!("only {target} is asked for"),
            Some(_) => format!("only its node {} is asked for", spec.target_node.as_deref().unwrap_or("")),
            None => "it is not among the forced hosts".to_owned(),
        };
        Some(by)
    }

    fn ask_all(
        &self,
        table: &HostTable,
        asked: &Asked<'_>,
        request: &mut Request,
        row: Row,
    ) -> Vec<FilterVerdict> {
        let scene = Scene { table, asked, group: request.group.as_ref(), options: self.options(), row };
        let before = request.placement.terms.iter().map(|(term, _)| ask_term(term, table, row));
        before.chain(request.filters.iter_mut().map(|filter| ask_filter(filter, scene))).collect()
    }

    /// Weighs the host among all that pass.
    fn place_among_candidates(
        &mut self,
        table: &mut HostTable,
        asked: &Asked<'_>,
        request: &mut Request,
        row: Row,
        verdict: &mut HostVerdict,
    ) {
        if self.narrow(table, asked.spec).is_err() {
            self.work.alive.fill(0); // no host is considered, so this one would be alone
        }
        self.work.alive.resize(table.columns.present.len(), 0);
        request.placement.run(table, &mut self.work.alive, 0);
        self.scan(table, request);
        self.work.alive[row.index() / BLOCK] |= 1 << (row.index() % BLOCK);
        let (hosts, errors) = self.value_all(table, asked, request);
        let ranges = &self.work.ranking.ranges;
        verdict.candidates = hosts as u32;
        if let Some((_, error)) = errors.into_iter().find(|(of, _)| *of == row) {
            verdict.weigher_error = Some(error.to_string());
            return;
        }
        let weighing = Weighing { weighers: request.weighers.as_deref().unwrap_or_default(), table };
        let weight = |row: u32| if hosts < 2 { 0.0 } else { weighing.weight(ranges, row) };
        let own = Weighed { row: row.0, weight: weight(row.0) };
        // Counted, not sorted: the table is not held for longer than a few placements.
        let stands_before = |other: &usize| match weight(*other as u32).total_cmp(&own.weight) {
            Ordering::Equal => *other < row.index(),
            order => order == Ordering::Greater,
        };
        let before = bits(&self.work.alive).filter(stands_before).count();
        verdict.rank = Some(before as u32 + 1);
        verdict.weight = Some(own.weight);
        let mut scored = Vec::new();
        explain::ranking(weighing, &[own], ranges, hosts as u32, &mut Refill::new(&mut scored, 1));
        verdict.weighers = scored.into_iter().flat_map(|scored| scored.weighers).collect();
    }
}
