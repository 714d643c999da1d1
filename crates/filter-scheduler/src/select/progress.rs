//! The state of one placement while its instances are placed one after another: which instance is placed now, the order
//! that the earlier ones left, the random numbers, and what goes into the answer.
//!
//! What always holds: the same seed, table and request give the same choices.
//!
//! Left out: the algorithm itself (`select.rs`).

use novella_objects::{HostStatus, RequestSpec};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::request::failure::Failure;
use crate::select::answer::{Selected, Terms};
use crate::select::compiled::Compiled;
use crate::select::explanation::{self, Refill};
use crate::select::history::History;
use crate::select::ranking::Weighed;
use crate::select::shape::Shape;
use crate::select::whole_fleet::WholeFleet;
use crate::settings::options::{OnFilterError, SchedulerOptions};
use crate::table::block::{Row, clear};
use crate::table::host_table::HostTable;

/// The state of one placement.
pub(super) struct Progress<'a> {
    options: &'a SchedulerOptions,
    /// The order of equal weights that earlier instances left.
    history: &'a mut History,
    /// The random numbers. Present if the settings ask for a random choice.
    rng: Option<ChaCha8Rng>,
    /// How many alternates the answer names at most.
    alternates: usize,
    /// Whether the caller wants no explanation.
    unexplained: bool,
    /// How many instances the request has.
    instances: usize,
    /// The position in the request of the instance that is being placed.
    index: usize,
}

impl<'a> Progress<'a> {
    /// The state before the first instance.
    pub(super) fn new(
        options: &'a SchedulerOptions,
        history: &'a mut History,
        terms: &Terms,
        table: &HostTable,
        instances: usize,
    ) -> Self {
        history.reset(table.columns.exact.len());
        let random = options.host_subset_size > 1 || options.shuffle_best_same_weighed_hosts;
        Self {
            options,
            history,
            rng: random.then(|| ChaCha8Rng::seed_from_u64(terms.seed)),
            alternates: terms.alternates.unwrap_or(options.max_attempts - 1) as usize,
            unexplained: terms.unexplained,
            instances,
            index: 0,
        }
    }

    /// Starts to place the instance at `index`.
    pub(super) fn begin(&mut self, index: usize) {
        self.index = index;
    }

    /// Whether this is the last instance of the request.
    pub(super) fn is_last(&self) -> bool {
        self.index + 1 == self.instances
    }

    /// Makes sure that this instance has candidates, and that they can be weighed. Notes the hosts that a filter or a
    /// weigher could not judge, or fails because of them if the settings say so.
    pub(super) fn find_candidates(
        &self,
        table: &mut HostTable,
        spec: &RequestSpec,
        shape: &mut Shape,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        self.note_filter_errors(shape, selected)?;
        self.compile_weighers(table, spec, shape, selected)?;
        if shape.scan.hosts == 0 { Err(self.no_valid_host(shape)) } else { Ok(()) }
    }

    fn note_filter_errors(&self, shape: &mut Shape, selected: &mut Selected) -> Result<(), Failure> {
        for (filter, tally) in shape.compiled.filters.iter().zip(&mut shape.scan.tallies) {
            let Some(first) = tally.first_error.take_if(|_| filter.runs(self.index)) else { continue };
            if self.options.on_filter_error == OnFilterError::FailRequest {
                return Err(Failure::Filter(first));
            }
            selected.filter_errors.push((tally.errors, first));
        }
        Ok(())
    }

    /// Writes into the answer what prefilters and filters say about every host of the fleet. For a later instance they
    /// are asked about all hosts once more, because they ran only on those that the instances before it left.
    pub(super) fn explain_filters(
        &self,
        table: &HostTable,
        spec: &RequestSpec,
        shape: &mut Shape,
        whole_fleet: &mut WholeFleet,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        if self.unexplained {
            return Ok(());
        }
        let Shape { compiled, scan, .. } = shape;
        let tallies = if self.index == 0 {
            &scan.tallies
        } else {
            whole_fleet.narrow(table, spec)?;
            compiled.prefilters.run(table, &mut whole_fleet.alive, 0);
            whole_fleet.scan(table, compiled);
            &whole_fleet.tallies
        };
        let Compiled { prefilters, filters, .. } = &*compiled;
        let told =
            &mut Refill::new(&mut selected.explanation.filters, prefilters.terms.len() + filters.len());
        explanation::terms(table, prefilters, told);
        // If the prefilters left no host, no filter was asked.
        if prefilters.terms.last().is_none_or(|(_, tally)| tally.hosts_out > 0) {
            explanation::filters(table, filters.iter().zip(tallies), told);
        }
        Ok(())
    }

    /// Compiles the weighers if they are not yet compiled. If a weigher cannot value a host, the request fails, or the
    /// host is noted in the answer and left out, as the settings say.
    fn compile_weighers(
        &self,
        table: &mut HostTable,
        spec: &RequestSpec,
        shape: &mut Shape,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        let mut errors = shape.compile_weighers(table, spec, self.options);
        if !errors.is_empty() {
            let count = errors.len() as u32;
            let first = errors.swap_remove(0).1;
            if self.options.on_filter_error == OnFilterError::FailRequest {
                return Err(Failure::Weigher(first));
            }
            selected.weigher_errors.push((count, first));
        }
        Ok(())
    }

    /// The failure of a request that has no candidate left for this instance.
    fn no_valid_host(&self, shape: &Shape) -> Failure {
        // If the prefilters leave no host for the first instance, Placement would return no candidates, and Nova gives
        // no reason.
        let mut prefilters = shape.compiled.prefilters.terms.iter();
        let nothing = self.index == 0 && prefilters.any(|(_, tally)| tally.hosts_out == 0);
        let reason = if nothing { "" } else { "There are not enough hosts available." }.to_owned();
        Failure::NoValidHost { reason, placeable: self.index as u32 }
    }

    /// Weighs the candidates and returns the picked host: the best one, or one of the best at random. For the last
    /// instance, it also writes into the answer how the best hosts were weighed.
    pub(super) fn pick(&mut self, table: &HostTable, shape: &mut Shape, selected: &mut Selected) -> Weighed {
        let last = self.is_last();
        let runners_up = if last { self.options.runners_up } else { 0 };
        let alternates = if self.instances == 1 { self.alternates } else { 0 };
        shape.measure(table, self.options);
        self.rank(table, shape, runners_up.max(alternates));
        let ranking = &shape.ranking;
        if last && !self.unexplained {
            let best = &ranking.best[..ranking.best.len().min(1 + runners_up)];
            let scored = &mut Refill::new(&mut selected.explanation.ranking, best.len());
            explanation::ranking(
                shape.compiled.weighing(table),
                best,
                &ranking.ranges,
                shape.scan.hosts,
                scored,
            );
        }
        let picked = ranking.best[0];
        if !last || (self.instances > 1 && self.alternates > 0) {
            self.remember(shape);
        }
        picked
    }

    /// Fills the ranking with the chosen host and at least `others` next best hosts, in order.
    fn rank(&mut self, table: &HostTable, shape: &mut Shape, others: usize) {
        let Self { options, history, rng, .. } = self;
        let Shape { scan, ranking, compiled, .. } = shape;
        if scan.hosts == 1 {
            ranking.best.clear();
            ranking.best.extend(scan.only().map(|row| Weighed { row, weight: 0.0 }));
            return;
        }
        let shuffle = options.shuffle_best_same_weighed_hosts;
        let keep = if shuffle { scan.hosts as usize } else { (1 + others).max(options.host_subset_size) };
        ranking.rank(compiled.weighing(table), &scan.alive, history, keep);
        let Some(rng) = rng else { return };
        let best = &mut ranking.best;
        if shuffle {
            let top = best[0].weight;
            let equals = best.partition_point(|host| host.weight == top);
            best[..equals].shuffle(rng);
        }
        // Chance does not prefer a suspect host to another. Suspect hosts come last, so the others are in front.
        let subset = options.host_subset_size.min(best.len());
        let suspect = |host: &&Weighed| table.columns.exact[host.row as usize].status == HostStatus::Suspect;
        let others = subset - best[..subset].iter().filter(suspect).count();
        let chosen = rng.random_range(0..if others == 0 { subset } else { others });
        best[..=chosen].rotate_right(1);
    }

    /// Notes the order that this instance leaves for the next one.
    fn remember(&mut self, shape: &Shape) {
        let ranking = &shape.ranking;
        if self.options.shuffle_best_same_weighed_hosts {
            self.history.restart(ranking.best.iter().map(|host| host.row)); // all candidates are in `best`
        } else {
            self.history.round(&ranking.ranges, ranking.best[0].row);
        }
    }

    /// Adds the alternates to the answer. If the request has several instances, the fleet is filtered and weighed once
    /// more, in the state that the last instance left.
    pub(super) fn find_alternates(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        shape: &mut Shape,
        selected: &mut Selected,
    ) {
        let instances = selected.picks.len();
        if self.alternates == 0 {
            return;
        }
        let mut wanted = self.alternates;
        if instances > 1 {
            shape.again(table, selected.picks[instances - 1].row, instances - 1);
            shape.compile_weighers(table, spec, self.options);
            if shape.scan.hosts == 0 {
                return;
            }
            shape.measure(table, self.options);
            if self.rng.is_none() && shape.scan.hosts > 1 {
                // The ranges include the picked hosts, but these cannot be alternates, so they are taken out. Their
                // blocks have changed, so the next request looks at them again.
                for pick in &selected.picks {
                    clear(&mut shape.scan.alive, pick.row);
                }
                wanted -= 1;
            } else {
                wanted += instances;
            }
            self.rank(table, shape, wanted);
        }
        let picks = &selected.picks;
        let others = shape.ranking.best.iter().map(|host| Row(host.row));
        let others = others.filter(|row| !picks.iter().any(|pick| pick.row == *row));
        selected.alternates.extend(others.take(self.alternates));
    }
}
