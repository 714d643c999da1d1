//! A shape: what requests have in common if they differ only in their instances.
//!
//! A shape keeps its compiled filters and weighers, and what they said about each block of the fleet. So the next
//! request of the shape looks again only at blocks that changed.
//!
//! What always holds: after [`Shape::filter`], the scan has the candidates for the instance that is being placed, and
//! the ranking knows which blocks to look at again.
//!
//! Left out: which request has which shape (`shapes.rs`), and which candidate is picked (`select.rs`).

use std::sync::Arc;

use novella_objects::{HostStatus, RequestSpec};
use uuid::Uuid;

use crate::filters::group::ServerGroupPolicy;
use crate::filters::program::{Filter, Lasts};
use crate::nova::image_properties::ImageProperties;
use crate::request::asked::{Asked, Wanted};
use crate::request::failure::WeigherError;
use crate::request::pinning::Pinning;
use crate::select::compiled::Compiled;
use crate::select::ranking::Ranking;
use crate::select::scan::Scan;
use crate::settings::options::SchedulerOptions;
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;
use crate::weighers::of_request::{self, WeigherContext};
use crate::weighers::weigher::{Range, Weigher, Weighing};

/// A request without its instances, compiled, with what is known of the fleet for it.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// The request without the parts in which requests of one shape may differ.
    pub(super) key: RequestSpec,
    /// The state of the table that the request was compiled for. Absent if the next request must be compiled again.
    compiled_for: Option<TableState>,
    /// The image properties of the request, which the weighers read when they are compiled.
    image: ImageProperties,
    pub(crate) compiled: Compiled,
    pub(crate) scan: Scan,
    pub(crate) ranking: Ranking,
}

/// The parts of the table that a compiled request depends on, apart from the rows that it looks at. Numbers are
/// revisions or counts of changes.
#[derive(Debug)]
struct TableState {
    /// Identifies the table.
    table: Arc<()>,
    blocks: usize,
    zones: u64,
    keys: u64,
    aggregates: u64,
    traits: u64,
    /// Whether a host is suspect, so that there is a weigher that puts such hosts last.
    suspects: bool,
    /// The revision of host names, for requests that name hosts.
    names: Option<u64>,
    /// The revision of instances, for requests that name instances.
    instances: Option<u64>,
    /// The revision of value symbols. If only this has changed, the filters forget their verdicts about values and need
    /// not be compiled again.
    values: u64,
}

impl TableState {
    /// The present state of the table for filters that stay right for `lasts`; `None` if they are right for one request
    /// only.
    fn of(table: &HostTable, lasts: Lasts) -> Option<Self> {
        Some(Self {
            table: Arc::clone(&table.stamps.table),
            blocks: table.columns.present.len(),
            zones: table.zones.changes,
            keys: table.capabilities.key_changes(),
            aggregates: table.aggregates.changes,
            traits: table.traits.changes(),
            suspects: table.count(HostStatus::Suspect) > 0,
            names: (lasts >= Lasts::UntilNames).then_some(table.stamps.names),
            instances: (lasts >= Lasts::UntilInstances).then_some(table.stamps.instances),
            values: table.capabilities.value_changes(),
        })
        .filter(|_| lasts < Lasts::Once)
    }

    fn is_current(&self, table: &HostTable) -> bool {
        Arc::ptr_eq(&self.table, &table.stamps.table)
            && self.blocks == table.columns.present.len()
            && self.zones == table.zones.changes
            && self.keys == table.capabilities.key_changes()
            && self.aggregates == table.aggregates.changes
            && self.traits == table.traits.changes()
            && self.suspects == (table.count(HostStatus::Suspect) > 0)
            && self.names.is_none_or(|names| names == table.stamps.names)
            && self.instances.is_none_or(|instances| instances == table.stamps.instances)
    }
}

impl Shape {
    /// Adapts what is compiled to the table as it is now. Returns false if the request must be compiled again instead.
    pub(crate) fn revalidate(&mut self, table: &mut HostTable) -> bool {
        let Some(state) = self.compiled_for.as_mut().filter(|state| state.is_current(table)) else {
            return false;
        };
        if state.values != table.capabilities.value_changes() {
            state.values = table.capabilities.value_changes();
            for filter in &mut self.compiled.filters {
                filter.forget_values(table.capabilities.values());
            }
        }
        for weigher in self.compiled.weighers.iter().flatten() {
            weigher.prepare(table);
        }
        self.compiled.prefilters.prepare(table);
        true
    }

    /// Stores what was compiled for the table as it is now.
    pub(crate) fn set(&mut self, table: &HostTable, image: ImageProperties, compiled: Compiled) {
        let of_filters = compiled.filters.iter().map(Filter::lasts).max().unwrap_or(Lasts::Always);
        let once = compiled.group.is_some() || compiled.wanted.is_some() || !compiled.prefilters.last();
        let of_group = if once { Lasts::Once } else { Lasts::Always };
        let of_names = if compiled.named.is_some() { Lasts::UntilNames } else { Lasts::Always };
        self.compiled_for = TableState::of(table, of_filters.max(of_group).max(of_names));
        (self.image, self.compiled) = (image, compiled);
        self.scan.forget();
    }

    /// Causes the next request of the shape to be compiled again.
    pub(crate) fn forget(&mut self) {
        self.compiled_for = None;
    }

    /// How many bytes are kept for the blocks of the fleet.
    pub(super) fn bytes(&self) -> usize {
        let weighers = self.compiled.weighers.as_ref().map_or(0, Vec::len);
        let considered = self.compiled.considered.bytes();
        considered + self.scan.bytes() + self.scan.alive.len() * Ranking::bytes_per_block(weighers)
    }

    /// Filters the fleet for the instance at `index` of a request. `last` is the host that the instance before it got.
    pub(crate) fn filter(&mut self, table: &HostTable, instance: Uuid, index: usize, last: Option<Row>) {
        self.compiled.begin(instance, table);
        match last {
            None => self.refresh(table),
            Some(row) => self.again(table, row, index),
        }
    }

    /// Filters the fleet for the first instance of a request.
    fn refresh(&mut self, table: &HostTable) {
        let Compiled { prefilters, named, considered, .. } = &mut self.compiled;
        if prefilters.runs(0) {
            considered.refresh(table, named.as_deref(), prefilters);
        }
        self.scan.refresh(table, &mut self.compiled.sieve());
        self.note_changes(table);
    }

    /// Filters again what the last pick may have changed for the instance at `index`.
    pub(crate) fn again(&mut self, table: &HostTable, picked: Row, index: usize) {
        let group = self.compiled.group.as_ref().map(|group| group.policy);
        let asks = self.compiled.prefilters.runs(index);
        if asks {
            self.scan.hosts = self.compiled.prefilters.run(table, &mut self.scan.alive, index);
        }
        let wants = self.compiled.wanted.is_some();
        if asks
            || wants
            || matches!(group, Some(ServerGroupPolicy::Affinity | ServerGroupPolicy::AntiAffinity))
        {
            self.scan.again(table, &mut self.compiled.sieve(), 0..table.columns.present.len() as u32);
        } else {
            let block = (picked.index() / BLOCK) as u32;
            self.scan.again(table, &mut self.compiled.sieve(), std::iter::once(block));
        }
        self.note_changes(table);
    }

    fn note_changes(&mut self, table: &HostTable) {
        if let Some(weighers) = &self.compiled.weighers {
            self.ranking.changed(Weighing { weighers, table }, &self.scan.alive, &self.scan.looked_at);
        }
    }

    /// Compiles the weighers if there are at least two candidates and the weighers are not yet compiled. Returns the
    /// hosts that are no longer candidates because a weigher cannot value them.
    pub(crate) fn compile_weighers(
        &mut self,
        table: &mut HostTable,
        spec: &RequestSpec,
        options: &SchedulerOptions,
    ) -> Vec<(Row, WeigherError)> {
        if self.scan.hosts < 2 || self.compiled.weighers.is_some() {
            return Vec::new();
        }
        let image = std::mem::take(&mut self.image);
        let (wanted, pinning) = (Wanted::default(), Pinning::default());
        let asked = Asked { spec, image, wanted, pinning, encryption: None };
        let group = self.compiled.group.as_ref();
        let context = WeigherContext { asked: &asked, group, options, alive: &self.scan.alive };
        let (weighers, errors) = of_request::compile(&context, table);
        self.image = asked.image;
        if !errors.is_empty() || weighers.iter().any(Weigher::is_computed) {
            self.forget();
        }
        self.scan.take_out(errors.iter().map(|(row, _)| *row));
        self.ranking.start(Weighing { weighers: &weighers, table }, &self.scan.alive);
        self.compiled.weighers = Some(weighers);
        errors
    }

    /// Computes the range of each weigher among the candidates. If there is only one candidate, all ranges are zero.
    pub(crate) fn measure(&mut self, table: &HostTable, options: &SchedulerOptions) {
        if self.scan.hosts == 1 {
            self.ranking.ranges.clear();
            self.ranking.ranges.resize(options.weighers.len(), Range::default());
            return;
        }
        self.ranking.measure(self.compiled.weighing(table), &self.scan.alive);
    }
}
