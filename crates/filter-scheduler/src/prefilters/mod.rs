//! What Nova asks the Placement service, asked of the hosts' own reports before the filters run.
//!
//! A request becomes a list of [`Term`]s: a trait, a resource class, a set of aggregates each, in this order the
//! aggregates, the traits, the amounts. A term takes a block of hosts that are still there and returns those that satisfy
//! it; it has its own line in the explanation, under the name that a flavor or Nova's prefilter has for it. A request
//! that asks nothing of the kind has no terms.
//!
//! How this goes together with the filters:
//! - `VCPU`, `MEMORY_MB` and `DISK_GB` have no term. A host reports these as its own sizes, and CoreFilter, RamFilter and
//!   DiskFilter judge them, with the number that extra specs give if they give one (`resources:MEMORY_MB=n`): one number,
//!   judged once. What is consumed, reserved and claimed is that number too. Nova has two: Prefilters counts the given
//!   one, its weighers the flavor's own.
//! - Every other class has a term by Placement's fit rule, once for each instance of a request, because each takes
//!   something. Hosts that are full then are gone before weighing; Nova weighs them and passes them by.
//! - A requested zone is AvailabilityZoneFilter's business, with zones of aggregates and of the hosts' own reports. Where
//!   that filter is not enabled, as in Nova since 24.0.0, it is a term here: the hosts that an aggregate puts in the zone,
//!   and those that name it themselves and are in no aggregate with a zone. As in Nova, a zone that nobody has restricts
//!   nothing then.
//! - CPUs that a policy pins are `PCPU` (`request/pinning.rs`): a term by the same rule, that under some policies passes
//!   over hosts without such an inventory. Of those CoreFilter asks for `VCPU`, as it does of all for CPUs that are shared.
//! - A forced host skips the filters, but not this, nor those three, since it must have room. A rebuild skips all of it.
//! - A target host is no term: it narrows the hosts before this runs.
//!
//! A host is one provider. So groups with suffixes may share it, their amounts added up, and `group_policy=isolate` with
//! two of them can be satisfied nowhere. Also as in Placement, nowhere: two suffixed groups without `group_policy`, and a
//! suffixed group of traits without resources.
//!
//! Left out: prefilters that need other services (ports, networks, device profiles) or a fleet of one release; limits on
//! the number of candidates, because every host is looked at; traits that Nova derives from `hw:` extra specs outside its
//! prefilters, but for those of thread policies. To forbid a trait that nobody has is no error here.

mod features;
mod query;

use novella_resources::{GroupPolicy, PCPU, inventory};

use crate::filters::tally::Tally;
use crate::prefilters::query::Query;
use crate::request::asked::Asked;
use crate::request::failure::Failure;
use crate::request::pinning::{HYPERTHREADING, Hyperthreading};
use crate::settings::options::SchedulerOptions;
use crate::table::bitmap::{above, word_bits};
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;
use crate::table::inventories::NO_INVENTORY;

/// One request's terms, and what they did to the hosts.
#[derive(Debug, Default)]
pub(crate) struct Prefilters {
    pub(crate) terms: Vec<(Term, Tally)>,
}

/// One thing that a host has to satisfy.
#[derive(Debug)]
pub(crate) struct Term {
    /// For people: as the flavor or Nova's prefilter has it.
    pub(crate) name: String,
    check: Check,
}

#[derive(Debug)]
enum Check {
    /// Has the trait of this symbol, or has it not; or is not asked, because it has no inventory of `PCPU`.
    Trait {
        symbol: Option<u32>,
        wanted: bool,
        of_all: bool,
    },
    /// The verdict by set of aggregates.
    Aggregates(Vec<bool>),
    /// Hosts whose bit is set.
    Rows(Vec<u64>),
    Resource(Resource),
    /// No provider can.
    Nobody,
}

/// An amount of one class.
#[derive(Debug)]
pub(crate) struct Resource {
    /// Its name.
    pub(crate) class: String,
    symbol: Option<u32>,
    /// Of all groups together.
    pub(crate) sum: u64,
    /// Of each group.
    pub(crate) each: Vec<u64>,
    /// Hosts without an inventory of the class pass.
    if_any: bool,
}

/// How many instances one class lets pass.
#[derive(Debug)]
pub(crate) struct ClassLimit {
    /// The term's name.
    pub(crate) line: String,
    /// The class's.
    pub(crate) class: String,
    /// What each instance takes.
    pub(crate) sum: u64,
    /// By row, one after another.
    pub(crate) times: Vec<u64>,
    /// By row, what is taken already.
    pub(crate) used: Vec<u64>,
}

impl Prefilters {
    /// What `asked` stands for in `table`. Fails as Nova's prefilters do.
    pub(crate) fn compile(
        table: &mut HostTable,
        asked: &Asked<'_>,
        options: &SchedulerOptions,
    ) -> Result<Self, Failure> {
        let mut prefilters = Self::default();
        if !options.placement || asked.is_rebuild() {
            return Ok(prefilters);
        }
        let query = Query::of(table, asked, options)?;
        let mut add = |name: String, check| prefilters.terms.push((Term { name, check }, Tally::default()));
        for (name, ids, wanted) in query.aggregates {
            let verdict = |set: &[u32]| set.iter().any(|id| ids.contains(id)) == wanted;
            add(name, Check::Aggregates(table.aggregates.by_set(verdict)));
        }
        if let Some(rows) = query.zone {
            add("map_az_to_placement_aggregate".to_owned(), Check::Rows(rows));
        }
        for (name, traits, wanted) in query.traits {
            let symbol = table.traits.build_column(&traits);
            // What nobody has refuses nobody.
            if wanted || symbol.is_some() {
                add(name, Check::Trait { symbol, wanted, of_all: true });
            }
        }
        if let Some(Hyperthreading { required: wanted, line }) = query.hyperthreading {
            let symbol = table.traits.build_column(HYPERTHREADING);
            if wanted || symbol.is_some() {
                add(line, Check::Trait { symbol, wanted, of_all: false });
            }
        }
        for (class, each) in query.resources {
            let sum = each.iter().fold(0u64, |sum, amount| sum.saturating_add(*amount));
            let symbol = table.inventories.build_column(class);
            let if_any = query.falls_back && class == PCPU;
            let resource = Resource { class: class.to_owned(), symbol, sum, each, if_any };
            add(format!("resources:{class}={sum}"), Check::Resource(resource));
        }
        if query.suffixed > 1 {
            match query.policy {
                Some(GroupPolicy::None) => {}
                Some(GroupPolicy::Isolate) => add("group_policy=isolate".to_owned(), Check::Nobody),
                None => add("group_policy (missing)".to_owned(), Check::Nobody),
            }
        }
        if let Some(suffix) = query.without_resources {
            add(format!("resources{suffix} (missing)"), Check::Nobody);
        }
        Ok(prefilters)
    }

    /// Whether anything is asked for the instance at `index`.
    pub(crate) fn runs(&self, index: usize) -> bool {
        self.terms.iter().any(|(term, _)| term.runs(index))
    }

    /// Leaves the hosts that satisfy all that is asked for the instance at `index`; returns how many these are.
    pub(crate) fn run(&mut self, table: &HostTable, alive: &mut [u64], index: usize) -> u32 {
        self.terms.iter_mut().for_each(|(_, tally)| *tally = Tally::default());
        let mut hosts = 0;
        for (block, alive) in alive.iter_mut().enumerate().filter(|(_, alive)| **alive != 0) {
            for (term, tally) in self.terms.iter_mut().filter(|(term, _)| term.runs(index)) {
                if *alive != 0 {
                    *alive = term.run(table, block, *alive, tally);
                }
            }
            hosts += alive.count_ones();
        }
        hosts
    }

    /// Takes the terms out that placing an instance changes, each as how often it lets one more pass on each host.
    pub(crate) fn take_limits(&mut self, table: &HostTable) -> Vec<ClassLimit> {
        let counts = |(term, _): &mut (Term, Tally)| matches!(term.check, Check::Resource(_));
        let counting: Vec<_> = self.terms.extract_if(.., counts).collect();
        let limit = |(term, _): &(Term, Tally)| {
            let resource = term.resource()?;
            let times = |row: usize| match table.columns.exact[row].has_pcpus {
                false if resource.if_any => u64::MAX,
                _ => table.inventories.times(row, resource.symbol, &resource.each),
            };
            let rows = 0..table.columns.exact.len();
            let used = |row| table.inventories.used(row, resource.symbol);
            Some(ClassLimit {
                line: term.name.clone(),
                class: resource.class.clone(),
                sum: resource.sum,
                times: rows.clone().map(times).collect(),
                used: rows.map(used).collect(),
            })
        };
        counting.iter().filter_map(limit).collect()
    }

    /// The terms that ran for the instance at `index`, with what they did.
    pub(crate) fn ran(&self, index: usize) -> impl Iterator<Item = (&Term, &Tally)> + Clone {
        self.terms.iter().filter(move |(term, _)| term.runs(index)).map(|(term, tally)| (term, tally))
    }
}

impl Term {
    /// Placing an instance changes only what is left of resources.
    fn runs(&self, index: usize) -> bool {
        index == 0 || matches!(self.check, Check::Resource(_))
    }

    /// Of the hosts `alive` in a block, those that satisfy it.
    pub(crate) fn run(&self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        let pass = alive
            & match &self.check {
                Check::Trait { symbol, wanted, of_all } => {
                    let having = symbol.map_or(0, |symbol| table.traits.having(symbol, block));
                    let not_asked = if *of_all { 0 } else { !table.columns.has_pcpus[block] };
                    not_asked | if *wanted { having } else { !having }
                }
                Check::Aggregates(verdicts) => {
                    let passes =
                        |bit: &usize| verdicts[table.aggregates.set_of(block * BLOCK + bit) as usize];
                    word_bits(alive).filter(passes).fold(0, |pass, bit| pass | 1 << bit)
                }
                Check::Rows(rows) => rows[block],
                Check::Resource(resource) => resource.run(table, block, alive, tally),
                Check::Nobody => 0,
            };
        tally.hosts_in += alive.count_ones();
        tally.hosts_out += pass.count_ones();
        pass
    }

    /// Why it refuses a host, for people.
    pub(crate) fn refusal(&self, table: &HostTable, row: Row) -> String {
        match &self.check {
            Check::Trait { wanted: true, .. } => "the host does not report the trait".to_owned(),
            Check::Trait { wanted: false, .. } => "the host reports the trait".to_owned(),
            Check::Aggregates(_) => {
                let ids = table.aggregates.ids(row.index());
                format!("the host is in the aggregates {ids:?}")
            }
            Check::Rows(_) => "the host is in another zone".to_owned(),
            Check::Resource(resource) => {
                let held = table.inventories(row).find(|held| held.class == resource.class);
                match held.and_then(|held| Some((held.inventory?, held.used))) {
                    None => format!("the host reports no inventory of {}", resource.class),
                    Some((found, used)) => format!(
                        "{} {} asked, {} free: {used} of ({} - {}) x {} are used; amounts are from {} to {} by {}",
                        resource.class,
                        resource.sum,
                        (inventory::capacity(&found).floor() - used as f64).max(0.0),
                        found.total,
                        found.reserved,
                        found.allocation_ratio,
                        found.min_unit,
                        found.max_unit,
                        found.step_size
                    ),
                }
            }
            Check::Nobody => "no single host can, whatever it has".to_owned(),
        }
    }

    /// The amount that it compares.
    pub(crate) fn resource(&self) -> Option<&Resource> {
        match &self.check {
            Check::Resource(resource) => Some(resource),
            _ => None,
        }
    }
}

impl Resource {
    fn run(&self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        if self.if_any {
            let having = table.columns.has_pcpus[block];
            return alive & !having | self.fitting(table, block, alive & having, tally);
        }
        self.fitting(table, block, alive, tally)
    }

    fn fitting(&self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        let Some((class, column)) =
            self.symbol.and_then(|class| Some((class, table.inventories.column(class)?)))
        else {
            return 0;
        };
        // The column ends with the last row that has had any inventory.
        let Some(room) = column.room.as_chunks::<BLOCK>().0.get(block) else { return 0 };
        // More than a lane holds is more than any host has room for.
        let fits = alive & i32::try_from(self.sum).map_or(0, |sum| above(room, sum - 1));
        tally.note_nearest(room, block, alive & !fits & above(room, NO_INVENTORY));
        let allowed = |bit: &usize| {
            let row = block * BLOCK + bit;
            self.each.iter().all(|&amount| table.inventories.allows(row, class, amount))
        };
        let refused = word_bits(fits & column.picky[block]).filter(|bit| !allowed(bit));
        refused.fold(fits, |fits, bit| fits & !(1 << bit))
    }
}
