//! What Nova asks the Placement service, asked of the hosts' own reports before the filters run.
//!
//! A request becomes a list of [`PrefilterTerm`]s. Each term is about one trait, one resource class or one set of
//! aggregates; the aggregates come first, then the traits, then the amounts. A term takes the hosts of a block that are
//! left and returns those that satisfy it. It has its own line in the explanation, under the name that the flavor or
//! Nova's prefilter has for it. A request that asks for nothing of this kind has no terms.
//!
//! How terms and filters go together:
//! - `VCPU`, `MEMORY_MB` and `DISK_GB` have no term. A host reports them as its own sizes, and CoreFilter, RamFilter
//!   and DiskFilter judge them. If extra specs give a number (`resources:MEMORY_MB=n`), the filters use it, and it is
//!   also what is consumed, reserved and claimed. Nova uses two numbers: its prefilters count the given one, its
//!   weighers the flavor's own.
//! - Every other class has a term that follows Placement's fit rule. It runs once for each instance of a request,
//!   because each instance takes something. So hosts that have become full are gone before weighing. Nova weighs them
//!   and then skips them.
//! - A requested zone is judged by AvailabilityZoneFilter, which knows the zones of aggregates and of the hosts' own
//!   reports. If that filter is not enabled, as in Nova since 24.0.0, the zone is a term. It passes the hosts that an
//!   aggregate puts in the zone, and the hosts that name the zone themselves and are in no aggregate with a zone. As in
//!   Nova, a zone that no host and no aggregate has then restricts nothing.
//! - CPUs that a policy pins are `PCPU` (`request/pinning.rs`). They have a term with the same rule, which under some
//!   policies passes hosts without such an inventory. CoreFilter then asks those hosts for `VCPU`, as it asks every
//!   host for shared CPUs.
//! - A forced host skips the filters, but neither the terms nor these three filters, because it must have room. A
//!   rebuild skips all of it.
//! - A target host is not a term. It narrows the hosts before the terms run.
//!
//! A host is one provider. So groups with suffixes may share it, and their amounts are added up. A request with two
//! suffixed groups and `group_policy=isolate` fits on no host. As in Placement, neither does a request with two
//! suffixed groups and no `group_policy`, or with a suffixed group that asks for traits but not for resources.
//!
//! Left out: prefilters that need other services (ports, networks, device profiles) or a fleet of one release; limits
//! on the number of candidates, because every host is looked at. Forbidding a trait that no host has is not an error
//! here.

mod query;

pub use query::COMPUTE_STATUS_DISABLED;
pub(crate) use query::STATUS_FILTER;

use novella_resources::{GroupPolicy, PCPU, inventory};

use crate::filters::tally::Tally;
use crate::prefilters::query::{PlacementQuery, TraitTerm};
use crate::request::asked::Asked;
use crate::request::failure::Failure;
use crate::settings::options::SchedulerOptions;
use crate::table::bitmap::{above, word_bits};
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;
use crate::table::inventories::NO_INVENTORY;

/// The terms of one request, each with its effect on the hosts.
#[derive(Debug, Default)]
pub(crate) struct Prefilters {
    /// The terms in the order in which they run, each with what it did last.
    pub(crate) terms: Vec<(PrefilterTerm, Tally)>,
}

/// One condition that a host must satisfy.
#[derive(Debug)]
pub(crate) struct PrefilterTerm {
    /// The name that the flavor or Nova's prefilter has for the condition, for explanations.
    pub(crate) name: String,
    /// What is checked.
    check: Check,
}

/// What a term checks on a host.
#[derive(Debug)]
enum Check {
    /// The host must have this trait, or must not have it. Unless `of_all` is set, only hosts with an inventory of
    /// `PCPU` are asked. The symbol is absent if no host has the trait.
    Trait {
        of: String,
        symbol: Option<u32>,
        wanted: bool,
        of_all: bool,
    },
    /// For each set of aggregates, by symbol, whether its hosts pass.
    Aggregates(Vec<bool>),
    /// One bit per row, set if the host passes.
    Rows(Vec<u64>),
    Resource(Resource),
    /// No host can satisfy the condition.
    Nobody,
}

/// An amount of one resource class.
#[derive(Debug)]
pub(crate) struct Resource {
    /// The name of the class.
    pub(crate) class: String,
    symbol: Option<u32>,
    /// The sum of the amounts that all groups ask for.
    pub(crate) sum: u64,
    /// The amount that each group asks for.
    pub(crate) each: Vec<u64>,
    /// Whether hosts without an inventory of the class pass.
    if_any: bool,
}

/// How many more instances one resource class allows on each host.
#[derive(Debug)]
pub(crate) struct ClassLimit {
    /// The name of the term, as in explanations.
    pub(crate) line: String,
    /// The name of the class.
    pub(crate) class: String,
    /// The amount that each instance takes.
    pub(crate) sum: u64,
    /// For each row, how many instances fit when they are placed one after another.
    pub(crate) times: Vec<u64>,
    /// For each row, how much of the class is in use.
    pub(crate) used: Vec<u64>,
}

impl Prefilters {
    /// Compiles the terms of a request. Fails where Nova's prefilters fail.
    pub(crate) fn compile(
        table: &mut HostTable,
        asked: &Asked<'_>,
        options: &SchedulerOptions,
    ) -> Result<Self, Failure> {
        let mut prefilters = Self::default();
        if !options.placement || asked.is_rebuild() {
            return Ok(prefilters);
        }
        let query = PlacementQuery::of(table, asked, options)?;
        let mut add =
            |name: String, check| prefilters.terms.push((PrefilterTerm { name, check }, Tally::default()));
        for (name, ids, wanted) in query.aggregates {
            let verdict = |set: &[u32]| set.iter().any(|id| ids.contains(id)) == wanted;
            add(name, Check::Aggregates(table.aggregates.by_set(verdict)));
        }
        if let Some(rows) = query.zone {
            add("map_az_to_placement_aggregate".to_owned(), Check::Rows(rows));
        }
        for TraitTerm { name, of, wanted, of_all } in query.traits {
            let symbol = table.traits.build_column(&of);
            // A forbidden trait that no host has refuses nobody.
            if wanted || symbol.is_some() {
                add(name, Check::Trait { of, symbol, wanted, of_all });
            }
        }
        for (class, each) in query.resources {
            let sum = each.iter().fold(0u64, |sum, amount| sum.saturating_add(*amount));
            let symbol = table.inventories.build_column(&class);
            let if_any = query.falls_back && class == PCPU;
            let name = format!("resources:{class}={sum}");
            let resource = Resource { class: class.into_owned(), symbol, sum, each, if_any };
            add(name, Check::Resource(resource));
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

    /// The name of a term that no host can satisfy, whatever it reports; `None` if there is none.
    pub(crate) fn impossible(&self) -> Option<&str> {
        let impossible = |(term, _): &&(PrefilterTerm, Tally)| matches!(term.check, Check::Nobody);
        self.terms.iter().find(impossible).map(|(term, _)| term.name.as_str())
    }

    /// Whether the terms stay right until a trait gets its first host or loses its last one. Terms about traits do,
    /// because a host whose traits change is looked at again.
    pub(crate) fn last(&self) -> bool {
        self.terms.iter().all(|(term, _)| matches!(term.check, Check::Trait { .. }))
    }

    /// Makes sure that the table still has the columns that the terms read. Other requests may have displaced them.
    pub(crate) fn prepare(&self, table: &mut HostTable) {
        for (term, _) in &self.terms {
            if let Check::Trait { of, .. } = &term.check {
                table.traits.build_column(of);
            }
        }
    }

    /// Whether a term runs for the instance at `index`.
    pub(crate) fn runs(&self, index: usize) -> bool {
        self.terms.iter().any(|(term, _)| term.runs(index))
    }

    /// Keeps the hosts that satisfy all terms of the instance at `index`. Returns how many hosts are left.
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

    /// Removes the terms whose verdict changes with each placed instance. Returns for each how many more instances it
    /// allows on each host.
    pub(crate) fn take_limits(&mut self, table: &HostTable) -> Vec<ClassLimit> {
        let counts = |(term, _): &mut (PrefilterTerm, Tally)| matches!(term.check, Check::Resource(_));
        let counting: Vec<_> = self.terms.extract_if(.., counts).collect();
        let limit = |(term, _): &(PrefilterTerm, Tally)| {
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
}

impl PrefilterTerm {
    /// Whether the term runs for the instance at `index`. After the first one only resources are asked again, because
    /// placing an instance changes nothing else.
    fn runs(&self, index: usize) -> bool {
        index == 0 || matches!(self.check, Check::Resource(_))
    }

    /// Returns the hosts of a block that satisfy the term, out of those in `alive`, and counts them.
    pub(crate) fn run(&self, table: &HostTable, block: usize, alive: u64, tally: &mut Tally) -> u64 {
        let pass = alive
            & match &self.check {
                Check::Trait { of: _, symbol, wanted, of_all } => {
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

    /// Why the term refuses a host, as text for people.
    pub(crate) fn refusal(&self, table: &HostTable, row: Row) -> String {
        match &self.check {
            Check::Trait { of, .. } if self.is_of_status() => {
                format!("the host has the trait {of}, so it is disabled")
            }
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
                        "{} {} asked, {} free: {used} of ({} - {}) x {} are used; amounts are from {} to {} in steps of {}",
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
            Check::Nobody => "no single host can satisfy this".to_owned(),
        }
    }

    /// Whether the term refuses disabled hosts.
    pub(crate) fn is_of_status(&self) -> bool {
        matches!(&self.check, Check::Trait { of, wanted: false, .. } if of == COMPUTE_STATUS_DISABLED)
    }

    /// The amount of a resource class that the term asks for, if it asks for one.
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
        // An amount that does not fit into `i32` is more than any host has room for.
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
