//! The algorithm: filter, weigh, pick, consume, once per instance.
//!
//! Each instance of a request starts from the hosts that passed for the one before, sees what that one consumed, and
//! takes the best. All or nothing: if one finds no host, everything is given back.
//!
//! What always holds: same table, request, terms and options, same answer, whatever was asked before; after a failure or a
//! dry run the table is as it was; every host is looked at, or was and has not changed since, or is proven irrelevant.
//!
//! Left out: who asked, repeated requests, how long a reservation holds.

use novella_objects::RequestSpec;
use novella_resources::Charges;
use uuid::Uuid;

use crate::request::asked;
use crate::request::charges::charges;
use crate::request::failure::Failure;
use crate::select::answer::{FilterLimits, Pick, Selected, Terms};
use crate::select::compiled::Compiled;
use crate::select::explanation;
use crate::select::history::History;
use crate::select::progress::Progress;
use crate::select::shapes::Shapes;
use crate::select::whole_fleet::WholeFleet;
use crate::settings::options::{BadOptions, SchedulerOptions};
use crate::table::block::Row;
use crate::table::host_table::HostTable;

/// Finds places for instances; see the module documentation.
#[derive(Debug)]
pub struct FilterScheduler {
    pub(crate) options: SchedulerOptions,
    /// What was worked out for earlier requests.
    shapes: Shapes,
    history: History,
    /// The working memory of questions.
    pub(crate) whole_fleet: WholeFleet,
}

impl FilterScheduler {
    /// A scheduler with these settings.
    pub fn new(options: SchedulerOptions) -> Result<Self, BadOptions> {
        options.check()?;
        let (shapes, history) = (Shapes::default(), History::default());
        Ok(Self { options, shapes, history, whole_fleet: WholeFleet::default() })
    }

    /// The settings.
    pub fn options(&self) -> &SchedulerOptions {
        &self.options
    }

    /// Places the instances of a request, one after another.
    fn place(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        instances: &[Uuid],
        terms: &Terms,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        let Self { options, shapes, history, whole_fleet } = self;
        let shape = asked::check_count(instances.len())
            .and_then(|()| shapes.compiled(options, table, spec))
            .inspect_err(|_| selected.explanation.filters.clear())?;
        let Compiled { pinned, encrypted_memory, .. } = &shape.compiled;
        let charges = Charges::new(&spec.local_flavor(), pinned.as_ref(), *encrypted_memory);
        let mut progress = Progress::new(options, history, terms, table, instances.len());

        for (index, &instance) in instances.iter().enumerate() {
            progress.begin(index);

            // Filter: the first instance looks at all that changed since the last request of this shape, each later one
            // at what the one before it changed. The weighers are compiled for the candidates, and leave out hosts that
            // they cannot value.
            shape.filter(table, instance, index, selected.picks.last().map(|pick| pick.row));
            let found = progress.find_candidates(table, spec, shape, selected);
            if found.is_err() || progress.is_last() {
                progress.explain_filters(table, spec, shape, whole_fleet, selected)?;
            }
            found?;

            // Weigh and pick: the best candidate, or one of the best at random.
            let best = progress.pick(table, shape, selected);
            let mut pick = Pick { row: Row(best.row), weight: best.weight, took_devices: false };

            // Consume: the next instance and the next request see the host with this instance on it.
            table.charge(pick.row, &charges);
            shape.compiled.take_devices(table, instance, &mut pick);
            shape.compiled.placed(instance, pick.row);
            selected.picks.push(pick);
        }
        progress.find_alternates(table, spec, shape, selected);
        Ok(())
    }

    /// Chooses a host for each of `instances` and consumes it in the table, unless `terms` ask for a dry run.
    pub fn select(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        instances: &[Uuid],
        terms: &Terms,
    ) -> Selected {
        let mut selected = Selected::default();
        self.select_into(table, spec, instances, terms, &mut selected);
        selected
    }

    /// Does what [`Self::select`] does, in the memory of an earlier answer, which is overwritten.
    pub fn select_into(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        instances: &[Uuid],
        terms: &Terms,
        selected: &mut Selected,
    ) {
        selected.start(explanation::of_fleet(table));
        let failure = self.place(table, spec, instances, terms, selected).err();
        if failure.is_some() || terms.dry_run {
            give_back(table, spec, instances, &selected.picks);
        }
        selected.finish(failure, terms.unexplained);
    }

    /// The limits that a request's filters hold these hosts against, each only if its filter runs. A request that was just
    /// selected has its compiled shape, which answers for all of them.
    pub fn limits(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        rows: &[Row],
    ) -> Result<Vec<FilterLimits>, Failure> {
        let shape = self.shapes.compiled(&self.options, table, spec)?;
        Ok(rows.iter().map(|row| shape.compiled.limits(table, *row)).collect())
    }
}

/// Gives back all that was consumed for the first of `instances`, the last one first.
pub(crate) fn give_back(table: &mut HostTable, spec: &RequestSpec, instances: &[Uuid], picks: &[Pick]) {
    if picks.is_empty() {
        return;
    }
    let charges = charges(spec);
    for (pick, uuid) in picks.iter().zip(instances).rev() {
        table.discharge(pick.row, &charges);
        if pick.took_devices {
            table.give_back_devices(pick.row, *uuid);
        }
    }
}
